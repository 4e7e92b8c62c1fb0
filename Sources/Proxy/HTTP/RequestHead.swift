// RequestHead: parses a complete request head into offsets, and refuses what is not plainly HTTP/1.1. Pure.
//
// RFC 9112, 3 (request line), 3.2 (target forms and Host), 6.1 and 6.3 (framing), 9.3 (persistence); RFC 9110, 7.2
// (Host), 9.3 (methods), 10.1.1 (Expect). The head's end has been found before (`HeadScan`).

enum Method: UInt8 {
    case get, head, post, put, delete, options, trace, patch, other

    /// RFC 9110, 9.2.2: doing it twice has the effect of doing it once.
    var isIdempotent: Bool {
        switch self {
        case .get, .head, .put, .delete, .options, .trace: true
        case .post, .patch, .other: false
        }
    }
}

struct RequestHead {
    var method = Method.other
    /// 0 or 1.
    var minorVersion: UInt8 = 1
    /// The target is `*` (OPTIONS).
    var isAsterisk = false
    var keepsAlive = true
    /// It asks to switch protocols.
    var upgrades = false
    var expectsContinue = false
    /// Connection names fields to be removed.
    var nominates = false
    var framing = BodyFramer.empty
    /// Offsets from the head's start.
    var methodEnd = 0
    /// The target's path and query; empty when an absolute target has none.
    var path = 0..<0
    /// An absolute target's authority; empty for other forms.
    var authority = 0..<0
    /// Host's value; empty when there is none.
    var host = 0..<0
    var fieldsStart = 0

    static let methodBytesMax = 32

    /// - Parameter bytes: the whole head with its empty line, leading empty lines removed.
    static func parse(_ bytes: Span<UInt8>, into table: inout FieldTable, bodyMax: UInt64) throws(Refusal)
        -> RequestHead
    {
        var head = RequestHead()
        try head.parseLine(bytes)
        if let refusal = table.parse(bytes, from: head.fieldsStart) { throw refusal }
        let framing = try table.framing(bytes)
        try head.takeHost(bytes, table)
        try head.takeFraming(framing, bodyMax: bodyMax)
        head.nominates = framing.nominates
        head.takeOptions(bytes, table, framing)
        return head
    }

    // MARK: request line

    private mutating func parseLine(_ bytes: Span<UInt8>) throws(Refusal) {
        var at = 0
        while Bytes.isToken(bytes[at]) { at += 1 }
        guard at > 0, bytes[at] == Bytes.space else { throw .badRequest }
        guard at <= Self.methodBytesMax else { throw .notImplemented }
        methodEnd = at
        if Bytes.equalExactly(bytes, 0..<at, "CONNECT") { throw .notImplemented }
        method = Self.method(bytes, at)
        let targetStart = at + 1
        at = targetStart
        while Bytes.isTarget(bytes[at]) { at += 1 }
        guard at > targetStart, bytes[at] == Bytes.space else { throw .badRequest }
        try parseVersion(bytes, from: at + 1)
        try parseTarget(bytes, targetStart..<at)
    }

    private static func method(_ bytes: Span<UInt8>, _ end: Int) -> Method {
        func isMethod(_ literal: StaticString) -> Bool { Bytes.equalExactly(bytes, 0..<end, literal) }
        switch end {
        case 3: return isMethod("GET") ? .get : isMethod("PUT") ? .put : .other
        case 4: return isMethod("POST") ? .post : isMethod("HEAD") ? .head : .other
        case 5: return isMethod("TRACE") ? .trace : isMethod("PATCH") ? .patch : .other
        case 6: return isMethod("DELETE") ? .delete : .other
        case 7: return isMethod("OPTIONS") ? .options : .other
        default: return .other
        }
    }

