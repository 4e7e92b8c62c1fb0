// CheckResponse: reads a response's head for an HTTP check. Pure; strict about form (RFC 9112, 4 and 5), indifferent to
// what fields say. Interim 1xx responses are read over. The body is never read.

public struct CheckResponse: Sendable {
    public enum Outcome: Equatable, Sendable {
        case needMore
        /// A whole, well-formed head with this status.
        case status(Int)
        /// Not HTTP/1, or malformed: says how.
        case refused(String)
    }

    /// Bytes of all heads of one answer together.
    public static let headBytesMax = 16 << 10

    private var bytes: [UInt8] = []
    /// Where the current line starts, and how far it was searched for its end.
    private var lineStart = 0
    private var scanned = 0
    /// The status of the head being read; nil before its first line.
    private var status: Int?

    public init() {}

    /// True once any byte arrived.
    public var hasBegun: Bool { !bytes.isEmpty }

    public mutating func read(_ more: [UInt8]) -> Outcome {
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
                return nil
            }
            return .status(current)
        }
        return Self.isField(content) ? nil : .refused("malformed answer: a header field isn't one")
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
