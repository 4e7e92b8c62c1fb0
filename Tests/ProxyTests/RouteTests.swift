// RouteTests: which backend a request goes to: hosts, paths, order; and through real connections.

import Testing

@testable import Proxy

@Suite("Routes") struct RouteTests {
    /// Rules by host and path, "-" for any, and targets that lead to the rule of that number, or to none.
    struct Case: Sendable, CustomTestStringConvertible {
        let rules: [(host: String, path: String)]
        let head: String
        let rule: Int32?
        init(_ rules: [(String, String)], _ head: String, _ rule: Int32?) {
            self.rules = rules.map { ($0.0, $0.1) }
            (self.head, self.rule) = (head, rule)
        }
        var testDescription: String { head.replacing("\r\n", with: " ") }
    }

    private static let paths = [("-", "/v1/users"), ("-", "/v1"), ("-", "/files/")]
    private static let hosts = [
        ("api.example.com", "-"), ("*.example.com", "/a"), ("*.example.com", "-"), ("[::1]", "-"),
    ]

    @Test(arguments: [
        Case(paths, "GET /v1 HTTP/1.1\r\nHost: a", 1),
        Case(paths, "GET /v1/ HTTP/1.1\r\nHost: a", 1),
        Case(paths, "GET /v1?a=/v1/users HTTP/1.1\r\nHost: a", 1),
        Case(paths, "GET /v1/users HTTP/1.1\r\nHost: a", 0),
        Case(paths, "GET /v1/users?x HTTP/1.1\r\nHost: a", 0),
        Case(paths, "GET /v1/usersx HTTP/1.1\r\nHost: a", 1),
        Case(paths, "GET /v10 HTTP/1.1\r\nHost: a", nil),
        Case(paths, "GET /V1 HTTP/1.1\r\nHost: a", nil),
        Case(paths, "GET /v HTTP/1.1\r\nHost: a", nil),
        Case(paths, "GET / HTTP/1.1\r\nHost: a", nil),
        Case(paths, "GET /files/x HTTP/1.1\r\nHost: a", 2),
        Case(paths, "GET /files HTTP/1.1\r\nHost: a", nil),
        Case(paths, "GET http://b/v1/x HTTP/1.1\r\nHost: b", 1),
        Case(paths, "GET http://b HTTP/1.1\r\nHost: b", nil),
        Case(paths, "OPTIONS * HTTP/1.1\r\nHost: a", nil),
        Case([("-", "/")], "GET http://b HTTP/1.1\r\nHost: b", 0),
        Case([("-", "/")], "GET http://b?q HTTP/1.1\r\nHost: b", 0),
        Case([("-", "/")], "GET /x HTTP/1.1\r\nHost: b", 0),
        Case(hosts, "GET / HTTP/1.1\r\nHost: api.example.com", 0),
        Case(hosts, "GET / HTTP/1.1\r\nHost: API.Example.COM:8080", 0),
        Case(hosts, "GET / HTTP/1.1\r\nHost: api.example.com.", 0),
        Case(hosts, "GET / HTTP/1.1\r\nHost: api.example.com.:80", 0),
        Case(hosts, "GET /a HTTP/1.1\r\nHost: www.example.com", 1),
        Case(hosts, "GET / HTTP/1.1\r\nHost: a.b.example.com", 2),
        Case(hosts, "GET / HTTP/1.1\r\nHost: example.com", nil),
        Case(hosts, "GET / HTTP/1.1\r\nHost: notexample.com", nil),
        Case(hosts, "GET / HTTP/1.1\r\nHost: .example.com", nil),
        Case(hosts, "GET / HTTP/1.1\r\nHost: api.example.com.evil.org", nil),
        Case(hosts, "GET http://api.example.com/ HTTP/1.1\r\nHost: other", 0),
        Case(hosts, "GET http://other/ HTTP/1.1\r\nHost: api.example.com", nil),
        Case(hosts, "GET / HTTP/1.1\r\nHost: [::1]:80", 3),
        Case(hosts, "GET / HTTP/1.0", nil),
        Case(hosts, "GET / HTTP/1.1\r\nHost:", nil),
    ]) func rule(_ one: Case) throws {
        var table = RouteTable()
        for (index, rule) in one.rules.enumerated() {
            table.append(
                RouteRule(
                    host: rule.host == "-" ? nil : rule.host, path: rule.path == "-" ? nil : rule.path, backend: index),
                backend: index)
        }
        let bytes = Array("\(one.head)\r\n\r\n".utf8)
        var fields = FieldTable(max: 10)
        let head = try RequestHead.parse(bytes.span, into: &fields, bodyMax: .max)
        #expect(table.backend(bytes.span, head, of: 0..<table.count) == one.rule)
    }

    @Test("one connection's requests go where each belongs, and settings that change count from the next one on")
    func connection() throws {
        let servers = try ["web", "api", "files"].map { try TestServer.saying($0) }
        let port = try freePort()
        let address = try #require(SocketAddress(address: "127.0.0.1", port: port))
        var frontend = FrontendSettings(name: "http", address: address, backend: 0)
        frontend.routes = [RouteRule(path: "/v1", backend: 1), RouteRule(host: "files.example.com", backend: 2)]
        let names = ["web", "api", "files"]
        var settings = ProxySettings(
            frontends: [frontend], backends: names.map { BackendSettings(name: $0) }, timeouts: .endless)
        let plane = try DataPlane(settings)
        plane.publish(
            RoutingTable(
                version: 1,
                backends: zip(names, servers).map { name, server in
                    BackendRoutes(name: name, servers: [ServerRoute(id: "\(name)/1", address: server.route.address)])
                }))
        try plane.start()
        defer { plane.stop() }
        let wire = try Wire(port: port)
        func ask(_ path: String, _ host: String) throws -> String {
            try wire.send("GET \(path) HTTP/1.1\r\nHost: \(host)\r\n\r\n")
            return try wire.readMessage().text
        }
        #expect(try ask("/", "a") == "web")
        #expect(try ask("/v1/x", "a") == "api")
        #expect(try ask("/", "files.example.com") == "files")
        #expect(try ask("/v1", "files.example.com") == "api")
        #expect(try ask("/", "a") == "web")

        // The same backends in another order, and one route less.
        settings.backends = [2, 0].map { settings.backends[$0] }
        settings.frontends[0].backend = 1
        settings.frontends[0].routes = [RouteRule(path: "/f", backend: 0)]
        try plane.apply(settings)
        var answer = ""
        for _ in 0..<1_000 where answer != "files" { answer = try ask("/f", "a") }
        #expect(answer == "files")
        #expect(try ask("/v1", "a") == "web")
    }
}
