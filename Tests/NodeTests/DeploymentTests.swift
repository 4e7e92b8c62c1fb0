// DeploymentTests: the configuration that compose.yaml gives its nodes names the addresses that compose.yaml gives out.

import Foundation
import Testing

@testable import Node

@Suite("Deployment")
struct DeploymentTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func text(_ path: String) throws -> String {
        try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
    }

    private func configuration(_ text: String, _ file: String) throws -> Configuration {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: file, environment: { environment[$0] })
        switch reader.read(Array(text.utf8)) {
        case .success(let configuration): return configuration
        case .failure(let problems):
            for problem in problems.all { Issue.record("\(problem)") }
            throw problems
        }
    }

    @Test("the configuration of the compose deployment fits compose.yaml") func compose() throws {
        let configuration = try configuration(try text("cluster/triad.json5"), "cluster/triad.json5")
        let lines = try text("compose.yaml").split(separator: "\n")
        var addresses: [String: String] = [:]
        var service = ""
        for line in lines {
            if line.hasPrefix("  "), !line.hasPrefix("   "), let colon = line.firstIndex(of: ":") {
                service = String(line[..<colon].dropFirst(2))
            }
            guard let label = line.firstRange(of: "ipv4_address: ") else { continue }
            addresses[service] = String(line[label.upperBound...].prefix { $0.isNumber || $0 == "." })
        }
        for node in configuration.nodes { #expect(addresses[node.id] == "\(node.address)", "node \(node.id)") }
        for server in configuration.backends.flatMap(\.servers) {
            #expect(addresses[server.id].map { "\($0):8080" } == server.address.description, "server \(server.id)")
        }
        #expect(configuration.backends.flatMap(\.servers).count == 9)
        let vip = try #require(configuration.vips.first?.address.split(separator: "/").first)
        #expect(lines.contains { $0.contains("command: [load, \"http://\(vip)/\"") }, "the client asks the VIP")
        #expect(!addresses.values.contains(String(vip)), "no container has the VIP as its own address")
    }
}
