// FixtureRunner: plays a fixture's client and its server against a running data plane, over real sockets.

import Glibc
import Testing

@testable import Proxy

/// How what a fixture sends is cut into pieces.
enum FixtureDivision: Sendable, CustomStringConvertible {
    case whole
    case singleBytes
    /// The client's first bytes in two parts.
    case at(Int)

    var description: String {
        switch self {
        case .whole: "in one piece"
        case .singleBytes: "byte by byte"
        case .at(let place): "divided at \(place)"
        }
    }
}

/// One side's socket, and what arrived on it.
private final class FixtureEnd {
    let descriptor: Int32
    var unread: [UInt8] = []
    var isOver = false

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        var time = timeval(tv_sec: waitMsMax / 1_000, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// A side that closed early is seen by what it said, so a failure to send is none of the test.
    func send(_ bytes: [UInt8], _ division: FixtureDivision) {
        switch division {
        case .whole: send(bytes[...])
        case .singleBytes: for at in bytes.indices { send(bytes[at...at]) }
        case .at(let place):
            send(bytes[..<min(place, bytes.count)])
            // Long enough, nearly always, for the first part to be read by itself.
            usleep(300)
            send(bytes[min(place, bytes.count)...])
        }
    }

    private func send(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { bytes in
                uninterrupted { Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) }
            }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }

    /// Receives once; false at the end, a reset included, or after the limit of a wait.
    func receive() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = uninterrupted { recv(descriptor, &buffer, buffer.count, 0) }
        if count > 0 { unread += buffer[..<count] }
        if count == 0 || count < 0 && errno != EAGAIN { isOver = true }
        return count > 0
    }

    /// Takes as many bytes as wanted, or what came before the end.
    /// - Parameter kept: the places of the bytes that count; nil while that isn't known of the last ones.
    func take(_ count: Int, kept: ([UInt8]) -> [Int]?) -> [UInt8] {
        var places = kept(unread)
        while (places?.count ?? 0) < count || places == nil, receive() { places = kept(unread) }
        let taken = (places ?? Array(unread.indices)).prefix(count)
        defer { unread.removeFirst((taken.last ?? -1) + 1) }
        return taken.map { unread[$0] }
    }
}

final class FixtureRunner {
    private let item: FixtureCase
    private let division: FixtureDivision
    private let plane: DataPlane
    private let listener: Int32
    private let client: FixtureEnd
    private var server: FixtureEnd?
    private var hasSent = false
    private let showsDate: Bool

