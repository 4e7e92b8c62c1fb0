// QueueTests: servers with a limit, the queue before them, and frontends with a limit: real sockets, several workers.

import Dispatch
import Glibc
import Synchronization
import Testing

@testable import Proxy

/// Lets a test server's answers go one by one.
final class Gate: Sendable {
    private let state = Mutex((open: 0, inside: 0, mostInside: 0))

    func open(_ count: Int = 1) { state.withLock { $0.open += count } }

    /// Waits for its turn.
    func pass() {
        state.withLock {
            $0.inside += 1
            $0.mostInside = max($0.mostInside, $0.inside)
        }
        _ = eventually {
            state.withLock { state in
                guard state.open > 0 else { return false }
                state.open -= 1
                return true
            }
        }
        state.withLock { $0.inside -= 1 }
    }

    /// How many waited at one time, at most.
    var mostInside: Int { state.withLock { $0.mostInside } }
}

@Suite("Queues") struct QueueTests {
    private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    private static func get(_ path: String) -> String { "GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n" }

    private static func limited(_ server: TestServer, to limit: Int) -> ServerRoute {
        var route = server.route
        route.connectionsMax = limit
        return route
    }

    private static func holding(_ gate: Gate) throws -> TestServer {
        try TestServer { wire, _, log in
            while true {
                log.note(try wire.readMessage())
                gate.pass()
                try wire.send(ok)
            }
        }
    }

    private static func path(_ message: WireMessage) -> String {
        String(message.startLine.split(separator: " ").dropFirst().first ?? "")
    }

    private static func queued(_ plane: TestPlane, _ count: Int) -> Bool {
        plane.figures { $0.backends["api"]?.queued == count }.backends["api"]?.queued == count
    }

