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

    static let flowsMax = 8192

    init(_ settings: FenceSettings, start: UInt64) {
        self.settings = settings
        members = settings.members
        table = GateTable(name: settings.gateTable, places: settings.vips.map { .init(vip: $0, linkLocal: nil) })
        lineBase = UInt32(truncatingIfNeeded: start ^ (start >> 32))
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
        case .learn: text = table.learn(line: number)
        case .remember(let part):
            let rest = flows.dropFirst(part * GateTable.flowsPerLine)
            text = table.remember(rest.prefix(GateTable.flowsPerLine), line: number)
        case .forward(let member): text = table.forward(targets(member, &addresses), line: number)
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

    /// IPv6 needs a next hop on the link, and a member may have told us an IPv4 address only: then the Ethernet address
    /// that the kernel knows for that one is the way.
    private mutating func targets(_ member: MemberID, _ addresses: inout AddressWatch) -> [GateTable.Target?] {
        guard members.indices.contains(member.index) else { return [] }
        let hop = members[member.index]
        let host = SocketAddress(high: hop.high, low: hop.low, port: 0, isIPv6: hop.isIPv6)
        var found: [GateTable.Target?] = []
        for vip in settings.vips {
            if vip.address.isIPv6 == host.isIPv6 {
                found.append(.address(host))
            } else if let interface = FenceSystem.interface(vip.interface), interface.ethernet != 0,
                let hardware = addresses.hardware(of: host, on: UInt32(interface.index))
            {
                let own = interface.hardware
                found.append(.hardware(hardware, own: [own.0, own.1, own.2, own.3, own.4, own.5]))
            } else {
                found.append(nil)
                complaints.append(
                    "connections to \(vip.text) break in a move: \(host.host) isn't a neighbour on \(vip.interface)")
            }
        }
        return found
    }
}
