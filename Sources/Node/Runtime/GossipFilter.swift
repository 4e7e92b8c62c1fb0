// GossipFilter: a program for the kernel (classic BPF, McCanne and Jacobson 1993) that lets a socket receive from the
// members' addresses only. What anybody else sends takes no room in the socket's buffer and none of the control thread's
// time. It authenticates nothing: who is on the same link can send from any address. Pure.

import CLinux
import Proxy

enum GossipFilter {
    /// Offsets at or above it count from the packet's network header (SKF_NET_OFF).
    private static let networkHeader: UInt32 = 0xfff0_0000
    private static let load: UInt16 = 0x20  // BPF_LD | BPF_W | BPF_ABS
    private static let jumpIfEqual: UInt16 = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
    private static let finish: UInt16 = 0x06  // BPF_RET | BPF_K
    private static let accept = sock_filter(code: finish, jt: 0, jf: 0, k: .max)
    static let refuse = sock_filter(code: finish, jt: 0, jf: 0, k: 0)

    /// - Parameter addresses: of one family, as a socket is; at most one of each member.
    static func program(accepting addresses: [SocketAddress]) -> [sock_filter] {
        addresses.flatMap { $0.isIPv6 ? six($0) : four($0) } + [refuse]
    }

    /// Where a packet's source is: RFC 791, 3.1.
    private static func four(_ address: SocketAddress) -> [sock_filter] {
        match([UInt32(truncatingIfNeeded: address.high >> 32)], at: 12)
    }

    /// RFC 8200, 3.
    private static func six(_ address: SocketAddress) -> [sock_filter] {
        match([address.high, address.low].flatMap { [UInt32($0 >> 32), UInt32(truncatingIfNeeded: $0)] }, at: 8)
    }

    /// Accepts when all words from `offset` on, counted from the network header, are as given; else goes on behind itself.
    static func match(_ words: [UInt32], at offset: UInt32) -> [sock_filter] {
        var lines: [sock_filter] = []
        for (index, word) in words.enumerated() {
            // Left: the pairs of lines after this one, and `accept`.
            let rest = UInt8(2 * (words.count - index - 1) + 1)
            lines.append(sock_filter(code: load, jt: 0, jf: 0, k: networkHeader + offset + 4 * UInt32(index)))
            lines.append(sock_filter(code: jumpIfEqual, jt: 0, jf: rest, k: word))
        }
        return lines + [accept]
    }
}
