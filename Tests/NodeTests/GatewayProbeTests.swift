// GatewayProbeTests: what losses of echoes come to, and real echoes to this machine itself.

import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct GatewayProbeTests {
    private var echoes = GatewayEchoes(EchoForm(isIPv6: false, isRaw: false, identifier: 7))
    private var token: UInt64 = 0

    /// Sends one.
    private mutating func next() -> Echo {
        token += 1
        return echoes.next(token: token)
    }

    /// The answer that a gateway gives to an echo on a kernel's echo socket.
    private mutating func answer(_ echo: Echo) { echoes.take([0] + echo.bytes.dropFirst()) }

    @Test mutating func anAnswerMakesItReachable() {
        #expect(echoes.isReachable == nil)
        answer(next())
        #expect(echoes.isReachable == true)
    }

    @Test mutating func threeLossesInARowMakeItUnreachableAndOneAnswerBringsItBack() {
        answer(next())
        for _ in 0..<3 { _ = next() }
        #expect(echoes.isReachable == true, "the third has only been sent")
        let fourth = next()
        #expect(echoes.isReachable == false)
        answer(fourth)
        #expect(echoes.isReachable == true)
        // Two losses, an answer, two losses: never three in a row.
        for _ in 0..<4 {
            for _ in 0..<2 { _ = next() }
            answer(next())
        }
        #expect(echoes.isReachable == true)
    }

    @Test mutating func withoutAnyAnswerItIsUnreachableAfterThree() {
        for _ in 0..<3 { _ = next() }
        #expect(echoes.isReachable == nil)
        _ = next()
        #expect(echoes.isReachable == false)
    }

    @Test mutating func aLateAnswerCountsUnlessItIsTooLate() {
        var sent: [Echo] = []
        for _ in 0..<5 { sent.append(next()) }
        for late in sent[..<2] {
            answer(late)
            #expect(echoes.isReachable == false)
        }
        answer(sent[2])
        #expect(echoes.isReachable == true, "two echoes late is good enough")
    }

    private static let mayEcho = getuid() == 0

    @Test(
        .enabled(if: mayEcho, "echoes need CAP_NET_RAW: run `swift test` as root for this"),
        arguments: ["127.0.0.1", "::1"])
    func thisMachineAnswersItself(_ host: String) throws {
        let address = try #require(SocketAddress(address: host, port: 0))
        var probe = try GatewayProbe(gateway: address, source: address, now: Instant(nanoseconds: 0))
        defer { probe.close() }
        var now = Instant(nanoseconds: 0)
        let end = System.bootNanoseconds() + UInt64(waitMsMax) * 1_000_000
        while probe.isReachable != true, System.bootNanoseconds() < end {
            #expect(probe.deadline <= now)
            probe.tick(now: now)
            now = now.advanced(by: GatewayProbe.interval)
            usleep(5_000)
            probe.handle()
        }
        #expect(probe.isReachable == true)
    }

    @Test(.enabled(if: mayEcho, "echoes need CAP_NET_RAW: run `swift test` as root for this"))
    func whoDoesNotAnswerIsUnreachable() throws {
        // TEST-NET-1 (RFC 5737): nobody has this address, and no route may lead there.
        let nobody = try #require(SocketAddress(address: "192.0.2.77", port: 0))
        var probe = try GatewayProbe(gateway: nobody, source: nil, now: Instant(nanoseconds: 0))
        defer { probe.close() }
        for second in 0..<4 {
            #expect(probe.isReachable == nil)
            probe.tick(now: Instant(nanoseconds: UInt64(second) * 1_000_000_000))
            probe.handle()
        }
        #expect(probe.isReachable == false)
    }

    @Test func itTicksOnceASecond() throws {
        let address = try #require(SocketAddress(address: "127.0.0.1", port: 0))
        guard var probe = try? GatewayProbe(gateway: address, source: nil, now: Instant(nanoseconds: 5)) else { return }
        defer { probe.close() }
        probe.tick(now: Instant(nanoseconds: 5))
        #expect(probe.deadline == Instant(nanoseconds: 1_000_000_005))
        probe.tick(now: Instant(nanoseconds: 600_000_000))
        #expect(probe.deadline == Instant(nanoseconds: 1_000_000_005), "too early: nothing is due")
    }
}
