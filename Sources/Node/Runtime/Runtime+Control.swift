// Runtime+Control: operators' requests, signals, planned moves, stop.
//
// A planned move (a hand-over, or a stop of the leader):
//
//   with the gate, which keeps connections:
//     moving ───────────────▶ draining ──────────────▶ done: exit if stopping
//       the successor is        this node serves the connections it has, and says
//       elected; this node      `Connection: close` on each response; over when none
//       goes silent (yields)    is left, or `timeouts.drain` has passed
//
//   without:
//     draining ─────────────▶ moving ──────────────▶ done: take requests again, or exit
//       as above, idle          the successor is        │
//       clients are shed        elected and this node   └ nobody took over: go on as before,
//                               lets go (core)            or, when stopping, resign and exit
//
// With the gate and nobody to take over, a stop goes the way without. A stop of a follower does, too, with nothing to move.

import Glibc
import Gossip
import Proxy

/// A planned move under way.
struct Move {
    enum Phase {
        case draining, moving, resigning
    }

    let target: MemberID?
    var thenExit: Bool
    /// The gate lets this node serve its connections after the move: it drains last instead of first.
    var keepsFlows: Bool
    let startedAt: Instant
    /// When this node fell silent for the VIP and began to drain, if it keeps its connections.
    var yieldedAt: Instant?
    var phase: Phase
    /// The end of the present phase at the latest.
    var deadline: Instant
    /// Clients that outlast the drain were told so.
    var hasAbandoned = false
}

/// An operator who waits for a move.
struct MoveRequest {
    let ticket: AdminTicket
    let target: MemberID?
    let from: MemberID
    let deadline: Instant
    var askAgainAt: Instant
    /// Another node has led since.
    var hasMoved = false
}

extension Runtime {
    /// Between two looks at how far a drain has come.
    private static var drainLook: Duration { .milliseconds(2) }
    private static var dropLook: Duration { .milliseconds(1) }
    private static var dropPatience: Duration { .milliseconds(60) }
    /// Idle clients are shed after this much of a drain: those that are busy have closed by then.
    private static var idleGrace: Duration { .milliseconds(500) }
    private static var keptAtLeast: Duration { .seconds(1) }
    /// For the resets of those that outlast a drain to reach them, while this node may still send from the VIP.
    private static var abandonGrace: Duration { .milliseconds(50) }

    // MARK: Operators

    func takeAdminRequests(now: Instant) {
        for (ticket, request) in status.takeAdminRequests() {
            switch request {
            case .setAdmin(let id, let state): propose(.setAdmin(id, state), ticket, now: now)
            case .setWeight(let id, let weight): propose(.setWeight(id, weight: weight), ticket, now: now)
            case .remove(let id): propose(.remove(id), ticket, now: now)
            case .add(let id, let address):
                guard configuration.backends.contains(where: { $0.name == id.backend }) else {
                    let known = configuration.backends.map(\.name).joined(separator: ", ")
                    status.answer(
                        ticket, status: 404, text: "there is no backend \(id.backend); there are \(known)",
                        now: now.nanoseconds)
                    continue
                }
                propose(.add(id, address: address.description), ticket, now: now)
            case .handover(let node): requestMove(to: node, ticket, now: now)
            case .forceLeader(let node): forceLeader(node, ticket, now: now)
            }
        }
    }

    /// For the last survivor: what nobody else can be asked about, so only the node itself is.
    private func forceLeader(_ node: String, _ ticket: AdminTicket, now: Instant) {
        func answer(_ code: Int, _ text: String) {
            status.answer(ticket, status: code, text: text, now: now.nanoseconds)
        }
        guard let place = configuration.place(of: node) else {
            let known = configuration.nodes.map(\.id).joined(separator: ", ")
            return answer(404, "there is no node \(node); there are \(known)")
        }
        guard MemberID(place) == me else {
            let other = configuration.nodes[place]
            let url = SocketAddress(address: other.address, port: other.statusPort).map { "http://\($0)" } ?? ""
            return answer(409, "this is \(configuration.nodes[me.index].id); say it to \(node) itself: --url \(url)")
        }
        if let problem = core.forceProblem(now: now) { return answer(409, problem) }
        feed(.forceLeader, now: now)
        answer(
            200,
            "\(node) takes the VIP without a majority; it is the cluster's to decide again as soon as a majority is in touch"
        )
    }

    private func propose(_ command: Command, _ ticket: AdminTicket, now: Instant) {
        nextRequestNumber += 1
        let request = RequestID(origin: me, boot: boot, number: nextRequestNumber)
        waiting[request] = ticket
        feed(.propose(command, request), now: now)
    }

    func answer(_ request: RequestID, _ outcome: Outcome, now: Instant) {
        guard let ticket = waiting.removeValue(forKey: request) else { return }
        let (code, text) =
            switch outcome {
            case .done: (200, "done: a majority of the nodes has it on disk")
            case .refused(let reason): (409, reason)
            case .unacknowledged(let reason): (503, reason)
            }
        status.answer(ticket, status: code, text: text, now: now.nanoseconds)
    }

