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
    /// Oldest first.
    private(set) var events: [StatusEvent] = []
    private var unpublished: [StatusEvent] = []
    /// Events since the start.
    private var count: UInt64 = 0
    /// Lines that stderr had no room for.
    private(set) var linesDropped: UInt64 = 0

    init(node: String, level: Configuration.LogSection.Level) {
        self.node = node
        self.level = level
    }

    /// An event of the cluster's vocabulary: kept, and logged.
    mutating func note(_ note: Note) {
        add(kind: note.kind.rawValue, text: note.text, level: note.kind == .forced ? .error : .info)
    }

    mutating func add(kind: String, text: String, level: Configuration.LogSection.Level = .info) {
        let event = StatusEvent(atMs: System.wallMilliseconds(), node: node, kind: kind, text: text)
        events.append(event)
        count += 1
        unpublished.append(event)
        if events.count > Self.eventsMax { events.removeFirst(events.count - Self.eventsMax) }
        write(kind: kind, text: text, level: level, atMs: event.atMs)
    }

    /// Events since the last call, for the event streams.
    mutating func takeUnpublished() -> [StatusEvent] {
        defer { unpublished.removeAll() }
        return unpublished
    }

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
        write(kind: level.rawValue, text: text, level: level, atMs: System.wallMilliseconds())
    }

    private mutating func write(kind: String, text: String, level: Configuration.LogSection.Level, atMs: Int64) {
        guard level >= self.level else { return }
        let line = "\(WallTime.text(ms: atMs)) \(node) \(kind): \(text)\n"
        if !Console.errorIfReady(line) { linesDropped += 1 }
    }
}
