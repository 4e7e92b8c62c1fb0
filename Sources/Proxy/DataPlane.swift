// DataPlane: the balancer's front door for the control thread: start, publish routes, drain, read figures, stop.
//
// It owns the worker threads and what they share with the control thread: a mailbox and a block of counters each, and
// one box of suspicions. Workers share nothing with each other. No method waits for a worker except `stop`.

import Synchronization

/// The data plane of one node. Any thread may call any method.
public final class DataPlane: Sendable {
    /// The port each frontend listens on, in order; tells which one was taken for port 0.
    public let ports: [UInt16]

    private let mailboxes: [Mailbox]
    private let counters: [Counters]
    private let suspicions: SuspicionBox
    private let threads: [WorkerThread]
    private let shared = Mutex(Shared())

    private struct Shared {
        var registry = ServerRegistry()
        var version: UInt64?
        var isRunning = false
    }

    /// Binds every frontend's address; nothing is accepted before `start`.
    /// - Throws: what is wrong (port in use, no permission, no such address family) and the remedy.
    public init(_ settings: ProxySettings) throws(ProxyProblem) {
        let workers = min(max(settings.workers, 1), ProxyLimits.workersMax)
        precondition(settings.frontends.allSatisfy { settings.backends.indices.contains($0.backend) })
        System.raiseDescriptorLimit()
        var ports: [UInt16] = []
        var listeners: [[Int32]] = Array(repeating: [], count: workers)
        var mailboxes: [Mailbox] = []
        var counters: [Counters] = []
        var threads: [WorkerThread] = []
        do {
            for frontend in settings.frontends {
                let (descriptors, port) = try Listener.open(frontend, count: workers)
                ports.append(port)
                for (worker, descriptor) in descriptors.enumerated() { listeners[worker].append(descriptor) }
            }
            suspicions = try SuspicionBox()
            for index in 0..<workers {
                let mailbox = try Mailbox()
                let block = Counters()
                let reactor = try Reactor()
                try reactor.registerForReading(mailbox.descriptor, Token(kind: 0, slot: 0))
                let worker = Worker(
                    settings, reactor: reactor, listeners: listeners[index], mailbox: mailbox, counters: block,
                    suspicions: suspicions)
                listeners[index] = []
                mailboxes.append(mailbox)
                counters.append(block)
                threads.append(WorkerThread(worker, index: index))
            }
        } catch {
            listeners.joined().forEach(System.close)
            throw (error as? ProxyProblem) ?? ProxyProblem("data plane: \(error)")
        }
        self.ports = ports
        self.mailboxes = mailboxes
        self.counters = counters
        self.threads = threads
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

    /// Makes workers forward by `table` from their next loop turn on. Tables that aren't newer than the last are ignored.
    public func publish(_ table: RoutingTable) {
        let entries = shared.withLock { shared -> [[RouteEntry]]? in
            if let version = shared.version, table.version <= version { return nil }
            shared.version = table.version
            return shared.registry.entries(of: table)
        }
        guard let entries else { return }
        for mailbox in mailboxes { mailbox.post { $0.routes = entries } }
    }

    /// While draining, every response tells its client to close the connection.
    public func setDraining(_ draining: Bool) {
        for mailbox in mailboxes { mailbox.post { $0.draining = draining } }
    }

    /// Closes client connections that have no request now.
    public func closeIdle() {
        for mailbox in mailboxes { mailbox.post { $0.closeIdle = true } }
    }

    /// False when a worker hasn't read what it was told since the call before: it hangs, and its listeners with it.
    /// To be asked again after longer than a loop turn takes, such as a second.
    public func isResponsive() -> Bool {
        mailboxes.count { !$0.ping() } == 0
    }

    /// Client connections that are open now: `figures.connections` without the work for the rest.
    public var connections: Int { counters.reduce(0) { $0 + $1.read(.connections) } }

    /// All counters, as they stand.
    public var figures: Figures {
        var figures = Figures()
        for block in counters { block.add(to: &figures) }
        let ids = shared.withLock { $0.registry.ids }
        for (slot, id) in ids.enumerated() {
            var server = ServerFigures()
            for block in counters {
                server.sessions += block.read(.sessions, slot: slot)
                server.connections += block.read(.connections, slot: slot)
                server.requests += UInt64(block.read(.requests, slot: slot))
                server.retries += UInt64(block.read(.retries, slot: slot))
                server.errors += UInt64(block.read(.errors, slot: slot))
            }
            figures.servers[id] = server
        }
        return figures
    }

    /// Readable when `takeSuspicions` has something: register it for reading with the control thread's reactor.
    public var suspicionDescriptor: Int32 { suspicions.descriptor }

    /// Ids of servers whose connection failed while forwarding since the last call, each once.
    public func takeSuspicions() -> [String] {
        let slots = suspicions.take()
        return shared.withLock { shared in slots.map { shared.registry.ids[$0] } }
    }

    /// Closes every connection and listener and waits for the workers to end. Nothing works afterwards.
    public func stop() {
        let wasRunning = shared.withLock { shared in
            defer { shared.isRunning = false }
            return shared.isRunning
        }
        guard wasRunning else { return }
        for mailbox in mailboxes { mailbox.post { $0.stop = true } }
        for thread in threads { thread.join() }
    }
}
