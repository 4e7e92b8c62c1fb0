// Gate: the shell around GateState: the one `nft -i` that the fence keeps open, what the kernel says of its table, and
// what the table's lines have to know of this machine. GateState decides; GateTable has the words.
//
// The fence's one thread owns it; no call waits. It touches one table, by name, and nothing else of the ruleset.

import Gossip
import Proxy

struct Gate: ~Copyable {
    private let settings: FenceSettings
    /// Where members are reached; may change.
    var members: [SocketAddress]
    private var tool = FenceTool(.nft)
    private var watch: GateWatch?
    /// Readable when the kernel has something to say.
    let watchDescriptor: Int32?
    private var watchProblem = ""
    private var links: LinkCheck?
    private var table: GateTable
    /// Added to the numbers of lines, so that no two lives of a fence use the same.
    private let lineBase: UInt32
    private var flows: [Flow] = []
    /// The interfaces that the table was installed on.
    private var indices: [UInt32] = []
    private var isStopping = false
    private var watchHasMore = false
    /// Not to be told before the kernel has been heard out.
    private var waiting: [GateState.Event] = []
    private var complaints: [String] = []

    /// Since when nodes are sought whose Ethernet addresses a route needs.
    private var sought: (route: FlowRoute, since: Instant)?
    /// The last line that was written is to be written again when they may be known.
    private(set) var seeks = false

    static let flowsMax = 16_384
    /// The kernel asks three times, a second apart.
    private static let seekingMax: Duration = .seconds(3)

    init(_ settings: FenceSettings, start: UInt64) {
        self.settings = settings
        members = settings.members
        table = GateTable(name: settings.gateTable, places: settings.vips.map { .init(vip: $0, linkLocal: nil) })
        lineBase = UInt32(truncatingIfNeeded: start ^ (start >> 32))
        links = try? LinkCheck()
        do throws(SystemError) {
            let made = try GateWatch(table: settings.gateTable)
            watchDescriptor = made.descriptor
            watch = consume made
        } catch {
            watchDescriptor = nil
            watch = nil
            watchProblem = "\(error)"
        }
    }

    var toolDescriptor: Int32? { tool.descriptor }
    /// A killed `nft` has to be looked after: call `take` again soon.
    var isWaiting: Bool { isStopping || !waiting.isEmpty }

    // MARK: what it hears

    /// What `nft` and the kernel have said since the last call, in order.
    mutating func take() -> [GateState.Event] {
        let sayings = tool.take()
        let isGone = isStopping && tool.isGone()
        // What took effect before `nft` spoke, or died, was announced before.
        var events = hearKernel()
        waiting += sayings.map { saying in
            switch saying {
            case .refused(let id, let reason): .refused(line: id, reason: reason)
            case .ended(let reason): .ended(reason: reason)
            }
        }
        if isGone {
            isStopping = false
            waiting.append(.stopped)
        }
        if watchHasMore { return events }
        events += waiting
        waiting = []
        return events
    }

    private mutating func hearKernel() -> [GateState.Event] {
        guard let changes = watch?.takeChanges() else { return [] }
        watchHasMore = watch?.hasMore ?? false
        return changes.map { change in
            switch change {
            case .committed(let line): .committed(line: UInt64(line &- lineBase))
            case .disturbed: .disturbed
            case .overrun: .unsure
            }
        }
    }

    /// Call when an interface changed. True when one that a VIP is on isn't the one it was.
    mutating func hasNewInterface() -> Bool {
        let now = Self.indices(of: settings)
        return !indices.isEmpty && indices != now
    }

    /// Call when an address appeared. True when it is one that a VIP's interface speaks for itself with, and new.
    func isNewLinkLocal(_ entry: AddressEntry) -> Bool {
        guard entry.address.isLinkLocal else { return false }
        return zip(indices, table.places).contains { index, place in
            index == entry.interfaceIndex && place.vip.address.isIPv6 && place.linkLocal == nil
        }
    }

    private static func indices(of settings: FenceSettings) -> [UInt32] {
        settings.vips.map { FenceSystem.interface($0.interface).map { UInt32($0.index) } ?? 0 }
    }

    // MARK: what it does

    /// What went wrong, if it could not be started.
    mutating func start(keep: Int32) -> String? {
        guard watchDescriptor != nil else {
            return "the kernel's tables can't be watched: \(watchProblem)"
        }
        return tool.start(keep: keep)
    }

    mutating func stop() {
        tool.stop()
        isStopping = true
    }

