// Member+Offer: entries for a candidate that nobody can vote for because its log is behind.
//
// Under a partial partition the only member that reaches a majority may lack entries that the others have and nobody
// has committed; then nobody could ever lead (the constrained election of Ng, Haridi & Carbone, "Omni-Paxos", 2023).
// So who refuses a pre-vote for this reason alone sends what is missing, and the candidate takes it if that log's end is
// newer than its own. That is as harmless as hearing the leader who wrote it: whatever was or will be committed up to
// the candidate's own last term is in every log that ends in a later term, or further on in the same one (dissertation,
// 3.6.3). Nothing is acknowledged by it. Committed entries go another way (`catchUp`).

extension Member {
    /// - Parameter request: a pre-vote refused for nothing but its log.
    func offer(for request: VoteRequest) -> Message? {
        let isPrefix = request.lastIndex >= commitIndex && log.term(at: request.lastIndex) == request.lastTerm
        let previous = isPrefix ? request.lastIndex : commitIndex
        guard let previousTerm = log.term(at: previous) else { return nil }
        let entries = log.slice(from: previous + 1, upTo: log.lastIndex, bytesMax: Self.entriesBytesMax)
        return entries.isEmpty
            ? nil : .offer(Offer(previousIndex: previous, previousTerm: previousTerm, entries: entries))
    }

    mutating func receive(_ offer: Offer, now: Instant) {
        guard role == .preCandidate, mayCampaign, let last = offer.entries.last else { return }
        let isNewer = (last.term, last.index) > (log.lastTerm, log.lastIndex)
        let isMatching = offer.previousIndex <= commitIndex || log.term(at: offer.previousIndex) == offer.previousTerm
        guard isNewer, isMatching else { return }
        // A leader of an earlier term must not take what it finds here for its own log.
        if last.term > term { becomeFollower(term: last.term, leader: nil, now: now) }
        insert(offer.entries.filter { $0.index > commitIndex })
        electionDeadline = now
    }
}
