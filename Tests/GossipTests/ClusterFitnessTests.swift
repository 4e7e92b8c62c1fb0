// ClusterFitnessTests: leaders that should not lead, connections that outlive a move, and ownership by force.

import Testing

@testable import Gossip
@testable import Simulation

extension ClusterSettings {
    static let allGated: ClusterSettings = {
        var settings = ClusterSettings.fenced(.auto)
        settings.gated = [true, true, true]
        return settings
    }()
}

extension ClusterWorld {
    func isFit(_ node: Int, _ isFit: Bool) { step(node, .fitness(answersClients: isFit, reachesGateway: true)) }

    func allFit() { for node in nodes.indices { isFit(node, true) } }

    /// Who became leader since `start`, by the nodes' own notes.
    func terms(since start: UInt64) -> UInt64 { (nodes.compactMap { $0.member?.term }.max() ?? 0) - start }

    func forwardsTo(_ node: Int) -> Int? { nodes[node].fence.route?.next.index }
}

@Suite("Who should lead") struct ClusterFitnessTests {
    @Test func aLeaderThatCannotAnswerClientsHandsOver() throws {
        let world = ClusterWorld.settled(seed: 1, .allGated)
        let leader = try world.someLeader()
        world.isFit(leader, false)
        world.run(.milliseconds(1400))
        #expect(world.leader == leader, "not before fitnessHold")
        #expect(world.run(atMost: .seconds(1)) { $0.leader != leader && $0.isSettled })
        #expect(world.violation == nil)
    }

    @Test func aLeaderThatReachesNoServerHandsOverToOneThatDoes() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let able = (leader + 2) % 3
        for server in world.settings.servers {
            for node in world.nodes.indices { world.observe(server, .up, at: node) }
        }
        world.run(.seconds(3))
        #expect(world.leader == leader)
        // The third node lost most of them: fitter than the leader, but not the fittest.
        for server in world.settings.servers { world.observe(server, .down, at: leader) }
        for server in world.settings.servers.dropFirst() { world.observe(server, .down, at: (leader + 1) % 3) }
        #expect(world.run(atMost: .seconds(4)) { $0.leader == able && $0.isSettled })
        #expect(world.violation == nil)
    }

    @Test func oneServerMoreOrLessMovesNobody() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        for server in world.settings.servers {
            for node in world.nodes.indices { world.observe(server, .up, at: node) }
        }
        world.observe(world.settings.servers[0], .down, at: leader)
        let term = world.term(leader)
        world.run(.seconds(20))
        #expect(world.leader == leader && world.term(leader) == term)
    }

    @Test func whoCameToLeadForItsFitnessStaysForAWhile() throws {
        let world = ClusterWorld.settled()
        world.allFit()
        func lose(_ node: Int) {
            for server in world.settings.servers { world.observe(server, .down, at: node) }
        }
        func regain(_ node: Int) {
            for server in world.settings.servers { world.observe(server, .up, at: node) }
        }
        for node in world.nodes.indices { regain(node) }
        let term = world.term(try world.someLeader())
        // Whoever leads loses its servers at once and gets them back when it no longer leads.
        for _ in 0..<60 {
            let leader = try world.someLeader()
            lose(leader)
            for node in world.nodes.indices where node != leader { regain(node) }
            world.run(.milliseconds(500))
        }
        #expect((2...4).contains(world.terms(since: term)), "30 s of it: \(world.terms(since: term)) moves")
        #expect(world.violation == nil)
    }

    @Test func priorityTakesTheLeadAfterItsHold() throws {
        var settings = ClusterSettings()
        settings.leadership.priorities = [0, 0, 5]
        let world = ClusterWorld.settled(seed: 3, settings)
        world.allFit()
        #expect(world.run(atMost: .seconds(14)) { $0.leader == 2 && $0.isSettled })
        world.crash(2)
        #expect(world.run(atMost: .seconds(4)) { $0.leader != 2 && $0.isSettled })
        let other = try world.someLeader()
        world.start(2)
        world.isFit(2, true)
        world.run(.seconds(9))
        #expect(world.leader == other, "not before preemptHold")
        #expect(world.run(atMost: .seconds(4)) { $0.leader == 2 && $0.isSettled })
        #expect(world.violation == nil)
    }

    @Test func priorityDoesNotBringALessFitNode() throws {
        var settings = ClusterSettings()
        settings.leadership.priorities = [5, 5, 5]
        let world = ClusterWorld.settled(seed: 1, settings)
        world.allFit()
        let leader = try world.someLeader()
        world.settings.leadership.priorities = [0, 0, 0]
        for node in world.nodes.indices {
            var rules = LeadershipRules(priorities: [1, 1, 1])
            rules.priorities[leader] = 0
            let event = Event.reconfigured(
                servers: world.settings.servers, digest: 7, sections: [], leadership: rules)
            world.step(node, event)
            world.isFit(node, node == leader)
        }
        world.run(.seconds(30))
        #expect(world.leader == leader)
    }

    @Test func byDefaultNobodyPreempts() throws {
        let world = ClusterWorld.settled()
        world.allFit()
        let leader = try world.someLeader()
        world.crash(leader)
        #expect(world.run(atMost: .seconds(4)) { $0.leader != nil && $0.isSettled })
        let other = try world.someLeader()
        let term = world.term(other)
        world.start(leader)
        world.allFit()
        world.run(.seconds(60))
        #expect(world.leader == other && world.term(other) == term)
    }
}

