// Runtime: one running node. The control thread's loop, and the shell around the cluster core.
//
// It owns everything the control thread touches: the core, the gossip socket, the fence's link, storage's results,
// checks, the status port, and the data plane's front door. Nothing here waits: disk is the storage thread's,
// requests are the workers', the address is the fence's. Each turn of the loop takes in what
// happened, carries out the core's effects in order, and sleeps until the next deadline.
//
//   Runtime+Start.swift    from a configuration to a running node, or the reason why not
//   Runtime+Gossip.swift   datagrams
//   Runtime+Control.swift  operators' requests, signals, hand-over, stop
//   Runtime+Reload.swift   the file has changed
//   Runtime+Status.swift   what the status port shows
//   Runtime+Listeners.swift whether every frontend accepts clients
//   Runtime+Scaling.swift  how many servers backends should have
//   Runtime+Overview.swift what the nodes tell each other of their work

import CLinux
import Glibc
import Gossip
import Proxy

/// Token kinds of the control thread's reactor.
enum ControlToken {
    static let signals: UInt8 = 1
    static let gossip: UInt8 = 2
    static let storage: UInt8 = 3
    static let fence: UInt8 = 4
    static let suspicions: UInt8 = 5
    static let statusListener: UInt8 = 6
    static let statusConnection: UInt8 = 7
    static let probe: UInt8 = 8
    static let loader: UInt8 = 9
    static let gateway: UInt8 = 10
}

/// A node that can't start or go on, in words with the remedy.
struct RuntimeProblem: Error, CustomStringConvertible {
    var description: String
}

final class Runtime {
    let version = Version.text
    var configuration: Configuration
    /// Of this process; changes that need another one are refused on reload.
    let me: MemberID
    let boot: UInt64
    let reactor: Reactor
    let startedAt: Instant

    var core: Member
    var gossip: GossipSocket
    let storage: Storage
    var fence: FenceLink?
    /// What the file says otherwise than this process does, until it is started again.
    var awaitsRestart: [String] = []
    /// Why the file as it was last read again isn't what this process does.
    var reloadProblem: String?
    /// Why the fence has no gate, if it was to have one.
    var gateProblem: String?
    /// Which VIP of ours another machine claims, in words, and when it did last; `FenceLimits.vipsMax` of them at most.
    var contests: [(text: String, at: Instant)] = []
    /// The fence looks every ten seconds.
    static let contestHeldFor: Duration = .seconds(25)
    static let contestRemedy =
        "clients reach the one or the other; take it away there, or choose a spare address as the VIP"
    /// nil: nobody can be asked, or there is no VIP.
    var links: LinkCheck?
    /// Nodes that aren't neighbours on every VIP's interface.
    var offLink: [MemberID] = []
    var prober: Prober
    /// nil: none is configured, or this process may not ask it.
    var gateway: GatewayProbe?
    /// Why this node can't make the checks of type "icmp", if there are any.
    var echoProblem: String?
    var status: StatusServer
    let dataPlane: DataPlane
    let signals: Int32
    let loader: ConfigurationLoader
    var log: EventLog
    /// What viewers of the page see is old.
    var isPageStale = false
    var pageShownAt: Instant
    /// Everybody's figures and events.
    var overview: Overview

    /// Servers in use, as of the core's table.
    var servers: ServerList
    var heldServers = HeldServers()
    /// By backend: what its load asks for.
    var scaling: [String: ScalingDecision] = [:]
    var shortages = Shortages()
    /// Backends whose verdicts are ignored, as was told.
    var panicking: Set<String> = []
    var listeners = ListenerNews()
    /// The operator's, for events.
    let command = EventCommand()
    var service: ServiceNotifier
    /// As of the last look, once a second.
    var answersClients = true
    /// What workers were told last.
    var routes = RoutingTable(version: 0, backends: [])
    /// Of whom workers and checks are told at the end of the turn.
    var staleServers = StaleServers.all
    var counters = StatusReport.Elections()
    var writes = StatusReport.Storage()
    /// The durable write that is being timed.
    private var timedWrite: (ticket: UInt64, at: Instant)?
    var lastRole = Role.follower
    /// When the core is next told the time of day.
    var nextWallClock: Instant

