// MessageTests: every message and command survives its own bytes; nothing else is taken for one; all of them fit.

import Testing

@testable import Gossip
@testable import Simulation

/// The largest term, index, round or version that is taken.
private let ordinalMax: UInt64 = 1 << 62 - 1

private let longName = String(repeating: "n", count: Limits.nameBytesMax)
private let longID = ServerID(backend: longName, server: longName)
private let server = ServerID(backend: "api", server: "api_1")

private let commands: [Command] = [
    .establish, .setAdmin(server, .drain), .setAdmin(server, .ready), .setAdmin(server, .maint),
    .setWeight(server, weight: 0), .setWeight(longID, weight: 256),
    .add(longID, address: String(repeating: "a", count: Limits.addressBytesMax)), .remove(server),
    .verdict(longID, .down, reason: String(repeating: "ü", count: Limits.reasonBytesMax / 2), atMs: .max),
    .scale(backend: longName, Scaling(desired: 4096, reason: String(repeating: "x", count: 200), atMs: .max)),
    .scale(backend: "api", nil), .verdict(server, .up, reason: "", atMs: 0),
    .verdict(server, .unknown, reason: "?", atMs: 1),
]

private func entries(from index: UInt64) -> [Entry] {
    commands.enumerated().map { offset, command in
        let request = RequestID(origin: MemberID(6), boot: .max, number: .max)
        return Entry(
            index: index + UInt64(offset), term: ordinalMax, request: offset % 2 == 0 ? request : nil, command: command)
    }
}

private let digest = Digest(
    term: 9, role: .preCandidate, leader: MemberID(2), owner: MemberID(1), applied: 77, configuration: .max,
    sections: [1, .max],
    condition: Digest.Condition(answersClients: true, reachesGateway: false, reach: 2, hasGate: true),
    isForgetful: true,
    drainedTerm: 8, released: 3, stamp: 12345, echo: 4567, echoAge: .microseconds(890),
    known: [
        Digest.Known(boot: 1, version: 2, age: nil),
        Digest.Known(boot: ordinalMax, version: ordinalMax, age: .microseconds(5)),
        Digest.Known(boot: 0, version: 0, age: .zero),
    ])

private let messages: [Message] = [
    .append(
        Append(
            term: 5, round: 6, previousIndex: 7, previousTerm: 4, commit: 3, ownsVIP: true, isGated: true,
            entries: Array(entries(from: 8).prefix(4)))),
    .append(
        Append(
            term: 1, round: ordinalMax, previousIndex: 0, previousTerm: 0, commit: 0, ownsVIP: false, isGated: false,
            entries: [])),
    .appendReply(AppendReply(term: 1, round: 2, accepted: true, match: 3, released: 4)),
    .voteRequest(
        VoteRequest(
            term: 1, lastIndex: 2, lastTerm: 3, isPreVote: true, isTransfer: false, released: [1, 2, ordinalMax])),
    .voteReply(
        VoteReply(
            term: 1, isPreVote: false, granted: true,
            answers: [
                RecentAnswer(leader: nil, term: 0, isGated: false, age: .milliseconds(3)),
                RecentAnswer(leader: MemberID(2), term: 8, isGated: true, age: .zero),
            ])),
    .offerWanted(after: ordinalMax),
    .offer(Offer(previousIndex: 7, previousTerm: 4, entries: Array(entries(from: 8).prefix(3)))),
    .timeoutNow(term: 300, keepsFlows: true, isAutomatic: false, drained: [0, 299, 7]), .handoverRequest(to: nil),
    .handoverRequest(to: MemberID(1)), .released(term: ordinalMax),
    .digest(digest),
    .views(
        ViewDelta(
            origin: MemberID(1), boot: 9, after: 3, upTo: 5,
            entries: [ViewEntry(server: longID, health: .down, reason: "connection refused", version: 4)])),
    .suspect(longID), .request(RequestID(origin: MemberID(1), boot: 2, number: 3), commands[4], hops: 2),
    .committed(Committed(entries: Array(entries(from: 1).prefix(3)))),
    .snapshot(SnapshotChunk(term: 1, lastIndex: 2, lastTerm: 1, offset: 4, total: 9, bytes: [1, 2, 3, 4, 5])),
    .snapshotReply(term: 1, lastIndex: 2, received: 1000),
]

@Suite("Messages") struct MessageTests {
    @Test(arguments: messages) func survivesItsBytes(_ message: Message) {
        #expect(Message.decode(message.encode()) == message)
    }

    @Test(arguments: commands) func aCommandSurvivesItsBytes(_ command: Command) {
        let entry = Entry(index: 3, term: 2, request: nil, command: command)
        #expect(Entry.decode(entry.encode()) == entry)
    }

    /// The stored log depends on it: these bytes were written down by hand from Command.swift.
    @Test func anEntrysBytesStayWhatTheyAre() {
        let request = RequestID(origin: MemberID(1), boot: 300, number: 7)
        let entry = Entry(index: 2, term: 1, request: request, command: .setWeight(server, weight: 200))
        #expect(hex(entry.encode()) == "02010101ac0207" + "02" + "03617069" + "056170695f31" + "c801")
    }

