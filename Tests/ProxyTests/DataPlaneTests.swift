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
        let first = try DataPlane(settings(port: 0))
        try first.start()
        let port = try #require(first.ports.first)
        #expect(port != 0)
        let problem = #expect(throws: ProxyProblem.self) { try DataPlane(settings(port: port)) }
        #expect(problem?.description.contains("port \(port) is in use") == true)
        first.stop()
        let second = try DataPlane(settings(port: port))
        #expect(second.ports == [port])
    }

    @Test("figures are known for every server of a table, also after it left") func figures() throws {
        let plane = try DataPlane(settings(port: 0))
        let address = try #require(SocketAddress("127.0.0.1:9"))
        plane.publish(
            RoutingTable(version: 2, backends: [[ServerRoute(id: "api/a", address: address)]]))
        plane.publish(
            RoutingTable(version: 3, backends: [[ServerRoute(id: "api/b", address: address)]]))
        plane.publish(
            RoutingTable(version: 1, backends: [[ServerRoute(id: "api/old", address: address)]]))
        #expect(plane.figures.servers.keys.sorted() == ["api/a", "api/b"])
    }
}
