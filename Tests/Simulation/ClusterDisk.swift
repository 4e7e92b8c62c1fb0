// ClusterDisk: a node's storage, with the moments between asking and being durable.
//
// It keeps the contract of Persistence.swift: operations in order, completion after all of a ticket are durable. A
// crash loses what wasn't durable, except a prefix that happened to reach the disk, whose last write may be torn. A
// disk that refuses keeps what it was asked and writes it, in order, once it works again.

import Gossip

struct ClusterDisk {
    private(set) var durable = RecoveredState()
    private var pending: [(ticket: UInt64, operations: [StorageOperation])] = []
    private var busyUntil: UInt64 = 0
    /// Writes take this long instead of what is usual.
    var slowness: ClosedRange<UInt64>?
    /// Nothing can be written at present.
    var refuses = false
    /// Grew when a write failed and shrinks when all is written.
    var hasFailed = false

    var pendingOperations: Int { pending.reduce(0) { $0 + $1.operations.count } }
    var lastTicket: UInt64? { pending.last?.ticket }

    /// Returns when the operations will be durable.
    mutating func submit(_ operations: [StorageOperation], ticket: UInt64, now: UInt64, takes: UInt64) -> UInt64 {
        pending.append((ticket, operations))
        busyUntil = max(busyUntil, now) + takes
        return busyUntil
    }

    mutating func complete(ticket: UInt64) {
        while let first = pending.first, first.ticket <= ticket {
            for operation in first.operations { apply(operation) }
            pending.removeFirst()
        }
    }

    /// - Parameters:
    ///   - count: how many of the pending operations were durable after all.
    ///   - torn: decides how much of the write after them is.
    mutating func crash(keeping count: Int, torn: UInt64) {
        let operations = pending.flatMap(\.operations)
        for operation in operations.prefix(count) { apply(operation) }
        // Of a write that is cut, the records that are whole count.
        if count < operations.count, case .append(let entries) = operations[count] {
            apply(.append(Array(entries.prefix(Int(torn % UInt64(entries.count + 1))))))
        }
        pending = []
        busyUntil = 0
        hasFailed = false
    }

    /// It is quick again: what was asked so far is done by then.
    mutating func recover(by time: UInt64) {
        refuses = false
        slowness = nil
        busyUntil = min(busyUntil, time)
    }

    /// Another disk took an earlier one's place.
    private(set) var wasReplaced = false

    /// Another disk takes its place.
    mutating func replace() {
        wasReplaced = true
        durable = RecoveredState()
        pending = []
        busyUntil = 0
        hasFailed = false
    }

    /// Whether this entry, or a snapshot that covers it, survives a crash now.
    func holds(_ entry: Entry) -> Bool {
        if entry.index <= durable.snapshot?.lastIndex ?? 0 { return true }
        guard let first = durable.entries.first?.index, entry.index >= first else { return false }
        let place = Int(entry.index - first)
        return place < durable.entries.count && durable.entries[place] == entry
    }

    private mutating func apply(_ operation: StorageOperation) {
        switch operation {
        case .vote(let term, let votedFor):
            durable.term = term
            durable.votedFor = votedFor
        case .append(let entries):
            guard let first = entries.first else { return }
            while let last = durable.entries.last, last.index >= first.index { durable.entries.removeLast() }
            let base = durable.snapshot?.lastIndex ?? 0
            let last = durable.entries.last?.index ?? base
            durable.entries += entries.filter { $0.index > base }
            precondition(first.index <= last + 1, "a hole in the stored log, after \(last): \(first.index)")
        case .snapshot(let snapshot, let discardsLog):
            durable.snapshot = snapshot
            durable.entries.removeAll { discardsLog || $0.index <= snapshot.lastIndex }
        case .joined(let votesFromTerm): durable.votesFromTerm = votesFromTerm
        }
    }
}

extension ClusterWorld {
    /// The disk is done with a ticket, or says that it can't be.
    func written(_ node: Int, ticket: UInt64) {
        guard nodes[node].disk.refuses || nodes[node].disk.hasFailed else {
            nodes[node].disk.complete(ticket: ticket)
            return step(node, .persisted(ticket: ticket))
        }
        if !nodes[node].disk.hasFailed {
            nodes[node].disk.hasFailed = true
            plan(.retry(node: node, incarnation: nodes[node].incarnation), at: now + 50_000_000)
        }
        step(node, .storageFailed(reason: "no space left on device"))
    }

    /// All that was refused is tried again, in order.
    func retryDisk(_ node: Int) {
        if nodes[node].disk.refuses {
            return plan(.retry(node: node, incarnation: nodes[node].incarnation), at: now + 50_000_000)
        }
        nodes[node].disk.hasFailed = false
        guard let ticket = nodes[node].disk.lastTicket else { return }
        nodes[node].disk.complete(ticket: ticket)
        step(node, .persisted(ticket: ticket))
    }
}
