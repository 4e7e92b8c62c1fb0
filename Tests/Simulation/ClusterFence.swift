// ClusterFence: the model of a node's fence process and of its kernel, which alone decide who has the address.
//
//   absent --hold--> present --hold's end, drop, death of main--> absent
//   present, fence frozen or killed --kernel lifetime--> absent
//
// Ownership is whether the address is there, not what any member believes.

import Gossip

enum FenceCommand {
    case hold(until: Instant, term: UInt64, order: UInt64)
    case drop(order: UInt64)
    case yield(order: UInt64)
    case forward(to: Int?)
    /// The connections kept after a yield are over.
    case drained
    /// A hold's end may have come.
    case expire
    /// The address's kernel lifetime is over unless someone renewed it.
    case lifetime(generation: Int)
    /// The main process is gone: drop, then tell the peers.
    case orphaned
    /// Says again that the lease is released; datagrams get lost.
    case tellReleased(rest: Int)
}

struct FenceModel {
    /// It answers for the VIP: what the network sees as its owner.
    fileprivate(set) var isPresent = false
    /// The kernel's gate enforces every hold.
    fileprivate(set) var hasGate = false
    /// It serves connections that it kept in a planned move.
    fileprivate(set) var isYielding = false
    /// Where packets go that belong to no connection of this node.
    fileprivate(set) var forwardsTo: Int?
    fileprivate var until: Instant?
    fileprivate var term: UInt64 = 0
    /// The last order taken in.
    fileprivate var order: UInt64 = 0
    fileprivate var isFrozen = false
    fileprivate var backlog: [FenceCommand] = []
    /// Commands through one pipe are carried out in order, and reports come back in order.
    fileprivate var busyUntil: UInt64 = 0
    fileprivate var reportsUntil: UInt64 = 0
    /// Grows whenever the fence stops or goes on renewing.
    fileprivate var lifetimeGeneration = 0
    /// Boots the main process told it.
    fileprivate var knownBoots: [UInt64] = []
    fileprivate var boot: UInt64 = 0
    fileprivate var isOrphaned = false
}

extension ClusterWorld {
    /// A new fence looks what it can do, and says so before it holds anything.
    func startFence(_ node: Int) {
        let hasGate = settings.fencing.allowsGate && settings.gated.indices.contains(node) && settings.gated[node]
        nodes[node].fence.hasGate = hasGate
        guard settings.fencing.allowsGate else { return }
        report(node, .gate(isUsable: hasGate))
    }

    func commandFence(_ node: Int, _ command: FenceCommand) {
        mark(node, 4)
        nodes[node].fence.knownBoots = nodes[node].knownBoots
        nodes[node].fence.boot = nodes[node].boot
        let at = max(nodes[node].fence.busyUntil, now + random.within(settings.fenceNs))
        nodes[node].fence.busyUntil = at
        plan(.fence(node: node, incarnation: nodes[node].incarnation, command), at: at)
    }

    func performFence(_ node: Int, _ command: FenceCommand) {
        if nodes[node].fence.isFrozen {
            switch command {
            case .lifetime(let generation): lifetimeEnds(node, generation)
            case .expire: break
            default: nodes[node].fence.backlog.append(command)
            }
            return
        }
        switch command {
        case .hold(let until, let term, let order):
            nodes[node].fence.order = order
            hold(node, until: until, term: term)
        case .drop(let order):
            nodes[node].fence.order = order
            nodes[node].fence.isYielding = false
            drop(node)
        case .yield(let order):
            nodes[node].fence.order = order
            nodes[node].fence.isYielding = true
            drop(node)
            let end = now + random.within(settings.drainNs)
            plan(.fence(node: node, incarnation: nodes[node].incarnation, .drained), at: end)
        case .drained: if nodes[node].fence.isYielding { step(node, .drained) }
        case .forward(let member): nodes[node].fence.forwardsTo = member
        case .expire: expire(node)
        case .lifetime(let generation): lifetimeEnds(node, generation)
        case .orphaned:
            setPresent(node, false)
            performFence(node, .tellReleased(rest: 3))
        case .tellReleased(let rest): tellReleased(node, rest: rest)
        }
    }

