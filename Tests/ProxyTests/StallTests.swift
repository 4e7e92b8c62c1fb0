// StallTests: a worker that stood still, and goes on after deadlines that clients and servers have kept.

import Glibc
import Synchronization
import Testing

@testable import Proxy

private let stalls = Atomic(0)
private let releases = Atomic(0)

@Suite("Standing still", .serialized) struct StallTests {
    /// Does something while a worker stands still within its wait for events, as on a machine that is busy with others. The wait
    /// ends as interrupted, with nothing.
    private func stall(_ plane: TestPlane, _ work: () -> Void) throws {
        let worker = try #require(plane.plane.threads.first?.thread)
        signal(SIGUSR2) { _ in
            let number = stalls.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue
            while releases.load(ordering: .sequentiallyConsistent) < number { usleep(1_000) }
        }
        let before = stalls.load(ordering: .sequentiallyConsistent)
        #expect(pthread_kill(worker, SIGUSR2) == 0)
        #expect(eventually { stalls.load(ordering: .sequentiallyConsistent) > before })
        work()
        releases.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }

    private static let timeoutMs = 500

    /// A plane whose worker can be interrupted: threads of the test's kind have signals blocked, and those they start have, too.
    private func plane(_ server: TestServer, _ change: (inout ProxyTimeouts) -> Void) throws -> TestPlane {
        var (signals, before) = (sigset_t(), sigset_t())
        sigemptyset(&signals)
        sigaddset(&signals, SIGUSR2)
        pthread_sigmask(SIG_UNBLOCK, &signals, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        return try TestPlane([server.route]) { change(&$0.timeouts) }
    }

    /// - Parameter late: what comes during the stall.
    private func status(
        _ plane: TestPlane, _ first: String, late: (Wire) -> Void, until isThere: () -> Bool
    ) throws -> Int {
        var status = 0
        // Until it was stopped before the deadline: this thread may stand still, too.
        let isShown = try eventually {
            let begun = System.bootNanoseconds()
            let wire = try plane.connect()
            try wire.send(first)
            let isReady = eventually(isThere)
            #expect(isReady)
            var isEarly = false
            try stall(plane) {
                isEarly = elapsedMs(since: begun) < Self.timeoutMs - 50
                late(wire)
                usleep(UInt32(Self.timeoutMs + 50) * 1_000)
            }
            status = (try? wire.readMessage().status) ?? 0
            return isEarly
        }
        #expect(isShown)
        return status
    }

    @Test("the rest of a head that came while nobody looked came in time") func head() throws {
        let server = try TestServer.saying("hello")
        let plane = try plane(server) { $0.requestMs = Self.timeoutMs }
        var accepted: UInt64 = 0
        let status = try status(plane, "GET / HTTP/1.1\r\n") {
            try? $0.send("Host: a\r\n\r\n")
            accepted = plane.plane.figures.accepted
        } until: {
            plane.plane.figures.accepted > accepted
        }
        #expect(status == 200)
    }

    @Test("and so did a server's answer") func answer() throws {
        let gate = Atomic(0)
        let server = try TestServer { wire, number, log in
            log.note(try wire.readMessage())
            while gate.load(ordering: .relaxed) < number { usleep(1_000) }
            try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        }
        let plane = try plane(server) { $0.serverMs = Self.timeoutMs }
        let status = try status(plane, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") { _ in
            gate.store(server.connections, ordering: .relaxed)
        } until: {
            server.requests.count > gate.load(ordering: .relaxed)
        }
        #expect(status == 200)
    }

    @Test("all that was ready before is taken first, in however many waits, and no deadline is put off for ever")
    func seen() {
        var seen = SeenTime(nowMs: 100)
        #expect(seen.ms == 100)
        seen.took(3, askedMs: 200, isAll: true, most: 600)
        #expect(seen.ms == 200)
        for (askedMs, ms) in [(300, 200), (310, 200), (320, 300), (330, 300), (340, 300), (350, 330)]
            as [(UInt64, UInt64)]
        {
            seen.took(256, askedMs: askedMs, isAll: false, most: 600)
            #expect(seen.ms == ms, "\(askedMs)")
        }
        seen.took(256, askedMs: 360, isAll: false, most: 600)
        seen.took(0, askedMs: 370, isAll: true, most: 600)
        #expect(seen.ms == 370)
        seen.took(256, askedMs: 380, isAll: false, most: 600)
        #expect(seen.ms == 370)
    }
}
