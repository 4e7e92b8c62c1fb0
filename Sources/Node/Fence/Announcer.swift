// Announcer: tells the neighbours on the link that a VIP is now at this machine's Ethernet address.
//
// IPv4: a gratuitous ARP request (the announcement of RFC 5227, 3) and a gratuitous reply (RFC 5944, 4.6), since some
// hosts update their cache from only one of the two. IPv6: an unsolicited neighbour advertisement with the override flag
// to all nodes (RFC 4861, 4.4 and 7.2.6). With each goes a probe that a machine with the same address would answer, for
// ConflictWatch. Frames go out of an AF_PACKET socket; nothing is ever received. When to send is FenceState's decision. The
// fence's one thread owns it; no call waits.

import CLinux
import Glibc
import Proxy

struct Announcer: ~Copyable {
    /// For the fence's tool to hold open; nobody else's to use.
    let socket: Int32

    /// Fails without CAP_NET_RAW.
    init() throws(SystemError) {
        let descriptor = clinux_packet_socket()
        if descriptor < 0 { throw SystemError(call: "packet socket", code: clinux_errno()) }
        socket = descriptor
    }

    deinit { System.close(socket) }

    /// Announces `vip` once from its interface. An errno when it can't be sent; loopback and links without Ethernet
    /// addresses have nobody to tell.
    func announce(_ vip: FenceAddress) -> Int32? {
        guard let interface = FenceSystem.interface(vip.interface) else { return ENODEV }
        guard interface.ethernet != 0 else { return nil }
        let bytes = interface.hardware
        let hardware = [bytes.0, bytes.1, bytes.2, bytes.3, bytes.4, bytes.5]
        let probe = Frames.probing(vip.address, hardware: hardware)
        for frame in Frames.announcing(vip.address, hardware: hardware) + [probe] {
            if clinux_send_frame(socket, interface.index, frame, frame.count) < 0 { return clinux_errno() }
        }
        return nil
    }

    /// The frames, as bytes.
    enum Frames {
        static func announcing(_ address: SocketAddress, hardware: [UInt8]) -> [[UInt8]] {
            if address.isIPv6 { return [neighbourAdvertisement(address, hardware)] }
            return [arp(operation: 1, address, hardware), arp(operation: 2, address, hardware)]
        }

        /// Asks whether anybody else has the address, and tells nobody anything: RFC 5227, 2.1.1; RFC 4862, 5.4.2.
        static func probing(_ address: SocketAddress, hardware: [UInt8]) -> [UInt8] {
            if address.isIPv6 { return duplicateDetection(address, hardware) }
            let target = big(address.high, bytes: 8).prefix(4)
            let nobody = [UInt8](repeating: 0, count: 4)
            return [UInt8](repeating: 0xff, count: 6) + hardware + [0x08, 0x06]
                + [0x00, 0x01, 0x08, 0x00, 6, 4, 0, 1] + hardware + nobody + [UInt8](repeating: 0, count: 6) + target
        }

        /// RFC 826, sender and target both the VIP. In a request the target's hardware address is unknown (RFC 5227,
        /// 1.1); in a reply it is the one that caches are to learn (RFC 5944, 4.6).
        static func arp(operation: UInt8, _ address: SocketAddress, _ hardware: [UInt8]) -> [UInt8] {
            let ip = big(address.high, bytes: 8).prefix(4)
            let target = operation == 1 ? [UInt8](repeating: 0, count: 6) : hardware
            return [UInt8](repeating: 0xff, count: 6) + hardware + [0x08, 0x06]
                + [0x00, 0x01, 0x08, 0x00, 6, 4, 0, operation] + hardware + ip + target + ip
        }

        /// Without a source there is nothing to say of its Ethernet address, so no option (RFC 4861, 4.3).
        private static func duplicateDetection(_ address: SocketAddress, _ hardware: [UInt8]) -> [UInt8] {
            let target = big(address.high, bytes: 8) + big(address.low, bytes: 8)
            let tail = target.suffix(3)
            // ff02::1:ffXX:XXXX, and its Ethernet address (RFC 4291, 2.7.1; RFC 2464, 7).
            let group: [UInt8] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff] + tail
            let nobody = [UInt8](repeating: 0, count: 16)
            let message = checked([135, 0, 0, 0, 0, 0, 0, 0] + target, from: nobody, to: group)
            return [0x33, 0x33, 0xff] + tail + hardware + packet(message, from: nobody, to: group)
        }

        static func neighbourAdvertisement(_ address: SocketAddress, _ hardware: [UInt8]) -> [UInt8] {
            let source = big(address.high, bytes: 8) + big(address.low, bytes: 8)
            // ff02::1, and its Ethernet address (RFC 2464, 7).
            let everyone: [UInt8] = [0xff, 0x02] + [UInt8](repeating: 0, count: 13) + [1]
            // Type 136, code 0, checksum to come, flags: override only. Option 2: target link-layer address.
            let message = checked(
                [136, 0, 0, 0, 0x20, 0, 0, 0] + source + [2, 1] + hardware, from: source, to: everyone)
            return [0x33, 0x33, 0, 0, 0, 1] + hardware + packet(message, from: source, to: everyone)
        }

        /// With its checksum (RFC 4443, 2.3).
        private static func checked(_ message: [UInt8], from source: [UInt8], to target: [UInt8]) -> [UInt8] {
            var message = message
            let sum = InternetChecksum.of(
                source + target + big(UInt64(message.count), bytes: 4) + [0, 0, 0, 58] + message)
            message[2] = UInt8(sum >> 8)
            message[3] = UInt8(sum & 0xff)
            return message
        }

        /// From the Ethernet type on: version 6, no class, no flow label; length, next header ICMPv6, hop limit 255
        /// (RFC 4861, 7.1.2).
        private static func packet(_ message: [UInt8], from source: [UInt8], to target: [UInt8]) -> [UInt8] {
            [0x86, 0xdd, 0x60, 0, 0, 0] + big(UInt64(message.count), bytes: 2) + [58, 255] + source + target + message
        }

        private static func big(_ value: UInt64, bytes: Int) -> [UInt8] {
            (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
        }
    }
}
