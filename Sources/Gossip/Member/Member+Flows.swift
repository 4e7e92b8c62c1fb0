// Member+Flows: connections that outlive a move of the VIP, planned (2.5 of the design) or not.
//
//   n1 leads ──timeoutNow, keepsFlows──▶ n2 campaigns, leads: forwards to n1 what began elsewhere
//      │ n2's first heartbeat: `.yield`: n1 answers no ARP any more, serves what still reaches it
//      ▼
//   n1 drains, says so in its digests (drainedTerm: the term it led) ── `.drained` ──▶ digest says 0, n2 stops
//      │ once everybody must have heard that: what came to n1 meanwhile may have been for an earlier owner
//      ▼
//   `.drop`
//
// Who lost the lead because it stood still for a moment, or wasn't heard, has connections as well. The new leader expects
// that, and sends it what nobody else knows from the first moment, for as long as an election may take; the old one
// says that it drains as soon as it is awake, and yields when it hears its successor. A packet on the way to one that is
// still asleep, or dead, is lost and sent again; a reset would be final.
//
// Moves may follow each other before the first one's connections are over. Then each node that has some of an earlier
// term passes on what it doesn't know to the one that drains a still earlier term: the owner first, then down the terms.
// Terms only go down on the way, so no packet goes in circles.
//
// A node that comes to own the VIP again is at the head of the chain and, until its next digest, lower down, too: what it
// owned before, clients send to the node before it until they hear who owns the VIP, and that one must pass it back. So
// each node looks at who sent a packet. What comes from a node further down goes on below that one, for it has been
// there; what comes from one further up goes on below this node, past those that have led since: they are further up, too.
// n1, n3 and n2 own the VIP one after the other, then n1 again:
//
//   client ─▶ n1, owner again ──▶ n2 ─ (from n1: not back to it) ─▶ n3
//   client ─▶ n2, which it takes for the owner ──▶ n1, if it is n1's ─ (from n2: what is below that) ─▶ n3

extension Member {
    /// In a move to this member (nil: to anyone) connections can go on: both have a gate, one to be silent behind, one to
    /// forward with, and they are neighbours.
    public func movesKeepFlows(to target: MemberID?, now: Instant) -> Bool {
        let candidates = configuration.peers.filter { isHeard($0, now: now) && (target == nil || $0 == target) }
        return hasGate && configuration.hasVIP && !candidates.isEmpty
            && candidates.allSatisfy(isGatedNeighbour)
    }

    /// It can forward to this member, and this member to it.
    func isGatedNeighbour(_ peer: MemberID) -> Bool {
        peers[peer.index].digest?.condition.hasGate ?? false && !offLink.contains(peer)
    }

    /// How long packets still go to a draining member that isn't heard of, and connections are worth keeping for a member
    /// that lost the VIP. Their clients send again and again meanwhile.
    static var flowPatience: Duration { .seconds(3) }

    /// As the new leader: what the old one keeps, or may keep, is forwarded from the first moment.
    mutating func takeOverFlows(now: Instant) {
        ownedUntil = nil
        strandedUntil = nil
        guard isTransferCampaign else { return expectFlows(now: now) }
        for peer in configuration.peers {
            peers[peer.index].drainedTerm = drainedTermAfterTransfer(peer)
            peers[peer.index].expectedUntil = nil
        }
    }

    private mutating func expectFlows(now: Instant) {
        guard let last = configuration.peers.max(by: { peers[$0.index].ledTerm < peers[$1.index].ledTerm }),
            peers[last.index].ledTerm > max(lastLedTerm, peers[last.index].drainedTerm), isGatedNeighbour(last)
        else { return }
        peers[last.index].drainedTerm = peers[last.index].ledTerm
        peers[last.index].expectedUntil = now.advanced(by: timing.electionTimeoutMax)
    }

    /// As a leader that leads no longer.
    mutating func strandFlows() {
        guard hasGate, !hasResigned, let ownedUntil else { return }
        strandedUntil = ownedUntil.advanced(by: Self.flowPatience)
    }

    /// The old owner was the head of the chain, and knows more of it than the last digests have told.
    private func drainedTermAfterTransfer(_ peer: MemberID) -> UInt64 {
        let known = peers[peer.index].drainedTerm
        guard let transfer, transfer.keepsFlows else { return known }
        if peer == transfer.from { return transfer.term }
        return transfer.drained.indices.contains(peer.index) ? max(known, transfer.drained[peer.index]) : known
    }

