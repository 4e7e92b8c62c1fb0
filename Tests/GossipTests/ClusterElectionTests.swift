// ClusterElectionTests: each promise about who leads and who owns the VIP, in a world made for it.

import Testing

@testable import Gossip
@testable import Simulation

private let peersOf3 = [0, 1, 2]

extension ClusterWorld {
    /// A world that has a leader and an owner.
    static func settled(seed: UInt64 = 1, _ settings: ClusterSettings = ClusterSettings()) -> ClusterWorld {
        let world = ClusterWorld(seed: seed, settings)
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled }, "\(world.portrait)")
        return world
    }

    func role(_ node: Int) -> Role? { nodes[node].member?.role }
    func term(_ node: Int) -> UInt64 { nodes[node].member?.term ?? 0 }

    /// The node that leads; a test that has none can't go on.
    func someLeader() throws -> Int { try #require(leader) }

    /// Time without an owner since `start`, up to the first owner other than `old`; nil when there was none.
    func gap(since start: UInt64, from old: Int) -> Duration? {
        guard let gained = ownership.first(where: { $0.at >= start && $0.isPresent && $0.node != old }) else {
            return nil
        }
        let lost = ownership.last { $0.at >= start && $0.at <= gained.at && !$0.isPresent && $0.node == old }
        return .nanoseconds(Int64(gained.at - (lost?.at ?? start)))
    }
}

extension ClusterSettings {
    static func fenced(_ fencing: Fencing) -> ClusterSettings {
        var settings = ClusterSettings()
        settings.fencing = fencing
        return settings
    }
}