    var nextRequestNumber: UInt64 = 0
    var waiting: [RequestID: AdminTicket] = [:]
    var move: Move?
    /// In a planned move: the order to let go, kept until no request is under way, and when to pass it on at the latest.
    var pendingDrop: (order: UInt64, at: Instant)?
    var moveRequests: [MoveRequest] = []
    /// A move has begun, or a stopping node has given the VIP away: the core is told in the next turn, since it may be in
    /// the middle of telling us.
    var mustHandOver = false
    var mustResign = false
    var exitCode: Int32?

    init(parts: consuming RuntimeParts) {
        configuration = parts.configuration
        me = parts.me
        boot = parts.boot
        startedAt = parts.now
        service = ServiceNotifier(now: parts.now)
        core = parts.core
        gossip = parts.gossip
        storage = parts.storage
        fence = parts.fence
        dataPlane = parts.dataPlane
        signals = parts.signals
        loader = parts.loader
        log = parts.log
        pageShownAt = parts.now
        overview = Overview(nodeCount: parts.configuration.nodes.count, now: parts.now)
        servers = ServerList(configuration: parts.configuration, table: parts.core.table)
        let hasVIP = !parts.configuration.vips.isEmpty
        nextWallClock = parts.now
        prober = Prober(kind: ControlToken.probe, node: parts.me.index, of: parts.configuration.nodes.count)
        reactor = parts.reactor
        status = parts.status
        links = hasVIP ? try? LinkCheck() : nil
        openGateway(now: parts.now)
        tryEchoes()
    }

    /// Begins to ask the configured gateway, and no other any more.
    func openGateway(now: Instant) {
        if let gateway {
            reactor.unregister(gateway.descriptor)
            gateway.close()
        }
        gateway = nil
        guard let address = configuration.leadership.gateway.flatMap({ SocketAddress(address: $0, port: 0) }) else {
            return
        }
        let own = SocketAddress(address: configuration.nodes[me.index].address, port: 0)
        do throws(SystemError) {
            let probe = try GatewayProbe(gateway: address, source: own, now: now)
            gateway = probe
            try reactor.registerForReading(probe.descriptor, Token(kind: ControlToken.gateway, slot: 0))
        } catch {
            log.log(
                .warning,
                "leadership.gateway: no echo can be sent (\(error)); it counts for nothing until you \(EchoSocket.remedy)"
            )
        }
    }

    /// Checks of type "icmp" need sockets that not every process may have: better said at once than found out.
    func tryEchoes() {
        let before = echoProblem
        echoProblem = configuration.echoProblem()
        if let echoProblem, echoProblem != before { log.log(.warning, echoProblem) }
    }

    static func now() -> Instant { Instant(nanoseconds: System.bootNanoseconds()) }

    /// Runs until the node is told to stop.
    /// - Returns: the process's exit code.
    func run() -> Int32 {
        service.ready()
        while true {
            let now = Self.now()
            elapse(now: now)
            settle(now: now)
            if let exitCode { return exitCode }
            let count = reactor.wait(timeoutMs: timeoutMs(from: Self.now()))
            for index in 0..<count {
                let (token, readiness) = reactor.event(at: index)
                // Never older than what it brings: a promise made too early would end too early.
                dispatch(token, readiness, now: Self.now())
            }
        }
    }

    private func dispatch(_ token: Token, _ readiness: Readiness, now: Instant) {
        switch token.kind {
        case ControlToken.signals: takeSignals(now: now)
        case ControlToken.loader: applyReload(now: now)
        case ControlToken.gossip: receiveDatagrams()
        case ControlToken.gateway: gateway?.handle()
        case ControlToken.storage: takeCompletions(now: now)
        case ControlToken.fence: takeFenceAnswers(now: now)
        case ControlToken.suspicions:
            takeSuspicions(now: now)
        case ControlToken.statusListener, ControlToken.statusConnection:
            status.handle(token, readiness, now: now.nanoseconds, reactor: reactor)
        case ControlToken.probe:
            prober.handle(token, readiness, now: now.nanoseconds, reactor: reactor)
        default: preconditionFailure("a token of unknown kind \(token.kind)")
        }
    }

