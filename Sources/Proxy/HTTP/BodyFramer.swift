// BodyFramer: finds the end of a message body in a stream of bytes, and checks chunked framing on the way. Pure.
//
// RFC 9112, 6 (message body), 7.1 (chunked), 7.1.2 (trailers). A body is forwarded as it came, so what it is checked
// for is what lets two parties disagree about where it ends: sizes beyond 16 digits, bare CR or LF, anything but CRLF
// after a chunk, spaces without an extension, control bytes in extensions, malformed trailer fields. Extensions (of a
// chunk, and of all together) and trailers have limits. Trailers may not say what only a head may (RFC 9110, 6.5.1): a server
// that puts them with the head's fields would frame, route or attribute the message anew.

/// What the next bytes of a body are.
struct BodyPiece: Equatable {
    enum Kind: UInt8 {
        /// Content.
        case data
        /// Chunk framing or trailers.
        case framing
    }
    var kind: Kind
    /// The piece ends before this index.
    var end: Int
}

struct BodyFramer: BitwiseCopyable, Equatable {
    enum Kind: UInt8 {
        /// No body (or no more of it).
        case empty
        case length
        case chunked
        /// A response that ends with its connection, or an upgraded connection.
        case untilClose
        /// The chunked framing was violated.
        case broken
    }

    /// What comes next in a chunked body.
    enum ChunkState: UInt8 {
        case size, sizeOrEnd, extensionStart, chunkExtension, sizeLF, data, dataCR, dataLF
        case trailerStart, trailerName, trailerValue, trailerLF, finalLF
    }

    private(set) var kind: Kind
    private var state: ChunkState = .size
    private var digits: UInt8 = 0
    /// Bytes of the current line of framing, or of all trailers.
    private var overhead: UInt16 = 0
    /// Bytes of all extensions so far.
    private var extensions: UInt16 = 0
    /// Bytes left of the body (length) or of the chunk; in a trailer's name, its hash so far.
    private(set) var remaining: UInt64

    static let extensionBytesMax = 256
    static let allExtensionBytesMax = 8_192
    static let trailerBytesMax = 4_096

    private init(kind: Kind, remaining: UInt64 = 0) {
        self.kind = kind
        self.remaining = remaining
    }

    static let empty = BodyFramer(kind: .empty)
    static let chunked = BodyFramer(kind: .chunked)
    static let untilClose = BodyFramer(kind: .untilClose)
    static func length(_ count: UInt64) -> BodyFramer {
        count == 0 ? empty : BodyFramer(kind: .length, remaining: count)
    }

    /// The whole body has been seen.
    var isDone: Bool { kind == .empty }
    var isBroken: Bool { kind == .broken }

    /// Moves over the body's bytes in `bytes[from...]`: where the body, or what there is of it, ends.
    /// What follows belongs to the next message. Look at `isDone` and `isBroken` afterwards.
    mutating func advance(_ bytes: Span<UInt8>, from: Int = 0) -> Int {
        var at = from
        while at < bytes.count, kind != .empty, kind != .broken { at = step(bytes, from: at).end }
        return at
    }

    /// The next piece: never empty unless the body is done or broken.
    mutating func step(_ bytes: Span<UInt8>, from: Int) -> BodyPiece {
        let available = bytes.count - from
        switch kind {
        case .empty, .broken:
            return BodyPiece(kind: .framing, end: from)
        case .untilClose:
            return BodyPiece(kind: .data, end: bytes.count)
        case .length, .chunked:
            if kind == .chunked, state != .data { return framing(bytes, from: from) }
            let count = min(UInt64(available), remaining)
            skip(count)
            return BodyPiece(kind: .data, end: from + Int(count))
        }
    }

    /// Bytes of content that come next without any framing between them, as far as is known.
    var plainBytes: UInt64 { kind == .length || kind == .chunked && state == .data ? remaining : 0 }

    /// Moves over so many of the `plainBytes`, unseen.
    mutating func skip(_ count: UInt64) {
        remaining -= count
        guard remaining == 0 else { return }
        if kind == .length { kind = .empty } else { state = .dataCR }
    }

