// SecretsTests: key, token and password files, the variables that stand in for them, and what is said when they are wrong.

import Glibc
import Testing

@testable import Node

@Suite struct SecretsTests {
    private let scratch = Scratch()

    private func load(_ environment: [String: String] = [:]) -> Result<Configuration, ConfigurationProblems> {
        scratch.write("triad.json5", Examples.full)
        return Configuration.load(scratch.file("triad.json5"), environment: { environment[$0] })
    }

    private func problems(_ environment: [String: String] = [:]) -> [String] {
        guard case .failure(let problems) = load(environment) else { return [] }
        return problems.all.map { $0.description.replacing(scratch.path + "/", with: "") }
    }

    @Test func filesAreRelativeToTheFile() throws {
        let second = [UInt8](repeating: 200, count: 32)
        scratch.write("gossip.key", "# since May\n\(Examples.key)\n\n  \(Base64.encode(second))\r\n")
        scratch.write("admin.token", "correct-horse\n")
        let configuration = try load().get()
        #expect(configuration.gossip.keys == [Array(0...31), second])
        #expect(configuration.status.token == "correct-horse")
    }

    @Test func theEnvironmentWinsAndNoFileIsRead() throws {
        let configuration = try load(["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "battery-staple"]).get()
        #expect(configuration.gossip.keys.count == 1)
        #expect(configuration.status.token == "battery-staple")
    }

    @Test func missingFilesNameTheRemedy() {
        #expect(
            problems() == [
                "triad.json5:10:34: gossip.keyFile: can't read gossip.key: No such file or directory; make one with "
                    + "`triad keygen > gossip.key` and copy it to every node (or set TRIAD_GOSSIP_KEY)",
                "triad.json5:11:36: status.tokenFile: can't read admin.token: No such file or directory; make one with "
                    + "`triad keygen > admin.token` (or set TRIAD_TOKEN)",
            ])
    }

    /// What is there isn't to be made anew.
    @Test func aKeyFileThatIsAFolderIsNotToBeMade() throws {
        mkdir(scratch.file("gossip.key"), 0o700)
        let problem = try #require(problems(["TRIAD_TOKEN": "battery-staple"]).first)
        #expect(problem.hasSuffix("can't read gossip.key: Is a directory; name the file in that folder"))
    }

    @Test(arguments: [
        ("", "gossip.key holds no key; `triad keygen` prints one"),
        (
            "c2hvcnQ=\n",
            "gossip.key: line 1 is not a key: a key is 32 bytes in base64 (44 characters), as `triad keygen` prints it"
        ),
        (
            "\(Examples.key)\nnot base64\n",
            "gossip.key: line 2 is not a key: a key is 32 bytes in base64 (44 characters), as `triad keygen` prints it"
        ),
        (String(repeating: Examples.key + "\n", count: 9), "gossip.key holds 9 keys; at most 8"),
    ])
    func wrongKeysAreExplained(_ content: String, _ message: String) {
        scratch.write("gossip.key", content)
        #expect(problems(["TRIAD_TOKEN": "battery-staple"]) == ["triad.json5:10:34: gossip.keyFile: \(message)"])
    }

    @Test func aWrongVariableIsNamed() {
        #expect(
            problems(["TRIAD_GOSSIP_KEY": "secret-in-clear", "TRIAD_TOKEN": "no spaces here"]) == [
                "triad.json5: TRIAD_GOSSIP_KEY: line 1 is not a key: a key is 32 bytes in base64 (44 characters), as "
                    + "`triad keygen` prints it",
                "triad.json5: TRIAD_TOKEN must hold at least 8 visible ASCII characters on one line, without spaces",
            ])
    }

    @Test func aMissingConfigurationIsOneProblem() {
        let path = scratch.file("absent.json5")
        guard case .failure(let problems) = Configuration.load(path) else { return #expect(Bool(false)) }
        #expect(problems.description == "\(path): can't be read: No such file or directory")
        guard case .failure(let directory) = Configuration.load(scratch.path) else { return #expect(Bool(false)) }
        #expect(directory.description == "\(scratch.path): can't be read: Is a directory; name the file in that folder")
    }

    @Test func clusterOfSeveralNeedsAKey() {
        let text = Examples.full.replacing("keyFile: \"gossip.key\", ", with: "")
        var reader = ConfigurationReader(file: "t", environment: { $0 == "TRIAD_TOKEN" ? "battery-staple" : nil })
        guard case .failure(let problems) = reader.read(Array(text.utf8)) else { return #expect(Bool(false)) }
        #expect(problems.description.hasPrefix("t:10:11: gossip.keyFile: is missing; a cluster of 3 nodes needs a key"))
    }
}
