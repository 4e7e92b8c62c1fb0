// BalancingTests: which server gets a request, through real sockets: keys, two nodes, drains, weights, backups.

import Testing

@testable import Proxy

@Suite("Balancing") struct BalancingTests {
    private static func servers(_ count: Int) throws -> [TestServer] {
        try (0..<count).map { try TestServer.saying("s\($0)") }
    }

    /// Routes with ids that don't depend on ports, so that a test's keys always fall alike.
    private static func routes(_ servers: [TestServer]) -> [ServerRoute] {
        servers.enumerated().map { number, server in
            var route = server.route
            route.id = "api/s\(number)"
            return route
        }
    }

    private static func hashing(_ routes: [ServerRoute], _ on: HashOn, workers: Int = 1) throws -> TestPlane {
        try TestPlane(routes, balance: .hash, workers: workers) { $0.backends[0].hashOn = on }
    }

    private static func ask(_ plane: TestPlane, _ path: String = "/", _ fields: String = "") throws -> String {
        let wire = try plane.connect()
        try wire.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
        return try wire.readMessage().text
    }

    @Test("two nodes choose alike by header, cookie, path and client, whatever order they learned the servers in")
    func twoNodes() throws {
        let servers = try Self.servers(5)
        let routes = Self.routes(servers)
        func compare(_ on: HashOn, _ request: (Int) -> (String, String)) throws -> Set<String> {
            let one = try Self.hashing(routes, on)
            let other = try Self.hashing(routes.reversed(), on, workers: 2)
            var seen: Set<String> = []
            for number in 0..<24 {
                let (path, fields) = request(number)
                let text = try Self.ask(one, path, fields)
                #expect(try Self.ask(other, path, fields) == text, "\(on) \(number)")
                #expect(try Self.ask(one, path, fields) == text)
                seen.insert(text)
            }
            return seen
        }
        #expect(try compare(.header("X-User")) { ("/\($0)", "x-user: u\($0)\r\n") }.count == 5)
        #expect(try compare(.cookie("sid")) { ("/", "Cookie: a=b; sid=\"u\($0)\"; z=\($0)\r\n") }.count == 5)
        #expect(try compare(.uri) { ("/page/\($0)?\($0 % 2)", "") }.count == 5)
        #expect(try compare(.source) { ("/\($0)", "") }.count == 1)
    }

    @Test("the query is no part of the path's key, a header's name is read in any case, a key may be missing")
    func keys() throws {
        let servers = try Self.servers(4)
        let uri = try Self.hashing(Self.routes(servers), .uri)
        let first = try Self.ask(uri, "/a")
        for query in ["?", "?a", "?b=c&d"] { #expect(try Self.ask(uri, "/a\(query)") == first) }
        let header = try Self.hashing(Self.routes(servers), .header("X-User"))
        let user = try Self.ask(header, "/", "X-USER: joe\r\n")
        #expect(try Self.ask(header, "/", "x-user:joe\r\nx-user: ann\r\n") == user)
        // Without it, or with nothing in it, all take turns.
        for fields in ["", "X-User: \r\n", "X-Users: joe\r\n"] {
            #expect(try Set((0..<4).map { _ in try Self.ask(header, "/", fields) }).count == 4)
        }
    }

    @Test("a TCP connection goes by its client's address") func tcp() throws {
        let servers = try (0..<4).map { number in
            try TestServer { wire, _, _ in try wire.send("s\(number)\n") }
        }
        let routes = Self.routes(servers)
        let planes = try [routes, routes.reversed()].map { routes in
            try TestPlane(routes, balance: .hash) { $0.frontends[0].mode = .tcp }
        }
        var seen: Set<String> = []
        for plane in planes + planes { seen.insert(try plane.connect().readLine()) }
        #expect(seen.count == 1)
    }

    @Test("a drained server gets nothing from the next request on, also on a connection that it served")
    func drain() throws {
        let servers = try Self.servers(3)
        var routes = Self.routes(servers)
        let plane = try Self.hashing(routes, .header("X-User"))
        let wire = try plane.connect()
        func ask() throws -> String {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-User: joe\r\n\r\n")
            return try wire.readMessage().text
        }
        let owner = try ask()
        let number = try #require(Int(owner.dropFirst()))
        routes[number].usable = false
        plane.publish(routes)
        // The worker reads its mail before the next request only if it is there: until then the old table holds.
        var other = try ask()
        for _ in 0..<200 where other == owner { other = try ask() }
        #expect(other != owner)
        for _ in 0..<20 { #expect(try ask() == other) }
        routes[number].usable = true
        plane.publish(routes)
        var back = try ask()
        for _ in 0..<200 where back != owner { back = try ask() }
        #expect(back == owner)
    }

    @Test("a backup serves when nobody else can, also a request that failed on the others") func backup() throws {
        let spare = try TestServer.saying("spare")
        let good = try TestServer.saying("good")
        var backup = spare.route
        backup.isBackup = true
        for balance in [Balance.roundRobin, .leastConnections, .random, .hash, .first] {
            let dead = TestServer.route(port: closedPort())
            let plane = try TestPlane([backup, good.route], balance: balance)
            for _ in 0..<5 { #expect(try plane.get().text == "good") }
            plane.publish([backup, TestServer.route(port: good.port, usable: false)])
            #expect(plane.eventually("spare"))
            plane.publish([backup, dead])
            for _ in 0..<5 { #expect(try plane.get().text == "spare") }
            #expect(plane.plane.figures.errors == 0)
            plane.publish([backup, good.route])
            #expect(plane.eventually("good"))
        }
    }

    @Test("`first` fills servers up in order, to their limits") func first() throws {
        let held = try (0..<3).map { number in
            try TestServer { wire, _, _ in
                let message = try wire.readMessage()
                // Holds its request until the client ends the other one.
                if message.startLine.contains("/hold") { _ = wire.isClosed(within: 4 * waitMsMax) }
                try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ns\(number)")
            }
        }
        let routes = Self.routes(held).map { route in
            var route = route
            route.connectionsMax = 1
            return route
        }
        let plane = try TestPlane(routes, balance: .first)
        var holding: [Wire] = []
        for number in 0..<3 {
            #expect(try plane.get().text == "s\(number)")
            let wire = try plane.connect()
            try wire.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            holding.append(wire)
            #expect(plane.figures { $0.inFlight == number + 1 }.inFlight == number + 1)
        }
    }
}

extension TestPlane {
    /// Whether answers become this one: the worker may read its table after the next request.
    fileprivate func eventually(_ text: String) -> Bool {
        for _ in 0..<500 where (try? get().text) == text { return true }
        return false
    }
}
