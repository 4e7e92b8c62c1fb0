// Netlink: the form of what is said to the kernel and heard from it over netlink sockets: messages and attributes.
//
// netlink(7): nlmsghdr (length 4, type 2, flags 2, sequence 4, port 4), a header that depends on the type, attributes
// (length 2, type 2, value, padded to 4); integers in the machine's order unless said otherwise. What is cut short is
// left out. The fence's one thread uses it; nothing waits.

import CLinux
import Glibc
import Proxy

struct NetlinkMessage {
    static let readBytes = 32 << 10
    static let error: UInt16 = 2
    static let done: UInt16 = 3
    static let flagRequest: UInt16 = 0x1
    static let flagAcknowledge: UInt16 = 0x4
    static let flagDump: UInt16 = 0x300
    static let flagCreate: UInt16 = 0x400

    let kind: UInt16
    let sequence: UInt32
    /// Without the header.
    let body: ArraySlice<UInt8>

    /// The messages of one read.
    static func all(in bytes: [UInt8]) -> [NetlinkMessage] {
        var messages: [NetlinkMessage] = []
        var start = 0
        while start + 16 <= bytes.count {
            let length = Int(Netlink.word(bytes[start...]))
            guard length >= 16, start + length <= bytes.count else { break }
            messages.append(
                NetlinkMessage(
                    kind: Netlink.half(bytes[(start + 4)...]), sequence: Netlink.word(bytes[(start + 8)...]),
                    body: bytes[(start + 16)..<(start + length)]))
            start += (length + 3) & ~3
        }
        return messages
    }

    static func request(kind: UInt16, flags: UInt16, sequence: UInt32, body: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        Netlink.append(UInt32(16 + body.count), to: &bytes)
        Netlink.append(kind, to: &bytes)
        Netlink.append(flags, to: &bytes)
        Netlink.append(sequence, to: &bytes)
        Netlink.append(UInt32(0), to: &bytes)
        return bytes + body
    }

    /// Everything of a kind that there is: asks, and takes in what is answered.
    /// - Parameter limit: no more messages than about this many; the rest is left unread, so that `socket` is of no
    ///   more use then.
    static func dump(
        _ kind: UInt16, body: [UInt8], sequence: UInt32, on socket: Int32, limit: Int
    ) throws(SystemError) -> [NetlinkMessage] {
        let question = request(kind: kind, flags: flagRequest | flagDump, sequence: sequence, body: body)
        if case .failed(let code) = FenceSystem.write(socket, question) {
            throw SystemError(call: "netlink send", code: code)
        }
        var messages: [NetlinkMessage] = []
        while messages.count < limit {
            switch FenceSystem.read(socket, max: readBytes) {
            case .bytes(let bytes):
                for message in all(in: bytes) where message.sequence == sequence {
                    if message.kind == done { return messages }
                    if message.kind == error { throw SystemError(call: "netlink dump", code: message.errorCode) }
                    messages.append(message)
                }
            case .nothing: throw SystemError(call: "netlink dump", code: EAGAIN)
            case .ended: throw SystemError(call: "netlink dump", code: EIO)
            case .failed(let code): throw SystemError(call: "netlink dump", code: code)
            }
        }
        return messages
    }

    /// Of an `error` message: the errno, 0 for an acknowledgement.
    var errorCode: Int32 {
        guard kind == Self.error, body.count >= 4 else { return 0 }
        return -Int32(bitPattern: Netlink.word(body))
    }
}

enum Netlink {
    /// Protocols: NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER.
    static let route: Int32 = 0
    static let socketDiagnosis: Int32 = 4
    static let netfilter: Int32 = 12

    /// - Parameter groups: a bit for each group.
    static func socket(_ netlinkProtocol: Int32, groups: UInt32 = 0) throws(SystemError) -> Int32 {
        let descriptor = clinux_netlink_socket(netlinkProtocol, groups)
        if descriptor < 0 { throw SystemError(call: "netlink socket", code: clinux_errno()) }
        return descriptor
    }

    struct Attribute {
        /// Without the bits that say nested or byte order.
        let kind: UInt16
        let value: ArraySlice<UInt8>

        /// A name, without the zero at its end.
        var text: String { String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) }
    }

    static func attributes(_ bytes: ArraySlice<UInt8>) -> [Attribute] {
        var found: [Attribute] = []
        var start = bytes.startIndex
        while start + 4 <= bytes.endIndex {
            let length = Int(half(bytes[start...]))
            guard length >= 4, start + length <= bytes.endIndex else { break }
            found.append(
                Attribute(kind: half(bytes[(start + 2)...]) & 0x3fff, value: bytes[(start + 4)..<(start + length)]))
            start += (length + 3) & ~3
        }
        return found
    }

    /// 4 or 16 bytes of an address, in network order.
    static func socketAddress(_ bytes: ArraySlice<UInt8>, port: UInt16 = 0) -> SocketAddress? {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        let isIPv6 = bytes.count == 16
        let value = bytes.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let low = isIPv6 ? bytes.suffix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) } : 0
        return SocketAddress(high: isIPv6 ? value : value << 32, low: low, port: port, isIPv6: isIPv6)
    }

    static func half(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        UInt16(bytes[bytes.startIndex]) | UInt16(bytes[bytes.startIndex + 1]) << 8
    }

    static func word(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    }

    static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
}
