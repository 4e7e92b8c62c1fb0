// ClusterLife: a schedule carried out on a world, and what must be true when faults are over.
//
//   episode   trouble ── mended, but for one cut that stays ── all well ── idle to the end
//
// Liveness: where some node reaches a majority both ways there is a leader within two election timeouts, and an owner
// of the VIP within the time for which a new leader may have to wait besides. Then it stays. With all well, all nodes are
// the same soon, a change is done, and nothing about leader and VIP changes any more. An election in which votes are
// split costs another timeout each time; how often that happens is up to chance, so each campaign after the first
// adds one.

import Gossip

struct ClusterLife {
    struct End {
        var violation: String?
        var nanoseconds: UInt64 = 0
        var steps = 0
        var trace: UInt64 = 0
        var story: [String] = []
    }

    let seed: UInt64
    var settings: ClusterSettings
    let schedule: ClusterSchedule
    var tellsMessages = false

    init(seed: UInt64, members: Int = 3, seconds: Int = 60) {
        self.seed = seed
        settings = ClusterSettings.drawn(seed, members: members)
        schedule = ClusterSchedule(seed: seed, members: members, servers: settings.servers, seconds: seconds)
    }

    init(seed: UInt64, settings: ClusterSettings, schedule: ClusterSchedule) {
        self.seed = seed
        self.settings = settings
        self.schedule = schedule
    }

    /// - Parameter kept: places of the schedule's entries that happen; nil: all.
    func run(keeping kept: [Int]? = nil, teller: Teller = .silent) -> End {
        let world = ClusterWorld(seed: seed, settings, teller: teller)
        world.tellsMessages = tellsMessages
        let places = kept ?? Array(schedule.faults.indices)
        var violation: String?
        for episode in 0..<schedule.episodes where violation == nil {
            let faults = places.map { schedule.faults[$0] }.filter { $0.episode == episode }
            violation = live(world, faults, isLast: episode == schedule.episodes - 1)
        }
        return End(
            violation: world.violation ?? violation, nanoseconds: world.now, steps: world.steps, trace: world.trace,
            story: world.story)
    }

    /// One episode; what went wrong, or nil.
    private func live(_ world: ClusterWorld, _ faults: [Fault], isLast: Bool) -> String? {
        let start = world.now
        world.settings.noise = world.usualNoise
        world.isMended = false
        var persistent: Cut?
        for fault in faults {
            if case .persist(let cut) = fault.deed { persistent = cut } else { plan(fault, world) }
        }
        world.run(.nanoseconds(Int64(schedule.trouble)))
        if world.violation != nil { return nil }
        world.mend()
        var lead: Lead?
        if let persistent {
            world.apply(persistent, span: nil)
            switch endure(world) {
            case .failed(let failure): return failure
            case .settled(let settled): lead = settled
            }
            world.healAll()
        }
        if let failure = recover(world) { return failure }
        if let lead, lead != Lead(world), world.violation == nil {
            return "nodes that come back depose \(lead): \(world.portrait)"
        }
        let rest = start + schedule.slot > world.now ? start + schedule.slot - world.now : 0
        return idle(world, for: max(600_000_000, rest)) ?? unanswered(world)
    }

    private func plan(_ fault: Fault, _ world: ClusterWorld) {
        world.after(.nanoseconds(Int64(fault.at))) { $0.perform(fault.deed) }
    }

    // MARK: liveness

    private var electionTime: Duration { settings.timing.electionTimeoutMax * 2 + .milliseconds(20) }

    /// How long a new leader may wait for an owner that stopped whole, or that nobody remembers.
    private var fencingTime: Duration {
        switch settings.fencing {
        case .trust: settings.timing.lease
        case .gate: settings.timing.lease + settings.timing.electionTimeoutMin / 4
        case .wait, .auto: settings.timing.lease + Timing.addressLifetime
        }
    }

    /// Runs until the condition holds; false when it doesn't in time, with a timeout more for each election that failed.
    private func await(_ world: ClusterWorld, within limit: Duration, _ condition: (ClusterWorld) -> Bool) -> Bool {
        let start = world.now
        let campaigns = world.campaigns
        while world.violation == nil {
            if condition(world) { return true }
            let failed = min(8, max(0, world.campaigns - campaigns - 1))
            let end = start + UInt64((limit + settings.timing.electionTimeoutMax * failed).nanoseconds)
            if world.now >= end { return false }
            world.run(.milliseconds(1))
        }
        return true
    }

    /// Who leads.
    private struct Lead: Equatable {
        let node: Int?
        let term: UInt64?

        init(_ world: ClusterWorld) { (node, term) = (world.leader, world.leaderTerm) }
    }

    private enum Endurance {
        case failed(String)
        /// Who leads to the end, if someone must.
        case settled(Lead?)
    }

