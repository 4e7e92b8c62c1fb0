// StickingTests: clients with cookies through running data planes, over real sockets: who answers, and what each side sees.

import Testing

@testable import Proxy

/// A client that keeps the cookie it was given.
private final class Visitor {
    private let plane: TestPlane
    private(set) var jar: String?
    /// Times it was given one.
    private(set) var given = 0

    init(_ plane: TestPlane, jar: String? = nil) {
        self.plane = plane
        self.jar = jar
    }

    /// Who answers.
    @discardableResult func ask(_ start: String = "GET / HTTP/1.1", on wire: Wire? = nil) throws -> String {
        let wire = try wire ?? plane.connect()
        try wire.send("\(start)\r\nHost: a\r\n\(jar.map { "Cookie: x=1; srv=\($0)\r\n" } ?? "")\r\n")
        let message = try wire.readMessage(hasBody: !start.hasPrefix("HEAD"))
        for line in message["Set-Cookie"] {
            let value = line.dropFirst("srv=".count).prefix { $0 != ";" }
            #expect(line == "srv=\(value); Path=/; HttpOnly; SameSite=Lax" && value.utf8.count == 22)
            jar = String(value)
            given += 1
        }
        #expect(message["Set-Cookie"].count <= 1)
        return message["X-Server"].first ?? "\(message.status)"
    }
}

@Suite("Sticking") struct StickingTests {
    private static let key = StickCookieTests.key(3)
    private static let cookie = StickCookie(name: "srv", keys: [key])

    private static func server(_ number: Int, _ fields: String = "") throws -> TestServer {
        try TestServer.answering { _ in
            "HTTP/1.1 200 OK\r\nX-Server: s\(number)\r\n\(fields)Content-Length: 2\r\n\r\nok"
        }
    }

    private static func routes(_ servers: [TestServer]) -> [ServerRoute] {
        servers.enumerated().map { number, server in
            var route = server.route
            route.id = "api/s\(number)"
            return route
        }
    }

    private static func plane(
        _ routes: [ServerRoute], _ balance: Balance = .roundRobin, workers: Int = 1, cookie: StickCookie = cookie,
        adjust: (inout ProxySettings) -> Void = { _ in }
    ) throws -> TestPlane {
        try TestPlane(routes, balance: balance, workers: workers) {
            $0.backends[0].stickCookie = cookie
            adjust(&$0)
        }
    }

