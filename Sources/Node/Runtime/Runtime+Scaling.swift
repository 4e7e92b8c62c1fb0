// Runtime+Scaling: once a second, what each backend's load asks for. Every node looks, so that a new leader knows what came
// before it; the leader alone tells the cluster.

import Gossip
import Proxy

extension Runtime {
    /// Why a backend's number of servers isn't decided now; nil: nothing stands against it.
    func scalingProblem(_ backend: Int, now: Instant) -> String? {
        if !core.hasQuorum(now: now) { return "no quorum" }
        let version = Command.scale(backend: "", nil).wireVersion
        if core.wireVersion < version {
            let former = configuration.nodes.indices.map { MemberID($0) }.filter {
                (core.wireVersion(of: $0) ?? 0) < version
            }
            let told = former.map { member in
                let id = configuration.nodes[member.index].id
                return core.wireVersion(of: member).map { "\(id) speaks \($0)" } ?? "\(id) hasn't said what it speaks"
            }
            return "it takes wire version \(version) on every node: \(told.joined(separator: ", "))"
        }
        if servers.panics[backend] != nil { return "so few servers are up that verdicts are ignored" }
        // Any of them may have the traffic.
        let stale = core.peerStatus(now: now).filter(\.isAlive).map(\.member).filter { member in
            overview.figures.whole(of: member.index).map { $0.age(now: now) > ClusterFigures.freshFor } ?? true
        }
        guard stale.isEmpty else {
            return "no fresh figures of \(stale.map { configuration.nodes[$0.index].id }.joined(separator: ", "))"
        }
        return nil
    }

    /// Once a second, after the figures.
    func decideScaling(now: Instant) {
        forgetScaling(now: now)
        if !scaling.isEmpty { scaling = scaling.filter { entry in servers.names.contains(entry.key) } }
        for (index, backend) in configuration.backends.enumerated() {
            guard let rules = backend.autoscale, servers.backends.indices.contains(index) else {
                scaling[backend.name] = nil
                continue
            }
            var decision = scaling[backend.name] ?? ScalingDecision()
            defer { scaling[backend.name] = decision }
            guard scalingProblem(index, now: now) == nil else {
                decision.interrupt()
                continue
            }
            let names = servers.backends[index].map(\.name)
            let totals = names.map { overview.figures.figures(of: $0, now: now) }
            switch rules.share {
            case .requests: decision.note(totals.reduce(0) { $0 + $1.requestsPerSecond }, rules, now: now)
            case .sessions: decision.note(Double(totals.reduce(0) { $0 + $1.figures.sessions }), rules, now: now)
            }
            let current = core.table.scaling(of: backend.name)?.desired
            guard let (count, reason) = decision.decide(current: current, serving: serving(index), rules, now: now),
                core.role == .leader
            else { continue }
            let wanted = Scaling(desired: count, reason: reason, atMs: System.wallMilliseconds())
            feed(.scale(backend: backend.name, wanted), now: now)
        }
    }

    /// Servers of a backend that get requests as usual.
    private func serving(_ backend: Int) -> Int {
        guard servers.backends.indices.contains(backend) else { return 0 }
        return servers.backends[backend].count { $0.health == .up && $0.admin == .ready && !$0.isBackup }
    }

    /// As leader: what the file doesn't scale any more is no business of the cluster either.
    private func forgetScaling(now: Instant) {
        guard core.role == .leader else { return }
        let scaled = configuration.backends.filter { $0.autoscale != nil }.map(\.name)
        for record in core.table.scalings where !scaled.contains(record.backend) {
            feed(.scale(backend: record.backend, nil), now: now)
        }
    }

    /// What the status says of it; nil for a backend that isn't scaled.
    func autoscale(_ backend: Int, now: Instant) -> StatusReport.Autoscale? {
        let name = configuration.backends[backend].name
        guard let rules = configuration.backends[backend].autoscale else { return nil }
        let agreed = core.table.scaling(of: name)
        return StatusReport.Autoscale(
            min: rules.min, max: rules.max, perServer: rules.share.perServer, unit: rules.share.unit,
            serving: serving(backend), desired: agreed?.desired, reason: agreed?.reason ?? "",
            sinceSeconds: agreed.map { Double(max(0, System.wallMilliseconds() - $0.atMs)) / 1000 },
            load: scaling[name]?.load, problem: scalingProblem(backend, now: now))
    }
}