    private func requestMove(to node: String?, _ ticket: AdminTicket, now: Instant) {
        func refuse(_ code: Int, _ text: String) {
            status.answer(ticket, status: code, text: text, now: now.nanoseconds)
        }
        var target: MemberID?
        if let node {
            guard let place = configuration.place(of: node) else {
                return refuse(
                    404, "there is no node \(node); there are \(configuration.nodes.map(\.id).joined(separator: ", "))")
            }
            target = MemberID(place)
        }
        guard let leader = core.knownLeader(now: now) else { return refuse(503, "there is no leader to hand over now") }
        if target == leader { return refuse(409, "\(configuration.nodes[leader.index].id) leads already") }
        if core.role == .leader, let problem = core.handoverProblem(to: target, now: now) {
            return refuse(409, problem)
        }
        let patience = configuration.timeouts.drain + .seconds(3)
        moveRequests.append(
            MoveRequest(
                ticket: ticket, target: target, from: leader, deadline: now.advanced(by: patience),
                askAgainAt: now.advanced(by: .milliseconds(250))))
        feed(.requestHandover(to: target), now: now)
    }

    // MARK: Moves

    /// - Parameter thenExit: the process ends afterwards.
    func beginMove(to target: MemberID?, thenExit: Bool, now: Instant) {
        // An election and the resignation after it, beside the drain.
        if thenExit { service.stopping(within: configuration.timeouts.drain + electionPatience + .seconds(10)) }
        guard move == nil else {
            if thenExit {
                move?.thenExit = true
                // It gave the VIP away already and must not get it back.
                mustResign = core.isDraining
            }
            return
        }
        let keepsFlows = core.role == .leader && core.movesKeepFlows(to: target, now: now)
        // Who can't serve clients has nothing to finish for them.
        let drain = core.condition.serves ? configuration.timeouts.drain : .zero
        let patience = keepsFlows ? electionPatience : drain
        move = Move(
            target: target, thenExit: thenExit, keepsFlows: keepsFlows, startedAt: now,
            phase: keepsFlows ? .moving : .draining, deadline: now.advanced(by: patience))
        log.add(
            .drain,
            (thenExit ? "stopping" : "handing over")
                + (keepsFlows ? ": what is in flight goes on here" : ": finishing what is in flight"))
        if !keepsFlows { dataPlane.setDraining(true) }
        mustHandOver = keepsFlows
    }

    private var electionPatience: Duration { configuration.gossip.electionTimeoutMax * 2 }

    /// The core gave the VIP away; its connections stay until they are over.
    func yield(order: UInt64, now: Instant) {
        fence?.yield(order: order)
        dataPlane.setDraining(true)
        let deadline = now.advanced(by: configuration.timeouts.drain)
        if move == nil {
            move = Move(
                target: nil, thenExit: false, keepsFlows: true, startedAt: now, phase: .draining, deadline: deadline)
        }
        // Whatever the move began as: the core decides for the node that takes over.
        move?.keepsFlows = true
        move?.phase = .draining
        move?.yieldedAt = now
        move?.deadline = deadline
        // It will not be back.
        if move?.thenExit ?? false { mustResign = true }
    }

    /// This node owns the VIP again: the connections that it kept are like any other.
    func endDrainAsOwner(now: Instant) {
        if let current = move, current.keepsFlows, current.phase == .draining, !current.thenExit { endMove(now: now) }
    }

    /// In a planned move the VIP stays until no client is connected, for a moment: the lease still runs, and the
    /// successor waits for the word that it is gone. The fence ends it with the lease in any case.
    func letGo(order: UInt64, now: Instant) {
        guard let move, !move.keepsFlows else {
            fence?.drop(order: order)
            return
        }
        pendingDrop = (order, now.advanced(by: Self.dropPatience))
        elapseDrop(now: now)
    }

    private func elapseDrop(now: Instant) {
        guard let pending = pendingDrop, now >= pending.at || dataPlane.connections == 0 else { return }
        pendingDrop = nil
        fence?.drop(order: pending.order)
    }

    func moveDeadline(now: Instant) -> Instant? {
        if pendingDrop != nil { return now.advanced(by: Self.dropLook) }
        if mustHandOver || mustResign { return now }
        if move != nil { return now.advanced(by: Self.drainLook) }
        return moveRequests.map { min($0.askAgainAt, $0.deadline) }.min()
    }

