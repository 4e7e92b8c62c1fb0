// Member+Election: who leads. Raft's election with pre-vote, check-quorum, stickiness and transfer.
//
//              election timeout            majority of pre-votes          majority of votes, own vote durable
//   follower ─────────────────▶ pre-candidate ─────────────────▶ candidate ─────────────────▶ leader
//      ▲   ▲                        │                               │  ▲                        │
//      │   └── heartbeat of the term's leader, or a higher term ────┘  │ timeoutNow (transfer)  │
//      └────────── a higher term, or no majority answers for electionTimeoutMax ───────────────┘
//
// Promises: a member that answered a round of a leader, or has just started, neither votes nor campaigns for
// electionTimeoutMin, whatever its term is by then (stickiness; the lease rests on it). Exceptions: the leader asked
// for the transfer, or is known to have let go. No vote leaves before it is durable. Who starts with an empty disk has
// forgotten what it voted and acknowledged: it takes no part until a leader has brought it up to date, unless a
// majority is as empty as it is (a new cluster).

/// A campaign's votes.
struct Ballot: Sendable {
    private var granted: [Bool]
    /// The write of the candidate's own vote; it counts once durable.
    var ownTicket: UInt64 = 0
    /// What each voter said about earlier leaders, on this member's clock; nil: it hasn't voted.
    var statements: [[AnswerRecord.Answer]?]

    init(memberCount: Int) {
        granted = Array(repeating: false, count: memberCount)
        statements = Array(repeating: nil, count: memberCount)
    }

    mutating func grant(_ member: MemberID) { granted[member.index] = true }

    func has(_ member: MemberID) -> Bool { granted[member.index] }

    var count: Int { granted.count { $0 } }
}

/// A planned transfer of leadership under way.
struct Handover: Sendable {
    let target: MemberID
    /// Given up then.
    let deadline: Instant
}

/// What a leader that hands over told the candidate.
struct Transfer: Sendable {
    let from: MemberID
    let term: UInt64
    let keepsFlows: Bool
    let isAutomatic: Bool
    /// Whose connections it knew of, by member; empty when it said nothing of that.
    let drained: [UInt64]
}

extension Member {
    var mayCampaign: Bool { !hasResigned && mayVote }

    private var mayVote: Bool {
        storageFault == nil && (!isForgetful || isNewCluster || breaks(.votesForgetful))
    }

    var isNewCluster: Bool {
        peers.indices.count { $0 == me.index || peers[$0].digest?.isForgetful ?? false } >= configuration.majority
    }

    mutating func drawElectionTimeout() -> Duration {
        hasMadeWay = false
        return random.duration(timing.electionTimeoutMin, timing.electionTimeoutMax)
    }

    /// The next one that this member may campaign in: also its own vote may be in somebody's hands (`votesFromTerm`).
    private var nextTerm: UInt64 { max(term + 1, votesFromTerm) }

    // MARK: Transitions

    /// - Parameter leader: the leader of that term, if its heartbeat brought us here.
    mutating func becomeFollower(term newTerm: UInt64, leader: MemberID?, now: Instant) {
        let wasLeader = role == .leader
        role = .follower
        forgetOffers()
        if newTerm > term {
            term = newTerm
            votedFor = nil
            isVoteDirty = true
            verifiedIndex = commitIndex
        }
        if wasLeader { verifiedIndex = commitIndex }
        handover = nil
        isMoveAutomatic = false
        isTransferCampaign = false
        fitterSince = nil
        preferredSince = nil
        setLeader(leader)
        electionDeadline = now.advanced(by: drawElectionTimeout())
        if wasLeader {
            note(.leaderLost, "\(configuration.name(me)) no longer leads")
            strandFlows()
            if heldUntil == nil || breaks(.releaseWithoutDrop) { release() }
        }
    }

    private mutating func setLeader(_ leader: MemberID?) {
        guard leader != currentLeader else { return }
        currentLeader = leader
        leaderOwnsVIP = false
        if let leader {
            peers[leader.index].ledTerm = term
            note(.leaderElected, "\(configuration.name(leader)) leads in term \(term)")
        }
    }

    private mutating func becomePreCandidate(now: Instant) {
        if let leader = currentLeader, role == .follower {
            note(.leaderLost, "\(configuration.name(me)) hears no heartbeat of \(configuration.name(leader))")
        }
        role = .preCandidate
        currentLeader = nil
        leaderOwnsVIP = false
        isTransferCampaign = false
        ballot = Ballot(memberCount: peers.count)
        ballot.grant(me)
        electionDeadline = now.advanced(by: drawElectionTimeout())
        if ballot.count >= configuration.majority { return becomeCandidate(now: now) }
        requestVotes(now: now)
    }

