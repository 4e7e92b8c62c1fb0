// Runtime+Servers: tells workers and checks which servers there are and which of them are usable.
//
// Once a turn, at its end, whatever happened in it. What changed of a server is told of that server alone: with a thousand
// of them the whole table costs a millisecond, and changes may come by the hundred each second. The whole is told when
// servers come or go, and when one server's change means something for others (panics, reloads).

import Gossip
import Proxy

/// Servers, or this node's view of them, that changed since workers and checks were last told.
enum StaleServers: Equatable {
    case all
    /// As the list of servers has them now.
    case some(Set<ServerList.Place>)

    static let none = StaleServers.some([])

    mutating func insert(_ place: ServerList.Place) {
        guard case .some(var places) = self else { return }
        places.insert(place)
        self = .some(places)
    }
}

extension Runtime {
    func serverChanged(_ id: ServerID) {
        let panics = servers.panics
        guard let place = servers.update(id, core.table[id]) else { return }
        if servers.panics == panics { staleServers.insert(place) } else { staleServers = .all }
    }

    func tellServers(now: Instant) {
        guard staleServers != .none else { return }
        // Held servers stand among a backend's own.
        if case .some(let places) = staleServers, heldServers.byBackend.isEmpty {
            routes.version += 1
            for place in places {
                routes.backends[place.backend].servers[place.number] = servers.route(at: place, isOutHere: isOutHere)
            }
        } else {
            prober.setTargets(servers.probeTargets(configuration: configuration), now: now.nanoseconds)
            routes = freshRoutes(of: servers)
        }
        staleServers = .none
        dataPlane.publish(routes)
        tellPanics()
    }

    /// What workers are to be told of these servers.
    func freshRoutes(of servers: ServerList) -> RoutingTable {
        let table = servers.routes(version: routes.version + 1, isOutHere: isOutHere)
        return heldServers.complete(table, of: servers)
    }

    private func isOutHere(_ name: String) -> Bool {
        let verdict = prober.verdict(of: name)
        return verdict == .down || verdict == .drain
    }
}
