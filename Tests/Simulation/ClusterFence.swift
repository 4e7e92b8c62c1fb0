// ClusterFence: the model of a node's fence process and of its kernel, which alone decide who answers for the VIP.
//
//   process   runs ── frozen ── runs         killed ── main notices, starts another: it sweeps, says `gate`, goes on
//   kernel    silent ──line that opens──▶ answers ──line that closes, element's or address's end, sweep──▶ silent
//
// Orders reach the process through a pipe; what it does are lines to `nft` or `ip`, carried out in order, each a little
// later than it was written and at the latest `lineGrace` later (then the child is killed). A gate's line carries a
// timeout from its execution, so what is carried out late ends late: no later than `until + lineGrace + 4 ms`. Without
// a gate the kernel keeps the address for its lifetime once nobody renews it. All of it goes on while processes stand
// still. Ownership is whether the kernel answers, not what any member or fence believes.

import Gossip

enum FenceCommand {
    case hold(until: Instant, term: UInt64, order: UInt64)
    case drop(order: UInt64)
    case yield(order: UInt64)
    case forward(to: FlowRoute?)
    /// The connections kept after a yield are over.
    case drained
    /// A hold's end may have come.
    case expire
    /// The main process is gone: close, then tell the peers.
    case orphaned
    /// Says again that the lease is released; datagrams get lost.
    case tellReleased(rest: Int)
    /// A new fence has removed what an earlier one left.
    case swept(hasGate: Bool)
}

/// What `nft`, `ip` and the kernel do, whether or not any process of the node runs.
enum KernelCommand {
    /// A line that opens is carried out.
    case open(until: UInt64, writtenAt: UInt64, order: UInt64)
    /// A line that closes is carried out.
    case close(order: UInt64)
    /// The element's timeout or the address's lifetime may be over.
    case end
}

struct FenceModel {
    /// It answers for the VIP: what the network sees as its owner.
    fileprivate(set) var isPresent = false
    /// The kernel's gate enforces every hold.
    fileprivate(set) var hasGate = false
    /// It serves connections that it kept in a planned move.
    fileprivate(set) var isYielding = false
    /// Where packets go that belong to no connection of this node.
    fileprivate(set) var route: FlowRoute?
    fileprivate(set) var until: Instant?
    fileprivate(set) var term: UInt64 = 0
    /// The last order taken in.
    fileprivate var order: UInt64 = 0
    fileprivate(set) var isFrozen = false
    /// The process has ended.
    fileprivate(set) var isDead = true
    fileprivate(set) var isOrphaned = false
    /// The main process has heard whether it has a gate.
    fileprivate var hasSpoken = false
    /// Grows with each start and end of a fence; what was planned for an earlier one is stale.
    fileprivate(set) var life = 0
    fileprivate var backlog: [FenceCommand] = []
    /// Commands through one pipe are carried out in order, as are lines; and reports come back in order.
    fileprivate var busyUntil: UInt64 = 0
    fileprivate var lineUntil: UInt64 = 0
    fileprivate var reportsUntil: UInt64 = 0
    fileprivate var expiryPlannedAt: UInt64 = 0
    /// When the kernel lets go by itself; `.max` while a running fence renews an address.
    fileprivate var endsAt: UInt64 = .max
    fileprivate var endPlannedAt: UInt64 = 0
    /// What the last fence knew, kept for when its main process is gone.
    fileprivate var boots: [UInt64] = []
    fileprivate var boot: UInt64 = 0
    fileprivate var envelope: Envelope?
    /// The main process's end: what a new fence is told, and what it is told of an old one.
    fileprivate var wantedRoute: FlowRoute?
    fileprivate var lastOrder: UInt64 = 0
    fileprivate var lostOrder: UInt64?
}

extension ClusterWorld {
    // MARK: the process

    /// The main process starts a fence. It sweeps first, and says what it can do before it holds anything.
    func startFence(_ node: Int) {
        nodes[node].fence.life += 1
        nodes[node].fence.isDead = false
        nodes[node].fence.hasSpoken = !settings.fencing.allowsGate
        nodes[node].fence.isFrozen = false
        nodes[node].fence.isOrphaned = false
        nodes[node].fence.isYielding = false
        nodes[node].fence.backlog = []
        nodes[node].fence.until = nil
        nodes[node].fence.term = 0
        nodes[node].fence.order = 0
        nodes[node].fence.lineUntil = 0
        nodes[node].fence.reportsUntil = 0
        nodes[node].fence.expiryPlannedAt = 0
        let hasGate =
            settings.fencing.allowsGate && settings.gated.indices.contains(node) && settings.gated[node]
            && !losesGate[node]
        let at = now + random.within(settings.fenceNs)
        nodes[node].fence.busyUntil = at
        planFence(node, .swept(hasGate: hasGate), at: at)
        if let route = nodes[node].fence.wantedRoute { planFence(node, .forward(to: route), at: at) }
    }

