// ConnectionList: the TCP connections of this machine with a given local address, from the kernel's own list.
//
// sock_diag(7), NETLINK_SOCK_DIAG: a dump for each family with a filter for the local address that the kernel itself
// applies. Connections that have ended here and only wait out their time (TIME_WAIT) are left out: there can be tens of
// thousands, and nobody loses anything with them. The fence's one thread uses it; no call waits.

import Glibc
import Proxy

/// A connection as its packets come in.
struct Flow: Equatable, Sendable {
    var remote: SocketAddress
    var local: SocketAddress
}

enum ConnectionList {
    /// At most about `limit` connections; fewer than there are, or none, when the kernel doesn't answer.
    static func find(local: [SocketAddress], limit: Int) -> [Flow] {
        var flows: [Flow] = []
        for address in local {
            // An IPv4 connection of a socket that is open for both is listed with IPv6.
            for family in address.isIPv6 ? [AF_INET6] : [AF_INET, AF_INET6] where flows.count < limit {
                guard let socket = try? Netlink.socket(Netlink.socketDiagnosis) else { continue }
                defer { System.close(socket) }
                let question = request(family: UInt8(family), local: address)
                let answers = try? NetlinkMessage.dump(
                    Self.kind, body: question, sequence: 1, on: socket, limit: limit - flows.count)
                flows += (answers ?? []).compactMap { flow($0.body) }.filter { $0.local.hasSameHost(as: address) }
            }
        }
        return Array(flows.prefix(limit))
    }

    private static let kind: UInt16 = 20

    /// A bit for each state but TIME_WAIT (6), CLOSE (7) and LISTEN (10).
    private static let states: UInt32 = [1, 2, 3, 4, 5, 8, 9, 11, 12].reduce(0) { $0 | 1 << UInt32($1) }

    /// inet_diag_req_v2 and its filter (INET_DIAG_REQ_BYTECODE).
    private static func request(family: UInt8, local: SocketAddress) -> [UInt8] {
        var bytes: [UInt8] = [family, UInt8(IPPROTO_TCP), 0, 0]
        Netlink.append(states, to: &bytes)
        bytes += [UInt8](repeating: 0, count: 48)
        let host = local.hostBytes
        // One instruction: INET_DIAG_BC_S_COND, with how far to go on if so and (past the end) if not; then
        // inet_diag_hostcond: family 1, prefix 1, padding 2, port 4 (-1: any), address.
        let length = 4 + 8 + host.count
        var program: [UInt8] = [7, UInt8(length)]
        Netlink.append(UInt16(length + 4), to: &program)
        program += [UInt8(local.isIPv6 ? AF_INET6 : AF_INET), UInt8(host.count * 8), 0, 0]
        Netlink.append(Int32(-1), to: &program)
        program += host
        Netlink.append(UInt16(4 + program.count), to: &bytes)
        Netlink.append(UInt16(1), to: &bytes)
        return bytes + program
    }

    /// inet_diag_msg: family, state, timer, retransmissions, then ports in network order, source 16, destination 16.
    private static func flow(_ body: ArraySlice<UInt8>) -> Flow? {
        guard body.count >= 40 else { return nil }
        let bytes = Array(body.prefix(40))
        let isIPv6 = bytes[0] == UInt8(AF_INET6)
        let localPort = UInt16(bytes[4]) << 8 | UInt16(bytes[5])
        let remotePort = UInt16(bytes[6]) << 8 | UInt16(bytes[7])
        guard let local = address(bytes[8..<24], isIPv6, localPort),
            let remote = address(bytes[24..<40], isIPv6, remotePort)
        else { return nil }
        return Flow(remote: remote, local: local)
    }

    private static func address(_ bytes: ArraySlice<UInt8>, _ isIPv6: Bool, _ port: UInt16) -> SocketAddress? {
        let isMapped = isIPv6 && bytes.prefix(12).elementsEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
        if isMapped { return Netlink.socketAddress(bytes.suffix(4), port: port) }
        return Netlink.socketAddress(isIPv6 ? bytes : bytes.prefix(4), port: port)
    }
}

extension SocketAddress {
    /// 4 or 16, in network order.
    var hostBytes: [UInt8] {
        let all = [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * $0)) } }
        return Array(all.prefix(isIPv6 ? 16 : 4))
    }

    /// fe80::/10.
    var isLinkLocal: Bool { isIPv6 && high >> 54 == 0xfe80 >> 6 }
}
