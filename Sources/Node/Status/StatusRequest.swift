// StatusRequest: parses a request to the status port. Pure; strict (RFC 9112), small, with limits on everything.
//
// Only what the port needs: GET, HEAD and POST with a Content-Length. A transfer coding is refused, so a body has one
// possible length.

struct StatusRequest: Sendable, Equatable {
    enum Limit {
        static let headBytes = 8 << 10
        static let fields = 64
        static let bodyBytes = 16 << 10
    }

    var method: String
    /// Without the query.
    var path: String
    var keepsAlive: Bool
    var authorization: String?
    var body: [UInt8] = []

    enum Outcome: Equatable {
        /// The head isn't whole.
        case needHead
        /// The head is whole, the body isn't before there are that many bytes.
        case needBody(bytes: Int)
        /// The head is whole, its body isn't, and the client waits to be told to send it.
        case expectsContinue
        /// A whole request, and how many bytes it took.
        case request(StatusRequest, bytes: Int)
        /// Answer this and close.
        case refused(status: Int, text: String)
    }

    /// Looks for a request at the start of `bytes`.
    /// - Parameter searched: bytes that earlier calls have searched for the head's end, so that a head that comes byte by
    ///   byte isn't searched all over each time.
    static func parse(_ bytes: [UInt8], searched: Int = 0) -> Outcome {
        guard let end = headEnd(bytes, from: searched) else {
            if bytes.count > Limit.headBytes { return .refused(status: 431, text: "request head over 8 KiB") }
            // Not HTTP at all (TLS, say) needn't be waited for.
            if let first = bytes.first, !isTokenByte(first) { return .refused(status: 400, text: "not HTTP") }
            return .needHead
        }
        if end > Limit.headBytes { return .refused(status: 431, text: "request head over 8 KiB") }
        var lines = bytes[..<(end - 4)].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for index in lines.indices.dropLast() {
            guard lines[index].last == UInt8(ascii: "\r") else { return malformed("a line ends without CR") }
            lines[index].removeLast()
        }
        guard lines.count <= Limit.fields + 1 else { return .refused(status: 431, text: "too many header fields") }
        guard lines.allSatisfy({ $0.allSatisfy { $0 == 9 || $0 >= 32 && $0 != 127 } }) else {
            return malformed("a control character in the head")
        }
        var head = Head()
        if let problem = head.readRequestLine(lines[0]) { return problem }
        for line in lines.dropFirst() {
            if let problem = head.readField(line) { return problem }
        }
        return head.finish(bytes, bodyStart: end)
    }

    private static func headEnd(_ bytes: [UInt8], from searched: Int) -> Int? {
        var index = max(3, searched)
        while index < min(bytes.count, Limit.headBytes + 4) {
            if bytes[index] == 10, bytes[index - 1] == 13, bytes[index - 2] == 10, bytes[index - 3] == 13 {
                return index + 1
            }
            index += 1
        }
        return nil
    }

    fileprivate static func malformed(_ text: String) -> Outcome {
        .refused(status: 400, text: "malformed request: \(text)")
    }

    fileprivate static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// The head while it is read.
private struct Head {
    var method = ""
    var path = ""
    var minor = 1
    var hasHost = false
    var length: Int?
    var authorization: String?
    var connection = ""
    var expectsContinue = false

    mutating func readRequestLine(_ line: ArraySlice<UInt8>) -> StatusRequest.Outcome? {
        let parts = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(StatusRequest.isTokenByte),
            parts[1].first == UInt8(ascii: "/") || parts[1].elementsEqual("*".utf8)
        else { return StatusRequest.malformed("its first line") }
        switch String(decoding: parts[2], as: UTF8.self) {
        case "HTTP/1.1": minor = 1
        case "HTTP/1.0": minor = 0
        default: return .refused(status: 505, text: "only HTTP/1.0 and HTTP/1.1 are spoken here")
        }
        method = String(decoding: parts[0], as: UTF8.self)
        path = String(decoding: parts[1].prefix { $0 != UInt8(ascii: "?") }, as: UTF8.self)
        return nil
    }

    mutating func readField(_ line: ArraySlice<UInt8>) -> StatusRequest.Outcome? {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
            line[..<colon].allSatisfy(StatusRequest.isTokenByte)
        else { return StatusRequest.malformed("a header field") }
        let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
        let value = Self.trim(line[(colon + 1)...])
        switch name {
        case "host":
            if hasHost { return StatusRequest.malformed("two Host fields") }
            hasHost = true
        case "content-length":
            guard length == nil, (1...9).contains(value.utf8.count), let number = Int(value),
                value.utf8.allSatisfy({ (48...57).contains($0) })
            else { return StatusRequest.malformed("Content-Length") }
            length = number
        case "transfer-encoding":
            return .refused(status: 411, text: "send the body with a Content-Length")
        case "authorization":
            if authorization != nil { return StatusRequest.malformed("two Authorization fields") }
            authorization = value
        case "connection": connection += "," + value.lowercased()
        case "expect":
            guard value.lowercased() == "100-continue" else {
                return .refused(status: 417, text: "unknown expectation")
            }
            expectsContinue = true
        default: break
        }
        return nil
    }

    func finish(_ bytes: [UInt8], bodyStart: Int) -> StatusRequest.Outcome {
        if minor == 1, !hasHost { return StatusRequest.malformed("no Host field") }
        let length = length ?? 0
        guard length <= StatusRequest.Limit.bodyBytes else {
            return .refused(status: 413, text: "request body over 16 KiB")
        }
        guard bytes.count >= bodyStart + length else {
            let wanted = bodyStart + length
            return expectsContinue && bytes.count == bodyStart ? .expectsContinue : .needBody(bytes: wanted)
        }
        let options = connection.split(separator: ",").map { $0.drop { $0 == " " }.prefix { $0 != " " } }
        let keepsAlive = minor == 1 ? !options.contains("close") : options.contains("keep-alive")
        let request = StatusRequest(
            method: method, path: path, keepsAlive: keepsAlive, authorization: authorization,
            body: Array(bytes[bodyStart..<(bodyStart + length)]))
        return .request(request, bytes: bodyStart + length)
    }

    private static func trim(_ bytes: ArraySlice<UInt8>) -> String {
        let isSpace = { (byte: UInt8) in byte == 32 || byte == 9 }
        let rest = bytes.drop(while: isSpace)
        let end = rest.lastIndex { !isSpace($0) }.map { $0 + 1 } ?? rest.startIndex
        return String(decoding: rest[rest.startIndex..<end], as: UTF8.self)
    }
}
