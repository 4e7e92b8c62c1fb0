// DataPlane: the balancer's front door for the control thread: start, publish routes, drain, read figures, stop.
//
// It owns the worker threads and what they share with the control thread: a mailbox and a block of counters each, and
// one box of suspicions. Workers share nothing with each other. No method waits for a worker except `stop`.

import Synchronization

/// The data plane of one node. Any thread may call any method.
public final class DataPlane: Sendable {
    /// Client connections of a worker at most, whatever is applied later.
    public let connectionPlaces: Int

    /// Worker threads, whatever is applied later.
    public var workers: Int { mailboxes.count }

    /// Of an error page, for as long as this lives: buffers don't change.
    private let pageBytesMax: Int
    private let mailboxes: [Mailbox]
    private let counters: [Counters]
    private let suspicions: SuspicionBox
    private let log: AccessLog
    private let places: PlaceTable
    let threads: [WorkerThread]
    private let shared = Mutex(Shared())

    private struct Shared {
        var servers = ServerRegistry()
        var slots = SlotRegistry()
        var listenerWatch = ListenerWatch()
        /// The last one that was published.
        var table: RoutingTable?
        var isRunning = false

        mutating func routes() -> [BackendRoute] {
            servers.entries(of: table ?? RoutingTable(version: 0, backends: []), backends: slots.backendSlots)
        }

        var names: LogNames {
            let (frontends, backends) = slots.names
            func bytes(_ names: [String]) -> [[UInt8]] { names.map { Array($0.utf8) } }
            return LogNames(frontends: bytes(frontends), backends: bytes(backends), servers: bytes(servers.ids))
        }
    }

    /// Binds every frontend's address; nothing is accepted before `start`.
    /// - Throws: what is wrong (port in use, no permission, no such address family) and the remedy.
    public init(_ settings: ProxySettings) throws(ProxyProblem) {
        let workers = min(max(settings.workers, 1), ProxyLimits.workersMax)
        connectionPlaces = settings.limits.connectionPlaces
        pageBytesMax = settings.limits.bufferBytes - ProxyLimits.errorPageRoom
        System.raiseDescriptorLimit()
        do throws(SystemError) {
            suspicions = try SuspicionBox()
            log = try AccessLog(workers: workers)
            places = PlaceTable(workers: workers)
            var mailboxes: [Mailbox] = []
            for _ in 0..<workers { mailboxes.append(try Mailbox()) }
            let shares = WorkerShares(
                suspicions: suspicions, sources: SourceTable(), hash: SourceHash(), log: log, places: places,
                wakes: mailboxes.map(\.descriptor))
            var counters: [Counters] = []
            var threads: [WorkerThread] = []
            for (index, mailbox) in mailboxes.enumerated() {
                let block = Counters()
                let reactor = try Reactor()
                try reactor.registerForReading(mailbox.descriptor, Token(kind: 0, slot: 0))
                let worker = Worker(
                    settings, reactor: reactor, mailbox: mailbox, counters: block, shared: shares, index: index)
                counters.append(block)
                threads.append(WorkerThread(worker, index: index))
            }
            self.mailboxes = mailboxes
            self.counters = counters
            self.threads = threads
        } catch {
            throw ProxyProblem("data plane: \(error)")
        }
        try apply(settings)
    }

    /// The port each frontend listens on, in the settings' order; tells which one was taken for port 0.
    public var ports: [UInt16] { shared.withLock { $0.slots.ports } }

