// PipedResponseTests: long responses, whose content passes through pipes, and the pool of those pipes.

import Glibc
import Testing

@testable import Proxy

@Suite("Piped responses") struct PipedResponseTests {
    private static let size = 1 << 20
    private static let content = ForwardingTests.pattern(size)
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    /// One that answers each request with `size` bytes that the tests know, in the given form.
    private func server(_ form: @escaping @Sendable ([UInt8]) -> [UInt8]) throws -> TestServer {
        try TestServer { wire, _, _ in
            while true {
                _ = try wire.readMessage()
                try wire.send(form(Self.content))
            }
        }
    }

    private static func byLength(_ content: [UInt8]) -> [UInt8] {
        Array("HTTP/1.1 200 OK\r\nContent-Length: \(content.count)\r\n\r\n".utf8) + content
    }

    @Test("both connections go on behind one, also when the next request is there already") func keepAlive() throws {
        let server = try server(Self.byLength)
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for _ in 0..<3 {
            try wire.send(Self.get + Self.get)
            for _ in 0..<2 { #expect(try wire.readMessage().body == Self.content) }
        }
        #expect(server.connections == 1)
        #expect(plane.figures { $0.idle == 1 }.bytesOut > 6 * Self.size)
    }

    @Test("chunks: their content is piped, their framing is read") func chunks() throws {
        let server = try server { content in
            var text = Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
            var at = 0
            for length in [300_000, 1, 200_000, 70_000, 16_384] + [Self.size - 586_385] {
                text += Array("\(String(length, radix: 16));x\r\n".utf8) + content[at..<at + length] + [13, 10]
                at += length
            }
            return text + Array("0\r\nT: v\r\n\r\n".utf8)
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for _ in 0..<2 {
            try wire.send(Self.get)
            #expect(try wire.readMessage().body == Self.content)
        }
        #expect(server.connections == 1)
    }

    @Test("a server that dies within one leaves a client that knows") func serverDies() throws {
        let server = try TestServer { wire, _, _ in
            _ = try wire.readMessage()
            try wire.send(Array(Self.byLength([UInt8](repeating: 7, count: Self.size)).prefix(400_000)))
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send(Self.get)
        #expect(throws: WireFailure.self) { try wire.readMessage() }
        let figures = plane.figures { $0.connections == 0 && $0.errors == 1 && $0.inFlight == 0 }
        #expect(figures.connections == 0 && figures.errors == 1 && figures.inFlight == 0)
    }

    @Test("clients that stop reading hold pipes, and give them back") func slowClients() throws {
        let server = try server(Self.byLength)
        let plane = try TestPlane([server.route])
        // More than there are pipes: the rest is copied.
        let wires = try (0..<ProxyLimits.pipesMax + 20).map { _ in
            let wire = try plane.connect(receiveBytes: 4_096)
            try wire.send(Self.get)
            #expect(wire.hasArrivals())
            return wire
        }
        // Two read on, one whose bytes are copied among them; the rest are reset in the end.
        let readers = Set([0, wires.count - 1])
        for (index, wire) in wires.enumerated() where !readers.contains(index) { wire.resetOnClose() }
        for wire in readers.sorted().map({ wires[$0] }) { #expect(try wire.readMessage().body == Self.content) }
    }

    @Test("the pool has a limit; a pipe that comes back full is replaced") func pool() throws {
        var pool = PipePool(max: 2)
        var first = PipedBytes()
        var second = PipedBytes()
        var third = PipedBytes()
        let isThere = first.prepare(&pool, nowMs: 0) && second.prepare(&pool, nowMs: 0)
        let isMore = third.prepare(&pool, nowMs: 0)
        #expect(isThere && !isMore && pool.taken == 2)

        var sockets: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &sockets) == 0)
        defer { for socket in sockets { System.close(socket) } }
        var bytes: [UInt8] = Array("abc".utf8)
        #expect(write(sockets[0], &bytes, 3) == 3)
        let filled = first.fill(from: sockets[1], atMost: 100, pool)
        #expect(filled == .moved(3) && first.count == 3)
        first.release(&pool)
        #expect(pool.taken == 1 && first.isEmpty && !first.hasPipe)

        // The one made in its place is empty.
        let isAgain = third.prepare(&pool, nowMs: 0)
        #expect(isAgain && pool.taken == 2)
        #expect(write(sockets[0], &bytes, 2) == 2)
        let refilled = third.fill(from: sockets[1], atMost: 100, pool)
        let sent = third.drain(into: sockets[1], more: false, pool)
        #expect(refilled == .moved(2) && sent == .moved(2) && third.isEmpty)
        var back = [UInt8](repeating: 0, count: 8)
        #expect(read(sockets[0], &back, 8) == 2 && back[..<2] == [97, 98])
        second.release(&pool)
        third.release(&pool)
        #expect(pool.taken == 0)
    }
}