    func elapseMove(now: Instant) {
        elapseDrop(now: now)
        answerMoveRequests(now: now)
        if mustHandOver {
            mustHandOver = false
            feed(.handover(to: move?.target), now: now)
        }
        if mustResign {
            mustResign = false
            feed(.resign, now: now)
        }
        guard let current = move else { return }
        switch current.phase {
        case .draining where current.keepsFlows: elapseKeptFlows(current, now: now)
        case .draining:
            // Clients that ask meanwhile are told to close; the silent ones are shed.
            if now >= current.startedAt.advanced(by: Self.idleGrace) { dataPlane.closeIdle() }
            guard dataPlane.connections == 0 || now >= current.deadline else { return }
            // The address stays until they are gone (`elapseDrop`).
            abandonClients()
            move?.phase = .moving
            move?.deadline = now.advanced(by: electionPatience)
            feed(.handover(to: current.target), now: now)
        case .moving:
            if core.isIdle { return endMove(now: now) }
            guard now >= current.deadline else { return }
            guard current.thenExit else { return endMove(now: now) }
            if current.keepsFlows { return drainAsOwner(now: now) }
            move?.phase = .resigning
            move?.deadline = now.advanced(by: .seconds(1))
            feed(.resign, now: now)
        case .resigning:
            if core.isIdle || now >= current.deadline { endMove(now: now) }
        }
    }

    /// Nobody took over, and this node stops: its clients get what time there is.
    private func drainAsOwner(now: Instant) {
        move?.keepsFlows = false
        move?.phase = .draining
        move?.deadline = now.advanced(by: configuration.timeouts.drain)
        dataPlane.setDraining(true)
    }

    private func elapseKeptFlows(_ current: Move, now: Instant) {
        // Who is idle near the end is told in time, while packets still get there.
        if now >= current.deadline.advanced(by: .zero - Self.idleGrace) { dataPlane.closeIdle() }
        // The kernel may have begun connections that no worker has seen yet (TCP_DEFER_ACCEPT).
        let isOver = dataPlane.connections == 0 && now >= (current.yieldedAt ?? now).advanced(by: Self.keptAtLeast)
        guard isOver || now >= current.deadline else { return }
        if !isOver, !current.hasAbandoned {
            move?.hasAbandoned = true
            move?.deadline = now.advanced(by: Self.abandonGrace)
            return abandonClients()
        }
        feed(.drained, now: now)
        // Others may still need this node on the way to an earlier owner.
        if !current.thenExit || !core.keepsFlows { endMove(now: now) }
    }

    /// Whoever is still here reached this node at a VIP that is about to be another's.
    private func abandonClients() {
        dataPlane.abandon(configuration.vips.compactMap { SocketAddress(address: $0.host, port: 0) })
    }

    private func endMove(now: Instant) {
        guard let ended = move else { return }
        move = nil
        if ended.thenExit {
            fence?.finish()
            log.add(.stopped, "stopped")
            exitCode = 0
        } else {
            dataPlane.setDraining(false)
        }
    }

    private func answerMoveRequests(now: Instant) {
        var open: [MoveRequest] = []
        for var request in moveRequests {
            let leader = core.knownLeader(now: now)
            let owner = core.owner(now: now)
            if let leader, leader != request.from { request.hasMoved = true }
            if let leader, leader != request.from, configuration.vips.isEmpty || owner == leader {
                let isWanted = request.target == nil || request.target == leader
                status.answer(
                    request.ticket, status: isWanted ? 200 : 503,
                    text: "\(configuration.nodes[leader.index].id) leads now", now: now.nanoseconds)
            } else if request.hasMoved, leader == request.from {
                // Asked again it would go there and back until the deadline.
                let name = configuration.nodes[request.from.index].id
                status.answer(
                    request.ticket, status: 503,
                    text: "\(name) leads again: the node that took over couldn't get the VIP; see its events",
                    now: now.nanoseconds)
            } else if now >= request.deadline {
                let name = configuration.nodes[request.from.index].id
                status.answer(
                    request.ticket, status: 503, text: "\(name) still leads: nobody took over in time; see its events",
                    now: now.nanoseconds)
            } else {
                if now >= request.askAgainAt {
                    request.askAgainAt = now.advanced(by: .milliseconds(250))
                    if leader == request.from { feed(.requestHandover(to: request.target), now: now) }
                }
                open.append(request)
            }
        }
        moveRequests = open
    }

    /// Cuts off who is still here so that none takes it for an end, and writes the access log's last lines: for when the node
    /// has stopped. A worker that hangs isn't waited for.
    func endDataPlane() {
        for _ in 0..<100 {
            if dataPlane.isResponsive() { return dataPlane.stop() }
            usleep(10_000)
        }
    }

    // MARK: Signals

    func takeSignals(now: Instant) {
        for signal in SignalDescriptor.take(signals) {
            switch signal {
            case SIGHUP: reload(now: now)
            case SIGUSR1: dataPlane.reopenLog()
            default:
                // A second one: whoever sends it doesn't want to wait.
                if move?.thenExit ?? false {
                    feed(.resign, now: now)
                    move?.phase = .resigning
                    move?.deadline = now.advanced(by: .seconds(1))
                } else {
                    beginMove(to: nil, thenExit: true, now: now)
                }
            }
        }
    }
}
