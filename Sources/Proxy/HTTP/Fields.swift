// Fields: parses the field lines of a head into a table of offsets. Pure; allocates nothing once the table has grown.
//
// RFC 9112, 5. Strict on purpose, because every leniency here is a difference from what a server may see: no bare CR or
// LF, no obs-fold, no space before the colon, no empty name, no control bytes in values.

/// The field names that a proxy acts on.
enum FieldName: UInt8 {
    case other
    case host, connection, contentLength, transferEncoding, expect, upgrade, te, maxForwards, accept, date
    case cookie
    case xForwardedFor, xForwardedProto, xForwardedHost, forwarded
    /// Keep-Alive, Proxy-Connection: never forwarded (RFC 9110, 7.6.1); Proxy, which CGI servers take for an
    /// environment variable (CVE-2016-5385); and X_Forwarded_For and the like, which they take for X-Forwarded-For.
    case hop
    /// What tells the client who answered.
    case server, poweredBy, via
}

/// One field line, as offsets from the head's start.
struct Field: BitwiseCopyable {
    var name: FieldName
    var start: Int32
    var nameEnd: Int32
    var valueStart: Int32
    var valueEnd: Int32
    /// After its CRLF.
    var end: Int32

    var nameRange: Range<Int> { Int(start)..<Int(nameEnd) }
    var value: Range<Int> { Int(valueStart)..<Int(valueEnd) }
}

/// Why a head was refused, as the status a client is told.
enum Refusal: UInt16, Error {
    case badRequest = 400
    case contentTooLarge = 413
    case targetTooLong = 414
    case misdirected = 421
    case fieldsTooLarge = 431
    case notImplemented = 501
    case versionNotSupported = 505
}

struct FieldTable {
    private(set) var fields: ContiguousArray<Field> = []
    let max: Int

    init(max: Int) {
        self.max = max
        fields.reserveCapacity(max)
    }

    var count: Int { fields.count }

    subscript(index: Int) -> Field { fields[index] }

    /// Reads the field lines from `from` to the empty line that ends at `bytes.count`.
    mutating func parse(_ bytes: Span<UInt8>, from: Int) -> Refusal? {
        fields.removeAll(keepingCapacity: true)
        let last = bytes.count - 2
        var at = from
        while at < last {
            guard fields.count < max else { return .fieldsTooLarge }
            guard let field = line(bytes, from: at) else { return .badRequest }
            fields.append(field)
            at = Int(field.end)
        }
        return at == last ? nil : .badRequest
    }

    /// One line, or nil when it is malformed. The head ends with an empty line, so no read passes its end.
    private func line(_ bytes: Span<UInt8>, from start: Int) -> Field? {
        var at = start
        while Bytes.isToken(bytes[at]) { at += 1 }
        guard at > start, bytes[at] == Bytes.colon else { return nil }
        let nameEnd = at
        at += 1
        while bytes[at] == Bytes.space || bytes[at] == Bytes.tab { at += 1 }
        let valueStart = at
        at = Bytes.skipValue(bytes, from: at)
        guard bytes[at] == Bytes.cr, at + 1 < bytes.count, bytes[at + 1] == Bytes.lf else { return nil }
        var valueEnd = at
        while valueEnd > valueStart, bytes[valueEnd - 1] == Bytes.space || bytes[valueEnd - 1] == Bytes.tab {
            valueEnd -= 1
        }
        // A value may be empty: then its spaces were all skipped as leading ones.
        return Field(
            name: Self.name(bytes, start..<nameEnd), start: Int32(start), nameEnd: Int32(nameEnd),
            valueStart: Int32(valueStart), valueEnd: Int32(valueEnd), end: Int32(at + 2))
    }

