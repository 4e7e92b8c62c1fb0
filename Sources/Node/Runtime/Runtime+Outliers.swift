// Runtime+Outliers: what this node's own requests and the state of its backends say beside the checks: servers that are set
// aside, and backends of which too few are up to believe it.

import Gossip
import Proxy

extension Runtime {
    /// Servers that failed while forwarding: every node checks them at once.
    func takeSuspicions(now: Instant) {
        for (name, isOutlier) in dataPlane.takeSuspicions() {
            guard let id = ServerID(name) else { continue }
            feed(.suspect(id), now: now)
            guard isOutlier else { continue }
            let errors = configuration.backends.first { $0.name == id.backend }?.resilience.outlier?.errors ?? 0
            log.add(
                .serverOutlier,
                "\(name) made \(errors) errors in a row: this node sets it aside, every node checks it now",
                level: .warning)
        }
    }

    /// Backends in which too few servers are up to believe it: an event when that begins and when it ends.
    func tellPanics() {
        for (name, panic) in zip(servers.names, servers.panics) {
            let was = panicking.contains(name)
            if let panic, !was {
                panicking.insert(name)
                log.add(.panic, panic.text(backend: name), level: .warning)
            } else if panic == nil, was {
                panicking.remove(name)
                log.add(.panicOver, "backend \(name): enough servers are up: the verdicts count again")
            }
        }
        panicking.formIntersection(servers.names)
    }
}
