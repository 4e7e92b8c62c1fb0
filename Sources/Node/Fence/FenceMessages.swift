// FenceMessages: what the main process and its fence say to each other, and the bytes that carry it.
//
// The two are joined by one SOCK_SEQPACKET pair, so each message is one packet: a kind byte and fields in the coding of
// Gossip's ByteCoding. Both ends are the same program, so there is no version and a packet that can't be read is a
// fault of ours; it is refused all the same. The cluster's keys travel here and nowhere else: never in arguments or
// the environment.

import Gossip
import Proxy

/// An address to own: `ip addr … HOST/PREFIX dev INTERFACE`.
struct FenceAddress: Sendable, Equatable, Hashable {
    /// Its port is 0.
    let address: SocketAddress
    let prefix: Int
    let interface: String

    init(address: SocketAddress, prefix: Int, interface: String) {
        self.address = SocketAddress(high: address.high, low: address.low, port: 0, isIPv6: address.isIPv6)
        self.prefix = prefix
        self.interface = interface
    }

    /// `10.0.0.100/32`, as in the configuration and the status.
    var text: String { "\(address.host)/\(prefix)" }
}

/// Whether the kernel's gate (GateTable) is to stand before the VIPs.
enum GateUse: UInt8, Sendable {
    case never = 1
    /// Where `nft` works; decided once in a fence's life.
    case ifUsable
    /// Without it nothing is held.
    case required
}

/// What a fence has to know before anything else.
struct FenceSettings: Sendable, Equatable {
    var vips: [FenceAddress]
    /// Where the members hear gossip, by index, our own included.
    var members: [SocketAddress]
    var me: MemberID
    var clusterTag: UInt64
    var boot: UInt64
    /// As Envelope takes them; may be empty only for a member that is alone.
    var keys: [[UInt8]]
    var gate: GateUse
    /// The gate's table: the same in every life of this node, and nobody else's on this machine.
    var gateTable: String
    /// How long after it was written a line that opens the gate may take effect: the kernel kills what could still
    /// execute it by then. What is opened that late is open for that much longer than the lease.
    var lineGrace: Duration

    init(
        vips: [FenceAddress], members: [SocketAddress], me: MemberID, clusterTag: UInt64, boot: UInt64,
        keys: [[UInt8]], gate: GateUse, gateTable: String, lineGrace: Duration
    ) {
        self.vips = vips
        self.members = members
        self.me = me
        self.clusterTag = clusterTag
        self.boot = boot
        self.keys = keys
        self.gate = gate
        self.gateTable = gateTable
        self.lineGrace = lineGrace
    }
}

/// Main process to fence.
enum FenceCommand: Sendable, Equatable {
    /// First, once: the fence then removes what an earlier life left and answers `ready`.
    case hello(FenceSettings)
    /// The members' boots by index, 0 for unknown, as `Envelope.knownBoots` gives them.
    case peers(boots: [UInt64])
    /// Members have moved, or the keys were changed; how many members there are wasn't.
    case reconfigured(members: [SocketAddress], keys: [[UInt8]])
    /// Own the VIPs until this instant. A later one extends, an earlier one shortens; one in the past does nothing.
    /// - Parameter release: the payload that tells the peers, in a signed datagram, that `term`'s lease is released;
    ///   sent by the fence when the main process is gone. Empty: nothing is sent.
    ///   - order: numbers the orders to hold or drop, so that a report tells which it knew of.
    case hold(until: Instant, term: UInt64, order: UInt64, release: [UInt8])
    /// Let go now.
    case drop(order: UInt64)
    /// Let go and end, without telling the peers (the main process does).
    case bye
    /// A planned move: answer ARP and neighbour solicitations no more, which ends with `dropped`, but keep the address
    /// and take what still comes for it, until a `drop`, a `hold` or the end. Without a gate the same as `drop`.
    case yield(order: UInt64)
    /// From now on TCP packets for a VIP that belong to no connection begun here go this way; nil: no more. A
    /// gate that is closed does not open before it is so, or before they wait for it.
    case forward(to: FlowRoute?)
}

/// Why a fence let go.
enum FenceDropCause: UInt8, Sendable {
    /// It was told to.
    case commanded = 1
    /// The time of the last hold passed: the main process was late, or has lost its lease.
    case expired = 2
}