    private mutating func parseTarget(_ bytes: Span<UInt8>, _ target: Range<Int>) throws(Refusal) {
        if bytes[target.lowerBound] == UInt8(ascii: "/") {
            path = target
            return
        }
        if target.count == 1, bytes[target.lowerBound] == UInt8(ascii: "*") {
            guard method == .options else { throw .badRequest }
            isAsterisk = true
            path = target
            return
        }
        // absolute-form: `http://authority[/path]`.
        let start = target.lowerBound
        let schemeEnd: Int
        if target.count > 7, Bytes.equal(bytes, start..<start + 7, "http://") {
            schemeEnd = start + 7
        } else if target.count > 8, Bytes.equal(bytes, start..<start + 8, "https://") {
            schemeEnd = start + 8
        } else {
            throw .badRequest
        }
        var at = schemeEnd
        while at < target.upperBound, Bytes.isAuthority(bytes[at]) { at += 1 }
        authority = schemeEnd..<at
        path = at..<target.upperBound
        guard !authority.isEmpty else { throw .badRequest }
        guard let first = path.first else { return }
        let isPath = bytes[first] == UInt8(ascii: "/") || bytes[first] == UInt8(ascii: "?")
        guard isPath else { throw .badRequest }
    }

    private mutating func parseVersion(_ bytes: Span<UInt8>, from start: Int) throws(Refusal) {
        guard start + 10 <= bytes.count, Bytes.equalExactly(bytes, start..<start + 5, "HTTP/"),
            Bytes.isDigit(bytes[start + 5]), bytes[start + 6] == UInt8(ascii: "."), Bytes.isDigit(bytes[start + 7]),
            bytes[start + 8] == Bytes.cr, bytes[start + 9] == Bytes.lf
        else { throw .badRequest }
        guard bytes[start + 5] == UInt8(ascii: "1") else { throw .versionNotSupported }
        // A higher minor version is spoken to as 1.1 (RFC 9110, 2.5).
        minorVersion = bytes[start + 7] == UInt8(ascii: "0") ? 0 : 1
        fieldsStart = start + 10
    }

    // MARK: fields

    private mutating func takeHost(_ bytes: Span<UInt8>, _ table: FieldTable) throws(Refusal) {
        var count = 0
        for index in 0..<table.count where table[index].name == .host {
            count += 1
            host = table[index].value
        }
        guard count == 1 || count == 0 && minorVersion == 0 else { throw .badRequest }
        for at in host where !Bytes.isAuthority(bytes[at]) { throw .badRequest }
    }

    private mutating func takeFraming(_ framing: FieldTable.Framing, bodyMax: UInt64) throws(Refusal) {
        keepsAlive = minorVersion == 1 ? !framing.closes : framing.keepsAlive && !framing.closes
        if framing.codingLines > 0 {
            // Either alone is unusual enough in HTTP/1.0 or beside a length to be an attack (RFC 9112, 6.1).
            guard framing.lengthLines == 0, framing.codingLines == 1, minorVersion == 1 else { throw .badRequest }
            if framing.isLayered { throw .notImplemented }
            guard framing.isChunked else { throw .badRequest }
            self.framing = .chunked
        } else if framing.lengthLines > 0 {
            guard framing.lengthLines == 1 else { throw .badRequest }
            guard framing.length <= bodyMax else { throw .contentTooLarge }
            self.framing = .length(framing.length)
        }
    }

    private mutating func takeOptions(_ bytes: Span<UInt8>, _ table: FieldTable, _ framing: FieldTable.Framing) {
        guard minorVersion == 1 else { return }
        var hasUpgrade = false
        for index in 0..<table.count {
            switch table[index].name {
            // Only WebSocket: through an h2c upgrade a client could send requests that nobody here has looked at.
            case .upgrade: hasUpgrade = Bytes.equal(bytes, table[index].value, "websocket")
            case .expect where Bytes.equal(bytes, table[index].value, "100-continue"): expectsContinue = true
            default: break
            }
        }
        // With a body, the switch would have to wait for its end: asked for by nobody, so answered in HTTP/1.1.
        upgrades = framing.upgrades && hasUpgrade && self.framing.isDone
    }
}

extension Bytes {
    /// Whether `bytes[range]` is `literal`, case included.
    @inline(__always) static func equalExactly(_ bytes: Span<UInt8>, _ range: Range<Int>, _ literal: StaticString)
        -> Bool
    {
        guard range.count == literal.utf8CodeUnitCount else { return false }
        return literal.withUTF8Buffer { letters in
            var at = range.lowerBound
            for letter in letters {
                if bytes[at] != letter { return false }
                at += 1
            }
            return true
        }
    }
}
