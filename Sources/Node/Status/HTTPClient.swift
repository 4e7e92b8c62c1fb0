// HTTPClient: one blocking request to a status port, for the commands. Every wait is within one deadline.
//
// It speaks just what that port answers: a body with a Content-Length, or one that ends with the connection. It
// follows nothing, keeps nothing open, and never runs inside a node.

import CLinux
import Glibc
import Proxy

/// Why there was no answer, in words for people.
struct HTTPProblem: Error, Equatable, CustomStringConvertible {
    var description: String
}

struct HTTPAnswer: Sendable, Equatable {
    var status: Int
    /// Names in lower case.
    var fields: [String: String]
    var body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }
}

struct HTTPClient {
    static let headBytesMax = 64 << 10
    static let bodyBytesMax = 16 << 20

    var url: StatusURL
    var timeoutMs = 5000
    /// Sent as the Authorization field instead of the URL's.
    var token: String?
    /// Called once when there is no answer yet after so many milliseconds.
    var onSilence: (afterMs: Int, tell: () -> Void)?

    /// - Parameter body: nil sends a GET, else a POST of this JSON.
    func send(_ path: String, body: [UInt8]? = nil) throws(HTTPProblem) -> HTTPAnswer {
        let deadline = System.bootNanoseconds() + UInt64(max(1, timeoutMs)) * 1_000_000
        var problem = HTTPProblem(description: "no address")
        for address in url.addresses {
            do throws(HTTPProblem) {
                let descriptor = try connect(address, deadline)
                defer { System.close(descriptor) }
                try write(descriptor, request(path, body), deadline)
                return try read(descriptor, deadline)
            } catch { problem = error }
        }
        throw HTTPProblem(description: "no answer from \(url.text): \(problem)")
    }

    private func request(_ path: String, _ body: [UInt8]?) -> [UInt8] {
        var head = "\(body == nil ? "GET" : "POST") \(url.prefix)\(path) HTTP/1.1\r\nHost: \(url.authority)\r\n"
        head += "User-Agent: triad\r\nConnection: close\r\n"
        if let authorization = token.map({ "Bearer \($0)" }) ?? url.authorization {
            head += "Authorization: \(authorization)\r\n"
        }
        if let body { head += "Content-Type: application/json\r\nContent-Length: \(body.count)\r\n" }
        return Array((head + "\r\n").utf8) + (body ?? [])
    }

    private func connect(_ address: SocketAddress, _ deadline: UInt64) throws(HTTPProblem) -> Int32 {
        let descriptor: Int32
        do { descriptor = try System.socket(address.family, SOCK_STREAM.rawValue) } catch {
            throw HTTPProblem(description: error.description)
        }
        Self.watch(descriptor)
        var code = System.connect(descriptor, address)
        if code == 0 {
            guard wait(descriptor, POLLOUT, deadline) else {
                System.close(descriptor)
                throw HTTPProblem(description: "no connection within \(timeoutMs) ms")
            }
            code = System.pendingError(descriptor)
        }
        if code != 0 {
            System.close(descriptor)
            let hint = code == ECONNREFUSED ? " (does a node run there? --url names another)" : ""
            throw HTTPProblem(description: System.explain(code).lowercased() + hint)
        }
        return descriptor
    }

    /// A machine that dies within a long wait is noticed after 20 s of probes in vain, rather than at the deadline.
    private static func watch(_ descriptor: Int32) {
        let tcp = Int32(IPPROTO_TCP)
        let options = [
            (SOL_SOCKET, SO_KEEPALIVE, 1), (tcp, TCP_KEEPIDLE, 5), (tcp, TCP_KEEPINTVL, 5), (tcp, TCP_KEEPCNT, 3),
        ]
        // Without it the wait is only longer.
        for (level, name, value) in options { try? System.setOption(descriptor, level, name, Int32(value)) }
    }

