// MetricsTests: every metric that the code writes is documented, and every metric that documents, rules and dashboard name is
// written by the code.

import Testing

@Suite("Metrics")
struct MetricsTests {
    /// The metrics of StatusMetrics*.swift: what stands in quotes before `, .counter`, or first in a row of a table of counters.
    private static let written: Set<String> = {
        var names: Set<String> = []
        for file in SourceTree.files
        where file.path.hasPrefix("Sources/Node/Status/") && file.text.contains("MetricsWriter") {
            for part in quoted(file.text) where isName(part) { names.insert("triad_" + part) }
        }
        return names
    }()

    private static func quoted(_ text: String) -> [String] {
        let parts = text.split(separator: "\"", omittingEmptySubsequences: false)
        return parts.indices.filter { $0 % 2 == 1 }.compactMap { index in
            // A family's name is followed by its kind, a counter's of a table by its value.
            let after = index + 1 < parts.count ? parts[index + 1] : ""
            let before = parts[index - 1]
            let opens = before.hasSuffix("(") || before.last?.isWhitespace == true
            return opens && after.hasPrefix(", ") ? String(parts[index]) : nil
        }
    }

    private static func isName(_ text: String) -> Bool {
        text.contains("_") && text.allSatisfy { $0.isLowercase || $0 == "_" || $0.isNumber }
            || ["info", "ready", "quorum", "leader", "term", "problems"].contains(text)
    }

    /// The names that begin with `triad_` in a text.
    private static func named(in text: String) -> Set<String> {
        var names: Set<String> = []
        var rest = text[...]
        while let range = rest.firstRange(of: "triad_") {
            let name = rest[range.lowerBound...].prefix { $0.isASCII && $0.isLowercase || $0 == "_" || $0.isNumber }
            // `netdev triad_…` in a text is no metric.
            if name.count > "triad_".count { names.insert(String(name)) }
            rest = rest[range.upperBound...]
        }
        return names
    }

    @Test("the code's metrics are found") func found() {
        for name in [
            "triad_info", "triad_requests_total", "triad_gossip_sent_bytes_total", "triad_server_response_seconds",
        ] {
            #expect(Self.written.contains(name), "\(name)")
        }
        #expect(Self.written.count > 60)
    }

    @Test("every metric is documented in cluster/MONITORING.md") func documented() throws {
        let documented = Self.named(in: try #require(SourceTree.text("cluster/MONITORING.md")))
        for name in Self.written.subtracting(documented).sorted() {
            Issue.record("\(name) is missing in cluster/MONITORING.md: add it to the table of metrics")
        }
    }

    @Test(
        "rules, dashboard and documents name metrics that there are",
        arguments: ["cluster/alerts.yml", "cluster/grafana.json", "cluster/MONITORING.md", "cluster/OPERATIONS.md"])
    func exist(path: String) throws {
        let named = Self.named(in: try #require(SourceTree.text(path)))
        #expect(!named.isEmpty)
        for name in named.sorted() {
            let family = ["_bucket", "_sum", "_count"].first { name.hasSuffix($0) }.map {
                String(name.dropLast($0.count))
            }
            #expect(Self.written.contains(name) || family.map { Self.written.contains($0) } == true, "\(path): \(name)")
        }
    }

    @Test("every alert is explained in cluster/OPERATIONS.md") func alerts() throws {
        let rules = try #require(SourceTree.text("cluster/alerts.yml"))
        let guide = try #require(SourceTree.text("cluster/OPERATIONS.md"))
        let names = rules.split(separator: "\n").compactMap { line in
            line.firstRange(of: "- alert: ").map { line[$0.upperBound...] }
        }
        #expect(names.count > 10)
        let headings = guide.split(separator: "\n").filter { $0.hasPrefix("### ") }.joined(separator: " ")
        for name in names { #expect(headings.contains(name), "cluster/OPERATIONS.md lacks ### \(name)") }
    }
}
