// StorageImage: what the log file says, taken together. Recovery builds one from the file; the storage thread keeps
// one up to date, so that it can write the file anew at any time. Pure.

import Gossip

struct StorageImage: Equatable, Sendable {
    /// Which node of which cluster wrote this: `web/n1`; empty when it wasn't told.
    var identity = ""
    /// The highest boot id used so far.
    var boot: UInt64 = 0
    var state = RecoveredState()

    /// The index after which the next entry comes.
    var lastIndex: UInt64 { state.entries.last?.index ?? state.snapshot?.lastIndex ?? 0 }

    /// Entries or a snapshot that don't follow from what is there.
    struct Disorder: Error, Equatable, CustomStringConvertible {
        var description: String
    }

    mutating func apply(_ operation: StorageOperation) throws(Disorder) {
        switch operation {
        case .vote(let term, let votedFor):
            guard term >= state.term else {
                throw Disorder(description: "a vote of term \(term) after term \(state.term)")
            }
            state.term = term
            state.votedFor = votedFor
        case .append(let entries): try append(entries)
        case .snapshot(let snapshot, let discardsLog):
            let covered = discardsLog ? lastIndex : snapshot.lastIndex
            state.entries.removeAll { $0.index <= covered }
            state.snapshot = snapshot
        case .joined(let votesFromTerm): state.votesFromTerm = votesFromTerm
        }
    }

    private mutating func append(_ entries: [Entry]) throws(Disorder) {
        guard let first = entries.first else { return }
        let base = state.snapshot?.lastIndex ?? 0
        guard first.index > base, first.index <= lastIndex + 1 else {
            throw Disorder(
                description: "an entry of index \(first.index) where \(base + 1) to \(lastIndex + 1) may follow")
        }
        for (entry, index) in zip(entries, first.index...) where entry.index != index {
            throw Disorder(description: "an entry of index \(entry.index) where \(index) must follow")
        }
        state.entries.removeSubrange(Int(first.index - base - 1)...)
        state.entries += entries
    }
}
