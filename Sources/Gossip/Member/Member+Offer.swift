// Member+Offer: entries for a candidate that nobody can vote for because its log is behind.
//
// Under a partial partition the only member that reaches a majority may lack entries that the others have and nobody
// has committed; then nobody could ever lead (the constrained election of Ng, Haridi & Carbone, "Omni-Paxos", 2023).
// So who refuses a pre-vote for this reason alone sends what is missing, and the candidate takes it if that log's end is
// newer than its own. That is as harmless as hearing the leader who wrote it: whatever was or will be committed up to
// the candidate's own last term is in every log that ends in a later term, or further on in the same one (dissertation,
// 3.6.3). Nothing is acknowledged by it. Committed entries go another way (`catchUp`).
//
// Often one datagram holds it all, or enough to be newer; the next pre-vote then asks for the rest. Where the logs part
// and what makes the other one newer comes datagrams later, the candidate keeps what it was offered beside its log, and
// asks for what follows:
//
//   candidate                                   voter
//      │ ── pre-vote: my log ends with 9@2 ──────▶ │ ends with 80@3, and can't tell where the two part
//      │ ◀──────── offer: 5@1 … 24@1 ───────────── │
//      │ ── offer wanted after 24 ───────────────▶ │ at once, or when a pre-vote's offer begins again: some got lost
//      │ ◀──────── offer: 25@1 … 44@1 ──────────── │
//      ⋮                                           ⋮
//      │ ◀──────── offer: 65@1 … 80@3 ──────────── │
//      takes 5 to 80 in one go

/// A part of another's log that isn't newer than the own one yet.
struct OfferedTail: Sendable {
    var offer: Offer
    /// When it last grew; what doesn't is given up, since the other's log may have become another.
    var grewAt: Instant
    var askedAt: Instant

    var end: UInt64 { offer.previousIndex + UInt64(offer.entries.count) }
}

extension Member {
    // MARK: The voter

    /// - Parameter request: a pre-vote refused for nothing but its log.
    func offer(for request: VoteRequest) -> Message? {
        let isPrefix = request.lastIndex >= commitIndex && log.term(at: request.lastIndex) == request.lastTerm
        return offer(after: isPrefix ? request.lastIndex : commitIndex)
    }

    private func offer(after previous: UInt64) -> Message? {
        guard let previousTerm = log.term(at: previous) else { return nil }
        let entries = log.slice(from: previous + 1, upTo: log.lastIndex, bytesMax: Self.entriesBytesMax)
        return entries.isEmpty
            ? nil : .offer(Offer(previousIndex: previous, previousTerm: previousTerm, entries: entries))
    }

    /// A leader's own rounds bring all there is.
    mutating func receiveOfferWanted(after index: UInt64, from candidate: MemberID) {
        guard role != .leader, index >= commitIndex, let offer = offer(after: index) else { return }
        send(offer, to: candidate)
    }

    // MARK: The candidate

    mutating func receive(_ offer: Offer, from sender: MemberID, now: Instant) {
        guard role == .preCandidate, mayCampaign, let whole = joined(offer, from: sender) else { return }
        let known = whole.entries.prefix { isHere($0.index, term: $0.term) }
        let tail = Offer(
            previousIndex: known.last?.index ?? whole.previousIndex,
            previousTerm: known.last?.term ?? whole.previousTerm, entries: Array(whole.entries[known.endIndex...]))
        guard let last = tail.entries.last, (last.term, last.index) > (log.lastTerm, log.lastIndex) else {
            return keep(OfferedTail(offer: tail, grewAt: now, askedAt: now), from: sender, now: now)
        }
        forgetOffers()
        // What differs from this log within what is committed here is of a leader that lost: `catchUp` tells its author.
        guard log.term(at: tail.previousIndex) == tail.previousTerm else { return }
        // A leader of an earlier term must not take what it finds here for its own log.
        if last.term > term { becomeFollower(term: last.term, leader: nil, now: now) }
        insert(tail.entries)
        electionDeadline = now
    }

    /// It is in this log, or where nothing else can be: what is committed is looked at once it is followed by something new.
    private func isHere(_ index: UInt64, term: UInt64) -> Bool { index <= commitIndex || log.term(at: index) == term }

    /// The offer with what it follows on, from a place on that is in this log; nil when it follows on nothing.
    private func joined(_ offer: Offer, from sender: MemberID) -> Offer? {
        if isHere(offer.previousIndex, term: offer.previousTerm) { return offer }
        guard let kept = peers[sender.index].offered?.offer, isHere(kept.previousIndex, term: kept.previousTerm),
            let place = kept.entries.firstIndex(where: {
                $0.index == offer.previousIndex && $0.term == offer.previousTerm
            })
        else { return nil }
        return Offer(
            previousIndex: kept.previousIndex, previousTerm: kept.previousTerm,
            entries: kept.entries[...place] + offer.entries)
    }

    /// Keeps what can't be taken yet, and asks for what follows it.
    private mutating func keep(_ tail: OfferedTail, from sender: MemberID, now: Instant) {
        guard tail.offer.entries.count <= Limits.offeredEntriesMax else { return }
        if let kept = peers[sender.index].offered, kept.end >= tail.end,
            isHere(kept.offer.previousIndex, term: kept.offer.previousTerm),
            now < kept.grewAt.advanced(by: timing.electionTimeoutMax)
        {
            guard now >= kept.askedAt.advanced(by: timing.heartbeat / 2) else { return }
            peers[sender.index].offered?.askedAt = now
        } else {
            peers[sender.index].offered = tail
        }
        guard let end = peers[sender.index].offered?.end else { return }
        send(.offerWanted(after: end), to: sender)
    }

    mutating func forgetOffers() {
        for index in peers.indices { peers[index].offered = nil }
    }
}