    private func planFence(_ node: Int, _ command: FenceCommand, at time: UInt64) {
        plan(.fence(node: node, life: nodes[node].fence.life, command), at: time)
    }

    func noteFenceSpoke(_ node: Int) { nodes[node].fence.hasSpoken = true }

    /// What the main process says to its fence.
    func commandFence(_ node: Int, _ command: FenceCommand) {
        mark(node, 4)
        if tellsMessages { tell("n\(node) to its fence: \(command)") }
        nodes[node].fence.boots = nodes[node].knownBoots
        nodes[node].fence.boot = nodes[node].boot
        if let envelope = nodes[node].envelope { nodes[node].fence.boots = envelope.knownBoots }
        switch command {
        case .hold(let until, _, let order):
            checkHold(node, until: until)
            nodes[node].fence.lastOrder = order
            if nodes[node].fence.isDead { nodes[node].fence.lostOrder = order }
            // What a lease behind a gate allows is no fence's that may have none.
            if !nodes[node].fence.hasSpoken { return }
        case .drop(let order), .yield(let order):
            nodes[node].fence.lastOrder = order
            if nodes[node].fence.isDead { nodes[node].fence.lostOrder = order }
        case .forward(let route): nodes[node].fence.wantedRoute = route
        default: break
        }
        guard !nodes[node].fence.isDead else { return }
        let at = max(nodes[node].fence.busyUntil, now + random.within(settings.fenceNs))
        nodes[node].fence.busyUntil = at
        planFence(node, command, at: at)
    }

    func performFence(_ node: Int, _ command: FenceCommand) {
        if nodes[node].fence.isFrozen {
            if case .expire = command { return }
            // What fits no pipe any more is left out if it is a hold.
            if case .hold = command, nodes[node].fence.backlog.count > 30 { return }
            return nodes[node].fence.backlog.append(command)
        }
        switch command {
        case .hold(let until, let term, let order):
            nodes[node].fence.order = order
            nodes[node].fence.isYielding = false
            hold(node, until: until, term: term)
        case .drop(let order):
            nodes[node].fence.order = order
            nodes[node].fence.isYielding = false
            close(node)
        case .yield(let order):
            nodes[node].fence.order = order
            nodes[node].fence.isYielding = true
            close(node)
            planFence(node, .drained, at: now + random.within(settings.drainNs))
        case .drained: if nodes[node].fence.isYielding { step(node, .drained) }
        case .forward(let route): forward(node, to: route)
        case .expire: expire(node)
        case .orphaned:
            nodes[node].fence.isYielding = false
            close(node)
            planFence(node, .tellReleased(rest: 3), at: nodes[node].fence.lineUntil)
        case .tellReleased(let rest): tellReleased(node, rest: rest)
        case .swept(let hasGate): swept(node, hasGate: hasGate)
        }
    }

    private func hold(_ node: Int, until: Instant, term: UInt64) {
        // Too late to hold anything; the answer has to name the order all the same.
        guard local(node) < until else { return close(node) }
        nodes[node].fence.until = until
        nodes[node].fence.term = term
        if nodes[node].fence.isPresent, nodes[node].fence.lineUntil < now, !random.happens(3) {
            // A renewal; that it is carried out a moment later makes no difference but to what ends by itself.
            renew(node, until: world(node, until), writtenAt: now)
        } else {
            let late = random.happens(20) ? random.within(0...lineGraceNs(node)) : random.within(settings.lineNs)
            planLine(
                node, .open(until: world(node, until), writtenAt: now, order: nodes[node].fence.order), after: late)
        }
        let end = world(node, until)
        guard nodes[node].fence.expiryPlannedAt <= now else { return }
        nodes[node].fence.expiryPlannedAt = end
        planFence(node, .expire, at: end)
    }

    private func expire(_ node: Int) {
        nodes[node].fence.expiryPlannedAt = 0
        guard let until = nodes[node].fence.until else { return }
        if local(node) >= until { return close(node) }
        nodes[node].fence.expiryPlannedAt = world(node, until)
        planFence(node, .expire, at: nodes[node].fence.expiryPlannedAt)
    }

    /// Writes a line that closes.
    private func close(_ node: Int) {
        nodes[node].fence.until = nil
        planLine(node, .close(order: nodes[node].fence.order), after: random.within(settings.lineNs))
    }

    private func planLine(_ node: Int, _ command: KernelCommand, after late: UInt64) {
        let at = max(nodes[node].fence.lineUntil, now + late)
        nodes[node].fence.lineUntil = at
        plan(.kernel(node: node, life: nodes[node].fence.life, command), at: at)
    }

