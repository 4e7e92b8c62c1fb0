// Member+Ownership: what the fence is told, and what the others are told about it. See Ownership.swift for why.
//
// The fence is told `hold until T` with every renewed lease and needs no word to stop: it drops at T by itself.
// A member that no longer leads keeps the VIP until its lease ends or it hears the new leader, whichever is first:
// so a planned move has no gap while votes are counted and written.

extension Member {
    /// The end of the lease while this member leads; nil before a majority has answered a round.
    public var leaseEnd: Instant? {
        guard role == .leader else { return nil }
        let length = breaks(.leaseBeyondElection) ? timing.electionTimeoutMin * 2 : timing.lease
        return lease.majorityAnswered?.advanced(by: length)
    }

    /// How long an earlier owner may have gone on after a member's last answer to it.
    private func ownershipTail(_ answer: AnswerRecord.Answer) -> Duration {
        // Its leader has said whether there is a gate, whatever the file here says: files differ while they are being
        // changed. Only what a restart has forgotten is what the file makes of it.
        let isGated = answer.isGated || (answer.leader == nil && configuration.fencing == .gate)
        if isGated { return timing.lease + timing.gateTail }
        return timing.lease + (configuration.fencing == .trust ? .zero : Timing.addressLifetime)
    }

    /// When the last earlier owner that isn't known to have let go is over. What a majority of voters says is enough, so
    /// the one that says it soonest: a voter that has just started would otherwise hold up a planned move.
    var barrierEnd: Instant? {
        guard configuration.hasVIP, role == .leader, !barrier.isEmpty else { return nil }
        let ends = barrier.compactMap { statement -> Instant? in
            guard let statement else { return nil }
            let open = statement.filter { !released.covers($0) }
            return open.map { $0.at.advanced(by: ownershipTail($0)) }.max() ?? Instant(nanoseconds: 0)
        }
        let end = ends.sorted()[configuration.majority - 1]
        return end.nanoseconds == 0 ? nil : end
    }

    mutating func renewHold(now: Instant) {
        if let barrierEnd, now < barrierEnd, !breaks(.barrierIgnored) { return }
        // Forgotten as soon as it is over, lease or not: else its end would stay the earliest deadline.
        barrier = []
        guard configuration.hasVIP, let leaseEnd, now < leaseEnd, leaseEnd != heldUntil else { return }
        if configuration.fencing == .gate, !hasGate { return }
        isForced = false
        // Whatever was kept after an earlier move is simply this owner's now.
        drainedTerm = 0
        drainEnd = nil
        heldUntil = leaseEnd
        ownedUntil = leaseEnd
        isLettingGo = false
        fenceOrder += 1
        emit(.hold(until: leaseEnd, term: term, order: fenceOrder))
    }

    /// The VIP goes now, if it is here; its connections stay, if they may.
    mutating func letGo() {
        if let currentLeader, currentLeader != me, !isGatedNeighbour(currentLeader) { strandedUntil = nil }
        guard heldUntil != nil || strandedUntil != nil, !isLettingGo else { return }
        let kept = yieldingTerm
        isLettingGo = true
        strandedUntil = nil
        fenceOrder += 1
        guard kept > 0 else { return emit(.drop(order: fenceOrder)) }
        drainedTerm = kept
        drainEnd = nil
        emit(.yield(order: fenceOrder))
    }

    /// How long a leader that may own the VIP tries to get it before it asks another node to.
    private static var vipPatience: Duration { .seconds(3) }

    var vipGivenUpAt: Instant? { vipMissingSince?.advanced(by: Self.vipPatience) }

    /// A leader whose fence can't put the address on (no such interface, `ip` fails or hangs) is of no use to clients.
    mutating func giveUpWithoutVIP(now: Instant) {
        guard heldUntil != nil, !holdsAddress, handover == nil else { return vipMissingSince = nil }
        guard let givenUpAt = vipGivenUpAt else { return vipMissingSince = now }
        guard now >= givenUpAt else { return }
        // If nobody takes over, or the next one can't either, it goes on from there at the same pace.
        vipMissingSince = now
        note(.vipFailed, "\(configuration.name(me)) leads and can't get the VIP: it hands over")
        isMoveAutomatic = true
        emit(.handoverWanted(to: nil))
    }

    mutating func fenceReported(_ report: FenceReport, now: Instant) {
        switch report {
        case .held:
            if !holdsAddress { note(.vipAcquired, "\(configuration.name(me)) has the VIP") }
            holdsAddress = true
        case .dropped(let order):
            if holdsAddress { note(.vipReleased, "\(configuration.name(me)) let go of the VIP") }
            holdsAddress = false
            guard order == fenceOrder || breaks(.oldDropReleases) else { return }
            heldUntil = nil
            if role != .leader, lastLedTerm > 0 { release() }
        case .failed(let reason):
            isFenceFailing = true
            note(.vipFailed, "\(configuration.name(me)): \(reason)")
        case .recovered: isFenceFailing = false
        case .gate(let isUsable): gateChanged(isUsable, now: now)
        }
    }

