// RequestHead: parses a complete request head into offsets, and refuses what is not plainly HTTP/1.1. Pure.
//
// RFC 9112, 3 (request line), 3.2 (target forms and Host), 6.1 and 6.3 (framing), 9.3 (persistence); RFC 9110, 7.2
// (Host), 7.6.2 (Max-Forwards), 9.3 (methods), 10.1.1 (Expect), 10.1.4 (TE). The head's end has been found before (`HeadScan`).

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
    /// It says `TE: trailers`.
    var acceptsTrailers = false
    /// An absolute target's scheme is https.
    var isSecure = false
    /// Its answers of ours should be HTML rather than JSON.
    var prefersHTML = false
    /// Max-Forwards of OPTIONS and TRACE; -1 for none.
    var maxForwards = -1
    /// Connection names fields to be removed.
    var nominates = false
    var framing = BodyFramer.empty
    /// Offsets from the head's start.
    var methodEnd = 0
    var targetEnd = 0
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
        // RFC 9110, 9.3.8.
        if head.method == .trace, !head.framing.isDone { throw .badRequest }
        try head.takeOptions(bytes, table, framing)
        return head
    }

    /// What is wrong with a request line before the head's end is known; nil when nothing is.
    /// - Parameter bytes: begin with a line that ends with CRLF.
    static func refusal(ofLine bytes: Span<UInt8>) -> Refusal? {
        var head = RequestHead()
        do throws(Refusal) {
            try head.parseLine(bytes)
            return nil
        } catch {
            return error
        }
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
        targetEnd = at
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
            isSecure = true
        } else {
            throw .badRequest
        }
        var at = schemeEnd
        while at < target.upperBound, Bytes.isAuthority(bytes[at]) { at += 1 }
        authority = schemeEnd..<at
        path = at..<target.upperBound
        guard Bytes.isAuthority(bytes, authority) else { throw .badRequest }
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
        // Empty is what a client sends whose target has no authority (RFC 9112, 3.2).
        guard host.isEmpty || Bytes.isAuthority(bytes, host) else { throw .badRequest }
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

    private mutating func takeOptions(_ bytes: Span<UInt8>, _ table: FieldTable, _ framing: FieldTable.Framing)
        throws(Refusal)
    {
        var upgradeLines = 0
        var isWebSocket = false
        for index in 0..<table.count {
            let value = table[index].value
            switch table[index].name {
            case .accept: prefersHTML = prefersHTML || Accept.prefersHTML(bytes, value)
            case .maxForwards where method == .options || method == .trace:
                guard maxForwards < 0, let count = Self.count(bytes, value) else { throw .badRequest }
                maxForwards = count
            case .upgrade:
                upgradeLines += 1
                isWebSocket = Bytes.equal(bytes, value, "websocket")
            case .expect where minorVersion == 1:
                expectsContinue = expectsContinue || Bytes.hasElement(bytes, value, "100-continue")
            case .te where minorVersion == 1:
                acceptsTrailers = acceptsTrailers || Bytes.hasElement(bytes, value, "trailers")
            default: break
            }
        }
        // Only WebSocket, and nothing beside it: through an h2c upgrade a client could send requests that nobody here
        // has looked at. With a body, the switch would have to wait for its end: answered in HTTP/1.1.
        upgrades =
            framing.upgrades && isWebSocket && upgradeLines == 1 && minorVersion == 1 && self.framing.isDone
    }

    /// A number of at most nine digits.
    private static func count(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int? {
        guard 1...9 ~= range.count else { return nil }
        var value = 0
        for at in range {
            guard Bytes.isDigit(bytes[at]) else { return nil }
            value = value * 10 + Int(bytes[at] - 0x30)
        }
        return value
    }
}

extension Bytes {
    /// Whether a comma-separated list has this element, which is in lower case, in any case.
    static func hasElement(_ bytes: Span<UInt8>, _ list: Range<Int>, _ literal: StaticString) -> Bool {
        var cursor = list.lowerBound
        while let element = nextElement(bytes, &cursor, list.upperBound) {
            if equal(bytes, element, literal) { return true }
        }
        return false
    }

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
