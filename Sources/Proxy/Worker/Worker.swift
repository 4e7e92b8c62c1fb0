// Worker: one data-plane thread: its reactor, listeners, sessions, links to servers, pools and timers.
//
// Shares nothing with other workers; hears from the control thread through its mailbox and speaks through counters and
// suspicions. One clock read per turn of the loop. The request path allocates nothing, touches no reference and takes
// no lock: everything it uses is a slot in a flat table or a number. The verbs are in the extensions:
//   Worker+Clients   accept, read request heads, answer by ourselves, close
//   Worker+Servers   choose, connect, retry, pool
//   Worker+Requests  forward a request upwards
//   Worker+Responses forward a response downwards, finish the exchange
//   Worker+Events    readiness, deadlines, mail

struct Worker: ~Copyable {
    /// What a reactor's token means here.
    enum TokenKind {
        static let mailbox: UInt8 = 0
        static let listener: UInt8 = 1
        static let client: UInt8 = 2
        static let server: UInt8 = 3
    }

    let timeouts: ProxyTimeouts
    let limits: ProxyLimits
    let reactor: Reactor
    let mailbox: Mailbox
    let suspicions: SuspicionBox
    /// Keeps the words that `counters` writes.
    let counterBlock: Counters
    let counters: CounterWriter

    var listeners: ContiguousArray<Int32>
    let backendOfListener: ContiguousArray<Int32>
    var listenersPaused = false
    var resumeAcceptMs: UInt64 = 0

    var sessions: Slab<Session>
    var links: Slab<ServerLink>
    var servers: ContiguousArray<ServerState> = []
    var balancers: ContiguousArray<Balancer>
    /// Host for HTTP/1.0 requests that name none, by backend: its name, in a buffer that is never given back.
    let hosts: ContiguousArray<Stretch>
    var budget: RetryBudget
    let buffers: BufferPool
    /// A buffer for rewriting response heads.
    let scratch: Int32
    var fields: FieldTable
    var timers: TimerWheel
    let answers: ContiguousArray<(head: ContiguousArray<UInt8>, body: ContiguousArray<UInt8>)>

    /// Sessions that have more to do without waiting for an event, by token; each gets a turn in the next round.
    var pending: ContiguousArray<UInt64> = []

    /// Clients that aren't registered with the reactor, by token, oldest first from `unwatchedFrom` on.
    var unwatched: ContiguousArray<(token: UInt64, untilMs: UInt64)> = []
    var unwatchedFrom = 0

    /// The time of this turn of the loop.
    var nowMs: UInt64
    var idleLinks = 0
    var purgeMs: UInt64 = 0
    var isDraining = false
    var isStopping = false

    /// - Parameter reactor: has the mailbox registered as `Token(kind: 0, slot: 0)`.
    init(
        _ settings: ProxySettings, reactor: consuming Reactor, listeners: [Int32], mailbox: Mailbox,
        counters: Counters, suspicions: SuspicionBox
    ) {
        backendOfListener = ContiguousArray(settings.frontends.map { Int32($0.backend) })
        timeouts = settings.timeouts
        limits = settings.limits
        self.reactor = reactor
        self.listeners = ContiguousArray(listeners)
        self.mailbox = mailbox
        counterBlock = counters
        self.counters = counters.writer
        self.suspicions = suspicions
        nowMs = System.bootNanoseconds() / 1_000_000
        let connections = min(max(settings.limits.connectionsMax, 1), 1 << 22)
        sessions = Slab(capacity: connections)
        // As many in use as there are sessions, and as many idle.
        links = Slab(capacity: 2 * connections)
        balancers = ContiguousArray(settings.backends.map { Balancer($0.balance) })
        budget = RetryBudget(nowMs: nowMs)
        let pool = BufferPool(
            smallBytes: max(settings.limits.bufferBytes, 4_096), smallMax: 3 * connections + 1 + settings.backends.count
        )
        scratch = pool.take()
        var hosts: ContiguousArray<Stretch> = []
        for backend in settings.backends {
            let buffer = pool.take()
            let name = ContiguousArray(backend.name.utf8.prefix(256))
            pool.store(name, buffer, 0)
            hosts.append(Stretch(buffer: buffer, start: 0, end: Int32(name.count)))
        }
        self.hosts = hosts
        buffers = pool
        fields = FieldTable(max: settings.limits.fieldsMax)
        timers = TimerWheel(nowMs: nowMs)
        answers = ContiguousArray(LocalAnswer.allCases.map(\.texts))
    }

    deinit { listeners.forEach(System.close) }

    /// Turns the loop until told to stop.
    mutating func run() {
        resumeAccepting()
        while !isStopping {
            let count = reactor.wait(timeoutMs: waitMs())
            nowMs = System.bootNanoseconds() / 1_000_000
            for index in 0..<count {
                let (token, readiness) = reactor.event(at: index)
                dispatch(token, readiness)
            }
            servePending()
            expireTimers()
        }
        closeEverything()
    }
}
