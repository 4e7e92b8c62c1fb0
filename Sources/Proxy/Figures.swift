// Figures: the data plane's counters, as they stood a moment ago, summed over the workers.
// Read by the control thread for status and metrics; workers never wait for a reader.

/// A reading of all counters. Those without "now" in their text only grow while the data plane lives.
public struct Figures: Sendable, Equatable {
    /// Client connections open now, idle ones included.
    public var connections = 0
    /// Client connections without a request now.
    public var idle = 0
    /// Requests being worked on now.
    public var inFlight = 0
    /// Client connections accepted.
    public var accepted: UInt64 = 0
    /// Requests whose head was complete and well-formed.
    public var requests: UInt64 = 0
    /// Responses sent by status class: index 1 for 1xx … 5 for 5xx (index 0 unused). Those made here are included.
    public var responses: [UInt64] = Array(repeating: 0, count: 6)
    /// Requests tried on a further server.
    public var retries: UInt64 = 0
    /// Retries not made because the budget was used up.
    public var retriesDenied: UInt64 = 0
    /// Requests answered 502, 503 or 504 here, and responses cut short by a server.
    public var errors: UInt64 = 0
    /// Requests refused as malformed or beyond a limit.
    public var refused: UInt64 = 0
    /// Requests whose client went away before its response was complete.
    public var aborted: UInt64 = 0
    /// Bytes from clients and to clients.
    public var bytesIn: UInt64 = 0
    public var bytesOut: UInt64 = 0
    public var slow = SlowFigures()
    public var overLimit = OverLimitFigures()
    public var accepting = AcceptFigures()
    public var accessLog = AccessLogFigures()
    /// By server id, for every server of a published table.
    public var servers: [String: ServerFigures] = [:]
    /// By name, for those of the settings.
    public var backends: [String: BackendFigures] = [:]
    public var frontends: [String: FrontendFigures] = [:]

    public init() {}
}

/// What waits for a backend's servers.
public struct BackendFigures: Sendable, Equatable {
    /// Requests (TCP: connections) that wait now because every server is full.
    public var queued = 0
    /// How long the first of them has waited, in milliseconds.
    public var longestWaitMs = 0
    /// That ever waited.
    public var everQueued: UInt64 = 0
    /// That waited for `queueMs` in vain.
    public var queueTimeouts: UInt64 = 0
    /// That found the queue full.
    public var queueFull: UInt64 = 0

    public init() {}
}

/// A frontend's clients.
public struct FrontendFigures: Sendable, Equatable {
    /// Open now.
    public var connections = 0
    /// Workers that don't accept now because the frontend has all the clients it may have.
    public var pausedWorkers = 0
    /// How often one stopped.
    public var pauses: UInt64 = 0

    public init() {}
}

/// Clients that were too slow and got 408 or were cut off.
public struct SlowFigures: Sendable, Equatable {
    /// With a request's head, within `requestMs`.
    public var heads: UInt64 = 0
    /// With a request's body: silent for `clientMs`, or below the minimum rate.
    public var bodies: UInt64 = 0
    /// In taking a response, likewise.
    public var readers: UInt64 = 0

    public init() {}
}

/// What was refused because its source was at a limit.
public struct OverLimitFigures: Sendable, Equatable {
    /// Connections closed at once: the source had as many as it may have.
    public var connections: UInt64 = 0
    /// Connections closed at once: the source opened them too fast.
    public var connectionRate: UInt64 = 0
    /// Requests answered 429.
    public var requestRate: UInt64 = 0

    public init() {}
}

/// Whether new connections are accepted.
public struct AcceptFigures: Sendable, Equatable {
    /// Workers that accept none now.
    public var paused = 0
    /// Pauses of `ProxyLimits.acceptPauseMs` because the system had no descriptor or memory left.
    public var pausesSystem: UInt64 = 0
    /// Pauses because a worker had `connectionsMax` clients.
    public var pausesFull: UInt64 = 0

    public init() {}
}

/// One server's counters, of the connections this node made.
public struct ServerFigures: Sendable, Equatable {
    /// Requests being worked on now.
    public var sessions = 0
    /// Connections open now, idle ones included.
    public var connections = 0
    /// Requests sent to it.
    public var requests: UInt64 = 0
    /// Requests that left it for another server, or for a fresh connection.
    public var retries: UInt64 = 0
    /// Failed connection attempts, broken or malformed responses, timeouts.
    public var errors: UInt64 = 0
    /// Times a worker set it aside for errors in a row.
    public var outliers: UInt64 = 0
    /// Errors it made one after the other up to now, all workers together; counted where `outlier` is configured.
    public var errorsInRow = 0

    /// How long its answers took.
    public var latency = LatencyFigures()

    public init() {}
}