    private mutating func becomeCandidate(now: Instant) {
        role = .candidate
        forgetOffers()
        currentLeader = nil
        term = nextTerm
        votedFor = me
        ballot = Ballot(memberCount: peers.count)
        ballot.grant(me)
        verifiedIndex = commitIndex
        electionDeadline = now.advanced(by: drawElectionTimeout())
        persistVote()
        ballot.ownTicket = voteTicket
        note(.termStarted, "\(configuration.name(me)) campaigns in term \(term)")
        // The requests may leave before the own vote is durable: it isn't counted until then.
        requestVotes(now: now)
    }

    private mutating func becomeLeader(now: Instant) {
        role = .leader
        if isForgetful { join() }
        lastFailedTarget = nil
        takeOverFlows(now: now)
        holdDownUntil = isTransferCampaign && transfer?.isAutomatic ?? false ? now.advanced(by: Self.holdDown) : now
        isTransferCampaign = false
        setLeader(me)
        leaderSince = now
        hadGrace = false
        vipMissingSince = nil
        lastLedTerm = term
        lease = LeaderLease(memberCount: peers.count, me: me)
        barrier = ballot.statements
        barrier[me.index] = answers.answers.filter { $0.leader != me }
        for peer in configuration.peers {
            peers[peer.index].nextIndex = log.lastIndex + 1
            peers[peer.index].matchIndex = 0
            peers[peer.index].transfer = nil
        }
        dueVerdicts.insertAll()
        appendAsLeader(.establish, request: nil)
        sendAppends(now: now)
        adoptProposals(now: now)
    }

    // MARK: Campaigning

    mutating func campaignElapsed(now: Instant) {
        let due = max(electionDeadline, promisedUntil)
        if now >= due {
            // Who wakes this late was stopped, and with the whole machine perhaps the leader too: its next round gets the
            // chance to arrive. Once, or a node that is always late would never campaign.
            if currentLeader != nil, !hadGrace, now >= due.advanced(by: timing.heartbeat) {
                hadGrace = true
                electionDeadline = now.advanced(by: timing.heartbeat * 2)
                return
            }
            becomePreCandidate(now: now)
        } else if role != .follower, now >= nextVoteRequest {
            requestVotes(now: now)
        }
    }

    /// Asks everyone who hasn't granted yet; repeated each heartbeat, since datagrams get lost.
    private mutating func requestVotes(now: Instant) {
        nextVoteRequest = now.advanced(by: timing.heartbeat)
        let isPreVote = role == .preCandidate
        let request = VoteRequest(
            term: isPreVote ? nextTerm : term, lastIndex: log.lastIndex, lastTerm: log.lastTerm,
            isPreVote: isPreVote, isTransfer: isTransferCampaign, released: released.terms)
        for peer in configuration.peers where !ballot.has(peer) { send(.voteRequest(request), to: peer) }
    }

    mutating func receive(_ request: VoteRequest, from candidate: MemberID, now: Instant) {
        guard request.released.count == peers.count else { return }
        for (index, term) in request.released.enumerated() where index != me.index {
            learnReleased(MemberID(index), upTo: term, now: now)
        }
        let isCovered =
            log.isCovered(byLastIndex: request.lastIndex, term: request.lastTerm) || breaks(.ignoresLogAge)
        let isBound = !request.isTransfer && (now < promisedUntil || leadsWithQuorum(now: now))
        let isPromised = isBound && !breaks(request.isPreVote ? .preVoteUnsticky : .voteUnsticky)
        let isFree = mayVote && request.term >= votesFromTerm
        if request.isPreVote {
            let isWelcome = request.term > term && !isPromised && mayVote
            let granted = isWelcome && isCovered
            // Whoever asks first goes first: two campaigns at once would split the votes, and neither would win. Once: the
            // one that asks may hear no answer, ever.
            if granted, !hasMadeWay {
                hasMadeWay = true
                electionDeadline = max(electionDeadline, now.advanced(by: timing.heartbeat * 2))
            }
            if isWelcome, !isCovered, let offer = offer(for: request) { send(offer, to: candidate) }
            let reply = VoteReply(term: granted ? request.term : term, isPreVote: true, granted: granted, answers: [])
            return send(.voteReply(reply), to: candidate)
        }
        // A promise kept means as well: not even the term moves, or a node that returns would depose a leader.
        if request.term > term, isPromised || !mayVote { return }
        if request.term > term, !isFree {
            // The vote for this term may be given away: let the candidate try the next one at once.
            let reply = VoteReply(term: request.term, isPreVote: false, granted: false, answers: [])
            return send(.voteReply(reply), to: candidate)
        }
        if request.term > term { becomeFollower(term: request.term, leader: nil, now: now) }
        let hasVote = votedFor == nil || votedFor == candidate || breaks(.voteTwice)
        let isUnbound = request.term == term && role == .follower && hasVote
        guard isUnbound, isCovered, isFree else {
            let reply = VoteReply(term: term, isPreVote: false, granted: false, answers: [])
            return send(.voteReply(reply), to: candidate)
        }
        // Who campaigned for a transfer in vain, or led, can have come to this term within its promise.
        if isPromised, !breaks(.voteUnstickyInTerm) { return }
        grantVote(to: candidate, now: now)
    }

