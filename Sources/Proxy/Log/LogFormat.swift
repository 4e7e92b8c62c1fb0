// LogFormat: writes a record as a line: JSON, or as haproxy writes its HTTP and TCP logs. Pure.
//
// A line is at most `lineBytesMax` long, so that it can be written in one piece. Whatever a client sent is escaped: no byte
// below 0x20 or above 0x7e comes out as it is, nor a quote that would end its string.

/// What numbers in records stand for.
struct LogNames: Sendable, Equatable {
    var frontends: [[UInt8]] = []
    var backends: [[UInt8]] = []
    /// By slot: `backend/server`.
    var servers: [[UInt8]] = []
}

public enum LogStyle: Sendable, Equatable {
    case json
    case haproxy
}

struct LogFormat {
    static let lineBytesMax = 4_096
    /// Of a name in a line.
    private static let nameBytesMax = 128

    let style: LogStyle
    /// The lines written so far.
    private(set) var bytes: [UInt8] = []
    /// The last second written, and its text.
    private var second: Int64 = .min
    private var date: [UInt8] = []

    init(style: LogStyle) {
        self.style = style
        bytes.reserveCapacity(1 << 16)
    }

    mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    /// - Parameters:
    ///   - text: begins with the record's text.
    ///   - atMs: when the request began, in milliseconds since 1970.
    mutating func add(_ record: LogRecord, text: [UInt8], atMs: Int64, _ names: LogNames) {
        switch style {
        case .json: addJSON(record, text, atMs, names)
        case .haproxy: addClassic(record, text, atMs, names)
        }
    }

    /// A line that says how many there would have been here.
    mutating func addDropped(_ count: Int, atMs: Int64) {
        switch style {
        case .json:
            put("{\"time\":\"")
            putISO(atMs)
            put("\",\"dropped\":")
            put(count)
            put("}\n")
        case .haproxy:
            put("# [")
            putClassicTime(atMs)
            put("] ")
            put(count)
            put(" lines dropped\n")
        }
    }

    // MARK: JSON

    private mutating func addJSON(_ record: LogRecord, _ text: [UInt8], _ atMs: Int64, _ names: LogNames) {
        put("{\"time\":\"")
        putISO(atMs)
        put("\",\"client\":\"")
        putAddress(record.client)
        put("\",\"port\":")
        put(Int(record.client.port))
        put(",\"frontend\":\"")
        putName(record.frontend, names.frontends)
        put("\",\"backend\":\"")
        putName(record.backend, names.backends)
        put("\",\"server\":")
        if record.server >= 0 {
            put("\"")
            putServer(record.server, names)
            put("\"")
        } else {
            put("null")
        }
        if !record.isConnection {
            let method = Int(record.methodBytes)
            put(",\"method\":\"")
            putEscaped(text, 0..<method)
            put("\",\"target\":\"")
            putEscaped(text, min(method + 1, Int(record.textBytes))..<Int(record.textBytes))
            put(record.isCut ? "…\",\"version\":\"1." : "\",\"version\":\"1.")
            put(record.isVersion10 ? "0\",\"status\":" : "1\",\"status\":")
            if record.status > 0 { put(Int(record.status)) } else { put("null") }
        }
        put(",\"bytesIn\":")
        put(Int(clamping: record.bytesIn))
        put(",\"bytesOut\":")
        put(Int(clamping: record.bytesOut))
        put(",\"ms\":{")
        if !record.isConnection { putSpan("\"head\":", record.headMs) }
        putSpan(record.isConnection ? "\"queue\":" : ",\"queue\":", record.queueMs)
        putSpan(",\"connect\":", record.connectMs)
        if !record.isConnection { putSpan(",\"response\":", record.responseMs) }
        putSpan(",\"total\":", record.totalMs)
        put("},\"retries\":")
        put(Int(record.retries))
        put(",\"end\":\"")
        bytes.append(record.cause.rawValue)
        bytes.append(record.phase.rawValue)
        put("\"}\n")
    }

    private mutating func putSpan(_ name: StaticString, _ ms: Int32) {
        put(name)
        if ms >= 0 { put(Int(ms)) } else { put("null") }
    }

    // MARK: haproxy

    /// The fields of haproxy's `option httplog` and `option tcplog`, at their places. What isn't known here is `-` or 0.
    private mutating func addClassic(_ record: LogRecord, _ text: [UInt8], _ atMs: Int64, _ names: LogNames) {
        putAddress(record.client)
        put(":")
        put(Int(record.client.port))
        put(" [")
        putClassicTime(atMs)
        put("] ")
        putName(record.frontend, names.frontends)
        put(" ")
        putName(record.backend, names.backends)
        put("/")
        if record.server >= 0 { putServer(record.server, names) } else { put("<NOSRV>") }
        put(" ")
        if record.isConnection {
            putSlashed([record.queueMs, record.connectMs, record.totalMs])
        } else {
            putSlashed([record.headMs, record.queueMs, record.connectMs, record.responseMs, record.totalMs])
            put(" ")
            put(record.status > 0 ? Int(record.status) : -1)
        }
        put(" ")
        put(Int(clamping: record.bytesOut))
        put(record.isConnection ? " " : " - - ")
        bytes.append(record.cause.rawValue)
        bytes.append(record.phase.rawValue)
        put(record.isConnection ? " 0/0/0/0/" : "-- 0/0/0/0/")
        put(Int(record.retries))
        put(" 0/0")
        if !record.isConnection {
            put(" \"")
            if record.textBytes == 0 {
                put("<BADREQ>")
            } else {
                putEscaped(text, 0..<Int(record.textBytes))
                put(record.isCut ? "... HTTP/1." : " HTTP/1.")
                put(record.isVersion10 ? "0" : "1")
            }
            put("\"")
        }
        put("\n")
    }

