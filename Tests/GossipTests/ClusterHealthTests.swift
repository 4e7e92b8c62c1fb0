// ClusterHealthTests: views that travel, verdicts by majority of those heard from, suspicion.

import Testing

@testable import Gossip
@testable import Simulation

@Suite("Views and verdicts") struct ClusterHealthTests {
    private let server = ServerID(backend: "api", server: "api_1")

    /// A settled world in which all nodes see the server up, and agree.
    private func allUp(_ settings: ClusterSettings = ClusterSettings()) -> ClusterWorld {
        let world = ClusterWorld.settled(settings)
        for node in 0..<settings.members { world.observe(server, .up, at: node) }
        let isUp = world.run(atMost: .milliseconds(100)) { world in world.health(self.server, at: 0) == .up }
        #expect(isUp)
        return world
    }

    private func everywhere(_ world: ClusterWorld, _ health: Health) -> Bool {
        world.nodes.indices.allSatisfy { world.nodes[$0].member == nil || world.health(server, at: $0) == health }
    }

    @Test func theFirstLookDecidesAtOnce() throws {
        let world = ClusterWorld.settled()
        world.observe(server, .up, at: world.followers[0])
        world.run(.milliseconds(50))
        #expect(everywhere(world, .up))
    }

    @Test func oneOfThreeChangesNothingTwoDo() throws {
        let world = allUp()
        world.observe(server, .down, at: 0, reason: "connection refused")
        world.run(.milliseconds(500))
        #expect(everywhere(world, .up))
        #expect((0..<3).allSatisfy { world.nodes[$0].member?.view(of: server, by: MemberID(0))?.health == .down })
        world.observe(server, .down, at: 1, reason: "connection refused")
        world.run(.milliseconds(50))
        #expect(everywhere(world, .down))
        #expect(world.nodes[2].member?.table[server]?.reason == "connection refused")
        // And back: one alone doesn't bring it up either.
        world.observe(server, .up, at: 0)
        world.run(.milliseconds(500))
        #expect(everywhere(world, .up), "two of three see it up again")
    }

    @Test func aServerThatAsksIsDrainedWhenAMajorityHeardIt() throws {
        let world = allUp()
        world.observe(server, .drain, at: 0)
        world.run(.milliseconds(500))
        #expect(everywhere(world, .up))
        world.observe(server, .drain, at: 1, reason: "asks to be drained")
        world.run(.milliseconds(50))
        #expect(everywhere(world, .drain))
        // It answers all the same: who sees that is no less fit than the one that doesn't yet.
        #expect(world.nodes.allSatisfy { $0.member?.condition.reach == 2 })
        // Without a majority for anything else it stays.
        world.observe(server, .down, at: 0)
        world.run(.milliseconds(500))
        #expect(everywhere(world, .drain))
        world.observe(server, .up, at: 1)
        world.run(.milliseconds(50))
        #expect(everywhere(world, .up))
    }

    @Test func aServerThatOnlyTheLeaderCannotReachStaysUp() throws {
        let world = allUp()
        world.observe(server, .down, at: try world.someLeader())
        world.run(.seconds(2))
        #expect(everywhere(world, .up))
    }

