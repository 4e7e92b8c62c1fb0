// Runtime+Status: this node's view of everything, as one value for the status port. Made when somebody asks.

import Gossip
import Proxy

extension Runtime {
    func report(now: Instant) -> StatusReport {
        let figures = dataPlane.figures
        let leader = core.knownLeader(now: now)
        var report = StatusReport(
            node: name(me), cluster: configuration.cluster, version: version,
            uptimeSeconds: startedAt.duration(to: now).milliseconds / 1000, role: shown(core.role), term: core.term,
            leader: leader.map { name($0) }, quorum: core.hasQuorum(now: now),
            state: StatusReport.State(
                index: core.appliedIndex, digest: hex(core.table.digest), configDigest: configuration.digest,
                wireVersion: core.wireVersion))
        let owner = core.owner(now: now)
        report.vips = configuration.vips.map {
            StatusReport.VIP(
                address: $0.address, interface: $0.interface, owner: owner.map { name($0) },
                heldHere: core.holdsAddress,
                sinceSeconds: overview.figures.span(overview.tenure.owner, \.ownsMs, now: now)?.seconds)
        }
        report.leaderSinceSeconds = overview.figures.span(overview.tenure.leader, \.leadsMs, now: now)?.seconds
        report.leaseRemainingMs = Int(core.leaseRemaining(now: now)?.milliseconds ?? 0)
        report.leaseMs = Int(configuration.gossip.lease.milliseconds)
        report.nodes = nodes(now: now)
        report.backends = backends(figures, now: now)
        report.events = log.events
        report.eventCounts = log.counts
        report.logLinesDropped = log.linesDropped
        report.eventsElsewhere = overview.news.events
        report.fencing = fencing(now: now)
        report.forced = core.isForced
        report.problems = problems(now: now)
        report.elections = counters
        report.gossip = gossipFigures
        report.storage = writes
        report.commands = command.figures
        report.traffic = traffic(figures)
        report.work = overview.figures.work(
            alive: configuration.nodes.map { node in report.nodes.first { $0.id == node.id }?.alive ?? false }, now: now
        )
        report.process = ProcessFigures.current()
        return report
    }

    private func name(_ member: MemberID) -> String { configuration.nodes[member.index].id }

    private func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// Asking whether an election could be won is what a follower does that hears no leader.
    private func shown(_ role: Role) -> String { role == .preCandidate ? Role.follower.rawValue : role.rawValue }

    private func nodes(now: Instant) -> [StatusReport.Peer] {
        var nodes = core.peerStatus(now: now).map { peer in
            StatusReport.Peer(
                id: name(peer.member), alive: peer.isAlive, lastHeardMs: peer.lastHeard.map { Int($0.milliseconds) },
                rttMs: peer.roundTrip?.milliseconds, role: peer.role.map { shown($0) } ?? "unknown",
                index: peer.applied ?? 0, configDigest: peer.configuration.map { hex($0) } ?? "",
                configDiffers: configuration.sectionsDiffering(from: peer.sections).map(\.rawValue),
                draining: peer.isDraining, gate: gate(peer.condition), unfit: peer.condition?.unfit ?? [],
                word: overview.figures.word(of: peer.member.index, now: now),
                loss: overview.losses[peer.member.index].loss, disagrees: disagrees(peer.member),
                version: Version.text(of: overview.figures.whole(of: peer.member.index)?.figures.version ?? 0),
                wireVersion: core.wireVersion(of: peer.member))
        }
        nodes.append(
            StatusReport.Peer(
                id: name(me), alive: true, lastHeardMs: 0, rttMs: 0, role: shown(core.role), index: core.appliedIndex,
                configDigest: configuration.digest, draining: core.isDraining, gate: gate(core.condition),
                unfit: core.condition.unfit, word: overview.figures.word(of: me.index, now: now), version: version,
                wireVersion: core.wireVersion(of: me)))
        return nodes.sorted { $0.id < $1.id }
    }

