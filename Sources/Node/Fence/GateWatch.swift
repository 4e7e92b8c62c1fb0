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
    /// More was announced than the last call took.
    private(set) var hasMore = false
    /// The attribute that names our table, as it stands in a message.
    private let tableAttribute: [UInt8]
    /// Of the transaction whose end has not been announced yet.
    private var isOurs = false
    private var line: UInt32?

    /// Others may write large rulesets in one go.
    private static let receiveBytes: Int32 = 4 << 20
    /// Tens of thousands of announcements may wait, and the fence has more to do than to read them.
    private static let readsPerCall = 4

    init(table: String) throws(SystemError) {
        descriptor = try Netlink.socket(Netlink.netfilter, groups: 1 << (7 - 1))
        clinux_enlarge_receive_buffer(descriptor, Self.receiveBytes)
        var attribute: [UInt8] = []
        Netlink.append(UInt16(4 + table.utf8.count + 1), to: &attribute)
        Netlink.append(UInt16(1), to: &attribute)
        tableAttribute = attribute + Array(table.utf8) + [0]
    }

    deinit { System.close(descriptor) }

    /// Changes since the last call, oldest first; not all of them if there are many (`hasMore`).
    mutating func takeChanges() -> [GateChange] {
        var changes: [GateChange] = []
        hasMore = true
        for _ in 0..<Self.readsPerCall {
            switch FenceSystem.read(descriptor, max: NetlinkMessage.readBytes) {
            case .bytes(let bytes): take(bytes, &changes)
            case .failed(ENOBUFS):
                isOurs = false
                line = nil
                changes.append(.overrun)
            case .nothing, .ended, .failed:
                hasMore = false
                return changes
            }
        }
        return changes
    }

    /// Most of it is about other tables, which is seen by a look at its first attribute.
    private mutating func take(_ bytes: [UInt8], _ changes: inout [GateChange]) {
        var start = 0
        while start + 20 <= bytes.count {
            let length = Int(bytes[start]) | Int(bytes[start + 1]) << 8 | Int(bytes[start + 2]) << 16
            guard length >= 20, start + length <= bytes.count else { return }
            // NFNL_SUBSYS_NFTABLES in the upper byte.
            if bytes[start + 5] == 10 {
                if bytes[start + 4] == Self.newGeneration {
                    end(&changes)
                } else if bytes[start + 16] == Self.familyNetdev {
                    note(bytes[start..<(start + length)])
                }
            }
            start += (length + 3) & ~3
        }
    }

    /// The end of a transaction.
    private mutating func end(_ changes: inout [GateChange]) {
        if let line { changes.append(.committed(line: line)) } else if isOurs { changes.append(.disturbed) }
        isOurs = false
        line = nil
    }

    /// nlmsghdr 16; nfgenmsg: family 1, version 1, resource 2; then attributes, the first of which names the table.
    private mutating func note(_ message: ArraySlice<UInt8>) {
        guard message.dropFirst(20).starts(with: tableAttribute) else { return }
        isOurs = true
        guard message[message.startIndex + 4] == Self.newElement else { return }
        let attributes = Netlink.attributes(message.dropFirst(20))
        if attributes.first(where: { $0.kind == 2 })?.text == GateTable.said { line = Self.number(attributes) }
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

    private static let newElement: UInt8 = 12
    private static let newGeneration: UInt8 = 15
    private static let familyNetdev: UInt8 = 5
}