    @Test(arguments: messages) func isReadWholeOrNotAtAll(_ message: Message) {
        let bytes = message.encode()
        for length in 0..<bytes.count { #expect(Message.decode(Array(bytes.prefix(length))) == nil, "\(length)") }
        #expect(Message.decode(bytes + [0]) == nil)
    }

    @Test func refusesWhatNoMemberSays() {
        // An unknown kind, an unknown command, a name with a slash in it, a weight of 257, an over-long varint.
        let refused: [[UInt8]] = [
            [0], [99], [10, 0, 1, 1, 9, 0], [9, 3, 0x61, 0x2f, 0x62, 1, 0x61],
            [10, 0, 1, 1, 2, 1, 0x61, 1, 0x61, 0x81, 2, 0], [6] + repeated(0xff, 10) + [1],
        ]
        for bytes in refused { #expect(Message.decode(bytes) == nil, "\(bytes)") }
        // A member beyond the most there can be.
        #expect(Message.decode([14, 8]) == nil && Message.decode([8, 7, 1, 0, 0, 0]) == nil)
    }

    @Test func damagedBytesNeitherTrapNorGrow() {
        var random = SplitMix64(state: 11)
        for _ in 0..<6000 {
            guard var bytes = random.pick(messages)?.encode() else { return }
            for _ in 0...random.below(3) {
                let place = Int(random.below(UInt64(bytes.count)))
                bytes[place] = UInt8(truncatingIfNeeded: random.next())
            }
            // What still reads as a message is one: it goes back to bytes and reads the same.
            if let message = Message.decode(bytes) { #expect(Message.decode(message.encode()) == message) }
        }
    }

    @Test func theLargestOfEachFitsADatagram() {
        let largest = entries(from: 1).map { $0.encode().count }.max() ?? 0
        #expect(largest + 60 < Member.entriesBytesMax, "an entry always fits an append")
        let views = (0..<200).map {
            ViewEntry(
                server: ServerID(backend: longName, server: "s\($0)"), health: .down,
                reason: String(repeating: "r", count: Limits.reasonBytesMax), version: UInt64.max - 200 + UInt64($0))
        }
        #expect(
            views.allSatisfy { entry in
                var writer = ByteWriter()
                entry.write(to: &writer)
                return writer.bytes.count <= entry.size
            })
        var wide = digest
        wide.known = Array(
            repeating: Digest.Known(boot: ordinalMax, version: ordinalMax, age: .seconds(1 << 20)),
            count: Limits.membersMax)
        #expect(Message.digest(wide).encode().count <= Envelope.payloadBytesMax)
        let answers = (0..<30).map {
            RecentAnswer(leader: MemberID($0 % 7), term: ordinalMax, isGated: true, age: .seconds(2))
        }
        let reply = Message.voteReply(VoteReply(term: ordinalMax, isPreVote: false, granted: true, answers: answers))
        #expect(reply.encode().count <= Envelope.payloadBytesMax)
    }

    /// Members of a cluster of three, fed with damaged versions of what they really say to each other.
    @Test func damagedMessagesDontTrapAMember() {
        let world = ClusterWorld.settled()
        world.sent = []
        world.observe(server, .down, at: 0)
        world.propose(.setWeight(server, weight: 3), at: 1)
        world.step(2, .requestHandover(to: MemberID(0)))
        world.run(.seconds(1))
        let spoken = (world.sent ?? []).map(\.message) + messages
        var random = SplitMix64(state: 5)
        var taken = 0
        for _ in 0..<8000 {
            guard var bytes = random.pick(spoken)?.encode() else { return }
            let place = Int(random.below(UInt64(bytes.count)))
            bytes[place] = random.happens(500) ? bytes[place] ^ 1 << UInt8(random.below(8)) : UInt8(random.below(256))
            guard let message = Message.decode(bytes) else { continue }
            taken += 1
            let (node, from) = (Int(random.below(3)), Int(random.below(3)))
            let now = world.local(node)
            world.nodes[node].member?.step(.message(message, from: MemberID(from), boot: 1), now: now)
            while world.nodes[node].member?.nextEffect() != nil {}
            guard let member = world.nodes[node].member else { continue }
            // What the shell asks has to be answerable.
            let named = [member.knownLeader(now: now), member.owner(now: now)].compactMap { $0 }
            #expect(named.allSatisfy { member.configuration.members.indices.contains($0.index) }, "\(message)")
            _ = (member.hasQuorum(now: now), member.peerStatus(now: now), member.deadline)
        }
        #expect(taken > 1000)
    }

    /// Each of these would overflow something if it were taken.
    @Test func refusesNumbersThatNothingLeavesRoomFor() {
        let append = Append(
            term: .max, round: 1, previousIndex: 0, previousTerm: 0, commit: 0, ownsVIP: false, isGated: false,
            entries: [])
        #expect(Message.decode(Message.append(append).encode()) == nil)
        #expect(Message.decode(Message.released(term: 1 << 62).encode()) == nil)
        #expect(Message.decode(Message.released(term: ordinalMax).encode()) != nil)
        let entry = Entry(index: .max, term: 1, request: nil, command: .establish)
        #expect(Entry.decode(entry.encode()) == nil)
    }
}
