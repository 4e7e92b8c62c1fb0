// OutlierTests: servers that fail again and again, how often a request may be tried elsewhere, and bodies that are kept for it.

import Glibc
import Synchronization
import Testing

@testable import Proxy

@Suite("Outliers and retries") struct OutlierTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    /// Answers with the status that it is told.
    private static func telling(_ status: @escaping @Sendable () -> Int) throws -> TestServer {
        try TestServer.answering { _ in "HTTP/1.1 \(status()) Told\r\nContent-Length: 0\r\n\r\n" }
    }

    @Test("a server that answers 500 again and again is set aside, told of once, and used again when it answers well")
    func statuses() throws {
        let status = Mutex(500)
        let (bad, good) = (try Self.telling { status.withLock { $0 } }, try Self.telling { 200 })
        let plane = try TestPlane([bad.route, good.route], workers: 2) {
            $0.backends[0].outlier = OutlierSettings(errors: 3, countsStatus: true)
        }
        let wires = try (0..<8).map { _ in try plane.connect() }
        let begun = System.bootNanoseconds()
        for number in 0..<160 {
            try wires[number % 8].send(Self.get)
            _ = try wires[number % 8].readMessage()
        }
        // The run, an error of the other worker that hasn't set it aside yet, and one of each after each span.
        let most = 4 + 2 * avoidanceEnds(since: begun)
        #expect((3...most).contains(bad.requests.count), "\(bad.requests.count) of at most \(most)")
        let id = bad.route.id
        #expect(plane.plane.takeSuspicions().contains { $0.id == id && $0.isOutlier })
        #expect(plane.plane.figures.servers[id]?.outliers ?? 0 > 0)
        #expect(plane.plane.figures.servers[good.route.id]?.outliers == 0)
        status.withLock { $0 = 200 }
        let before = bad.requests.count
        // Both workers find out by themselves, each with the first answer after its span.
        let isBack = try eventually {
            try wires[0].send(Self.get)
            return try wires[0].readMessage().status == 200 && bad.requests.count > before + 10
        }
        #expect(isBack)
        #expect(!plane.plane.takeSuspicions().contains { $0.isOutlier })
    }

    @Test("statuses are no errors unless it is said so, and without outlier nobody counts") func off() throws {
        for outlier in [nil, OutlierSettings(errors: 2)] {
            let (bad, good) = (try Self.telling { 500 }, try Self.telling { 200 })
            let plane = try TestPlane([bad.route, good.route]) { $0.backends[0].outlier = outlier }
            let wire = try plane.connect()
            for _ in 0..<20 {
                try wire.send(Self.get)
                _ = try wire.readMessage()
            }
            #expect(bad.requests.count == 10 && plane.plane.takeSuspicions().isEmpty)
        }
    }

    @Test("a server that takes requests and breaks its connections is set aside, though it accepts") func breaks()
        throws
    {
        let bad = try TestServer { wire, _, log in log.note(try wire.readMessage()) }
        let good = try Self.telling { 200 }
        let plane = try TestPlane([bad.route, good.route]) {
            $0.backends[0].outlier = OutlierSettings(errors: 3)
        }
        let wire = try plane.connect()
        let isTold = try eventually {
            try wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            _ = try wire.readMessage()
            return plane.plane.takeSuspicions().contains { $0.id == bad.route.id && $0.isOutlier }
        }
        let figures = plane.plane.figures.servers[bad.route.id]
        #expect(isTold && figures?.errors == 3 && figures?.outliers == 1)
        // From now on that it accepts is no reason to trust it.
        let (begun, before) = (System.bootNanoseconds(), bad.requests.count)
        for _ in 0..<100 {
            try wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            _ = try wire.readMessage()
        }
        #expect(bad.requests.count - before <= 1 + avoidanceEnds(since: begun))
    }

    // MARK: retries

    @Test("a backend's own limits on retries: none for a request, and none beyond the budget") func retries() throws {
        let dead = TestServer.route(port: closedPort())
        let good = try Self.telling { 200 }
        let never = try TestPlane([dead, good.route]) { $0.backends[0].retries.max = 0 }
        let statuses = try (0..<2).map { _ in try never.get().status }
        #expect(statuses.contains(502) && never.plane.figures.retries == 0)
        let poor = try TestPlane([dead, good.route]) {
            $0.backends[0].retries.budgetPercent = 0
            $0.backends[0].retries.perSecondMin = 0
        }
        let others = try (0..<2).map { _ in try poor.get().status }
        #expect(others.contains(502) && poor.plane.figures.retriesDenied == 1)
        // More than `limits` say, for this backend.
        let many = try TestPlane([dead, TestServer.route(port: closedPort()), good.route]) {
            $0.limits.retriesMax = 0
            $0.backends[0].retries.max = 2
        }
        for _ in 0..<3 { #expect(try many.get().status == 200) }
    }

    /// Takes a whole request and closes, and one that says how much it got.
    private static func pair() throws -> (breaking: TestServer, counting: TestServer) {
        (
            try TestServer { wire, _, log in log.note(try wire.readMessage()) },
            try TestServer.answering { request in
                let text = "\(request.body.count) \(request.body.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xffff })"
                return "HTTP/1.1 200 OK\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)"
            }
        )
    }

    private static func body(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) } }

    @Test("a body up to the limit is sent again to another server, when the method allows it")
    func replay() throws {
        for (method, count, limit, status) in [
            ("PUT", 60_000, 64 << 10, 200), ("PUT", 60_000, 0, 502), ("PUT", 70_000, 64 << 10, 502),
            ("POST", 60_000, 64 << 10, 502), ("PUT", 10_000, 0, 200), ("DELETE", 190_000, 192 << 10, 200),
        ] {
            let (breaking, counting) = try Self.pair()
            let plane = try TestPlane([breaking.route]) { $0.backends[0].replayBytesMax = limit }
            let wire = try plane.connect()
            let body = Self.body(count)
            try wire.send("\(method) / HTTP/1.1\r\nHost: a\r\nContent-Length: \(count)\r\n\r\n")
            try wire.send(Array(body[..<(count / 2)]))
            // It is at the breaking server before there is another one.
            #expect(eventually { breaking.connections == 1 })
            plane.publish([breaking.route, counting.route])
            try wire.send(Array(body[(count / 2)...]))
            let answer = try wire.readMessage()
            #expect(answer.status == status && breaking.requests.count == 1, "\(method) \(count) \(limit)")
            if status == 200 {
                #expect(answer.text == "\(count) \(body.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xffff })")
            }
        }
    }

    @Test("a chunked body is kept as far as one buffer goes, as without the key") func chunked() throws {
        let (breaking, counting) = try Self.pair()
        let plane = try TestPlane([breaking.route]) { $0.backends[0].replayBytesMax = 64 << 10 }
        let wire = try plane.connect()
        try wire.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        #expect(eventually { breaking.connections == 1 })
        plane.publish([breaking.route, counting.route])
        try wire.send("7530\r\n")
        // More than a buffer is on its way before the end is known.
        try wire.send(Array(Self.body(30_000)[..<25_000]))
        #expect(plane.figures { $0.bytesIn > 25_000 }.bytesIn > 25_000)
        try wire.send(Array(Self.body(30_000)[25_000...]))
        try wire.send("\r\n0\r\n\r\n")
        #expect(try wire.readMessage().status == 502)
    }
}