    private mutating func gateChanged(_ isUsable: Bool, now: Instant) {
        guard isUsable != hasGate else { return }
        hasGate = isUsable
        // What was answered to a leader behind a gate doesn't cover one without. It needs new answers, not a new leader.
        guard role == .leader, !isUsable else { return }
        if !breaks(.lostGateTrusted) { lease.forget() }
        graceUntil = max(graceUntil, now.advanced(by: timing.electionTimeoutMin))
    }

    /// Tells everyone that this member owns nothing any more in the terms it led.
    mutating func release() {
        _ = released.insert(me, upTo: lastLedTerm)
        broadcast(.released(term: lastLedTerm))
    }

    /// A member let go: promises to it are void. If it was the leader, nobody has to wait for it.
    mutating func learnReleased(_ member: MemberID, upTo released: UInt64, now: Instant) {
        guard member != me, self.released.insert(member, upTo: released) else { return }
        guard role == .follower, released == term, currentLeader == member else { return }
        note(.leaderLost, "\(configuration.name(member)) gave up the lead")
        currentLeader = nil
        leaderOwnsVIP = false
        // One after the other, so that they don't split the votes.
        let rank = configuration.peers.filter { $0 != member && $0 < me }.count
        electionDeadline = now.advanced(by: timing.heartbeat * rank / 2)
    }

    /// This member keeps its promise neither to vote nor to campaign until then (Ownership.swift, 2).
    var promisedUntil: Instant {
        // Who has just started may have answered a round just before it stopped (2.2 of the design).
        let countsForgotten = !breaks(.noPromiseAfterStart)
        let latest = answers.latestPromise(of: me, released: released, countsForgotten: countsForgotten)
        return latest?.advanced(by: timing.electionTimeoutMin) ?? Instant(nanoseconds: 0)
    }

    /// This member answers a round: it promises, and remembers whom.
    mutating func noteAnswer(to leader: MemberID, isGated: Bool, now: Instant) {
        answers.note(leader: leader, term: term, isGated: isGated, at: now)
        pruneAnswers(now: now)
    }

    mutating func pruneAnswers(now: Instant) {
        // A little longer than any new leader waits: clocks may run at slightly different rates.
        let longest = max(timing.lease + Timing.addressLifetime, timing.electionTimeoutMin)
        answers.prune(before: now.advanced(by: .zero - longest * 5 / 4), released: released)
    }

    // MARK: Forced ownership

    /// Why an operator may not make this member own the VIP without a majority; nil when he may.
    public func forceProblem(now: Instant) -> String? {
        if !configuration.hasVIP { return "this cluster has no VIP" }
        if isForced { return "\(configuration.name(me)) is forced already" }
        if hasMajority(now: now) || hasQuorum(now: now) {
            return
                "a majority of the nodes is in touch: the cluster elects a leader by itself, and `triad handover` moves it"
        }
        if let owner = owner(now: now), owner != me {
            return "\(configuration.name(owner)) says that it has the VIP"
        }
        if configuration.fencing == .gate, !hasGate { return "fencing is \"gate\", and this node has no gate" }
        return hasResigned ? "\(configuration.name(me)) is stopping" : nil
    }

    private func hasMajority(now: Instant) -> Bool {
        peers.indices.count { isAlive(MemberID($0), now: now) } >= configuration.majority
    }

    mutating func forceLeader(now: Instant) {
        guard forceProblem(now: now) == nil else { return }
        isForced = true
        nextForcedHold = now
        note(
            .forced,
            "\(configuration.name(me)) owns the VIP without a majority, by an operator's order: if other nodes live, "
                + "there may be two owners")
    }

    /// A forced owner needs no lease. Its holds are as short as if it had one, so that the fence does its work as always.
    mutating func renewForcedHold(now: Instant) {
        guard isForced else { return }
        if hasMajority(now: now) || hasQuorum(now: now) {
            isForced = false
            note(.forced, "\(configuration.name(me)) is forced no longer: a majority is in touch again")
            // As leader it goes on with a lease, if it has one.
            if leaseEnd.map({ now < $0 }) != true { letGo() }
            return
        }
        guard now >= nextForcedHold else { return }
        nextForcedHold = now.advanced(by: timing.heartbeat)
        heldUntil = now.advanced(by: timing.lease)
        isLettingGo = false
        // Whoever gets this member's vote waits until its fence has let go.
        lastLedTerm = max(lastLedTerm, term)
        answers.note(leader: me, term: term, isGated: hasGate, at: now)
        fenceOrder += 1
        emit(.hold(until: now.advanced(by: timing.lease), term: term, order: fenceOrder))
    }

    /// The member that has the VIP, as far as this one knows.
    public func owner(now: Instant) -> MemberID? {
        if holdsAddress { return me }
        if let leader = currentLeader { return leader != me && leaderOwnsVIP ? leader : nil }
        return freshDigests(now: now).compactMap(\.owner).first
    }
}
