// Member+Status: what people and the shell may ask a member. Reads only.

/// One peer as this member knows it.
public struct PeerStatus: Equatable, Sendable {
    public let member: MemberID
    public let isAlive: Bool
    /// Since the last message straight from it.
    public let lastHeard: Duration?
    public let roundTrip: Duration?
    /// As it said last; nil before it said anything.
    public let role: Role?
    public let applied: UInt64?
    public let configuration: UInt64?
    /// Digests of its configuration's sections; empty before it said anything.
    public let sections: [UInt32]
    public let condition: Digest.Condition?
    /// It still serves connections of a VIP that it gave away.
    public let isDraining: Bool
}

extension Member {
    /// The leader as far as this member knows, through a peer if it doesn't hear it itself.
    public func knownLeader(now: Instant) -> MemberID? {
        if let currentLeader { return currentLeader }
        return freshDigests(now: now).filter { $0.term >= term }.max { $0.term < $1.term }?.leader
    }

    /// A majority backs a leader, as far as this member knows.
    public func hasQuorum(now: Instant) -> Bool {
        if role == .leader { return leaseEnd.map { now < $0 } ?? false }
        return knownLeader(now: now).map { isAlive($0, now: now) } ?? false
    }

    /// Time left of the lease; nil unless this member leads.
    public func leaseRemaining(now: Instant) -> Duration? {
        leaseEnd.map { now < $0 ? now.duration(to: $0) : .zero }
    }

    public func peerStatus(now: Instant) -> [PeerStatus] {
        configuration.peers.map { member in
            let peer = peers[member.index]
            return PeerStatus(
                member: member, isAlive: isAlive(member, now: now),
                lastHeard: peer.heardAt?.duration(to: now), roundTrip: peer.roundTrip, role: peer.digest?.role,
                applied: peer.digest?.applied, configuration: peer.digest?.configuration,
                sections: peer.digest?.sections ?? [], condition: peer.digest?.condition,
                isDraining: peer.drainedTerm > 0 && peer.expectedUntil == nil)
        }
    }

    /// When that member was last heard itself; nil when never.
    public func heardAt(_ member: MemberID) -> Instant? { peers[member.index].heardAt }

    /// A hand-over to this member (or to anyone) could begin now; else why not.
    public func handoverProblem(to target: MemberID?, now: Instant) -> String? {
        guard role == .leader else { return "this node does not lead" }
        if target == me { return "\(configuration.name(me)) leads already" }
        let candidates = target.map { [$0] } ?? configuration.peers
        if candidates.contains(where: { isHeard($0, now: now) }) { return nil }
        return target.map { "\(configuration.name($0)) has not been heard from" } ?? "no other node has been heard from"
    }

    /// This member leads, may own the VIP, and its fence hasn't got it for a while.
    public func lacksVIP(now: Instant) -> Bool {
        vipMissingSince.map { $0.duration(to: now) > .milliseconds(500) } ?? false
    }

    /// Neither the lead nor the VIP is here (any more).
    public var isIdle: Bool { role != .leader && heldUntil == nil && !holdsAddress }

    /// This member gave the VIP away in a planned move and goes on serving the connections it had.
    public var isDraining: Bool { drainedTerm > 0 }

    /// Why this member neither votes nor leads; nil when its storage works.
    public var storageProblem: String? { storageFault }
}