    /// Makes workers run by `settings` from their next loop turn on, without closing a connection that is in use.
    /// Addresses that stay keep their sockets and whoever waits there. A frontend that is new, or has a new address, is bound
    /// before anything else changes. One that is gone takes no new connections; those it has end with their next response,
    /// or when they are idle. What changed of a backend holds from the next request on; one that is gone serves what
    /// is on its way. `workers` and `limits.bufferBytes` stay what they were, `limits.connectionsMax` stays below
    /// `ProxyLimits.connectionPlaces` of the start's limits.
    /// - Parameter table: published with the settings, so that a backend that is new has its servers at once.
    /// - Throws: which frontend can't be had, and the remedy. Then nothing has changed.
    public func apply(_ settings: ProxySettings, _ table: RoutingTable? = nil) throws(ProxyProblem) {
        precondition(
            settings.frontends.allSatisfy {
                ([$0.backend] + $0.routes.map(\.backend)).allSatisfy(settings.backends.indices.contains)
            })
        try checkPages(settings.frontends)
        let usage = SlotUsage(
            generation: counters.reduce(Int.max) { min($0, $1.read(.generation)) },
            frontends: { [counters] slot in counters.reduce(0) { $0 + $1.read(.connections, frontend: slot) }
            },
            backends: { [counters] slot in counters.reduce(0) { $0 + $1.read(.inFlight, backend: slot) } })
        try shared.withLock { shared throws(ProxyProblem) in
            if settings.accessLog != nil {
                do throws(SystemError) {
                    try log.begin()
                } catch {
                    throw ProxyProblem("the access log's thread can't start: \(error)")
                }
            }
            try shared.slots.adopt(settings, workers: mailboxes.count, usage: usage)
            if let table, table.version > shared.table?.version ?? 0 { shared.table = table }
            let routes = shared.routes()
            limitPlaces(routes.lazy.flatMap(\.servers))
            for frontend in shared.slots.frontendSlots {
                places.places.limit(.frontend(frontend.slot), to: frontend.settings.connectionsMax ?? 0)
            }
            log.setNames(shared.names)
            log.set(settings.accessLog)
            for (index, mailbox) in mailboxes.enumerated() {
                let fresh = shared.slots.settings(forWorker: index)
                mailbox.post {
                    $0.replace(fresh)
                    $0.replace(routes)
                }
            }
        }
    }

    /// Starts the workers. Until a table is published, requests get 503.
    /// - Throws: when no thread can be started; then none runs.
    public func start() throws(ProxyProblem) {
        shared.withLock { $0.isRunning = true }
        for thread in threads {
            do {
                try thread.start()
            } catch {
                stop()
                throw ProxyProblem("data plane: \(error)")
            }
        }
    }

    private func checkPages(_ frontends: [FrontendSettings]) throws(ProxyProblem) {
        for frontend in frontends {
            for page in frontend.errorPages where page.body.count > pageBytesMax {
                throw ProxyProblem(
                    "frontend \(frontend.name): the error page for \(page.status) has \(page.body.count) bytes; buffers as "
                        + "they were at start have room for \(pageBytesMax): restart to use larger ones (limits.buffer)"
                )
            }
        }
    }

    /// Makes workers forward by `table` from their next loop turn on. Tables that aren't newer than the last are ignored.
    public func publish(_ table: RoutingTable) {
        // Under the lock, so that what workers get last is what is newest.
        shared.withLock { shared in
            let last = shared.table
            if let last, table.version <= last.version { return }
            shared.table = table
            if let last,
                let changes = shared.servers.changes(from: last, to: table, backends: shared.slots.backendSlots)
            {
                guard !changes.isEmpty else { return }
                limitPlaces(changes.lazy.map(\.entry))
                for mailbox in mailboxes { mailbox.post { $0.add(changes) } }
                return
            }
            let routes = shared.routes()
            limitPlaces(routes.lazy.flatMap(\.servers))
            log.setNames(shared.names)
            for mailbox in mailboxes { mailbox.post { $0.replace(routes) } }
        }
    }

    private func limitPlaces(_ servers: some Sequence<RouteEntry>) {
        for server in servers { places.places.limit(.server(server.slot), to: server.connectionsMax) }
    }

    /// While draining, every response tells its client to close the connection.
    public func setDraining(_ draining: Bool) {
        for mailbox in mailboxes { mailbox.post { $0.draining = draining } }
    }

    /// Closes client connections that have no request now.
    public func closeIdle() {
        for mailbox in mailboxes { mailbox.post { $0.closeIdle = true } }
    }

    /// Resets every client connection to one of these addresses (ports don't matter), whatever it is at: this node is about
    /// to lose them, and who isn't told now would wait until its own patience is over.
    public func abandon(_ addresses: [SocketAddress]) {
        for mailbox in mailboxes { mailbox.post { $0.abandoned = addresses } }
    }

    /// False when a worker hasn't read what it was told since the call before: it hangs, and its listeners with it.
    /// To be asked again after longer than a loop turn takes, such as a second.
    public func isResponsive() -> Bool {
        mailboxes.count { !$0.ping() } == 0
    }

