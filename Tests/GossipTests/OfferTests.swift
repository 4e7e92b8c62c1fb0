// OfferTests: a candidate whose log is behind by more than a datagram holds (Member+Offer.swift).
//
// Two members of three, the third is dead. Only the candidate campaigns: the voter's clock stands still from when it may
// vote on. Their disks are quick, and each message takes a millisecond or is lost.

import Testing

@testable import Gossip

private final class Pair {
    static let candidate = 0
    static let voter = 1
    private(set) var members: [Member]
    private(set) var now = Instant(nanoseconds: 1_000_000_000)
    private var waiting: [(to: Int, message: Message)] = []
    /// What was said within the last millisecond to the one that is dead.
    private(set) var toTheThird: [Message] = []
    private(set) var offers = 0
    /// How many of a thousand messages are lost.
    var loss: UInt64 = 0
    private var random = SplitMix64(state: 1)

    init(candidate: [Entry], voter: [Entry]) {
        members = [candidate, voter].enumerated().map { [now] index, entries in
            let configuration = ClusterConfiguration(
                members: ["n0", "n1", "n2"], me: MemberID(index), timing: .standard, fencing: .wait, hasVIP: false,
                digest: 1, servers: [])
            let recovered = RecoveredState(term: entries.last?.term ?? 1, entries: entries, votesFromTerm: 0)
            return Member(configuration, recovered: recovered, boot: 1, seed: 1, now: now)
        }
    }

    func log(_ member: Int) -> ReplicatedLog { members[member].log }

    private func step(_ member: Int, _ event: Event) {
        let voterNow = Instant(nanoseconds: 1_200_000_000)
        members[member].step(event, now: member == Self.voter ? voterNow : now)
        while let effect = members[member].nextEffect() {
            switch effect {
            case .persist(_, let ticket): step(member, .persisted(ticket: ticket))
            case .send(let message, let to) where to.index < members.count: send(message, to: to.index)
            case .send(let message, _): toTheThird.append(message)
            default: break
            }
        }
    }

    private func send(_ message: Message, to member: Int) {
        if case .offer = message { offers += 1 }
        if random.next() % 1000 < loss { return }
        waiting.append((member, message))
    }

    func say(_ message: Message, to member: Int, from sender: Int) {
        step(member, .message(message, from: MemberID(sender), boot: 1))
    }

    /// The candidate's clock ticks; the voter only answers.
    func run(atMost span: Duration, until isOver: (Pair) -> Bool) -> Bool {
        let end = now.advanced(by: span)
        while now < end, !isOver(self) {
            now = now.advanced(by: .milliseconds(1))
            let arrived = waiting
            (waiting, toTheThird) = ([], [])
            for (member, message) in arrived { say(message, to: member, from: 1 - member) }
            step(Self.candidate, .tick)
        }
        return isOver(self)
    }
}

@Suite("Offers to a candidate that is behind") struct OfferTests {
    private static let server = ServerID(backend: "api", server: String(repeating: "s", count: 60))

    private static func entries(_ range: ClosedRange<UInt64>, term: UInt64) -> [Entry] {
        range.map { Entry(index: $0, term: term, request: nil, command: .setWeight(server, weight: Int($0 % 200))) }
    }

    private static let shared = entries(1...40, term: 1)
    /// The candidate had a follower's log of term 1, and wrote one entry as the leader of term 2.
    private static let candidate = shared + entries(41...41, term: 2)
    /// The voter has 60 more of term 1, and the end makes it newer: about ten datagrams in all.
    private static let voter = shared + entries(41...100, term: 1) + entries(101...101, term: 3)

