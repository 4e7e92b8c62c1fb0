// Worker: one data-plane thread: its reactor, listeners, sessions, links to servers, pools and timers.
//
// Shares nothing with other workers; hears from the control thread through its mailbox and speaks through counters and
// suspicions. One clock read per turn of the loop. The request path allocates nothing, touches no reference and takes
// no lock: everything it uses is a slot in a flat table or a number. The verbs are in the extensions:
//   Worker+Clients   accept, read request heads, answer by ourselves, close
//   Worker+Servers   choose, connect, retry, pool
//   Worker+Routes    which servers there are
//   Worker+Keys      what a request's server is chosen by
//   Worker+Sticking  the cookie that keeps a client with its server
//   Worker+Requests  forward a request upwards
//   Worker+Responses forward a response downwards, finish the exchange
//   Worker+Preface   PROXY headers
//   Worker+Tunnels   TCP and upgraded connections
//   Worker+Events    readiness, deadlines, mail
//   Worker+Protection limits per source, slow clients
//   Worker+Log       what the access log is told
//   Worker+Queues    limits on connections, requests that wait for a server
//   Worker+Outliers  servers that fail again and again
//   Worker+Settings  new settings while it runs

struct Worker: ~Copyable {
    /// What a reactor's token means here.
    enum TokenKind {
        static let mailbox: UInt8 = 0
        static let listener: UInt8 = 1
        static let client: UInt8 = 2
        static let server: UInt8 = 3
    }

    var timeouts: ProxyTimeouts
    var limits: ProxyLimits
    let reactor: Reactor
    let mailbox: Mailbox
    let suspicions: SuspicionBox
    /// Keeps the words that `counters` writes.
    let counterBlock: Counters
    let counters: CounterWriter

    var frontends: ContiguousArray<FrontendState> = []
    /// Of `frontends`, by slot; looked at only where `limitsSources`.
    var sourceLimits: ContiguousArray<SourceLimits> = []
    /// Keeps the words that `sourceCounts` changes, for all workers.
    let sourceTable: SourceTable
    let sourceCounts: SourceCounts
    let sourceHash: SourceHash
    /// Cookies that were made here.
    var cookieCount: UInt64 = 0
    /// Keeps the words that `places` changes, for all workers.
    let placeTable: PlaceTable
    let places: Places
    /// Its number among the workers, and what wakes each of them.
    let index: Int
    let wakes: [Int32]
    var waits = WaitTable()
    /// Backends, by slot, whose queue is to be looked at in this turn.
    var dueQueues: ContiguousArray<Int32> = []
    var queueTickMs: UInt64 = 0
    /// Frontends that have as many clients as they may have, and whether to look if they still do.
    var pausedFrontends = 0
    var mustResume = false
    /// Keeps the sockets of `frontends` open, by slot.
    var listeners: ContiguousArray<ListenerSocket?> = []
    /// When the next frontend that was removed stops listening; `.max` when none was.
    var nextLeaveMs = UInt64.max
    var listenersPaused = false
    var resumeAcceptMs: UInt64 = 0

    var sessions: Slab<Session>
    var links: Slab<ServerLink>
    var tunnels: Slab<Tunnel>
    var pipes = PipePool()
    /// By session: what its client connected to, for those whose PROXY header said it.
    var destinations: ContiguousArray<SocketAddress> = []
    var servers: ContiguousArray<ServerState> = []
    var backends: ContiguousArray<BackendState> = []
    /// What the control thread said last.
    var routing: [BackendRoute] = []
    let buffers: BufferPool
    /// A buffer for rewriting response heads.
    let scratch: Int32
    var fields: FieldTable
    var timers: TimerWheel
    var log: RequestLog
    /// Wakes the log's thread.
    let logWake: Int32
    /// What `frontends` point into.
    var tables = FrontendTables()
    /// The time of day as HTTP writes it, not older than a second while something happens.
    let date: Stretch
    var dateDueMs: UInt64 = 0

