// Attacker: a host on the lab's link that isn't a member: it sends gossip from any address it likes, and has heard
// everything that the switch carried. It has no key.

import CLinux
import Glibc
import Gossip
import Proxy
import Synchronization

@testable import Node

/// A datagram on its way between two members.
struct Datagram: Hashable {
    var from: SocketAddress
    var to: SocketAddress
    var payload: [UInt8]

    static let ipHeaderBytes = 20
    static let udpHeaderBytes = 8

    /// The IPv4 packet, without its checksums: the kernel fills in the first, and the second is optional.
    var packet: [UInt8] {
        let length = Self.ipHeaderBytes + Self.udpHeaderBytes + payload.count
        var writer = ByteWriter(reserving: length)
        writer.raw([0x45, 0, UInt8(length >> 8), UInt8(length & 255), 0, 0, 0, 0, 64, 17, 0, 0])
        writer.raw(Self.address(from) + Self.address(to))
        for port in [from.port, to.port] { writer.raw([UInt8(port >> 8), UInt8(port & 255)]) }
        let rest = length - Self.ipHeaderBytes
        writer.raw([UInt8(rest >> 8), UInt8(rest & 255), 0, 0])
        writer.raw(payload)
        return writer.bytes
    }

    private static func address(_ address: SocketAddress) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: address.high >> (56 - 8 * $0)) }
    }

    init(from: SocketAddress, to: SocketAddress, payload: [UInt8]) {
        self.from = from
        self.to = to
        self.payload = payload
    }

    /// nil for what isn't a UDP datagram over IPv4 to this port.
    init?(packet: [UInt8], port: UInt16) {
        guard packet.count >= Self.ipHeaderBytes + Self.udpHeaderBytes, packet[0] == 0x45, packet[9] == 17 else {
            return nil
        }
        func address(_ place: Int, _ portPlace: Int) -> SocketAddress {
            let high = (0..<4).reduce(UInt64(0)) { $0 << 8 | UInt64(packet[place + $1]) } << 32
            let port = UInt16(packet[portPlace]) << 8 | UInt16(packet[portPlace + 1])
            return SocketAddress(high: high, low: 0, port: port, isIPv6: false)
        }
        from = address(12, 20)
        to = address(16, 22)
        guard to.port == port else { return nil }
        payload = Array(packet[(Self.ipHeaderBytes + Self.udpHeaderBytes)...])
    }
}

final class Attacker {
    static let address = "10.77.0.66"
    static let gossipPort: UInt16 = 7946

    private let lab: Lab
    private let host: LabHost
    private let raw: Int32

    /// Plugs it into the lab's switch.
    init(_ lab: Lab) throws {
        self.lab = lab
        let host = try LabHost(name: "attacker", addresses: [Self.address])
        try lab.network.ip(
            [
                "link add p-attacker type veth peer name eth0 netns \(host.path)",
                "link set p-attacker master br0 up",
            ], in: lab.network.bridge)
        try lab.network.ip(
            ["link set lo up", "link set eth0 up", "addr add \(Self.address)/24 dev eth0"], in: host)
        raw = try Self.socket(in: host, AF_INET, SOCK_RAW.rawValue, Int32(IPPROTO_RAW))
        self.host = host
    }

    deinit { System.close(raw) }

    private static func socket(
        in host: LabHost, _ family: Int32, _ type: UInt32, _ proto: Int32
    ) throws(LabProblem) -> Int32 {
        try LabSystem.inside(host.descriptor) { () throws(LabProblem) -> Int32 in
            guard let descriptor = try? System.socket(family, type, proto) else { throw LabProblem(call: "socket") }
            return descriptor
        }
    }

    /// Where a node hears gossip.
    func gossip(_ node: String) throws -> SocketAddress {
        let address = try lab.network.host(node).addresses[0]
        guard let found = SocketAddress(address: address, port: Self.gossipPort) else { throw LabProblem(address) }
        return found
    }

    /// An address of its own.
    var own: SocketAddress {
        get throws {
            guard let own = SocketAddress(address: Self.address, port: 4711) else { throw LabProblem(Self.address) }
            return own
        }
    }

    // MARK: hearing

