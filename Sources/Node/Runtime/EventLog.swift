// EventLog: what happened on this node: the last events for the status, and a line each on stderr.
// Control thread only. It never blocks: a line that stderr has no room for is dropped and counted.

import CLinux
import Glibc
import Gossip
import Proxy

struct EventLog {
    static let eventsMax = 200

    let node: String
    /// Lines below it aren't written.
    var level: Configuration.LogSection.Level
    var format: Configuration.LogSection.Format
    /// Oldest first.
    private(set) var events: [StatusEvent] = []
    private var unpublished: [StatusEvent] = []
    /// Events since the start.
    private var count: UInt64 = 0
    private var counted: [EventKind: UInt64] = [:]
    /// Lines that stderr had no room for.
    private(set) var linesDropped: UInt64 = 0

    init(
        node: String, level: Configuration.LogSection.Level, format: Configuration.LogSection.Format = .text
    ) {
        self.node = node
        self.level = level
        self.format = format
    }

    /// An event of the cluster's vocabulary: kept, and logged.
    mutating func note(_ note: Note) {
        add(EventKind(note.kind), note.text, level: note.kind == .forced ? .error : .info)
    }

    mutating func add(_ kind: EventKind, _ text: String, level: Configuration.LogSection.Level = .info) {
        let event = StatusEvent(atMs: System.wallMilliseconds(), node: node, kind: kind.rawValue, text: text)
        events.append(event)
        count += 1
        counted[kind, default: 0] += 1
        unpublished.append(event)
        if events.count > Self.eventsMax { events.removeFirst(events.count - Self.eventsMax) }
        write(event, level: level)
    }

    /// Events since the last call, for the event streams.
    mutating func takeUnpublished() -> [StatusEvent] {
        defer { unpublished.removeAll() }
        return unpublished
    }

    /// Every kind, how often it happened since the start.
    var counts: [EventCount] { EventKind.allCases.map { EventCount(kind: $0, count: counted[$0] ?? 0) } }

    /// The last `limit` events, numbered from 1, for the other nodes.
    func latest(_ limit: Int) -> [NewsItem] {
        let latest = events.suffix(limit)
        return latest.enumerated().map { index, event in
            NewsItem(
                sequence: count - UInt64(latest.count - 1 - index), atMs: UInt64(max(0, event.atMs)), kind: event.kind,
                text: event.text)
        }
    }

    /// A line that is no event.
    mutating func log(_ level: Configuration.LogSection.Level, _ text: String) {
        write(StatusEvent(atMs: System.wallMilliseconds(), node: node, kind: level.rawValue, text: text), level: level)
    }

    private mutating func write(_ event: StatusEvent, level: Configuration.LogSection.Level) {
        guard level >= self.level else { return }
        if !Console.errorIfReady(Self.line(event, level: level, format)) { linesDropped += 1 }
    }

    /// A line of the log, its end included. What is no event has its level for a kind.
    static func line(
        _ event: StatusEvent, level: Configuration.LogSection.Level, _ format: Configuration.LogSection.Format
    ) -> String {
        switch format {
        case .text: return "\(WallTime.text(ms: event.atMs)) \(event.node) \(event.kind): \(event.text)\n"
        case .json:
            var writer = JSONWriter(reserving: 256)
            writer.object { writer in
                writer.field("time", WallTime.text(ms: event.atMs))
                writer.field("level", level.rawValue)
                writer.field("node", event.node)
                writer.field("kind", event.kind)
                writer.field("text", event.text)
            }
            return String(decoding: writer.bytes, as: UTF8.self) + "\n"
        }
    }
}
