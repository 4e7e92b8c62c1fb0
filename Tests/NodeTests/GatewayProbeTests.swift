// GatewayProbeTests: echoes and their answers as bytes, what losses come to, and real echoes to this machine itself.

import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct GatewayProbeTests {
    /// The answer that a gateway gives to an echo on a kernel's echo socket.
    private func answer(_ echo: [UInt8], isIPv6: Bool = false) -> [UInt8] { [isIPv6 ? 129 : 0] + echo.dropFirst() }

    @Test func anEchoIsAsTheStandardSays() {
        var raw = GatewayEcho(isIPv6: false, identifier: 0x1234, isRaw: true)
        let bytes = raw.next()
        #expect(bytes.prefix(2) == [8, 0] && bytes[4...7] == [0x12, 0x34, 0, 1])
        // A sum over all of it, the checksum included, comes to nothing (RFC 1071).
        #expect(InternetChecksum.of(bytes) == 0)
        // The example of RFC 1071, 3.
        #expect(InternetChecksum.of([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]) == ~0xddf2)
        #expect(InternetChecksum.of([0xff]) == ~0xff00, "an odd byte is padded")
        var six = GatewayEcho(isIPv6: true, identifier: 7, isRaw: true)
        #expect(six.next().prefix(4) == [128, 0, 0, 0])
    }

    @Test(arguments: [false, true]) func anAnswerMakesItReachable(_ isIPv6: Bool) {
        var echo = GatewayEcho(isIPv6: isIPv6, identifier: 7, isRaw: false)
        #expect(echo.isReachable == nil)
        let first = echo.next()
        echo.take(answer(first, isIPv6: isIPv6))
        #expect(echo.isReachable == true)
    }

    @Test func threeLossesInARowMakeItUnreachableAndOneAnswerBringsItBack() {
        var echo = GatewayEcho(isIPv6: false, identifier: 7, isRaw: false)
        echo.take(answer(echo.next()))
        for _ in 0..<3 { _ = echo.next() }
        #expect(echo.isReachable == true, "the third has only been sent")
        let fourth = echo.next()
        #expect(echo.isReachable == false)
        echo.take(answer(fourth))
        #expect(echo.isReachable == true)
        // Two losses, an answer, two losses: never three in a row.
        for _ in 0..<4 {
            for _ in 0..<2 { _ = echo.next() }
            echo.take(answer(echo.next()))
        }
        #expect(echo.isReachable == true)
    }

    @Test func withoutAnyAnswerItIsUnreachableAfterThree() {
        var echo = GatewayEcho(isIPv6: false, identifier: 7, isRaw: false)
        for _ in 0..<3 { _ = echo.next() }
        #expect(echo.isReachable == nil)
        _ = echo.next()
        #expect(echo.isReachable == false)
    }

    @Test func whatIsNoAnswerOfOursCountsForNothing() {
        var echo = GatewayEcho(isIPv6: false, identifier: 7, isRaw: false)
        var sent: [[UInt8]] = []
        for _ in 0..<5 { sent.append(echo.next()) }
        let late = answer(sent[0])
        let ours = answer(sent[4])
        var strange = ours
        strange[7] = 200
        let unreachable: [UInt8] = [3, 1] + ours.dropFirst(2)
        let cut = Array(ours.prefix(7))
        let others: [[UInt8]] = [[], [0], late, strange, sent[4], unreachable, cut]
        for bytes in others {
            echo.take(bytes)
            #expect(echo.isReachable == false, "\(bytes)")
        }
        echo.take(answer(sent[2]))
        #expect(echo.isReachable == true, "two echoes late is good enough")
    }

    @Test func aRawSocketsAnswersComeWithAHeaderAndMayBeOthers() {
        var echo = GatewayEcho(isIPv6: false, identifier: 0x0102, isRaw: true)
        let sent = echo.next()
        let header = [UInt8](repeating: 0, count: 20)
        var other = answer(sent)
        other[4] = 9
        echo.take([0x45] + header.dropFirst() + other)
        echo.take(answer(sent))
        #expect(echo.isReachable == nil)
        // With options: the header says how long it is.
        echo.take([0x46] + header.dropFirst() + [1, 1, 1, 1] + answer(sent))
        #expect(echo.isReachable == true)
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
        let end = System.bootNanoseconds() + 20_000_000_000
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
