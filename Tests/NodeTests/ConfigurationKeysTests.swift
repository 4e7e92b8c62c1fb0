// ConfigurationKeysTests: what the manual page triad.json5(5) says of the file is what its reader does.

import Foundation
import Testing

@testable import Node

@Suite struct ConfigurationKeysTests {
    /// A file with `text` in the section's place.
    private func file(_ section: ConfigurationSection, _ text: String) throws -> String {
        let (node, vip, frontend, backend, server, top): (String, String, String, String, String, String)
        (node, vip, frontend, backend, server, top) =
            switch section.path {
            case "": ("", "", "", "", "", text)
            case "nodes[]": (text, "", "", "", "", "")
            case "vip": ("", "vip: { address: \"10.0.0.9/32\", interface: \"eth0\", \(text) }, ", "", "", "", "")
            case "frontends[]": ("", "", text, "", "", "")
            case "frontends[].routes[]": ("", "", "routes: [{ path: \"/a\", backend: \"api\", \(text) }]", "", "", "")
            case "frontends[].perSource": ("", "", "perSource: { connections: 5, \(text) }", "", "", "")
            case "backends[]": ("", "", "", text, "", "")
            case "backends[].check": ("", "", "", "check: { type: \"http\", \(text) }", "", "")
            case "backends[].servers[]": ("", "", "", "", text, "")
            case "backends[].stickCookie": ("", "", "", "stickCookie: { name: \"srv\", \(text) }", "", "")
            case "backends[].retries": ("", "", "", "retries: { \(text) }", "", "")
            case "backends[].outlier": ("", "", "", "outlier: { \(text) }", "", "")
            case "backends[].autoscale":
                ("", "", "", "autoscale: { min: 1, max: 2, requestsPerServer: 5, \(text) }", "", "")
            case "log.access": ("", "", "", "", "", "log: { access: { to: \"stderr\", \(text) } }")
            case "notify": ("", "", "", "", "", "notify: { command: [\"/bin/true\"], \(text) }")
            default: ("", "", "", "", "", "\(section.path): { \(text) }")
            }
        return """
            { cluster: "web", nodes: [{ id: "n1", address: "10.0.0.1", \(node) }], \(vip)
              frontends: [{ name: "http", port: 8000, backend: "api", \(frontend) }],
              backends: [{ name: "api", servers: [{ id: "api_1", address: "10.0.0.2:9001", \(server) }], \(backend) }],
              \(top) }
            """
    }

    /// - Parameter hasKey: a key stands in for `gossip.keyFile`.
    private func read(_ text: String, hasKey: Bool = true) throws -> Configuration {
        var reader = ConfigurationReader(
            file: "/etc/triad.json5", environment: { $0 == "TRIAD_GOSSIP_KEY" && hasKey ? Examples.key : nil })
        return try reader.read(Array(text.utf8)).get()
    }

    @Test(arguments: ConfigurationSection.all.map(\.path)) func theDefaultsAreThose(path: String) throws {
        let section = try #require(ConfigurationSection.all.first { $0.path == path })
        let plain = try read(try file(section, ""))
        for key in section.keys {
            guard let standard = key.standard else { continue }
            let explicit = try read(try file(section, "\(key.name): \(standard)"))
            #expect(String(describing: explicit) == String(describing: plain), "\(path).\(key.name) \(standard)")
        }
        #expect(Set(section.names).count == section.names.count)
    }

    /// A key that the reader knows and doesn't look at would be accepted and do nothing: a value of a kind that no key has is refused by
    /// whoever looks.
    @Test(arguments: ConfigurationSection.all.map(\.path)) func everyKeyIsLookedAt(path: String) throws {
        let section = try #require(ConfigurationSection.all.first { $0.path == path })
        for key in section.keys {
            let text = try file(section, "\(key.name): -1.5")
            // A required key stands in the file already, once more is an error of its own.
            if key.isRequired { continue }
            #expect(throws: ConfigurationProblems.self, "\(path).\(key.name)") {
                try read(text, hasKey: path != "gossip")
            }
        }
    }

    @Test func theManualHasThemAll() {
        let page = ConfigurationManual.page
        for section in ConfigurationSection.all {
            for key in section.keys { #expect(page.contains("\\fB\(key.name)\\fR: "), "\(section.path).\(key.name)") }
        }
    }

    @Test func theDocumentsNameThemAll() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let texts = try ["README.md", "cluster/CONFIGURATION.md"].map {
            try String(contentsOf: root.appending(path: $0), encoding: .utf8)
        }
        let words = Set(texts.joined(separator: "\n").split { !$0.isLetter && !$0.isNumber }.map(String.init))
        for section in ConfigurationSection.all {
            for name in section.names { #expect(words.contains(name), "no document has \(section.path).\(name)") }
        }
    }
}
