// AnnouncerTests: the frames byte for byte, on a wire, and what a neighbour's kernel makes of them.

import CLinux
import Glibc
import Proxy
import Testing

@testable import Node

@Suite struct AnnouncerFrameTests {
    private let hardware: [UInt8] = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]

    private func hex(_ text: String) -> [UInt8] {
        text.split { $0 == " " || $0 == "\n" }.flatMap { word in
            stride(from: 0, to: word.count, by: 2).compactMap { UInt8(word.dropFirst($0).prefix(2), radix: 16) }
        }
    }

    @Test func gratuitousARPAsRequestAndReply() throws {
        let address = try #require(SocketAddress(address: "10.0.0.100", port: 0))
        #expect(
            Announcer.Frames.announcing(address, hardware: hardware) == [
                hex(
                    """
                    ffffffffffff 02aabbccddee 0806 0001 0800 06 04 0001
                    02aabbccddee 0a000064 000000000000 0a000064
                    """),
                hex(
                    """
                    ffffffffffff 02aabbccddee 0806 0001 0800 06 04 0002
                    02aabbccddee 0a000064 02aabbccddee 0a000064
                    """),
            ])
    }

    @Test func unsolicitedNeighbourAdvertisement() throws {
        let address = try #require(SocketAddress(address: "fd00::64", port: 0))
        let frames = Announcer.Frames.announcing(address, hardware: hardware)
        #expect(frames.count == 1)
        var frame = try #require(frames.first)
        // Everything but the checksum, then the checksum: the sum over it all, itself included, is zero (RFC 4443, 2.3).
        let sum = Array(frame[56..<58])
        frame.replaceSubrange(56..<58, with: [0, 0])
        #expect(
            frame
                == hex(
                    """
                    333300000001 02aabbccddee 86dd 60000000 0020 3a ff
                    fd000000000000000000000000000064 ff020000000000000000000000000001
                    88 00 0000 20000000 fd000000000000000000000000000064 0201 02aabbccddee
                    """))
        let pseudo = Array(frame[22..<54]) + [0, 0, 0, 32, 0, 0, 0, 58]
        #expect(InternetChecksum.of(pseudo + frame[54..<56] + sum + frame[58...]) == 0)
        #expect(sum != [0, 0])
    }

    @Test func probesThatClaimNothing() throws {
        let four = try #require(SocketAddress(address: "10.0.0.100", port: 0))
        #expect(
            Announcer.Frames.probing(four, hardware: hardware)
                == hex(
                    """
                    ffffffffffff 02aabbccddee 0806 0001 0800 06 04 0001
                    02aabbccddee 00000000 000000000000 0a000064
                    """))
        let six = try #require(SocketAddress(address: "fd00::64", port: 0))
        var frame = Announcer.Frames.probing(six, hardware: hardware)
        let message = Array(frame[54...])
        #expect(InternetChecksum.of(Array(frame[22..<54]) + [0, 0, 0, 24, 0, 0, 0, 58] + message) == 0)
        frame.replaceSubrange(56..<58, with: [0, 0])
        #expect(
            frame
                == hex(
                    """
                    3333ff000064 02aabbccddee 86dd 60000000 0018 3a ff
                    00000000000000000000000000000000 ff0200000000000000000001ff000064
                    87 00 0000 00000000 fd000000000000000000000000000064
                    """))
        #expect(ConflictWatch.claim(in: frame[...]) == nil)
    }

    @Test func announcementsAreClaims() throws {
        for (text, words) in [("10.0.0.100", [0x0a00_0064]), ("fd00::64", [0xfd00_0000, 0, 0, 0x64])] {
            let address = try #require(SocketAddress(address: text, port: 0))
            for frame in Announcer.Frames.announcing(address, hardware: hardware) {
                let claim = try #require(ConflictWatch.claim(in: frame[...]))
                #expect(claim.address == words.map(UInt32.init) && claim.hardware == hardware)
                for length in 0..<42 { #expect(ConflictWatch.claim(in: frame[..<length]) == nil) }
            }
        }
    }

}

@Suite(.serialized, .ownThread, .enabled(if: geteuid() == 0, "needs root, to make network namespaces"))
struct AnnouncerWireTests {
    /// What arrives at the other end of the bench's link, with its time.
    private func announcements(_ vip: String, kind: [UInt8]) throws -> [Double] {
        let bench = try FenceBench(vips: [vip])
        defer { bench.close() }
        #expect(bench.awaits { $0.has(.answer(.ready)) })
        // ETH_P_ALL
        let wire = try System.socket(AF_PACKET, SOCK_RAW.rawValue, Int32(UInt16(3).bigEndian))
        defer { System.close(wire) }
        bench.leaseMs = 10_000
        bench.leads = true
        var times: [Double] = []
        bench.live(waitMsMax) { bench in
            while case .bytes(let frame) = FenceSystem.read(wire, max: 2048) {
                // Target fd88::100, to ff02::1.
                if frame.count >= 86, Array(frame[12..<14]) == [0x86, 0xdd], frame[53] == 1, [frame[54]] == kind,
                    Array(frame[62..<64]) == [0xfd, 0x88], Array(frame[76..<78]) == [0x01, 0x00]
                {
                    times.append(bench.nowMs)
                }
                // Not from 0.0.0.0, which is a probe.
                if frame.count >= 42, Array(frame[12..<14]) == [0x08, 0x06], Array(frame[20..<22]) == kind,
                    Array(frame[28..<32]) == [10, 88, 0, 100], Array(frame[38..<42]) == [10, 88, 0, 100]
                {
                    times.append(bench.nowMs)
                }
            }
            return times.count >= 8 && bench.nowMs > (times.last ?? 0) + 100
        }
        let held = bench.times(of: .appeared(vip)).first ?? 0
        return times.map { $0 - held }
    }

