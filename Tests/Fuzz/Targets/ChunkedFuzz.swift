// ChunkedFuzz: bodies. Where a body ends and what it holds doesn't depend on how it arrives, and agrees with a second
// reading of RFC 9112, 7.1 that shares no code with the framer.

@testable import Proxy

/// The framer over the same bytes in one piece and in several.
enum FramerPieces {
    @discardableResult
    static func compare(_ framer: BodyFramer, _ bytes: [UInt8]) throws -> (framer: BodyFramer, end: Int) {
        var whole = framer
        let end = whole.advance(bytes.span)
        try require(end >= 0 && end <= bytes.count, "a body of \(end) bytes in \(bytes.count)")
        var pieces = framer
        var division = Division(bytes)
        var at = 0
        while at < bytes.count, !pieces.isDone, !pieces.isBroken {
            let piece = Array(bytes[at..<min(bytes.count, at + division.next(40))])
            at += pieces.advance(piece.span)
        }
        try require(pieces == whole && at == end, "in one piece \(whole) at \(end), in pieces \(pieces) at \(at)")
        return (whole, end)
    }
}

enum ChunkedFuzz {
    static func run(_ input: [UInt8]) throws {
        let (framer, end) = try FramerPieces.compare(.chunked, input)
        var content: [UInt8] = []
        var stepper = BodyFramer.chunked
        var at = 0
        while at < input.count, !stepper.isDone, !stepper.isBroken {
            let piece = stepper.step(input.span, from: at)
            try require(piece.end > at && piece.end <= input.count || stepper.isBroken, "a piece \(at)..<\(piece.end)")
            if piece.kind == .data { content += input[at..<piece.end] }
            at = piece.end
        }
        try require(stepper == framer && at == end, "step and advance differ: \(at) and \(end)")
        let plain = PlainBody(input)
        if framer.isDone {
            try require(plain.end == end, "the body ends at \(end), and reads as ending at \(plain.end ?? -1)")
            try require(plain.content == content, "\(content.count) bytes of content read as \(plain.content.count)")
        }
        // A body that reads well is refused for its limits only.
        if plain.end != nil, framer.isBroken {
            try require(plain.isLong, "refused, though it reads well and is within the limits")
        }
    }
}

/// A second reading of a chunked body.
struct PlainBody {
    private(set) var content: [UInt8] = []
    /// nil: it doesn't end, or is malformed.
    private(set) var end: Int?
    /// Something in it has a limit that is exceeded.
    private(set) var isLong = false

    private static let namesOfHeads: Set<String> = [
        "content-length", "transfer-encoding", "host", "connection", "upgrade", "expect", "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto", "x-forwarded-host",
    ]

    init(_ bytes: [UInt8]) {
        var at = 0
        /// The next line without its CRLF; nil when there is none, or it has bytes that no line may have.
        func line() -> ArraySlice<UInt8>? {
            var stop = at
            while stop < bytes.count, bytes[stop] != 13 {
                guard bytes[stop] == 9 || bytes[stop] >= 32 && bytes[stop] != 127 else { return nil }
                stop += 1
            }
            guard stop + 1 < bytes.count, bytes[stop + 1] == 10 else { return nil }
            defer { at = stop + 2 }
            return bytes[at..<stop]
        }
        while true {
            guard let head = line() else { return }
            let digits = head.prefix { 48...57 ~= $0 || 65...70 ~= $0 || 97...102 ~= $0 }
            if digits.count > 16 || head.count - digits.count > BodyFramer.extensionBytesMax { isLong = true }
            guard let size = UInt64(String(decoding: digits, as: UTF8.self), radix: 16) ?? (isLong ? .max : nil),
                head.count == digits.count || head.dropFirst(digits.count).first(where: { $0 != 32 && $0 != 9 }) == 59
            else { return }
            if size == 0 { break }
            guard size < UInt64(bytes.count - at), at + Int(size) + 1 < bytes.count else { return }
            content += bytes[at..<at + Int(size)]
            at += Int(size)
            guard bytes[at] == 13, bytes[at + 1] == 10 else { return }
            at += 2
        }
        let trailers = at
        while let field = line() {
            if at - trailers > BodyFramer.trailerBytesMax { isLong = true }
            if field.isEmpty {
                end = at
                return
            }
            guard let colon = field.firstIndex(of: 58), colon > field.startIndex,
                field[..<colon].allSatisfy(Bytes.isToken),
                !Self.namesOfHeads.contains(String(decoding: field[..<colon], as: UTF8.self).lowercased())
            else { return }
        }
    }
}