    @Test(arguments: [0, 100, 300] as [UInt64]) func whatMakesItNewerMayBeDatagramsAway(_ loss: UInt64) {
        let pair = Pair(candidate: Self.candidate, voter: Self.voter)
        pair.loss = loss
        #expect(
            pair.run(atMost: .seconds(3)) { $0.log(Pair.candidate).lastIndex >= 101 },
            "after \(pair.offers) offers: \(pair.members[0].role), \(pair.log(0).lastIndex)")
        #expect(pair.offers > 5, "one offer brought it all, so this shows nothing")
        let isTaken = Array(pair.log(Pair.candidate).entries.prefix(101)) == Self.voter
        #expect(isTaken)
        #expect(pair.run(atMost: .seconds(1)) { $0.members[Pair.candidate].role == .leader })
    }

    /// Until the end of what is offered is newer, its log stays: it may be all that holds a committed entry.
    @Test func whatIsNotNewerIsNotTaken() {
        let pair = Pair(candidate: Self.candidate, voter: Self.voter)
        #expect(pair.run(atMost: .seconds(1)) { $0.members[Pair.candidate].role == .preCandidate })
        func offer(_ range: Range<Int>) {
            let previous = range.lowerBound == 0 ? nil : Self.voter[range.lowerBound - 1]
            let offer = Offer(
                previousIndex: previous?.index ?? 0, previousTerm: previous?.term ?? 0,
                entries: Array(Self.voter[range]))
            pair.say(.offer(offer), to: Pair.candidate, from: Pair.voter)
        }
        offer(0..<30)
        offer(30..<60)
        offer(60..<100)
        #expect(pair.log(Pair.candidate).lastIndex == 41 && pair.log(Pair.candidate).lastTerm == 2)
        offer(100..<101)
        let isTaken = pair.log(Pair.candidate).entries == Self.voter
        #expect(isTaken)
    }

    @Test func anOfferThatFollowsOnNothingIsForgotten() {
        let pair = Pair(candidate: Self.candidate, voter: Self.voter)
        #expect(pair.run(atMost: .seconds(1)) { $0.members[Pair.candidate].role == .preCandidate })
        let offer = Offer(previousIndex: 100, previousTerm: 1, entries: [Self.voter[100]])
        pair.say(.offer(offer), to: Pair.candidate, from: Pair.voter)
        #expect(pair.log(Pair.candidate).lastIndex == 41 && pair.log(Pair.candidate).lastTerm == 2)
    }

    /// Entry 41 of term 1 was committed by the leader of term 4. A log in which the leader of term 3 put another one there
    /// ends with a later term than this one knows of; what follows there can't be hung onto the committed entry.
    @Test func whatDiffersFromSomethingCommittedIsNotFollowed() {
        let mine = Self.shared + Self.entries(41...41, term: 1)
        let other = Self.shared + Self.entries(41...43, term: 3)
        let pair = Pair(candidate: mine, voter: other)
        #expect(pair.run(atMost: .seconds(1)) { $0.members[Pair.candidate].role == .preCandidate })
        for entries in [mine[..<20], mine[20...]] {
            pair.say(.committed(Committed(entries: Array(entries))), to: Pair.candidate, from: 2)
        }
        #expect(pair.members[Pair.candidate].commitIndex == 41)
        for previous in [39, 40] {
            let offer = Offer(
                previousIndex: UInt64(previous), previousTerm: 1, entries: Array(other[previous...].prefix(3)))
            pair.say(.offer(offer), to: Pair.candidate, from: Pair.voter)
            let isUnchanged = pair.log(Pair.candidate).entries == mine
            #expect(isUnchanged)
        }
    }

    /// Nobody's log gets that long before it is committed.
    @Test func whatIsKeptHasALimit() {
        let last = UInt64(Limits.offeredEntriesMax) + 200
        let voter = Self.shared + Self.entries(41...last, term: 1) + Self.entries(last + 1...last + 1, term: 3)
        let pair = Pair(candidate: Self.candidate, voter: voter)
        var most = 0
        _ = pair.run(atMost: .seconds(1)) {
            most = max(most, $0.members[Pair.candidate].peers[Pair.voter].offered?.offer.entries.count ?? 0)
            return false
        }
        #expect(most > Limits.offeredEntriesMax - 100 && most <= Limits.offeredEntriesMax)
        #expect(pair.log(Pair.candidate).lastIndex == 41)
    }

    /// A follower that said how much of the log it has may take another one's while it doesn't hear its leader.
    @Test func aLeaderBelievesAFollowerThatGaveUpWhatItHad() {
        let pair = Pair(candidate: Self.candidate, voter: Self.shared)
        let isLeader = pair.run(atMost: .seconds(1)) { $0.members[Pair.candidate].role == .leader }
        #expect(isLeader)
        let term = pair.members[Pair.candidate].term
        func reply(accepted: Bool, match: UInt64) {
            let reply = AppendReply(term: term, round: 0, accepted: accepted, match: match, released: 0)
            pair.say(.appendReply(reply), to: Pair.candidate, from: 2)
        }
        reply(accepted: true, match: 41)
        reply(accepted: false, match: 0)
        // What is still on its way follows on entry 41; then it must begin again.
        var first = UInt64.max
        let beginsAgain = pair.run(atMost: .seconds(1)) {
            for case .append(let append) in $0.toTheThird { first = min(first, append.previousIndex) }
            return first == 0
        }
        #expect(beginsAgain)
    }
}