    /// Seen twice each: leaving eth0 and arriving at far0. None too early; how late is the machine's affair.
    private func expectBurst(_ times: [Double]) {
        #expect(times.count == 8, "\(times)")
        for (index, expected) in [0, 0, 50, 50, 200, 200, 1000, 1000].enumerated() where index < times.count {
            #expect(times[index] > Double(expected) - 10, "\(times)")
        }
    }

    @Test func aRequestBurstAfterTheAddressAppears() throws {
        expectBurst(try announcements(FenceBench.vip, kind: [0, 1]))
    }

    @Test func aReplyBurstAfterTheAddressAppears() throws {
        expectBurst(try announcements(FenceBench.vip, kind: [0, 2]))
    }

    @Test func anAdvertisementBurstAfterTheAddressAppears() throws {
        expectBurst(try announcements(FenceBench.vip6, kind: [136]))
    }

    /// A neighbour that knows the VIP at another machine's address learns better.
    @Test func aNeighbourFollows() throws {
        let bench = try FenceBench(vips: [FenceBench.vip, FenceBench.vip6])
        defer { bench.close() }
        let far = "\(bench.name)-far"
        FenceBench.shell(
            """
            ip netns add \(far); ip -n \(bench.name) link set far0 netns \(far); ip -n \(far) link set far0 up
            ip -n \(far) addr add 10.88.0.200/24 dev far0; ip -n \(far) addr add fd88::200/64 dev far0 nodad
            ip -n \(far) neigh replace \(FenceBench.vip) lladdr 02:00:00:00:00:99 dev far0 nud stale
            ip -n \(far) neigh replace \(FenceBench.vip6) lladdr 02:00:00:00:00:99 dev far0 nud stale
            """)
        defer { FenceBench.shell("ip netns del \(far)") }
        #expect(bench.awaits { $0.has(.answer(.ready)) })
        bench.leaseMs = 10_000
        bench.leads = true
        #expect(bench.awaits { $0.has(.answer(.held(term: 7))) })
        let bytes = try #require(FenceSystem.interface("eth0")).hardware
        let hardware = [bytes.0, bytes.1, bytes.2, bytes.3, bytes.4, bytes.5].map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0" + text : text
        }.joined(separator: ":")
        for vip in [FenceBench.vip, FenceBench.vip6] {
            let knows = "ip -n \(far) neigh show \(vip) dev far0 | grep -q \(hardware)"
            // The kernel refuses a second change within a second (neigh/…/locktime): hence the burst's last.
            #expect(bench.awaits { _ in FenceBench.shell(knows) == 0 }, "\(vip) is not at \(hardware)")
        }
    }

    /// A machine with the VIP's address betrays itself, and nobody else is taken for one.
    @Test func anotherMachineWithTheAddressIsHeard() throws {
        let bench = try FenceBench(vips: [FenceBench.vip, FenceBench.vip6])
        defer { bench.close() }
        let far = "\(bench.name)-far"
        FenceBench.shell(
            """
            ip netns add \(far); ip -n \(bench.name) link set far0 netns \(far)
            ip -n \(far) link set far0 address 02:88:00:00:00:77 up; ip -n \(far) addr add 10.88.0.200/24 dev far0
            """)
        defer { FenceBench.shell("ip netns del \(far)") }
        let vips = try [(FenceBench.vip, 32), (FenceBench.vip6, 128)].map {
            FenceAddress(
                address: try #require(SocketAddress(address: $0.0, port: 0)), prefix: $0.1, interface: "eth0")
        }
        let announcer = try Announcer()
        var conflicts = ConflictWatch(vips)
        for (index, vip) in vips.enumerated() {
            #expect(announcer.announce(vip) == nil)
            #expect(!bench.live(200) { _ in conflicts.takeClaim(index) != nil }, "\(vip.text): nobody else has it")
        }
        FenceBench.shell(
            """
            ip -n \(far) addr add \(FenceBench.vip)/24 dev far0; ip -n \(far) addr add \(FenceBench.vip6)/64 dev far0 nodad
            """)
        for (index, vip) in vips.enumerated() {
            let isHeard = bench.awaits { _ in
                _ = announcer.announce(vip)
                return conflicts.takeClaim(index) == [0x02, 0x88, 0, 0, 0, 0x77]
            }
            #expect(isHeard, "\(vip.text)")
            #expect(conflicts.takeClaim(1 - index) == nil, "of another VIP")
        }
    }
}
