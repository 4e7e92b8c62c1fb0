// ClusterDisk: a node's storage, with the moments between asking and being durable.
//
// It keeps the contract of Persistence.swift: operations in order, completion after all of a ticket are durable. A
// crash loses what wasn't durable, except a prefix that happened to reach the disk.

import Gossip

struct ClusterDisk {
    private(set) var durable = RecoveredState()
    private var pending: [(ticket: UInt64, operations: [StorageOperation])] = []
    private var busyUntil: UInt64 = 0

    var pendingOperations: Int { pending.reduce(0) { $0 + $1.operations.count } }

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

    /// - Parameter count: how many of the pending operations were durable after all.
    mutating func crash(keeping count: Int) {
        for operation in pending.flatMap(\.operations).prefix(count) { apply(operation) }
        pending = []
        busyUntil = 0
    }

    /// Whether this entry, or a snapshot that covers it, survives a crash now.
    func holds(_ entry: Entry) -> Bool {
        if entry.index <= durable.snapshot?.lastIndex ?? 0 { return true }
        return durable.entries.contains { $0.index == entry.index && $0 == entry }
    }

    private mutating func apply(_ operation: StorageOperation) {
        switch operation {
        case .vote(let term, let votedFor):
            durable.term = term
            durable.votedFor = votedFor
        case .append(let entries):
            guard let first = entries.first else { return }
            durable.entries.removeAll { $0.index >= first.index }
            let base = durable.snapshot?.lastIndex ?? 0
            let last = durable.entries.last?.index ?? base
            durable.entries += entries.filter { $0.index > base }
            precondition(first.index <= last + 1, "a hole in the stored log, after \(last): \(first.index)")
        case .snapshot(let snapshot, let discardsLog):
            durable.snapshot = snapshot
            durable.entries.removeAll { discardsLog || $0.index <= snapshot.lastIndex }
        }
    }
}
