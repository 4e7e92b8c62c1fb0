// ChecksTests: shows on snippets that the scanner and every check see what they must, and only that.

import Testing

@Suite("Tidy checks")
struct ChecksTests {
    private func file(_ text: String, _ path: String = "Sources/Gossip/Sample.swift") -> SourceFile {
        SourceFile(path: path, text: text)
    }

    private func lines(_ check: (SourceFile) -> [Finding], _ text: String, _ path: String? = nil) -> [Int] {
        check(file(text, path ?? "Sources/Gossip/Sample.swift")).map(\.line)
    }

    @Test("comments and strings are not code; interpolations are") func scanner() {
        func words(_ text: String) -> [String] { Scanner.tokens(of: text).filter(\.isWord).map(\.text) }
        #expect(words("a // b\nc /* d /* e */ f */ g") == ["a", "c", "g"])
        #expect(words(##"let s = "x \" y" + z"##) == ["let", "s", "z"])
        #expect(words(##"let s = "x \(one("q", (two))) y" + z"##) == ["let", "s", "one", "two", "z"])
        #expect(words(##"let s = #"x " \(no) \#(yes)"# + z"##) == ["let", "s", "yes", "z"])
        #expect(words("let s = \"\"\"\n a \"quoted\" b\n \"\"\"\nnext") == ["let", "s", "next"])
        #expect(words("\"open\nnext") == ["next"])
    }

    @Test("tokens know their line") func lineNumbers() {
        let tokens = Scanner.tokens(of: "a\n\"\"\"\n x\n\"\"\"\n/* \n */ b")
        #expect(tokens.map(\.line) == [1, 2, 6])
        #expect(tokens.map(\.text) == ["a", "\"\"", "b"])
    }

    @Test("imports") func imports() {
        #expect(lines(Checks.imports, "// import Glibc\nimport Glibc") == [2])
        #expect(lines(Checks.imports, "public import struct Foundation.Date") == [1])
        #expect(lines(Checks.imports, "@preconcurrency import Gossip", "Sources/Proxy/A.swift") == [1])
        #expect(lines(Checks.imports, "import Gossip\nimport Foundation", "Sources/Node/A.swift") == [2])
        #expect(lines(Checks.imports, "import Foundation", "Tests/NodeTests/A.swift").isEmpty)
        #expect(lines(Checks.imports, "let a = 1", "Sources/Other/A.swift") == [1])
    }

    @Test("clock and randomness") func purity() {
        #expect(lines(Checks.purity, "let a = ContinuousClock.now\nlet b = Int.random(in: 0..<3)") == [1, 2])
        #expect(lines(Checks.purity, "let a = ContinuousClock.now", "Sources/Node/A.swift").isEmpty)
        #expect(lines(Checks.purity, "var random: Seeded\nlet a = random.next()").isEmpty)
        #expect(lines(Checks.purity, "// random\nlet a = \"Date\"").isEmpty)
    }

    @Test("hashed collections") func hashed() {
        #expect(lines(Checks.hashedCollections, "var a: [Int: [String]] = [:]") == [1, 1])
        #expect(lines(Checks.hashedCollections, "var a: Set<Int>\nlet b = Dictionary()") == [1, 2])
        #expect(lines(Checks.hashedCollections, "let a = [x ? 1 : 2, f(b: 3)]; let c: [Int?] = d[{ e in e }]").isEmpty)
        #expect(lines(Checks.hashedCollections, "var a: [Int: Int]", "Sources/Node/A.swift").isEmpty)
    }

    @Test(
        "unsafe code",
        arguments: [
            "let a: UnsafePointer<Int>", "withUnsafeBytes(of: &a) { $0 }", "unsafeBitCast(a, to: B.self)",
            "final class A: @unchecked Sendable {}", "nonisolated(unsafe) var a = 1", "let a = B.allocate(capacity: 1)",
        ])
    func unsafeCode(snippet: String) {
        #expect(lines(Checks.unsafeCode, snippet) == [1])
        #expect(lines(Checks.unsafeCode, snippet, "Sources/Proxy/System/System.swift").isEmpty)
        #expect(lines(Checks.unsafeCode, "// \(snippet)").isEmpty)
    }

    @Test("lengths") func lengths() {
        let long = Array(repeating: "    a()", count: 69).joined(separator: "\n")
        #expect(lines(Checks.functionLength, "\nfunc f() {\n\(long)\n}") == [2])
        #expect(lines(Checks.functionLength, "init(a: () -> Int = { 1 }) {\n\(long)\n}") == [1])
        #expect(lines(Checks.functionLength, "var a: Int {\n\(long)\n}") == [1])
        #expect(lines(Checks.functionLength, "func f() { b = \"{\" /* { */ }\nstruct S {\n\(long)\n}").isEmpty)
        #expect(lines(Checks.functionLength, "protocol P {\n func f()\n var a: Int\n}\nenum E {\n\(long)\n}").isEmpty)
        #expect(lines(Checks.functionLength, "var a: Int\nlet b = {\n\(long)\n}").isEmpty)
        #expect(lines(Checks.fileLength, String(repeating: "a\n", count: 601)) == [601])
        #expect(lines(Checks.fileLength, String(repeating: "a\n", count: 600)).isEmpty)
    }

    @Test("functions are found with their extent") func functions() {
        let text = """
            struct S {
                init?(a: [Int]) { self.init(b: 1) }
                func f<T>(_ a: T) -> [T] where T: Hashable {
                    let g = { (x: Int) in x }
                }
                subscript(i: Int) -> Int { 1 }
                deinit { }
            }
            """
        let found = Declarations.functions(of: Scanner.tokens(of: text))
        #expect(found.map(\.name) == ["init", "func f", "subscript", "deinit"])
        #expect(found.map(\.lineCount) == [1, 3, 1, 1])
    }

    @Test("left for later") func unfinished() {
        #expect(lines(Checks.unfinished, "a\n// TODO: later\n/* FIXME */\n// TODOS are fine") == [2, 3])
    }

    @Test("traps") func traps() {
        #expect(lines(Checks.traps, "let a = try! f()\nlet b = c!\nlet d = e as! F\nf()!.g\nh[0]!") == [1, 2, 3, 4, 5])
        #expect(lines(Checks.traps, "if a != b, !c, a!=b { d(!e) }\n// f!\nlet g = \"h!\"").isEmpty)
        #expect(lines(Checks.traps, "let b = c!", "Tests/NodeTests/A.swift").isEmpty)
    }

    @Test("type names") func typeNames() {
        #expect(lines(Checks.typeNames, "struct LinkManager {}\nenum TCPHandlerKind {}") == [1, 2])
        #expect(lines(Checks.typeNames, "enum Gossip {}\nenum Gossips {}\nclass func Gossip() {}") == [1])
        #expect(lines(Checks.typeNames, "struct Contextual {}\nstruct Mastery {}").isEmpty)
        #expect(Declarations.nameParts("TCPHandlerList2") == ["TCP", "Handler", "List2"])
    }

    @Test("headers") func headers() {
        #expect(lines(Checks.header, "// Sample: what this file is for.\n").isEmpty)
        #expect(lines(Checks.header, "import A\n") == [1])
        #expect(lines(Checks.header, "// Sample: no.\n") == [1])
        #expect(lines(Checks.header, "") == [1])
    }
}
