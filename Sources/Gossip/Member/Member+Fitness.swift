// Member+Fitness: a leader that should not lead hands over (2.5 of the design).
//
// Members gossip their condition: whether they answer clients (fence, workers, listeners), whether they reach their
// gateway, and how many servers. A leader that has been strictly less fit than a follower for `fitnessHold` hands over
// to the fittest. A leader that came to lead that way stays for `holdDown` unless it can't answer clients at all, so
// that two nodes with failing checks don't pass the VIP to and fro. Priorities (none by default) move the lead to an
// equally fit follower of higher priority after `preemptHold`.

extension Member {
    static var holdDown: Duration { .seconds(10) }

    /// How fit this member is, as it tells its peers.
    public var condition: Digest.Condition {
        Digest.Condition(
            answersClients: answersClients && !isFenceFailing
                && !(configuration.hasVIP && configuration.fencing == .gate && !hasGate),
            reachesGateway: reachesGateway, reach: reach, hasGate: hasGate)
    }

    /// Own observations against what anyone who is heard from reaches: what a dead member saw last says nothing.
    mutating func countReach() {
        guard isReachStale else { return }
        isReachStale = false
        let live = views.indices.filter { $0 != me.index && peers[$0].wasAlive }
        var reached = 0
        var reachable = 0
        for server in servers {
            let record = table[server]
            if record?.admin == .maint { continue }
            let isMine = views[me.index][server]?.health.answers == true
            if isMine { reached += 1 }
            let isAgreed = record?.health.answers == true
            if isMine || isAgreed || live.contains(where: { views[$0][server]?.health.answers == true }) {
                reachable += 1
            }
        }
        reach = reached * 2 >= reachable ? 2 : reached > 0 ? 1 : 0
    }

    /// As leader: looks whether another member should lead, and hands over when it has long enough.
    mutating func moveOn(now: Instant) {
        guard handover == nil, !hasResigned else { return }
        let mine = condition
        let followers = configuration.peers.filter { isHeard($0, now: now) && peers[$0.index].digest != nil }
        let fitter = followers.filter { mine < (peers[$0.index].digest?.condition ?? mine) }
        let preferred = followers.filter {
            !((peers[$0.index].digest?.condition ?? mine) < mine)
                && configuration.leadership.priority($0) > configuration.leadership.priority(me)
        }
        fitterSince = fitter.isEmpty ? nil : fitterSince ?? now
        preferredSince = preferred.isEmpty ? nil : preferredSince ?? now
        guard let isFitness = reasonToMove(mine, now: now) else { return }
        // If nobody takes over, it goes on from there at the same pace.
        fitterSince = nil
        preferredSince = nil
        let name = configuration.name(me)
        note(
            .handover,
            isFitness
                ? "\(name) leads and is less fit than others (\(describe(mine))): it hands over"
                : "\(name) hands over to a node of higher priority")
        isMoveAutomatic = true
        emit(.handoverWanted(to: isFitness ? nil : preferred.max { rank($0) < rank($1) }))
    }

    /// Another member should lead now: true for fitness, false for priority; nil when none should.
    private func reasonToMove(_ mine: Digest.Condition, now: Instant) -> Bool? {
        if let fitterSince {
            let due = fitterSince.advanced(by: configuration.leadership.fitnessHold)
            if now >= (mine.answersClients ? max(due, holdDownUntil) : due) { return true }
        }
        if let preferredSince, now >= preferredSince.advanced(by: configuration.leadership.preemptHold) { return false }
        return nil
    }

    /// Who should take over first: the fittest, not the one that has just failed to if there is another, the preferred, the
    /// most up to date.
    func rank(_ member: MemberID) -> (Digest.Condition, Int, Int, UInt64) {
        let condition =
            peers[member.index].digest?.condition
            ?? Digest.Condition(answersClients: false, reachesGateway: false, reach: 0, hasGate: false)
        return (
            condition, member == lastFailedTarget ? 0 : 1, configuration.leadership.priority(member),
            peers[member.index].matchIndex
        )
    }

    private func describe(_ condition: Digest.Condition) -> String {
        var faults: [String] = []
        if !condition.answersClients { faults.append("it can't answer clients") }
        if !condition.reachesGateway { faults.append("its gateway doesn't answer") }
        if condition.reach == 0 { faults.append("it reaches no server") }
        if condition.reach == 1 { faults.append("it reaches few servers") }
        return faults.isEmpty ? "no fault of its own" : faults.joined(separator: ", ")
    }
}
