// StatusOverview: the parts of a report that are about all nodes' work: what each node last said, added up, and how old
// it is. Their JSON, too; names are a promise (see StatusReport).

extension StatusReport {
    /// What a node last said of its own work.
    struct NodeWord: Sendable, Equatable {
        var ageMs: Int
        var figures: NodeFigures
        var requestsPerSecond: Double
        var errorsPerSecond: Double
    }

    /// What a node last said of its work with one server.
    struct ServerWord: Sendable, Equatable {
        var node: String
        var ageMs: Int
        var sessions: Int
        var requests: UInt64
        var retries: UInt64
        var errors: UInt64
        /// Up to now; counted where `outlier` is configured.
        var errorsInRow = 0
        var requestsPerSecond: Double
    }

    /// All nodes' work with one server. Counters since each node's start; of nodes that fell silent, up to their last word.
    struct ServerWork: Sendable, Equatable {
        var sessions = 0
        var connections = 0
        var requests: UInt64 = 0
        var retries: UInt64 = 0
        var errors: UInt64 = 0
        var requestsPerSecond = 0.0
        var errorsPerSecond = 0.0
        /// How long its answers took in the last ten to twenty seconds; nil when there were none.
        var p50Seconds: Double?
        var p99Seconds: Double?
        /// For the page's graph.
        var trace = Trace()
        var byNode: [ServerWord] = []
    }

    /// All nodes' work together.
    struct ClusterWork: Sendable, Equatable {
        var connections: UInt64 = 0
        var requestsInFlight: UInt64 = 0
        var requests: UInt64 = 0
        var retries: UInt64 = 0
        var errors: UInt64 = 0
        var requestsPerSecond = 0.0
        var errorsPerSecond = 0.0
        /// Of the oldest word that is in it; nil when a node that is alive has said nothing yet.
        var ageMs: Int?
        var trace = Trace()
    }
}

extension StatusReport.NodeWord {
    func write(to writer: inout JSONWriter) {
        writer.object("figures") { writer in
            writer.field("ageMs", ageMs)
            writer.field("uptimeSeconds", Double(figures.uptimeMs) / 1000, decimals: 1)
            writer.field("leaseLowMs", figures.leaseLowMs)
            writer.field("connections", figures.connections)
            writer.field("requestsInFlight", figures.inFlight)
            writer.field("connectionsAccepted", figures.accepted)
            writer.field("requests", figures.requests)
            writer.field("requestsPerSecond", requestsPerSecond, decimals: 1)
            writer.object("responses") { writer in
                for (index, count) in figures.responses.enumerated() { writer.field("\(index + 1)xx", count) }
            }
            writer.field("retries", figures.retries)
            writer.field("errors", figures.errors)
            writer.field("errorsPerSecond", errorsPerSecond, decimals: 1)
            writer.field("refused", figures.refused)
            writer.field("aborted", figures.aborted)
            writer.field("bytesReceived", figures.bytesReceived)
            writer.field("bytesSent", figures.bytesSent)
            writer.field("stateIndex", figures.stateIndex)
        }
    }
}

extension StatusReport.ServerWork {
    func write(to writer: inout JSONWriter) {
        writer.object("cluster") { writer in
            writer.field("sessions", sessions)
            writer.field("connections", connections)
            writer.field("requests", requests)
            writer.field("retries", retries)
            writer.field("errors", errors)
            writer.field("requestsPerSecond", requestsPerSecond, decimals: 1)
            writer.field("errorsPerSecond", errorsPerSecond, decimals: 1)
            for (name, value) in [("p50Ms", p50Seconds), ("p99Ms", p99Seconds)] {
                writer.field(name, value.map { $0 * 1000 }, decimals: 3)
            }
        }
        writer.object("byNode") { writer in
            for word in byNode {
                writer.object(word.node) { writer in
                    writer.field("ageMs", word.ageMs)
                    writer.field("sessions", word.sessions)
                    writer.field("requests", word.requests)
                    writer.field("retries", word.retries)
                    writer.field("errors", word.errors)
                    writer.field("errorsInRow", word.errorsInRow)
                    writer.field("requestsPerSecond", word.requestsPerSecond, decimals: 1)
                }
            }
        }
    }
}

extension StatusReport.ClusterWork {
    func write(to writer: inout JSONWriter) {
        writer.object("clusterTraffic") { writer in
            writer.field("connections", connections)
            writer.field("requestsInFlight", requestsInFlight)
            writer.field("requests", requests)
            writer.field("retries", retries)
            writer.field("errors", errors)
            writer.field("requestsPerSecond", requestsPerSecond, decimals: 1)
            writer.field("errorsPerSecond", errorsPerSecond, decimals: 1)
            writer.field("ageMs", ageMs)
        }
    }
}