    /// Told of the same index, and another state: never, unless something is broken.
    private func disagrees(_ member: MemberID) -> Bool {
        guard let word = overview.figures.whole(of: member.index)?.figures, word.stateDigest > 0 else { return false }
        return word.stateIndex == core.appliedIndex && word.stateDigest != core.table.digest
    }

    private func backends(_ figures: Figures, now: Instant) -> [StatusReport.Backend] {
        configuration.backends.indices.map { index in
            let (backend, servers, panic) = (
                configuration.backends[index], servers.backends[index], servers.panics[index]
            )
            return StatusReport.Backend(
                name: backend.name, balance: backend.balance.rawValue,
                stickCookie: backend.stickCookie?.name,
                servers: servers.map {
                    server(from: $0, of: backend, figures.servers[$0.name] ?? ServerFigures(), now: now)
                },
                queue: StatusReport.Queue(figures.backends[backend.name] ?? BackendFigures()), panic: panic != nil,
                slowStartMs: backend.balancing.slowStart?.wholeMilliseconds,
                outlier: backend.resilience.outlier.map {
                    StatusReport.Outlier(errors: $0.errors, statusErrors: $0.statusErrors)
                },
                autoscale: autoscale(index, now: now))
        }
    }

    private func server(
        from server: ActiveServer, of backend: Configuration.Backend, _ figures: ServerFigures, now: Instant
    ) -> StatusReport.Server {
        let views = configuration.nodes.indices.map { index in
            StatusReport.View(
                node: configuration.nodes[index].id,
                health: (core.view(of: server.id, by: MemberID(index))?.health ?? .unknown).rawValue)
        }
        let since = server.sinceMs == 0 ? 0 : Double(max(0, System.wallMilliseconds() - server.sinceMs)) / 1000
        let probe = prober.view(of: server.name)
        let work = overview.figures.work(with: server.name, nodes: configuration.nodes.map(\.id), now: now)
        var shown = StatusReport.Server(
            id: server.id.server, address: server.address.description, health: server.health.rawValue,
            admin: server.admin.rawValue, weight: server.weight, isBackup: server.isBackup,
            maxConnections: server.connectionsMax, reason: reason(of: server, probe), sinceSeconds: since, views: views,
            sessions: figures.sessions, requests: figures.requests, retries: figures.retries, errors: figures.errors,
            outliers: figures.outliers,
            checkSeconds: probe.flatMap { $0.checkedNs > 0 ? Double($0.latencyNs) / 1e9 : nil },
            latency: figures.latency, work: work)
        if server.health == .up, server.sinceMs > 0, let span = backend.balancing.slowStart {
            shown.slowStart = StatusReport.SlowStart(upSeconds: since, spanMs: span.wholeMilliseconds)
        }
        if let rule = backend.resilience.outlier {
            shown.setAsideBy = StatusReport.Outlier(errors: rule.errors, statusErrors: rule.statusErrors)
                .nodesAside(work.byNode)
        }
        return shown
    }

    /// The agreed verdict's reason; without a verdict, why this node has nothing to say.
    private func reason(of server: ActiveServer, _ probe: ProbeView?) -> String {
        if !server.reason.isEmpty { return server.reason }
        guard let probe, probe.verdict == .unknown, !probe.reason.isEmpty else { return "not checked yet" }
        return probe.reason
    }

    private func gate(_ condition: Digest.Condition?) -> Bool? { configuration.vips.isEmpty ? nil : condition?.hasGate }

    /// `auto` is as good as the weakest of the nodes that are there: any of them may be the next owner.
    private func fencing(now: Instant) -> String? {
        guard !configuration.vips.isEmpty else { return nil }
        guard configuration.fencing == .auto else { return configuration.fencing.rawValue }
        let peers = core.peerStatus(now: now).filter(\.isAlive)
        let isGated = core.hasGate && peers.allSatisfy { $0.condition?.hasGate ?? true }
        return (isGated ? Configuration.Fencing.gate : .wait).rawValue
    }

