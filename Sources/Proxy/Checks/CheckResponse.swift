// CheckResponse: reads a response for an HTTP check. Pure; strict about form (RFC 9112, 4 and 5), indifferent to what most
// fields say. Interim 1xx responses are read over. The body is read only where the check looks at it, up to a limit.
//
//   head --its end--> body (if its status is one of those asked for) --its end, or the limit--> status

public struct CheckResponse: Sendable {
    public enum Outcome: Equatable, Sendable {
        case needMore
        /// All that was asked for of a well-formed answer with this status.
        case status(Int)
        /// Not HTTP/1, or malformed: says how.
        case refused(String)
    }

    /// Bytes of all heads of one answer together.
    public static let headBytesMax = 16 << 10

    /// Bytes of a body; what follows isn't looked at.
    public static let bodyBytesMax = 256 << 10

    /// The answer's content without its framing, as far as it was asked for and read.
    public private(set) var body: [UInt8] = []
    /// There is more of the body than `body`.
    public private(set) var isCut = false
    /// `X-Triad-State: drain` in the final head: the server wants no new requests, if its status is 503.
    public private(set) var hasDrainField = false

    private let readsBodyOf: StatusRanges?
    private let isHead: Bool
    /// How the body is delimited, from the fields read so far; nil before its first byte.
    private var length: UInt64?
    private var isChunked = false
    private var framer: BodyFramer?

    private var bytes: [UInt8] = []
    /// Where the current line starts, and how far it was searched for its end.
    private var lineStart = 0
    private var scanned = 0
    /// The status of the head being read; nil before its first line.
    private var status: Int?

    /// - Parameters:
    ///   - readsBodyOf: the statuses of which the body is wanted; nil: of none.
    ///   - isHead: the request was HEAD: there is no body, whatever the fields say (RFC 9112, 6.3).
    public init(readsBodyOf: StatusRanges? = nil, isHead: Bool = false) {
        self.readsBodyOf = readsBodyOf
        self.isHead = isHead
    }

    /// True once any byte arrived.
    public var hasBegun: Bool { !bytes.isEmpty }

    /// The server has closed the connection: the end of a body that has no other.
    public mutating func end() -> Outcome {
        if framer?.kind == .untilClose, let status { return .status(status) }
        return .refused(hasBegun ? "connection closed within the answer" : "closed without an answer")
    }

    public mutating func read(_ more: [UInt8]) -> Outcome {
        if framer != nil { return readBody(more, from: 0) }
        bytes.append(contentsOf: more)
        while scanned < bytes.count {
            let byte = bytes[scanned]
            scanned += 1
            // Lines end with CR LF; a bare one of either is refused below, with the line it stands in.
            if byte == UInt8(ascii: "\n") {
                if let outcome = endOfLine() { return outcome }
            }
        }
        // Something that isn't HTTP at all may never send a line's end: its first bytes already tell.
        if status == nil, !Self.beginsLikeHTTP(bytes[lineStart...]) { return .refused("the answer isn't HTTP") }
        if bytes.count > Self.headBytesMax { return .refused("answer head over \(Self.headBytesMax >> 10) KiB") }
        return .needMore
    }

    private mutating func endOfLine() -> Outcome? {
        let line = bytes[lineStart..<scanned].dropLast()
        lineStart = scanned
        if scanned > Self.headBytesMax { return .refused("answer head over \(Self.headBytesMax >> 10) KiB") }
        guard let last = line.last, last == UInt8(ascii: "\r") else {
            return .refused("malformed answer: a line ends without CR")
        }
        let content = line.dropLast()
        guard let current = status else {
            guard let parsed = Self.parseStatusLine(content) else { return .refused("the answer isn't HTTP") }
            status = parsed
            return nil
        }
        if content.isEmpty {
            // 101 would be a final answer to a request that asked for no upgrade; let `expect` judge it.
            if (100..<200).contains(current), current != 101 {
                status = nil
                (length, isChunked, hasDrainField) = (nil, false, false)
                return nil
            }
            return endOfHead(current)
        }
        guard Self.isField(content) else { return .refused("malformed answer: a header field isn't one") }
        return note(content).map { .refused($0) }
    }

    /// The final head is complete.
    private mutating func endOfHead(_ status: Int) -> Outcome {
        // 101, 204 and 304 have no body.
        guard readsBodyOf?.contains(status) == true, !isHead, status >= 200, status != 204, status != 304 else {
            return .status(status)
        }
        if isChunked, length != nil { return .refused("malformed answer: both Content-Length and chunked") }
        framer = isChunked ? .chunked : length.map { .length($0) } ?? .untilClose
        return readBody(bytes, from: scanned)
    }

    private mutating func readBody(_ more: [UInt8], from start: Int) -> Outcome {
        guard var framer, let status else { return .needMore }
        var at = start
        while at < more.count, !framer.isDone, !framer.isBroken {
            let piece = framer.step(more.span, from: at)
            if piece.kind == .data {
                let room = Self.bodyBytesMax - body.count
                body += more[at..<piece.end].prefix(room)
                if piece.end - at > room {
                    isCut = true
                    return .status(status)
                }
            }
            at = piece.end
        }
        self.framer = framer
        if framer.isBroken { return .refused("malformed answer: its chunks aren't chunks") }
        return framer.isDone ? .status(status) : .needMore
    }

    /// Takes in a field that matters here; says what is wrong with it.
    private mutating func note(_ line: ArraySlice<UInt8>) -> String? {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
        let value = String(decoding: line[(colon + 1)...], as: UTF8.self).lowercased()
        let word = String(value.drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
        switch name {
        case "content-length":
            guard !word.isEmpty, word.utf8.allSatisfy(Self.isDigit), let count = UInt64(word) else {
                return "malformed answer: Content-Length \(word.prefix(40))"
            }
            if let length, length != count { return "malformed answer: two values of Content-Length" }
            length = count
        case "transfer-encoding":
            guard word == "chunked", !isChunked else { return "malformed answer: Transfer-Encoding \(word.prefix(40))" }
            isChunked = true
        case "x-triad-state": hasDrainField = hasDrainField || word == "drain"
        default: break
        }
        return nil
    }

    private static func beginsLikeHTTP(_ bytes: ArraySlice<UInt8>) -> Bool {
        zip(bytes, "HTTP/1.".utf8).allSatisfy { $0 == $1 }
    }

    /// `HTTP/1.x SP 3DIGIT [SP reason]`; servers that leave out the space before an empty reason are accepted.
    private static func parseStatusLine(_ line: ArraySlice<UInt8>) -> Int? {
        let line = Array(line)
        guard line.count >= 12, beginsLikeHTTP(line[...]), isDigit(line[7]), line[8] == UInt8(ascii: " "),
            line[9...11].allSatisfy(isDigit), line.count == 12 || line[12] == UInt8(ascii: " "),
            line.allSatisfy(isText)
        else { return nil }
        let status = line[9...11].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
        return (100...599).contains(status) ? status : nil
    }

    /// `token ":" value`, with no space before the colon and no folded line.
    private static func isField(_ line: ArraySlice<UInt8>) -> Bool {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex else { return false }
        return line[..<colon].allSatisfy(isTokenByte) && line[colon...].allSatisfy(isText)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private static func isText(_ byte: UInt8) -> Bool { byte == 9 || byte >= 32 && byte != 127 }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