    /// One cut stays. Whoever reaches a majority must be able to lead.
    private func endure(_ world: ClusterWorld) -> Endurance {
        guard world.someoneCanLead else {
            world.run(.seconds(1))
            return .settled(nil)
        }
        world.tell("this stays; someone reaches a majority that may vote for it")
        if !await(world, within: electionTime, { $0.hasLeader }) {
            return .failed(
                "no leader \(electionTime) after faults ended, though someone reaches a majority: \(world.portrait)")
        }
        if !await(world, within: electionTime + fencingTime, { $0.isServed }) {
            return .failed("no owner \(electionTime + fencingTime) after faults ended: \(world.portrait)")
        }
        // A hand-over may be under way, and a condition of the time before may still be told.
        world.run(.milliseconds(900))
        let lead = Lead(world)
        let term = world.highestTerm
        world.run(.milliseconds(900))
        if lead != Lead(world) || term != world.highestTerm, world.violation == nil {
            return .failed("leaders or terms keep changing while a cut persists: \(world.portrait)")
        }
        // Who began a later term before the others settled takes them there when it is heard again.
        return .settled(term == lead.term ? lead : nil)
    }

    /// All is well: a leader, an owner, and everyone the same.
    private func recover(_ world: ClusterWorld) -> String? {
        if !await(world, within: electionTime, { $0.hasLeader }) {
            return world.violation ?? "no leader \(electionTime) after all was mended: \(world.portrait)"
        }
        if !await(world, within: electionTime + fencingTime, { $0.isServed }) {
            return "no owner \(electionTime + fencingTime) after all was mended: \(world.portrait)"
        }
        if !await(world, within: .seconds(2), { $0.isSettled }) {
            return "not settled 2 s after there was an owner: \(world.portrait)"
        }
        // Hand-overs that were under way come to their end.
        world.run(.milliseconds(400))
        if !await(world, within: .seconds(2), { $0.isSettled }) { return "not settled for good: \(world.portrait)" }
        return nil
    }

    /// Nothing is wrong: nothing may change but by an operator.
    private func idle(_ world: ClusterWorld, for span: UInt64) -> String? {
        guard world.violation == nil else { return nil }
        world.tell("all is well")
        let (leader, term, changes) = (world.leader, world.leaderTerm, world.ownership.count)
        let node = Int(world.random.below(UInt64(settings.members)))
        let request = world.propose(.setWeight(settings.servers[0], weight: 77), at: node)
        world.run(.milliseconds(500))
        if world.violation != nil { return nil }
        if !world.answers.contains(where: { $0.request == request && $0.outcome == .done }) {
            return "a change isn't done 0.5 s after it was asked, and all is well: \(world.portrait)"
        }
        world.run(.nanoseconds(Int64(span > 500_000_000 ? span - 500_000_000 : 100_000_000)))
        if world.violation != nil { return nil }
        if world.leader != leader || world.leaderTerm != term {
            return
                "the leader changes although all is well: n\(leader ?? -1) of term \(term ?? 0), now \(world.portrait)"
        }
        if world.ownership.count != changes { return "the VIP changes hands although all is well: \(world.portrait)" }
        if !world.isSettled { return "nodes differ although all is well: \(world.portrait)" }
        world.checkTableAgainstLog()
        return nil
    }

    private func unanswered(_ world: ClusterWorld) -> String? {
        for (index, node) in world.nodes.enumerated() {
            for (request, at) in node.asked where world.now - at > 8_000_000_000 {
                return "n\(index) never answered \(request)"
            }
        }
        return nil
    }
}

extension ClusterWorld {
    /// A node and a majority that may vote hear each other.
    var someoneCanLead: Bool {
        nodes.indices.contains { node in
            let reached = nodes.indices.count { other in
                hasVote(other) && (node == other || (!isCut(from: node, to: other) && !isCut(from: other, to: node)))
            }
            return hasVote(node) && reached > nodes.count / 2
        }
    }

    /// Who came back with an empty disk has no vote before it is up to date.
    private func hasVote(_ node: Int) -> Bool { nodes[node].member?.isForgetful == false }

    var highestTerm: UInt64? { nodes.compactMap { $0.member?.term }.max() }

    var leaderTerm: UInt64? { leader.flatMap { nodes[$0].member?.term } }

    /// A leader whose lease runs.
    var hasLeader: Bool {
        guard let leader, let member = nodes[leader].member else { return false }
        return member.hasQuorum(now: local(leader))
    }

    var isServed: Bool {
        guard settings.hasVIP else { return hasLeader }
        return owners.count == 1 && owners.first == leader
    }

    var portrait: String {
        let told = nodes.enumerated().map { index, node in
            guard let member = node.member else { return "n\(index) down" }
            return "n\(index) \(member.role) term \(member.term) commit \(member.commitIndex) "
                + "applied \(member.appliedIndex)\(isOwner(index) ? " owner" : "")"
        }
        return told.joined(separator: ", ")
    }
}
