// SlowStartTests: a server that came up gets its weight little by little, wherever and whenever that is noticed.

import Testing

@testable import Proxy

@Suite("Slow start") struct SlowStartTests {
    private static let upMs: Int64 = 1_700_000_000_000

    private func make(_ balance: Balance = .roundRobin, upForMs: Int64, nowMs: UInt64 = 5_000) -> Balancer {
        var balancer = Balancer(balance)
        balancer.setSlowStart(ms: 10_000)
        balancer.use(
            [
                .init(slot: 1, key: 1, weight: 10, upSinceMs: 1),
                .init(slot: 2, key: 2, weight: 10, upSinceMs: Self.upMs),
            ], nowMs: nowMs, wallMs: Self.upMs + upForMs)
        return balancer
    }

    private func share(_ balancer: inout Balancer, nowMs: UInt64) -> Double {
        let found = balancer.next(2_000, nowMs: nowMs)
        return Double(found[2, default: 0]) / Double(found[1, default: 1])
    }

    @Test("a tenth at first, the whole at the end, never less than before", arguments: [Balance.roundRobin, .random])
    func ramp(balance: Balance) {
        var balancer = make(balance, upForMs: 0)
        var last = 0.0
        for (atMs, expected) in [(0, 0.1), (2_500, 0.325), (5_000, 0.55), (9_000, 0.91), (10_000, 1), (60_000, 1)] {
            let share = share(&balancer, nowMs: 5_000 + UInt64(atMs))
            // Two choices of two servers are the first drawn: x of 1 + x.
            #expect(abs(share - expected) < (balance == .random ? 0.15 : 0.03), "\(atMs) ms: \(share)")
            #expect(share > last - 0.1)
            last = share
        }
    }

    @Test("requests in flight follow the weight") func load() {
        var balancer = make(.leastConnections, upForMs: 0)
        for _ in 0..<110 { balancer.count(balancer.choose(nowMs: 5_000, tried: TriedServers()) ?? 0, 1) }
        #expect(balancer.candidates.map(\.inFlight) == [100, 10])
    }

    @Test("whoever learns of it later goes on where the others are") func laterNode() {
        var balancer = make(upForMs: 5_000)
        #expect(abs(share(&balancer, nowMs: 5_000) - 0.55) < 0.03)
        #expect(abs(share(&balancer, nowMs: 10_000) - 1) < 0.01)
        var late = make(upForMs: 10_000)
        #expect(share(&late, nowMs: 5_000) == 1)
        // A clock that is behind delays it, and no longer than the span.
        var behind = make(upForMs: -1_000_000)
        #expect(abs(share(&behind, nowMs: 5_000) - 0.1) < 0.02)
        #expect(abs(share(&behind, nowMs: 15_001) - 1) < 0.01)
    }

    @Test("tables in between change nothing; going down and coming up begins anew") func tables() {
        var balancer = make(upForMs: 0)
        func use(_ nowMs: UInt64, _ wallMs: Int64, isUp: Bool = true, since: Int64 = Self.upMs) {
            balancer.use(
                [
                    .init(slot: 1, key: 1, weight: 10, upSinceMs: 1),
                    .init(slot: 2, key: 2, weight: 10, isUsable: isUp, upSinceMs: since),
                ], nowMs: nowMs, wallMs: wallMs)
        }
        // The wall clock was set: what has begun goes on by the clock that can't be.
        use(7_500, Self.upMs + 3_600_000)
        #expect(abs(share(&balancer, nowMs: 7_500) - 0.325) < 0.03)
        use(8_000, Self.upMs + 3_000, isUp: false)
        #expect(balancer.next(50, nowMs: 8_000) == [1: 50])
        use(9_000, Self.upMs + 4_000, since: Self.upMs + 4_000)
        #expect(abs(share(&balancer, nowMs: 9_000) - 0.1) < 0.03)
    }

    @Test("without a span, or without a known time, the whole weight at once; a new span holds at once") func spans() {
        var balancer = make(upForMs: 0)
        balancer.setSlowStart(ms: 0)
        let servers: [Balancer.Server] = [
            .init(slot: 1, key: 1, weight: 10, upSinceMs: 1), .init(slot: 2, key: 2, weight: 10, upSinceMs: Self.upMs),
            .init(slot: 3, key: 3, weight: 10, upSinceMs: 0),
        ]
        balancer.use(servers, nowMs: 5_000, wallMs: Self.upMs)
        #expect(balancer.next(30, nowMs: 5_000) == [1: 10, 2: 10, 3: 10])
        balancer.setSlowStart(ms: 20_000)
        balancer.use(servers, nowMs: 5_000, wallMs: Self.upMs)
        let found = balancer.next(210, nowMs: 5_000)
        #expect(found == [1: 100, 2: 10, 3: 100])
    }
}
