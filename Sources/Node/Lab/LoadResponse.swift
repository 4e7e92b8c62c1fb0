// LoadResponse: reads one HTTP/1.1 response, as far as the load client needs to. Pure.
//
// Three outcomes of every step: done, more to come, refused. Body framing as in RFC 9112, 6.3: by status, chunked,
// length, or the connection's end. Interim responses (1xx) are skipped.

/// A response as it arrives.
struct LoadResponse {
    enum Step: Equatable {
        case needMore
        /// Complete: everything of it has arrived.
        case done
        case refused
    }

    enum Limit {
        static let head = 64 << 10
        /// How much of a body is kept by default, to find who answered in it.
        static let keptBody = 4096
    }

    private enum State: Equatable {
        case head
        case length(Int)
        case chunkSize
        case chunk(Int)
        case trailer
        case untilClosed
        case done
    }

    private(set) var status = 0
    /// The server keeps the connection after this response.
    private(set) var keepsAlive = true
    private(set) var body: [UInt8] = []
    private var state = State.head
    private let keptBodyMax: Int

    init(keptBodyMax: Int = Limit.keptBody) { self.keptBodyMax = keptBodyMax }

    /// Takes what it can from the front of `input`.
    mutating func read(_ input: inout [UInt8]) -> Step {
        while true {
            switch state {
            case .done: return .done
            case .head:
                guard let length = APIRequest.headLength(input) else {
                    return input.count > Limit.head ? .refused : .needMore
                }
                let head = String(decoding: input[..<length], as: UTF8.self)
                input.removeFirst(length)
                guard readHead(head) else { return .refused }
            case .length(let left):
                let taken = take(&input, left)
                state = left == taken ? .done : .length(left - taken)
                if left > taken { return .needMore }
            case .untilClosed:
                _ = take(&input, input.count)
                return .needMore
            case .chunkSize:
                guard let line = Self.takeLine(&input) else { return input.count > 1024 ? .refused : .needMore }
                let digits = line.prefix { $0 != ";" && $0 != " " }
                guard let size = Int(digits, radix: 16), size >= 0 else { return .refused }
                state = size == 0 ? .trailer : .chunk(size + 2)
            case .chunk(let left):
                // The last two bytes are the chunk's CRLF.
                let taken = min(left, input.count)
                let kept = min(max(0, left - 2), taken)
                keep(input[..<kept])
                input.removeFirst(taken)
                state = left == taken ? .chunkSize : .chunk(left - taken)
                if left > taken { return .needMore }
            case .trailer:
                guard let line = Self.takeLine(&input) else { return input.count > Limit.head ? .refused : .needMore }
                if line.isEmpty { state = .done }
            }
        }
    }

    /// The connection ended: is the response complete?
    var isCompleteAtEnd: Bool { state == .done || state == .untilClosed }

    /// The text of the body's `message`, else who the body is from is unknown.
    var who: String? {
        let text = String(decoding: body, as: UTF8.self)
        guard let key = text.firstRange(of: "\"message\"") else { return nil }
        let rest = text[key.upperBound...].drop { $0 == " " || $0 == ":" || $0 == "\t" }
        guard rest.first == "\"" else { return nil }
        return String(rest.dropFirst().prefix { $0 != "\"" && $0 != "\n" })
    }

    private mutating func take(_ input: inout [UInt8], _ most: Int) -> Int {
        let taken = min(most, input.count)
        keep(input[..<taken])
        input.removeFirst(taken)
        return taken
    }

    private mutating func keep(_ bytes: ArraySlice<UInt8>) {
        body += bytes.prefix(keptBodyMax - body.count)
    }

    private static func takeLine(_ input: inout [UInt8]) -> String? {
        guard let end = input.firstIndex(of: 10) else { return nil }
        let line = input[..<end]
        let text = String(decoding: line.last == 13 ? line.dropLast() : line, as: UTF8.self)
        input.removeFirst(end + 1)
        return text
    }

    private mutating func readHead(_ head: String) -> Bool {
        // A CRLF is one Character to Swift, so lines are split on the scalars.
        let lines = head.unicodeScalars.split(separator: "\n").map { line in
            String(line.last == "\r" ? line.dropLast() : line)
        }
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let code = Int(words[1]), (100...599).contains(code)
        else { return false }
        status = code
        keepsAlive = words[0] != "HTTP/1.0"
        var length: Int?
        var isChunked = false
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }.lowercased()
            switch line[..<colon].lowercased() {
            case "content-length": length = Int(value)
            case "transfer-encoding": isChunked = value.hasSuffix("chunked")
            case "connection": keepsAlive = keepsAlive ? !value.contains("close") : value.contains("keep-alive")
            default: break
            }
        }
        if code < 200 { return code != 101 }
        if code == 204 || code == 304 {
            state = .done
        } else if isChunked {
            state = .chunkSize
        } else if let length {
            state = .length(max(0, length))
        } else {
            state = .untilClosed
            keepsAlive = false
        }
        return true
    }
}
