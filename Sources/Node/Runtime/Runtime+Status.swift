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
                index: core.appliedIndex, digest: hex(core.table.digest), configDigest: configuration.digest))
        let owner = core.owner(now: now)
        report.vips = configuration.vips.map {
            StatusReport.VIP(
                address: $0.address, interface: $0.interface, owner: owner.map { name($0) },
                heldHere: core.holdsAddress)
        }
        report.leaseRemainingMs = Int(core.leaseRemaining(now: now)?.milliseconds ?? 0)
        report.nodes = nodes(now: now)
        report.backends = backends(figures, now: now)
        report.events = log.events
        report.fencing = configuration.vips.isEmpty ? nil : core.configuration.fencing.rawValue
        report.problems = problems(now: now)
        report.elections = counters
        report.gossip = gossipFigures
        report.storage = writes
        report.traffic = traffic(figures)
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
                index: peer.applied ?? 0, configDigest: peer.configuration.map { hex($0) } ?? "")
        }
        nodes.append(
            StatusReport.Peer(
                id: name(me), alive: true, lastHeardMs: 0, rttMs: 0, role: shown(core.role), index: core.appliedIndex,
                configDigest: configuration.digest))
        return nodes.sorted { $0.id < $1.id }
    }

    private func backends(_ figures: Figures, now: Instant) -> [StatusReport.Backend] {
        zip(configuration.backends, servers.backends).map { backend, servers in
            StatusReport.Backend(
                name: backend.name, balance: backend.balance.rawValue,
                servers: servers.map { server(from: $0, figures.servers[$0.name] ?? ServerFigures()) })
        }
    }

    private func server(from server: ActiveServer, _ figures: ServerFigures) -> StatusReport.Server {
        let views = configuration.nodes.indices.map { index in
            StatusReport.View(
                node: configuration.nodes[index].id,
                health: (core.view(of: server.id, by: MemberID(index))?.health ?? .unknown).rawValue)
        }
        let since = server.sinceMs == 0 ? 0 : Double(max(0, System.wallMilliseconds() - server.sinceMs)) / 1000
        let probe = prober.view(of: server.name)
        return StatusReport.Server(
            id: server.id.server, address: server.address.description, health: server.health.rawValue,
            admin: server.admin.rawValue, weight: server.weight,
            reason: server.reason.isEmpty ? "not checked yet" : server.reason, sinceSeconds: since, views: views,
            sessions: figures.sessions, requests: figures.requests, retries: figures.retries, errors: figures.errors,
            checkSeconds: probe.flatMap { $0.checkedNs > 0 ? Double($0.latencyNs) / 1e9 : nil })
    }

    private func problems(now: Instant) -> [String] {
        var problems: [String] = []
        if !core.hasQuorum(now: now) { problems.append("no quorum: a majority of the nodes is not in touch") }
        if let storage = core.storageProblem {
            problems.append("this node can't write its state (\(storage)): it neither votes nor leads")
        }
        if core.lacksVIP(now: now) { problems.append("this node leads and can't get the VIP; see its events") }
        for peer in core.peerStatus(now: now) {
            if !peer.isAlive { problems.append("node \(name(peer.member)) is silent") }
            if let digest = peer.configuration, hex(digest) != configuration.digest {
                problems.append("node \(name(peer.member)) has another configuration file")
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
        traffic.frontends = configuration.frontends.map { frontend in
            StatusReport.Frontend(
                name: frontend.name, address: "\(frontend.address ?? "*"):\(frontend.port)",
                backend: configuration.backends[frontend.backend].name)
        }
        return traffic
    }
}
