// ClusterLogTests: each promise about the replicated log: changes from any node, once each, kept, and caught up on.

import Testing

@testable import Gossip
@testable import Simulation

extension ClusterWorld {
    func isDone(_ request: RequestID?) -> Bool {
        answers.contains { $0.request == request && $0.outcome == .done }
    }

    func weight(_ server: ServerID, at node: Int) -> Int? { nodes[node].member?.table[server]?.weight }

    /// Proposes changes at a node one after another and waits until the last is done.
    func proposeMany(_ count: Int, at node: Int) {
        for number in 0..<count {
            let request = propose(.setWeight(settings.servers[number % 3], weight: number % 257), at: node)
            let isDone = run(atMost: .seconds(2)) { $0.isDone(request) }
            guard isDone else {
                Issue.record("change \(number) is not done: \(violation ?? portrait)")
                return
            }
        }
    }

    /// Entries with this request in a node's log.
    func count(_ request: RequestID?, at node: Int) -> Int {
        nodes[node].member?.log.entries.count { $0.request == request } ?? 0
    }
}

private func manyServers() -> ClusterSettings {
    var settings = ClusterSettings()
    // Enough records for a snapshot of several chunks.
    settings.servers = (0..<60).map { ServerID(backend: "api", server: "server_with_a_long_name_\($0)") }
    return settings
}

@Suite("Replication") struct ClusterLogTests {
    @Test func aChangeAskedOfAnyNodeIsDoneEverywhereWithin200Milliseconds() throws {
        let world = ClusterWorld.settled()
        for node in 0..<3 {
            let server = world.settings.servers[node]
            let request = world.propose(.setWeight(server, weight: 40 + node), at: node)
            world.run(.milliseconds(200))
            #expect(world.isDone(request) && world.isSettled)
            #expect((0..<3).allSatisfy { world.weight(server, at: $0) == 40 + node })
        }
    }

