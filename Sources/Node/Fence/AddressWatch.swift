// AddressWatch: the kernel's own word on IP addresses: announcements as they change, and a look at all there are.
//
// rtnetlink(7): one socket is subscribed to addresses of both families and to links, another asks RTM_GETADDR and
// RTM_GETNEIGH, so that an answer is never mixed up with announcements. It changes no address. The fence's one thread
// owns it; no call waits (the kernel answers a question within the call that asks or the next read). What the kernel
// says is trusted to be well-formed, and yet read through bounds checks.

import CLinux
import Glibc
import Proxy

/// An address on an interface, as the kernel has it.
struct AddressEntry: Equatable, Sendable {
    /// Its port is 0.
    var address: SocketAddress
    var prefix: Int
    var interfaceIndex: UInt32
}

enum AddressChange: Equatable, Sendable {
    /// Added, or its lifetime or flags changed.
    case appeared(AddressEntry)
    case vanished(AddressEntry)
    /// An interface came, went or changed.
    case link
    /// The kernel had more to say than there was room for: look.
    case overrun
}

struct AddressWatch: ~Copyable {
    /// Readable when there are changes to take.
    let descriptor: Int32
    private let question: Int32
    private var sequence: UInt32 = 0

    init() throws(SystemError) {
        // RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_LINK
        let subscribed = try Netlink.socket(Netlink.route, groups: 0x10 | 0x100 | 0x1)
        do throws(SystemError) {
            question = try Netlink.socket(Netlink.route)
        } catch {
            System.close(subscribed)
            throw error
        }
        descriptor = subscribed
    }

    deinit {
        System.close(descriptor)
        System.close(question)
    }

    /// Changes since the last call, oldest first.
    mutating func takeChanges() -> [AddressChange] {
        var changes: [AddressChange] = []
        while true {
            switch FenceSystem.read(descriptor, max: NetlinkMessage.readBytes) {
            case .bytes(let bytes):
                for message in NetlinkMessage.all(in: bytes) {
                    switch message.kind {
                    case Self.newLink, Self.deletedLink: changes.append(.link)
                    case Self.newAddress: if let entry = Self.address(message) { changes.append(.appeared(entry)) }
                    case Self.deletedAddress: if let entry = Self.address(message) { changes.append(.vanished(entry)) }
                    default: break
                    }
                }
            case .failed(ENOBUFS): changes.append(.overrun)
            case .nothing, .ended, .failed: return changes
            }
        }
    }

    /// All addresses of this network namespace, now.
    mutating func look() throws(SystemError) -> [AddressEntry] {
        try dump(Self.getAddress, body: [UInt8](repeating: 0, count: 8))
            .compactMap { $0.kind == Self.newAddress ? Self.address($0) : nil }
    }

    /// The Ethernet address of a neighbour on a link, if the kernel knows it.
    mutating func hardware(of neighbour: SocketAddress, on interface: UInt32) -> [UInt8]? {
        let family = UInt8(neighbour.isIPv6 ? AF_INET6 : AF_INET)
        // ndmsg: family 1, padding 3, index 4, state 2, flags 1, type 1.
        let entries = try? dump(Self.getNeighbour, body: [family] + [UInt8](repeating: 0, count: 11))
        for entry in entries ?? [] {
            guard entry.kind == Self.newNeighbour, entry.body.count >= 12,
                Netlink.word(entry.body.dropFirst(4)) == interface
            else { continue }
            let attributes = Netlink.attributes(entry.body.dropFirst(12))
            // NDA_DST and NDA_LLADDR.
            guard let place = attributes.first(where: { $0.kind == 1 })?.value,
                let hardware = attributes.first(where: { $0.kind == 2 })?.value, hardware.count == 6,
                Netlink.socketAddress(place) == neighbour
            else { continue }
            return Array(hardware)
        }
        return nil
    }

    /// Has the kernel ask for a neighbour's Ethernet address, as if something was to be sent to it (RTM_NEWNEIGH with
    /// NTF_USE). What comes of it `hardware` tells later.
    mutating func seek(_ neighbour: SocketAddress, on interface: UInt32) {
        sequence += 1
        var body: [UInt8] = [UInt8(neighbour.isIPv6 ? AF_INET6 : AF_INET), 0, 0, 0]
        Netlink.append(interface, to: &body)
        // State 2, flags 1, type 1; NDA_DST.
        body += [0, 0, 1, 0]
        Netlink.append(UInt16(4 + neighbour.hostBytes.count), to: &body)
        Netlink.append(UInt16(1), to: &body)
        let request = NetlinkMessage.request(
            kind: Self.newNeighbour, flags: NetlinkMessage.flagRequest | NetlinkMessage.flagCreate, sequence: sequence,
            body: body + neighbour.hostBytes)
        _ = FenceSystem.write(question, request)
    }

    /// Whether the kernel lets this process change addresses here (CAP_NET_ADMIN in the namespace that owns the network).
    /// Asks it to remove an address from an interface that can't exist: it says EPERM before it looks any further.
    mutating func mayChangeAddresses() -> Bool {
        sequence += 1
        var body: [UInt8] = [UInt8(AF_INET), 0, 0, 0]
        Netlink.append(UInt32(Int32.max), to: &body)
        let request = NetlinkMessage.request(
            kind: Self.deletedAddress, flags: NetlinkMessage.flagRequest | NetlinkMessage.flagAcknowledge,
            sequence: sequence, body: body)
        _ = FenceSystem.write(question, request)
        guard case .bytes(let bytes) = FenceSystem.read(question, max: NetlinkMessage.readBytes) else { return false }
        let answer = NetlinkMessage.all(in: bytes).first {
            $0.kind == NetlinkMessage.error && $0.sequence == sequence
        }
        return answer?.errorCode != EPERM
    }

    // MARK: messages

    private static let newLink: UInt16 = 16
    private static let deletedLink: UInt16 = 17
    private static let newAddress: UInt16 = 20
    private static let deletedAddress: UInt16 = 21
    private static let getAddress: UInt16 = 22
    private static let newNeighbour: UInt16 = 28
    private static let getNeighbour: UInt16 = 30

    private mutating func dump(_ kind: UInt16, body: [UInt8]) throws(SystemError) -> [NetlinkMessage] {
        sequence += 1
        return try NetlinkMessage.dump(kind, body: body, sequence: sequence, on: question, limit: .max)
    }

    /// ifaddrmsg: family 1, prefix 1, flags 1, scope 1, index 4; nil for what isn't about IPv4 or IPv6.
    private static func address(_ message: NetlinkMessage) -> AddressEntry? {
        let body = message.body
        guard body.count >= 8 else { return nil }
        var found: ArraySlice<UInt8>?
        for attribute in Netlink.attributes(body.dropFirst(8)) {
            // IFA_LOCAL is this machine's own when there is one; IFA_ADDRESS may be a point-to-point peer's.
            if attribute.kind == 2 || (attribute.kind == 1 && found == nil) { found = attribute.value }
        }
        let length = body[body.startIndex] == UInt8(AF_INET6) ? 16 : 4
        guard let found, found.count == length, let address = Netlink.socketAddress(found) else { return nil }
        return AddressEntry(
            address: address, prefix: Int(body[body.startIndex + 1]), interfaceIndex: Netlink.word(body.dropFirst(4)))
    }
}