    init(_ item: FixtureCase, _ division: FixtureDivision) throws {
        self.item = item
        self.division = division
        var showsDate = false
        for case .clientGets(let bytes) in item.steps where String(decoding: bytes, as: UTF8.self).contains("Date:") {
            showsDate = true
        }
        self.showsDate = showsDate
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.listener = listener
        let any = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)
        let outcome = any.withSockaddr { bind(listener, $0, $1) }
        precondition(outcome == 0 && listen(listener, 16) == 0)
        var settings = ProxySettings(
            frontends: [FrontendSettings(name: "http", address: any, backend: 0)],
            backends: [BackendSettings(name: "api")], timeouts: .endless)
        settings.frontends[0].forwarded = .none
        for setting in item.settings { try FixturePlane.apply(setting, to: &settings) }
        plane = try DataPlane(settings)
        let route = TestServer.route(port: System.localPort(listener))
        plane.publish(RoutingTable(version: 1, backends: [BackendRoutes(name: "api", servers: [route])]))
        try plane.start()
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: plane.ports[0], isIPv6: false)
        let connected = address.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        precondition(connected == 0)
        client = FixtureEnd(descriptor)
    }

    deinit {
        plane.stop()
        close(listener)
    }

    func run() throws {
        for step in item.steps { try perform(step) }
    }

    private func fail(_ text: String) -> FixtureProblem {
        FixtureProblem(description: "\(item) (\(item.section)), \(division): \(text)")
    }

    private func perform(_ step: FixtureCase.Step) throws {
        switch step {
        case .clientSends(let bytes):
            if case .at = division, hasSent {
                client.send(bytes, .whole)
            } else {
                client.send(bytes, division)
            }
            hasSent = true
        case .serverSends(let bytes):
            if case .at = division { server?.send(bytes, .whole) } else { server?.send(bytes, division) }
        case .serverGets(let bytes):
            try expect(bytes, try currentServer().take(bytes.count) { Array($0.indices) }, "the server got")
        case .clientGets(let bytes):
            try expect(bytes, client.take(bytes.count) { withoutDate($0) }, "the client got")
        case .clientEnds: shutdown(client.descriptor, Int32(SHUT_WR))
        case .serverEnds, .serverIsNew:
            if step == .serverEnds, let server { shutdown(server.descriptor, Int32(SHUT_RDWR)) }
            server = nil
        case .serverIsClosed: try serverIsClosed()
        case .refused(let status): try refused(status)
        case .answered(let status): _ = try answer(status)
        case .isOpen: try isOpen()
        case .isClosed: try isClosed()
        }
    }

    private func expect(_ wanted: [UInt8], _ got: [UInt8], _ who: String) throws {
        if wanted != got { throw fail("\(who)\n  \(Self.shown(got))\nrather than\n  \(Self.shown(wanted))") }
    }

    private func currentServer() throws -> FixtureEnd {
        if let server { return server }
        var poll = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        guard uninterrupted({ Glibc.poll(&poll, 1, Int32(waitMsMax)) }) == 1 else {
            var note = "no request reached the server"
            if client.receive() { note += "; the client got\n  \(Self.shown(client.unread))" }
            throw fail(note)
        }
        let end = FixtureEnd(uninterrupted { accept(listener, nil, nil) })
        server = end
        return end
    }

    private func serverIsClosed() throws {
        guard let server else { throw fail("no server connection to be closed") }
        while server.receive() {}
        guard server.isOver, server.unread.isEmpty else {
            throw fail("the server's connection isn't closed; it got\n  \(Self.shown(server.unread))")
        }
        self.server = nil
    }

    // MARK: answers of our own

    /// Reads an answer of our own; returns its head.
    private func answer(_ status: Int) throws -> String {
        while !String(decoding: client.unread, as: UTF8.self).contains("\r\n\r\n") {
            guard client.receive() else { throw fail("no answer; the client got\n  \(Self.shown(client.unread))") }
        }
        let text = String(decoding: client.unread, as: UTF8.self)
        let head = String(text[..<(text.range(of: "\r\n\r\n")?.upperBound ?? text.endIndex)])
        guard head.hasPrefix("HTTP/1.1 \(status) "), let length = Self.length(head) else {
            throw fail("the client got\n  \(Self.shown(client.unread))\nrather than \(status)")
        }
        guard withoutDate(Array(head.utf8))?.count != head.utf8.count else { throw fail("the answer has no Date") }
        while client.unread.count < head.utf8.count + length, client.receive() {}
        guard client.unread.count >= head.utf8.count + length else { throw fail("the answer is cut short") }
        client.unread.removeFirst(head.utf8.count + length)
        return head
    }

    private static func length(_ head: String) -> Int? {
        let line = head.split(separator: "\r\n").first { $0.hasPrefix("Content-Length: ") }
        return line.flatMap { Int($0.dropFirst(16)) }
    }

    private func refused(_ status: Int) throws {
        let head = try answer(status)
        guard head.contains("\r\nConnection: close\r\n") else { throw fail("no Connection: close in \(head)") }
        try isClosed()
        guard plane.figures.refused == 1 else { throw fail("it isn't counted as refused") }
        var poll = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        guard server == nil, Glibc.poll(&poll, 1, 0) == 1 else { return }
        if case .whole = division { throw fail("the server got a connection") }
        // Its head was good, so a server was told; then it must not have seen an end.
        let server = try currentServer()
        while server.receive() {}
        let text = String(decoding: server.unread, as: UTF8.self)
        let isWhole =
            text.contains("0\r\n\r\n") || Self.length(text).map { text.hasSuffix($0 == 0 ? "\r\n\r\n" : "") } == true
        if isWhole { throw fail("the server got what looks like a whole request\n  \(Self.shown(server.unread))") }
    }

    // MARK: what becomes of the client's connection

    private func isClosed() throws {
        while client.receive() {}
        guard client.isOver, client.unread.isEmpty else {
            throw fail("the connection isn't closed; the client got\n  \(Self.shown(client.unread))")
        }
    }

    /// One more request goes through.
    private func isOpen() throws {
        client.send(Array("GET /next HTTP/1.1\r\nHost: a\r\n\r\n".utf8), .whole)
        // On the connection that the server has, or on another one.
        if let server {
            var polls = [
                pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
                pollfd(fd: server.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            _ = uninterrupted { Glibc.poll(&polls, 2, Int32(waitMsMax)) }
            if polls[0].revents != 0 { self.server = nil }
        }
        let next = Array("GET /next HTTP/1.1\r\nHost: a\r\n".utf8)
        try expect(
            next, try currentServer().take(next.count) { Array($0.indices) }, "for the next request the server got")
        server?.send(Array("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext".utf8), .whole)
        while !client.unread.suffix(4).elementsEqual("next".utf8), client.receive() {}
        let text = String(decoding: client.unread, as: UTF8.self)
        guard text.hasPrefix("HTTP/1.1 200 OK\r\n"), text.hasSuffix("\r\n\r\nnext") else {
            throw fail("the next request was answered with\n  \(Self.shown(client.unread))")
        }
    }

    // MARK: text

    /// The places of all bytes but those of the Date line that the data plane adds, unless the fixture is about it. Nil
    /// while such a line is incomplete.
    private func withoutDate(_ bytes: [UInt8]) -> [Int]? {
        if showsDate { return Array(bytes.indices) }
        let start = Array("Date: ".utf8)
        let lineBytes = start.count + DateText.bytes + 2
        var kept: [Int] = []
        var at = 0
        while at < bytes.count {
            if at == 0 || bytes[at - 1] == 10, bytes[at...].starts(with: start) {
                guard bytes.count >= at + lineBytes else { return nil }
                at += lineBytes
                continue
            }
            kept.append(at)
            at += 1
        }
        return kept
    }

    static func shown(_ bytes: [UInt8]) -> String {
        if bytes.isEmpty { return "nothing" }
        return bytes.prefix(2_000).map { byte in
            switch byte {
            case 10: "\\n\n  "
            case 13: "\\r"
            case 9: "\\t"
            case 0x20...0x7e: String(UnicodeScalar(byte))
            default: "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }.joined()
    }
}

/// The settings that a fixture can ask for.
enum FixturePlane {
    static func apply(_ setting: (name: String, value: String), to settings: inout ProxySettings) throws {
        switch (setting.name, setting.value) {
        case ("forwarded", "x"): settings.frontends[0].forwarded = .x
        case ("forwarded", "rfc7239"): settings.frontends[0].forwarded = .rfc7239
        case ("forwarded", "both"): settings.frontends[0].forwarded = .both
        case ("trusted", "loopback"):
            let address = SocketAddress(high: 0x7f00_0000 << 32, low: 0, port: 0, isIPv6: false)
            settings.frontends[0].trustedProxies = [Network(address, prefix: 8)]
        case ("hidden", "nothing"): settings.frontends[0].hides = []
        case ("hidden", "server"): settings.frontends[0].hides = .server
        case ("body", let bytes): settings.limits.requestBodyBytesMax = UInt64(bytes) ?? 0
        case ("page", let status):
            let page = ErrorPage(status: Int(status) ?? 0, contentType: "text/plain", body: Array("sorry\n".utf8))
            settings.frontends[0].errorPages.append(page)
        default: throw FixtureProblem(description: "no setting \(setting.name) \(setting.value)")
        }
    }
}
