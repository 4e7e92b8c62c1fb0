// GateWatch: the kernel's own word on the gate's table: which lines of ours took effect, and what others did to it.
//
// NETLINK_NETFILTER, group NFNLGRP_NFTABLES: the kernel announces each part of a transaction and then, with NEWGEN, that
// it is in force; transactions come one after another. Every line of ours puts a number of its own into the table's set
// `said`, so a transaction with such a number is ours, and confirms that line and no other. (NEWGEN carries the number of
// the process as well, but as the machine counts it, which in a container isn't as we do; and a transaction
// that changes nothing isn't announced at all.) The fence's one thread owns it; it changes nothing, and no call waits.

import CLinux
import Glibc
import Proxy

enum GateChange: Equatable, Sendable {
    /// A line of ours is in force.
    case committed(line: UInt32)
    /// Somebody else changed or removed our table.
    case disturbed
    /// The kernel had more to say than there was room for.
    case overrun
}

struct GateWatch: ~Copyable {
    /// Readable when there are changes to take.
    let descriptor: Int32
    private let table: String
    /// Of the transaction whose end has not been announced yet.
    private var isOurs = false
    private var line: UInt32?

    /// Others may write large rulesets in one go.
    private static let receiveBytes: Int32 = 4 << 20

    init(table: String) throws(SystemError) {
        descriptor = try Netlink.socket(Netlink.netfilter, groups: 1 << (7 - 1))
        clinux_enlarge_receive_buffer(descriptor, Self.receiveBytes)
        self.table = table
    }

    deinit { System.close(descriptor) }

    /// Changes since the last call, oldest first.
    mutating func takeChanges() -> [GateChange] {
        var changes: [GateChange] = []
        while true {
            switch FenceSystem.read(descriptor, max: NetlinkMessage.readBytes) {
            case .bytes(let bytes):
                for message in NetlinkMessage.all(in: bytes) {
                    if let change = take(message) { changes.append(change) }
                }
            case .failed(ENOBUFS):
                isOurs = false
                line = nil
                changes.append(.overrun)
            case .nothing, .ended, .failed: return changes
            }
        }
    }

    private mutating func take(_ message: NetlinkMessage) -> GateChange? {
        // NFNL_SUBSYS_NFTABLES in the upper byte; nfgenmsg: family 1, version 1, resource 2.
        guard message.kind >> 8 == 10, message.body.count >= 4 else { return nil }
        if message.kind & 0xff == Self.newGeneration {
            defer {
                isOurs = false
                line = nil
            }
            if let line { return .committed(line: line) }
            return isOurs ? .disturbed : nil
        }
        guard message.body.first == Self.familyNetdev else { return nil }
        // Every other message names its table first.
        let attributes = Netlink.attributes(message.body.dropFirst(4))
        guard attributes.first(where: { $0.kind == 1 })?.text == table else { return nil }
        isOurs = true
        if message.kind & 0xff == Self.newElement, attributes.first(where: { $0.kind == 2 })?.text == GateTable.said {
            line = Self.number(attributes)
        }
        return nil
    }

    /// NFTA_SET_ELEM_LIST_ELEMENTS › NFTA_LIST_ELEM › NFTA_SET_ELEM_KEY › NFTA_DATA_VALUE.
    private static func number(_ attributes: [Netlink.Attribute]) -> UInt32? {
        var level = attributes
        for kind in [3, 1, 1] as [UInt16] {
            guard let found = level.first(where: { $0.kind == kind }) else { return nil }
            level = Netlink.attributes(found.value)
        }
        guard let value = level.first(where: { $0.kind == 1 })?.value, value.count == 4 else { return nil }
        return Netlink.word(value)
    }

    private static let newElement: UInt16 = 12
    private static let newGeneration: UInt16 = 15
    private static let familyNetdev: UInt8 = 5
}