    /// Which known field a name is: by its length first, so that most names are compared with nothing.
    private static func name(_ bytes: Span<UInt8>, _ range: Range<Int>) -> FieldName {
        func isName(_ literal: StaticString) -> Bool { Bytes.equal(bytes, range, literal) }
        switch range.count {
        case 2: return isName("te") ? .te : .other
        case 3: return isName("via") ? .via : .other
        case 4: return isName("host") ? .host : isName("date") ? .date : .other
        case 5: return isName("proxy") ? .hop : .other
        case 6:
            if isName("accept") { return .accept }
            if isName("server") { return .server }
            return isName("expect") ? .expect : isName("cookie") ? .cookie : .other
        case 7: return isName("upgrade") ? .upgrade : .other
        case 9: return isName("forwarded") ? .forwarded : .other
        case 10: return isName("connection") ? .connection : isName("keep-alive") ? .hop : .other
        case 12: return isName("x-powered-by") ? .poweredBy : isName("max-forwards") ? .maxForwards : .other
        case 14: return isName("content-length") ? .contentLength : .other
        case 15:
            if isName("x-forwarded-for") { return .xForwardedFor }
            return Bytes.equalDashed(bytes, range, "x-forwarded-for") ? .hop : .other
        case 16:
            if isName("x-forwarded-host") { return .xForwardedHost }
            let isHop = isName("proxy-connection") || Bytes.equalDashed(bytes, range, "x-forwarded-host")
            return isHop ? .hop : .other
        case 17:
            if isName("transfer-encoding") { return .transferEncoding }
            if isName("x-forwarded-proto") { return .xForwardedProto }
            return Bytes.equalDashed(bytes, range, "x-forwarded-proto") ? .hop : .other
        default: return .other
        }
    }

    // MARK: fields that frame the message

    /// What Connection, Content-Length and Transfer-Encoding say, over all their lines.
    struct Framing {
        var lengthLines = 0
        var length: UInt64 = 0
        var codingLines = 0
        var isChunked = false
        /// Coding lists that end with `chunked` but have more before it.
        var isLayered = false
        var closes = false
        var keepsAlive = false
        var upgrades = false
        /// Connection names fields to be removed.
        var nominates = false
    }

    static let nominationsMax = 32

    /// - Throws: `badRequest` for a malformed length or too many Connection options; `contentTooLarge` for a length
    ///   beyond 63 bits.
    func framing(_ bytes: Span<UInt8>) throws(Refusal) -> Framing {
        var framing = Framing()
        var options = 0
        // WHY: by index; iterating the array itself would retain it.
        for index in fields.indices {
            let field = fields[index]
            switch field.name {
            case .contentLength:
                framing.lengthLines += 1
                framing.length = try Self.decimal(bytes, field.value)
            case .transferEncoding:
                framing.codingLines += 1
                framing.isChunked = Bytes.equal(bytes, field.value, "chunked")
                framing.isLayered = !framing.isChunked && Self.endsChunked(bytes, field.value)
            case .connection:
                var cursor = Int(field.valueStart)
                while let option = Bytes.nextElement(bytes, &cursor, Int(field.valueEnd)) {
                    options += 1
                    if Bytes.equal(bytes, option, "close") {
                        framing.closes = true
                    } else if Bytes.equal(bytes, option, "keep-alive") {
                        framing.keepsAlive = true
                    } else if Bytes.equal(bytes, option, "upgrade") {
                        framing.upgrades = true
                    } else {
                        framing.nominates = true
                    }
                }
                if options > Self.nominationsMax { throw .badRequest }
            default: break
            }
        }
        return framing
    }

    /// Whether a Connection field names this one.
    func isNominated(_ bytes: Span<UInt8>, _ name: Range<Int>) -> Bool {
        for index in fields.indices where fields[index].name == .connection {
            let field = fields[index]
            var cursor = Int(field.valueStart)
            while let option = Bytes.nextElement(bytes, &cursor, Int(field.valueEnd)) {
                if Bytes.equal(bytes, option, name) { return true }
            }
        }
        return false
    }

    private static func decimal(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Refusal) -> UInt64 {
        guard !range.isEmpty else { throw .badRequest }
        var value: UInt64 = 0
        var isHuge = false
        for at in range {
            guard Bytes.isDigit(bytes[at]) else { throw .badRequest }
            let (tenfold, overflow) = value.multipliedReportingOverflow(by: 10)
            isHuge = isHuge || overflow || tenfold > UInt64(Int64.max) - 9
            value = tenfold &+ UInt64(bytes[at] - 0x30)
        }
        if isHuge { throw .contentTooLarge }
        return value
    }

    private static func endsChunked(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        var cursor = range.lowerBound
        var last = range.lowerBound..<range.lowerBound
        var chunkedCount = 0
        while let element = Bytes.nextElement(bytes, &cursor, range.upperBound) {
            last = element
            if Bytes.equal(bytes, element, "chunked") { chunkedCount += 1 }
        }
        return chunkedCount == 1 && Bytes.equal(bytes, last, "chunked")
    }
}
