// ConnectionListTests: the kernel's own list of connections, asked for one local address.

import CLinux
import Glibc
import Proxy
import Testing

@testable import Node

@Suite struct ConnectionListTests {
    /// A listener for both families, and connections to it.
    private func connect(_ host: String, count: Int, _ body: (SocketAddress, [Int32]) throws -> Void) throws {
        let listener = try System.socket(AF_INET6, SOCK_STREAM.rawValue)
        defer { System.close(listener) }
        try System.bind(listener, try #require(SocketAddress(address: "::", port: 0)))
        try System.listen(listener, backlog: 16)
        let address = try #require(SocketAddress(address: host, port: System.localPort(listener)))
        let clients = try (0..<count).map { _ in
            let client = try System.socket(address.family, SOCK_STREAM.rawValue)
            _ = System.connect(client, address)
            return client
        }
        defer { for client in clients { System.close(client) } }
        try body(address, clients)
    }

    @Test(arguments: ["127.0.0.1", "::1"]) func findsWhatIsUnderWay(_ host: String) throws {
        try connect(host, count: 3) { address, clients in
            let local = try #require(SocketAddress(address: host, port: 0))
            let flows = ConnectionList.find(local: [local], limit: 100_000)
            for client in clients {
                let port = System.localPort(client)
                // As the server has it: from the client to the listener. A listener itself is no connection.
                #expect(flows.contains { $0.local == address && $0.remote.port == port })
            }
            #expect(flows.allSatisfy { $0.local.hasSameHost(as: local) && $0.remote.port != 0 })
            #expect(ConnectionList.find(local: [local], limit: 2).count == 2)
        }
    }

    @Test func anAddressThatNobodyUsesHasNone() throws {
        let nobody = ["192.0.2.1", "2001:db8::1"].compactMap { SocketAddress(address: $0, port: 0) }
        #expect(ConnectionList.find(local: nobody, limit: 100) == [])
    }
}