    @Test("requests beyond a server's limit wait, and are served in the order in which they came") func order() throws {
        let gate = Gate()
        let server = try Self.holding(gate)
        let plane = try TestPlane([Self.limited(server, to: 1)])
        var wires: [Wire] = []
        for number in 0..<4 {
            wires.append(try plane.connect())
            try wires[number].send(Self.get("/\(number)"))
            if number == 0 { #expect(eventually { server.requests.count == 1 }) }
            #expect(Self.queued(plane, number))
        }
        #expect(plane.plane.figures.inFlight == 4 && server.requests.count == 1)
        #expect(eventually { plane.plane.figures.backends["api"]?.longestWaitMs ?? 0 > 0 })
        for number in 0..<4 {
            gate.open()
            #expect(try wires[number].readMessage().text == "ok")
        }
        #expect(server.requests.map(Self.path) == ["/0", "/1", "/2", "/3"] && gate.mostInside == 1)
        let figures = plane.figures { $0.inFlight == 0 }
        #expect(figures.backends["api"]?.everQueued == 3 && figures.backends["api"]?.queued == 0)
        #expect(figures.backends["api"]?.longestWaitMs == 0)
    }

    @Test("the limit is that of all workers together, and a place freed in one is taken in another") func workers()
        throws
    {
        let gate = Gate()
        let (one, two) = (try Self.holding(gate), try Self.holding(gate))
        let plane = try TestPlane([Self.limited(one, to: 2), Self.limited(two, to: 1)], workers: 3) {
            // Nobody looks by itself: a place gets there by a wake.
            $0.limits.queueTickMs = 60_000
            $0.timeouts.queueMs = 60_000
        }
        let wires = try (0..<24).map { number in
            let wire = try plane.connect()
            try wire.send(Self.get("/\(number)"))
            return wire
        }
        #expect(Self.queued(plane, 21))
        #expect(eventually { one.requests.count == 2 && two.requests.count == 1 })
        gate.open(24)
        for wire in wires { #expect(try wire.readMessage().text == "ok") }
        #expect(gate.mostInside <= 3 && one.requests.count + two.requests.count == 24)
        #expect(plane.figures { $0.inFlight == 0 }.backends["api"]?.queueTimeouts == 0)
    }

    @Test("who waits for too long gets 503 that says when to come back, on a connection that stays") func timeout()
        throws
    {
        let gate = Gate()
        let server = try Self.holding(gate)
        let plane = try TestPlane([Self.limited(server, to: 1)]) { $0.timeouts.queueMs = 100 }
        let (first, second) = (try plane.connect(), try plane.connect())
        try first.send(Self.get("/1"))
        #expect(eventually { server.requests.count == 1 })
        try second.send(Self.get("/2"))
        let answer = try second.readMessage()
        #expect(answer.status == 503 && answer["Retry-After"] == ["1"] && answer["Connection"].isEmpty)
        #expect(answer["Content-Type"] == ["application/json"])
        try second.send("GET /3 HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n")
        let page = try second.readMessage()
        #expect(page.status == 503 && page["Content-Type"] == ["text/html; charset=utf-8"])
        gate.open(2)
        #expect(try first.readMessage().text == "ok")
        try second.send(Self.get("/4"))
        #expect(try second.readMessage().text == "ok")
        #expect(plane.plane.figures.backends["api"]?.queueTimeouts == 2)
        #expect(server.requests.map(Self.path) == ["/1", "/4"])
    }

    @Test("a full queue answers 503 at once, and so does a queue of none") func full() throws {
        for queueMax in [0, 1] {
            let gate = Gate()
            let server = try Self.holding(gate)
            let plane = try TestPlane([Self.limited(server, to: 1)]) {
                $0.backends[0].queueMax = queueMax
                $0.frontends[0].errorPages = [
                    ErrorPage(status: 503, contentType: "text/plain", body: Array("busy".utf8))
                ]
            }
            let wires = try (0...queueMax).map { _ in try plane.connect() }
            for (number, wire) in wires.enumerated() {
                try wire.send(Self.get("/"))
                #expect(eventually { server.requests.count == 1 } && Self.queued(plane, number))
            }
            let refused = try plane.get()
            #expect(refused.status == 503 && refused["Retry-After"] == ["1"] && refused.text == "busy")
            #expect(plane.plane.figures.backends["api"]?.queueFull == 1)
            gate.open(wires.count)
            for wire in wires { #expect(try wire.readMessage().text == "ok") }
        }
    }

    @Test("a client that breaks its connection leaves the queue; one that only ended its stream is answered")
    func leaving() throws {
        let gate = Gate()
        let server = try Self.holding(gate)
        let plane = try TestPlane([Self.limited(server, to: 1)])
        let first = try plane.connect()
        try first.send(Self.get("/first"))
        #expect(eventually { server.requests.count == 1 })
        var broken: Wire? = try plane.connect()
        try broken?.send(Self.get("/broken"))
        #expect(Self.queued(plane, 1))
        let patient = try plane.connect()
        // Two requests at once, and the end.
        try patient.send(Self.get("/patient") + Self.get("/more"))
        patient.shutdownWrite()
        #expect(Self.queued(plane, 2))
        broken?.resetOnClose()
        broken = nil
        #expect(Self.queued(plane, 1))
        #expect(plane.figures { $0.aborted == 1 }.aborted == 1)
        gate.open(3)
        #expect(try first.readMessage().text == "ok")
        for _ in 0..<2 { #expect(try patient.readMessage().text == "ok") }
        #expect(server.requests.map(Self.path) == ["/first", "/patient", "/more"])
        #expect(plane.figures { $0.inFlight == 0 && $0.connections == 1 }.connections == 1)
    }

    @Test("connections of a TCP frontend wait with what they sent; beyond the queue, or after its time, they are reset")
    func streams() throws {
        let server = try TestServer { wire, _, log in
            let text = String(decoding: try wire.readToEnd(), as: UTF8.self)
            log.note(WireMessage(startLine: text))
            try wire.send("got \(text)")
        }
        let plane = try TestPlane([Self.limited(server, to: 1)]) {
            $0.frontends[0].mode = .tcp
            $0.backends[0].queueMax = 1
        }
        let (first, second) = (try plane.connect(), try plane.connect())
        try first.send("one")
        #expect(eventually { server.connections == 1 })
        try second.send("two")
        second.shutdownWrite()
        #expect(Self.queued(plane, 1))
        let third = try plane.connect()
        #expect(third.hasArrivals())
        #expect(throws: WireFailure.reset) { try third.read(1) }
        #expect(plane.plane.figures.backends["api"]?.queueFull == 1 && server.connections == 1)
        first.shutdownWrite()
        #expect(try first.readToEnd() == Array("got one".utf8))
        #expect(try second.readToEnd() == Array("got two".utf8))
        #expect(plane.figures { $0.connections == 0 }.idle == 0)

        let hasty = try TestPlane([Self.limited(server, to: 1)]) {
            $0.frontends[0].mode = .tcp
            $0.timeouts.queueMs = 50
        }
        let (kept, late) = (try hasty.connect(), try hasty.connect())
        #expect(hasty.figures { $0.backends["api"]?.queueTimeouts == 1 }.backends["api"]?.queueTimeouts == 1)
        // Counted first, and told then.
        #expect(eventually { late.hasArrivals(within: 0) || kept.hasArrivals(within: 0) })
        let refused = late.hasArrivals(within: 0) ? late : kept
        #expect(throws: WireFailure.reset) { try refused.read(1) }
    }

    @Test("a request whose server can't be connected to waits for the other one, which is full") func retry() throws {
        let gate = Gate()
        let server = try Self.holding(gate)
        let plane = try TestPlane([Self.limited(server, to: 1), TestServer.route(port: closedPort())])
        let wires = try (0..<3).map { _ in try plane.connect() }
        for wire in wires { try wire.send(Self.get("/")) }
        #expect(Self.queued(plane, 2))
        gate.open(3)
        for wire in wires { #expect(try wire.readMessage().text == "ok") }
        #expect(gate.mostInside == 1)
    }

    @Test("a limit that comes counts what is under way; one that goes lets everybody pass") func reload() throws {
        let gate = Gate()
        let server = try Self.holding(gate)
        let plane = try TestPlane([server.route], workers: 2)
        let wires = try (0..<4).map { _ in try plane.connect() }
        for wire in wires[0..<2] { try wire.send(Self.get("/")) }
        #expect(eventually { server.requests.count == 2 })
        plane.publish([Self.limited(server, to: 2)])
        // The workers may not have heard of it yet; when they have, nothing else gets through.
        for wire in wires[2...] { try wire.send(Self.get("/")) }
        let through = plane.figures { ($0.backends["api"]?.queued ?? 0) + server.requests.count == 4 }
        #expect((through.backends["api"]?.queued ?? 0) + server.requests.count == 4)
        plane.publish([server.route])
        #expect(eventually { server.requests.count == 4 })
        gate.open(4)
        for wire in wires { #expect(try wire.readMessage().text == "ok") }
        #expect(plane.figures { $0.inFlight == 0 }.backends["api"]?.queued == 0)
        // Nothing stayed counted: there is a place again.
        plane.publish([Self.limited(server, to: 1)])
        gate.open()
        #expect(try plane.get().text == "ok")
    }

    @Test("when the servers are gone, who waits is told so") func gone() throws {
        let gate = Gate()
        let server = try Self.holding(gate)
        let plane = try TestPlane([Self.limited(server, to: 1)])
        let (first, second) = (try plane.connect(), try plane.connect())
        try first.send(Self.get("/1"))
        #expect(eventually { server.requests.count == 1 })
        try second.send(Self.get("/2"))
        #expect(Self.queued(plane, 1))
        plane.publish([])
        #expect(try second.readMessage().status == 503)
        gate.open()
        #expect(try first.readMessage().text == "ok")
    }

    // MARK: frontends

    @Test("a frontend with all its clients accepts no more; the next waits in the kernel, and gets in when one goes")
    func frontend() throws {
        let server = try TestServer.saying("ok")
        let plane = try TestPlane([server.route], workers: 2) {
            $0.frontends[0].connectionsMax = 2
            $0.limits.queueTickMs = 60_000
        }
        var served: [Wire] = []
        for _ in 0..<2 {
            let wire = try plane.connect()
            try wire.send(Self.get("/"))
            #expect(try wire.readMessage().text == "ok")
            served.append(wire)
        }
        var waiting: [Wire] = []
        for _ in 0..<6 {
            let wire = try plane.connect()
            try wire.send(Self.get("/"))
            waiting.append(wire)
        }
        let full = plane.figures { $0.frontends["http"]?.pausedWorkers ?? 0 > 0 }
        #expect(full.frontends["http"]?.pausedWorkers ?? 0 > 0 && full.frontends["http"]?.connections == 2)
        #expect(waiting.allSatisfy { !$0.hasArrivals(within: 20) } && plane.plane.figures.accepted == 2)
        served.removeAll()
        // Each that is answered goes, and makes room for another, in whichever worker's queue that is.
        while !waiting.isEmpty {
            var ready: Int?
            _ = eventually {
                ready = waiting.firstIndex { $0.hasArrivals(within: 0) }
                return ready != nil
            }
            #expect(try waiting.remove(at: #require(ready)).readMessage().text == "ok")
        }
        #expect(plane.plane.figures.accepted == 8)
        let calm = plane.figures { $0.frontends["http"]?.pausedWorkers == 0 && $0.connections == 0 }
        #expect(calm.frontends["http"]?.pausedWorkers == 0 && calm.frontends["http"]?.pauses ?? 0 > 0)
    }

    @Test("a frontend's limit that comes counts the clients that are there; one that goes lets the others in")
    func frontendReload() throws {
        let server = try TestServer.saying("ok")
        var settings: ProxySettings?
        let plane = try TestPlane([server.route], workers: 2) { settings = $0 }
        var applied = try #require(settings)
        let wires = try (0..<3).map { _ in
            let wire = try plane.connect()
            try wire.send(Self.get("/"))
            #expect(try wire.readMessage().text == "ok")
            return wire
        }
        applied.frontends[0].connectionsMax = 3
        try plane.plane.apply(applied)
        // Until each worker has heard of it: then no client gets in.
        var late: [Wire] = []
        let isClosed = try eventually {
            let wire = try plane.connect()
            try wire.send(Self.get("/"))
            if wire.hasArrivals(within: 100) { return false }
            late.append(wire)
            return true
        }
        #expect(isClosed && plane.figures { $0.frontends["http"]?.pausedWorkers ?? 0 > 0 }.connections >= 3)
        applied.frontends[0].connectionsMax = nil
        try plane.plane.apply(applied)
        for wire in late { #expect(try wire.readMessage().text == "ok") }
        #expect(wires.count == 3)
    }
}

@Suite("Places") struct PlacesTests {
    @Test("no more places are given than there are, whoever asks") func limit() throws {
        let table = PlaceTable(workers: 2)
        let places = table.places
        let counts = Mutex((given: 0, most: 0))
        places.limit(.server(3), to: 5)
        #expect(!places.isFull(.server(3)) && !places.isFull(.server(4)))
        DispatchQueue.concurrentPerform(iterations: 8) { _ in
            for _ in 0..<5_000 where table.places.take(.server(3)) {
                counts.withLock {
                    $0.given += 1
                    $0.most = max($0.most, $0.given)
                }
                counts.withLock { $0.given -= 1 }
                table.places.release(.server(3))
            }
        }
        #expect(counts.withLock { $0.most } <= 5 && counts.withLock { $0.given } == 0)
        for _ in 0..<5 { #expect(places.take(.server(3))) }
        #expect(!places.take(.server(3)) && places.isFull(.server(3)))
        places.limit(.server(3), to: 0)
        #expect(places.take(.server(3)))
        withExtendedLifetime(table) {}
    }

    @Test("the worker whose first one has waited for longest is first in line") func lines() {
        let table = PlaceTable(workers: 3)
        let places = table.places
        #expect(!places.isAwaited(.backend(7)) && places.first(.backend(7)) == nil)
        places.announce(.backend(7), worker: 2, sinceUs: 30)
        places.announce(.backend(7), worker: 0, sinceUs: 20)
        #expect(places.first(.backend(7))?.worker == 0 && !places.isAwaited(.frontend(7)))
        places.announce(.backend(7), worker: 0, sinceUs: 40)
        #expect(places.first(.backend(7))?.worker == 2)
        places.announce(.backend(7), worker: 2, sinceUs: 0)
        #expect(places.first(.backend(7))?.worker == 0)
        places.announce(.backend(7), worker: 0, sinceUs: 0)
        places.announce(.backend(7), worker: 0, sinceUs: 0)
        #expect(!places.isAwaited(.backend(7)))
        withExtendedLifetime(table) {}
    }

    @Test("who waits keeps its turn, whoever leaves before it") func table() {
        var (table, queue, other) = (WaitTable(), WaitQueue(), WaitQueue())
        for slot in [4, 1, 9, 2] { table.append(slot, to: &queue, nowUs: UInt64(slot)) }
        table.append(3, to: &other, nowUs: 5)
        func order() -> [Int] {
            var (order, slot) = ([Int](), Int(queue.first))
            while slot >= 0 {
                order.append(slot)
                slot = table.next(after: slot)
            }
            return order
        }
        #expect(order() == [4, 1, 9, 2] && table.since(queue) == 4 && table.count == 5)
        table.remove(9, from: &queue)
        #expect(order() == [4, 1, 2])
        table.remove(4, from: &queue)
        #expect(order() == [1, 2] && table.since(queue) == 1)
        table.remove(2, from: &queue)
        table.append(7, to: &queue, nowUs: 8)
        #expect(order() == [1, 7] && queue.count == 2)
        for slot in order() { table.remove(slot, from: &queue) }
        #expect(order() == [] && table.since(queue) == 0 && table.since(other) == 5 && table.count == 1)
    }
}
