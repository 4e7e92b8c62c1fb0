// ShippedFilesTests: the configurations that users copy are right.

import Foundation
import Testing

@testable import Node

@Suite struct ShippedFilesTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func load(_ text: String, file: String) -> Result<Configuration, ConfigurationProblems> {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: file, environment: { environment[$0] })
        return reader.read(Array(text.utf8))
    }

    @Test func theDeploymentsFile() throws {
        let file = Self.root.appending(path: "cluster/triad.json5")
        let configuration = try load(String(contentsOf: file, encoding: .utf8), file: file.path).get()
        #expect(configuration.nodes.count == 3)
        #expect(configuration.vips.count == 1)
    }

    @Test func theReadmesExample() throws {
        let file = Self.root.appending(path: "README.md")
        let text = try String(contentsOf: file, encoding: .utf8)
        let blocks = text.components(separatedBy: "```json5\n").dropFirst().compactMap {
            $0.components(separatedBy: "```").first
        }
        #expect(!blocks.isEmpty)
        for block in blocks { _ = try load(block, file: "README.md").get() }
    }
}
