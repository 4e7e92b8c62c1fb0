// SourceTableTests: hashing, rates, and a table of sources that an attacker with many addresses can't turn against others.

import Glibc
import Foundation
import Synchronization
import Testing

@testable import Proxy

@Suite("Sources") struct SourceTableTests {
    private static let second: UInt64 = 1_000_000_000

    @Test("the hash is SipHash-2-4") func sip() {
        // Key 00 01 … 0f and message 00 01 … 17, as in the reference's test vectors.
        let hash = SourceHash(key0: 0x0706_0504_0302_0100, key1: 0x0f0e_0d0c_0b0a_0908)
        #expect(hash.hash(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, 0x1716_1514_1312_1110) == 0xb8ad_50c6_f649_af94)
    }

    @Test("IPv6 clients count by network, IPv4 clients by address, both by frontend; keys differ") func sources() throws
    {
        let hash = SourceHash(key0: 1, key1: 2)
        func source(_ text: String, _ prefix: Int = 64, realm: UInt64 = 0) throws -> UInt64 {
            hash.source(try #require(SocketAddress(address: text, port: 7)), prefixV6: prefix, realm: realm)
        }
        #expect(try source("2001:db8::1") == source("2001:db8::ffff:1"))
        #expect(try source("2001:db8::1") != source("2001:db8:0:1::1"))
        #expect(try source("2001:db8:0:1::1", 48) == source("2001:db8:0:2::1", 48))
        #expect(try source("2001:db8::1", 128) != source("2001:db8::2", 128))
        #expect(try source("2001:db8::8000:0:0:1", 65) != source("2001:db8::1", 65))
        #expect(try source("10.0.0.1") != source("10.0.0.2"))
        #expect(try source("10.0.0.1") != source("10.0.0.1", realm: 1))
        #expect(try source("10.0.0.0") != source("a00::"))
        #expect(SourceHash().hash(1, 2, 3) != SourceHash().hash(1, 2, 3))
    }

    @Test("a rate admits its burst, then one an interval") func rate() {
        let rate = SourceRate(events: 10, seconds: 1, burst: 3)
        var paid: UInt64 = 0
        var now = 100 * Self.second
        for _ in 0..<3 { paid = rate.admit(paidUntilNs: paid, nowNs: now) ?? 0 }
        #expect(paid == now + 300_000_000)
        #expect(rate.admit(paidUntilNs: paid, nowNs: now) == nil)
        #expect(rate.waitNs(paidUntilNs: paid, nowNs: now) == 100_000_000)
        now += 100_000_000
        #expect(rate.waitNs(paidUntilNs: paid, nowNs: now) == 0)
        paid = rate.admit(paidUntilNs: paid, nowNs: now) ?? 0
        #expect(paid == now + 300_000_000)
        #expect(rate.admit(paidUntilNs: paid, nowNs: now) == nil)
        // An hour of asking in vain costs nothing, and a rest gives a burst, no more.
        now += 3_600 * Self.second
        for _ in 0..<3 { paid = rate.admit(paidUntilNs: paid, nowNs: now) ?? 0 }
        #expect(rate.admit(paidUntilNs: paid, nowNs: now) == nil)
    }

    @Test("what a slower limit noted doesn't outlast it") func changedRate() {
        let slow = SourceRate(events: 1, seconds: 3_600, burst: 10)
        let fast = SourceRate(events: 10, seconds: 1, burst: 1)
        let now = Self.second
        var paid: UInt64 = 0
        for _ in 0..<10 { paid = slow.admit(paidUntilNs: paid, nowNs: now) ?? 0 }
        #expect(fast.admit(paidUntilNs: paid, nowNs: now) == nil)
        #expect(fast.waitNs(paidUntilNs: paid, nowNs: now) == 100_000_000)
    }

    private func open(_ counts: SourceCounts, _ source: UInt64, max: Int) throws -> SourceCounts.Connection {
        try #require(counts.open(source, max: max, nowNs: 1).connection)
    }

    @Test("connections are counted up to the limit, and given back") func connections() throws {
        let table = SourceTable(sources: 64)
        let counts = table.counts
        let first = try open(counts, 77, max: 2)
        let second = try open(counts, 77, max: 2)
        #expect(counts.open(77, max: 2, nowNs: 1) == .refused)
        _ = try open(counts, 78, max: 2)
        counts.close(first)
        #expect(counts.connections(77) == 1)
        let third = try open(counts, 77, max: 2)
        for _ in 0..<5 { for connection in [second, third] { counts.close(connection) } }
        #expect(counts.connections(77) == 0 && counts.connections(78) == 1)
    }

    @Test("who is slow to take a place over spoils nothing of who took it meanwhile") func lateSettling() throws {
        let table = SourceTable(sources: 8)
        let counts = table.counts
        let rate = SourceRate(events: 1, seconds: 1, burst: 1)
        for source in UInt64(1)...8 {
            #expect(counts.take(source << 32, .requests, rate, nowNs: source * Self.second) == nil)
        }
        // Two newcomers to a full set: both see that its first place was used longest ago.
        let (slow, quick) = (UInt64(20) << 32, UInt64(21) << 32)
        let claim = try #require(counts.claim(0, for: slow))
        let connection = try open(counts, quick, max: 1)
        #expect(counts.settle(claim) == 0)
        #expect(counts.connections(quick) == 1 && counts.open(quick, max: 1, nowNs: 1) == .refused)
        counts.close(connection)
        let next = try open(counts, quick, max: 1)
        #expect(counts.open(quick, max: 1, nowNs: 1) == .refused)
        counts.close(next)
        #expect(counts.connections(quick) == 0)
    }

    @Test("a connection that began before its place was settled is counted all the same") func earlyCounting() throws {
        let table = SourceTable(sources: 8)
        let counts = table.counts
        let source = UInt64(20) << 32
        let claim = try #require(counts.claim(3, for: source))
        let connection = try open(counts, source, max: 1)
        #expect(counts.settle(claim) == 3)
        #expect(counts.open(source, max: 1, nowNs: 1) == .refused)
        counts.close(connection)
        #expect(counts.connections(source) == 0)
        _ = try open(counts, source, max: 1)
    }

    @Test("a full set forgets who was active longest ago, never a source with connections") func eviction() throws {
        let table = SourceTable(sources: 8)
        let counts = table.counts
        let rate = SourceRate(events: 1, seconds: 1, burst: 1)
        _ = try open(counts, 1 << 32, max: 1)
        for source in UInt64(2)...8 {
            #expect(counts.take(source << 32, .requests, rate, nowNs: source * Self.second) == nil)
        }
        #expect(table.used == 8)
        let now = 8 * Self.second + 1
        #expect(counts.take(8 << 32, .requests, rate, nowNs: now) != nil)
        // The newcomer takes the place of 2, and the last one's debt is remembered.
        #expect(counts.take(9 << 32, .requests, rate, nowNs: now) == nil)
        #expect(counts.take(8 << 32, .requests, rate, nowNs: now) != nil)
        #expect(counts.open(1 << 32, max: 1, nowNs: now) == .refused)
    }

    @Test("a flood of sources: memory stays, nobody else is refused, who is over the limit stays so") func flood() {
        let table = SourceTable(sources: 1_024)
        let counts = table.counts
        let hash = SourceHash(key0: 3, key1: 4)
        let rate = SourceRate(events: 10, seconds: 1, burst: 10)
        func source(_ number: UInt64) -> UInt64 {
            hash.source(
                SocketAddress(high: number << 32, low: 0, port: 0, isIPv6: false), prefixV6: 64, realm: 0)
        }
        var refusedInnocents = 0
        var refusedOffender = 0
        for number in UInt64(0)..<100_000 {
            let now = Self.second + number * 10_000
            if counts.take(source(number), .requests, rate, nowNs: now) != nil { refusedInnocents += 1 }
            if number % 10 == 0 {
                // 10,000 a second of one source.
                if counts.take(source(1 << 30), .requests, rate, nowNs: now) != nil { refusedOffender += 1 }
            }
        }
        #expect(refusedInnocents == 0)
        #expect(refusedOffender > 9_000)
        #expect(table.used <= 1_024)
        // Held open by the attacker, until each set has only sources with connections: no place left, and let in all the same.
        for number in UInt64(0)..<20_000 { _ = counts.open(source(number), max: 5, nowNs: 8 * Self.second) }
        var uncounted = 0
        for number in UInt64(0)..<2_000 {
            switch counts.open(source(2 << 30 + number), max: 1, nowNs: 9 * Self.second) {
            case .uncounted: uncounted += 1
            case .counted: break
            case .refused: Issue.record("refused for another's sake")
            }
        }
        #expect(uncounted > 0)
    }

    @Test("four threads on one small table: nothing is counted twice or left behind") func threads() {
        let table = SourceTable(sources: 16)
        let done = Mutex(0)
        for thread in 0..<4 {
            Thread.detachNewThread {
                let counts = table.counts
                var random = ChaosTests.Random(state: UInt64(thread))
                for round in 0..<20_000 {
                    // More sources than places.
                    let source = UInt64(random.next(24) + 1) << 32 | UInt64(random.next(2))
                    let connection = counts.open(source, max: 1_000, nowNs: UInt64(round)).connection
                    if let connection { counts.close(connection) }
                    _ = counts.take(
                        source, .requests, SourceRate(events: 1, seconds: 1, burst: 5), nowNs: UInt64(round))
                }
                done.withLock { $0 += 1 }
            }
        }
        while done.withLock({ $0 < 4 }) { usleep(1_000) }
        for high in UInt64(1)...24 {
            for low in UInt64(0)...1 { #expect(table.counts.connections(high << 32 | low) == 0) }
        }
    }

    @Test("patience: at the minimum rate for ever, below it for the span and what was moved") func patience() {
        func lasts(bytes: Int, everyMs: UInt64) -> UInt64 {
            var patience = Patience(spanMs: 1_000)
            var now: UInt64 = 5_000_000_000
            patience.wait(nowMs: now)
            for _ in 0..<1_000 {
                // The deadline comes before the next byte.
                if UInt64(patience.leftMs) < everyMs { break }
                now += everyMs
                patience.moved(bytes, rate: 100, spanMs: 1_000, nowMs: now)
                patience.wait(nowMs: now)
            }
            return now - 5_000_000_000
        }
        #expect(lasts(bytes: 10, everyMs: 100) == 100_000)
        #expect(lasts(bytes: 50, everyMs: 500) == 500_000)
        #expect(lasts(bytes: 1, everyMs: 100) < 1_200)
        #expect(lasts(bytes: 5, everyMs: 100) < 2_200)
        // Megabytes at the start pay for nothing later.
        var patience = Patience(spanMs: 1_000)
        patience.wait(nowMs: 0)
        patience.moved(10_000_000, rate: 100, spanMs: 1_000, nowMs: 10)
        #expect(patience.leftMs == 1_000)
        // The clock stands while something else is waited for.
        patience.rest(nowMs: 20)
        patience.wait(nowMs: 60_000)
        #expect(patience.leftMs == 990)
    }
}

extension SourceCounts.Opening {
    fileprivate var connection: SourceCounts.Connection? {
        guard case .counted(let connection) = self else { return nil }
        return connection
    }
}
