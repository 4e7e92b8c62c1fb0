// ProbeFrames: asks for the Ethernet address of an IP address, as a neighbour would, and reads what comes back. Pure.
//
// IPv4: an ARP request (RFC 826), broadcast, from one of 64 addresses that nobody has: which of them an answer is for
// tells which probe it answers. IPv6: a neighbour solicitation (RFC 4861, 4.3) to the solicited-node group, from a
// link-local address of the probes' own. Its answer names no probe, so it belongs to the last one that was sent.

import Proxy

struct ProbeFrames {
    enum Seen: Equatable {
        /// - Parameter slot: the probe's number modulo `slots`; nil where the answer doesn't tell.
        case answer(station: String, slot: Int?)
        case announcement(station: String, kind: String)
    }

    /// IPv4 probes that can be told apart.
    static let slots = 64

    private let target: [UInt8]
    private let isIPv6: Bool
    private let hardware: [UInt8]
    /// The first of the probes' addresses: the last byte is free for a number.
    private let source: [UInt8]

    /// - Parameter hardware: the Ethernet address to answer to.
    init(target: SocketAddress, hardware: [UInt8]) {
        isIPv6 = target.isIPv6
        self.hardware = hardware
        let bytes = { (value: UInt64) in (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * UInt64($0))) } }
        if isIPv6 {
            self.target = bytes(target.high) + bytes(target.low)
            source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0x80]
        } else {
            self.target = Array(bytes(target.high).prefix(4))
            // On the target's own link, or it may not answer.
            source = Array(self.target.prefix(3)) + [128]
        }
    }

    var ethernetType: UInt16 { isIPv6 ? 0x86dd : 0x0806 }

    func request(number: Int) -> [UInt8] {
        if isIPv6 { return solicitation() }
        let sender = source.prefix(3) + [source[3] + UInt8(number % Self.slots)]
        return [UInt8](repeating: 0xff, count: 6) + hardware + [0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0, 1]
            + hardware + sender + [UInt8](repeating: 0, count: 6) + target
    }

    private func solicitation() -> [UInt8] {
        let tail = target.suffix(3)
        // ff02::1:ffXX:XXXX, and its Ethernet address (RFC 4291, 2.7.1; RFC 2464, 7).
        let group: [UInt8] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff] + tail
        var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0] + target + [1, 1] + hardware
        let length = UInt8(message.count)
        let sum = InternetChecksum.of(source + group + [0, 0, 0, length, 0, 0, 0, 58] + message)
        message[2] = UInt8(sum >> 8)
        message[3] = UInt8(sum & 0xff)
        let header: [UInt8] = [0x60, 0, 0, 0, 0, length, 58, 255] + source + group
        return [0x33, 0x33, 0xff] + tail + hardware + [0x86, 0xdd] + header + message
    }

    /// What a frame says of the target; nil when it says nothing of it.
    func read(_ frame: ArraySlice<UInt8>) -> Seen? {
        let frame = Array(frame)
        return isIPv6 ? readNeighbour(frame) : readARP(frame)
    }

    private func readARP(_ frame: [UInt8]) -> Seen? {
        guard frame.count >= 42, Array(frame[12..<20]) == [0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4], frame[20] == 0,
            Array(frame[28..<32]) == target
        else { return nil }
        let station = Self.text(frame[22..<28])
        let asked = Array(frame[38..<42])
        if asked == target { return .announcement(station: station, kind: frame[21] == 1 ? "request" : "reply") }
        guard frame[21] == 2, asked.prefix(3) == source.prefix(3), asked[3] >= source[3],
            Int(asked[3] - source[3]) < Self.slots
        else { return nil }
        return .answer(station: station, slot: Int(asked[3] - source[3]))
    }

    private func readNeighbour(_ frame: [UInt8]) -> Seen? {
        // A neighbour advertisement: no extension header may come before it (RFC 4861, 7.1.2).
        guard frame.count >= 78, frame[12] == 0x86, frame[13] == 0xdd, frame[20] == 58, frame[54] == 136,
            Array(frame[62..<78]) == target
        else { return nil }
        // The option with the target's link-layer address, else where the frame came from.
        let hasOption = frame.count >= 86 && frame[78] == 2 && frame[79] == 1
        let station = Self.text(hasOption ? frame[80..<86] : frame[6..<12])
        if Array(frame[38..<54]) == source { return .answer(station: station, slot: nil) }
        return frame[58] & 0x40 == 0 ? .announcement(station: station, kind: "advertisement") : nil
    }

    /// `02:77:00:00:00:0b`
    static func text(_ bytes: ArraySlice<UInt8>) -> String {
        let digits = Array("0123456789abcdef")
        return bytes.map { String([digits[Int($0 >> 4)], digits[Int($0 & 15)]]) }.joined(separator: ":")
    }
}
