// ProtectionTests: clients that want too much, or are too slow on purpose, and a process that runs out of descriptors.

import Foundation
import Glibc
import Testing

@testable import Proxy

@Suite("Protection") struct ProtectionTests {
    private func limited(
        _ server: TestServer, workers: Int = 1, _ change: (inout SourceLimits) -> Void,
        adjust: (inout ProxySettings) -> Void = { _ in }
    ) throws -> TestPlane {
        try TestPlane([server.route], workers: workers) { settings in
            var limits = SourceLimits()
            change(&limits)
            settings.frontends[0].sources = limits
            adjust(&settings)
        }
    }

    private static let loopback = Network(
        SocketAddress(high: 0x7f00_0000 << 32, low: 0, port: 0, isIPv6: false), prefix: 8)

    // MARK: limits per source

    @Test("connections beyond a source's limit are closed at once; those it has go on, and each end makes room")
    func connections() throws {
        let server = try TestServer.saying("good")
        let plane = try limited(server, workers: 2) { $0.connections = 2 }
        var kept: [Wire] = []
        for _ in 0..<2 {
            let wire = try plane.connect()
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try wire.readMessage().status == 200)
            kept.append(wire)
        }
        let refused = try plane.connect()
        try? refused.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(throws: (any Error).self) { try refused.readMessage() }
        #expect(plane.figures { $0.overLimit.connections == 1 }.overLimit.connections == 1)
        try kept[0].send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try kept[0].readMessage().status == 200)
        kept.removeLast()
        #expect(plane.figures { $0.connections == 1 }.connections == 1)
        #expect(try plane.get().status == 200)
    }

    @Test("requests beyond a source's rate get 429 that says when to come back, on a connection that stays")
    func requestRate() throws {
        let server = try TestServer.saying("good")
        let plane = try limited(server) { $0.requestRate = SourceRate(events: 3, seconds: 3_600, burst: 3) }
        let wire = try plane.connect()
        for number in 1...5 {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try wire.readMessage()
            #expect(answer.status == (number <= 3 ? 200 : 429))
            if number > 3 { #expect(answer["Retry-After"] == ["1"] && answer["Connection"].isEmpty) }
        }
        // With a body that was never read, the connection can't go on.
        try wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        let last = try wire.readMessage()
        #expect(last.status == 429 && last["Connection"] == ["close"])
        #expect(server.requests.count == 3)
        let figures = plane.figures { $0.overLimit.requestRate == 3 && $0.inFlight == 0 }
        #expect(figures.overLimit.requestRate == 3 && figures.responses[4] == 3 && figures.inFlight == 0)
    }

    @Test("a trusted proxy's clients are counted one by one") func forwardedSources() throws {
        let server = try TestServer.saying("good")
        let plane = try limited(server) {
            $0.requestRate = SourceRate(events: 1, seconds: 3_600, burst: 1)
        } adjust: {
            $0.frontends[0].trustedProxies = [Self.loopback]
        }
        let wire = try plane.connect()
        for (client, status) in [("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)] {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: \(client)\r\n\r\n")
            #expect(try wire.readMessage().status == status)
        }
    }

    @Test("connections opened too fast are closed; who is exempt is under no limit") func rateAndExemption() throws {
        let server = try TestServer.saying("good")
        func change(_ limits: inout SourceLimits) {
            limits.connectionRate = SourceRate(events: 2, seconds: 3_600, burst: 2)
            limits.requestRate = SourceRate(events: 2, seconds: 3_600, burst: 2)
        }
        let plane = try limited(server, change)
        for _ in 0..<2 { #expect(try plane.get().status == 200) }
        #expect(throws: (any Error).self) { try plane.get() }
        #expect(plane.figures { $0.overLimit.connectionRate == 1 }.overLimit.connectionRate == 1)
        let open = try limited(server) {
            change(&$0)
            $0.exempt = [Self.loopback]
        }
        for _ in 0..<6 { #expect(try open.get().status == 200) }
    }

    @Test("connections of a TCP frontend are limited, too; with a PROXY header, by the client it names")
    func streams() throws {
        let server = try TestServer { wire, _, _ in try wire.send(wire.read(1)) }
        let plane = try limited(server) {
            $0.connections = 1
        } adjust: {
            $0.frontends[0].mode = .tcp
            $0.frontends[0].acceptProxy = [Self.loopback]
        }
        var kept: [Wire] = []
        for (client, isAdmitted) in [("192.0.2.1", true), ("192.0.2.1", false), ("192.0.2.2", true)] {
            let wire = try plane.connect()
            try wire.send("PROXY TCP4 \(client) 198.51.100.1 5000 80\r\n")
            if isAdmitted {
                _ = plane.figures { $0.inFlight == kept.count + 1 }
                kept.append(wire)
            } else {
                #expect(wire.isClosed())
            }
        }
        for wire in kept {
            try wire.send("x")
            #expect(try wire.read(1) == Array("x".utf8))
        }
        #expect(plane.plane.figures.overLimit.connections == 1)
    }

    // MARK: slow clients

    private static let spanMs = 800

    /// Whether a client that does something 50 times, for longer than the span in all, gets through. A test that stood still
    /// for most of a span was slow itself, and may have been cut off: then another client tries.
    private static func isSteady(
        _ begin: () throws -> Wire, step: (Wire) throws -> Void, end: (Wire) throws -> Void
    ) throws -> Bool {
        try eventually {
            let wire = try begin()
            var longestMs = 0
            for _ in 0..<50 {
                let begun = System.bootNanoseconds()
                let outcome = Result { try step(wire) }
                usleep(20_000)
                longestMs = max(longestMs, elapsedMs(since: begun))
                if longestMs > spanMs / 2 { return false }
                try outcome.get()
            }
            try end(wire)
            return true
        }
    }

    @Test("a body that comes in drops is cut off with 408, however often a drop comes") func slowBody() throws {
        let server = try TestServer { wire, _, _ in _ = try wire.readToEnd() }
        let plane = try TestPlane([server.route]) { settings in
            settings.timeouts.clientMs = 60_000
            settings.limits.minimumRate = 1_000
            settings.limits.minimumRateSpanMs = 300
        }
        // Until drops came: a test that stands still sends none.
        var bodies: UInt64 = 0
        let hasDripped = try eventually {
            let wire = try plane.connect()
            try wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            var drops = 0
            let isTold = eventually {
                if wire.hasArrivals(within: 5) { return true }
                try? wire.send("x")
                drops += 1
                return false
            }
            let status = try wire.readMessage().status
            #expect(isTold && status == 408)
            bodies += 1
            return drops > 1
        }
        #expect(hasDripped && plane.figures { $0.slow.bodies == bodies }.slow.bodies == bodies)
    }

    @Test("a body at the minimum rate may take longer than the span") func steadyBody() throws {
        let server = try TestServer.saying("good")
        let plane = try TestPlane([server.route]) { settings in
            settings.limits.minimumRate = 1_000
            settings.limits.minimumRateSpanMs = Self.spanMs
        }
        // Much faster than asked, and longer than the span in all.
        let isSteady = try Self.isSteady {
            let wire = try plane.connect()
            try wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n")
            return wire
        } step: {
            try $0.send([UInt8](repeating: 7, count: 1_000))
        } end: { wire in
            let text = try wire.readMessage().text
            #expect(text == "good")
        }
        #expect(isSteady)
    }

    @Test("a client that hardly reads its response is cut off; one that reads slowly but enough gets all of it")
    func slowReader() throws {
        let length = 4 << 20
        let server = try TestServer.answering { _ in
            "HTTP/1.1 200 OK\r\nContent-Length: \(length)\r\n\r\n" + String(repeating: "x", count: length)
        }
        let plane = try TestPlane([server.route]) { settings in
            settings.timeouts.clientMs = 60_000
            settings.limits.minimumRate = 100_000
            settings.limits.minimumRateSpanMs = Self.spanMs
        }
        let idle = try plane.connect(receiveBytes: 4_096)
        try idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(plane.figures { $0.slow.readers == 1 }.slow.readers == 1)
        var readers: UInt64 = 1
        let isSteady = try Self.isSteady {
            readers = plane.plane.figures.slow.readers
            let wire = try plane.connect()
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let status = try wire.readHead().status
            #expect(status == 200)
            return wire
        } step: {
            _ = try $0.read(length / 50)
        } end: { wire in
            let last = try wire.read(length % 50).count
            #expect(last == length % 50)
            #expect(plane.plane.figures.slow.readers == readers)
        }
        #expect(isSteady)
    }

    @Test("a head in drops gets 408 after the time for heads, however often a drop comes") func slowHead() throws {
        let server = try TestServer.saying("good")
        let plane = try TestPlane([server.route]) { $0.timeouts.requestMs = 200 }
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in 0..<1_000 where !wire.hasArrivals(within: 5) { try? wire.send("x") }
        #expect(try wire.readMessage().status == 408)
        #expect(plane.figures { $0.slow.heads == 1 }.slow.heads == 1)
    }
}