    private mutating func grantVote(to candidate: MemberID, now: Instant) {
        if votedFor != candidate {
            votedFor = candidate
            persistVote()
        } else {
            persistVoteIfDirty()
        }
        electionDeadline = now.advanced(by: drawElectionTimeout())
        pruneAnswers(now: now)
        let recent = (breaks(.answersForgotten) ? [] : answers.answers).map {
            RecentAnswer(leader: $0.leader, term: $0.term, isGated: $0.isGated, age: $0.at.duration(to: now))
        }
        let reply = Message.voteReply(VoteReply(term: term, isPreVote: false, granted: true, answers: recent))
        if persistedTicket >= voteTicket || breaks(.voteBeforeSync) {
            send(reply, to: candidate)
        } else {
            withheld.removeAll { $0.to == candidate }
            withheld.append((voteTicket, reply, candidate))
        }
    }

    mutating func receive(_ reply: VoteReply, from voter: MemberID, now: Instant) {
        // Late answers don't take a follower away from its leader.
        guard role != .follower else { return }
        let isPreGrant = reply.isPreVote && reply.granted
        if reply.term > term, !isPreGrant {
            return becomeFollower(term: reply.term, leader: nil, now: now)
        }
        guard reply.granted else { return refused(reply, now: now) }
        if reply.isPreVote {
            guard role == .preCandidate, reply.term == nextTerm else { return }
            ballot.grant(voter)
            if ballot.count >= configuration.majority { becomeCandidate(now: now) }
        } else {
            guard reply.term == term else { return }
            if role == .leader { return hear(reply, of: voter, now: now) }
            guard role == .candidate, !ballot.has(voter) else { return }
            ballot.grant(voter)
            ballot.statements[voter.index] = statement(reply, now: now)
            countVotes(now: now)
        }
    }

    /// Somebody else asked for this term's votes, too. Who is first among the members tries again first.
    private mutating func refused(_ reply: VoteReply, now: Instant) {
        guard role == .candidate, !reply.isPreVote, reply.term == term, !isTransferCampaign else { return }
        let again = now.advanced(by: timing.heartbeat * (1 + 2 * me.index))
        electionDeadline = max(min(electionDeadline, again), promisedUntil)
    }

    /// A vote that comes when the election is over may still end the wait for the VIP sooner (see Ownership.swift, 3).
    private mutating func hear(_ reply: VoteReply, of voter: MemberID, now: Instant) {
        guard !barrier.isEmpty, barrier[voter.index] == nil else { return }
        barrier[voter.index] = statement(reply, now: now)
    }

    private func statement(_ reply: VoteReply, now: Instant) -> [AnswerRecord.Answer] {
        reply.answers.filter { $0.leader != me && $0.leader.map { peers.indices.contains($0.index) } ?? true }.map {
            // The age was taken when the vote was given; the reply's way makes the answer look later, never earlier.
            AnswerRecord.Answer(
                leader: $0.leader, term: $0.term, isGated: $0.isGated, at: now.advanced(by: .zero - $0.age))
        }
    }

    private mutating func countVotes(now: Instant) {
        guard role == .candidate, ballot.count >= configuration.majority, persistedTicket >= ballot.ownTicket else {
            return
        }
        becomeLeader(now: now)
    }

    /// A write became durable: perhaps the own vote.
    mutating func ballotPersisted(now: Instant) { countVotes(now: now) }

