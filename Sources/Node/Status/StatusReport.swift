// StatusReport: everything one node says about itself and the cluster at one moment, as plain values.
//
// The runtime fills it in on the control thread when the status server asks; `/status`, `/metrics`, `/ready`, the page
// and the commands show it. Names of JSON fields are a promise to users (the status port's document): add, never
// rename. Nothing here reads a clock or a socket.

import Proxy

/// One node's view. JSON through `json()`.
struct StatusReport: Sendable, Equatable {
    var node: String
    var cluster: String
    var version: String
    var uptimeSeconds: Double
    /// `leader`, `follower`, `candidate`, …
    var role: String
    var term: UInt64
    /// nil while none is known.
    var leader: String?
    /// Whether this node is in touch with a majority.
    var quorum: Bool
    var vips: [VIP] = []
    /// 0 for a node that holds no lease.
    var leaseRemainingMs: Int = 0
    /// The whole lease, as configured.
    var leaseMs: Int = 0
    /// How long the leader has led, as far as this node knows; nil without a leader.
    var leaderSinceSeconds: Double?
    var state: State
    /// Every node of the configuration, this one too, by id.
    var nodes: [Peer] = []
    var backends: [Backend] = []
    /// Oldest first.
    var events: [StatusEvent] = []
    /// Every kind, since this process started.
    var eventCounts: [EventCount] = []
    /// Lines of the log that stderr had no room for.
    var logLinesDropped: UInt64 = 0

    // Beyond the promised fields.

    /// What keeps the VIP from having two owners now: `gate`, `wait` or `trust`; nil without a VIP.
    var fencing: String?
    /// This node owns the VIP by an operator's order, without a majority.
    var forced = false
    /// What is wrong right now, each in a sentence; empty when all is well.
    var problems: [String] = []
    var elections = Elections()
    var gossip = Gossip()
    var traffic = Traffic()
    var storage = Storage()
    var commands = EventCommandFigures()
    var process = ProcessFigures()
    /// All nodes' work.
    var work = ClusterWork()
    /// Events of the other nodes, as they told them. Oldest first.
    var eventsElsewhere: [StatusEvent] = []

    struct VIP: Sendable, Equatable {
        /// With its prefix: `10.0.0.100/32`.
        var address: String
        var interface: String
        /// The node that owns it as far as this one knows.
        var owner: String?
        /// The address is on this node's interface now.
        var heldHere: Bool
        /// How long the owner has had it, as far as this node knows; nil without an owner.
        var sinceSeconds: Double?
    }

    struct State: Sendable, Equatable {
        var index: UInt64
        var digest: String
        var configDigest: String
        /// The wire version of what goes into the log: what every node reads, as far as this one knows.
        var wireVersion = 0
    }

    struct Peer: Sendable, Equatable {
        /// What may keep a node from being fit to lead: it can't serve clients, or doesn't reach the gateway or most servers.
        static let faults = ["clients", "gateway", "servers"]

        var id: String
        var alive: Bool
        /// 0 for this node itself; nil: never since the start.
        var lastHeardMs: Int?
        var rttMs: Double?
        /// `unknown` before it was heard.
        var role: String
        var index: UInt64
        var configDigest: String
        /// The sections in which its configuration differs from this node's.
        var configDiffers: [String] = []
        /// It still serves connections of a VIP that it gave away in a planned move.
        var draining = false
        /// Whether the kernel's gate stands before the VIP there; nil: not heard, or there is no VIP.
        var gate: Bool?
        /// What keeps it from being fit to lead, of `faults`; empty when nothing does.
        var unfit: [String] = []
        /// What it last said of its work; nil: nothing yet.
        var word: NodeWord?
        /// The part of its gossip that doesn't get here, 0 to 1; nil: not known yet.
        var loss: Double?
        /// At the same index it has another state than this node.
        var disagrees = false
        /// Of the binary it runs; nil: not told yet, or one too old to tell.
        var version: String?
        /// The wire version that it speaks; nil: not told since it started.
        var wireVersion: Int?
    }

    struct Backend: Sendable, Equatable {
        var name: String
        var balance: String = "roundrobin"
        /// The name of the cookie that keeps a client with its server.
        var stickCookie: String?
        var servers: [Server]
        /// Requests that wait at this node for a place at a server.
        var queue = Queue()
        /// Too few servers are up to believe it: all that are ready get requests.
        var panic = false
        /// How long a server that came up takes to get its whole weight; nil: it has it at once.
        var slowStartMs: Int?
        /// nil: no server is set aside for its errors.
        var outlier: Outlier?
        /// nil: it isn't scaled.
        var autoscale: Autoscale?
    }

