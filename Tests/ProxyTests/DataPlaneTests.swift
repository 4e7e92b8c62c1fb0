// DataPlaneTests: starting and stopping: ports are taken, refused when in use, and given back.

import Testing

@testable import Proxy

@Suite("Data plane") struct DataPlaneTests {
    private func settings(port: UInt16) throws -> ProxySettings {
        let address = try #require(SocketAddress(address: "127.0.0.1", port: port))
        return ProxySettings(
            workers: 2, frontends: [FrontendSettings(name: "http", address: address, backend: 0)],
            backends: [BackendSettings(name: "api")])
    }

    @Test("a port in use is refused with its number, and free again after stop") func ports() throws {
        #expect(try DataPlane(settings(port: 0)).ports != [0])
        let port = try freePort()
        let first = try DataPlane(settings(port: port))
        try first.start()
        #expect(first.ports == [port])
        let problem = #expect(throws: ProxyProblem.self) { try DataPlane(settings(port: port)) }
        #expect(problem?.description.contains("port \(port) is in use") == true)
        first.stop()
        // A child that another test is starting may still have the sockets.
        #expect(eventually { (try? DataPlane(settings(port: port)))?.ports == [port] })
    }

    @Test("figures are known for every server of a table, also after it left") func figures() throws {
        let plane = try DataPlane(settings(port: 0))
        let address = try #require(SocketAddress("127.0.0.1:9"))
        plane.publish(
            RoutingTable(
                version: 2,
                backends: [BackendRoutes(name: "api", servers: [ServerRoute(id: "api/a", address: address)])]))
        plane.publish(
            RoutingTable(
                version: 3,
                backends: [BackendRoutes(name: "api", servers: [ServerRoute(id: "api/b", address: address)])]))
        plane.publish(
            RoutingTable(
                version: 1,
                backends: [BackendRoutes(name: "api", servers: [ServerRoute(id: "api/old", address: address)])]))
        #expect(plane.figures.servers.keys.sorted() == ["api/a", "api/b"])
    }

    @Test("every address of both families, an address that isn't here, and one that is") func addresses() throws {
        let server = try TestServer.answering { request in
            let peer = request["x-forwarded-for"].first ?? ""
            return "HTTP/1.1 200 OK\r\nContent-Length: \(peer.utf8.count)\r\n\r\n\(peer)"
        }
        let plane = try TestPlane([server.route]) {
            $0.frontends[0].address = SocketAddress(high: 0, low: 0, port: 0, isIPv6: true)
        }
        for (overIPv6, peer) in [(false, "127.0.0.1"), (true, "::1")] {
            // A machine without IPv6 has only the first.
            guard let wire = try? Wire(port: plane.port, overIPv6: overIPv6) else {
                #expect(overIPv6)
                continue
            }
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try wire.readMessage().text == peer)
        }
        var elsewhere = try settings(port: 0)
        elsewhere.frontends[0].address = try #require(SocketAddress("192.0.2.1:0"))
        #expect(try DataPlane(elsewhere).ports != [0])
    }
}