    @Test(
        "who has a cookie stays where it was, on every node, and those who have none are balanced as ever",
        arguments: [Balance.roundRobin, .leastConnections, .random, .hash, .first]) func stays(_ balance: Balance)
        throws
    {
        let servers = try (0..<4).map { try Self.server($0) }
        let routes = Self.routes(servers)
        let one = try Self.plane(routes, balance)
        // Learned in another order, with other workers: another node.
        let other = try Self.plane(routes.reversed(), balance, workers: 2)
        var seen: Set<String> = []
        for _ in 0..<4 {
            let visitor = Visitor(one)
            let home = try visitor.ask()
            seen.insert(home)
            for _ in 0..<3 { #expect(try visitor.ask() == home) }
            let moved = Visitor(other, jar: visitor.jar)
            for _ in 0..<4 { #expect(try moved.ask() == home) }
            #expect(visitor.given == 1 && moved.given == 0)
        }
        if balance == .roundRobin { #expect(seen.count == 4) }
        // No server ever saw it; what was beside it came through.
        let requests = servers.flatMap(\.requests)
        #expect(requests.allSatisfy { !$0["Cookie"].joined().contains("srv") })
        #expect(requests.filter { $0["Cookie"] == ["x=1"] }.count == 4 * 7)
    }

    @Test("a cookie that says nothing is replaced; of two the one that counts is taken") func unusable() throws {
        let servers = try (0..<4).map { try Self.server($0) }
        let plane = try Self.plane(Self.routes(servers))
        let good = Visitor(plane)
        let home = try good.ask()
        let value = try #require(good.jar)
        let stranger = StickCookieTests.key(77).value(for: StableHash.of("api/s1".utf8), nonce: 5)
        let strange = String(decoding: (0..<StickValue.characters).map(stranger.character), as: UTF8.self)
        for jar in ["", "x", "s1", String(value.dropLast()), String(value.reversed()), strange, "\(value)\(value)"] {
            let visitor = Visitor(plane, jar: jar)
            let first = try visitor.ask()
            #expect(visitor.given == 1 && visitor.jar != jar, "\(jar)")
            #expect(try visitor.ask() == first && visitor.given == 1)
        }
        for jar in ["x; srv=\(value)", "\(strange); srv=\"\(value)\"", "\(value); srv=\(strange)"] {
            let visitor = Visitor(plane, jar: jar)
            #expect(try visitor.ask() == home && visitor.given == 0, "\(jar)")
        }
    }

    @Test("drained, down or removed, with no weight, or a backup that isn't needed: balanced anew, with a new cookie")
    func unavailable() throws {
        let servers = try (0..<3).map { try Self.server($0) }
        let routes = Self.routes(servers)
        let plane = try Self.plane(routes)
        let visitor = Visitor(plane)
        let wire = try plane.connect()
        let changes: [(inout ServerRoute) -> Void] = [
            { $0.usable = false }, { $0.weight = 0 }, { $0.isBackup = true }, { $0.id = "api/another" },
        ]
        for change in changes {
            let home = try visitor.ask(on: wire)
            let before = visitor.given
            let number = try #require(Int(home.dropFirst()))
            var changed = routes
            change(&changed[number])
            plane.publish(changed)
            var now = try visitor.ask(on: wire)
            // The worker may read its mail after the next request. Another id is the same server, with another cookie.
            for _ in 0..<500 where visitor.given == before { now = try visitor.ask(on: wire) }
            #expect(visitor.given == before + 1)
            if changed[number].id == routes[number].id {
                #expect(now != home)
                for _ in 0..<6 { #expect(try visitor.ask(on: wire) == now) }
                #expect(visitor.given == before + 1)
            }
            plane.publish(routes)
        }
    }

    /// What a node gives for this server.
    private static func jar(_ id: String, key: StickKey = key) -> String {
        let value = key.value(for: StableHash.of(id.utf8), nonce: 42)
        return String(decoding: (0..<StickValue.characters).map(value.character), as: UTF8.self)
    }

    @Test("after a retry the client has the cookie of who answered") func retries() throws {
        let broken = try TestServer { wire, _, _ in _ = try wire.readMessage() }
        let good = try Self.server(1)
        for first in [TestServer.route(port: closedPort()), broken.route] {
            var (bad, route) = (first, good.route)
            (bad.id, route.id) = ("api/bad", "api/s1")
            let plane = try Self.plane([bad, route])
            let visitor = Visitor(plane, jar: Self.jar("api/bad"))
            #expect(try visitor.ask() == "s1" && visitor.given == 1)
            let figures = plane.plane.figures
            #expect(figures.retries == 1 && figures.errors == 0)
            #expect(try visitor.ask() == "s1" && visitor.given == 1)
            #expect(plane.plane.figures.retries == 1)
            // With nobody else left it is asked.
            plane.publish([bad])
            var answer = ""
            for _ in 0..<500 where answer != "502" { answer = try visitor.ask() }
            #expect(answer == "502" && visitor.given == 1)
        }
    }

    @Test("a full server's client goes to another one; when all are full it waits and takes what comes") func full()
        throws
    {
        let servers = try (0..<2).map { number in
            try TestServer { wire, _, log in
                let message = try log.note(wire.readMessage())
                // Holds its request until the client ends the other one.
                if message.startLine.contains("/hold") { _ = wire.isClosed(within: 4 * waitMsMax) }
                try wire.send("HTTP/1.1 200 OK\r\nX-Server: s\(number)\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        let routes = Self.routes(servers).map { route in
            var route = route
            route.connectionsMax = 1
            return route
        }
        let plane = try Self.plane(routes)
        func hold(_ number: Int) throws -> Wire {
            let wire = try plane.connect()
            try wire.send("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: srv=\(Self.jar("api/s\(number)"))\r\n\r\n")
            #expect(
                plane.figures { $0.servers["api/s\(number)"]?.sessions == 1 }.servers["api/s\(number)"]?.sessions == 1)
            return wire
        }
        var holding = [try hold(0)]
        let visitor = Visitor(plane, jar: Self.jar("api/s0"))
        #expect(try visitor.ask() == "s1" && visitor.given == 1)
        holding.append(try hold(1))
        let waiting = try plane.connect()
        try waiting.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: srv=\(Self.jar("api/s1"))\r\n\r\n")
        #expect(plane.figures { $0.backends["api"]?.queued == 1 }.backends["api"]?.queued == 1)
        holding[0].resetOnClose()
        holding.removeFirst()
        let answer = try waiting.readMessage()
        #expect(answer["X-Server"] == ["s0"] && answer["Set-Cookie"].count == 1)
    }

    @Test("1.0 clients, HEAD, 304, and what comes before an answer; nothing with answers of our own") func kinds()
        throws
    {
        let server = try TestServer.answering { request in
            request.startLine.contains("/304")
                ? "HTTP/1.1 304 Not Modified\r\nX-Server: s0\r\n\r\n"
                : "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                    + "HTTP/1.1 200 OK\r\nX-Server: s0\r\nCache-Control: public\r\nContent-Length: 2\r\n\r\n"
                    + (request.startLine.hasPrefix("HEAD") ? "" : "ok")
        }
        let plane = try Self.plane(Self.routes([server]))
        let old = Visitor(plane)
        #expect(try old.ask("GET / HTTP/1.0") == "s0" && old.given == 1)
        #expect(try old.ask("GET / HTTP/1.0") == "s0" && old.given == 1)
        let unchanged = Visitor(plane)
        #expect(try unchanged.ask("GET /304 HTTP/1.1") == "s0" && unchanged.given == 1)
        for start in ["GET /", "HEAD /"] {
            let wire = try plane.connect()
            for jar in [nil, old.jar] {
                let cookie = jar.map { "Cookie: srv=\($0)\r\n" } ?? ""
                try wire.send("\(start) HTTP/1.1\r\nHost: a\r\n\(cookie)\r\n")
                let hints = try wire.readMessage()
                #expect(hints.status == 103 && hints["Set-Cookie"].isEmpty && hints["Cache-Control"].isEmpty)
                let answer = try wire.readMessage(hasBody: start == "GET /")
                #expect(answer.status == 200 && answer["Set-Cookie"].count == (jar == nil ? 1 : 0))
                #expect(answer["Cache-Control"] == ["public"])
            }
        }
        for request in ["GET / HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"] {
            let wire = try plane.connect()
            try wire.send(request)
            #expect(try wire.readMessage()["Set-Cookie"].isEmpty)
        }
        plane.publish([])
        let last = Visitor(plane)
        var answer = ""
        for _ in 0..<500 where answer != "503" { answer = try Visitor(plane, jar: old.jar).ask() }
        #expect(try last.ask() == "503" && last.given == 0)
    }

    @Test("a WebSocket's 101 carries the cookie, and what follows passes untouched") func upgrade() throws {
        let server = try TestServer { wire, _, log in
            try log.note(wire.readMessage())
            try wire.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            while true { try wire.send("you said " + wire.readLine() + "\r\n") }
        }
        let plane = try Self.plane(Self.routes([server]))
        for jar in [nil, Self.jar("api/s0")] {
            let wire = try plane.connect()
            let cookie = jar.map { "Cookie: srv=\($0); y=2\r\n" } ?? ""
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\(cookie)\r\n")
            let answer = try wire.readMessage()
            #expect(answer.status == 101 && answer["Set-Cookie"].count == (jar == nil ? 1 : 0))
            #expect(answer["Cache-Control"].isEmpty)
            try wire.send("Cookie: srv=1\r\n")
            #expect(try wire.readLine() == "you said Cookie: srv=1")
        }
        #expect(server.requests.last?["Cookie"] == ["y=2"])
    }

    @Test("requests that come together on one connection each go to their own server") func pipelined() throws {
        let servers = try (0..<3).map { try Self.server($0) }
        let plane = try Self.plane(Self.routes(servers))
        let wire = try plane.connect()
        let wanted = (0..<30).map { $0 * 7 % 3 }
        try wire.send(
            wanted.map { "GET / HTTP/1.1\r\nHost: a\r\nCookie: srv=\(Self.jar("api/s\($0)"))\r\n\r\n" }.joined())
        for number in wanted {
            let answer = try wire.readMessage()
            #expect(answer["X-Server"] == ["s\(number)"] && answer["Set-Cookie"].isEmpty)
        }
    }

    @Test("a reload turns it on and off, and takes keys through their change without losing anybody") func reload()
        throws
    {
        let servers = try (0..<3).map { try Self.server($0) }
        var settings = ProxySettings(frontends: [], backends: [])
        let port = try freePort()
        let plane = try TestPlane(Self.routes(servers)) {
            $0.frontends[0].address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: port, isIPv6: false)
            settings = $0
        }
        // The worker may read its mail after the next request.
        func apply(_ cookie: StickCookie?, until isThere: () throws -> Bool) throws {
            settings.backends[0].stickCookie = cookie
            try plane.plane.apply(settings)
            var seen = false
            for _ in 0..<1_000 where !seen { seen = try isThere() }
            #expect(seen)
        }
        /// Whether cookies of this key lead where they should, which by turns they wouldn't.
        func counts(_ key: StickKey) throws -> Bool {
            try [2, 1, 0, 0, 2].allSatisfy {
                try Visitor(plane, jar: Self.jar("api/s\($0)", key: key)).ask() == "s\($0)"
            }
        }
        let visitor = Visitor(plane)
        #expect(try Set((0..<3).map { _ in try visitor.ask() }).count == 3 && visitor.given == 0)
        let (old, new) = (Self.key, StickCookieTests.key(99))
        var home = ""
        try apply(StickCookie(name: "srv", keys: [old])) {
            home = try visitor.ask()
            return visitor.given == 1
        }
        try apply(StickCookie(name: "srv", keys: [old, new])) { try counts(new) }
        #expect(try visitor.ask() == home && visitor.given == 1)
        // Whoever comes with the former key's cookie gets one of the present key.
        try apply(StickCookie(name: "srv", keys: [new, old])) {
            let who = try visitor.ask()
            #expect(who == home)
            return visitor.given == 2
        }
        #expect(try counts(old) && counts(new))
        try apply(StickCookie(name: "srv", keys: [new])) { try !counts(old) }
        #expect(try visitor.ask() == home && visitor.given == 2)
        func cookies() throws -> [String] {
            let wire = try plane.connect()
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; srv=\(visitor.jar ?? "")\r\n\r\n")
            return try wire.readMessage()["Set-Cookie"]
        }
        try apply(StickCookie(name: "other", keys: [new])) { try cookies().first?.hasPrefix("other=") == true }
        try apply(nil) { try cookies().isEmpty }
        #expect(try Set((0..<3).map { _ in try visitor.ask() }).count == 3 && visitor.given == 2)
        // Nobody's cookie now: servers see it.
        #expect(servers.contains { $0.requests.last?["Cookie"] == ["x=1; srv=\(visitor.jar ?? "")"] })
    }
}
