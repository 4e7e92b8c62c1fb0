// HeldServers: what backends whose servers are all new go on with, after a reload, until the cluster has checked them.
//
// A server gets requests once a majority of the nodes says that it is up. A reload can bring a backend of which no server
// has a verdict yet (new servers, or a frontend's new backend), and the nodes read the file one after the other: for
// seconds or minutes there would be nobody to ask, while the former servers still answer. So such a backend has the
// former ones until the first of its own is up, or all are down. Pure.

import Proxy

struct HeldServers: Sendable, Equatable {
    /// The servers that a backend has beside its own, by its name.
    private(set) var byBackend: [String: [ServerRoute]] = [:]

    /// Notes for each backend which servers did its work so far: its own, or those of the backend that the frontends had
    /// which it serves now.
    /// - Parameter routes: what workers went by until now.
    mutating func begin(from before: Configuration, to after: Configuration, routes: RoutingTable) {
        func usable(_ backend: String) -> [ServerRoute] {
            let servers = routes.backends.first { $0.name == backend }?.servers ?? []
            return servers.filter { $0.usable && $0.weight > 0 }
        }
        byBackend = [:]
        for (index, backend) in after.backends.enumerated() {
            var former = usable(backend.name)
            for frontend in after.frontends where former.isEmpty {
                let old = before.frontends.first { ($0.address, $0.port) == (frontend.address, frontend.port) }
                guard let old, let place = old.formerBackend(of: frontend, for: index) else { continue }
                former = usable(before.backends[place].name)
            }
            if !former.isEmpty { byBackend[backend.name] = former }
        }
    }

    /// `table` with the former servers where they are still needed; forgets them where they aren't.
    mutating func complete(_ table: RoutingTable, of servers: ServerList) -> RoutingTable {
        guard !byBackend.isEmpty else { return table }
        var completed = table
        for (index, (backend, own)) in zip(table.backends, servers.backends).enumerated() {
            guard let former = byBackend[backend.name] else { continue }
            let isUndecided = own.contains { $0.health == .unknown && $0.admin == .ready && $0.weight > 0 }
            if !isUndecided || backend.servers.contains(where: { $0.usable && $0.weight > 0 }) {
                byBackend[backend.name] = nil
                continue
            }
            completed.backends[index].servers += former.filter { route in !own.contains { $0.name == route.id } }
        }
        return completed
    }
}

extension Configuration.Frontend {
    /// Where the requests went that `after` sends to backend `index`; nil when it sends none.
    fileprivate func formerBackend(of after: Self, for index: Int) -> Int? {
        if after.backend == index { return backend }
        guard let route = after.routes.first(where: { $0.backend == index }) else { return nil }
        return routes.first { ($0.host, $0.path) == (route.host, route.path) }?.backend ?? backend
    }
}
