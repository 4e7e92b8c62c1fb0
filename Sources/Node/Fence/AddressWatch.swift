// AddressWatch: the kernel's own word on IP addresses: announcements as they change, and a look at all there are.
//
// rtnetlink(7): one socket is subscribed to RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR, another asks RTM_GETADDR, so that
// an answer is never mixed up with announcements. It changes no address. The fence's one thread owns it; no call waits
// (the kernel answers a question within the call that asks or the next read). What the kernel says is trusted to be
// well-formed, and yet read through bounds checks.

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
    /// The kernel had more to say than there was room for: look.
    case overrun
}

struct AddressWatch: ~Copyable {
    /// Readable when there are changes to take.
    let descriptor: Int32
    private let question: Int32
    private var sequence: UInt32 = 0

    init() throws(SystemError) {
        // RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
        let subscribed = clinux_route_socket(0x10 | 0x100)
        if subscribed < 0 { throw SystemError(call: "netlink socket", code: clinux_errno()) }
        let asking = clinux_route_socket(0)
        if asking < 0 {
            let code = clinux_errno()
            System.close(subscribed)
            throw SystemError(call: "netlink socket", code: code)
        }
        descriptor = subscribed
        question = asking
    }

    deinit {
        System.close(descriptor)
        System.close(question)
    }

    /// Changes since the last call, oldest first.
    mutating func takeChanges() -> [AddressChange] {
        var changes: [AddressChange] = []
        while true {
            switch FenceSystem.read(descriptor, max: RouteMessage.readBytes) {
            case .bytes(let bytes):
                for message in RouteMessage.all(in: bytes) {
                    guard let entry = message.address else { continue }
                    if message.kind == RouteMessage.newAddress { changes.append(.appeared(entry)) }
                    if message.kind == RouteMessage.deletedAddress { changes.append(.vanished(entry)) }
                }
            case .failed(ENOBUFS): changes.append(.overrun)
            case .nothing, .ended, .failed: return changes
            }
        }
    }

    /// All addresses of this network namespace, now.
    mutating func look() throws(SystemError) -> [AddressEntry] {
        sequence += 1
        let request = RouteMessage.request(
            kind: RouteMessage.getAddress, flags: RouteMessage.flagRequest | RouteMessage.flagDump, sequence: sequence,
            family: UInt8(AF_UNSPEC))
        if case .failed(let code) = FenceSystem.write(question, request) {
            throw SystemError(call: "netlink send", code: code)
        }
        var entries: [AddressEntry] = []
        while true {
            switch FenceSystem.read(question, max: RouteMessage.readBytes) {
            case .bytes(let bytes):
                for message in RouteMessage.all(in: bytes) where message.sequence == sequence {
                    if message.kind == RouteMessage.done { return entries }
                    if message.kind == RouteMessage.newAddress, let entry = message.address { entries.append(entry) }
                }
            case .nothing: throw SystemError(call: "netlink dump", code: EAGAIN)
            case .ended: throw SystemError(call: "netlink dump", code: EIO)
            case .failed(let code): throw SystemError(call: "netlink dump", code: code)
            }
        }
    }

    /// Whether the kernel lets this process change addresses here (CAP_NET_ADMIN in the namespace that owns the network).
    /// Asks it to remove an address from an interface that can't exist: it says EPERM before it looks any further.
    mutating func mayChangeAddresses() -> Bool {
        sequence += 1
        let request = RouteMessage.request(
            kind: RouteMessage.deletedAddress, flags: RouteMessage.flagRequest | RouteMessage.flagAcknowledge,
            sequence: sequence, family: UInt8(AF_INET), interfaceIndex: UInt32(Int32.max))
        _ = FenceSystem.write(question, request)
        guard case .bytes(let bytes) = FenceSystem.read(question, max: RouteMessage.readBytes) else { return false }
        let answer = RouteMessage.all(in: bytes).first { $0.kind == RouteMessage.error && $0.sequence == sequence }
        return answer?.errorCode != EPERM
    }
}

/// One netlink message: nlmsghdr (length 4, type 2, flags 2, sequence 4, port 4), then ifaddrmsg (family 1, prefix 1,
/// flags 1, scope 1, index 4) and attributes (length 2, type 2, value, padded to 4); integers in the machine's order.
struct RouteMessage {
    static let readBytes = 32 << 10
    static let error: UInt16 = 2
    static let done: UInt16 = 3
    static let newAddress: UInt16 = 20
    static let deletedAddress: UInt16 = 21
    static let getAddress: UInt16 = 22
    static let flagRequest: UInt16 = 0x1
    static let flagAcknowledge: UInt16 = 0x4
    static let flagDump: UInt16 = 0x300

    let kind: UInt16
    let sequence: UInt32
    /// Without the header.
    let body: ArraySlice<UInt8>

    /// The messages of one read; what is cut short is left out.
    static func all(in bytes: [UInt8]) -> [RouteMessage] {
        var messages: [RouteMessage] = []
        var start = 0
        while start + 16 <= bytes.count {
            let length = Int(word(bytes[start...]))
            guard length >= 16, start + length <= bytes.count else { break }
            messages.append(
                RouteMessage(
                    kind: half(bytes[(start + 4)...]), sequence: word(bytes[(start + 8)...]),
                    body: bytes[(start + 16)..<(start + length)]))
            start += (length + 3) & ~3
        }
        return messages
    }

    static func request(
        kind: UInt16, flags: UInt16, sequence: UInt32, family: UInt8, interfaceIndex: UInt32 = 0
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        append(UInt32(24), to: &bytes)
        append(kind, to: &bytes)
        append(flags, to: &bytes)
        append(sequence, to: &bytes)
        append(UInt32(0), to: &bytes)
        bytes += [family, 0, 0, 0]
        append(interfaceIndex, to: &bytes)
        return bytes
    }

    /// Of an `error` message: the errno, 0 for an acknowledgement.
    var errorCode: Int32 {
        guard kind == Self.error, body.count >= 4 else { return 0 }
        return -Int32(bitPattern: Self.word(body))
    }

    /// nil for what isn't about an IPv4 or IPv6 address.
    var address: AddressEntry? {
        guard kind == Self.newAddress || kind == Self.deletedAddress, body.count >= 8 else { return nil }
        let first = body.startIndex
        let isIPv6 = body[first] == UInt8(AF_INET6)
        guard isIPv6 || body[first] == UInt8(AF_INET) else { return nil }
        var found: ArraySlice<UInt8>?
        var start = first + 8
        while start + 4 <= body.endIndex {
            let length = Int(Self.half(body[start...]))
            guard length >= 4, start + length <= body.endIndex else { break }
            let kind = Self.half(body[(start + 2)...])
            let value = body[(start + 4)..<(start + length)]
            // IFA_LOCAL is this machine's own when there is one; IFA_ADDRESS may be a point-to-point peer's.
            if kind == 2 || (kind == 1 && found == nil) { found = value }
            start += (length + 3) & ~3
        }
        guard let found, found.count == (isIPv6 ? 16 : 4) else { return nil }
        let value = found.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let low = isIPv6 ? found.suffix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) } : 0
        return AddressEntry(
            address: SocketAddress(high: isIPv6 ? value : value << 32, low: low, port: 0, isIPv6: isIPv6),
            prefix: Int(body[first + 1]), interfaceIndex: Self.word(body[(first + 4)...]))
    }

    private static func half(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        UInt16(bytes[bytes.startIndex]) | UInt16(bytes[bytes.startIndex + 1]) << 8
    }

    private static func word(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    }

    private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
}
