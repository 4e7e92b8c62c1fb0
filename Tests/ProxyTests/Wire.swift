// Wire: a blocking TCP connection for tests, as client or as a test server's end, with a deadline on everything.

import Glibc
import Testing

@testable import Proxy

/// A message as it arrived.
struct WireMessage: Equatable {
    /// `GET / HTTP/1.1` or `HTTP/1.1 200 OK`.
    var startLine = ""
    /// In order, names as they came.
    var fields: [(name: String, value: String)] = []
    var body: [UInt8] = []
    /// The body as it came, chunk framing included.
    var rawBody: [UInt8] = []

    static func == (left: WireMessage, right: WireMessage) -> Bool {
        left.startLine == right.startLine && left.body == right.body
            && left.fields.map { "\($0): \($1)" } == right.fields.map { "\($0): \($1)" }
    }

    var status: Int { Int(startLine.split(separator: " ").dropFirst().first ?? "") ?? 0 }
    var text: String { String(decoding: body, as: UTF8.self) }

    /// All values of a field, by name in any case.
    subscript(name: String) -> [String] { fields.filter { $0.name.lowercased() == name.lowercased() }.map(\.value) }
}

/// The peer closed, reset, or was silent for too long.
enum WireFailure: Error, Equatable {
    case ended, reset, timedOut
}

final class Wire: @unchecked Sendable {
    let descriptor: Int32
    private var unread: [UInt8] = []

    init(descriptor: Int32, timeoutMs: Int = waitMsMax) {
        self.descriptor = descriptor
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        var time = timeval(tv_sec: timeoutMs / 1_000, tv_usec: timeoutMs % 1_000 * 1_000)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    /// Connects to a local port.
    /// - Parameter receiveBytes: SO_RCVBUF, for clients that are slow to read.
    convenience init(port: UInt16, overIPv6: Bool = false, receiveBytes: Int32? = nil) throws {
        let descriptor = socket(overIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var receiveBytes { setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, 4) }
        let address =
            overIPv6
            ? SocketAddress(high: 0, low: 1, port: port, isIPv6: true)
            : SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: port, isIPv6: false)
        let outcome = address.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        self.init(descriptor: descriptor)
        if outcome != 0 { throw WireFailure.reset }
    }

    deinit { close(descriptor) }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { bytes in
                uninterrupted { Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) }
            }
            if count <= 0 { throw errno == EAGAIN ? WireFailure.timedOut : WireFailure.reset }
            sent += count
        }
    }

    func shutdownWrite() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Makes the coming close a reset.
    func resetOnClose() { System.resetOnClose(descriptor) }

    /// Adds what arrives next to `unread`.
    private func receive() throws {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = uninterrupted { recv(descriptor, &buffer, buffer.count, 0) }
        if count == 0 { throw WireFailure.ended }
        if count < 0 { throw errno == EAGAIN ? WireFailure.timedOut : WireFailure.reset }
        unread += buffer[..<count]
    }

    func read(_ count: Int) throws -> [UInt8] {
        while unread.count < count { try receive() }
        defer { unread.removeFirst(count) }
        return Array(unread[..<count])
    }

    func readLine() throws -> String {
        while true {
            if let end = unread.firstIndex(of: 10) {
                let line = unread[..<end]
                defer { unread.removeFirst(end + 1) }
                return String(decoding: line.last == 13 ? line.dropLast() : line, as: UTF8.self)
            }
            try receive()
        }
    }

    func readToEnd() throws -> [UInt8] {
        do {
            while true { try receive() }
        } catch WireFailure.ended {
            defer { unread = [] }
            return unread
        }
    }

    /// Whether something arrives (bytes or the end) within `ms`.
    func hasArrivals(within ms: Int = waitMsMax) -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return !unread.isEmpty || uninterrupted { Glibc.poll(&poll, 1, Int32(ms)) } == 1
    }

    /// Whether the peer closes in order (true) or the connection is still open after `ms`.
    func isClosed(within ms: Int = waitMsMax) -> Bool {
        guard unread.isEmpty, hasArrivals(within: ms) else { return false }
        do {
            try receive()
            return false
        } catch {
            return true
        }
    }

    /// Reads a head: start line and fields.
    func readHead() throws -> WireMessage {
        var message = WireMessage()
        message.startLine = try readLine()
        while true {
            let line = try readLine()
            if line.isEmpty { return message }
            let colon = try #require(line.firstIndex(of: ":"))
            message.fields.append(
                (String(line[..<colon]), line[line.index(after: colon)...].drop { $0 == " " }.description))
        }
    }

    /// Reads a whole message.
    /// - Parameter hasBody: false for responses to HEAD.
    func readMessage(hasBody: Bool = true) throws -> WireMessage {
        var message = try readHead()
        let isResponse = message.startLine.hasPrefix("HTTP/")
        let isEmpty = [204, 304].contains(message.status) || 100..<200 ~= message.status
        guard hasBody, !(isResponse && isEmpty) else { return message }
        if message["transfer-encoding"] == ["chunked"] {
            try readChunks(&message)
        } else if let length = message["content-length"].first {
            message.body = try read(#require(Int(length)))
            message.rawBody = message.body
        } else if isResponse {
            message.body = try readToEnd()
            message.rawBody = message.body
        }
        return message
    }

    private func readChunks(_ message: inout WireMessage) throws {
        while true {
            let line = try readLine()
            message.rawBody += Array("\(line)\r\n".utf8)
            let size = try #require(Int(line.prefix { $0 != ";" }, radix: 16))
            if size == 0 { break }
            let chunk = try read(size)
            message.body += chunk
            message.rawBody += chunk
            _ = try read(2)
            message.rawBody += [13, 10]
        }
        while true {
            let line = try readLine()
            message.rawBody += Array("\(line)\r\n".utf8)
            if line.isEmpty { return }
        }
    }
}