    /// Sessions that have more to do without waiting for an event, by token; each gets a turn in the next round.
    var pending: ContiguousArray<UInt64> = []

    /// Clients that aren't registered with the reactor, by token, oldest first from `unwatchedFrom` on.
    var unwatched: ContiguousArray<(token: UInt64, untilMs: UInt64)> = []
    var unwatchedFrom = 0

    /// The time of this turn of the loop.
    var nowMs: UInt64
    var nowUs: UInt64
    /// What had happened by then is looked at, and deadlines are held against it.
    var seen: SeenTime
    var idleLinks = 0
    var purgeMs: UInt64 = 0
    var isDraining = false
    var isStopping = false

    /// - Parameters:
    ///   - index: its place among the workers.
    ///   - settings: those that a worker has for life: how much memory it may come to use. The rest comes by mail.
    ///   - reactor: has the mailbox registered as `Token(kind: 0, slot: 0)`.
    init(
        _ settings: ProxySettings, reactor: consuming Reactor, mailbox: Mailbox, counters: Counters,
        shared: WorkerShares, index: Int
    ) {
        timeouts = settings.timeouts
        limits = settings.limits
        self.reactor = reactor
        self.mailbox = mailbox
        counterBlock = counters
        self.counters = counters.writer
        suspicions = shared.suspicions
        sourceTable = shared.sources
        sourceCounts = shared.sources.counts
        sourceHash = shared.hash
        placeTable = shared.places
        places = shared.places.places
        self.index = index
        wakes = shared.wakes
        log = RequestLog(ring: shared.log.rings[index], capacity: settings.limits.connectionPlaces)
        logWake = shared.log.wake
        nowUs = System.bootNanoseconds() / 1_000
        nowMs = nowUs / 1_000
        seen = SeenTime(nowMs: nowMs)
        let connections = settings.limits.connectionPlaces
        sessions = Slab(capacity: connections)
        // As many in use as there are sessions, and as many idle.
        links = Slab(capacity: 2 * connections)
        tunnels = Slab(capacity: connections)
        let pool = BufferPool(
            smallBytes: max(settings.limits.bufferBytes, 4_096),
            smallMax: 3 * connections + 2 + ProxyLimits.backendsMax + 2 * FrontendTables.buffersMax)
        scratch = pool.take()
        date = Stretch(buffer: pool.take(), start: 0, end: Int32(DateText.bytes))
        buffers = pool
        fields = FieldTable(max: settings.limits.fieldsMax)
        timers = TimerWheel(nowMs: nowMs, capacity: connections)
        pending.reserveCapacity(connections)
        dueQueues.reserveCapacity(ProxyLimits.backendsMax)
        unwatched.reserveCapacity(ProxyLimits.unwatchedMax)
    }

    /// Turns the loop until told to stop.
    mutating func run() {
        while !isStopping {
            let count = reactor.wait(timeoutMs: waitMs())
            let askedMs = nowMs
            nowUs = System.bootNanoseconds() / 1_000
            nowMs = nowUs / 1_000
            if nowMs >= dateDueMs { eachSecond() }
            for index in 0..<count {
                let (token, readiness) = reactor.event(at: index)
                dispatch(token, readiness)
            }
            servePending()
            seen.took(
                count, askedMs: askedMs, isAll: count < reactor.eventsMax,
                most: sessions.count + links.count + frontends.count + 1)
            expireTimers()
            if !dueQueues.isEmpty || mustResume { serveQueues() }
            if log.hasNews, log.mustWake() { System.signal(logWake) }
        }
        closeEverything()
    }

    /// What requests need not do themselves; while something happens, once a second.
    private mutating func eachSecond() {
        buffers.trim()
        let milliseconds = max(Int(System.wallMilliseconds()), 0)
        DateText.write(milliseconds / 1_000, buffers, into: date)
        dateDueMs = nowMs + UInt64(1_000 - milliseconds % 1_000)
    }
}