    @Test func theSilentHaveNoSay() throws {
        let world = allUp()
        let leader = try world.someLeader()
        let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3)
        world.crash(dead)
        world.run(.milliseconds(1300))
        world.observe(server, .down, at: leader)
        world.run(.milliseconds(300))
        #expect(everywhere(world, .up), "one of two is no majority")
        world.observe(server, .down, at: other)
        world.run(.milliseconds(100))
        #expect(everywhere(world, .down), "two of the two that are heard from")
        // And who sees that is as fit as before, whatever the silent one saw last.
        world.run(.milliseconds(500))
        #expect([leader, other].allSatisfy { world.nodes[$0].member?.condition.reach == 2 })
    }

    @Test func whatANodeSawBeforeItsRestartCountsNoMore() throws {
        let world = allUp()
        let leader = try world.someLeader()
        let back = (leader + 1) % 3
        world.observe(server, .down, at: back)
        world.run(.milliseconds(100))
        world.crash(back)
        world.start(back)
        world.run(.milliseconds(500))
        // With what it saw in its earlier life this would be two of three.
        world.observe(server, .down, at: leader)
        world.run(.milliseconds(500))
        #expect(everywhere(world, .up))
        world.observe(server, .down, at: back)
        world.run(.milliseconds(50))
        #expect(everywhere(world, .down))
    }

    @Test func aViewReachesALeaderThatCannotHearItsOrigin() throws {
        let world = allUp()
        let leader = try world.someLeader()
        let (aside, between) = ((leader + 1) % 3, (leader + 2) % 3)
        world.setLink(leader, aside, up: false)
        world.run(.seconds(2))
        world.observe(server, .down, at: aside)
        world.observe(server, .down, at: leader)
        let isDown = world.run(atMost: .milliseconds(400)) { world in everywhere(world, .down) }
        #expect(isDown, "through \(between), both ways")
        #expect(world.leader == leader)
    }

    @Test func aNewLeaderStartsWithEverythingAgreed() throws {
        let world = allUp()
        let second = ServerID(backend: "api", server: "api_2")
        for node in 0..<3 { world.observe(second, .down, at: node) }
        world.run(.milliseconds(100))
        let old = try world.someLeader()
        world.killMain(old)
        let isTaken = world.run(atMost: .seconds(2)) { $0.leader != nil && $0.owners == [$0.leader ?? -1] }
        #expect(isTaken)
        let leader = try world.someLeader()
        // At the very moment it has the VIP: no cold start.
        #expect(world.health(server, at: leader) == .up && world.health(second, at: leader) == .down)
    }

    @Test func maintenanceKeepsTheVerdict() throws {
        let world = allUp()
        world.propose(.setAdmin(server, .maint), at: 0)
        world.run(.milliseconds(100))
        for node in 0..<3 { world.observe(server, .down, at: node) }
        world.run(.milliseconds(500))
        #expect(everywhere(world, .up))
        world.propose(.setAdmin(server, .ready), at: 0)
        world.run(.milliseconds(100))
        #expect(everywhere(world, .down), "checks count again")
    }

    @Test func aSuspicionMakesEveryNodeProbeOnce() throws {
        let world = ClusterWorld.settled()
        for _ in 0..<5 { world.step(1, .suspect(server)) }
        world.run(.milliseconds(50))
        #expect(world.nodes.allSatisfy { $0.probes == [server] })
        world.run(.milliseconds(300))
        world.step(2, .suspect(server))
        world.run(.milliseconds(50))
        #expect(world.nodes.allSatisfy { $0.probes == [server, server] })
    }

    @Test func lostViewsAreSentAgain() throws {
        let world = ClusterWorld.settled()
        world.sieve = { message, _, _ in if case .views = message { true } else { false } }
        for node in 0..<3 { world.observe(server, .up, at: node) }
        world.run(.milliseconds(20))
        world.sieve = nil
        let isKnown = world.run(atMost: .milliseconds(300)) { world in
            world.nodes.allSatisfy { node in
                (0..<3).allSatisfy { node.member?.view(of: self.server, by: MemberID($0))?.health == .up }
            }
        }
        #expect(isKnown)
    }

    @Test func gossipOfAQuietClusterIsModest() throws {
        var settings = ClusterSettings()
        settings.servers = (1...9).map { ServerID(backend: "api", server: "api_\($0)") }
        let world = ClusterWorld.settled(settings)
        for server in settings.servers { for node in 0..<3 { world.observe(server, .up, at: node) } }
        world.run(.seconds(1))
        world.sent = []
        world.run(.seconds(2))
        for node in 0..<3 {
            let sent = (world.sent ?? []).filter { $0.from == node }
            // Envelope, UDP and IP headers included.
            let bytes = sent.reduce(0) { $0 + $1.message.encode().count + 55 + 28 }
            #expect(bytes / 2 < 20_000, "n\(node) sends \(bytes / 2) bytes a second in \(sent.count / 2) datagrams")
        }
    }
}