/// Fence to main process.
enum FenceAnswer: Sendable, Equatable {
    /// Whether the gate stands, and why not; said once, before `ready`, unless the gate is never to be used.
    case gate(isUsable: Bool, reason: String)
    /// The fence stands, and no VIP is on this machine.
    case ready
    /// The kernel has confirmed every VIP, and the open gate if there is one.
    case held(term: UInt64)
    /// The kernel has confirmed that nothing here answers for a VIP any more (the addresses are gone, or the gate is
    /// closed); `term` is the one that held. Every order up to `order` is done with: no hold among them has an effect
    /// any more.
    case dropped(order: UInt64, term: UInt64, cause: FenceDropCause)
    /// A VIP that nobody here should have was found and removed: left by an earlier life, or put there by hand.
    case swept(String)
    /// A VIP that somebody else removed is back.
    case restored(String)
    /// `ip` can't do what it must; said once per reason.
    case failed(String)
    /// It can again.
    case recovered
    /// Something is not as it should be and costs speed, not safety.
    case warning(String)
    /// Another machine has the address of a VIP that is held here; said again for as long as it has.
    case contested(String)
    /// Said by FenceLink: the fence ended and another one is started.
    case died(String)
}

extension FenceCommand {
    static let bytesMax = 16 << 10

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .hello(let settings):
            writer.byte(1)
            writer.varint(settings.vips.count)
            for vip in settings.vips {
                writer.string(vip.address.description)
                writer.varint(vip.prefix)
                writer.string(vip.interface)
            }
            Self.write(settings.members, to: &writer)
            writer.varint(settings.me.index)
            writer.fixed64(settings.clusterTag)
            writer.fixed64(settings.boot)
            Self.write(settings.keys, to: &writer)
            writer.byte(settings.gate.rawValue)
            writer.string(settings.gateTable)
            writer.varint(Int(settings.lineGrace / .microseconds(1)))
        case .peers(let boots):
            writer.byte(2)
            writer.varint(boots.count)
            for boot in boots { writer.fixed64(boot) }
        case .reconfigured(let members, let keys):
            writer.byte(8)
            Self.write(members, to: &writer)
            Self.write(keys, to: &writer)
        case .hold(let until, let term, let order, let release):
            writer.byte(3)
            writer.fixed64(until.nanoseconds)
            writer.varint(term)
            writer.varint(order)
            writer.block(release)
        case .drop(let order):
            writer.byte(4)
            writer.varint(order)
        case .bye: writer.byte(5)
        case .yield(let order):
            writer.byte(6)
            writer.varint(order)
        case .forward(let route):
            writer.byte(7)
            Self.write(route?.next, to: &writer)
            guard let route else { break }
            writer.varint(route.detours.count)
            for detour in route.detours {
                writer.varint(detour.from.index)
                Self.write(detour.to, to: &writer)
            }
        }
        return writer.bytes
    }

    /// nil for what isn't a command.
    static func decoded(_ bytes: [UInt8]) -> FenceCommand? {
        var reader = ByteReader(bytes)
        let command: FenceCommand
        switch reader.byte() {
        case 1:
            guard let settings = settings(&reader) else { return nil }
            command = .hello(settings)
        case 2:
            command = .peers(boots: (0..<reader.count(limit: Limits.membersMax)).map { _ in reader.fixed64() })
        case 3:
            command = .hold(
                until: Instant(nanoseconds: reader.fixed64()), term: reader.varint(), order: reader.varint(),
                release: reader.block(limit: Limits.datagramBytesMax))
        case 4: command = .drop(order: reader.varint())
        case 5: command = .bye
        case 6: command = .yield(order: reader.varint())
        case 7:
            guard let next = member(&reader) else {
                command = .forward(to: nil)
                break
            }
            let detours = (0..<reader.count(limit: Limits.membersMax)).map { _ in
                FlowRoute.Detour(from: MemberID(reader.count(limit: Limits.membersMax)), to: member(&reader))
            }
            command = .forward(to: FlowRoute(next, detours: detours))
        case 8:
            guard let members = members(&reader) else { return nil }
            command = .reconfigured(members: members, keys: keys(&reader))
        default: return nil
        }
        return reader.finished ? command : nil
    }

    /// 0 is nobody.
    private static func write(_ member: MemberID?, to writer: inout ByteWriter) {
        writer.varint(member.map { $0.index + 1 } ?? 0)
    }

    private static func member(_ reader: inout ByteReader) -> MemberID? {
        let place = reader.count(limit: Limits.membersMax)
        return place == 0 ? nil : MemberID(place - 1)
    }

    private static func write(_ members: [SocketAddress], to writer: inout ByteWriter) {
        writer.varint(members.count)
        for member in members { writer.string(member.description) }
    }

    private static func members(_ reader: inout ByteReader) -> [SocketAddress]? {
        var members: [SocketAddress] = []
        for _ in 0..<reader.count(limit: Limits.membersMax) {
            guard let member = SocketAddress(reader.string(limit: Limits.addressBytesMax)) else { return nil }
            members.append(member)
        }
        return members
    }

    private static func write(_ keys: [[UInt8]], to writer: inout ByteWriter) {
        writer.varint(keys.count)
        for key in keys { writer.block(key) }
    }

    private static func keys(_ reader: inout ByteReader) -> [[UInt8]] {
        (0..<reader.count(limit: FenceLimits.keysMax)).map { _ in reader.block(limit: FenceLimits.keyBytesMax) }
    }

    private static func settings(_ reader: inout ByteReader) -> FenceSettings? {
        var vips: [FenceAddress] = []
        for _ in 0..<reader.count(limit: FenceLimits.vipsMax) {
            let address = SocketAddress(reader.string(limit: Limits.addressBytesMax))
            let prefix = reader.count(limit: 128)
            let interface = reader.string(limit: Limits.nameBytesMax)
            guard let address else { return nil }
            vips.append(FenceAddress(address: address, prefix: prefix, interface: interface))
        }
        guard let members = members(&reader) else { return nil }
        let me = MemberID(reader.count(limit: Limits.membersMax))
        let clusterTag = reader.fixed64()
        let boot = reader.fixed64()
        let keys = keys(&reader)
        let gate = GateUse(rawValue: reader.byte())
        let gateTable = reader.string(limit: FenceLimits.gateTableBytesMax)
        let lineGrace = Duration.microseconds(reader.count(limit: FenceLimits.lineGraceMicrosecondsMax))
        guard let gate, GateTable.isName(gateTable) else { return nil }
        // What Envelope's init asserts.
        guard reader.finished, me.index < members.count, boot > 0, !keys.isEmpty || members.count == 1 else {
            return nil
        }
        return FenceSettings(
            vips: vips, members: members, me: me, clusterTag: clusterTag, boot: boot, keys: keys, gate: gate,
            gateTable: gateTable, lineGrace: lineGrace)
    }
}