@Suite("Behind the gate") struct ClusterGateTests {
    @Test(arguments: 1...5) func aNodeFrozenWholeIsReplacedAtOnce(_ seed: UInt64) throws {
        let world = ClusterWorld.settled(seed: seed, .allGated)
        let leader = try world.someLeader()
        world.freeze(leader, whole: true)
        #expect(world.run(atMost: .milliseconds(340)) { world in world.owners.contains { $0 != leader } })
        world.run(.seconds(3))
        world.thaw(leader)
        #expect(world.run(atMost: .seconds(1)) { $0.isSettled })
        #expect(world.violation == nil)
    }

    @Test(arguments: 1...5) func aLeaderWithoutGateIsWaitedFor(_ seed: UInt64) throws {
        var settings = ClusterSettings.allGated
        settings.gated = [false, false, false]
        let world = ClusterWorld.settled(seed: seed, settings)
        let leader = try world.someLeader()
        world.freeze(leader, whole: true)
        #expect(!world.run(atMost: .seconds(1)) { world in world.owners.contains { $0 != leader } })
        #expect(world.run(atMost: .seconds(2)) { world in world.owners.contains { $0 != leader } })
        #expect(world.violation == nil)
    }

    @Test func withoutAGateNobodyOwnsWhereItIsRequired() throws {
        var settings = ClusterSettings.fenced(.gate)
        settings.gated = [false, true, false]
        let world = ClusterWorld(seed: 4, settings)
        #expect(world.run(atMost: .seconds(6)) { $0.owners == [1] })
        world.run(.seconds(10))
        #expect(world.ownership.allSatisfy { $0.node == 1 } && world.owners == [1])
    }

    @Test func aMoveKeepsConnectionsAndForwardsThem() throws {
        let world = ClusterWorld.settled(seed: 1, .allGated)
        let old = try world.someLeader()
        let new = (old + 1) % 3
        let since = world.now
        world.step(old, .requestHandover(to: MemberID(new)))
        #expect(world.run(atMost: .seconds(1)) { $0.owners == [new] })
        #expect(world.nodes[old].fence.isYielding && world.forwardsTo(new) == old && world.forwardsTo(old) == nil)
        #expect(world.gap(since: since, from: old) ?? .seconds(1) < .milliseconds(5))
        #expect(world.run(atMost: .seconds(2)) { $0.forwardsTo(new) == nil }, "when they are over")
        #expect(world.run(atMost: .seconds(1)) { !$0.nodes[old].fence.isYielding }, "when everybody has heard that")
    }

    @Test func aMoveToANodeThatIsNoNeighbourKeepsNothing() throws {
        let world = ClusterWorld.settled(seed: 1, .allGated)
        let old = try world.someLeader()
        let new = (old + 1) % 3
        world.step(old, .offLink([MemberID(new)]))
        world.step(old, .requestHandover(to: MemberID(new)))
        #expect(world.run(atMost: .seconds(2)) { $0.owners == [new] })
        #expect(!world.nodes[old].fence.isYielding && world.forwardsTo(new) == nil)
        world.step(new, .requestHandover(to: MemberID((new + 1) % 3)))
        #expect(world.run(atMost: .seconds(2)) { $0.owners == [(new + 1) % 3] })
        #expect(world.nodes[new].fence.isYielding, "to one that is")
    }

