// PromiseTests: who answered a round keeps its promise whatever term it comes to meanwhile (Ownership.swift, fact 2).
//
// One member of three or five, and what others say to it; terms move faster than in any cluster, but each step is one
// that a node woken from a freeze has met: then everything that waited for it arrives within a moment.

import Testing

@testable import Gossip

/// Member 0 with its disk, which is quick, and a clock that the test moves.
private final class Voter {
    private(set) var member: Member
    private var now = Instant(nanoseconds: 1_000_000_000)
    private let count: Int

    init(of count: Int = 3) {
        self.count = count
        let configuration = ClusterConfiguration(
            members: (0..<count).map { "n\($0)" }, me: MemberID(0), timing: .standard, fencing: .wait, hasVIP: true,
            digest: 1, servers: [])
        member = Member(
            configuration, recovered: RecoveredState(term: 1, votesFromTerm: 0), boot: 1, seed: 1, now: now)
        // What it may have forgotten by starting is over.
        pass(.milliseconds(200))
    }

    func pass(_ span: Duration) { now = now.advanced(by: span) }

    /// What it says in answer.
    @discardableResult
    func hear(_ message: Message, from peer: Int) -> [Message] {
        var sent: [Message] = []
        func collect(_ event: Event) {
            member.step(event, now: now)
            while let effect = member.nextEffect() {
                switch effect {
                case .persist(_, let ticket): collect(.persisted(ticket: ticket))
                case .send(let message, _): sent.append(message)
                default: break
                }
            }
        }
        collect(.message(message, from: MemberID(peer), boot: 1))
        return sent
    }

    func answers(leader: Int, term: UInt64) -> Bool {
        let append = Append(
            term: term, round: 7, previousIndex: 0, previousTerm: 0, commit: 0, ownsVIP: true, isGated: false,
            entries: [])
        return hear(.append(append), from: leader).contains {
            if case .appendReply(let reply) = $0 { reply.round == 7 } else { false }
        }
    }

    func votes(for candidate: Int, term: UInt64) -> Bool {
        let request = VoteRequest(
            term: term, lastIndex: 100, lastTerm: term - 1, isPreVote: false, isTransfer: false,
            released: Array(repeating: 0, count: count))
        return hear(.voteRequest(request), from: candidate).contains {
            if case .voteReply(let reply) = $0 { reply.granted } else { false }
        }
    }

    func isTold(ofTerm term: UInt64, by peer: Int) {
        let reply = VoteReply(term: term, isPreVote: false, granted: false, answers: [])
        hear(.voteReply(reply), from: peer)
    }

    func isAskedToTakeOver(from leader: Int, term: UInt64) {
        hear(.timeoutNow(term: term, keepsFlows: false, isAutomatic: false, drained: []), from: leader)
    }
}

@Suite("Promises of a voter") struct PromiseTests {
    /// Five nodes, one of which wakes: rounds of the old leader and its wish to hand over have waited for it, and the others
    /// have gone on to term 3 meanwhile.
    @Test func aTransferInVainDoesntFreeItForOthers() {
        let voter = Voter(of: 5)
        #expect(voter.answers(leader: 4, term: 1))
        voter.isAskedToTakeOver(from: 4, term: 1)
        #expect(voter.member.role == .candidate && voter.member.term == 2)
        voter.isTold(ofTerm: 3, by: 3)
        #expect(voter.member.role == .follower && voter.member.term == 3)
        voter.pass(.milliseconds(15))
        #expect(!voter.votes(for: 3, term: 3))
        voter.pass(.milliseconds(184))
        #expect(!voter.votes(for: 3, term: 3))
        voter.pass(.milliseconds(1))
        #expect(voter.votes(for: 3, term: 3))
    }

    @Test func whatAnotherLetGoDoesntFreeItFromTheOneBefore() {
        let voter = Voter()
        #expect(voter.answers(leader: 1, term: 1))
        voter.pass(.milliseconds(50))
        #expect(voter.answers(leader: 2, term: 2))
        voter.hear(.released(term: 2), from: 2)
        voter.pass(.milliseconds(50))
        #expect(!voter.votes(for: 2, term: 3))
        voter.hear(.released(term: 1), from: 1)
        #expect(voter.votes(for: 2, term: 3))
    }

    @Test func leadingDoesntFreeItFromTheOneBeforeAndBindsItToNobody() {
        let voter = Voter()
        #expect(voter.answers(leader: 1, term: 1))
        voter.isAskedToTakeOver(from: 1, term: 1)
        let vote = VoteReply(term: 2, isPreVote: false, granted: true, answers: [])
        voter.hear(.voteReply(vote), from: 1)
        #expect(voter.member.role == .leader && voter.member.term == 2)
        voter.pass(.milliseconds(150))
        voter.hear(.digest(Self.digest), from: 2)
        voter.isTold(ofTerm: 3, by: 2)
        #expect(voter.member.role == .follower && voter.member.term == 3)
        #expect(!voter.votes(for: 2, term: 3))
        voter.pass(.milliseconds(50))
        #expect(voter.votes(for: 2, term: 3))
    }

    /// Says nothing; a leader sends a round on it.
    private static let digest = Digest(
        term: 2, role: .follower, leader: nil, owner: nil, applied: 0, configuration: 1, sections: [],
        condition: Digest.Condition(answersClients: true, reachesGateway: true, reach: 0, hasGate: false),
        isForgetful: false, drainedTerm: 0, released: 0, stamp: 1, echo: 0, echoAge: .zero,
        known: Array(repeating: Digest.Known(boot: 0, version: 0, age: nil), count: 3))
}