    private func write(_ descriptor: Int32, _ bytes: [UInt8], _ deadline: UInt64) throws(HTTPProblem) {
        var sent = 0
        while sent < bytes.count {
            switch System.write(descriptor, bytes, from: sent) {
            case .moved(let count): sent += count
            case .wouldBlock:
                guard wait(descriptor, POLLOUT, deadline) else { throw late }
            // The peer may have refused early: what it said is still to be read.
            case .ended, .failed: return
            }
        }
    }

    private func read(_ descriptor: Int32, _ deadline: UInt64) throws(HTTPProblem) -> HTTPAnswer {
        var bytes: [UInt8] = []
        var head: (answer: HTTPAnswer, bodyStart: Int, length: Int?)?
        if let onSilence {
            let patience = min(System.bootNanoseconds() + UInt64(max(0, onSilence.afterMs)) * 1_000_000, deadline)
            if !wait(descriptor, POLLIN, patience) { onSilence.tell() }
        }
        while true {
            if head == nil { head = try Self.parseHead(bytes) }
            if let head, let length = head.length, bytes.count >= head.bodyStart + length {
                return Self.finish(head.answer, bytes[head.bodyStart..<(head.bodyStart + length)])
            }
            switch System.read(descriptor, onto: &bytes, atMost: 64 << 10) {
            case .moved:
                guard bytes.count <= Self.headBytesMax + Self.bodyBytesMax else {
                    throw HTTPProblem(description: "an answer over \(Self.bodyBytesMax >> 20) MiB")
                }
            case .wouldBlock:
                guard wait(descriptor, POLLIN, deadline) else { throw late }
            case .ended:
                guard let head else {
                    throw HTTPProblem(
                        description: bytes.isEmpty ? "closed without an answer" : "the answer is cut short")
                }
                if head.length != nil { throw HTTPProblem(description: "the answer is cut short") }
                return Self.finish(head.answer, bytes[head.bodyStart...])
            case .failed(let code): throw HTTPProblem(description: System.explain(code).lowercased())
            }
        }
    }

    private var late: HTTPProblem { HTTPProblem(description: "no answer within \(timeoutMs) ms") }

    private static func finish(_ answer: HTTPAnswer, _ body: ArraySlice<UInt8>) -> HTTPAnswer {
        var answer = answer
        answer.body = Array(body)
        return answer
    }

    /// nil while the head isn't whole.
    private static func parseHead(
        _ bytes: [UInt8]
    ) throws(HTTPProblem) -> (answer: HTTPAnswer, bodyStart: Int, length: Int?)? {
        guard let end = headEnd(bytes) else {
            let begins = zip(bytes, "HTTP/1.".utf8).allSatisfy { $0 == $1 }
            if !begins || bytes.count > headBytesMax { throw HTTPProblem(description: "the answer isn't HTTP") }
            return nil
        }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
        let words = lines.first?.split(separator: " ", maxSplits: 2) ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]), (200...599).contains(status)
        else { throw HTTPProblem(description: "the answer isn't HTTP") }
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { throw HTTPProblem(description: "a malformed answer") }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            fields[line[..<colon].lowercased()] = String(value)
        }
        if fields["transfer-encoding"] != nil {
            throw HTTPProblem(description: "the answer is coded in an unknown way")
        }
        let length = fields["content-length"].map { Int($0) ?? -1 }
        if let length, !(0...bodyBytesMax).contains(length) {
            throw HTTPProblem(description: "an answer over \(bodyBytesMax >> 20) MiB")
        }
        return (HTTPAnswer(status: status, fields: fields, body: []), end, length)
    }

    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        let mark = Array("\r\n\r\n".utf8)
        return bytes.firstRange(of: mark)?.upperBound
    }

    /// False when the deadline came first.
    private func wait(_ descriptor: Int32, _ events: Int32, _ deadline: UInt64) -> Bool {
        while true {
            let now = System.bootNanoseconds()
            guard now < deadline else { return false }
            var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            let left = Int32(clamping: (deadline - now + 999_999) / 1_000_000)
            if poll(&entry, 1, left) > 0 { return true }
        }
    }
}
