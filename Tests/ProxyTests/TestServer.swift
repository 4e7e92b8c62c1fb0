// TestServer: a small blocking HTTP server for tests: a thread per connection runs what the test says.

import Foundation
import Glibc
import Synchronization
import Testing

@testable import Proxy

/// What a test server saw, and its sockets. Shared with its threads.
final class ServerLog: Sendable {
    private let listener: Int32
    private let state = Mutex(State())

    private struct State {
        var connections = 0
        var requests: [WireMessage] = []
        /// Kept here, so that none of their numbers is another's when `stop` uses it.
        var open: [Wire] = []
        var isClosed = false
    }

    fileprivate init(listener: Int32) { self.listener = listener }

    deinit { close(listener) }

    @discardableResult func note(_ request: WireMessage) -> WireMessage {
        state.withLock { $0.requests.append(request) }
        return request
    }

    var requests: [WireMessage] { state.withLock { $0.requests } }
    var connections: Int { state.withLock { $0.connections } }

    fileprivate func run(_ serve: @escaping @Sendable (Wire, Int, ServerLog) throws -> Void) {
        while true {
            let descriptor = uninterrupted { accept(listener, nil, nil) }
            if descriptor < 0 { return }
            let wire = Wire(descriptor: descriptor, timeoutMs: 4 * waitMsMax)
            let number = state.withLock {
                $0.connections += 1
                $0.open.append(wire)
                return $0.connections
            }
            Thread.detachNewThread {
                try? serve(wire, number, self)
                self.state.withLock { $0.open.removeAll { $0 === wire } }
            }
        }
    }

    fileprivate func stop() {
        let open = state.withLock { state -> [Wire] in
            if state.isClosed { return [] }
            state.isClosed = true
            // Refuses from now on, and keeps the port from being given to another test.
            shutdown(listener, Int32(SHUT_RDWR))
            return state.open
        }
        for wire in open { shutdown(wire.descriptor, Int32(SHUT_RDWR)) }
    }
}

final class TestServer: Sendable {
    let port: UInt16
    let log: ServerLog

    /// - Parameter serve: called for each connection with its number, from 1; the connection closes when it returns.
    init(port: UInt16 = 0, _ serve: @escaping @Sendable (Wire, Int, ServerLog) throws -> Void) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var reuses: Int32 = port == 0 ? 0 : 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuses, 4)
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: port, isIPv6: false)
        let outcome = address.withSockaddr { bind(listener, $0, $1) }
        precondition(outcome == 0 && listen(listener, 128) == 0)
        self.port = System.localPort(listener)
        let log = ServerLog(listener: listener)
        self.log = log
        Thread.detachNewThread { log.run(serve) }
    }

    /// Answers every request of every connection.
    static func answering(
        port: UInt16 = 0, _ answer: @escaping @Sendable (WireMessage) -> String
    ) throws -> TestServer {
        try TestServer(port: port) { wire, _, log in
            while true {
                let request = try log.note(wire.readMessage())
                try wire.send(answer(request))
            }
        }
    }

    /// Answers every request with 200 and this body.
    static func saying(_ text: String, port: UInt16 = 0) throws -> TestServer {
        try answering(port: port) { _ in
            "HTTP/1.1 200 OK\r\nServer: secret\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)"
        }
    }

    deinit { stop() }

    var requests: [WireMessage] { log.requests }
    var connections: Int { log.connections }

    /// Listens no more and closes every connection, as a killed process does.
    func stop() { log.stop() }

    var route: ServerRoute { Self.route(port: port) }

    static func route(port: UInt16, weight: Int = 1, usable: Bool = true) -> ServerRoute {
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: port, isIPv6: false)
        return ServerRoute(id: "api/\(port)", address: address, weight: weight, usable: usable)
    }
}

/// A port on which nothing listens. It stays bound until the process ends, so that nobody else gets it.
func closedPort() -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)
    let outcome = address.withSockaddr { bind(descriptor, $0, $1) }
    precondition(outcome == 0)
    return System.localPort(descriptor)
}

/// A port that settings can name: nobody listens there, and nobody is given it. The kernel gives others away to whoever asks
/// for any, clients included, and all tests run at the same time.
func freePort() throws -> UInt16 {
    while true {
        let number = nextPort.wrappingAdd(1, ordering: .relaxed).oldValue
        let port = try #require(UInt16(exactly: 20_000 + number % 10_000))
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: port, isIPv6: false)
        if address.withSockaddr({ bind(descriptor, $0, $1) }) == 0 { return port }
    }
}

/// Begins elsewhere in each run: two may test at the same time.
private let nextPort = Atomic(Int(getpid()) * 97 % 10_000)

/// A running data plane with one HTTP frontend.
final class TestPlane {
    let plane: DataPlane
    let port: UInt16
    private var version: UInt64 = 0

    init(
        _ routes: [ServerRoute], balance: Balance = .roundRobin, workers: Int = 1,
        adjust: (inout ProxySettings) -> Void = { _ in }
    ) throws {
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)
        var settings = ProxySettings(
            workers: workers, frontends: [FrontendSettings(name: "http", address: address, backend: 0)],
            backends: [BackendSettings(name: "api", balance: balance)], timeouts: .endless)
        adjust(&settings)
        plane = try DataPlane(settings)
        port = plane.ports[0]
        publish(routes)
        try plane.start()
    }

    deinit { plane.stop() }

    func publish(_ routes: [ServerRoute]) {
        version += 1
        plane.publish(RoutingTable(version: version, backends: [BackendRoutes(name: "api", servers: routes)]))
    }

    func connect(receiveBytes: Int32? = nil) throws -> Wire { try Wire(port: port, receiveBytes: receiveBytes) }

    /// One request on a connection of its own.
    func get(_ path: String = "/") throws -> WireMessage {
        let wire = try connect()
        try wire.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
        return try wire.readMessage()
    }

    /// The figures as soon as they are as wanted, or as they are at the limit.
    func figures(_ isRight: (Figures) -> Bool) -> Figures {
        var figures = plane.figures
        _ = eventually {
            figures = plane.figures
            return isRight(figures)
        }
        return figures
    }
}