    /// Whatever time alone brings.
    private func elapse(now: Instant) {
        if now >= nextWallClock {
            nextWallClock = now.advanced(by: .seconds(1))
            feed(.wallClock(System.wallMilliseconds()), now: now)
            storage.look(now: now.nanoseconds)
            let reachesGateway = gateway?.isReachable ?? true
            let acceptsClients = checkListeners()
            answersClients = dataPlane.isResponsive()
            feed(
                .fitness(answersClients: answersClients && acceptsClients, reachesGateway: reachesGateway), now: now)
            checkLinks(now: now)
            tellOverview(now: now)
            decideScaling(now: now)
            isPageStale = true
            tellShortages()
            tellCommandProblems()
            service.tell(serviceStatus(now: now))
        }
        if let deadline = core.deadline, now >= deadline { feed(.tick, now: now) }
        if let deadline = prober.deadline, now.nanoseconds >= deadline {
            prober.tick(now: now.nanoseconds, reactor: reactor)
        }
        if let deadline = status.deadline, now.nanoseconds >= deadline {
            status.tick(now: now.nanoseconds, reactor: reactor)
        }
        gateway?.tick(now: now)
        service.elapse(now: now, isHealthy: answersClients)
        elapseFence(now: now)
        elapseMove(now: now)
    }

    /// Routes come and go without a word to us.
    private func checkLinks(now: Instant) {
        let interfaces = Set(configuration.vips.map(\.interface)).compactMap { FenceSystem.interface($0)?.index }
        let found = configuration.nodes.indices.map { MemberID($0) }.filter { member in
            guard member != me, links != nil,
                let host = SocketAddress(address: configuration.nodes[member.index].address, port: 0)
            else { return false }
            return !interfaces.allSatisfy { links?.isOnLink(host, interface: UInt32($0)) ?? true }
        }
        guard found != offLink else { return }
        offLink = found
        feed(.offLink(found), now: now)
    }

    /// What the turn's events led to, done once for all of them.
    private func settle(now: Instant) {
        watchTenure(now: now)
        takeProbeChanges(now: now)
        takeAdminRequests(now: now)
        tellServers(now: now)
        // Before the reports, which hold the new events too: a stream that begins now gets each once.
        publishEvents(now: now)
        showPage(now: now)
        if status.needsReport { status.respond(report(now: now), now: now.nanoseconds) }
    }

    /// Rounded up, so that the loop doesn't wake just before a deadline and spin.
    private func timeoutMs(from now: Instant) -> Int32 {
        var deadline = nextWallClock.nanoseconds
        if let next = core.deadline { deadline = min(deadline, next.nanoseconds) }
        if let next = prober.deadline { deadline = min(deadline, next) }
        if let next = status.deadline { deadline = min(deadline, next) }
        if let next = gateway?.deadline { deadline = min(deadline, next.nanoseconds) }
        if let next = service.deadline { deadline = min(deadline, next.nanoseconds) }
        if let next = fence?.deadline { deadline = min(deadline, next.nanoseconds) }
        if let next = moveDeadline(now: now) { deadline = min(deadline, next.nanoseconds) }
        let left = deadline > now.nanoseconds ? deadline - now.nanoseconds : 0
        return Int32((left + 999_999) / 1_000_000)
    }

    // MARK: - The core and its effects

    func feed(_ event: Event, now: Instant) {
        if let left = core.leaseRemaining(now: now) { overview.tenure.noteLease(left) }
        core.step(event, now: now)
        while let effect = core.nextEffect() { carryOut(effect, now: now) }
        noteRole()
    }

    private func carryOut(_ effect: Effect, now: Instant) {
        switch effect {
        case .send(let message, let member): gossip.send(message.encode(), to: member)
        case .persist(let operations, let ticket):
            if timedWrite == nil { timedWrite = (ticket, now) }
            storage.submit(operations, ticket: ticket)
        case .hold(let until, let term, let order): hold(until: until, term: term, order: order, now: now)
        case .drop(let order): letGo(order: order, now: now)
        case .yield(let order): yield(order: order, now: now)
        case .forward(let route): fence?.forward(to: route)
        case .tableChanged:
            servers = ServerList(configuration: configuration, table: core.table)
            staleServers = .all
        case .serverChanged(let id): serverChanged(id)
        case .answer(let request, let outcome): answer(request, outcome, now: now)
        case .note(let note): record(note, now: now)
        case .probeNow(let server): prober.probeNow(server.description, now: now.nanoseconds)
        case .handoverWanted(let target): beginMove(to: target, thenExit: false, now: now)
        }
    }

