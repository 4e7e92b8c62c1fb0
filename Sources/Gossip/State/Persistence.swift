// Persistence: what the core asks its shell to keep on disk, and what it gets back at start.
//
// The contract: operations are carried out in the order asked; after all operations of a `persist` effect are
// durable (fsynced), the shell steps the core with `.persisted(ticket:)`. The core holds back every message that
// speaks of them until then. A failed write is `.storageFailed`, after which the shell performs nothing until the
// core (or an operator) retries.

/// One thing to make durable.
public enum StorageOperation: Equatable, Sendable {
    /// The current term and who got this node's vote in it (a node's id from the configuration).
    case vote(term: UInt64, votedFor: String?)
    /// Entries in index order. The first may replace one already stored: everything from its index on goes first.
    case append([Entry])
    /// The table as of `lastIndex`; stored entries up to and including it may go. When `discardsLog` is set, the
    /// stored entries after it go too (a snapshot that a leader sent).
    case snapshot(Snapshot, discardsLog: Bool)
    /// All that the cluster ever agreed on is on this disk: the node takes part in elections, from that term on.
    case joined(votesFromTerm: UInt64)
}

/// The backend table at one log index.
public struct Snapshot: Equatable, Sendable {
    public let lastIndex: UInt64
    public let lastTerm: UInt64
    /// BackendTable's encoding; at most `Limits.snapshotBytesMax`.
    public let bytes: [UInt8]

    public init(lastIndex: UInt64, lastTerm: UInt64, bytes: [UInt8]) {
        self.lastIndex = lastIndex
        self.lastTerm = lastTerm
        self.bytes = bytes
    }
}

/// What storage held when the process started.
public struct RecoveredState: Equatable, Sendable {
    public var term: UInt64
    public var votedFor: String?
    public var snapshot: Snapshot?
    /// Contiguous, the first one right after the snapshot (or index 1).
    public var entries: [Entry]
    /// From which term on this node votes; nil: it began with an empty disk and hasn't been brought up to date.
    public var votesFromTerm: UInt64?

    public init(
        term: UInt64 = 0, votedFor: String? = nil, snapshot: Snapshot? = nil, entries: [Entry] = [],
        votesFromTerm: UInt64? = nil
    ) {
        self.term = term
        self.votedFor = votedFor
        self.snapshot = snapshot
        self.entries = entries
        self.votesFromTerm = votesFromTerm
    }
}
