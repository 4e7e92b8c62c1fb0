// ListenerWatchTests: listeners that clients wait at, that nobody looks at, and that were shut down.

import Glibc
import Testing

@testable import Proxy

@Suite struct ListenerWatchTests {
    private let socket: ListenerSocket

    init() throws {
        let frontend = FrontendSettings(
            name: "web", address: try #require(SocketAddress("127.0.0.1:0")), mode: .tcp, backend: 0)
        // The second is bound to the port by its number, as those of a real frontend are: it keeps it when it is shut down.
        socket = try #require(try Listener.open(frontend, count: 2, port: 0, besideOurs: false).last)
    }

    private func look(_ watch: inout ListenerWatch, listens: Bool = true, looks: Int) -> [DeafFrontend.Cause] {
        watch.look(at: [("web", 0, [socket])]) { _, _ in .init(listens: listens, looks: looks) }.map(\.cause)
    }

    private func connect() throws -> Int32 {
        let descriptor = try System.socket(AF_INET, SOCK_STREAM.rawValue)
        _ = System.connect(descriptor, try #require(SocketAddress("127.0.0.1:\(socket.port)")))
        try awaitReadable(socket.descriptor)
        return descriptor
    }

    private func awaitReadable(_ descriptor: Int32) throws {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        try #require(poll(&entry, 1, Int32(waitMsMax)) == 1)
    }

    @Test("clients that nobody looks at count as ignored from the second look on") func ignored() throws {
        var watch = ListenerWatch()
        let client = try connect()
        defer { System.close(client) }
        #expect(System.waitingClients(socket.descriptor) == 1)
        #expect(look(&watch, looks: 5) == [])
        #expect(look(&watch, looks: 5) == [.ignored])
        #expect(look(&watch, looks: 6) == [], "the worker looked, and has more than it can take")
        #expect(look(&watch, looks: 6) == [.ignored])
        #expect(look(&watch, listens: false, looks: 6) == [], "it leaves them alone on purpose")
        #expect(look(&watch, looks: 6) == [], "it has only just begun to look again")
        var peer = try #require(SocketAddress("127.0.0.1:0"))
        System.close(try #require(System.accept(socket.descriptor, &peer).descriptor))
        #expect(look(&watch, looks: 6) == [])
        #expect(look(&watch, looks: 6) == [], "nobody waits")
    }

    @Test("a listener that was shut down listens again, and what it accepts is whole") func closed() throws {
        var watch = ListenerWatch()
        #expect(shutdown(socket.descriptor, Int32(SHUT_RDWR)) == 0)
        #expect(look(&watch, looks: 1) == [.closed])
        #expect(socket.listenAgain())
        #expect(look(&watch, looks: 1) == [])
        let client = try connect()
        defer { System.close(client) }
        var peer = try #require(SocketAddress("127.0.0.1:0"))
        let accepted = try #require(System.accept(socket.descriptor, &peer).descriptor)
        defer { System.close(accepted) }
        #expect(peer.port == System.localPort(client))
        #expect(send(client, [7], 1, 0) == 1)
        try awaitReadable(accepted)
        var byte: [UInt8] = [0]
        #expect(recv(accepted, &byte, 1, 0) == 1 && byte == [7])
    }
}