extension FenceAnswer {
    static let bytesMax = 1024

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .ready: writer.byte(1)
        case .held(let term):
            writer.byte(2)
            writer.varint(term)
        case .dropped(let order, let term, let cause):
            writer.byte(3)
            writer.varint(order)
            writer.varint(term)
            writer.byte(cause.rawValue)
        case .swept(let text): Self.write(4, text, &writer)
        case .restored(let text): Self.write(5, text, &writer)
        case .failed(let text): Self.write(6, text, &writer)
        case .recovered: writer.byte(7)
        case .warning(let text): Self.write(8, text, &writer)
        case .died(let text): Self.write(9, text, &writer)
        case .gate(true, _): Self.write(10, "", &writer)
        case .gate(false, let reason): Self.write(11, reason, &writer)
        case .contested(let text): Self.write(12, text, &writer)
        }
        return writer.bytes
    }

    private static func write(_ kind: UInt8, _ text: String, _ writer: inout ByteWriter) {
        writer.byte(kind)
        var text = text
        while text.utf8.count > FenceLimits.textBytesMax { text.removeLast() }
        writer.string(text)
    }

    /// nil for what isn't an answer.
    static func decoded(_ bytes: [UInt8]) -> FenceAnswer? {
        var reader = ByteReader(bytes)
        let kind = reader.byte()
        let answer: FenceAnswer
        switch kind {
        case 1: answer = .ready
        case 2: answer = .held(term: reader.varint())
        case 3:
            let order = reader.varint()
            let term = reader.varint()
            guard let cause = FenceDropCause(rawValue: reader.byte()) else { return nil }
            answer = .dropped(order: order, term: term, cause: cause)
        case 7: answer = .recovered
        case 4...12:
            let text = reader.string(limit: FenceLimits.textBytesMax)
            switch kind {
            case 4: answer = .swept(text)
            case 5: answer = .restored(text)
            case 6: answer = .failed(text)
            case 8: answer = .warning(text)
            case 9: answer = .died(text)
            case 12: answer = .contested(text)
            default: answer = .gate(isUsable: kind == 10, reason: text)
            }
        default: return nil
        }
        return reader.finished ? answer : nil
    }
}

/// The sizes of everything in the fence that could grow.
enum FenceLimits {
    static let vipsMax = 16
    static let keysMax = 16
    static let keyBytesMax = 64
    static let gateTableBytesMax = 64
    static let lineGraceMicrosecondsMax = 12_000_000
    /// A reason, in UTF-8 bytes.
    static let textBytesMax = 512
}
