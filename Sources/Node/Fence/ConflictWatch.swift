// ConflictWatch: hears that another machine has a VIP's address, too (address conflict detection, RFC 5227, 2.4).
//
// IPv4: an ARP probe (sender 0.0.0.0) is answered by every machine that has the address, and each ARP packet with the VIP as
// its sender is a claim. IPv6: the same with a neighbour solicitation as duplicate address detection sends it (RFC 4862, 5.4.2)
// and advertisements. The owner's own gate lets its probes out; a former owner's keeps its answers in. What a claim means, and
// when one may still be a former owner's, is for FenceState (`isSettled`). The fence's one thread owns it; no call waits.

import CLinux
import Glibc
import Proxy

struct ConflictWatch: ~Copyable {
    /// Frames looked at in one call, and room for about as many: more of the same tell nothing more.
    private static let framesPerTurn = 64
    private static let bufferBytes: Int32 = 32 << 10

    private let vips: [FenceAddress]
    private var listeners: [Int32] = []
    /// By VIP: the Ethernet address of another machine that claimed it since `takeClaim`.
    private var claims: [[UInt8]?]

    /// Without CAP_NET_RAW nothing is heard; whoever starts the node has been told of that.
    init(_ vips: [FenceAddress]) {
        self.vips = vips
        claims = Array(repeating: nil, count: vips.count)
        for isIPv6 in [false, true] {
            let addresses = vips.map(\.address).filter { $0.isIPv6 == isIPv6 }
            guard !addresses.isEmpty else { continue }
            let listener = clinux_packet_listener(0, isIPv6 ? 0x86dd : 0x0806)
            guard listener >= 0 else { continue }
            let program =
                addresses.flatMap { GossipFilter.match($0.words, at: isIPv6 ? 48 : 14) } + [GossipFilter.refuse]
            guard clinux_attach_filter(listener, program, UInt16(program.count)) == 0 else {
                System.close(listener)
                continue
            }
            try? System.setOption(listener, SOL_SOCKET, SO_RCVBUF, Self.bufferBytes)
            listeners.append(listener)
        }
    }

    deinit { for listener in listeners { System.close(listener) } }

    /// The Ethernet address of another machine that claimed this VIP on its interface since the last call.
    mutating func takeClaim(_ vip: Int) -> [UInt8]? {
        for listener in listeners { hear(listener) }
        defer { claims[vip] = nil }
        return claims[vip]
    }

    private mutating func hear(_ listener: Int32) {
        var frame = [UInt8](repeating: 0, count: 128)
        for _ in 0..<Self.framesPerTurn {
            var index: Int32 = 0
            let count = clinux_receive_frame(listener, &index, &frame, frame.count)
            guard count > 0 else { return }
            guard let (claimed, hardware) = Self.claim(in: frame[..<count]) else { continue }
            for (vip, address) in vips.enumerated() where address.address.words == claimed {
                guard let interface = FenceSystem.interface(address.interface), interface.index == index else {
                    continue
                }
                let own = interface.hardware
                if hardware != [own.0, own.1, own.2, own.3, own.4, own.5] { claims[vip] = hardware }
            }
        }
    }

    /// Whose address a frame claims, and for which station: RFC 826; RFC 4861, 4.4 (in clear, without extension headers).
    static func claim(in frame: ArraySlice<UInt8>) -> (address: [UInt32], hardware: [UInt8])? {
        let bytes = Array(frame)
        guard bytes.count >= 42 else { return nil }
        if bytes[12..<14] == [0x08, 0x06], bytes[14..<20] == [0, 1, 8, 0, 6, 4] {
            return (words(bytes[28..<32]), Array(bytes[22..<28]))
        }
        if bytes.count >= 78, bytes[12..<14] == [0x86, 0xdd], bytes[20] == 58, bytes[21] == 255, bytes[54] == 136 {
            return (words(bytes[62..<78]), Array(bytes[6..<12]))
        }
        return nil
    }

    private static func words(_ bytes: ArraySlice<UInt8>) -> [UInt32] {
        stride(from: bytes.startIndex, to: bytes.endIndex, by: 4).map { start in
            bytes[start..<start + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }
    }
}

extension SocketAddress {
    /// The address as the words that a packet holds.
    fileprivate var words: [UInt32] {
        let high = [UInt32(high >> 32), UInt32(truncatingIfNeeded: high)]
        return isIPv6 ? high + [UInt32(low >> 32), UInt32(truncatingIfNeeded: low)] : [high[0]]
    }
}