@Suite("Elections") struct ClusterElectionTests {
    @Test func aNodeThatComesBackDisturbsNobody() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        let away = (leader + 1) % 3
        world.isolate(away)
        world.run(.seconds(3))
        #expect(world.role(away) == .preCandidate, "it must have tried, or this shows nothing")
        #expect(world.term(away) == term, "who can't win doesn't start a term")
        world.heal()
        let changes = world.ownership.count
        world.run(.seconds(1))
        #expect(world.isSettled && world.leader == leader && world.term(leader) == term)
        #expect(world.ownership.count == changes)
        #expect(world.violation == nil)
    }

    @Test(arguments: 1...5) func aMachineThatStandsStillElectsNobody(_ seed: UInt64) throws {
        let world = ClusterWorld.settled(seed: seed)
        let leader = try world.someLeader()
        let term = world.term(leader)
        for node in peersOf3 { world.freeze(node, whole: false) }
        world.run(.milliseconds(700))
        for node in peersOf3 { world.thaw(node) }
        world.run(.seconds(2))
        #expect(world.isSettled && world.leader == leader && world.term(leader) == term)
        #expect(world.violation == nil)
    }

    @Test func aNodeThatHearsNobodyButIsHeardDisturbsNobody() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        let deaf = (leader + 1) % 3
        for from in peersOf3 where from != deaf { world.cut[from][deaf] = true }
        world.run(.seconds(3))
        #expect(world.leader == leader && world.owners == [leader])
        #expect(peersOf3.allSatisfy { world.term($0) == term })
    }

    @Test(arguments: [true, false])
    func whoHearsALeaderNeitherVotesNorMovesOn(_ isPreVote: Bool) throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        let intruder = MemberID((leader + 1) % 3)
        let request = VoteRequest(
            term: term + 5, lastIndex: 1000, lastTerm: term + 4, isPreVote: isPreVote, isTransfer: false,
            released: [0, 0, 0])
        world.sent = []
        for node in peersOf3 where node != intruder.index {
            world.step(node, .message(.voteRequest(request), from: intruder, boot: world.nodes[intruder.index].boot))
        }
        let granted = (world.sent ?? []).contains {
            if case .voteReply(let reply) = $0.message { reply.granted } else { false }
        }
        #expect(!granted)
        world.run(.seconds(1))
        #expect(world.leader == leader && peersOf3.allSatisfy { world.term($0) == term })
    }

    @Test func whoJustStartedKeepsThePromiseItMayHaveForgotten() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        let voter = (leader + 1) % 3
        let candidate = MemberID((leader + 2) % 3)
        for node in peersOf3 { world.crash(node) }
        world.start(voter)
        func ask() -> Bool {
            world.sent = []
            let request = VoteRequest(
                term: term + 1, lastIndex: 1000, lastTerm: term + 1, isPreVote: true, isTransfer: false,
                released: [0, 0, 0])
            world.step(voter, .message(.voteRequest(request), from: candidate, boot: 1))
            return (world.sent ?? []).contains {
                if case .voteReply(let reply) = $0.message { reply.granted } else { false }
            }
        }
        #expect(!ask())
        world.run(.milliseconds(190))
        #expect(!ask())
        world.run(.milliseconds(15))
        #expect(ask())
    }

    @Test func aLeaderWithoutMajorityStepsDownAndAMinorityOwnsNothing() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let cutAt = world.now
        world.isolate(leader)
        #expect(world.run(atMost: .milliseconds(340)) { $0.role(leader) != .leader }, "check-quorum")
        let lost = try #require(world.ownership.first { $0.at >= cutAt && $0.node == leader && !$0.isPresent })
        #expect(lost.at - cutAt <= 152_000_000, "the lease runs from when the last answered round was sent")
        world.run(.seconds(4))
        #expect(world.role(leader) != .leader)
        #expect(world.owners.count == 1 && world.owners != [leader])
        // The rest goes, too: one of three is a minority.
        world.crash(try world.someLeader())
        world.run(.seconds(5))
        #expect(world.owners.isEmpty && world.leader == nil)
    }

    @Test func aLapsedLeaseComesBackWithoutAnElection() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        // Long enough for the lease to end, too short for anyone to campaign.
        world.isolate(leader)
        world.run(.milliseconds(165))
        #expect(world.owners.isEmpty)
        world.heal()
        world.run(.milliseconds(40))
        #expect(world.owners == [leader] && world.term(leader) == term)
    }

    // MARK: taking over

    @Test(arguments: 1...5) func afterACrashTrustTakesOverWithinThePromisedTime(_ seed: UInt64) throws {
        let world = ClusterWorld.settled(seed: seed, .fenced(.trust))
        let leader = try world.someLeader()
        world.run(.milliseconds(Int64(seed * 7)))
        let crashAt = world.now
        world.crash(leader)
        #expect(world.run(atMost: .milliseconds(350)) { $0.owners.count == 1 })
        let gained = try #require(world.ownership.last)
        #expect(gained.at - crashAt > 100_000_000, "not before the old lease is over")
    }

    @Test(arguments: 1...5) func afterACrashWaitWaitsOutTheAddressesLifetime(_ seed: UInt64) throws {
        let world = ClusterWorld.settled(seed: seed, .fenced(.wait))
        let leader = try world.someLeader()
        world.run(.milliseconds(Int64(seed * 7)))
        let crashAt = world.now
        // All processes, but not the kernel: the address really stays for a while.
        world.killAll(leader)
        #expect(world.run(atMost: .milliseconds(1500)) { $0.owners.count == 1 && $0.owners != [leader] })
        let gained = try #require(world.ownership.last)
        #expect(gained.isPresent && gained.at - crashAt > 1_100_000_000)
        #expect(world.violation == nil)
    }

    @Test(arguments: 1...5) func aReleasedLeaseNeedsNoWaiting(_ seed: UInt64) throws {
        let world = ClusterWorld.settled(seed: seed, .fenced(.wait))
        let leader = try world.someLeader()
        let killedAt = world.now
        world.killMain(leader)
        #expect(world.run(atMost: .milliseconds(50)) { $0.owners.count == 1 && $0.owners != [leader] })
        let gap = try #require(world.gap(since: killedAt, from: leader))
        #expect(gap < .milliseconds(50))
    }

    @Test func withoutTheFencesWordItIsWaitedForAsUsual() throws {
        let world = ClusterWorld.settled(.fenced(.wait))
        let leader = try world.someLeader()
        let killedAt = world.now
        world.isolate(leader)
        world.killMain(leader)
        #expect(world.run(atMost: .milliseconds(1500)) { $0.owners.count == 1 && $0.owners != [leader] })
        let gained = try #require(world.ownership.last)
        #expect(gained.at - killedAt > 1_100_000_000)
    }

    @Test func aNodeFrozenWholeWakesWithoutTheVIP() throws {
        let world = ClusterWorld.settled(.fenced(.wait))
        let leader = try world.someLeader()
        world.freeze(leader, whole: true)
        world.run(.seconds(5))
        #expect(world.owners.count == 1 && world.owners != [leader])
        world.thaw(leader)
        world.run(.seconds(2))
        #expect(world.isSettled && world.owners != [leader])
        #expect(world.violation == nil)
    }

    // MARK: handing over

    @Test(arguments: 1...5) func aHandOverMovesLeadAndVIPWithHardlyAGap(_ seed: UInt64) throws {
        let world = ClusterWorld.settled(seed: seed)
        let leader = try world.someLeader()
        let term = world.term(leader)
        let target = (leader + 1) % 3
        let askedAt = world.now
        // Asked of the third node, which passes it on.
        world.step((leader + 2) % 3, .requestHandover(to: MemberID(target)))
        #expect(world.run(atMost: .milliseconds(100)) { $0.owners == [target] })
        let gap = try #require(world.gap(since: askedAt, from: leader))
        #expect(gap < .milliseconds(10))
        world.run(.milliseconds(500))
        #expect(world.isSettled && world.leader == target && world.term(target) == term + 1)
    }

    @Test func aHandOverWithoutTargetPicksOneThatIsThere() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let dead = (leader + 1) % 3
        world.crash(dead)
        world.run(.milliseconds(1500))
        world.step(leader, .handover(to: nil))
        #expect(world.run(atMost: .milliseconds(100)) { $0.owners == [3 - leader - dead] })
    }

    @Test func aHandOverThatFailsLeavesEverythingAsItWas() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        let target = (leader + 1) % 3
        // It still counts as heard, but the request to take over never arrives.
        world.setLink(leader, target, up: false)
        world.step(leader, .handover(to: MemberID(target)))
        let request = world.propose(.setWeight(world.settings.servers[0], weight: 9), at: leader)
        world.run(.milliseconds(800))
        #expect(world.leader == leader && world.term(leader) == term && world.owners == [leader])
        #expect(world.answers.contains { $0.request == request && $0.outcome == .done }, "changes wait, and go on")
    }

    @Test func whatIsSeenDuringAHandOverThatFailsIsJudgedAfterwards() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let target = (leader + 1) % 3
        world.setLink(leader, target, up: false)
        world.step(leader, .handover(to: MemberID(target)))
        for node in peersOf3 { world.observe(world.settings.servers[0], .down, at: node) }
        world.run(.milliseconds(800))
        #expect(world.leader == leader)
        #expect(world.health(world.settings.servers[0], at: leader) == .down)
    }

    @Test func aLeaderThatCannotGetTheVIPHandsOver() throws {
        let world = ClusterWorld(seed: 3)
        // Its fence takes every order and never gets the address on.
        #expect(world.run(atMost: .seconds(2)) { $0.leader != nil })
        let useless = try world.someLeader()
        #expect(world.owners.isEmpty)
        world.freezeFence(useless)
        #expect(world.run(atMost: .seconds(6)) { $0.owners.count == 1 && $0.owners != [useless] })
        #expect(world.leader != useless)
        #expect(world.violation == nil)
    }

    @Test func aHandOverToSomeoneUnheardOfIsRefused() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        world.crash((leader + 1) % 3)
        world.run(.milliseconds(1500))
        world.step(leader, .handover(to: MemberID((leader + 1) % 3)))
        #expect(world.nodes[leader].notes.last?.kind == .handover)
        world.run(.seconds(1))
        #expect(world.leader == leader)
    }

    @Test func whoResignsLetsGoAndTellsTheOthers() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let askedAt = world.now
        world.step(leader, .resign)
        #expect(world.run(atMost: .milliseconds(60)) { $0.owners.count == 1 && $0.owners != [leader] })
        #expect(try #require(world.gap(since: askedAt, from: leader)) < .milliseconds(50))
        world.run(.seconds(1))
        #expect(world.nodes[leader].member?.isIdle == true)
    }

    @Test func whoseDiskFailsNeitherLeadsNorVotes() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        world.step(leader, .storageFailed(reason: "no space left on device"))
        #expect(world.run(atMost: .seconds(3)) { $0.owners.count == 1 && $0.owners != [leader] })
        let next = try world.someLeader()
        world.crash(next)
        world.run(.seconds(4))
        #expect(world.leader == nil, "the one with the bad disk is no majority's second")
    }

    // MARK: small clusters

    @Test func oneNodeAloneIsACluster() throws {
        var settings = ClusterSettings()
        settings.members = 1
        let world = ClusterWorld.settled(settings)
        #expect(world.owners == [0])
        world.propose(.setWeight(settings.servers[0], weight: 3), at: 0)
        world.observe(settings.servers[1], .up, at: 0)
        world.run(.milliseconds(100))
        #expect(world.answers.map(\.outcome) == [.done])
        #expect(world.health(settings.servers[1], at: 0) == .up)
    }

    @Test func withoutVIPThereIsALeaderAndNoOwner() throws {
        var settings = ClusterSettings()
        settings.hasVIP = false
        let world = ClusterWorld.settled(settings)
        world.run(.seconds(2))
        #expect(world.leader != nil && world.ownership.isEmpty)
    }

    @Test func overTheRealEnvelopeNodesComeAndGoAsWell() throws {
        var settings = ClusterSettings()
        settings.sealed = true
        settings.duplication = 300
        let world = ClusterWorld.settled(settings)
        for _ in 0..<3 {
            let node = try world.someLeader()
            world.crash(node)
            world.after(.milliseconds(300)) { $0.start(node) }
            world.run(.milliseconds(400))
            #expect(world.run(atMost: .seconds(3)) { $0.isSettled })
        }
        #expect(world.violation == nil)
    }
}