    struct Server: Sendable, Equatable {
        var id: String
        var address: String
        /// The agreed verdict: `up`, `down`, `drain`, `unknown`.
        var health: String
        /// `ready`, `drain`, `maint`.
        var admin: String
        var weight: Int
        /// Gets requests only while no other server of its backend is usable.
        var isBackup = false
        /// Sessions it may have from each node; 0: any number.
        var maxConnections: Int = 0
        var reason: String
        /// Since the verdict last changed.
        var sinceSeconds: Double
        /// Each node's own view, by node id.
        var views: [View]
        /// Requests under way at this node.
        var sessions: Int = 0
        var requests: UInt64 = 0
        var retries: UInt64 = 0
        var errors: UInt64 = 0
        /// Times this node set it aside for errors in a row.
        var outliers: UInt64 = 0
        /// nil when it is over, or there is none.
        var slowStart: SlowStart?
        /// The nodes that set it aside now for errors in a row; nil where none would.
        var setAsideBy: [String]?
        /// Of this node's last finished probe; nil before the first.
        var checkSeconds: Double?
        /// How long its answers to this node took, since the start.
        var latency = LatencyFigures()
        /// All nodes' work with it.
        var work = ServerWork()
    }

    struct View: Sendable, Equatable {
        var node: String
        var health: String
    }

    /// Counters since this process started.
    struct Elections: Sendable, Equatable {
        /// Campaigns this node began.
        var campaigns: UInt64 = 0
        /// Times this node became leader.
        var won: UInt64 = 0
        var leaderChanges: UInt64 = 0
        var leaseLapses: UInt64 = 0
        var handovers: UInt64 = 0
        var vipAcquisitions: UInt64 = 0
        var vipLosses: UInt64 = 0
        var fenceFailures: UInt64 = 0
    }

    struct Gossip: Sendable, Equatable {
        var datagramsSent: UInt64 = 0
        var bytesSent: UInt64 = 0
        var datagramsReceived: UInt64 = 0
        var bytesReceived: UInt64 = 0
        var sendErrors: UInt64 = 0
        /// Datagrams refused, by reason.
        var drops: [Drop] = []
    }

    struct Drop: Sendable, Equatable {
        var reason: String
        var count: UInt64
    }

    /// What this node's data plane did.
    struct Traffic: Sendable, Equatable {
        /// Open client connections now, and how many of them are idle.
        var connections: Int = 0
        var idleConnections: Int = 0
        var requestsInFlight: Int = 0
        var connectionsAccepted: UInt64 = 0
        var requests: UInt64 = 0
        /// By class: 1xx, 2xx, 3xx, 4xx, 5xx.
        var responses: [UInt64] = [0, 0, 0, 0, 0]
        var retries: UInt64 = 0
        /// Retries not made because the budget was used up.
        var retriesDenied: UInt64 = 0
        /// Requests that no server could answer.
        var errors: UInt64 = 0
        /// Requests refused as malformed or beyond a limit.
        var refused: UInt64 = 0
        /// Requests whose client went away before the response was complete.
        var aborted: UInt64 = 0
        /// From clients and to them.
        var bytesReceived: UInt64 = 0
        var bytesSent: UInt64 = 0
        var frontends: [Frontend] = []
        /// Clients that were too slow with a request's head, with its body, or in taking a response.
        var slowHeads: UInt64 = 0
        var slowBodies: UInt64 = 0
        var slowReaders: UInt64 = 0
        /// Refused because their source was at a limit: connections, new connections, requests.
        var sourceConnections: UInt64 = 0
        var sourceConnectionRate: UInt64 = 0
        var sourceRequestRate: UInt64 = 0
        /// Workers that accept no connection now, and how often one stopped: for want of descriptors or memory, of places.
        var acceptPaused: Int = 0
        var acceptPausesSystem: UInt64 = 0
        var acceptPausesFull: UInt64 = 0
        /// Lines of the access log.
        var logged: UInt64 = 0
        var logDropped: UInt64 = 0
    }

    struct Frontend: Sendable, Equatable {
        var name: String
        var address: String
        var backend: String
        var routes: [Route] = []
        /// Clients at this node, and how many it may have; 0: any number.
        var connections = 0
        var maxConnections = 0
        /// Workers that don't accept because it has as many, and how often one stopped.
        var pausedWorkers = 0
        var pauses: UInt64 = 0
    }

    /// Requests of a frontend that go to another backend.
    struct Route: Sendable, Equatable {
        var host: String?
        var path: String?
        var backend: String
    }