    @Test func aRequestThatIsRepeatedCountsOnce() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let origin = (leader + 1) % 3
        // The origin hears nothing of its success for half a second, and asks again and again.
        world.sieve = { message, from, to in
            guard from == leader, to == origin, case .append(let append) = message else { return false }
            return !append.entries.isEmpty || append.commit > 0
        }
        world.sent = []
        let server = world.settings.servers[0]
        let first = world.propose(.setWeight(server, weight: 1), at: origin)
        world.run(.milliseconds(150))
        world.propose(.setWeight(server, weight: 2), at: leader)
        world.run(.milliseconds(350))
        world.sieve = nil
        #expect(world.run(atMost: .seconds(2)) { $0.isDone(first) && $0.isSettled })
        let asked = (world.sent ?? []).count {
            if case .request(let request, _, _) = $0.message { request == first } else { false }
        }
        #expect(asked > 1, "it must have asked again, or this shows nothing")
        #expect(world.count(first, at: leader) == 1)
        #expect(world.weight(server, at: origin) == 2, "the later change stands")
    }

    @Test func aRequestThatIsTwiceInTheLogAppliesOnce() {
        var table = BackendTable()
        let server = ServerID(backend: "api", server: "a")
        let request = RequestID(origin: MemberID(1), boot: 5, number: 3)
        func entry(_ index: UInt64, _ request: RequestID, _ weight: Int) -> Entry {
            Entry(index: index, term: 1, request: request, command: .setWeight(server, weight: weight))
        }
        #expect(table.apply(entry(1, request, 10)) == .done)
        let other = RequestID(origin: MemberID(2), boot: 9, number: 1)
        #expect(table.apply(entry(2, other, 20)) == .done)
        #expect(table.apply(entry(3, request, 10)) == .done)
        #expect(table[server]?.weight == 20)
        // Numbers begin again with the origin's next start.
        let afterRestart = RequestID(origin: MemberID(1), boot: 6, number: 1)
        #expect(table.apply(entry(4, afterRestart, 30)) == .done)
        #expect(table[server]?.weight == 30)
        // A snapshot remembers as well.
        guard var restored = BackendTable.decode(table.encode()) else {
            Issue.record("the table doesn't read its own snapshot")
            return
        }
        #expect(restored == table)
        #expect(restored.apply(entry(5, afterRestart, 40)) == .done)
        #expect(restored[server]?.weight == 30)
    }

    @Test func serversThatComeAndGoDoNotFillTheTable() {
        var table = BackendTable()
        var index: UInt64 = 0
        func apply(_ command: Command) -> Outcome {
            index += 1
            return table.apply(Entry(index: index, term: 1, request: nil, command: command))
        }
        let inFile = ServerID(backend: "api", server: "file")
        #expect(apply(.remove(inFile)) == .done)
        let digest = table.digest
        for number in 0...Limits.serversMax {
            let id = ServerID(backend: "api", server: "vm-\(number)")
            #expect(apply(.add(id, address: "10.0.0.1:80")) == .done)
            #expect(apply(.remove(id)) == .done)
        }
        #expect(table.records.count == 1 && table.digest == digest)
        // A server of the file that was removed, added elsewhere and removed again stays removed.
        #expect(apply(.add(inFile, address: "10.0.0.2:80")) == .done)
        #expect(table.servers(configured: [inFile]) == [inFile])
        #expect(apply(.remove(inFile)) == .done)
        #expect(table.servers(configured: [inFile]).isEmpty)
        #expect(BackendTable.decode(table.encode()) == table)
    }

    @Test func aChangeUnderWayWhenTheLeaderDiesIsDoneOnceByTheNext() throws {
        for seed in 1...6 as ClosedRange<UInt64> {
            let world = ClusterWorld.settled(seed: seed)
            let leader = try world.someLeader()
            let origin = (leader + 1) % 3
            let request = world.propose(.setWeight(world.settings.servers[0], weight: 5), at: origin)
            // Somewhere between the request's arrival and the origin's learning of the commit.
            world.run(.microseconds(Int64(seed) * 300))
            world.crash(leader)
            #expect(world.run(atMost: .seconds(4)) { $0.isDone(request) && $0.isSettled }, "seed \(seed)")
            #expect(world.count(request, at: origin) == 1, "seed \(seed)")
        }
    }

    @Test func withoutMajorityNothingIsAcknowledged() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        world.isolate(leader)
        let request = world.propose(.setWeight(world.settings.servers[0], weight: 5), at: leader)
        world.run(.seconds(6))
        let answer = world.answers.first { $0.request == request }
        guard case .unacknowledged? = answer?.outcome else {
            Issue.record("answered \(String(describing: answer))")
            return
        }
        world.heal()
        #expect(world.run(atMost: .seconds(3)) { $0.isSettled })
        #expect(world.count(request, at: leader) == 0, "the isolated leader's entry is gone")
    }

    @Test func nonsenseIsRefusedAtOnce() throws {
        let world = ClusterWorld.settled()
        let node = world.followers[0]
        let unknown = ServerID(backend: "api", server: "nobody")
        for command in [
            Command.setWeight(unknown, weight: 1), .setWeight(world.settings.servers[0], weight: 257),
            .setAdmin(unknown, .drain), .remove(unknown), .add(world.settings.servers[0], address: "10.0.0.1:80"),
            .verdict(world.settings.servers[0], .up, reason: "", atMs: 0), .establish,
        ] {
            world.propose(command, at: node)
            guard case .refused? = world.answers.last?.outcome else {
                Issue.record("\(command) is not refused")
                continue
            }
        }
    }

    @Test func serversComeAndGoAtRunTime() throws {
        let world = ClusterWorld.settled()
        let added = ServerID(backend: "api", server: "extra")
        let node = world.followers[0]
        let requests = [
            world.propose(.add(added, address: "10.0.0.99:8080"), at: node),
            world.propose(.remove(world.settings.servers[0]), at: node),
        ]
        world.run(.milliseconds(200))
        #expect(requests.allSatisfy { world.isDone($0) })
        for node in world.nodes {
            #expect(node.member?.servers == (world.settings.servers.dropFirst() + [added]).sorted())
            #expect(node.member?.table[added]?.address == "10.0.0.99:8080")
        }
    }

    @Test func afterAPowerCutEverythingAcknowledgedIsThere() throws {
        let world = ClusterWorld.settled()
        let servers = world.settings.servers
        let requests = [
            world.propose(.setAdmin(servers[0], .drain), at: 0),
            world.propose(.setWeight(servers[1], weight: 3), at: 1),
            world.propose(.add(ServerID(backend: "api", server: "z"), address: "10.0.0.9:80"), at: 2),
        ]
        let allDone = world.run(atMost: .seconds(1)) { world in requests.allSatisfy { world.isDone($0) } }
        #expect(allDone)
        for node in 0..<3 { world.crash(node) }
        for node in 0..<3 { world.start(node) }
        #expect(world.run(atMost: .seconds(4)) { $0.isSettled })
        for node in world.nodes {
            #expect(node.member?.table[servers[0]]?.admin == .drain)
            #expect(node.member?.table[servers[1]]?.weight == 3)
            #expect(node.member?.table[ServerID(backend: "api", server: "z")]?.address == "10.0.0.9:80")
        }
    }

    /// Raft's figure 3.7: an entry of an earlier term isn't committed by counting its copies.
    @Test func anEarlierTermsEntryIsCommittedOnlyWithOneOfTheLeadersOwn() {
        let server = ServerID(backend: "api", server: "a")
        let entries = [
            Entry(index: 1, term: 1, request: nil, command: .establish),
            Entry(index: 2, term: 2, request: nil, command: .setWeight(server, weight: 1)),
        ]
        let configuration = ClusterConfiguration(
            members: ["n0", "n1", "n2"], me: MemberID(0), timing: .standard, fencing: .wait, hasVIP: false, digest: 1,
            servers: [server])
        var now = Instant(nanoseconds: 1_000_000_000)
        var member = Member(
            configuration, recovered: RecoveredState(term: 3, entries: entries, votesFromTerm: 0), boot: 1, seed: 1,
            now: now)
        func step(_ event: Event) {
            member.step(event, now: now)
            while let effect = member.nextEffect() {
                if case .persist(_, let ticket) = effect { step(.persisted(ticket: ticket)) }
            }
        }
        now = now.advanced(by: .seconds(1))
        step(.tick)
        #expect(member.role == .preCandidate)
        for isPreVote in [true, false] {
            let vote = VoteReply(term: 4, isPreVote: isPreVote, granted: true, answers: [])
            step(.message(.voteReply(vote), from: MemberID(1), boot: 1))
        }
        #expect(member.role == .leader && member.term == 4 && member.log.lastIndex == 3)
        func answer(match: UInt64) {
            let reply = AppendReply(term: 4, round: 1, accepted: true, match: match, released: 0)
            step(.message(.appendReply(reply), from: MemberID(1), boot: 1))
        }
        answer(match: 2)
        #expect(member.commitIndex == 0)
        answer(match: 3)
        #expect(member.commitIndex == 3)
    }

    // MARK: catching up

    @Test func aLongAbsenceIsMadeUpForBySnapshot() throws {
        let world = ClusterWorld.settled(manyServers())
        let away = world.followers[0]
        for server in world.settings.servers { world.propose(.setAdmin(server, .drain), at: try world.someLeader()) }
        world.run(.seconds(1))
        world.crash(away)
        world.proposeMany(Limits.logEntriesMax + 70, at: try world.someLeader())
        #expect(world.nodes[try world.someLeader()].member?.log.baseIndex ?? 0 > 0, "there must be a snapshot")
        world.start(away)
        #expect(world.run(atMost: .seconds(3)) { $0.isSettled }, "\(world.portrait)")
        // What it has now is on its disk, too.
        world.crash(away)
        world.start(away)
        #expect(world.run(atMost: .seconds(3)) { $0.isSettled }, "\(world.portrait)")
        #expect(world.violation == nil)
    }

    @Test func aRestartInTheMiddleOfASnapshotIsNoObstacle() throws {
        let world = ClusterWorld.settled(manyServers())
        let away = world.followers[0]
        let leader = try world.someLeader()
        for server in world.settings.servers { world.propose(.setAdmin(server, .drain), at: leader) }
        world.run(.seconds(1))
        world.crash(away)
        world.proposeMany(Limits.logEntriesMax + 70, at: leader)
        world.sent = []
        world.start(away)
        let hasBegun = world.run(atMost: .seconds(2)) { world in
            (world.sent ?? []).contains {
                if case .snapshotReply(_, _, let received) = $0.message { received > 1000 } else { false }
            }
        }
        #expect(hasBegun && !world.isSettled)
        world.crash(away)
        world.start(away)
        #expect(world.run(atMost: .seconds(3)) { $0.isSettled }, "\(world.portrait)")
    }

    @Test func aChangeWhoseCommitArrivesWithASnapshotIsAnswered() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let origin = (leader + 1) % 3
        let request = world.propose(.setWeight(world.settings.servers[4], weight: 8), at: origin)
        // It gets to the leader; nothing comes back until the entry is gone from everyone's log.
        for from in 0..<3 where from != origin { world.cut[from][origin] = true }
        world.run(.milliseconds(2))
        world.proposeMany(Limits.logEntriesMax + 70, at: leader)
        #expect(world.count(request, at: leader) == 0 && !world.isDone(request))
        world.heal()
        let isDone = world.run(atMost: .seconds(1)) { $0.isDone(request) }
        #expect(isDone)
    }

    @Test func aNodeThatOnlyHearsAFollowerKeepsUpAndMayAskForChanges() throws {
        let world = ClusterWorld.settled()
        let leader = try world.someLeader()
        let term = world.term(leader)
        let aside = (leader + 1) % 3
        let between = (leader + 2) % 3
        world.setLink(leader, aside, up: false)
        world.run(.seconds(1))
        for node in [leader, between, aside] {
            let server = world.settings.servers[node]
            let request = world.propose(.setWeight(server, weight: 60 + node), at: node)
            #expect(world.run(atMost: .seconds(1)) { $0.isDone(request) }, "asked of \(node)")
            // Promised: equal on all nodes within 200 ms.
            world.run(.milliseconds(200))
            #expect((0..<3).allSatisfy { world.weight(server, at: $0) == 60 + node }, "asked of \(node)")
        }
        #expect(world.leader == leader && world.term(leader) == term, "and disturbs nobody meanwhile")
        #expect(world.nodes[aside].member?.knownLeader(now: world.local(aside)) == MemberID(leader))
    }
}
