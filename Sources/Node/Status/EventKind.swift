// EventKind: the one vocabulary of what happens. The log, the status, the page, the metrics and `notify` use these words, and
// cluster/OPERATIONS.md explains each. Names are a promise to users: add, never rename.
//
// A StatusEvent's kind is a text all the same: other nodes may run a version that knows more.

import Gossip

enum EventKind: String, Sendable, CaseIterable {
    case election
    case leaderElected = "leader-elected"
    case leaderLost = "leader-lost"
    case leaderForced = "leader-forced"
    case handover
    case drain
    case vipAcquired = "vip-acquired"
    case vipReleased = "vip-released"
    case vipMoved = "vip-moved"
    case vipFailed = "vip-failed"
    case vipContested = "vip-contested"
    case vipRecovered = "vip-recovered"
    case vipRestored = "vip-restored"
    case vipSwept = "vip-swept"
    case fenceDied = "fence-died"
    case nodeUp = "node-up"
    case nodeDown = "node-down"
    case serverUp = "server-up"
    case serverDown = "server-down"
    case serverOutlier = "server-outlier"
    case panic
    case panicOver = "panic-over"
    case admin
    case scaling
    case reload
    case listener
    case accept
    case accessLog = "access-log"
    case storage
    case stopped

    /// How much it matters, as the page colours it.
    enum Tone { case good, odd, bad, plain }

    var tone: Tone {
        switch self {
        case .serverDown, .nodeDown, .vipFailed, .vipContested, .leaderLost, .leaderForced, .fenceDied, .panic: .bad
        case .serverUp, .nodeUp, .leaderElected, .vipAcquired, .vipRecovered: .good
        case .admin, .scaling, .handover, .vipMoved, .vipReleased, .serverOutlier, .storage: .odd
        case .election, .drain, .vipRestored, .vipSwept, .panicOver, .reload, .listener, .accept, .accessLog, .stopped:
            .plain
        }
    }

    /// What the cluster's core calls it.
    init(_ kind: Note.Kind) {
        self =
            switch kind {
            case .leaderElected: .leaderElected
            case .leaderLost: .leaderLost
            case .termStarted: .election
            case .vipAcquired: .vipAcquired
            case .vipReleased: .vipReleased
            case .vipFailed: .vipFailed
            case .serverUp: .serverUp
            case .serverDown: .serverDown
            case .adminChange: .admin
            case .peerUp: .nodeUp
            case .peerDown: .nodeDown
            case .handover: .handover
            case .forced: .leaderForced
            case .scaling: .scaling
            case .storage: .storage
            }
    }
}

/// How often something happened on a node since its start.
struct EventCount: Sendable, Equatable {
    var kind: EventKind
    var count: UInt64
}