    /// Frontends that don't accept clients although their workers run. To be asked about once a second: clients that a worker
    /// hasn't looked for since the call before count as ignored.
    public func deafFrontends() -> [DeafFrontend] {
        shared.withLock { shared in
            guard shared.isRunning else { return [] }
            let listeners = shared.slots.listeners
            return shared.listenerWatch.look(at: listeners) { worker, slot in
                .init(
                    listens: counters[worker].read(.listens, frontend: slot) == 1,
                    looks: counters[worker].read(.looks, frontend: slot))
            }
        }
    }

    /// How often a listener had been shut down by somebody and was opened again.
    public var reopenings: Int {
        let slots = shared.withLock { $0.slots.listeners.map(\.slot) }
        return counters.reduce(0) { sum, block in sum + slots.reduce(0) { $0 + block.read(.reopenings, frontend: $1) } }
    }

    /// Client connections that are open now: `figures.connections` without the work for the rest.
    public var connections: Int { counters.reduce(0) { $0 + $1.read(.connections) } }

    /// All counters, as they stand.
    public var figures: Figures {
        var figures = Figures()
        for block in counters { block.add(to: &figures) }
        figures.accessLog = log.figures
        let (ids, backends, frontends) = shared.withLock {
            ($0.servers.ids, $0.slots.backendSlots, $0.slots.frontendSlots)
        }
        for backend in backends { figures.backends[backend.name] = self.figures(ofBackend: backend.slot) }
        for (frontend, slot) in frontends {
            var some = FrontendFigures()
            for block in counters {
                some.connections += block.read(.connections, frontend: slot)
                some.pausedWorkers += block.read(.paused, frontend: slot)
                some.pauses += UInt64(block.read(.pauses, frontend: slot))
            }
            figures.frontends[frontend.name] = some
        }
        for (slot, id) in ids.enumerated() {
            var server = ServerFigures()
            for block in counters {
                server.sessions += block.read(.sessions, slot: slot)
                server.connections += block.read(.connections, slot: slot)
                server.requests += UInt64(block.read(.requests, slot: slot))
                server.retries += UInt64(block.read(.retries, slot: slot))
                server.errors += UInt64(block.read(.errors, slot: slot))
                server.outliers += UInt64(block.read(.outlier, slot: slot))
                block.add(to: &server.latency, slot: slot)
            }
            server.errorsInRow = places.places.failures(server: slot)
            figures.servers[id] = server
        }
        return figures
    }

    private func figures(ofBackend slot: Int) -> BackendFigures {
        var figures = BackendFigures()
        for block in counters {
            figures.queued += block.read(.queued, backend: slot)
            figures.everQueued += UInt64(block.read(.everQueued, backend: slot))
            figures.queueTimeouts += UInt64(block.read(.queueTimeouts, backend: slot))
            figures.queueFull += UInt64(block.read(.queueFull, backend: slot))
        }
        if let first = places.places.first(.backend(slot)) {
            let now = System.bootNanoseconds() / 1_000
            figures.longestWaitMs = Int((now - min(now, first.sinceUs)) / 1_000)
        }
        return figures
    }

    /// Readable when `takeSuspicions` has something: register it for reading with the control thread's reactor.
    public var suspicionDescriptor: Int32 { suspicions.descriptor }

    /// Servers whose connection failed while forwarding since the last call, each once; with those that were just set aside
    /// for errors in a row.
    public func takeSuspicions() -> [(id: String, isOutlier: Bool)] {
        let taken = suspicions.take()
        return shared.withLock { shared in taken.map { (shared.servers.ids[$0.slot], $0.isOutlier) } }
    }

    /// Whether connections are accepted; a part of `figures` that costs little.
    public var accepting: AcceptFigures {
        var figures = Figures()
        for block in counters { block.add(to: &figures) }
        return figures.accepting
    }

    /// The access log's file was renamed: opens it again by its name.
    public func reopenLog() { log.reopen() }

    /// Why lines of the access log are being lost now; nil when none are.
    public var logProblem: String? { log.figures.problem }

    /// Closes every connection and listener and waits for the workers to end. Nothing works afterwards.
    public func stop() {
        let wasRunning = shared.withLock { shared in
            defer { shared.isRunning = false }
            return shared.isRunning
        }
        guard wasRunning else { return }
        for mailbox in mailboxes { mailbox.post { $0.stop = true } }
        for thread in threads { thread.join() }
        log.stop()
        shared.withLock { $0.slots.closeSockets() }
    }
}