    struct Storage: Sendable, Equatable {
        var writes: UInt64 = 0
        var failures: UInt64 = 0
        /// Of the last one.
        var syncSeconds: Double?
    }
}

/// Something that happened, for the event list, the event stream and the log.
struct StatusEvent: Sendable, Equatable {
    /// Wall clock, milliseconds since 1970.
    var atMs: Int64
    /// The node it happened on.
    var node: String
    /// One of a small vocabulary: `vip-acquired`, `leader-elected`, `server-down`, …
    var kind: String
    var text: String
}

extension StatusReport {
    /// nil when this node can serve; else why it can't.
    var unready: String? {
        if !quorum { return "no quorum: this node isn't in touch with a majority of the cluster" }
        let servers = backends.flatMap(\.servers)
        if servers.isEmpty { return "no server is configured" }
        if !servers.contains(where: { $0.health == "up" }) { return "no server is up" }
        return nil
    }

    func json() -> [UInt8] {
        var writer = JSONWriter(reserving: 4096)
        writer.object { writer in
            writer.field("node", node)
            writer.field("cluster", cluster)
            writer.field("version", version)
            writer.field("uptimeSeconds", uptimeSeconds, decimals: 1)
            writer.field("role", role)
            writer.field("term", term)
            writer.field("leader", leader)
            writer.field("quorum", quorum)
            writer.array("vips") { writer in for vip in vips { vip.write(to: &writer) } }
            writer.field("leaseRemainingMs", leaseRemainingMs)
            writer.object("state") { writer in
                writer.field("index", state.index)
                writer.field("digest", state.digest)
                writer.field("configDigest", state.configDigest)
                writer.field("wireVersion", state.wireVersion)
            }
            writer.array("nodes") { writer in for node in nodes { node.write(to: &writer) } }
            writer.array("backends") { writer in for backend in backends { backend.write(to: &writer) } }
            writer.array("events") { writer in for event in events { event.write(to: &writer) } }
            writeExtras(to: &writer)
        }
        return writer.bytes
    }

    private func writeExtras(to writer: inout JSONWriter) {
        writer.field("fencing", fencing)
        writer.field("forced", forced)
        writer.array("problems") { writer in for problem in problems { writer.element(problem) } }
        writer.object("elections") { writer in
            writer.field("campaigns", elections.campaigns)
            writer.field("won", elections.won)
            writer.field("leaderChanges", elections.leaderChanges)
            writer.field("leaseLapses", elections.leaseLapses)
            writer.field("handovers", elections.handovers)
            writer.field("vipAcquisitions", elections.vipAcquisitions)
            writer.field("vipLosses", elections.vipLosses)
            writer.field("fenceFailures", elections.fenceFailures)
        }
        writer.object("gossip") { writer in
            writer.field("datagramsSent", gossip.datagramsSent)
            writer.field("bytesSent", gossip.bytesSent)
            writer.field("datagramsReceived", gossip.datagramsReceived)
            writer.field("bytesReceived", gossip.bytesReceived)
            writer.field("sendErrors", gossip.sendErrors)
            writer.object("drops") { writer in for drop in gossip.drops { writer.field(drop.reason, drop.count) } }
        }
        writer.object("traffic") { writer in traffic.write(to: &writer) }
        work.write(to: &writer)
        writer.object("storage") { writer in
            writer.field("writes", storage.writes)
            writer.field("failures", storage.failures)
            if let seconds = storage.syncSeconds { writer.field("syncMs", seconds * 1000, decimals: 3) }
        }
        writer.object("process") { writer in
            writer.field("residentBytesMax", process.residentBytesMax)
            writer.field("cpuSeconds", process.cpuSeconds, decimals: 3)
        }
        writer.field("leaseMs", leaseMs)
        writer.field("leaderSinceSeconds", leaderSinceSeconds, decimals: 1)
        writer.object("eventCounts") { writer in
            for event in eventCounts { writer.field(event.kind.rawValue, event.count) }
        }
        writer.object("log") { writer in writer.field("dropped", logLinesDropped) }
        writer.array("eventsElsewhere") { writer in for event in eventsElsewhere { event.write(to: &writer) } }
    }
}

extension StatusReport.VIP {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.field("address", address)
            writer.field("interface", interface)
            writer.field("owner", owner)
            writer.field("heldHere", heldHere)
            if let sinceSeconds { writer.field("sinceSeconds", sinceSeconds, decimals: 1) }
        }
    }
}

