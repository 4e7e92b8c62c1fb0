// Bulletin: what a node tells the others about its own work, so that any node's status shows the whole cluster. For
// people to look at: nothing is decided by it, none is ever asked for again, and a lost one only makes figures older.
//
// It travels as a datagram of the gossip, sealed like any other, and never reaches the cluster's core: its first byte is
// none of a `Message`. Each stands for itself. A node sends at most `Limit.datagramsPerSecond` to each peer, however
// many servers there are; then it takes longer until each server's turn comes again, and the age that is shown grows.

import Gossip

/// One thing's figures: the numbers have their meaning by their place, and later versions only add at the end.
struct FigureRow: Equatable, Sendable {
    /// A server's name, or empty for the node as a whole.
    var name: String
    var values: [UInt64]

    subscript(place: Int) -> UInt64 { place < values.count ? values[place] : 0 }
}

/// An event of another node's log.
struct NewsItem: Equatable, Sendable {
    /// Counts that process's events, from 1.
    var sequence: UInt64
    var atMs: UInt64
    var kind: String
    var text: String
}

enum Bulletin: Equatable, Sendable {
    case figures([FigureRow])
    /// The latest events, oldest first. Told again and again, so that a lost datagram loses none.
    case news([NewsItem])

    enum Limit {
        static let datagramsPerSecond = 16
        static let bytes = Envelope.payloadBytesMax
        static let nameBytes = 2 * Limits.nameBytesMax + 1
        static let values = 64
        static let kindBytes = 32
        static let textBytes = 300
    }

    private static let figuresByte: UInt8 = 0x80
    private static let newsByte: UInt8 = 0x81

    /// nil when the bytes aren't exactly one well-formed bulletin.
    static func decode(_ bytes: [UInt8]) -> Bulletin? {
        var reader = ByteReader(bytes)
        let kind = reader.byte()
        var bulletin: Bulletin?
        if kind == figuresByte { bulletin = .figures(reader.rows { FigureRow(from: &$0) }) }
        if kind == newsByte { bulletin = .news(reader.rows { NewsItem(from: &$0) }) }
        return reader.finished ? bulletin : nil
    }

    func encode() -> [UInt8] {
        switch self {
        case .figures(let rows): Self.figuresByte.followed(by: rows.map(\.bytes))
        case .news(let items): Self.newsByte.followed(by: items.map(\.bytes))
        }
    }

    /// As many of the rows from `start` on, round and round, as fit the datagrams of a second; each row at most once.
    /// - Returns: the datagrams' payloads, and how many rows they hold.
    static func figures(of rows: [FigureRow], from start: Int) -> (payloads: [[UInt8]], count: Int) {
        var payloads: [[UInt8]] = []
        var payload = [figuresByte]
        var count = 0
        while count < rows.count {
            let bytes = rows[(start + count) % rows.count].bytes
            if payload.count + bytes.count > Limit.bytes {
                payloads.append(payload)
                payload = [figuresByte]
                if payloads.count == Limit.datagramsPerSecond { return (payloads, count) }
            }
            payload += bytes
            count += 1
        }
        if payload.count > 1 { payloads.append(payload) }
        return (payloads, count)
    }

    /// The latest items that fit one datagram; nil when there are none.
    static func news(latestOf items: [NewsItem]) -> [UInt8]? {
        var room = Limit.bytes - 1
        var fitting: [[UInt8]] = []
        for item in items.reversed() {
            let bytes = item.bytes
            room -= bytes.count
            if room < 0 { break }
            fitting.append(bytes)
        }
        return fitting.isEmpty ? nil : newsByte.followed(by: fitting.reversed())
    }
}

extension UInt8 {
    fileprivate func followed(by parts: [[UInt8]]) -> [UInt8] { [self] + parts.joined() }
}

extension ByteReader {
    /// Rows up to the end: a datagram has no room for too many.
    fileprivate mutating func rows<Row>(_ read: (inout ByteReader) -> Row) -> [Row] {
        var rows: [Row] = []
        while remaining > 0, !failed { rows.append(read(&self)) }
        return rows
    }
}

extension FigureRow {
    fileprivate var bytes: [UInt8] {
        var writer = ByteWriter(reserving: 64)
        writer.string(name)
        // Zeros at the end go without saying: most of a histogram is empty.
        let count = min(values.lastIndex { $0 != 0 }.map { $0 + 1 } ?? 0, Bulletin.Limit.values)
        writer.varint(count)
        for value in values.prefix(count) { writer.varint(value) }
        return writer.bytes
    }

    fileprivate init(from reader: inout ByteReader) {
        name = reader.string(limit: Bulletin.Limit.nameBytes)
        let count = reader.count(limit: Bulletin.Limit.values)
        values = []
        while values.count < count, !reader.failed { values.append(reader.ordinal()) }
    }
}

extension NewsItem {
    fileprivate var bytes: [UInt8] {
        var writer = ByteWriter(reserving: 96)
        writer.varint(sequence)
        writer.varint(atMs)
        writer.string(kind.cut(toBytes: Bulletin.Limit.kindBytes))
        writer.string(text.cut(toBytes: Bulletin.Limit.textBytes))
        return writer.bytes
    }

    fileprivate init(from reader: inout ByteReader) {
        sequence = reader.ordinal()
        atMs = reader.ordinal()
        kind = reader.string(limit: Bulletin.Limit.kindBytes)
        text = reader.string(limit: Bulletin.Limit.textBytes)
    }
}

extension String {
    /// Never within a character.
    fileprivate func cut(toBytes limit: Int) -> String {
        var text = self
        while text.utf8.count > limit { text.removeLast() }
        return text
    }
}
