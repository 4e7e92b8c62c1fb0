// NeighbourTable: makes the kernel forget the Ethernet address of an IP address, so that the next packet to it has to ask
// who has it (RTM_DELNEIGH, rtnetlink(7)). For a client that is never helped by what it knew before. Needs CAP_NET_ADMIN.

import CLinux
import Glibc
import Proxy

final class NeighbourTable {
    private let socket: Int32
    private let interface: UInt32

    init(interface name: String) throws(LabProblem) {
        guard let found = FenceSystem.interface(name) else { throw LabProblem("no interface \(name)") }
        interface = UInt32(found.index)
        socket = clinux_netlink_socket(Netlink.route, 0)
        if socket < 0 { throw LabProblem(call: "netlink") }
    }

    deinit { System.close(socket) }

    /// It doesn't matter whether there was something to forget.
    func forget(_ address: SocketAddress) {
        let bytes = (0..<16).map { place in
            UInt8(truncatingIfNeeded: (place < 8 ? address.high : address.low) >> (56 - 8 * UInt64(place % 8)))
        }
        let target = Array(bytes.prefix(address.isIPv6 ? 16 : 4))
        // nlmsghdr: length, type 29, NLM_F_REQUEST. ndmsg: family, interface. One attribute: NDA_DST.
        let attribute = native(UInt16(4 + target.count)) + native(UInt16(1)) + target
        let body = [UInt8(address.family), 0, 0, 0] + native(interface) + [0, 0, 0, 0] + attribute
        let head = native(UInt32(16 + body.count)) + native(UInt16(29)) + native(UInt16(1)) + native(UInt32(0))
        _ = LabSystem.send(socket, head + native(UInt32(0)) + body)
        // Refusals (there was no entry) are not kept.
        var (refusals, scratch): ([UInt8], [UInt8]) = ([], [UInt8](repeating: 0, count: 512))
        while case .moved = LabSystem.receive(socket, appendTo: &refusals, scratch: &scratch) {}
    }

    private func native<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        (0..<Number.bitWidth / 8).map { UInt8(truncatingIfNeeded: number.littleEndian >> (8 * Number($0))) }
    }
}