    private func hold(_ node: Int, until: Instant, term: UInt64) {
        // Too late to hold anything; the answer has to name the order all the same.
        guard local(node) < until else { return drop(node) }
        nodes[node].fence.until = until
        nodes[node].fence.term = term
        nodes[node].fence.isYielding = false
        if !nodes[node].fence.isPresent {
            setPresent(node, true)
            report(node, .held)
        }
        let end = world(node, until) + random.within(settings.fenceNs)
        plan(.fence(node: node, incarnation: nodes[node].incarnation, .expire), at: end)
    }

    private func expire(_ node: Int) {
        guard let until = nodes[node].fence.until, local(node) >= until else { return }
        drop(node)
    }

    private func drop(_ node: Int) {
        nodes[node].fence.until = nil
        setPresent(node, false)
        report(node, .dropped(order: nodes[node].fence.order))
    }

    private func report(_ node: Int, _ report: FenceReport) {
        guard !nodes[node].fence.isOrphaned else { return }
        let at = max(nodes[node].fence.reportsUntil, now + random.within(settings.fenceNs))
        nodes[node].fence.reportsUntil = at
        plan(.event(node: node, incarnation: nodes[node].incarnation, .fence(report)), at: at)
    }

    private func setPresent(_ node: Int, _ present: Bool) {
        guard nodes[node].fence.isPresent != present else { return }
        nodes[node].fence.isPresent = present
        ownership.append((now, node, present))
        mark(node, 6)
        tell("n\(node) \(present ? "has the address" : "lets the address go")")
        checkOwners()
    }

    /// The pipe closed: the fence notices, drops and says so, unless it is frozen with the rest.
    func fenceLosesMain(_ node: Int) {
        nodes[node].fence.isOrphaned = true
        let at = max(nodes[node].fence.busyUntil, now + random.within(settings.fenceNs))
        plan(.fence(node: node, incarnation: nodes[node].incarnation, .orphaned), at: at)
    }

    private func tellReleased(_ node: Int, rest: Int) {
        let fence = nodes[node].fence
        guard rest > 0, fence.term > 0 else { return }
        let payload = Message.released(term: fence.term).encode()
        for peer in nodes.indices where peer != node && fence.knownBoots.indices.contains(peer) {
            // A sealed world's fence would need an envelope of its own; its peers' timeouts do there.
            guard !settings.sealed else { continue }
            let content = Datagram.Content.plain(payload: payload, boot: fence.boot, named: fence.knownBoots[peer])
            transmit(Datagram(from: node, to: peer, content: content))
        }
        plan(
            .fence(node: node, incarnation: nodes[node].incarnation, .tellReleased(rest: rest - 1)),
            at: now + 5_000_000)
    }

    /// Nobody renews the address any more; the kernel keeps it for what is left of its lifetime.
    func loseFence(_ node: Int) {
        nodes[node].fence.isFrozen = true
        nodes[node].fence.isOrphaned = true
        nodes[node].fence.backlog = []
        startLifetime(node)
    }

    func freezeFence(_ node: Int) {
        nodes[node].fence.isFrozen = true
        startLifetime(node)
    }

    func thawFence(_ node: Int) {
        guard nodes[node].fence.isFrozen else { return }
        nodes[node].fence.isFrozen = false
        nodes[node].fence.lifetimeGeneration += 1
        expire(node)
        let backlog = nodes[node].fence.backlog
        nodes[node].fence.backlog = []
        for command in backlog { performFence(node, command) }
    }

    private func startLifetime(_ node: Int) {
        nodes[node].fence.lifetimeGeneration += 1
        guard nodes[node].fence.isPresent else { return }
        // Renewed up to 300 ms ago, for 1.00 to 1.26 s. A gate ends with the lease, or as late as a line may be executed.
        var end = now + random.within(700_000_000...1_260_000_000)
        if nodes[node].fence.hasGate, let until = nodes[node].fence.until {
            let late = UInt64(settings.timing.lineGrace.nanoseconds) + 4_000_000
            end = world(node, until) + random.within(0...late)
        }
        let generation = nodes[node].fence.lifetimeGeneration
        plan(.fence(node: node, incarnation: nodes[node].incarnation, .lifetime(generation: generation)), at: end)
    }

    private func lifetimeEnds(_ node: Int, _ generation: Int) {
        guard nodes[node].fence.lifetimeGeneration == generation else { return }
        setPresent(node, false)
    }
}
