// FailureTests: what clients see when servers refuse, close, freeze or vanish, and when clients themselves misbehave.

import Glibc
import Synchronization
import Testing

@testable import Proxy

@Suite("Failures") struct FailureTests {
    private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    /// A request with a body that can't be repeated once a server got it.
    private static let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"

    @Test("a server that refuses connections costs no request, whatever the method, and is reported") func refusing()
        throws
    {
        let good = try TestServer.saying("good")
        let dead = TestServer.route(port: closedPort())
        let plane = try TestPlane([dead, good.route])
        let begun = System.bootNanoseconds()
        for _ in 0..<4 {
            let wire = try plane.connect()
            try wire.send(Self.post)
            #expect(try wire.readMessage().text == "good")
        }
        let figures = plane.plane.figures
        // Avoided for a while after each failure, as long as another server is left.
        #expect(figures.retries >= 1 && figures.retries <= 1 + avoidanceEnds(since: begun))
        #expect(figures.servers[dead.id]?.errors == figures.retries && figures.errors == 0)
        #expect(plane.plane.takeSuspicions().map(\.id) == [dead.id])
        #expect(plane.plane.takeSuspicions().map(\.id) == [])
    }

    @Test("a server that closes before its response: repeated elsewhere if idempotent, else 502") func closing() throws
    {
        let good = try TestServer.saying("good")
        let bad = try TestServer { wire, _, log in log.note(try wire.readMessage()) }
        let plane = try TestPlane([bad.route])
        let first = try plane.connect()
        try first.send(Self.post)
        #expect(try first.readMessage().status == 502)
        #expect(bad.requests.count == 1)
        // Its own failure is over for the balancer when it is the only one, and it is tried again.
        plane.publish([bad.route])
        #expect(try plane.get().status == 502)
        plane.publish([good.route, bad.route])
        for _ in 0..<4 { #expect(try plane.get().text == "good") }
        #expect(plane.plane.takeSuspicions().map(\.id) == [bad.route.id])
    }

    @Test("a repeated request arrives whole, body included") func replay() throws {
        let good = try TestServer.saying("good")
        let bad = try TestServer { wire, _, log in log.note(try wire.readMessage()) }
        let plane = try TestPlane([good.route, bad.route])
        for _ in 0..<2 {
            let wire = try plane.connect()
            try wire.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            usleep(20_000)
            try wire.send("hello")
            #expect(try wire.readMessage().text == "good")
        }
        #expect(bad.requests.map(\.text) == ["hello"])
        #expect(good.requests.map(\.text) == ["hello", "hello"])
    }

    @Test("a server that dies within its response: the client sees it cut, not whole, at once")
    func dyingWithin() throws {
        for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
            let server = try TestServer { wire, _, _ in
                _ = try wire.readMessage()
                try wire.send("HTTP/1.1 200 OK\r\n\(head)\r\n\r\n5\r\nh")
            }
            let plane = try TestPlane([server.route])
            let wire = try plane.connect()
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(throws: WireFailure.ended) { try wire.readMessage() }
            #expect(plane.figures { $0.errors == 1 }.errors == 1)
        }
    }

