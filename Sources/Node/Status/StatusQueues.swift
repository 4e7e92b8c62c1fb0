// StatusQueues: the parts of a report that are about backends as a whole: requests for which there is no place at a server,
// and panic.

import Proxy

extension StatusReport {
    /// A backend's queue at this node, all its workers together.
    struct Queue: Sendable, Equatable {
        /// Waiting now, and for how long the first has.
        var length = 0
        var longestWaitMs = 0
        /// Since the start: all that waited, those that waited in vain, those that found it full.
        var waited: UInt64 = 0
        var timeouts: UInt64 = 0
        var refused: UInt64 = 0

        init() {}

        init(_ figures: BackendFigures) {
            length = figures.queued
            longestWaitMs = figures.longestWaitMs
            waited = figures.everQueued
            timeouts = figures.queueTimeouts
            refused = figures.queueFull
        }

        func write(to writer: inout JSONWriter) {
            writer.object("queue") { writer in
                writer.field("length", length)
                writer.field("longestWaitMs", longestWaitMs)
                writer.field("waited", waited)
                writer.field("timeouts", timeouts)
                writer.field("refused", refused)
            }
        }

        /// For people; nil when nobody waits.
        var text: String? {
            length == 0 ? nil : "\(length) waiting for a place, the first for \(longestWaitMs) ms"
        }
    }
}

extension StatusMetrics {
    static func writeQueues(_ report: StatusReport, to writer: inout MetricsWriter) {
        writer.family("backend_queue_length", .gauge, "Requests of this node that wait for a place at a server.")
        for backend in report.backends { writer.sample(backend.queue.length, ["backend": backend.name]) }
        writer.family("backend_queue_wait_seconds", .gauge, "How long the first of them has waited.")
        for backend in report.backends {
            writer.sample(Double(backend.queue.longestWaitMs) / 1000, ["backend": backend.name])
        }
        writer.family("backend_panic", .gauge, "1 while so few servers are up that verdicts are ignored.")
        for backend in report.backends { writer.sample(backend.panic, ["backend": backend.name]) }
        writer.family("backend_queued_total", .counter, "Requests that waited for a place at a server.")
        for backend in report.backends { writer.sample(backend.queue.waited, ["backend": backend.name]) }
        writer.family("backend_queue_refused_total", .counter, "Requests that got no place, by why.")
        for backend in report.backends {
            writer.sample(backend.queue.timeouts, ["backend": backend.name, "reason": "timeout"])
            writer.sample(backend.queue.refused, ["backend": backend.name, "reason": "full"])
        }
        writer.family(
            "server_sessions_max", .gauge, "Requests this node may have under way at the server; 0: any number.")
        for backend in report.backends {
            for server in backend.servers {
                writer.sample(server.maxConnections, ["backend": backend.name, "server": server.id])
            }
        }
        writer.family("frontend_connections", .gauge, "Open client connections of a frontend.")
        for frontend in report.traffic.frontends { writer.sample(frontend.connections, ["frontend": frontend.name]) }
        writer.family("frontend_connections_max", .gauge, "Client connections it may have; 0: any number.")
        for frontend in report.traffic.frontends { writer.sample(frontend.maxConnections, ["frontend": frontend.name]) }
        writer.family("frontend_paused_workers", .gauge, "Workers that accept none for it, since it has as many.")
        for frontend in report.traffic.frontends { writer.sample(frontend.pausedWorkers, ["frontend": frontend.name]) }
        writer.family("frontend_pauses_total", .counter, "How often a worker stopped accepting for it.")
        for frontend in report.traffic.frontends { writer.sample(frontend.pauses, ["frontend": frontend.name]) }
    }
}
