// WorkerSettings: what a worker runs by, as one snapshot that replaces the one before, and what it makes of it.
//
// The control thread makes the snapshot and never changes it again. A worker takes it over between two events
// (Worker+Settings) and turns it into flat tables: what the request path asks is a number in a slot.

/// Everything a worker is told of the file.
struct WorkerSettings: Sendable {
    /// Counts up; the worker says which one it runs by.
    let generation: Int
    let frontends: [FrontendEntry]
    let backends: [BackendEntry]
    let timeouts: ProxyTimeouts
    let limits: ProxyLimits
    let accessLog: AccessLogSettings?
}

/// What all workers share.
struct WorkerShares: Sendable {
    let suspicions: SuspicionBox
    let sources: SourceTable
    let hash: SourceHash
    let log: AccessLog
    let places: PlaceTable
    /// Of the workers' mailboxes.
    let wakes: [Int32]
}

struct FrontendEntry: Sendable {
    let slot: Int
    let settings: FrontendSettings
    /// The slot of its backend.
    let backend: Int
    /// The slots of its routes' backends, in their order.
    let routes: [Int]
    let socket: ListenerSocket
}

struct BackendEntry: Sendable {
    let slot: Int
    let settings: BackendSettings
}

/// What a worker keeps for a frontend. Connections name it by its slot; it outlives its place in the settings until
/// they have ended.
struct FrontendState: BitwiseCopyable {
    /// The listening socket, -1 when there is none (any more).
    var listener: Int32 = -1
    /// The slot of the backend that gets the requests.
    var backend: Int32 = 0
    /// Bytes are forwarded as they come.
    var isTCP = false
    /// It is no longer in the settings: each response tells its client to close.
    var isLeaving = true
    /// Its clients are under limits: `Worker.sourceLimits`.
    var limitsSources = false
    /// Its clients are counted, all workers together; it has all it may have, and doesn't accept.
    var isLimited = false
    var isPaused = false
    /// When it stops listening, if it is leaving and still listens.
    var leaveMs = UInt64.max
    var policy = FieldPolicy()
    /// Its trusted proxies, in the worker's `tables.networks`.
    var firstNetwork: Int32 = 0
    var networkCount: Int32 = 0
    /// Behind them, the networks whose clients begin with a PROXY header.
    var proxyCount: Int32 = 0
    /// Behind them, those that are under no limit.
    var exemptCount: Int32 = 0
    /// Which requests go to other backends, in `tables.routes`.
    var firstRoute: Int32 = 0
    var routeCount: Int32 = 0
    /// Its first answer, in `tables.answers`.
    var firstAnswer: Int32 = 0

    /// Takes over what the settings say; connections that are open go by it from their next request.
    mutating func adopt(_ entry: FrontendEntry) {
        backend = Int32(entry.backend)
        isTCP = entry.settings.mode == .tcp
        isLeaving = false
        limitsSources = entry.settings.sources != nil
        isLimited = entry.settings.connectionsMax != nil
        leaveMs = .max
        policy = FieldPolicy(style: entry.settings.forwarded, hides: entry.settings.hides)
    }
}

/// What a worker keeps for a backend. Removed ones stay until their requests have ended.
struct BackendState {
    var balancer: Balancer
    /// Host for HTTP/1.0 requests that name none: the backend's name, in a buffer that is never given back.
    var host = Stretch()
    /// What a request's key is.
    var keyKind = RequestKey.none
    /// The name of the field or cookie that has it, in `host`'s buffer.
    var keyName = Stretch()
    /// The name of the cookie that keeps clients with their servers, in `host`'s buffer; no buffer: there is none.
    var stickName = Stretch()
    var isStickSecure = false
    var stickKeys: ContiguousArray<StickKey> = []
    var stick = StickTable()
    /// The PROXY header that its servers get.
    var sendProxy: ProxyVersion?
    /// One of its servers has a limit.
    var isLimited = false
    /// Requests that wait for a place at one of its servers, and how many may.
    var queue = WaitQueue()
    var queueMax = 0
    /// So many errors in a row set a server aside, 0: none do; whether 5xx are errors.
    var outlierErrors = 0
    var countsStatus = false
    /// It stands in the worker's list of queues to be looked at.
    var isDue = false

    var budget: RetryBudget
    /// -1: as `ProxyLimits.retriesMax` says.
    var retriesMax = -1
    var replayBytesMax = 0

    init(_ settings: BackendSettings, nowMs: UInt64) {
        balancer = Self.balancer(settings)
        budget = RetryBudget(settings.retries, nowMs: nowMs)
    }

    /// Each with a seed of its own: workers that draw alike would choose alike.
    private static func balancer(_ settings: BackendSettings) -> Balancer {
        var generator = SystemRandomNumberGenerator()
        return Balancer(settings.balance, seed: generator.next())
    }

    /// Takes over what the settings say; requests go by it from the next one on. The servers follow with the routes.
    mutating func adopt(_ settings: BackendSettings) {
        if balancer.balance != settings.balance { balancer = Self.balancer(settings) }
        balancer.setSlowStart(ms: UInt64(max(settings.slowStartMs, 0)))
        keyKind = settings.balance == .hash ? RequestKey(settings.hashOn) : .none
        sendProxy = settings.sendProxy
        queueMax = settings.queueMax
        budget.adopt(settings.retries)
        retriesMax = settings.retries.max ?? -1
        replayBytesMax = settings.replayBytesMax
        isStickSecure = settings.stickCookie?.isSecure ?? false
        stickKeys = ContiguousArray(settings.stickCookie?.keys ?? [])
        outlierErrors = settings.outlier?.errors ?? 0
        countsStatus = settings.outlier?.countsStatus ?? false
    }
}