    /// The term whose connections this member is about to keep: deposed, it hasn't heard its successor yet. Were
    /// it silent about that, a digest of these milliseconds would end the forwarding that has just begun.
    var yieldingTerm: UInt64 {
        let isMoved = heldUntil != nil && movedTerm == lastLedTerm
        return hasGate && (isMoved || strandedUntil != nil) ? lastLedTerm : 0
    }

    mutating func learnDrained(_ peer: MemberID, _ digest: Digest) {
        if digest.drainedTerm > 0 {
            peers[peer.index].drainedTerm = digest.drainedTerm
            peers[peer.index].expectedUntil = nil
        } else if digest.term > peers[peer.index].drainedTerm, digest.owner != nil {
            // Not of the time before it let go. And if it leads again, not before it answers for the VIP: until clients have
            // heard that, packets of connections that are its own again still come here.
            peers[peer.index].drainedTerm = 0
            peers[peer.index].expectedUntil = nil
        }
    }

    /// Tells the fence where packets go that belong to no connection of this node, when that changes.
    mutating func forwardFlows(now: Instant) {
        if let strandedUntil, now >= strandedUntil { self.strandedUntil = nil }
        for peer in configuration.peers {
            guard let until = peers[peer.index].expectedUntil, now >= until else { continue }
            peers[peer.index].expectedUntil = nil
            peers[peer.index].drainedTerm = 0
        }
        guard hasGate, configuration.hasVIP else { return }
        let route = flowRoute(now: now)
        guard route != flowsGo else { return }
        flowsGo = route
        emit(.forward(to: route))
    }

    private func flowRoute(now: Instant) -> FlowRoute? {
        let isTaking = role == .candidate && isTransferCampaign && transfer?.keepsFlows ?? false
        let isHead = role == .leader || isTaking
        // Deposed in a move, it stays the owner until it hears its successor, and what reaches it goes where it went.
        let below = isHead ? term : max(drainedTerm, drainEnd?.term ?? 0, heldUntil == nil ? 0 : lastLedTerm)
        let chain = configuration.peers
            .map { peer in
                // The votes are still out, but the fence needs a moment to be ready for it.
                (peer: peer, term: isTaking ? drainedTermAfterTransfer(peer) : peers[peer.index].drainedTerm)
            }
            .filter { $0.term > 0 && ($0.term < below || breaks(.forwardsUpward)) && mayServe($0.peer, now: now) }
            .sorted { $0.term > $1.term }
            .map(\.peer)
        let led = peers.map(\.ledTerm)
        let hasRisen = { (peer: MemberID) in led[peer.index] > below }
        guard let first = chain.first(where: hasRisen) ?? chain.first else { return nil }
        let next = { (sender: MemberID) -> MemberID? in
            if let place = chain.firstIndex(of: sender), !hasRisen(sender) {
                return chain[(place + 1)...].first { !hasRisen($0) }
            }
            // With nobody else to ask, one that has risen may know more.
            return chain.first { $0 != sender && !hasRisen($0) } ?? (chain.contains(sender) ? sender : nil)
        }
        let detours = configuration.peers.map { FlowRoute.Detour(from: $0, to: next($0)) }.filter { $0.to != first }
        return FlowRoute(first, detours: detours)
    }

    /// What its kernel and fence serve is served while its main process stands still.
    private func mayServe(_ peer: MemberID, now: Instant) -> Bool {
        peers[peer.index].expectedUntil != nil
            || peers[peer.index].aliveAt.map { $0.duration(to: now) < max(Self.flowPatience, timing.silence) } ?? false
    }

    /// This member serves or passes on packets for the VIP, which another one owns.
    public var keepsFlows: Bool { drainedTerm > 0 || drainEnd != nil }

    /// The kept connections are over.
    mutating func drained(now: Instant) {
        guard drainedTerm > 0 else { return }
        // Three digests: one may be lost.
        drainEnd = (drainedTerm, now.advanced(by: timing.digest * 3))
        drainedTerm = 0
        nextDigest = now
    }

    mutating func endDrain(now: Instant) {
        guard let end = drainEnd, now >= end.at else { return }
        drainEnd = nil
        fenceOrder += 1
        emit(.drop(order: fenceOrder))
    }
}
