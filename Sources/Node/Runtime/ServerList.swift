// ServerList: the servers in use on this node: the file's, changed by what the cluster agreed at run time.
// Made anew whenever servers come or go, changed in place when one of them does; everything that asks "which servers?"
// asks this.

import Gossip
import Proxy

/// One server in use.
struct ActiveServer: Sendable, Equatable {
    let id: ServerID
    /// `id` as text, as the prober and the data plane name it.
    let name: String
    let address: SocketAddress
    let weight: Int
    /// The weight that it has unless an operator gave it another.
    let ownWeight: Int
    let isBackup: Bool
    /// From this node, 0: any number.
    let connectionsMax: Int
    let admin: AdminState
    /// The agreed verdict, its reason and when it was reached (ms since 1970; 0: never).
    let health: Health
    let reason: String
    let sinceMs: Int64
}

extension ActiveServer {
    /// Ready, and with a verdict on whether it works: what gets requests in a panic. A server that was never checked waits
    /// for its verdict, and one that asks to be drained gets its will.
    var isJudged: Bool { admin == .ready && (health == .up || health == .down) }
}

/// Fewer of a backend's servers are up than `panicThreshold` asks for: more likely the checks are wrong than the servers,
/// and if they aren't, what is left would be trampled. So all get requests.
struct Panic: Sendable, Equatable {
    let up: Int
    let ready: Int
    let threshold: Int

    /// nil when there is no reason for one.
    /// - Parameter threshold: percent; nil: never.
    init?(_ servers: [ActiveServer], threshold: Int?) {
        guard let threshold else { return nil }
        let ready = servers.filter { $0.admin == .ready && $0.health != .drain && $0.weight > 0 }
        // A server that wasn't checked yet has the benefit of the doubt: a start is no panic.
        let doubtful = ready.count { $0.health != .down }
        guard !ready.isEmpty, doubtful * 100 < threshold * ready.count else { return nil }
        (up, self.ready, self.threshold) = (ready.count { $0.health == .up }, ready.count, threshold)
    }

    /// `1 of 5 ready servers is up, less than 50%`
    var text: String { "\(up) of \(ready) ready servers \(up == 1 ? "is" : "are") up, less than \(threshold)%" }

    /// The same with what it leads to, for events and problems.
    func text(backend: String) -> String {
        "backend \(backend): \(text): verdicts are ignored, all of them get requests"
    }
}

struct ServerList: Sendable, Equatable {
    /// Where a server is: its backend, and its number within it.
    struct Place: Sendable, Hashable {
        let backend: Int
        let number: Int
    }

    /// By backend, in the file's order; within one the file's servers first, then the added ones by name.
    private(set) var backends: [[ActiveServer]] = []
    /// The backends' names.
    let names: [String]
    /// By backend: so few servers are up that the verdicts aren't believed. What it came from, for people.
    private(set) var panics: [Panic?] = []
    /// By backend: the percentage that makes a panic.
    private let thresholds: [Int?]

    init(configuration: Configuration, table: BackendTable) {
        names = configuration.backends.map(\.name)
        thresholds = configuration.backends.map(\.resilience.panicThreshold)
        let added = table.records.filter { $0.address != nil && !$0.isRemoved }
        backends = configuration.backends.map { backend in
            var servers: [ActiveServer] = []
            for server in backend.servers {
                let id = ServerID(backend: backend.name, server: server.id)
                let record = table[id]
                if record?.isRemoved ?? false { continue }
                let address = record?.address.flatMap { SocketAddress($0) } ?? server.address
                servers.append(
                    Self.server(
                        id, address, weight: server.weight, isBackup: server.isBackup,
                        connectionsMax: server.maxConnections ?? backend.capacity.maxConnections, record))
            }
            let named = Set(servers.map(\.id))
            for record in added where record.id.backend == backend.name && !named.contains(record.id) {
                guard let address = record.address.flatMap({ SocketAddress($0) }) else { continue }
                servers.append(
                    Self.server(
                        record.id, address, weight: 1, isBackup: false, connectionsMax: backend.capacity.maxConnections,
                        record))
            }
            return servers
        }
        panics = zip(thresholds, backends).map { Panic($1, threshold: $0) }
    }

    private static func server(
        _ id: ServerID, _ address: SocketAddress, weight: Int, isBackup: Bool, connectionsMax: Int?,
        _ record: ServerRecord?
    ) -> ActiveServer {
        ActiveServer(
            id: id, name: id.description, address: address, weight: record?.weight ?? weight, ownWeight: weight,
            isBackup: isBackup, connectionsMax: connectionsMax ?? 0, admin: record?.admin ?? .ready,
            health: record?.health ?? .unknown,
            reason: record?.reason ?? "",
            sinceMs: record?.sinceMs ?? 0)
    }

    func place(of id: ServerID) -> Place? {
        guard let backend = names.firstIndex(of: id.backend) else { return nil }
        return backends[backend].firstIndex { $0.id == id }.map { Place(backend: backend, number: $0) }
    }

    /// What was agreed about a server that stays is new: what comes of it for that one alone.
    /// - Returns: where it is; nil when it isn't in use.
    mutating func update(_ id: ServerID, _ record: ServerRecord?) -> Place? {
        guard let place = place(of: id) else { return nil }
        let old = backends[place.backend][place.number]
        backends[place.backend][place.number] = Self.server(
            id, old.address, weight: old.ownWeight, isBackup: old.isBackup, connectionsMax: old.connectionsMax, record)
        panics[place.backend] = Panic(backends[place.backend], threshold: thresholds[place.backend])
        return place
    }