    /// nil when it is written, or what happened instead.
    mutating func write(_ line: GateLine, id: UInt64, addresses: inout AddressWatch) -> GateState.Event? {
        let number = lineBase &+ UInt32(truncatingIfNeeded: id)
        let text: String
        switch line {
        case .install:
            prepare(&addresses)
            text = table.install(line: number)
        case .open(let until):
            // The last look at the clock: the element's time counts from when the line is executed.
            let left = Instant(nanoseconds: System.bootNanoseconds()).duration(to: until) - GateState.Timing.tick
            let milliseconds = Int(left.milliseconds.rounded(.down))
            if milliseconds < 1 { return .withheld(line: id) }
            text = table.open(milliseconds: milliseconds, line: number)
        case .serve:
            text = table.serve(milliseconds: Int(GateState.Timing.serving.milliseconds), line: number)
        case .close: text = table.close(line: number)
        case .learn(let dropsUnknown): text = table.learn(dropsUnknown: dropsUnknown, line: number)
        case .remember(let part):
            let rest = flows.dropFirst(part * GateTable.flowsPerLine)
            text = table.remember(rest.prefix(GateTable.flowsPerLine), line: number)
        case .forward(let route): text = table.forward(ways(route, &addresses), line: number)
        case .keep: text = table.keep(line: number)
        case .remove: text = table.remove(line: number)
        }
        return tool.write(text, id: id) ? nil : .ended(reason: "nft takes no more lines")
    }

    /// How many lines the connections make that are under way here.
    mutating func findFlows() -> Int {
        flows = ConnectionList.find(local: settings.vips.map(\.address), limit: Self.flowsMax)
        return (flows.count + GateTable.flowsPerLine - 1) / GateTable.flowsPerLine
    }

    private mutating func prepare(_ addresses: inout AddressWatch) {
        indices = Self.indices(of: settings)
        let entries = (try? addresses.look()) ?? []
        for place in table.places.indices {
            table.places[place].linkLocal =
                entries.first { $0.interfaceIndex == indices[place] && $0.address.isLinkLocal }?.address
        }
    }

    /// Ways that could not be found since the last call, in words.
    mutating func takeComplaints() -> [String] {
        defer { complaints = [] }
        return complaints
    }

    private mutating func ways(_ route: FlowRoute?, _ addresses: inout AddressWatch) -> [GateTable.Way] {
        seeks = false
        guard let route else { return [] }
        if sought?.route != route { sought = (route, Instant(nanoseconds: System.bootNanoseconds())) }
        return settings.vips.map { vip in
            var way = GateTable.Way()
            switch target(route.next, vip, &addresses) {
            case .known(let target): way.target = target
            case .sought: way.isSought = true
            case .none: complain(vip, route.next)
            }
            guard way.target != nil, let index = FenceSystem.interface(vip.interface)?.index else { return way }
            for detour in route.detours {
                guard let from = host(detour.from) else { continue }
                guard let sender = hardware(from, UInt32(index), &addresses) else { continue }
                guard let member = detour.to else {
                    way.detours.append((sender, nil))
                    continue
                }
                if case .known(let target) = target(member, vip, &addresses) { way.detours.append((sender, target)) }
            }
            return way
        }
    }

    private func host(_ member: MemberID) -> SocketAddress? {
        guard members.indices.contains(member.index) else { return nil }
        let address = members[member.index]
        return SocketAddress(high: address.high, low: address.low, port: 0, isIPv6: address.isIPv6)
    }

    private enum Search {
        case known(GateTable.Target)
        case sought
        case none
    }

    /// IPv6 needs a next hop on the link, and a member may have told us an IPv4 address only: then its Ethernet address is
    /// the way.
    private mutating func target(
        _ member: MemberID, _ vip: FenceAddress, _ addresses: inout AddressWatch
    ) -> Search {
        guard let host = host(member), let interface = FenceSystem.interface(vip.interface),
            links?.isOnLink(host, interface: UInt32(interface.index)) ?? true
        else { return .none }
        if vip.address.isIPv6 == host.isIPv6 { return .known(.address(host)) }
        guard interface.ethernet != 0 else { return .none }
        guard let hop = hardware(host, UInt32(interface.index), &addresses) else { return seeks ? .sought : .none }
        let own = interface.hardware
        return .known(.hardware(hop, own: [own.0, own.1, own.2, own.3, own.4, own.5]))
    }

    /// What the kernel knows, as a rule, since nodes gossip. Where it doesn't, it is to ask, which takes a moment.
    private mutating func hardware(
        _ host: SocketAddress, _ index: UInt32, _ addresses: inout AddressWatch
    ) -> [UInt8]? {
        if let known = addresses.hardware(of: host, on: index) { return known }
        let now = Instant(nanoseconds: System.bootNanoseconds())
        guard let sought, sought.since.duration(to: now) < Self.seekingMax else { return nil }
        addresses.seek(host, on: index)
        seeks = true
        return nil
    }

    private mutating func complain(_ vip: FenceAddress, _ member: MemberID) {
        let name = host(member)?.host ?? "a node"
        complaints.append("connections to \(vip.text) break in a move: \(name) isn't a neighbour on \(vip.interface)")
    }
}
