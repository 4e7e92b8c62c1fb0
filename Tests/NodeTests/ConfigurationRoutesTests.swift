// ConfigurationRoutesTests: routes by host and path: read, refused, agreed upon, told.

import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationRoutesTests {
    private func load(_ frontend: String) -> Result<Configuration, ConfigurationProblems> {
        let second = "{ name: \"v1\", servers: [{ id: \"v1_1\", address: \"127.0.0.1:9002\" }] }"
        let text = Examples.least.replacing("backend: \"api\" }", with: "backend: \"api\", \(frontend) }")
            .replacing("backends: [", with: "backends: [\(second), ")
        var reader = ConfigurationReader(file: "triad.json5", environment: { _ in nil })
        return reader.read(Array(text.utf8))
    }

    @Test func reachesTheDataPlane() throws {
        let configuration = try load(
            """
            routes: [
              { host: "API.example.com", path: "/v1", backend: "v1" }, { host: "*.example.com", backend: "api" },
              { path: "/v1/", backend: "v1" }, { host: "::1", backend: "v1" },
            ]
            """
        ).get()
        #expect(
            configuration.proxySettings(workers: 1).frontends[0].routes == [
                RouteRule(host: "api.example.com", path: "/v1", backend: 0),
                RouteRule(host: "*.example.com", backend: 1), RouteRule(path: "/v1/", backend: 0),
                RouteRule(host: "[::1]", backend: 0),
            ])
    }

    struct Wrong: Sendable, CustomTestStringConvertible {
        let routes: String
        let message: String
        init(_ routes: String, _ message: String) { (self.routes, self.message) = (routes, message) }
        var testDescription: String { routes }
    }

    private static let path = "frontends[0].routes"

    @Test(arguments: [
        Wrong("routes: {}", "\(path): expected a list of routes"),
        Wrong("routes: [{ backend: \"v1\" }]", "\(path)[0]: names neither a host nor a path"),
        Wrong("routes: [{ path: \"/a\" }]", "\(path)[0]"),
        Wrong("routes: [{ path: \"/a\", backend: \"v2\" }]", "\(path)[0].backend: no backend is called \"v2\""),
        Wrong("routes: [{ paths: \"/a\", backend: \"v1\" }]", "\(path)[0].paths"),
        Wrong("routes: [{ path: \"a\", backend: \"v1\" }]", "\(path)[0].path: \"a\" isn't the beginning of a path"),
        Wrong("routes: [{ path: \"/a?b\", backend: \"v1\" }]", "\(path)[0].path"),
        Wrong("routes: [{ path: \"/ä\", backend: \"v1\" }]", "\(path)[0].path"),
        Wrong("routes: [{ host: \"a:80\", backend: \"v1\" }]", "\(path)[0].host: \"a:80\" isn't a host's name"),
        Wrong("routes: [{ host: \"http://a\", backend: \"v1\" }]", "\(path)[0].host"),
        Wrong("routes: [{ host: \"*\", backend: \"v1\" }]", "\(path)[0].host"),
        Wrong("routes: [{ host: \"a.*.b\", backend: \"v1\" }]", "\(path)[0].host"),
        Wrong("mode: \"tcp\", routes: [{ path: \"/a\", backend: \"v1\" }]", "\(path): belongs to a frontend of mode"),
    ]) func isRefused(_ wrong: Wrong) {
        guard case .failure(let problems) = load(wrong.routes) else {
            Issue.record("was accepted")
            return
        }
        #expect(problems.all.map { "\($0.path): \($0.text)" }.contains { $0.hasPrefix(wrong.message) }, "\(problems)")
    }

    /// Host and path, "-" for any: whether the second, behind the first, never gets a request.
    @Test(arguments: [
        ("-", "/v1", "-", "/v1/users", true), ("-", "/v1/users", "-", "/v1", false), ("-", "/v1", "-", "/v10", false),
        ("-", "/v1", "-", "/v1", true), ("-", "/v1/", "-", "/v1/a", true), ("-", "/v1/", "-", "/v1", false),
        ("-", "/", "a", "/b", true), ("a", "-", "a", "/b", true), ("a", "/b", "a", "-", false),
        ("a", "-", "b", "-", false),
        ("*.a.b", "-", "x.a.b", "-", true), ("*.a.b", "-", "*.x.a.b", "-", true), ("*.a.b", "-", "a.b", "-", false),
        ("*.a.b", "/v1", "x.a.b", "-", false), ("x.a.b", "-", "*.a.b", "-", false), ("a", "-", "-", "/v1", false),
    ]) func aRouteBehindAWiderOneIsAMistake(
        _ host: String, _ path: String, _ laterHost: String, _ laterPath: String, _ isCovered: Bool
    ) {
        func text(_ host: String, _ path: String) -> String {
            let keys = [("host", host), ("path", path)].filter { $0.1 != "-" }.map { "\($0.0): \"\($0.1)\", " }.joined()
            return "{ \(keys)backend: \"v1\" }"
        }
        var found: [String] = []
        if case .failure(let problems) = load("routes: [\(text(host, path)), \(text(laterHost, laterPath))]") {
            found = problems.all.map(\.path)
        }
        #expect(found == (isCovered ? ["frontends[0].routes[1]"] : []))
    }

    @Test func aChangedRouteIsToldAndDiffers() throws {
        let before = try load("routes: [{ path: \"/a\", backend: \"v1\" }]").get()
        let after = try load("routes: [{ path: \"/b\", backend: \"v1\" }]").get()
        let other = try load("routes: [{ path: \"/a\", backend: \"api\" }]").get()
        #expect(before.changes(to: after) == "frontend http: routes")
        #expect(before.changes(to: other) == "frontend http: routes")
        #expect(before.digest != after.digest)
        #expect(before.digest != other.digest)
    }

    @Test func aRoutesNewBackendBeginsWithTheServersThatAnsweredSoFar() throws {
        let before = try load("routes: [{ path: \"/a\", backend: \"api\" }]").get()
        let after = try load("routes: [{ path: \"/a\", backend: \"v1\" }]").get()
        let former = ServerRoute(id: "api/api_1", address: try #require(SocketAddress("127.0.0.1:9001")))
        var held = HeldServers()
        held.begin(
            from: before, to: after,
            routes: RoutingTable(version: 1, backends: [BackendRoutes(name: "api", servers: [former])]))
        #expect(held.byBackend["v1"] == [former])
    }
}
