// ReloadTests: settings that change while clients are served: what stays isn't touched, what goes ends in order.

import Glibc
import Synchronization
import Testing

@testable import Proxy

@Suite("Reload") struct ReloadTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private static let loopback = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)

    private static func settings(
        _ frontends: [(name: String, port: UInt16, backend: Int)], backends: [String] = ["api"]
    )
        -> ProxySettings
    {
        ProxySettings(
            workers: 2,
            frontends: frontends.map {
                let address = SocketAddress(
                    high: loopback.high, low: loopback.low, port: $0.port, isIPv6: loopback.isIPv6)
                return FrontendSettings(name: $0.name, address: address, backend: $0.backend)
            }, backends: backends.map { BackendSettings(name: $0) }, timeouts: .endless)
    }

    /// A plane whose first frontend has a port of the kernel's choice that later settings can name.
    private static func start(_ table: RoutingTable) throws -> (plane: DataPlane, port: UInt16) {
        let port = try freePort()
        let plane = try DataPlane(settings([("http", port, 0)]))
        plane.publish(table)
        try plane.start()
        return (plane, port)
    }

    private static func table(_ version: UInt64, _ servers: [(backend: String, server: TestServer)]) -> RoutingTable {
        RoutingTable(
            version: version,
            backends: servers.map { pair in
                let route = ServerRoute(id: "\(pair.backend)/1", address: pair.server.route.address)
                return BackendRoutes(name: pair.backend, servers: [route])
            })
    }

    /// What one request on a connection of its own is answered.
    private static func ask(_ port: UInt16) throws -> String {
        let wire = try Wire(port: port)
        try wire.send(get)
        return try wire.readMessage().text
    }

    @Test("a frontend that is added answers, one that stays keeps its connections") func adding() throws {
        let (one, two) = (try TestServer.saying("one"), try TestServer.saying("two"))
        let (plane, port) = try Self.start(Self.table(1, [("api", one)]))
        defer { plane.stop() }
        let kept = try Wire(port: port)
        try kept.send(Self.get)
        #expect(try kept.readMessage().text == "one")
        let other = try freePort()
        try plane.apply(
            Self.settings([("http", port, 0), ("other", other, 1)], backends: ["api", "second"]),
            Self.table(2, [("api", one), ("second", two)]))
        #expect(plane.ports == [port, other])
        #expect(try Self.ask(other) == "two")
        try kept.send(Self.get)
        let response = try kept.readMessage()
        #expect(response.text == "one" && response["connection"] == [])
    }

    @Test("a frontend's new name and backend hold from the next request of its open connections") func changing() throws
    {
        let (one, two) = (try TestServer.saying("one"), try TestServer.saying("two"))
        let (plane, port) = try Self.start(Self.table(1, [("api", one)]))
        defer { plane.stop() }
        let kept = try Wire(port: port)
        try kept.send(Self.get)
        #expect(try kept.readMessage().text == "one")
        // The backends stand in another order, and the table of before is still the last one published.
        try plane.apply(
            Self.settings([("web", port, 0)], backends: ["second", "api"]),
            Self.table(2, [("api", one), ("second", two)]))
        #expect(try eventually { try Self.ask(port) == "two" })
        try kept.send(Self.get)
        #expect(try kept.readMessage().text == "two")
    }

    @Test("a table that speaks of backends the settings don't have counts for the others only") func generations()
        throws
    {
        let (one, two) = (try TestServer.saying("one"), try TestServer.saying("two"))
        let (plane, port) = try Self.start(Self.table(1, [("gone", two), ("api", one)]))
        defer { plane.stop() }
        #expect(try Self.ask(port) == "one")
        try plane.apply(Self.settings([("http", port, 0)], backends: ["second"]))
        // Nothing is known of this backend's servers, whatever stood in its place before.
        #expect(try eventually { try Self.ask(port).contains("503") })
        plane.publish(Self.table(2, [("second", two)]))
        #expect(try eventually { try Self.ask(port) == "two" })
    }

    @Test("a removed frontend: what is in flight ends well, idle clients are let go, the port is free") func removing()
        throws
    {
        let gate = Mutex(false)
        let server = try TestServer { wire, _, log in
            while true {
                let request = log.note(try wire.readMessage())
                while request.startLine.contains("slow"), !gate.withLock({ $0 }) { usleep(1_000) }
                try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        let (plane, port) = try Self.start(Self.table(1, [("api", server)]))
        defer { plane.stop() }
        let (busy, used, idle) = (try Wire(port: port), try Wire(port: port), try Wire(port: port))
        for wire in [used, idle] {
            try wire.send(Self.get)
            #expect(try wire.readMessage()["connection"] == [])
        }
        try busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(eventually { server.requests.count == 3 })
        // Connected, and silent: the kernel hasn't shown it to a worker yet.
        let silent = try Wire(port: port)
        let other = try freePort()
        try plane.apply(Self.settings([("other", other, 0)]))
        // At once: who is still idle when the frontend ends (`leaveMs`) is let go.
        try silent.send(Self.get)
        try used.send(Self.get)
        #expect(try used.readMessage()["connection"] == ["close"])
        #expect(used.isClosed())
        #expect(try silent.readMessage().text == "ok")
        #expect(idle.isClosed())
        gate.withLock { $0 = true }
        let last = try busy.readMessage()
        #expect(last.text == "ok" && last["connection"] == ["close"])
        #expect(try Self.ask(other) == "ok")
        // Nobody listens any more: another plane gets the port.
        #expect(eventually { (try? DataPlane(Self.settings([("http", port, 0)]))) != nil })
        #expect(eventually { plane.figures.connections == 0 })
    }

    @Test("a frontend that was removed and comes back has lost nobody") func comingBack() throws {
        let server = try TestServer.saying("hello")
        let (plane, port) = try Self.start(Self.table(1, [("api", server)]))
        defer { plane.stop() }
        let kept = try Wire(port: port)
        try kept.send(Self.get)
        _ = try kept.readMessage()
        let other = try freePort()
        for _ in 0..<20 {
            try plane.apply(Self.settings([("other", other, 0)]))
            try plane.apply(Self.settings([("http", port, 0), ("other", other, 0)]))
        }
        #expect(try Self.ask(port) == "hello")
        try kept.send(Self.get)
        #expect(try kept.readMessage().text == "hello")
    }

    @Test("a port in use changes nothing, and is named") func taken() throws {
        let (one, two) = (try TestServer.saying("one"), try TestServer.saying("two"))
        let (plane, port) = try Self.start(Self.table(1, [("api", one)]))
        defer { plane.stop() }
        let problem = #expect(throws: ProxyProblem.self) {
            try plane.apply(
                Self.settings([("http", port, 0), ("second", two.port, 1)], backends: ["second", "api"]),
                Self.table(2, [("second", two)]))
        }
        #expect(problem?.description.contains("frontend second (127.0.0.1:\(two.port)): port") == true)
        #expect(try Self.ask(port) == "one")
        #expect(plane.ports == [port])
    }

    @Test("timeouts and limits hold for connections that are open") func timeouts() throws {
        let server = try TestServer.saying("hello")
        let (plane, port) = try Self.start(Self.table(1, [("api", server)]))
        defer { plane.stop() }
        let wire = try Wire(port: port)
        try wire.send(Self.get)
        _ = try wire.readMessage()
        var settings = Self.settings([("http", port, 0)])
        settings.limits.fieldsMax = 2
        try plane.apply(settings)
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n")
        #expect(try wire.readMessage().status == 431)
        let other = try Wire(port: port)
        try other.send(Self.get)
        #expect(try other.readMessage().text == "hello")
        settings.timeouts.keepAliveMs = 50
        settings.timeouts.requestMs = 50
        try plane.apply(settings)
        // What it waits for from the next event on has the new times.
        try other.send("GET / HTTP/1.1\r\n")
        #expect(try other.readMessage().status == 408)
        let another = try Wire(port: port)
        try another.send(Self.get)
        #expect(try another.readMessage().text == "hello")
        #expect(another.isClosed())
    }

    @Test("a lower limit of connections lets those that are open go on, a higher one lets more in") func connections()
        throws
    {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route]) { $0.limits.connectionsMax = 2 }
        var settings = ProxySettings(
            frontends: [FrontendSettings(name: "http", address: Self.loopback, backend: 0)],
            backends: [BackendSettings(name: "api")], timeouts: .endless)
        settings.limits.connectionsMax = 1
        let wires = try (0..<2).map { _ in try plane.connect() }
        for wire in wires {
            try wire.send(Self.get)
            _ = try wire.readMessage()
        }
        try plane.plane.apply(settings)
        #expect(plane.plane.ports == [plane.port])
        for wire in wires {
            try wire.send(Self.get)
            #expect(try wire.readMessage().text == "hello")
        }
        let third = try plane.connect()
        try third.send(Self.get)
        #expect(!third.isClosed(within: 150))
        settings.limits.connectionsMax = 3
        try plane.plane.apply(settings)
        #expect(try third.readMessage().text == "hello")
    }
}