    /// Gossip that passes the switch within some time, each datagram once.
    func record(seconds: Double) throws -> [Datagram] {
        let recording = try Recording(self)
        LabSystem.pause(milliseconds: Int(seconds * 1000))
        return try recording.take()
    }

    /// A socket that gets everything that passes the switch.
    fileprivate func tap() throws -> Int32 {
        // ETH_P_ALL, in network order: what a bridge takes reaches no other.
        let everything = Int32(UInt16(3).bigEndian)
        let tap = try Self.socket(in: lab.network.bridge, AF_PACKET, SOCK_DGRAM.rawValue, everything)
        try System.setOption(tap, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        return tap
    }

    // MARK: sending

    /// Sends them, slowly enough for a receiver to take them all.
    func send(_ datagrams: [Datagram]) throws {
        for (number, datagram) in datagrams.enumerated() {
            try Self.send(datagram.packet, to: datagram.to, over: raw)
            if number % 50 == 49 { LabSystem.pause(milliseconds: 10) }
        }
    }

    private static func send(_ packet: [UInt8], to address: SocketAddress, over raw: Int32) throws {
        let target = SocketAddress(high: address.high, low: address.low, port: 0, isIPv6: false)
        for _ in 0..<1000 {
            switch System.send(raw, packet, to: target) {
            case .moved: return
            case .wouldBlock: LabSystem.pause(milliseconds: 1)
            case .failed(let code) where code == ENOBUFS: LabSystem.pause(milliseconds: 1)
            case .failed(let code): throw LabProblem("sending a forged packet: \(System.explain(code))")
            case .ended: return
            }
        }
        throw LabProblem("a forged packet can't be sent")
    }

    /// Sends datagrams over and over at a rate, on a thread of its own, until `stop`.
    func flood(_ datagrams: [Datagram], rate: Int) throws -> Flood {
        let packets = datagrams.map { (packet: $0.packet, to: $0.to) }
        return try Flood { [raw] isOver, count in
            let start = System.bootNanoseconds()
            var sent = 0
            while !isOver() {
                let due = Int(Double(System.bootNanoseconds() - start) / 1e9 * Double(rate))
                // What a busy machine made late is not made up for: no more than the rate at any time.
                for _ in 0..<min(due - sent, rate / 100) {
                    let next = packets[(sent + count.load()) % packets.count]
                    _ = System.send(raw, next.packet, to: next.to)
                    count.add()
                }
                sent = due
                usleep(200)
            }
        }
    }
}

/// What passes the switch from its making on.
final class Recording {
    private let tap: Int32

    init(_ attacker: Attacker) throws { tap = try attacker.tap() }

    deinit { System.close(tap) }

    /// The gossip so far, each datagram once.
    func take() throws -> [Datagram] {
        var all: [Datagram] = []
        var seen: Set<Datagram> = []
        var packet: [UInt8] = []
        while case .moved = System.receive(tap, into: &packet, atMost: 2000) {
            guard let datagram = Datagram(packet: packet, port: Attacker.gossipPort), seen.insert(datagram).inserted
            else { continue }
            all.append(datagram)
        }
        guard all.count > 20 else { throw LabProblem("only \(all.count) datagrams were heard") }
        return all
    }
}

/// A flood under way.
final class Flood {
    final class Count: Sendable {
        private let value = Atomic<Int>(0)
        func load() -> Int { value.load(ordering: .relaxed) }
        func add() { value.wrappingAdd(1, ordering: .relaxed) }
    }

    private final class Stop: Sendable {
        private let value = Atomic<Bool>(false)
        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }

    private let count = Count()
    private let over = Stop()
    private let start = System.bootNanoseconds()
    private var thread: BackgroundThread?

    init(_ body: @escaping @Sendable (() -> Bool, Count) -> Void) throws {
        let (count, over) = (count, over)
        thread = try BackgroundThread(name: "flood") { body({ over.isSet }, count) }
    }

    deinit { stop() }

    /// - Returns: how many were sent, and how many a second.
    @discardableResult
    func stop() -> (count: Int, perSecond: Int) {
        over.set()
        thread?.join()
        thread = nil
        let seconds = Double(System.bootNanoseconds() - start) / 1e9
        return (count.load(), Int(Double(count.load()) / seconds))
    }
}