    private func report(_ node: Int, _ report: FenceReport) {
        guard !nodes[node].fence.isOrphaned, !nodes[node].fence.isDead else { return }
        let at = max(nodes[node].fence.reportsUntil, now + random.within(settings.fenceNs))
        nodes[node].fence.reportsUntil = at
        plan(.event(node: node, incarnation: nodes[node].incarnation, .fence(report)), at: at)
    }

    private func swept(_ node: Int, hasGate: Bool) {
        setPresent(node, false)
        nodes[node].fence.endsAt = .max
        nodes[node].fence.hasGate = hasGate
        // The table goes with all its rules; what is to be forwarded is said next.
        forward(node, to: nil)
        if settings.fencing.allowsGate { report(node, .gate(isUsable: hasGate)) }
        if let lost = nodes[node].fence.lostOrder { report(node, .dropped(order: lost)) }
        nodes[node].fence.lostOrder = nil
    }

    private func forward(_ node: Int, to route: FlowRoute?) {
        guard nodes[node].fence.route != route else { return }
        nodes[node].fence.route = route
        tell("n\(node) forwards what it doesn't know to \(route.map { "n\($0.next.index)" } ?? "nobody")")
        checkForwarding(node)
    }

    private func tellReleased(_ node: Int, rest: Int) {
        let fence = nodes[node].fence
        guard rest > 0, fence.term > 0, fence.isOrphaned else { return }
        checks.noteReleased(node, fence.term)
        let payload = Message.released(term: fence.term).encode()
        for peer in nodes.indices where peer != node && fence.boots.indices.contains(peer) {
            if settings.sealed {
                guard let bytes = nodes[node].fence.envelope?.seal(payload, to: MemberID(peer)) else { continue }
                transmit(Datagram(from: node, to: peer, content: .sealed(bytes)))
            } else {
                let content = Datagram.Content.plain(payload: payload, boot: fence.boot, named: fence.boots[peer])
                transmit(Datagram(from: node, to: peer, content: content))
            }
        }
        planFence(node, .tellReleased(rest: rest - 1), at: now + 5_000_000)
    }

    // MARK: the kernel and its tools

    private func lineGraceNs(_ node: Int) -> UInt64 {
        // Without a gate `ip` is what is late, by less.
        nodes[node].fence.hasGate ? UInt64(settings.timing.lineGrace.nanoseconds) : 31_000_000
    }

    func performKernel(_ node: Int, life: Int, _ command: KernelCommand) {
        if nodes[node].isStalled { return nodes[node].stalledKernel.append((life, command)) }
        switch command {
        case .open(let until, let writtenAt, let order):
            // Late lines are killed with their `nft` or `ip`.
            guard nodes[node].fence.life == life, now <= writtenAt + lineGraceNs(node) else { return }
            let isNews = !nodes[node].fence.isPresent
            renew(node, until: until, writtenAt: writtenAt)
            if nodes[node].fence.isFrozen, !nodes[node].fence.hasGate {
                nodes[node].fence.endsAt = now + random.within(1_000_000_000...1_260_000_000)
                planEnd(node)
            }
            if isNews {
                setPresent(node, true)
                if !nodes[node].fence.isFrozen { report(node, .held) }
            }
            mark(node, 6, more: order)
        case .close(let order):
            guard nodes[node].fence.life == life else { return }
            setPresent(node, false)
            report(node, .dropped(order: order))
        case .end:
            nodes[node].fence.endPlannedAt = 0
            guard nodes[node].fence.endsAt <= now else { return planEnd(node) }
            nodes[node].fence.endsAt = .max
            setPresent(node, false)
        }
    }

    /// A line that opens is in force: for a gate, with what is left of the lease when it was written.
    private func renew(_ node: Int, until: UInt64, writtenAt: UInt64) {
        guard nodes[node].fence.hasGate else { return }
        #if TRIAD_BREAKAGES
            let end = until + (isBroken(.gateOutlivesLease) ? UInt64(settings.timing.lease.nanoseconds) : 0)
        #else
            let end = until
        #endif
        // The timeout is rounded down by as much as the kernel's ticks may overshoot.
        let timeout = end > writtenAt + 4_000_000 ? end - writtenAt - 4_000_000 : 0
        nodes[node].fence.endsAt = now + timeout + random.within(0...4_000_000)
        planEnd(node)
    }

    private func planEnd(_ node: Int) {
        let end = nodes[node].fence.endsAt
        guard end < .max, nodes[node].fence.endPlannedAt == 0 || nodes[node].fence.endPlannedAt > end else { return }
        nodes[node].fence.endPlannedAt = end
        plan(.kernel(node: node, life: nodes[node].fence.life, .end), at: end)
    }