@Suite("Partial partitions") struct ClusterPartialPartitionTests {
    @Test(arguments: 1...5) func theOnlyNodeThatReachesAMajorityLeadsThoughItsLogIsBehind(_ seed: UInt64) throws {
        var settings = ClusterSettings()
        settings.members = 5
        let world = ClusterWorld.settled(seed: seed, settings)
        let leader = try world.someLeader()
        let hub = (leader + 1) % 5
        let others = (0..<5).filter { $0 != hub }
        // Everyone but the hub gets an entry that never commits: no answer reaches the leader.
        for node in others { world.cut[node][leader] = true }
        world.setLink(hub, leader, up: false)
        world.propose(.setWeight(world.settings.servers[0], weight: 3), at: leader)
        world.run(.milliseconds(20))
        #expect(others.allSatisfy { world.logEnd($0) > world.logEnd(hub) })
        world.heal()
        for one in others { for other in others where one < other { world.setLink(one, other, up: false) } }
        #expect(world.run(atMost: .seconds(4)) { $0.leader == hub && $0.owners == [hub] })
        world.heal()
        #expect(world.run(atMost: .seconds(2)) { $0.isSettled })
        #expect(world.violation == nil)
    }
}

extension ClusterWorld {
    func logEnd(_ node: Int) -> UInt64 { nodes[node].member?.log.lastIndex ?? 0 }
}