extension StatusReport.Peer {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.field("id", id)
            writer.field("alive", alive)
            writer.field("lastHeardMs", lastHeardMs)
            writer.field("rttMs", rttMs, decimals: 3)
            writer.field("role", role)
            writer.field("index", index)
            writer.field("configDigest", configDigest)
            writer.array("configDiffers") { writer in for section in configDiffers { writer.element(section) } }
            writer.field("draining", draining)
            if let gate { writer.field("gate", gate) } else { writer.null("gate") }
            writer.array("unfit") { writer in for what in unfit { writer.element(what) } }
            if let word { word.write(to: &writer) } else { writer.null("figures") }
            writer.field("loss", loss, decimals: 4)
            writer.field("disagrees", disagrees)
            writer.field("version", version)
            writer.field("wireVersion", wireVersion)
        }
    }
}

extension StatusReport.Backend {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.field("name", name)
            writer.field("balance", balance)
            if let stickCookie { writer.field("stickCookie", stickCookie) }
            writer.array("servers") { writer in for server in servers { server.write(to: &writer) } }
            queue.write(to: &writer)
            writer.field("panic", panic)
            if let slowStartMs { writer.field("slowStartMs", slowStartMs) }
            outlier?.write(to: &writer)
            autoscale?.write(to: &writer)
        }
    }
}

extension StatusReport.Server {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.field("id", id)
            writer.field("address", address)
            writer.field("health", health)
            writer.field("admin", admin)
            writer.field("weight", weight)
            if maxConnections > 0 { writer.field("maxConnections", maxConnections) }
            writer.field("reason", reason)
            writer.field("sinceSeconds", sinceSeconds, decimals: 1)
            writer.object("views") { writer in for view in views { writer.field(view.node, view.health) } }
            writer.field("sessions", sessions)
            writer.field("requests", requests)
            writer.field("retries", retries)
            writer.field("errors", errors)
            writer.field("outliers", outliers)
            slowStart?.write(to: &writer)
            if let setAsideBy {
                writer.array("setAsideBy") { writer in for node in setAsideBy { writer.element(node) } }
            }
            writer.field("backup", isBackup)
            if let checkSeconds { writer.field("checkMs", checkSeconds * 1000, decimals: 3) }
            work.write(to: &writer)
        }
    }
}

extension StatusReport.Traffic {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.field("connections", connections)
        writer.field("idleConnections", idleConnections)
        writer.field("requestsInFlight", requestsInFlight)
        writer.field("connectionsAccepted", connectionsAccepted)
        writer.field("requests", requests)
        writer.object("responses") { writer in
            for (index, count) in responses.enumerated() { writer.field("\(index + 1)xx", count) }
        }
        writer.field("retries", retries)
        writer.field("retriesDenied", retriesDenied)
        writer.field("errors", errors)
        writer.field("refused", refused)
        writer.field("aborted", aborted)
        writer.field("bytesReceived", bytesReceived)
        writer.field("bytesSent", bytesSent)
        writer.object("slow") { writer in
            writer.field("heads", slowHeads)
            writer.field("bodies", slowBodies)
            writer.field("readers", slowReaders)
        }
        writer.object("overLimit") { writer in
            writer.field("connections", sourceConnections)
            writer.field("connectionRate", sourceConnectionRate)
            writer.field("requestRate", sourceRequestRate)
        }
        writer.object("accepting") { writer in
            writer.field("paused", acceptPaused)
            writer.field("pausesSystem", acceptPausesSystem)
            writer.field("pausesFull", acceptPausesFull)
        }
        writer.object("accessLog") { writer in
            writer.field("written", logged)
            writer.field("dropped", logDropped)
        }
        writer.array("frontends") { writer in
            for frontend in frontends {
                writer.object { writer in
                    writer.field("name", frontend.name)
                    writer.field("address", frontend.address)
                    writer.field("backend", frontend.backend)
                    writer.field("connections", frontend.connections)
                    if frontend.maxConnections > 0 { writer.field("maxConnections", frontend.maxConnections) }
                    writer.field("pausedWorkers", frontend.pausedWorkers)
                    writer.field("pauses", frontend.pauses)
                    if frontend.routes.isEmpty { return }
                    writer.array("routes") { writer in
                        for route in frontend.routes {
                            writer.object { writer in
                                writer.field("host", route.host)
                                writer.field("path", route.path)
                                writer.field("backend", route.backend)
                            }
                        }
                    }
                }
            }
        }
    }
}

extension StatusEvent {
    /// As one JSON object.
    func json() -> [UInt8] {
        var writer = JSONWriter(reserving: 256)
        write(to: &writer)
        return writer.bytes
    }

    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.field("at", WallTime.text(ms: atMs))
            writer.field("node", node)
            writer.field("kind", kind)
            writer.field("text", text)
        }
    }
}
