// Ownership: when this member may own the VIP. The heart of promise P1.
//
// The lease gives the VIP, not the role. Three facts make two owners impossible:
//   1. A leader owns only until `sent(r) + lease`, where a majority answered its round r.
//   2. Who answered another's round at time t neither votes nor campaigns before t + electionTimeoutMin, in whatever term
//      it is by then, unless that leader has let go; and lease is shorter than that. Fact 3 alone protects where this
//      doesn't hold: a planned transfer sets the promise aside (for the one who asks, and for those who vote for it), and
//      a leader that is deposed owes itself nothing.
//   3. A new leader was voted for by a majority, so by at least one member that answered the last round of any
//      earlier owner. Each voter tells which leader terms it answered lately and how long ago. The new leader
//      takes the VIP only when every such term is released (its owner let go), or over: answer + lease, and what may
//      outlive a lease on a node that stopped whole: behind a gate next to nothing, else the kernel lifetime of the
//      address (which `trust` doesn't wait for). A leader says with each round which of the two it is; one whose gate
//      is lost starts its lease anew. Any majority among its voters will do, since each one meets the majority of any
//      earlier owner; votes that come late may still make up a better one.
// A member that just started may have forgotten an answer; it says so with an entry that nothing releases.
//
// Gray & Cheriton 1989 (leases); Ongaro's dissertation 6.4.1 (clock-based leadership).

/// When this member last answered the heartbeats of each recent leader, itself as leader included.
struct AnswerRecord: Sendable {
    struct Answer: Equatable, Sendable {
        /// nil: an answer forgotten in a restart, to any leader.
        var leader: MemberID?
        var term: UInt64
        /// The leader said that a gate enforces its ownership.
        var isGated: Bool
        var at: Instant
    }

    private(set) var answers: [Answer]

    init(start: Instant) { answers = [Answer(leader: nil, term: 0, isGated: false, at: start)] }

    mutating func note(leader: MemberID, term: UInt64, isGated: Bool, at now: Instant) {
        if let place = answers.firstIndex(where: {
            $0.leader == leader && $0.term == term && $0.isGated == isGated
        }) {
            answers[place].at = max(answers[place].at, now)
        } else {
            answers.append(Answer(leader: leader, term: term, isGated: isGated, at: now))
        }
    }

    /// When the latest one was given that still binds `me`: to another, or forgotten, and not released. nil: none does.
    func latestPromise(of me: MemberID, released: ReleasedTerms, countsForgotten: Bool) -> Instant? {
        var latest: Instant?
        for answer in answers where answer.leader != me && !released.covers(answer) {
            if answer.leader == nil, !countsForgotten { continue }
            latest = max(latest ?? answer.at, answer.at)
        }
        return latest
    }

    /// Forgets what can't matter any more: released, or over before `horizon`.
    mutating func prune(before horizon: Instant, released: ReleasedTerms) {
        answers.removeAll { $0.at < horizon || released.covers($0) }
    }
}

/// For each member, up to which term it is known to have let go of the VIP.
struct ReleasedTerms: Equatable, Sendable {
    private(set) var terms: [UInt64]

    init(memberCount: Int) { terms = Array(repeating: 0, count: memberCount) }

    func covers(_ answer: AnswerRecord.Answer) -> Bool {
        answer.leader.map { terms[$0.index] >= answer.term } ?? false
    }

    /// True when that is news.
    mutating func insert(_ member: MemberID, upTo term: UInt64) -> Bool {
        guard term > terms[member.index] else { return false }
        terms[member.index] = term
        return true
    }
}

/// The leader's side of the lease.
struct LeaderLease: Sendable {
    private var rounds: [(round: UInt64, sentAt: Instant)] = []
    private(set) var round: UInt64 = 0
    /// For each member, when the latest round it answered was sent. The leader answers itself at once.
    private var answered: [Instant?]
    private let me: MemberID

    init(memberCount: Int, me: MemberID) {
        answered = Array(repeating: nil, count: memberCount)
        self.me = me
    }

    /// Numbers a round that is sent now.
    mutating func begin(now: Instant) -> UInt64 {
        round += 1
        rounds.append((round, now))
        if rounds.count > 64 { rounds.removeFirst() }
        answered[me.index] = now
        return round
    }

    /// When a round was sent, if it was not too long ago.
    func sentAt(_ round: UInt64) -> Instant? { rounds.last { $0.round == round }?.sentAt }

    /// Nothing answered so far counts any more; the numbers go on.
    mutating func forget() {
        rounds = []
        answered = Array(repeating: nil, count: answered.count)
    }

    mutating func answer(round: UInt64, from member: MemberID) {
        guard let sentAt = sentAt(round) else { return }
        answered[member.index] = max(answered[member.index] ?? sentAt, sentAt)
    }

    /// When the latest round was sent that a majority has answered since.
    var majorityAnswered: Instant? {
        // A handful of members, asked for at every step: counting allocates nothing, sorting would.
        let majority = answered.count / 2 + 1
        var latest: Instant?
        for case let time? in answered where latest.map({ time > $0 }) ?? true {
            let reached = answered.count { $0.map { $0 >= time } ?? false }
            if reached >= majority { latest = time }
        }
        return latest
    }
}