    private func record(_ note: Note, now: Instant) {
        switch note.kind {
        case .termStarted: counters.campaigns += 1
        case .leaderElected: counters.leaderChanges += 1
        case .handover: counters.handovers += 1
        case .vipAcquired: counters.vipAcquisitions += 1
        case .vipReleased: counters.vipLosses += 1
        case .vipFailed: counters.fenceFailures += 1
        default: break
        }
        log.note(note)
        if note.kind == .vipAcquired { noteMove(now: now) }
    }

    private func noteRole() {
        guard core.role != lastRole else { return }
        lastRole = core.role
        if core.role == .leader { counters.won += 1 }
    }

    private func takeCompletions(now: Instant) {
        for completion in storage.takeCompletions() {
            switch completion {
            case .persisted(let ticket):
                writes.writes += 1
                if let timed = timedWrite, ticket >= timed.ticket {
                    writes.syncSeconds = timed.at.duration(to: now).milliseconds / 1000
                    timedWrite = nil
                }
                feed(.persisted(ticket: ticket), now: now)
            case .failed(let reason):
                writes.failures += 1
                feed(.storageFailed(reason: reason), now: now)
            }
        }
    }

    // MARK: - Fence

    private func hold(until: Instant, term: UInt64, order: UInt64, now: Instant) {
        pendingDrop = nil
        endDrainAsOwner(now: now)
        fence?.peers(boots: gossip.knownBoots)
        fence?.hold(until: until, term: term, order: order, release: Message.released(term: term).encode())
    }

    private func takeFenceAnswers(now: Instant) {
        fence?.ready(on: reactor, now: now)
        takeFenceWords(now: now)
    }

    private func takeFenceWords(now: Instant) {
        while let answer = fence?.nextAnswer() { take(answer, now: now) }
    }

    /// The link restarts a fence that ended, after a moment.
    private func elapseFence(now: Instant) {
        guard let deadline = fence?.deadline, now >= deadline else { return }
        fence?.tick(on: reactor, now: now)
        takeFenceWords(now: now)
    }

    private func take(_ answer: FenceAnswer, now: Instant) {
        switch answer {
        case .ready: break
        case .gate(let isUsable, let reason):
            gateProblem = isUsable ? nil : reason
            log.log(
                isUsable ? .info : .warning,
                isUsable ? "the kernel's gate stands before the VIP" : "no gate before the VIP: \(reason)")
            feed(.fence(.gate(isUsable: isUsable)), now: now)
        case .held: feed(.fence(.held), now: now)
        case .dropped(let order, _, let cause):
            if cause == .expired, core.role == .leader { counters.leaseLapses += 1 }
            feed(.fence(.dropped(order: order)), now: now)
        case .swept(let text): log.add(.vipSwept, "a VIP that this node doesn't own was removed: \(text)")
        case .restored(let text): log.add(.vipRestored, "someone removed the VIP; it is back: \(text)")
        case .failed(let reason): feed(.fence(.failed(reason)), now: now)
        case .recovered:
            log.add(.vipRecovered, "the VIP can be set again")
            feed(.fence(.recovered), now: now)
        case .warning(let text): log.log(.warning, text)
        case .contested(let text):
            note(contest: text, now: now)
        case .died(let text):
            log.add(.fenceDied, text, level: .error)
            // Nobody renews the address any more; it says nothing about orders.
            feed(.fence(.dropped(order: 0)), now: now)
        }
    }

    // MARK: - Servers

    private func takeProbeChanges(now: Instant) {
        let changes = prober.takeChanges()
        guard !changes.isEmpty else { return }
        let observations = changes.compactMap { change in
            ServerID(change.id).map {
                Observation(server: $0, health: change.verdict.health, reason: change.reason)
            }
        }
        for place in observations.compactMap({ servers.place(of: $0.server) }) { staleServers.insert(place) }
        feed(.observed(observations), now: now)
    }

    private func publishEvents(now: Instant) {
        let fresh = log.takeUnpublished()
        guard !fresh.isEmpty else { return }
        status.publish(fresh, now: now.nanoseconds)
        runCommand(for: fresh)
        tellNews()
        isPageStale = true
    }
}

extension CheckVerdict {
    fileprivate var health: Health {
        switch self {
        case .unknown: .unknown
        case .up: .up
        case .down: .down
        case .drain: .drain
        }
    }
}
