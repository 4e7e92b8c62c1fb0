// Tenure: who leads and who owns the VIP, since when as this node saw it, what the last move took, and how close the
// lease came to its end. For people to look at. Pure. Control thread.

import Gossip

struct Tenure: Sendable {
    struct Holding: Sendable, Equatable {
        var member: MemberID?
        /// When this node found out.
        var since: Instant
    }

    private(set) var leader: Holding
    private(set) var owner: Holding
    /// Another owner, and when it was last heard as one.
    private var lastOther: (member: MemberID, at: Instant)?
    /// The least that was left of the lease when it was renewed, since `takeLeaseLow`.
    private var leaseLow: Duration?

    init(now: Instant) {
        leader = Holding(since: now)
        owner = Holding(since: now)
    }

    /// To be told in every turn.
    /// - Parameter ownerHeardAt: when the owner was last heard, if it is another node.
    mutating func observe(leader: MemberID?, owner: MemberID?, ownerHeardAt: Instant?, now: Instant) {
        if leader != self.leader.member { self.leader = Holding(member: leader, since: now) }
        if owner != self.owner.member { self.owner = Holding(member: owner, since: now) }
        if let owner, let ownerHeardAt { lastOther = (owner, ownerHeardAt) }
    }

    /// As this node takes the VIP: from whom, and how long after that one was last heard with it; nil for the first time.
    mutating func takeMove(now: Instant) -> (from: MemberID, after: Duration)? {
        defer { lastOther = nil }
        return lastOther.map { ($0.member, max(.zero, $0.at.duration(to: now))) }
    }

    /// What is left of this node's lease, just before something may renew it.
    mutating func noteLease(_ remaining: Duration) { leaseLow = min(leaseLow ?? remaining, remaining) }

    /// The least that was left since the last call; nil when there was no lease.
    mutating func takeLeaseLow() -> Duration? {
        defer { leaseLow = nil }
        return leaseLow
    }
}