    private mutating func putSlashed(_ spans: [Int32]) {
        for (index, span) in spans.enumerated() {
            if index > 0 { put("/") }
            put(Int(span))
        }
    }

    // MARK: names and addresses

    private mutating func putName(_ index: Int32, _ names: [[UInt8]]) {
        guard names.indices.contains(Int(index)) else { return put("?") }
        put(names[Int(index)], 0)
    }

    /// Without its backend's name.
    private mutating func putServer(_ slot: Int32, _ names: LogNames) {
        guard names.servers.indices.contains(Int(slot)) else { return put("?") }
        let name = names.servers[Int(slot)]
        put(name, name.firstIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)
    }

    private mutating func put(_ name: [UInt8], _ from: Int) { bytes += name[from...].prefix(Self.nameBytesMax) }

    private mutating func putAddress(_ address: SocketAddress) {
        guard !address.isIPv6 else {
            bytes += Array(address.host.utf8)
            return
        }
        for part in UInt64(0)..<4 {
            if part > 0 { put(".") }
            put(Int(address.high >> (56 - 8 * part) & 0xff))
        }
    }

    // MARK: text

    private mutating func put(_ text: StaticString) {
        text.withUTF8Buffer { bytes.append(contentsOf: $0) }
    }

    private mutating func put(_ number: Int) {
        if number < 0 { put("-") }
        var rest = number.magnitude
        var digits: UInt64 = 0
        var count = 0
        // Backwards: seven bytes hold the last digits, which is nearly always all of them.
        while count < 7 {
            digits = digits << 8 | UInt64(rest % 10 + 0x30)
            rest /= 10
            count += 1
            if rest == 0 { break }
        }
        if rest > 0 { put(Int(rest)) }
        for _ in 0..<count {
            bytes.append(UInt8(truncatingIfNeeded: digits))
            digits >>= 8
        }
    }

    private mutating func putEscaped(_ text: [UInt8], _ range: Range<Int>) {
        for byte in text[range] {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                put(style == .json ? "\\" : "#")
                if style == .json { bytes.append(byte) } else { putHex(byte) }
            case 0x20...0x7e: bytes.append(byte)
            default:
                put(style == .json ? "\\u00" : "#")
                putHex(byte)
            }
        }
    }

    private mutating func putHex(_ byte: UInt8) {
        for nibble in [byte >> 4, byte & 15] { bytes.append(nibble < 10 ? nibble + 0x30 : nibble + 0x37) }
    }

    // MARK: time

    /// 2026-11-25T03:28:41.123Z
    private mutating func putISO(_ atMs: Int64) {
        setSecond(atMs)
        bytes += date
        putMilliseconds(atMs)
        put("Z")
    }

    /// 25/Nov/2026:03:28:41.123, in UTC.
    private mutating func putClassicTime(_ atMs: Int64) {
        setSecond(atMs)
        bytes += date
        putMilliseconds(atMs)
    }

    private mutating func putMilliseconds(_ atMs: Int64) {
        put(".")
        let ms = Int(atMs - second * 1_000)
        putPadded(ms, 3)
    }

    private mutating func putPadded(_ number: Int, _ width: Int) {
        var scale = 1
        for _ in 1..<width { scale *= 10 }
        while scale > 0 {
            bytes.append(UInt8(number / scale % 10 + 0x30))
            scale /= 10
        }
    }

    private mutating func setSecond(_ atMs: Int64) {
        let now = atMs >= 0 ? atMs / 1_000 : (atMs - 999) / 1_000
        guard now != second else { return }
        second = now
        var writer = LogFormat(style: style, small: ())
        writer.writeSecond(now)
        date = writer.bytes
    }

    private init(style: LogStyle, small: Void) { self.style = style }

    private mutating func writeSecond(_ now: Int64) {
        let days = now >= 0 ? now / 86_400 : (now - 86_399) / 86_400
        let (year, month, day) = Self.civil(days)
        let ofDay = Int(now - days * 86_400)
        switch style {
        case .json:
            putPadded(year, 4)
            put("-")
            putPadded(month, 2)
            put("-")
            putPadded(day, 2)
            put("T")
        case .haproxy:
            putPadded(day, 2)
            put("/")
            put(Self.months[month - 1], 0)
            put("/")
            putPadded(year, 4)
            put(":")
        }
        for (index, part) in [ofDay / 3_600, ofDay / 60 % 60, ofDay % 60].enumerated() {
            if index > 0 { put(":") }
            putPadded(part, 2)
        }
    }

    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ].map { Array($0.utf8) }

    /// The date of a day since 1970: years of 400 begin on a first of March, so that leap days come last.
    private static func civil(_ days: Int64) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (Int(year), Int(month), Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1))
    }
}