    // MARK: Term and vote on disk

    private mutating func persistVote() {
        isVoteDirty = false
        voteTicket = persist([.vote(term: term, votedFor: votedFor.map { configuration.name($0) })])
    }

    /// A new term alone needs no haste: without a vote in it, forgetting it is harmless.
    mutating func persistVoteIfDirty() {
        if isVoteDirty, storageFault == nil { persistVote() }
    }

    // MARK: Leading

    /// A majority has answered lately enough that no other leader can be (check-quorum).
    func leadsWithQuorum(now: Instant) -> Bool { role == .leader && now < quorumDeadline }

    /// When this leader steps down unless a majority answers.
    var quorumDeadline: Instant {
        max((lease.majorityAnswered ?? leaderSince).advanced(by: timing.electionTimeoutMax), graceUntil)
    }

    mutating func leaderElapsed(now: Instant) {
        if now >= quorumDeadline, !breaks(.noCheckQuorum) {
            // It was stopped, and so couldn't hear any answer: one more round before it gives up.
            guard !hadGrace, now >= nextHeartbeat.advanced(by: timing.heartbeat) else {
                return becomeFollower(term: term, leader: nil, now: now)
            }
            hadGrace = true
            graceUntil = now.advanced(by: timing.electionTimeoutMin)
        }
        if let handover, now >= handover.deadline {
            self.handover = nil
            movedTerm = 0
            isMoveAutomatic = false
            lastFailedTarget = handover.target
            note(
                .handover, "\(configuration.name(handover.target)) did not take over; \(configuration.name(me)) goes on"
            )
            adoptProposals(now: now)
        }
        if now >= nextHeartbeat {
            sendAppends(now: now)
            pushHandover()
        }
        giveUpWithoutVIP(now: now)
    }

    // MARK: Transfer

    mutating func requestHandover(to target: MemberID?, now: Instant) {
        if role == .leader {
            isMoveAutomatic = false
            return emit(.handoverWanted(to: target))
        }
        if let leader = currentLeader { return send(.handoverRequest(to: target), to: leader) }
        // Somebody who hears the leader passes it on.
        for peer in configuration.peers where isHeard(peer, now: now) { send(.handoverRequest(to: target), to: peer) }
    }

    mutating func receiveHandoverRequest(to target: MemberID?, from sender: MemberID, now: Instant) {
        if role != .leader {
            if let leader = currentLeader, leader != sender { send(.handoverRequest(to: target), to: leader) }
        } else if handoverProblem(to: target, now: now) == nil {
            isMoveAutomatic = false
            emit(.handoverWanted(to: target))
        }
    }

    /// The runtime asked for a planned move. The reason for refusing shows as a note.
    mutating func beginHandover(to target: MemberID?, now: Instant) {
        guard role == .leader, handover == nil else { return }
        let candidates = configuration.peers.filter { isHeard($0, now: now) && (target == nil || $0 == target) }
        guard let best = candidates.max(by: { rank($0) < rank($1) }) else {
            isMoveAutomatic = false
            return note(.handover, "can't hand over: \(handoverProblem(to: target, now: now) ?? "nobody is there")")
        }
        handover = Handover(target: best, deadline: now.advanced(by: timing.electionTimeoutMax))
        movedTerm = movesKeepFlows(to: best, now: now) ? term : 0
        note(.handover, "\(configuration.name(me)) hands over to \(configuration.name(best))")
        sendAppends(now: now)
        pushHandover()
    }

    /// Tells the target to campaign as soon as it has the whole log (dissertation, 3.10).
    mutating func pushHandover() {
        guard let handover, peers[handover.target.index].matchIndex == log.lastIndex else { return }
        let keepsFlows = movedTerm == term
        let message = Message.timeoutNow(
            term: term, keepsFlows: keepsFlows, isAutomatic: isMoveAutomatic,
            drained: keepsFlows ? peers.map(\.drainedTerm) : [])
        send(message, to: handover.target)
    }

    mutating func receiveTimeoutNow(_ transfer: Transfer, now: Instant) {
        guard transfer.term == term, role == .follower, transfer.from == currentLeader, mayCampaign else { return }
        isTransferCampaign = true
        self.transfer = transfer
        becomeCandidate(now: now)
    }

    mutating func resign(now: Instant) {
        hasResigned = true
        movedTerm = 0
        strandedUntil = nil
        isForced = false
        if role != .follower { becomeFollower(term: term, leader: nil, now: now) }
        letGo()
    }
}