    /// What the data plane may use: in a panic all that are ready and were checked; otherwise verdict up, admin state ready, and this node's own view neither down nor to be drained.
    /// - Parameter isOutHere: what this node sees, by server name.
    func routes(version: UInt64, isOutHere: (String) -> Bool) -> RoutingTable {
        RoutingTable(
            version: version,
            backends: names.indices.map { index in
                BackendRoutes(
                    name: names[index],
                    servers: backends[index].map { route($0, isPanicking: panics[index] != nil, isOutHere) })
            })
    }

    /// The same for one server.
    func route(at place: Place, isOutHere: (String) -> Bool) -> ServerRoute {
        route(backends[place.backend][place.number], isPanicking: panics[place.backend] != nil, isOutHere)
    }

    private func route(_ server: ActiveServer, isPanicking: Bool, _ isOutHere: (String) -> Bool) -> ServerRoute {
        ServerRoute(
            id: server.name, address: server.address, weight: server.weight,
            usable: isPanicking
                ? server.isJudged : server.health == .up && server.admin == .ready && !isOutHere(server.name),
            isBackup: server.isBackup, upSinceMs: server.health == .up ? server.sinceMs : 0,
            connectionsMax: server.connectionsMax)
    }

    /// What this node probes.
    func probeTargets(configuration: Configuration) -> [ProbeTarget] {
        zip(configuration.backends, backends).flatMap { backend, servers in
            servers.map {
                ProbeTarget(
                    id: $0.name, address: $0.address,
                    settings: backend.check.probe(greeting: backend.sendProxy?.version))
            }
        }
    }
}

extension Configuration {
    /// Ids of the servers that the file names.
    var serverIDs: [ServerID] {
        backends.flatMap { backend in backend.servers.map { ServerID(backend: backend.name, server: $0.id) } }
    }

    /// Why this process can't send the echoes that checks of type "icmp" want; nil when it can, or there are none.
    func echoProblem() -> String? {
        for backend in backends where backend.check.kind == .icmp {
            for isIPv6 in [false, true] where backend.servers.contains(where: { $0.address.isIPv6 == isIPv6 }) {
                do throws(SystemError) {
                    try EchoSocket(isIPv6: isIPv6).close()
                } catch {
                    return
                        "backend \(backend.name), check.type \"icmp\": no echo can be sent (\(error)), so this node checks "
                        + "none of its servers: \(EchoSocket.remedy)"
                }
            }
        }
        return nil
    }

    /// What the data plane needs to know of the file.
    func proxySettings(workers: Int) -> ProxySettings {
        var timeouts = ProxyTimeouts()
        timeouts.queueMs = self.timeouts.queue.wholeMilliseconds
        timeouts.connectMs = self.timeouts.connect.wholeMilliseconds
        timeouts.requestMs = self.timeouts.request.wholeMilliseconds
        timeouts.clientMs = self.timeouts.client.wholeMilliseconds
        timeouts.serverMs = self.timeouts.server.wholeMilliseconds
        timeouts.keepAliveMs = self.timeouts.keepAlive.wholeMilliseconds
        timeouts.tunnelMs = self.timeouts.tunnel.wholeMilliseconds
        timeouts.halfClosedMs = self.timeouts.halfClosed.wholeMilliseconds
        var limits = ProxyLimits()
        limits.headBytesMax = self.limits.requestHead
        limits.fieldsMax = self.limits.headers
        limits.connectionsMax = self.limits.connections
        limits.retriesMax = self.limits.retries
        limits.bufferBytes = self.limits.buffer
        limits.minimumRate = self.limits.minimumRate
        if let body = self.limits.requestBody { limits.requestBodyBytesMax = UInt64(body) }
        let keys = stickKeys
        return ProxySettings(
            workers: workers, frontends: frontends.compactMap(\.settings),
            backends: backends.map { $0.settings(stickKeys: keys) },
            timeouts: timeouts, limits: limits, accessLog: log.access?.settings)
    }
}

extension Configuration.Frontend {
    /// nil never happens for a checked configuration.
    fileprivate var settings: FrontendSettings? {
        // `::` takes IPv4 as well.
        SocketAddress(address: address ?? "::", port: port).map {
            var settings = FrontendSettings(
                name: name, address: $0, mode: mode == .tcp ? .tcp : .http, backend: backend,
                acceptProxy: acceptProxy.map(\.network), sources: perSource?.limits)
            clients.apply(to: &settings)
            settings.connectionsMax = maxConnections
            settings.routes = routes.map(\.rule)
            return settings
        }
    }
}

extension Configuration.Backend {
    fileprivate func settings(stickKeys: [StickKey]) -> BackendSettings {
        var settings = BackendSettings(name: name, balance: balance.proxy, sendProxy: sendProxy?.version)
        balancing.apply(to: &settings)
        settings.queueMax = capacity.queue
        resilience.apply(to: &settings)
        // A checked configuration with such a cookie has keys.
        if let stickCookie, !stickKeys.isEmpty {
            settings.stickCookie = StickCookie(
                name: stickCookie.name, isSecure: stickCookie.isSecure, keys: stickKeys)
        }
        return settings
    }
}

extension Configuration.Check {
    fileprivate func probe(greeting: ProxyVersion?) -> ProbeSettings {
        let kind: ProbeSettings.Kind =
            switch self.kind {
            case .tcp: .tcp
            case .http(let check): .http(check)
            case .icmp: .icmp
            }
        return ProbeSettings(
            kind: kind, interval: interval, timeout: timeout, rise: rise, fall: fall, greeting: greeting)
    }
}

extension Duration {
    /// At least 1, so that a timeout never becomes "none".
    var wholeMilliseconds: Int { max(1, Int(nanoseconds / 1_000_000)) }
}
