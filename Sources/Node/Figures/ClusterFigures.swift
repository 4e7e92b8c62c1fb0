// ClusterFigures: what every node last said of its work, how old that is, and how much of it happens per second.
// Pure: rows and `now` in, figures out. Control thread.
//
// Counters start at 0 with a node's process. What is added up over nodes is therefore what they counted since their
// starts, and falls when one of them starts again; rates and graphs are made of differences, node by node, and don't.

import Gossip
import Proxy

/// One node's word about one thing.
struct Told<Figures: Sendable & Equatable>: Sendable, Equatable {
    var figures: Figures
    var at: Instant
    var requestsPerSecond = 0.0
    var errorsPerSecond = 0.0

    func age(now: Instant) -> Duration { max(.zero, at.duration(to: now)) }
}

struct ClusterFigures: Sendable {
    /// A node that said nothing for so long adds nothing to what happens now: rates, sessions, connections.
    static let freshFor = Duration.seconds(3)
    /// Between two samples of the graphs.
    static let samplePeriod = Duration.seconds(2)

    private struct NodeWords: Sendable {
        var boot: UInt64 = 0
        var whole: Told<NodeFigures>?
        var servers: [String: Told<ServerFigures>] = [:]
    }

    private var nodes: [NodeWords]
    private(set) var total = Trace()
    private(set) var traces: [String: Trace] = [:]
    private var latencies: [String: RecentLatency] = [:]
    private var sampledAt: Instant?

    init(nodeCount: Int) { nodes = Array(repeating: NodeWords(), count: nodeCount) }

    /// Takes in rows that a node said just now. Servers that nobody configured are ignored (see `keep`).
    mutating func take(_ rows: [FigureRow], from node: Int, boot: UInt64, now: Instant) {
        guard nodes.indices.contains(node), boot >= nodes[node].boot else { return }
        if boot != nodes[node].boot { nodes[node] = NodeWords(boot: boot) }
        for row in rows {
            if row.name.isEmpty {
                take(NodeFigures(row), from: node, now: now)
            } else {
                take(row, from: node, now: now)
            }
        }
    }

    private mutating func take(_ figures: NodeFigures, from node: Int, now: Instant) {
        let last = nodes[node].whole
        var told = Told(figures: figures, at: now)
        let requests = Self.grown(figures.requests, last?.figures.requests)
        let errors = Self.grown(figures.errors, last?.figures.errors)
        told.pace(requests, errors, since: last)
        nodes[node].whole = told
        if last != nil { total.add(requests: requests, errors: errors) }
    }

    private mutating func take(_ row: FigureRow, from node: Int, now: Instant) {
        guard traces[row.name] != nil else { return }
        let figures = ServerFigures(row)
        let last = nodes[node].servers[row.name]
        var told = Told(figures: figures, at: now)
        let requests = Self.grown(figures.requests, last?.figures.requests)
        let errors = Self.grown(figures.errors, last?.figures.errors)
        told.pace(requests, errors, since: last)
        nodes[node].servers[row.name] = told
        guard let last else { return }
        traces[row.name]?.add(requests: requests, errors: errors)
        latencies[row.name, default: RecentLatency()].add(figures.latency, since: last.figures.latency, at: now)
    }

    /// A counter that is lower than before began anew.
    private static func grown(_ count: UInt64, _ last: UInt64?) -> UInt64 {
        guard let last else { return 0 }
        return count >= last ? count - last : count
    }

    /// Keeps figures of these servers, and forgets all others'.
    mutating func keep(_ names: [String]) {
        let wanted = Set(names)
        traces = traces.filter { wanted.contains($0.key) }
        latencies = latencies.filter { wanted.contains($0.key) }
        for name in names where traces[name] == nil { traces[name] = Trace() }
        for node in nodes.indices { nodes[node].servers = nodes[node].servers.filter { wanted.contains($0.key) } }
    }

    /// Draws the graphs on, when it is time; call it about once a second.
    mutating func sample(now: Instant) {
        guard let last = sampledAt else {
            sampledAt = now
            return
        }
        let span = last.duration(to: now)
        guard span >= Self.samplePeriod - .milliseconds(100) else { return }
        sampledAt = now
        total.sample(seconds: span.milliseconds / 1000)
        for name in traces.keys { traces[name]?.sample(seconds: span.milliseconds / 1000) }
    }

    // MARK: - What is known

    /// How long a server's answers took in the last ten to twenty seconds, all nodes together.
    func latency(of server: String, now: Instant) -> LatencyFigures {
        var latency = latencies[server] ?? RecentLatency()
        latency.rotate(now)
        return latency.figures
    }

    func whole(of node: Int) -> Told<NodeFigures>? { nodes[node].whole }

    func figures(of server: String, at node: Int) -> Told<ServerFigures>? { nodes[node].servers[server] }

    /// All nodes' figures of a server, added up.
    func figures(of server: String, now: Instant) -> ServerTotal {
        var total = ServerTotal()
        for node in nodes {
            guard let told = node.servers[server] else { continue }
            total.figures.requests += told.figures.requests
            total.figures.retries += told.figures.retries
            total.figures.errors += told.figures.errors
            guard told.age(now: now) <= Self.freshFor else { continue }
            total.figures.sessions += told.figures.sessions
            total.figures.connections += told.figures.connections
            total.requestsPerSecond += told.requestsPerSecond
            total.errorsPerSecond += told.errorsPerSecond
        }
        return total
    }
}

/// A server's figures of all nodes together.
struct ServerTotal: Sendable, Equatable {
    var figures = ServerFigures()
    var requestsPerSecond = 0.0
    var errorsPerSecond = 0.0
}

extension Told {
    /// Sets the rates from what was counted since an earlier word.
    fileprivate mutating func pace(_ requests: UInt64, _ errors: UInt64, since last: Told?) {
        guard let last else { return }
        let seconds = last.at.duration(to: at).milliseconds / 1000
        // Two words in one breath tell no rate.
        guard seconds >= 0.1 else {
            (requestsPerSecond, errorsPerSecond) = (last.requestsPerSecond, last.errorsPerSecond)
            return
        }
        requestsPerSecond = Double(requests) / seconds
        errorsPerSecond = Double(errors) / seconds
    }
}

/// How much happened per second, over the last two minutes. Oldest first.
struct Trace: Sendable, Equatable {
    static let samplesMax = 60

    private(set) var requests: [Float] = []
    private(set) var errors: [Float] = []
    private var newRequests: UInt64 = 0
    private var newErrors: UInt64 = 0

    mutating func add(requests: UInt64, errors: UInt64) {
        newRequests += requests
        newErrors += errors
    }

    mutating func sample(seconds: Double) {
        guard seconds > 0 else { return }
        requests.append(Float(Double(newRequests) / seconds))
        errors.append(Float(Double(newErrors) / seconds))
        if requests.count > Self.samplesMax { requests.removeFirst() }
        if errors.count > Self.samplesMax { errors.removeFirst() }
        newRequests = 0
        newErrors = 0
    }
}
