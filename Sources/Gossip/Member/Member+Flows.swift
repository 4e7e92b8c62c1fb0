// Member+Flows: connections that outlive a planned move (2.5 of the design).
//
//   n1 leads ──timeoutNow, keepsFlows──▶ n2 campaigns, leads: forwards to n1 what began elsewhere
//      │ n2's first heartbeat: `.yield`: n1 answers no ARP any more, serves what still reaches it
//      ▼
//   n1 drains, says so in its digests (drainedTerm: the term it led) ── `.drained` ──▶ digest says 0, n2 stops
//      │ once everybody must have heard that: what came to n1 meanwhile may have been for an earlier owner
//      ▼
//   `.drop`
//
// Moves may follow each other before the first one's connections are over. Then each node that has some of an earlier
// term passes on what it doesn't know to the one that drains a still earlier term: the owner first, then down the terms.
// Terms only go down on the way, so no packet goes in circles; and a node that owns the VIP again is at the head of it.
// For the moment in which it comes to own it again (until its next digest) the node before it still passes on to it what
// it doesn't know: a packet of nobody's connection goes to and fro then until its TTL ends, one of its own is saved.

extension Member {
    /// In a move to this member (nil: to anyone) connections can go on: both have a gate, one to be silent behind, one to
    /// forward with.
    public func movesKeepFlows(to target: MemberID?, now: Instant) -> Bool {
        let candidates = configuration.peers.filter { isHeard($0, now: now) && (target == nil || $0 == target) }
        return hasGate && configuration.hasVIP && !candidates.isEmpty
            && candidates.allSatisfy { peers[$0.index].digest?.condition.hasGate ?? false }
    }

    /// As the new leader after a planned move: what the old one keeps is forwarded from the first moment.
    mutating func takeOverFlows() {
        guard isTransferCampaign, let transfer, transfer.keepsFlows else { return }
        peers[transfer.from.index].drainedTerm = transfer.term
    }

    /// The term whose connections this member is about to keep: deposed in a move, it hasn't heard its successor yet. Were
    /// it silent about that, a digest of these milliseconds would end the forwarding that has just begun.
    var yieldingTerm: UInt64 { heldUntil != nil && hasGate && movedTerm == lastLedTerm ? lastLedTerm : 0 }

    mutating func learnDrained(_ peer: MemberID, _ digest: Digest) {
        if digest.drainedTerm > 0 {
            peers[peer.index].drainedTerm = digest.drainedTerm
        } else if digest.term > peers[peer.index].drainedTerm, digest.owner != nil {
            // Not of the time before it let go. And if it leads again, not before it answers for the VIP: until clients have
            // heard that, packets of connections that are its own again still come here.
            peers[peer.index].drainedTerm = 0
        }
    }

    /// Tells the fence where packets go that belong to no connection of this node, when that changes.
    mutating func forwardFlows(now: Instant) {
        guard hasGate, configuration.hasVIP else { return }
        let target = forwardTarget(now: now)
        guard target != forwardsTo else { return }
        forwardsTo = target
        emit(.forward(to: target))
    }

    private func forwardTarget(now: Instant) -> MemberID? {
        // Deposed in a move, it stays the owner until it hears its successor, and what reaches it goes where it went.
        let below = role == .leader ? term : max(drainedTerm, drainEnd?.term ?? 0, heldUntil == nil ? 0 : lastLedTerm)
        return configuration.peers
            .filter {
                let drained = peers[$0.index].drainedTerm
                return drained > 0 && (drained < below || breaks(.forwardsUpward)) && isAlive($0, now: now)
            }
            .max { peers[$0.index].drainedTerm < peers[$1.index].drainedTerm }
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