    private mutating func framing(_ bytes: Span<UInt8>, from: Int) -> BodyPiece {
        var at = from
        while at < bytes.count, kind == .chunked, state != .data {
            let isRight = state.rawValue < ChunkState.trailerStart.rawValue ? chunk(bytes[at]) : trailer(bytes[at])
            guard isRight else {
                kind = .broken
                break
            }
            at += 1
        }
        return BodyPiece(kind: .framing, end: at)
    }

    /// One byte of a chunk's head or end; false when it is wrong.
    private mutating func chunk(_ byte: UInt8) -> Bool {
        switch state {
        case .size, .sizeOrEnd:
            if let value = Bytes.hexValue(byte) {
                digits += 1
                remaining = remaining << 4 | value
                state = .sizeOrEnd
                return digits <= 16 && remaining <= UInt64(Int64.max)
            }
            guard state == .sizeOrEnd else { return false }
            if byte == Bytes.cr {
                state = .sizeLF
                return true
            }
            state = .extensionStart
            return extensionStart(byte)
        case .extensionStart:
            return extensionStart(byte)
        case .chunkExtension:
            if byte == Bytes.cr {
                state = .sizeLF
                return true
            }
            return Bytes.isValue(byte) && countExtension()
        case .sizeLF:
            digits = 0
            overhead = 0
            state = remaining == 0 ? .trailerStart : .data
            return byte == Bytes.lf
        case .dataCR:
            state = .dataLF
            return byte == Bytes.cr
        default:
            // dataLF
            state = .size
            return byte == Bytes.lf
        }
    }

    /// Spaces, and the semicolon that must follow them.
    private mutating func extensionStart(_ byte: UInt8) -> Bool {
        if byte == UInt8(ascii: ";") { state = .chunkExtension }
        return (byte == UInt8(ascii: ";") || byte == Bytes.space || byte == Bytes.tab) && countExtension()
    }

    private mutating func countExtension() -> Bool {
        overhead += 1
        extensions += 1
        return overhead <= Self.extensionBytesMax && extensions <= Self.allExtensionBytesMax
    }

    /// One byte of the trailer section.
    private mutating func trailer(_ byte: UInt8) -> Bool {
        overhead += 1
        guard overhead <= Self.trailerBytesMax else { return false }
        switch state {
        case .trailerStart:
            state = byte == Bytes.cr ? .finalLF : .trailerName
            remaining = byte == Bytes.cr ? 0 : Self.hash(byte, after: Self.hashStart)
            return byte == Bytes.cr || Bytes.isToken(byte)
        case .trailerName:
            guard byte == Bytes.colon else {
                remaining = Self.hash(byte, after: remaining)
                return Bytes.isToken(byte)
            }
            state = .trailerValue
            defer { remaining = 0 }
            return !Self.isOfHeads(remaining)
        case .trailerValue:
            if byte == Bytes.cr { state = .trailerLF }
            return byte == Bytes.cr || Bytes.isValue(byte)
        case .trailerLF:
            state = .trailerStart
            return byte == Bytes.lf
        default:
            // finalLF
            kind = .empty
            return byte == Bytes.lf
        }
    }

    // MARK: - Names that trailers may not have

    private static let namesOfHeads: InlineArray<10, UInt64> = [
        hash("content-length"), hash("transfer-encoding"), hash("host"), hash("connection"), hash("upgrade"),
        hash("expect"),
        hash("forwarded"), hash("x-forwarded-for"), hash("x-forwarded-proto"), hash("x-forwarded-host"),
    ]

    private static func isOfHeads(_ name: UInt64) -> Bool {
        for index in namesOfHeads.indices where namesOfHeads[index] == name { return true }
        return false
    }

    /// FNV-1a over a name in lower case. WHY: a name may arrive in pieces and isn't kept; another one with the same hash is
    /// refused for nothing, and none gets through.
    private static let hashStart: UInt64 = 0xcbf2_9ce4_8422_2325

    private static func hash(_ byte: UInt8, after hash: UInt64) -> UInt64 {
        let lower = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
        return (hash ^ UInt64(lower)) &* 0x100_0000_01b3
    }

    private static func hash(_ name: StaticString) -> UInt64 {
        name.withUTF8Buffer { $0.reduce(hashStart) { hash($1, after: $0) } }
    }
}
