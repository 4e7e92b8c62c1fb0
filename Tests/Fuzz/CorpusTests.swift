// CorpusTests: every input that the fuzzer was given or found worth keeping, through its target. So the corpora are tests as
// well, and a change of what the targets call is noticed before anybody fuzzes.

import Foundation
import Testing

@Suite("Fuzz corpora") struct CorpusTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "corpus")
    /// Inputs kept of each target.
    private static let filesMax = 60

    private static func names(_ target: FuzzTarget) -> [String] {
        let path = folder.appending(path: target.rawValue).path
        return ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }

    @Test("what is kept holds", arguments: FuzzTarget.allCases) func holds(target: FuzzTarget) throws {
        let names = Self.names(target)
        #expect(!names.isEmpty && names.count <= Self.filesMax)
        for name in names {
            let file = Self.folder.appending(path: "\(target.rawValue)/\(name)")
            let input = try #require(FileManager.default.contents(atPath: file.path))
            #expect(throws: Never.self, "Tests/Fuzz/run --replay \(target.rawValue) \(file.path)") {
                try target.run(Array(input))
            }
        }
    }

    @Test("no folder is left over") func folders() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path)
        #expect(folders.sorted() == FuzzTarget.allCases.map(\.rawValue).sorted())
    }
}
