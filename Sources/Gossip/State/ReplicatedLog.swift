// ReplicatedLog: Raft's log in memory, what of it is durable, and what is committed.
//
// Indices begin at 1. Everything up to `baseIndex` has been replaced by a snapshot. `durableIndex` follows the
// disk: entries count towards a majority only once they are durable here (dissertation, 10.2.1 allows the leader
// to send them earlier, which we do).

package struct ReplicatedLog: Sendable {
    package private(set) var baseIndex: UInt64
    private(set) var baseTerm: UInt64
    /// `entries[0]` has index `baseIndex + 1`.
    private(set) var entries: [Entry]
    package private(set) var durableIndex: UInt64
    /// Writes under way: the ticket, and the last index it makes durable.
    private var writes: [(ticket: UInt64, upTo: UInt64)] = []

    init(recovered: RecoveredState) {
        baseIndex = recovered.snapshot?.lastIndex ?? 0
        baseTerm = recovered.snapshot?.lastTerm ?? 0
        entries = recovered.entries
        durableIndex = baseIndex + UInt64(recovered.entries.count)
        precondition(entries.first.map { $0.index == baseIndex + 1 } ?? true)
    }

    package var lastIndex: UInt64 { baseIndex + UInt64(entries.count) }
    package var lastTerm: UInt64 { entries.last?.term ?? baseTerm }

    /// The term of the entry at `index`; nil when it isn't there (any more).
    package func term(at index: UInt64) -> UInt64? {
        if index == baseIndex { return baseTerm }
        return self[index]?.term
    }

    package subscript(index: UInt64) -> Entry? {
        guard index > baseIndex, index <= lastIndex else { return nil }
        return entries[Int(index - baseIndex - 1)]
    }

    /// The candidate's log holds at least what this one does (dissertation, 3.6.1).
    func isCovered(byLastIndex index: UInt64, term: UInt64) -> Bool {
        (term, index) >= (lastTerm, lastIndex)
    }

    /// Entries from `index` on whose bytes fit a datagram; at least one if there is any.
    func slice(from index: UInt64, upTo last: UInt64, bytesMax: Int) -> [Entry] {
        var slice: [Entry] = []
        var bytes = 0
        var next = index
        while next <= last, let entry = self[next] {
            bytes += entry.encode().count
            if bytes > bytesMax, !slice.isEmpty { break }
            slice.append(entry)
            next += 1
        }
        return slice
    }

    /// Adds an entry at the end.
    mutating func append(_ entry: Entry) {
        precondition(entry.index == lastIndex + 1)
        entries.append(entry)
    }

    /// Drops the entries from `index` on.
    mutating func truncate(from index: UInt64) {
        precondition(index > baseIndex)
        guard index <= lastIndex else { return }
        entries.removeSubrange(Int(index - baseIndex - 1)...)
        durableIndex = min(durableIndex, index - 1)
        for place in writes.indices { writes[place].upTo = min(writes[place].upTo, index - 1) }
    }

    /// Notes that everything up to the end is being written under this ticket.
    mutating func writing(ticket: UInt64) { writes.append((ticket, lastIndex)) }

    /// All writes up to this ticket are durable.
    mutating func persisted(ticket: UInt64) {
        while let first = writes.first, first.ticket <= ticket {
            durableIndex = max(durableIndex, first.upTo)
            writes.removeFirst()
        }
    }

    /// Forgets entries up to `index`, whose effects a snapshot holds.
    mutating func compact(to index: UInt64) {
        guard index > baseIndex, let term = term(at: index) else { return }
        entries.removeFirst(Int(index - baseIndex))
        baseIndex = index
        baseTerm = term
        // A snapshot is written before the entries it replaces are dropped on disk.
        durableIndex = max(durableIndex, baseIndex)
    }

    /// Starts over after a snapshot that a peer sent.
    mutating func reset(to snapshot: Snapshot) {
        entries = []
        writes = []
        baseIndex = snapshot.lastIndex
        baseTerm = snapshot.lastTerm
        durableIndex = min(durableIndex, baseIndex)
    }
}
