// ImportSyntaxTests: how the imported files are read: words, quotes, blocks, and what is refused.

import Testing

@testable import Node

@Suite("ImportSyntax")
struct ImportSyntaxTests {
    @Test(
        arguments: [
            ("a b\tc", ["a", "b", "c"]), ("  a   # b", ["a"]), ("a \\# b", ["a", "#", "b"]), ("a\\ b c", ["a b", "c"]),
            ("a \"b # c\" 'd \\n \"'", ["a", "b # c", "d \\n \""]), ("a \"\" b", ["a", "", "b"]),
            ("a \"b'c\\\"d\"", ["a", "b'c\"d"]), ("a b\"c d\"e", ["a", "bc de"]), ("a\\x41\\r\\n", ["aA\r\n"]),
            ("a \"^\\d+\"", ["a", "^\\d+"]), ("#", []), ("a\\", ["a\\"]), ("a \\x4", ["a", "x4"]),
        ] as [(String, [String])])
    func words(_ line: String, _ words: [String]) throws {
        #expect(try HAProxyLines.words(line[...], file: "f", number: 1) == words)
    }

    @Test(arguments: [
        ("a \"b", "f:1: a \" is never closed"), ("a 'b", "f:1: a ' is never closed"),
        ("bind :80\nfrontend a", "f:1: \"bind\" stands before any section"), ("# nothing", "f:1: holds no section"),
        ("{ cluster: 1 }", "f:1: \"{\" stands before any section"),
        ("global\n" + String(repeating: "a ", count: 300), "f:2: has 300 words"),
    ])
    func refuses(_ text: String, _ message: String) {
        do {
            _ = try HAProxyLines.sections(text, file: "f")
            Issue.record("was read")
        } catch {
            #expect(error.description.hasPrefix(message), "\(error)")
        }
    }

    @Test(
        arguments: [
            ("10", 10), ("10ms", 10), ("2s", 2000), ("3m", 180_000), ("1h", 3_600_000), ("1d", 86_400_000),
            ("1500us", 2),
            ("", nil), ("s", nil), ("1x", nil), ("99999999999", nil),
        ] as [(String, Int?)])
    func times(_ text: String, _ milliseconds: Int?) { #expect(HAProxyTime.milliseconds(text) == milliseconds) }

    @Test(
        arguments: [
            ("*:80", "", 80), (":80", "", 80), ("10.0.0.1:80", "10.0.0.1", 80), ("[::1]:80", "::1", 80),
            (":::80", "", 80),
            ("fd00::1:80", "fd00::1", 80), ("ipv4@10.0.0.1:80", "10.0.0.1", 80), ("web:80", "web", 80),
            ("web", "web", nil),
            ("10.0.0.1:", "10.0.0.1", nil), ("${H}:${P}", "${H}", nil), ("[fd00::1]", "fd00::1", nil),
        ] as [(String, String, UInt16?)])
    func addresses(_ text: String, _ host: String, _ port: UInt16?) throws {
        let address = try #require(HAProxyAddress(text))
        #expect((address.host, address.port) == (host, port))
    }

    @Test(arguments: ["/run/a.sock", "unix@a", "abns@a", "fd@3", ":80-90", ":0", ":70000", "a:+1"])
    func noAddresses(_ text: String) { #expect(HAProxyAddress(text) == nil) }

    @Test(arguments: [
        ("a {", "f:1: this { is never closed"), ("}", "f:1: a } without its {"),
        ("{ a }", "f:1: a { with nothing before it"),
        ("a {\n}\n}", "f:3: a } without its {"), ("a \"b", "f:1: a \" is never closed"),
        ("# a", "f:1: holds no statement"),
        (String(repeating: "a { ", count: 20), "f:1: blocks are more than 16 deep"),
    ])
    func refusesBlocks(_ text: String, _ message: String) {
        do {
            _ = try KeepalivedBlocks.parse(text, file: "f")
            Issue.record("was read")
        } catch {
            #expect(error.description.hasPrefix(message), "\(error)")
        }
    }

    @Test func blocks() throws {
        let text = "a b { c d\n e }\nf\n{\n g \"h ! i\" } ! comment {\nj"
        let parsed = try KeepalivedBlocks.parse(text, file: "f")
        #expect(parsed.map(\.text) == ["a b", "f", "j"])
        #expect(parsed.map(\.number) == [1, 3, 6])
        #expect(parsed[0].block.map(\.text) == ["c d", "e"])
        #expect(parsed[1].block.map(\.words) == [["g", "h ! i"]])
        #expect(!parsed[2].hasBlock)
    }

    @Test func exitCodes() {
        let scratch = Scratch()
        scratch.write("good.cfg", "listen a\n bind :81\n server a 10.0.1.1:80\n")
        scratch.write("bad.cfg", "listen a\n bind \":81\n")
        scratch.write("tls.cfg", "listen a\n bind :81 ssl\n server a 10.0.1.1:80\n")
        scratch.write("bad.conf", "vrrp_instance a {\n")
        #expect(Commands.run(["import", scratch.file("good.cfg")]) == 0)
        #expect(Commands.run(["import", scratch.file("bad.cfg")]) == 1)
        #expect(Commands.run(["import", scratch.file("tls.cfg")]) == 1)
        #expect(Commands.run(["import", scratch.file("good.cfg"), scratch.file("bad.conf")]) == 1)
        #expect(Commands.run(["import", scratch.file("absent.cfg")]) == 1)
        #expect(Commands.run(["import"]) == 2)
    }

    @Test func placeholdersAreStrings() {
        #expect(ImportText.quoted("a\"b\\c\nd\u{1}") == "\"a\\\"b\\\\c\\nd\\u0001\"")
    }
}
