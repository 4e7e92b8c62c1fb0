// WireVersionTests: what only the present wire version reads goes into the log when all members speak it, and out of it
// without a trace; a member of the former version goes on following, voting and checking.

import Testing

@testable import Gossip
@testable import Simulation

extension ClusterWorld {
    /// What each node's shell does once a second.
    fileprivate func tellVersions() {
        for node in nodes.indices {
            for peer in nodes.indices where peer != node {
                step(node, .speaks(MemberID(peer), boot: nodes[peer].boot, version: nodes[peer].wireVersion))
            }
        }
    }

    fileprivate func restart(_ node: Int, as version: Int) {
        killMain(node)
        run(.milliseconds(50))
        nodes[node].wireVersion = version
        start(node)
        run(.seconds(1))
    }

    fileprivate func scaled(at node: Int) -> Int? { nodes[node].member?.table.scaling(of: "api")?.desired }
}

private func want(_ desired: Int) -> Event {
    .scale(backend: "api", Scaling(desired: desired, reason: "because", atMs: 5))
}

@Suite("Wire versions") struct WireVersionTests {
    @Test func aLaterCommandWaitsForTheLastNodeThatCanNotReadIt() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let former = (leader + 1) % 3
        world.checksVersions = true
        // Nobody has said anything yet.
        #expect(world.nodes[leader].member?.wireVersion == 1)
        world.step(leader, want(3))
        world.restart(former, as: 1)
        #expect(world.run(atMost: .seconds(3)) { $0.isSettled })
        world.tellVersions()
        #expect(world.nodes[leader].member?.wireVersion == 1)
        #expect(world.nodes[leader].member?.wireVersion(of: MemberID(former)) == 1)
        world.step(leader, want(3))
        let change = world.propose(.setWeight(world.settings.servers[0], weight: 9), at: former)
        #expect(world.run(atMost: .seconds(1)) { $0.isDone(change) && $0.isSettled })
        #expect((0..<3).allSatisfy { world.scaled(at: $0) == nil })
        // It votes: with it alone another one is elected.
        world.killMain(leader)
        #expect(world.run(atMost: .seconds(4)) { $0.isServed })
        world.start(leader)
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled })
        // Its upgrade is the last.
        world.restart(former, as: 2)
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled })
        world.tellVersions()
        let next = try world.someLeader()
        #expect(world.nodes[next].member?.wireVersion == 2)
        world.step(next, want(4))
        #expect(world.run(atMost: .seconds(1)) { world in (0..<3).allSatisfy { world.scaled(at: $0) == 4 } })
        #expect(world.isSettled && world.violation == nil)
    }

    @Test func whatIsNotDecidedAnyMoreLeavesNothingOnDisk() throws {
        let world = ClusterWorld.settled()
        world.tellVersions()
        let leader = try world.someLeader()
        world.step(leader, want(4))
        world.step(leader, want(4))
        world.step(leader, want(5))
        #expect(world.run(atMost: .seconds(1)) { world in (0..<3).allSatisfy { world.scaled(at: $0) == 5 } })
        let count = world.nodes[leader].member?.log.entries.count { $0.command.wireVersion > 1 }
        #expect(count == 2, "the same again says nothing")
        for node in 0..<3 {
            let bytes = try #require(world.nodes[node].member?.table.encode())
            #expect(BackendTable.decode(bytes) == world.nodes[node].member?.table)
        }
        // A leader with a decision in its table is not held up by a node that hasn't said anything yet.
        world.restart((leader + 1) % 3, as: 2)
        #expect(world.run(atMost: .seconds(3)) { $0.isSettled })
        #expect(world.nodes[leader].member?.wireVersion == 2)
        world.step(leader, .scale(backend: "api", nil))
        #expect(world.run(atMost: .seconds(1)) { world in (0..<3).allSatisfy { world.scaled(at: $0) == nil } })
        world.run(.milliseconds(200))
        for node in 0..<3 {
            let disk = world.nodes[node].disk.durable
            #expect(disk.entries.allSatisfy { $0.command.wireVersion == 1 })
            #expect(disk.snapshot?.bytes.first == 1)
        }
        #expect(world.isSettled && world.violation == nil)
    }

    /// Somebody put the former version back without the way that the operations guide says: it is there, and stays behind.
    @Test func aNodeThatCanNotReadTheLogStillAnswersTheLeader() throws {
        let world = ClusterWorld.settled()
        world.tellVersions()
        let leader = try world.someLeader()
        let former = (leader + 1) % 3
        world.step(leader, want(4))
        #expect(world.run(atMost: .seconds(1)) { world in (0..<3).allSatisfy { world.scaled(at: $0) == 4 } })
        world.killMain(former)
        world.nodes[former].disk.replace()
        world.nodes[former].wireVersion = 1
        // Until it has said what it speaks it is sent things that a real one counts as undecodable.
        world.sieve = { message, _, to in
            guard to == former else { return false }
            switch message {
            case .append(let append): return append.entries.contains { $0.command.wireVersion > 1 }
            case .committed, .snapshot: return true
            default: return false
            }
        }
        world.start(former)
        world.run(.seconds(1))
        world.tellVersions()
        // What is on its way arrives.
        world.run(.milliseconds(50))
        world.sieve = nil
        world.checksVersions = true
        world.run(.seconds(3))
        #expect(world.violation == nil)
        #expect(world.leader == leader && world.isServed)
        #expect(world.scaled(at: former) == nil)
        world.killMain((leader + 2) % 3)
        world.run(.seconds(2))
        #expect(world.leader == leader && world.isServed, "the lease lives by its answers")
    }

    @Test func onlyTheLeaderDecides() throws {
        let world = ClusterWorld.settled()
        world.tellVersions()
        let leader = try world.someLeader()
        world.step((leader + 1) % 3, want(4))
        let request = world.propose(.scale(backend: "api", nil), at: leader)
        world.run(.milliseconds(300))
        #expect((0..<3).allSatisfy { world.scaled(at: $0) == nil })
        #expect(
            world.answers.contains { $0.request == request && $0.outcome == .refused("only the leader decides this") })
    }
}
