// EventKindTests: log, status, page, metrics, notify and the operations guide speak of what happens in the same words.

import Foundation
import Testing

@testable import Gossip
@testable import Node

@Suite struct EventKindTests {
    private static let guide = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "cluster/OPERATIONS.md")

    @Test func theOperationsGuideExplainsEachOnce() throws {
        let text = try String(contentsOf: Self.guide, encoding: .utf8)
        let chapter = try #require(text.components(separatedBy: "\n## The events\n").last).components(
            separatedBy: "\n## ")[0]
        let rows = chapter.split(separator: "\n").filter { $0.hasPrefix("| `") }
        let kinds = rows.flatMap { row in
            row.split(separator: "|")[0].split(separator: "`").map(String.init).filter {
                $0.contains { $0.isLetter }
            }
        }
        #expect(kinds.sorted() == EventKind.allCases.map(\.rawValue).sorted())
    }

    @Test func countsAreInStatusAndMetrics() {
        var log = EventLog(node: "n1", level: .error)
        log.add(.serverDown, "api/api_1 is down", level: .debug)
        log.add(.serverDown, "api/api_2 is down", level: .debug)
        log.note(Note.sample)
        var report = StatusReport.sample()
        report.eventCounts = log.counts
        let metrics = String(decoding: StatusMetrics.text(report), as: UTF8.self)
        for kind in EventKind.allCases {
            let count = [.serverDown: 2, .vipAcquired: 1][kind] ?? 0
            #expect(metrics.contains("triad_events_total{kind=\"\(kind.rawValue)\"} \(count)\n"), "\(kind)")
        }
        let json = JSONValue(JSON5.parse(report.json()).value)
        #expect(
            json["eventCounts"]["server-down"].count == 2
                && json["eventCounts"].members.count == EventKind.allCases.count)
    }

    @Test func aLineOfTheLog() throws {
        let event = StatusEvent(atMs: 0, node: "n1", kind: "server-down", text: "api/a is down: \"x\"\n")
        let text = EventLog.line(event, level: .info, .text)
        #expect(text == "1970-01-01T00:00:00.000Z n1 server-down: api/a is down: \"x\"\n\n")
        let line = EventLog.line(event, level: .warning, .json)
        #expect(line.hasSuffix("}\n") && line.dropLast().allSatisfy { $0 != "\n" })
        let parsed = JSONValue(JSON5.parse(Array(line.utf8)).value)
        #expect(parsed["time"].text == "1970-01-01T00:00:00.000Z" && parsed["level"].text == "warning")
        #expect(
            parsed["node"].text == "n1" && parsed["kind"].text == "server-down" && parsed["text"].text == event.text)
    }

    @Test func theCommandMayHearOfAny() throws {
        for kind in EventKind.allCases {
            var reader = ConfigurationReader(file: "f", environment: { _ in nil })
            let notify =
                "notify: { command: [\"/bin/true\"], events: [\"\(kind.rawValue)\"] }, log: { format: \"json\" }"
            let configuration = try reader.read(Array((Examples.least.trimmed.dropLast() + notify + "}").utf8)).get()
            #expect(configuration.notify?.events == [kind] && configuration.log.format == .json)
        }
    }

    /// The page's script finds a line again by its id.
    @Test func linesOfOneMomentHaveIdsOfTheirOwn() {
        var report = StatusReport.sample()
        report.events = (1...5).map {
            StatusEvent(atMs: 1000, node: "n1", kind: "server-up", text: "api/api_\($0) is up")
        }
        let html = StatusPage.main(report)
        let ids = html.components(separatedBy: "id=\"").dropFirst().map { $0.prefix { $0 != "\"" } }
        #expect(ids.count { $0.hasPrefix("event-1000-server-up") } == 5 && Set(ids).count == ids.count)
    }
}

extension Note {
    /// As the core makes one.
    fileprivate static var sample: Note { Note(kind: .vipAcquired, text: "n1 has the VIP") }
}
