// TranscriptTests: tells each story in Transcripts/ anew and compares it, line by line, with what is written there.
//
// `TRIAD_REWRITE=1 swift test --filter TranscriptTests` writes down what comes out now; the change is for a person to
// read, as part of what made it.

import Foundation
import Testing

@testable import Gossip

@Suite("Transcripts") struct TranscriptTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Transcripts")

    static let stories: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted()
    }()

    static func tell(_ script: TranscriptScript, of name: String) throws -> String {
        var world = TranscriptWorld()
        return try script.told { step in
            do { return try world.perform(step.command) } catch let failure as TranscriptFailure {
                throw TranscriptFailure(description: "\(name):\(step.line): > \(step.command): \(failure)")
            }
        }
    }

    @Test(arguments: stories) func comesOutAsWritten(_ name: String) throws {
        let url = Self.folder.appending(path: name)
        let written = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        let script = TranscriptScript(written)
        let told = try Self.tell(script, of: name)
        guard let difference = TranscriptDifference(expected: written, actual: told) else { return }
        if ProcessInfo.processInfo.environment["TRIAD_REWRITE"] == "1" {
            return try Data(told.utf8).write(to: url)
        }
        Issue.record(
            """
            Tests/GossipTests/Transcripts/\(name) comes out differently, \(difference)
            If that is what it should do: TRIAD_REWRITE=1 swift test --filter TranscriptTests, then read the change.
            """)
    }

    @Test func theStoriesAreThere() { #expect(Self.stories.count >= 10, "\(Self.stories) in \(Self.folder.path)") }

    @Test func twiceTheSame() throws {
        for name in Self.stories.prefix(4) {
            let text = String(decoding: try Data(contentsOf: Self.folder.appending(path: name)), as: UTF8.self)
            let script = TranscriptScript(text)
            #expect(try Self.tell(script, of: name) == Self.tell(script, of: name))
        }
    }

    @Test func everyStoryBeginsWithWhatItTells() throws {
        for name in Self.stories {
            let text = String(decoding: try Data(contentsOf: Self.folder.appending(path: name)), as: UTF8.self)
            #expect(text.hasPrefix("# "), "\(name): a comment first, then `> nodes`")
            #expect(TranscriptScript(text).steps.count >= 5, "\(name)")
        }
    }

    @Test func aLineThatChangedIsFound() throws {
        let text = "# One node.\n> nodes 1\n> start\n> run until leader\n"
        let told = try Self.tell(TranscriptScript(text), of: "one")
        #expect(told != text && told.hasPrefix("# One node.\n> nodes 1\n> start\n  = n1 follower"))
        #expect(try Self.tell(TranscriptScript(told), of: "one") == told, "told again, nothing is left over")
        let bent = told.replacing("term 0", with: "term 9", maxReplacements: 1)
        let difference = try #require(TranscriptDifference(expected: bent, actual: told))
        #expect(difference.line == 4)
        #expect(difference.description.contains("\n-  = n1 follower, term 9"))
        #expect(difference.description.contains("\n+  = n1 follower, term 0"))
        #expect(TranscriptDifference(expected: told, actual: told) == nil)
    }

    @Test(arguments: ["dance", "deliver", "fsync n9", "run until leader", "observe n1 api up", "advance soon"])
    func whatMakesNoSenseFails(_ command: String) throws {
        #expect(throws: TranscriptFailure.self) {
            try Self.tell(TranscriptScript("# x\n> nodes 3\n> \(command)"), of: "x")
        }
    }
}