    private func setPresent(_ node: Int, _ present: Bool) {
        guard nodes[node].fence.isPresent != present else { return }
        nodes[node].fence.isPresent = present
        ownership.append((now, node, present))
        mark(node, 6)
        tell("n\(node) \(present ? "answers for the VIP" : "is silent about the VIP")")
        checkOwners()
        checkOwnership(node)
    }

    // MARK: what happens to it

    /// The pipe closed: the fence notices, closes and says so, unless it is frozen with the rest.
    func fenceLosesMain(_ node: Int) {
        guard !nodes[node].fence.isDead else { return }
        nodes[node].fence.isOrphaned = true
        if settings.sealed, nodes[node].fence.boot > 0 {
            nodes[node].fence.envelope = Envelope(
                clusterTag: 1, me: MemberID(node), memberCount: settings.members, boot: nodes[node].fence.boot,
                keys: Self.keys, sequenceStart: Envelope.fenceSequenceBit | now,
                knownBoots: nodes[node].fence.boots)
        }
        let at = max(nodes[node].fence.busyUntil, now + random.within(settings.fenceNs))
        planFence(node, .orphaned, at: at)
    }

    /// The process ends. Nobody renews anything any more; the kernel keeps what it has for what is left of its time.
    func loseFence(_ node: Int) {
        guard !nodes[node].fence.isDead else { return }
        // One that stood still hasn't renewed anything since then either.
        if !nodes[node].fence.isFrozen { leaveToKernel(node) }
        nodes[node].fence.life += 1
        nodes[node].fence.isDead = true
        nodes[node].fence.isFrozen = false
        nodes[node].fence.isYielding = false
        nodes[node].fence.backlog = []
        nodes[node].fence.expiryPlannedAt = 0
        nodes[node].fence.lostOrder = nodes[node].fence.lastOrder
    }

    /// The fence alone is killed; its main process starts another.
    func killFence(_ node: Int, after pause: UInt64) {
        // `trust` doesn't wait for an address that nobody looks after for a while.
        guard nodes[node].member != nil, !nodes[node].fence.isDead, !nodes[node].fence.isFrozen,
            settings.fencing != .trust
        else { return }
        tell("n\(node)'s fence is killed")
        loseFence(node)
        let incarnation = nodes[node].incarnation
        after(.nanoseconds(Int64(pause))) { world in
            guard world.nodes[node].incarnation == incarnation, world.nodes[node].fence.isDead else { return }
            world.tell("n\(node) starts another fence")
            world.startFence(node)
        }
    }

    /// Without power there is neither process nor kernel.
    func cutPower(_ node: Int) {
        nodes[node].fence.life += 1
        nodes[node].fence.isDead = true
        nodes[node].fence.isFrozen = false
        nodes[node].fence.isYielding = false
        nodes[node].fence.endsAt = .max
        nodes[node].fence.endPlannedAt = 0
        nodes[node].fence.expiryPlannedAt = 0
        forgetFence(node)
        setPresent(node, false)
    }

    /// A new main process knows nothing of what an earlier one said to its fence.
    func forgetFence(_ node: Int) {
        nodes[node].fence.route = nil
        nodes[node].fence.wantedRoute = nil
        nodes[node].fence.lastOrder = 0
        nodes[node].fence.lostOrder = nil
    }

    func freezeFence(_ node: Int) {
        guard !nodes[node].fence.isDead, !nodes[node].fence.isFrozen else { return }
        nodes[node].fence.isFrozen = true
        nodes[node].fence.expiryPlannedAt = 0
        if let until = nodes[node].fence.until, local(node) < until, random.happens(500) {
            // It had just written a line, which its child carries out in its own time.
            let late = random.within(0...lineGraceNs(node))
            planLine(
                node, .open(until: world(node, until), writtenAt: now, order: nodes[node].fence.order), after: late)
        }
        leaveToKernel(node)
    }

    func thawFence(_ node: Int) {
        guard nodes[node].fence.isFrozen else { return }
        nodes[node].fence.isFrozen = false
        if !nodes[node].fence.hasGate { nodes[node].fence.endsAt = .max }
        expire(node)
        // What the kernel said meanwhile is heard now.
        if nodes[node].fence.isPresent { report(node, .held) }
        let backlog = nodes[node].fence.backlog
        nodes[node].fence.backlog = []
        for command in backlog { performFence(node, command) }
    }

    private func leaveToKernel(_ node: Int) {
        guard !nodes[node].fence.hasGate else { return }
        // Renewed up to 300 ms ago, for 1.00 to 1.26 s.
        nodes[node].fence.endsAt = now + random.within(700_000_000...1_260_000_000)
        planEnd(node)
    }
}
