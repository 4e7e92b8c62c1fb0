// TunnelTests: TCP frontends through a running data plane, seen from both ends over real sockets.

import Foundation
import Glibc
import Synchronization
import Testing

@testable import Proxy

/// What one end of a connection saw, for the test to wait for.
private final class Sight: Sendable {
    private let seen = Mutex<String?>(nil)

    func set(_ text: String) { seen.withLock { $0 = text } }

    func wait() -> String? {
        _ = eventually { seen.withLock { $0 != nil } }
        return seen.withLock { $0 }
    }
}

extension Wire {
    /// The rest of the stream and how it ended: `text|ended` or `text|reset`.
    fileprivate func rest() -> String {
        var text = ""
        do {
            while true { text += String(decoding: try read(1), as: UTF8.self) }
        } catch WireFailure.ended {
            return text + "|ended"
        } catch WireFailure.reset {
            return text + "|reset"
        } catch {
            return text + "|silent"
        }
    }
}

@Suite("TCP") struct TunnelTests {
    private func plane(
        _ routes: [ServerRoute], workers: Int = 1, adjust: (inout ProxySettings) -> Void = { _ in }
    ) throws -> TestPlane {
        try TestPlane(routes, workers: workers) { settings in
            settings.frontends[0].mode = .tcp
            adjust(&settings)
        }
    }

    @Test("the server may speak first, and both sides in turn") func serverFirst() throws {
        let server = try TestServer { wire, _, _ in
            try wire.send("220 ready\r\n")
            while true { try wire.send("you said " + wire.readLine() + "\r\n") }
        }
        let plane = try plane([server.route])
        let wire = try plane.connect()
        #expect(try wire.readLine() == "220 ready")
        for text in ["a", "b", "GET / HTTP/1.1"] {
            try wire.send(text + "\r\n")
            #expect(try wire.readLine() == "you said " + text)
        }
        let figures = plane.figures { $0.bytesOut > 40 }
        #expect(figures.requests == 1 && figures.inFlight == 1 && figures.connections == 1 && figures.idle == 0)
        #expect(figures.bytesIn == 22 && figures.servers[server.route.id]?.sessions == 1)
        wire.shutdownWrite()
        #expect(wire.rest() == "|ended")
        let after = plane.figures { $0.connections == 0 }
        #expect(after.connections == 0 && after.inFlight == 0 && after.errors == 0 && after.aborted == 0)
        #expect(after.servers[server.route.id]?.sessions == 0 && after.servers[server.route.id]?.connections == 0)
    }

    @Test("a client that ends its side still gets all that the server says") func clientEndsFirst() throws {
        let server = try TestServer { wire, _, _ in
            let all = try wire.readToEnd()
            try wire.send("got \(all.count)")
            usleep(20_000)
            try wire.send(" and more")
        }
        let plane = try plane([server.route])
        let wire = try plane.connect()
        try wire.send([UInt8](repeating: 7, count: 300_000))
        wire.shutdownWrite()
        #expect(wire.rest() == "got 300000 and more|ended")
    }

    @Test("a server that ends its side still gets all that the client says") func serverEndsFirst() throws {
        let sight = Sight()
        let server = try TestServer { wire, _, _ in
            try wire.send("bye")
            wire.shutdownWrite()
            sight.set("\(try wire.readToEnd().count)")
        }
        let plane = try plane([server.route])
        let wire = try plane.connect()
        #expect(wire.rest() == "bye|ended")
        try wire.send([UInt8](repeating: 7, count: 300_000))
        wire.shutdownWrite()
        #expect(sight.wait() == "300000")
        #expect(plane.figures { $0.connections == 0 }.connections == 0)
    }

    @Test("an end that came with the connection itself is passed on") func endBeforeConnection() throws {
        let server = try TestServer { wire, _, _ in try wire.send("got \(wire.readToEnd().count)") }
        let plane = try plane([server.route])
        for count in [0, 10] {
            let wire = try plane.connect()
            try wire.send([UInt8](repeating: 1, count: count))
            wire.shutdownWrite()
            #expect(wire.rest() == "got \(count)|ended")
        }
    }

    @Test("a server's reset reaches the client behind what the server said before") func serverResets() throws {
        let server = try TestServer { wire, _, _ in
            _ = try wire.read(2)
            try wire.send("sorry")
            wire.resetOnClose()
        }
        let plane = try plane([server.route])
        let wire = try plane.connect()
        try wire.send("hi")
        #expect(wire.rest() == "sorry|reset")
        let figures = plane.figures { $0.connections == 0 }
        #expect(figures.errors == 1 && figures.aborted == 0 && figures.servers[server.route.id]?.errors == 1)
    }

    @Test("a client's reset reaches the server behind what the client said before") func clientResets() throws {
        let sight = Sight()
        let server = try TestServer { wire, _, _ in
            try wire.send("hello")
            sight.set(wire.rest())
        }
        let plane = try plane([server.route])
        do {
            let wire = try plane.connect()
            _ = try wire.read(5)
            try wire.send("last words")
            wire.resetOnClose()
        }
        #expect(sight.wait() == "last words|reset")
        let figures = plane.figures { $0.connections == 0 }
        #expect(figures.aborted == 1 && figures.errors == 0)
    }

