// OverviewReport: puts what is known of all nodes' work into a report. Pure.

import Gossip

extension ClusterFigures {
    func word(of node: Int, now: Instant) -> StatusReport.NodeWord? {
        whole(of: node).map { told in
            StatusReport.NodeWord(
                ageMs: Int(told.age(now: now).milliseconds), figures: told.figures,
                requestsPerSecond: told.requestsPerSecond, errorsPerSecond: told.errorsPerSecond)
        }
    }

    /// - Parameter nodes: the ids, in order.
    func work(with server: String, nodes: [String], now: Instant) -> StatusReport.ServerWork {
        let total = figures(of: server, now: now)
        var work = StatusReport.ServerWork()
        work.sessions = total.figures.sessions
        work.connections = total.figures.connections
        work.requests = total.figures.requests
        work.retries = total.figures.retries
        work.errors = total.figures.errors
        work.requestsPerSecond = total.requestsPerSecond
        work.errorsPerSecond = total.errorsPerSecond
        work.trace = traces[server] ?? Trace()
        let latency = latency(of: server, now: now)
        work.p50Seconds = latency.percentile(0.5)
        work.p99Seconds = latency.percentile(0.99)
        work.byNode = nodes.enumerated().compactMap { index, id in
            figures(of: server, at: index).map { told in
                StatusReport.ServerWord(
                    node: id, ageMs: Int(told.age(now: now).milliseconds), sessions: told.figures.sessions,
                    requests: told.figures.requests, retries: told.figures.retries, errors: told.figures.errors,
                    errorsInRow: told.figures.errorsInRow, requestsPerSecond: told.requestsPerSecond)
            }
        }
        return work
    }

    /// - Parameter alive: whether each node is heard.
    func work(alive: [Bool], now: Instant) -> StatusReport.ClusterWork {
        var work = StatusReport.ClusterWork(ageMs: 0, trace: total)
        for (index, isAlive) in alive.enumerated() {
            guard let told = whole(of: index) else {
                if isAlive { work.ageMs = nil }
                continue
            }
            work.requests += told.figures.requests
            work.retries += told.figures.retries
            work.errors += told.figures.errors
            let age = told.age(now: now)
            if isAlive, let oldest = work.ageMs { work.ageMs = max(oldest, Int(age.milliseconds)) }
            guard age <= Self.freshFor else { continue }
            work.connections += told.figures.connections
            work.requestsInFlight += told.figures.inFlight
            work.requestsPerSecond += told.requestsPerSecond
            work.errorsPerSecond += told.errorsPerSecond
        }
        return work
    }

    /// How long a node has led or owned the VIP: by its own word while that is fresh, else since this node saw it.
    func span(
        _ holding: Tenure.Holding, _ own: KeyPath<NodeFigures, UInt64>, now: Instant
    ) -> Duration? {
        guard let member = holding.member else { return nil }
        let seen = max(.zero, holding.since.duration(to: now))
        guard let told = whole(of: member.index), told.age(now: now) <= Self.freshFor, told.figures[keyPath: own] > 0
        else { return seen }
        return max(seen, .milliseconds(Int64(clamping: told.figures[keyPath: own])) + told.age(now: now))
    }
}