    private func problems(now: Instant) -> [String] {
        var problems: [String] = []
        if core.isForced {
            problems.append(
                "FORCED: \(name(me)) owns the VIP without a majority, by an operator's order; if another node lives, there "
                    + "may be two owners. It ends by itself when a majority is in touch")
        }
        if !core.hasQuorum(now: now) { problems.append("no quorum: a majority of the nodes is not in touch") }
        if let echoProblem { problems.append(echoProblem) }
        if let storage = core.storageProblem {
            problems.append("this node can't write its state (\(storage)): it neither votes nor leads")
        }
        if core.isForgetful, core.peerStatus(now: now).contains(where: \.isAlive) {
            problems.append(
                "this node started with an empty disk: it takes no part in elections until a leader has brought it up to date"
            )
        }
        for (name, panic) in zip(servers.names, servers.panics) {
            guard let panic else { continue }
            problems.append(panic.text(backend: name))
        }
        // Without a quorum everybody has other worries.
        for (index, backend) in configuration.backends.enumerated() where core.hasQuorum(now: now) {
            guard backend.autoscale != nil, let problem = scalingProblem(index, now: now) else { continue }
            problems.append("backend \(backend.name): how many servers it should have isn't decided: \(problem)")
        }
        if core.lacksVIP(now: now) { problems.append("this node leads and can't get the VIP; see its events") }
        problems += strangerProblems(now: now)
        for peer in core.peerStatus(now: now) {
            let id = name(peer.member)
            guard peer.isAlive else {
                problems.append("node \(id) is silent")
                continue
            }
            if let digest = peer.configuration, hex(digest) != configuration.digest {
                let sections = configuration.sectionsDiffering(from: peer.sections).map(\.rawValue)
                let what = sections.isEmpty ? "" : "; what differs: \(sections.joined(separator: ", "))"
                problems.append("node \(id) has another configuration file\(what)")
            }
            if disagrees(peer.member) {
                problems.append("node \(id) has ANOTHER STATE at the same index: see `state.digest` of both")
            }
            if let key = gossip.key(of: peer.member), key > 0 {
                problems.append("node \(id) signs gossip with key \(key + 1) of this node's key file, not with key 1")
            }
            if core.hasGate, offLink.contains(peer.member) {
                problems.append(
                    "node \(id) isn't a neighbour on the VIP's interface (see `ip route get` of its address): a planned "
                        + "move to it can't keep connections, and drains first")
            }
            if let condition = peer.condition { problems += weaknesses(of: id, condition, reason: nil) }
        }
        if dataPlane.accepting.paused > 0 {
            problems.append("no new connections are accepted for now: out of descriptors, or at limits.connections")
        }
        problems += listeners.deaf.map { "\(ListenerNews.text($0)); restart this node" }
        if let problem = dataPlane.logProblem { problems.append("lines of the access log are lost: \(problem)") }
        if let reloadProblem { problems.append("the file has changed, and nothing of it holds: \(reloadProblem)") }
        for (backend, former) in heldServers.byBackend.sorted(by: { $0.key < $1.key }) {
            problems.append(
                "backend \(backend): no verdict on its servers yet (a majority of the nodes has to read the new file), so "
                    + "requests go to \(former.map(\.id).joined(separator: ", "))")
        }
        if !awaitsRestart.isEmpty {
            problems.append(
                "the file has changed, and needs a restart of this node: \(awaitsRestart.joined(separator: ", "))")
        }
        return problems + weaknesses(of: name(me), core.condition, reason: gateProblem)
    }