    @Test("a client that doesn't read holds its server up, and misses nothing") func backpressure() throws {
        let sent = Atomic(0)
        let size = 32 << 20
        let server = try TestServer { wire, _, _ in
            let block = [UInt8](repeating: 9, count: 1 << 16)
            while sent.load(ordering: .relaxed) < size {
                try wire.send(block)
                sent.add(block.count, ordering: .relaxed)
            }
        }
        let plane = try plane([server.route])
        let wire = try plane.connect(receiveBytes: 8_192)
        #expect(try wire.read(1) == [9])
        // It stands still when twice in a row nothing was taken.
        var before = -1
        var still = 0
        for _ in 0..<500 where still < 3 {
            usleep(20_000)
            let now = sent.load(ordering: .relaxed)
            still = now == before ? still + 1 : 0
            before = now
        }
        #expect(still == 3 && before < size)
        #expect(try wire.read(size - 1).count == size - 1)
        #expect(wire.rest() == "|ended")
    }

    /// Block n of a stream whose every block differs.
    private static func block(_ number: Int, _ size: Int) -> [UInt8] {
        var block = [UInt8](repeating: UInt8(number % 251), count: size)
        block[number % size] = UInt8(255 - number % 255)
        return block
    }

    @Test("100 MiB arrive as they were sent, both ways at once") func large() throws {
        let (size, blocks) = (1 << 20, 100)
        let sight = Sight()
        let server = try TestServer { wire, _, _ in
            Thread.detachNewThread {
                for number in 0..<blocks { try? wire.send(Self.block(number + 1, size)) }
                wire.shutdownWrite()
            }
            for number in 0..<blocks where try wire.read(size) != Self.block(number, size) {
                return sight.set("block \(number) differs")
            }
            sight.set(wire.rest())
        }
        let plane = try plane([server.route])
        let wire = try plane.connect()
        let writer = Thread {
            for number in 0..<blocks { try? wire.send(Self.block(number, size)) }
            wire.shutdownWrite()
        }
        writer.start()
        for number in 0..<blocks { try #require(try wire.read(size) == Self.block(number + 1, size)) }
        #expect(wire.rest() == "|ended")
        #expect(sight.wait() == "|ended")
        let figures = plane.figures { $0.connections == 0 }
        #expect(figures.bytesIn == 100 << 20 && figures.bytesOut == 100 << 20 && figures.aborted == 0)
    }

    @Test("a server that can't be connected to is passed over; without one the client is reset") func retry() throws {
        let server = try TestServer { wire, _, _ in try wire.send("served") }
        let dead = TestServer.route(port: closedPort())
        let plane = try plane([dead, server.route])
        for _ in 0..<6 { #expect(try plane.connect().rest() == "served|ended") }
        let figures = plane.figures { $0.connections == 0 }
        #expect(figures.retries >= 1 && figures.errors == 0)
        plane.publish([dead])
        let refused = plane.figures { _ in true }.errors
        #expect(try plane.connect().rest() == "|reset")
        plane.publish([])
        #expect(try plane.connect().rest() == "|reset")
        #expect(plane.figures { $0.errors == refused + 2 }.errors == refused + 2)
    }

    @Test("a connection on which nothing moves is reset on both sides") func idle() throws {
        // Until a word got through before: on a busy machine it may come too late.
        let hasSpoken = try eventually {
            let sight = Sight()
            let server = try TestServer { wire, _, _ in sight.set(wire.rest()) }
            let plane = try plane([server.route]) { $0.timeouts.tunnelMs = 100 }
            let wire = try plane.connect()
            if (try? wire.send("a")) != nil { #expect(wire.rest() == "|reset") }
            let seen = sight.wait()
            #expect(seen == "a|reset" || seen == "|reset")
            return seen == "a|reset"
        }
        #expect(hasSpoken)
    }

    @Test("half-closed ones have a time of their own") func halfClosedTime() throws {
        let (over, sight) = (Sight(), Sight())
        let server = try TestServer { wire, _, _ in
            _ = try wire.readToEnd()
            _ = over.wait()
            sight.set((try? wire.send("late")) == nil ? "reset" : "open")
        }
        let plane = try plane([server.route]) { $0.timeouts.halfClosedMs = 200 }
        let wire = try plane.connect()
        wire.shutdownWrite()
        #expect(wire.rest() == "|reset")
        #expect(plane.figures { $0.connections == 0 && $0.inFlight == 0 }.inFlight == 0)
        over.set("over")
        // The server had its end already; what it sends now reaches nobody.
        #expect(sight.wait() != nil)
    }

    @Test("draining leaves connections alone; a stop resets them") func draining() throws {
        let server = try TestServer { wire, _, _ in while true { try wire.send(wire.readLine() + "\n") } }
        var plane: TestPlane? = try plane([server.route])
        let wire = try #require(try plane?.connect())
        try wire.send("before\n")
        #expect(try wire.readLine() == "before")
        plane?.plane.setDraining(true)
        plane?.plane.closeIdle()
        // A server that takes no new connections keeps those it has.
        plane?.publish([])
        for _ in 0..<5 {
            usleep(10_000)
            try wire.send("meanwhile\n")
            #expect(try wire.readLine() == "meanwhile")
        }
        plane = nil
        #expect(wire.rest() == "|reset")
    }

    @Test("many streams at once, more than there are pipes") func many() throws {
        let size = 1 << 20
        let server = try TestServer { wire, _, _ in
            try wire.send(Self.block(3, size))
            _ = try wire.readToEnd()
        }
        let plane = try plane([server.route], workers: 2)
        // All of them hold what their clients don't read yet.
        let wires = try (0..<(2 * ProxyLimits.pipesMax + 40)).map { _ in
            let wire = try plane.connect(receiveBytes: 4_096)
            #expect(wire.hasArrivals(within: 5_000))
            return wire
        }
        for wire in wires {
            #expect(try wire.read(size) == Self.block(3, size))
            wire.shutdownWrite()
        }
        #expect(plane.figures { $0.connections == 0 }.connections == 0)
    }
}
