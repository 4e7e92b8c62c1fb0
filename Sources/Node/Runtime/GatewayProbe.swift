// GatewayProbe: whether this node reaches the network's gateway (`leadership.gateway`): one ICMP echo a second.
//
// Part of a node's fitness to lead: a node whose uplink is dead may still hear its peers. It decides nothing itself.
// Control thread only; never blocks, starts no process, and is never in the way: a node that may not send echoes knows
// nothing about the gateway, which counts for nothing.
//
//   unknown --an answer--> reachable --three echoes unanswered--> unreachable --an answer--> reachable
//      └----------------------three echoes unanswered-----------------▲
//
// RFC 792 (echo), RFC 4443 (ICMPv6 echo).

import CLinux
import Glibc
import Gossip
import Proxy

/// The bytes of an echo and of its answer, and which answers count.
struct GatewayEcho: Equatable, Sendable {
    static let lossesMax = 3

    let isIPv6: Bool
    /// On a raw socket this tells our answers from those of another process; the kernel fills in its own otherwise.
    let identifier: UInt16
    /// A raw IPv4 socket hears the IP header, too, and leaves the checksum to us.
    let isRaw: Bool
    private var sequence: UInt16 = 0
    private var isWaiting = false
    private var losses = 0
    /// nil: nothing is known yet.
    private(set) var isReachable: Bool?

    init(isIPv6: Bool, identifier: UInt16, isRaw: Bool) {
        self.isIPv6 = isIPv6
        self.identifier = identifier
        self.isRaw = isRaw
    }

    /// The next echo to send. What the one before came to is decided now.
    mutating func next() -> [UInt8] {
        if isWaiting { losses += 1 }
        if losses >= Self.lossesMax { isReachable = false }
        isWaiting = true
        sequence &+= 1
        var bytes: [UInt8] = [isIPv6 ? 128 : 8, 0, 0, 0]
        for word in [identifier, sequence] { bytes += [UInt8(word >> 8), UInt8(word & 0xff)] }
        bytes += Array("triad   ".utf8)
        // The kernel sums ICMPv6 up itself: the sum covers the addresses, too.
        guard isRaw, !isIPv6 else { return bytes }
        let sum = InternetChecksum.of(bytes)
        (bytes[2], bytes[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
        return bytes
    }

    /// A datagram came from the gateway; a late answer to one of the last echoes counts as well.
    mutating func take(_ datagram: [UInt8]) {
        var datagram = datagram[...]
        if isRaw, !isIPv6 {
            guard let first = datagram.first, first >> 4 == 4, first & 0x0f >= 5 else { return }
            datagram = datagram.dropFirst(4 * Int(first & 0x0f))
        }
        let bytes = Array(datagram.prefix(8))
        guard bytes.count == 8, bytes[0] == (isIPv6 ? 129 : 0), bytes[1] == 0 else { return }
        if isRaw, UInt16(bytes[4]) << 8 | UInt16(bytes[5]) != identifier { return }
        let age = sequence &- (UInt16(bytes[6]) << 8 | UInt16(bytes[7]))
        guard age < Self.lossesMax else { return }
        isReachable = true
        losses = 0
        if age == 0 { isWaiting = false }
    }
}

struct GatewayProbe {
    static let interval = Duration.seconds(1)
    private static let datagramsPerTurn = 32

    /// Readable when answers have come; for the reactor.
    let descriptor: Int32
    /// When to `tick`.
    private(set) var deadline: Instant
    private let gateway: SocketAddress
    private var isConnected = false
    private var echo: GatewayEcho

    /// - Parameters:
    ///   - source: the node's own address; used when it is of the gateway's family, so that no echo carries the VIP.
    /// - Throws: when this process may send no echo (CAP_NET_RAW, or `net.ipv4.ping_group_range`).
    init(gateway: SocketAddress, source: SocketAddress?, now: Instant) throws(SystemError) {
        let proto = Int32(gateway.isIPv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)
        var isRaw = false
        do throws(SystemError) {
            // The kernel's echo sockets hear only what is theirs, but are allowed to few by default.
            descriptor = try System.socket(gateway.family, SOCK_DGRAM.rawValue, proto)
        } catch {
            descriptor = try System.socket(gateway.family, SOCK_RAW.rawValue, proto)
            isRaw = true
        }
        if let source, source.isIPv6 == gateway.isIPv6 {
            let bare = SocketAddress(high: source.high, low: source.low, port: 0, isIPv6: source.isIPv6)
            // Without it the kernel chooses, which is right as long as the node has no VIP.
            try? System.bind(descriptor, bare)
        }
        self.gateway = gateway
        deadline = now
        echo = GatewayEcho(isIPv6: gateway.isIPv6, identifier: UInt16(truncatingIfNeeded: getpid()), isRaw: isRaw)
    }

    func close() { System.close(descriptor) }

    /// nil: nothing is known yet.
    var isReachable: Bool? { echo.isReachable }

    /// Sends the next echo when it is due.
    mutating func tick(now: Instant) {
        guard now >= deadline else { return }
        deadline = now.advanced(by: Self.interval)
        // Connected, it hears the gateway only. Without a route that fails, and is tried again; it counts as unanswered.
        if !isConnected { isConnected = System.connect(descriptor, gateway) == 0 }
        let bytes = echo.next()
        if isConnected { _ = System.write(descriptor, bytes, from: 0) }
    }

    /// Takes in what came.
    mutating func handle() {
        var datagram: [UInt8] = []
        for _ in 0..<Self.datagramsPerTurn {
            switch System.receive(descriptor, into: &datagram, atMost: 256) {
            case .moved: echo.take(datagram)
            // The network's word that an earlier echo didn't arrive: it will show as unanswered.
            case .failed: continue
            case .wouldBlock, .ended: return
            }
        }
    }
}
