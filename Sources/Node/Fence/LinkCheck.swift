// LinkCheck: which hosts are on the link of an interface, by the routes that the kernel has.
//
// A gate hands packets of kept connections to another node's Ethernet address, so that one has to be a neighbour on the
// VIP's interface: reached through it, and not through a router. The thread that made it uses it; no call waits, and
// nothing is changed.

import Glibc
import Proxy

struct LinkCheck: ~Copyable {
    private let question: Int32
    private var sequence: UInt32 = 0

    init() throws(SystemError) { question = try Netlink.socket(Netlink.route) }

    deinit { System.close(question) }

    /// RTM_GETROUTE, without naming the interface: where the kernel is told one, it takes everybody to be on its link.
    mutating func isOnLink(_ host: SocketAddress, interface: UInt32) -> Bool {
        sequence += 1
        // rtmsg: family 1, bits of destination 1 and source 1, then tos, table, protocol, scope, type, flags 4; RTA_DST.
        var body: [UInt8] = [UInt8(host.isIPv6 ? AF_INET6 : AF_INET), UInt8(host.hostBytes.count * 8)]
        body += [UInt8](repeating: 0, count: 10)
        Netlink.append(UInt16(4 + host.hostBytes.count), to: &body)
        Netlink.append(UInt16(1), to: &body)
        let request = NetlinkMessage.request(
            kind: Self.getRoute, flags: NetlinkMessage.flagRequest, sequence: sequence, body: body + host.hostBytes)
        _ = FenceSystem.write(question, request)
        guard case .bytes(let bytes) = FenceSystem.read(question, max: NetlinkMessage.readBytes),
            let route = NetlinkMessage.all(in: bytes).first(where: { $0.sequence == sequence }),
            route.kind == Self.newRoute
        else { return false }
        let attributes = Netlink.attributes(route.body.dropFirst(12))
        // RTA_GATEWAY and RTA_VIA; RTA_OIF.
        if attributes.contains(where: { $0.kind == 5 || $0.kind == 18 }) { return false }
        return attributes.first { $0.kind == 4 && $0.value.count == 4 }.map { Netlink.word($0.value) } == interface
    }

    private static let newRoute: UInt16 = 24
    private static let getRoute: UInt16 = 26
}