    /// What makes a node a worse owner of the VIP than it could be.
    private func weaknesses(of id: String, _ condition: Digest.Condition, reason: String?) -> [String] {
        var problems: [String] = []
        // The own fence has a second to find out before it counts as a lack.
        let isKnown = id != name(me) || reason != nil
        if !configuration.vips.isEmpty, !condition.hasGate, isKnown {
            let why = reason.map { " (\($0))" } ?? " (its log says why)"
            switch configuration.fencing {
            case .auto: problems.append("node \(id) has no gate\(why): a crash of it takes about 1.3 s longer")
            case .gate: problems.append("node \(id) has no gate\(why): with fencing \"gate\" it can't own the VIP")
            case .wait, .trust: break
            }
        }
        for fault in condition.unfit {
            switch fault {
            case "gateway":
                problems.append("node \(id) doesn't reach the gateway \(configuration.leadership.gateway ?? "")")
            case "servers":
                problems.append(
                    "node \(id) reaches \(condition.reach == 0 ? "none" : "few") of the servers that others reach")
            default: problems.append("node \(id) can't answer clients: its fence, its listeners or its workers fail")
            }
        }
        return problems
    }

    private var gossipFigures: StatusReport.Gossip {
        var figures = StatusReport.Gossip()
        figures.datagramsSent = gossip.datagramsSent
        figures.bytesSent = gossip.bytesSent
        figures.datagramsReceived = gossip.datagramsReceived
        figures.bytesReceived = gossip.bytesReceived
        figures.sendErrors = gossip.sendErrors
        figures.drops = DropReason.allCases.map {
            StatusReport.Drop(reason: String(describing: $0), count: gossip.drops($0))
        }
        figures.drops.append(StatusReport.Drop(reason: "undecodable", count: gossip.undecodable))
        figures.drops.append(StatusReport.Drop(reason: "byKernel", count: gossip.dropsOfKernel()))
        return figures
    }

    private func traffic(_ figures: Figures) -> StatusReport.Traffic {
        var traffic = StatusReport.Traffic()
        traffic.connections = figures.connections
        traffic.idleConnections = figures.idle
        traffic.requestsInFlight = figures.inFlight
        traffic.connectionsAccepted = figures.accepted
        traffic.requests = figures.requests
        traffic.responses = Array(figures.responses.dropFirst().prefix(5))
        traffic.retries = figures.retries
        traffic.errors = figures.errors
        traffic.retriesDenied = figures.retriesDenied
        traffic.refused = figures.refused
        traffic.aborted = figures.aborted
        traffic.bytesReceived = figures.bytesIn
        traffic.bytesSent = figures.bytesOut
        traffic.slowHeads = figures.slow.heads
        traffic.slowBodies = figures.slow.bodies
        traffic.slowReaders = figures.slow.readers
        traffic.sourceConnections = figures.overLimit.connections
        traffic.sourceConnectionRate = figures.overLimit.connectionRate
        traffic.sourceRequestRate = figures.overLimit.requestRate
        traffic.acceptPaused = figures.accepting.paused
        traffic.acceptPausesSystem = figures.accepting.pausesSystem
        traffic.acceptPausesFull = figures.accepting.pausesFull
        traffic.logged = figures.accessLog.written
        traffic.logDropped = figures.accessLog.dropped
        traffic.frontends = configuration.frontends.map { frontend in
            let own = figures.frontends[frontend.name] ?? FrontendFigures()
            return StatusReport.Frontend(
                name: frontend.name, address: frontend.place,
                backend: configuration.backends[frontend.backend].name,
                routes: frontend.routes.map {
                    StatusReport.Route(
                        host: $0.host, path: $0.path, backend: configuration.backends[$0.backend].name)
                },
                connections: own.connections, maxConnections: frontend.maxConnections ?? 0,
                pausedWorkers: own.pausedWorkers, pauses: own.pauses)
        }
        return traffic
    }
}

extension Digest.Condition {
    /// What is amiss, in the status' words.
    var unfit: [String] {
        (answersClients ? [] : ["clients"]) + (reachesGateway ? [] : ["gateway"]) + (reach < 2 ? ["servers"] : [])
    }
}

extension Duration {
    fileprivate var seconds: Double { milliseconds / 1000 }
}