    /// Faster than digests tell: whoever keeps connections gets their packets, from the owner and, since clients may not
    /// have heard of it yet, from the one before. Nothing goes in circles.
    @Test(arguments: [3, 5]) func movesFasterThanDigestsLoseNobodysPackets(members: Int) throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            var settings = ClusterSettings.allGated
            settings.members = members
            settings.gated = Array(repeating: true, count: members)
            let world = ClusterWorld.settled(seed: seed, settings)
            world.settings.drainNs = 60_000_000_000...61_000_000_000
            var random = SplitMix64(state: seed)
            var old = try world.someLeader()
            var keepers: Set<Int> = []
            for step in 1...12 {
                let new = (old + 1 + Int(random.next() % UInt64(members - 1))) % members
                world.step(old, .requestHandover(to: MemberID(new)))
                try #require(world.run(atMost: .seconds(1)) { $0.owners == [new] }, "seed \(seed), move \(step)")
                keepers.insert(old)
                for start in [old, new] {
                    let way = world.packetWay(from: start)
                    let missed = keepers.subtracting(way.nodes)
                    #expect(missed.isEmpty, "seed \(seed), move \(step): from n\(start) by \(way) past \(missed)")
                }
                world.run(.milliseconds(Int(random.next() % 60)))
                old = new
            }
        }
    }

    @Test func movesInARowMakeAChainWithoutACircle() throws {
        let world = ClusterWorld.settled(seed: 1, .allGated)
        world.settings.drainNs = 60_000_000_000...61_000_000_000
        let first = try world.someLeader()
        for step in 1...7 {
            let from = (first + step - 1) % 3
            let to = (first + step) % 3
            world.step(from, .requestHandover(to: MemberID(to)))
            #expect(world.run(atMost: .seconds(1)) { $0.owners == [to] })
            world.run(.milliseconds(300))
            // The owner passes on to the one before it, that one to the one before that, which passes on to nobody.
            #expect(world.forwardsTo(to) == from)
            if step > 1 { #expect(world.forwardsTo(from) == (first + step - 2 + 3) % 3) }
            if step > 2 { #expect(world.forwardsTo((first + step - 2) % 3) == nil) }
        }
        world.crash((first + 6) % 3)
        #expect(world.run(atMost: .seconds(4)) { $0.forwardsTo((first + 7) % 3) == (first + 5) % 3 }, "past a dead one")
    }
}

@Suite("By force") struct ClusterForceTests {
    @Test func theLastSurvivorOwnsWhenToldTo() throws {
        let world = ClusterWorld.settled(seed: 1, .allGated)
        let survivor = try world.someLeader()
        #expect(world.nodes[survivor].member?.forceProblem(now: world.local(survivor)) != nil)
        world.step(survivor, .forceLeader)
        world.run(.seconds(1))
        #expect(world.nodes[survivor].member?.isForced == false, "a majority is there")
        for node in peersOf(survivor) { world.crash(node) }
        world.run(.seconds(3))
        #expect(world.owners == [])
        #expect(world.nodes[survivor].member?.forceProblem(now: world.local(survivor)) == nil)
        world.step(survivor, .forceLeader)
        #expect(world.run(atMost: .milliseconds(50)) { $0.owners == [survivor] })
        let changes = world.ownership.count
        world.run(.seconds(20))
        #expect(world.owners == [survivor] && world.ownership.count == changes, "without a break")
        #expect(world.nodes[survivor].notes.contains { $0.kind == .forced })
        for node in peersOf(survivor) { world.start(node) }
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled && $0.nodes[survivor].member?.isForced == false })
        #expect(world.violation == nil)
    }

    @Test func itEndsWhenAMajorityIsHeard() throws {
        let world = ClusterWorld.settled()
        let survivor = try world.someLeader()
        for node in peersOf(survivor) { world.crash(node) }
        world.run(.seconds(3))
        world.step(survivor, .forceLeader)
        world.run(.seconds(1))
        world.start(peersOf(survivor)[0])
        #expect(world.run(atMost: .seconds(1)) { $0.nodes[survivor].member?.isForced == false })
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled })
        #expect(world.violation == nil)
    }

    private func peersOf(_ node: Int) -> [Int] { (0..<3).filter { $0 != node } }
}

@Suite("An empty disk") struct ClusterEmptyDiskTests {
    @Test func whoLostItsDiskDoesNotVoteBeforeItHasEverything() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let (lagging, lost) = ((leader + 1) % 3, (leader + 2) % 3)
        // A change that only the leader and the node have that is about to lose its disk.
        world.isolate(lagging)
        let request = world.propose(.setWeight(world.settings.servers[0], weight: 9), at: leader)
        #expect(world.run(atMost: .seconds(2)) { world in world.answers.contains { $0.request == request } })
        world.crash(lost)
        world.crash(leader)
        world.nodes[lost].disk = ClusterDisk()
        world.heal()
        world.start(lost)
        world.run(.seconds(10))
        #expect(world.leader == nil, "two nodes, one of which has forgotten: the change would be lost")
        // A restart doesn't make up for it, whatever it has on its disk by now.
        world.crash(lost)
        world.start(lost)
        world.run(.seconds(5))
        #expect(world.leader == nil)
        world.start(leader)
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled })
        #expect(world.nodes[lost].member?.table[world.settings.servers[0]]?.weight == 9)
        // And now it counts again.
        world.run(.seconds(1))
        let next = try world.someLeader()
        world.crash(next == lost ? leader : next)
        #expect(world.run(atMost: .seconds(6)) { $0.leader != nil && $0.isSettled })
        #expect(world.violation == nil)
    }

    @Test func aNewClusterNeedsNoMoreThanAMajority() {
        var settings = ClusterSettings()
        settings.members = 5
        let world = ClusterWorld(seed: 2, settings)
        world.crash(0)
        world.crash(3)
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled })
        world.start(0)
        world.start(3)
        #expect(world.run(atMost: .seconds(2)) { $0.isSettled })
    }
}
