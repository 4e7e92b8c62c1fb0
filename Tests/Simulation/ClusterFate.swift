// ClusterFate: what a seed does to a simulated cluster: crashes, freezes, cuts, slow disks, hand-overs and the work of
// operators and checks meanwhile. In the end everything is mended, and the cluster has to be well soon after.

import Gossip

struct ClusterFate {
    /// How long bad things happen, and how long they may take to be over.
    var trouble: Duration = .seconds(4)
    var recovery: Duration = .seconds(5)
    /// Nodes freeze whole, or lose all processes but not the kernel, and so keep the address for up to a second more
    /// than their lease. Only `wait` waits for that.
    var outlivesProcesses = true

    /// Runs a world through its fate; what went wrong, or nil.
    func run(_ world: ClusterWorld) -> String? {
        let end = world.now + UInt64(trouble.nanoseconds)
        planTrouble(world, until: end)
        planWork(world, until: end)
        world.run(trouble)
        if let violation = world.violation { return violation }
        mend(world)
        if !world.run(atMost: recovery, until: { $0.isSettled }) {
            return world.violation ?? "not settled \(recovery) after everything was mended: \(Self.portrait(world))"
        }
        let node = Int(world.random.below(UInt64(world.settings.members)))
        let server = world.settings.servers[0]
        let request = world.propose(.setWeight(server, weight: 77), at: node)
        let isDone = world.run(atMost: .seconds(2)) { world in
            world.answers.contains { $0.request == request && $0.outcome == .done } && world.isSettled
        }
        if !isDone { return world.violation ?? "a change isn't done 2 s after all is well: \(Self.portrait(world))" }
        world.checkTableAgainstLog()
        return world.violation ?? unanswered(world)
    }

    private func unanswered(_ world: ClusterWorld) -> String? {
        for (index, node) in world.nodes.enumerated() {
            for (request, at) in node.asked where world.now - at > 8_000_000_000 {
                return "n\(index) never answered \(request)"
            }
        }
        return nil
    }

    private func planTrouble(_ world: ClusterWorld, until end: UInt64) {
        world.after(.milliseconds(Int64(60 + world.random.below(600)))) { world in
            guard world.now < end else { return }
            strike(world)
            planTrouble(world, until: end)
        }
    }

    /// One bad thing, and when it is over.
    private func strike(_ world: ClusterWorld) {
        let members = UInt64(world.settings.members)
        // Bad things prefer the leader: that is where the promises are.
        let node = world.random.happens(500) ? world.leader ?? 0 : Int(world.random.below(members))
        let other = (node + 1 + Int(world.random.below(members - 1))) % Int(members)
        let span = Duration.milliseconds(Int64(20 + world.random.below(1800)))
        switch world.random.below(11) {
        case 0:
            world.killMain(node)
            world.after(span) { $0.start(node) }
        case 1:
            if outlivesProcesses { world.killAll(node) } else { world.crash(node) }
            world.after(span) { $0.start(node) }
        case 2:
            world.crash(node)
            world.after(span) { $0.start(node) }
        case 3:
            world.freeze(node, whole: false)
            world.after(span) { $0.thaw(node) }
        case 4:
            world.freeze(node, whole: outlivesProcesses)
            world.after(span) { $0.thaw(node) }
        case 5:
            world.tell("n\(node) is cut off")
            world.isolate(node)
            world.after(span) { $0.heal() }
        case 6:
            world.tell("the link between n\(node) and n\(other) is cut")
            world.setLink(node, other, up: false)
            world.after(span) { $0.heal() }
        case 7:
            world.tell("nothing gets from n\(node) to n\(other)")
            world.cut[node][other] = true
            world.after(span) { $0.heal() }
        case 8:
            world.tell("n\(node) hears nobody")
            for from in world.nodes.indices where from != node { world.cut[from][node] = true }
            world.after(span) { $0.heal() }
        case 9:
            let target = world.random.happens(500) ? MemberID(other) : nil
            world.tell("n\(node) is told to hand over to \(target.map { "n\($0.index)" } ?? "anyone")")
            world.step(node, .requestHandover(to: target))
        default:
            // Everybody at once: what isn't on disk is gone.
            world.tell("power cut")
            for node in world.nodes.indices {
                world.crash(node)
                world.after(span) { $0.start(node) }
            }
        }
    }

    private func planWork(_ world: ClusterWorld, until end: UInt64) {
        world.after(.milliseconds(Int64(2 + world.random.below(60)))) { world in
            guard world.now < end else { return }
            let node = Int(world.random.below(UInt64(world.settings.members)))
            guard let server = world.random.pick(world.settings.servers) else { return }
            switch world.random.below(4) {
            case 0: world.observe(server, world.random.happens(500) ? .up : .down, at: node)
            case 1: world.step(node, .suspect(server))
            default:
                // Often several at once, so that they overtake each other on the way.
                for _ in 0...world.random.below(3) {
                    world.propose(.setWeight(server, weight: Int(world.random.below(257))), at: node)
                }
            }
            planWork(world, until: end)
        }
    }

    private func mend(_ world: ClusterWorld) {
        world.tell("everything is mended")
        world.heal()
        world.settings.loss = 0
        world.settings.slowDatagrams = 0
        for node in world.nodes.indices {
            world.thaw(node)
            world.start(node)
        }
    }

    static func portrait(_ world: ClusterWorld) -> String {
        let nodes = world.nodes.enumerated().map { index, node in
            guard let member = node.member else { return "n\(index) down" }
            return "n\(index) \(member.role) term \(member.term) commit \(member.commitIndex) "
                + "applied \(member.appliedIndex)\(node.fence.isPresent ? " owner" : "")"
        }
        return nodes.joined(separator: ", ")
    }
}

extension ClusterSettings {
    /// What a seed makes of a cluster.
    static func drawn(_ seed: UInt64) -> ClusterSettings {
        var random = SplitMix64(state: seed &* 7919)
        var settings = ClusterSettings()
        settings.members = random.happens(250) ? 5 : 3
        settings.fencing = random.pick([.wait, .wait, .trust, .auto, .auto, .gate]) ?? .wait
        settings.sealed = random.happens(60)
        settings.loss = random.pick([0, 0, 20, 100, 250]) ?? 0
        settings.duplication = random.pick([0, 50, 200]) ?? 0
        settings.slowDatagrams = random.pick([0, 0, 30, 150]) ?? 0
        if random.happens(200) { settings.diskNs = 500_000...30_000_000 }
        let misses: UInt64 = settings.fencing == .auto ? random.pick([0, 0, 300]) ?? 0 : 0
        settings.gated = (0..<settings.members).map { _ in !random.happens(misses) }
        return settings
    }
}

extension ClusterFate {
    static func drawn(_ seed: UInt64) -> ClusterFate {
        var fate = ClusterFate()
        fate.outlivesProcesses = ClusterSettings.drawn(seed).fencing != .trust
        return fate
    }
}