    @Test("a reset within a response that ends with its connection reaches the client as a reset")
    func resetUntilClose()
        throws
    {
        let gate = Mutex(false)
        let server = try TestServer { wire, _, _ in
            _ = try wire.readMessage()
            try wire.send("HTTP/1.1 200 OK\r\n\r\npart")
            while !gate.withLock({ $0 }) { usleep(1_000) }
            wire.resetOnClose()
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _ = try wire.readHead()
        #expect(try wire.read(4) == Array("part".utf8))
        gate.withLock { $0 = true }
        #expect(throws: WireFailure.reset) { try wire.readToEnd() }
    }

    @Test("a frozen server: 504 after the server timeout, and the client keeps its connection") func frozen() throws {
        let server = try TestServer { wire, number, log in
            log.note(try wire.readMessage())
            if number == 1 { _ = try? wire.readToEnd() } else { try wire.send(Self.ok) }
        }
        var settings: ProxySettings?
        let plane = try TestPlane([server.route]) {
            $0.timeouts.serverMs = 400
            settings = $0
        }
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let response = try wire.readMessage()
        #expect(response.status == 504 && response["connection"] == [])
        #expect(plane.plane.takeSuspicions().map(\.id) == [server.route.id])
        // The next answer may take the server longer than that on a busy machine.
        settings?.timeouts = .endless
        try plane.plane.apply(try #require(settings))
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage().text == "ok")
        #expect(server.requests.count == 2)
    }

    @Test("a server whose host answers nothing: the connect timeout, then another server or 504") func blackHole()
        throws
    {
        // A full backlog drops SYNs, as a dead host does.
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        let local = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)
        try #require(local.withSockaddr { bind(listener, $0, $1) } == 0 && listen(listener, 0) == 0)
        let hole = TestServer.route(port: System.localPort(listener))
        let fillers = try (0..<3).map { _ in
            let descriptor = try System.socket(AF_INET, SOCK_STREAM.rawValue)
            _ = System.connect(descriptor, hole.address)
            return descriptor
        }
        defer { fillers.forEach(System.close) }
        let plane = try TestPlane([hole]) { $0.timeouts.connectMs = 400 }
        #expect(try plane.get().status == 504)
        let good = try TestServer.saying("good")
        plane.publish([hole, good.route])
        for _ in 0..<2 { #expect(try plane.get().text == "good") }
    }

    @Test("no usable server: 503 that says when to come back; then all is well again") func noServer() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([])
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        var response = try wire.readMessage()
        #expect(response.status == 503 && response["retry-after"] == ["1"] && response["connection"] == [])
        #expect(response.text.contains("No server is available"))
        plane.publish([TestServer.route(port: server.port, usable: false)])
        try wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage(hasBody: false).status == 503)
        plane.publish([TestServer.route(port: server.port, weight: 0)])
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage().status == 503)
        plane.publish([server.route])
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        response = try wire.readMessage()
        #expect(response.text == "hello")
        #expect(plane.plane.figures.errors == 3)
    }

    @Test("every server refuses: 502 after as many attempts as allowed") func allRefuse() throws {
        let dead = (0..<5).map { _ in TestServer.route(port: closedPort()) }
        let plane = try TestPlane(dead)
        #expect(try plane.get().status == 502)
        #expect(plane.plane.figures.retries == 2)
    }

    @Test("a pooled connection that the server closed meanwhile costs nothing") func stale() throws {
        let server = try TestServer { wire, _, log in
            log.note(try wire.readMessage())
            try wire.send(Self.ok)
            // Closes without saying so, as servers do that restart or run out of patience.
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for method in ["GET", "POST", "PUT", "POST", "GET"] {
            _ = plane.figures { $0.servers[server.route.id]?.connections == 0 }
            try wire.send("\(method) / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            #expect(try wire.readMessage().text == "ok")
        }
        #expect(server.requests.count == 5)
        #expect(plane.plane.figures.errors == 0)
        #expect(plane.plane.takeSuspicions().map(\.id) == [])
    }

    @Test("a pooled connection that closes as the request reaches it: repeated on a fresh one") func staleInFlight()
        throws
    {
        let server = try TestServer { wire, number, log in
            log.note(try wire.readMessage())
            try wire.send(Self.ok)
            if number == 1 { log.note(try wire.readMessage()) }
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for _ in 0..<2 {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try wire.readMessage().text == "ok")
        }
        #expect(server.requests.count == 3 && server.connections == 2)
        let figures = plane.plane.figures
        #expect(figures.retries == 0 && figures.servers[server.route.id]?.retries == 1)
    }

    @Test("a killed server: idle connections are dropped and no request fails") func killed() throws {
        let servers = try ["a", "b"].map { try TestServer.saying($0) }
        let plane = try TestPlane(servers.map(\.route))
        let wires = try (0..<8).map { _ in try plane.connect() }
        for round in 0..<6 {
            for wire in wires { try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
            if round == 2 { servers[0].stop() }
            for wire in wires { #expect(try wire.readMessage().status == 200) }
        }
        plane.publish([TestServer.route(port: servers[0].port, usable: false), servers[1].route])
        #expect(plane.figures { $0.servers[servers[0].route.id]?.connections == 0 }.errors == 0)
    }

    @Test("a server that becomes unusable loses its idle connections, not its requests in flight") func unusable()
        throws
    {
        let gate = Mutex(false)
        let server = try TestServer { wire, number, log in
            while true {
                let request = try wire.readMessage()
                while request.startLine.contains("slow"), !gate.withLock({ $0 }) { usleep(1_000) }
                try wire.send(Self.ok)
            }
        }
        let plane = try TestPlane([server.route])
        _ = try plane.get()
        let slow = try plane.connect()
        try slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        _ = try plane.get()
        let id = server.route.id
        // The client may hear its response before the worker has counted it.
        let before = plane.figures { $0.servers[id]?.connections == 2 && $0.servers[id]?.sessions == 1 }.servers[id]
        #expect(before?.connections == 2 && before?.sessions == 1)
        plane.publish([TestServer.route(port: server.port, usable: false)])
        #expect(plane.figures { $0.servers[id]?.connections == 1 }.servers[id]?.connections == 1)
        gate.withLock { $0 = true }
        #expect(try slow.readMessage().text == "ok")
        #expect(plane.figures { $0.servers[id]?.connections == 0 }.servers[id]?.connections == 0)
    }

    @Test("a client that goes away takes its request to the server along") func clientGone() throws {
        let ended = Mutex(0)
        let server = try TestServer { wire, _, log in
            log.note(try wire.readHead())
            defer { ended.withLock { $0 += 1 } }
            _ = try wire.readToEnd()
        }
        let plane = try TestPlane([server.route])
        var wire: Wire? = try plane.connect()
        try wire?.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(eventually { server.requests.count == 1 })
        wire?.resetOnClose()
        wire = nil
        let figures = plane.figures {
            $0.aborted == 1 && $0.connections == 0 && $0.servers[server.route.id]?.connections == 0
        }
        #expect(figures.aborted == 1 && figures.connections == 0 && figures.inFlight == 0)
        // A body that ends early must not look complete to the server.
        wire = try plane.connect()
        try wire?.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        #expect(eventually { server.requests.count == 2 })
        wire?.shutdownWrite()
        #expect(wire?.isClosed() == true)
        #expect(plane.figures { $0.aborted == 2 }.aborted == 2)
    }

    @Test("retries stop when their budget is used up") func budget() throws {
        let dead = (0..<3).map { _ in TestServer.route(port: closedPort()) }
        let plane = try TestPlane(dead)
        let begun = System.bootNanoseconds()
        let wire = try plane.connect()
        for _ in 0..<60 {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try wire.readMessage().status == 502)
        }
        let figures = plane.plane.figures
        // 30 to begin with, a fifth of a retry for each request, three a second: of the two that each request wants.
        #expect(figures.retries >= 42 && figures.retries <= 42 + 3 * (1 + elapsedMs(since: begun) / 1_000))
        #expect(figures.retriesDenied > 0 || figures.retries == 120)
    }
}
