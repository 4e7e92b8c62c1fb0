// ConfigurationChanges: what differs between two configurations, in one line for the event log.

extension Configuration {
    /// Such as `frontend admin added; backend api: servers +api_3, check; timeouts`.
    func changes(to after: Configuration) -> String {
        var parts = Self.parts(
            "frontend", frontends, after.frontends, name: \.name,
            isSame: { one, other in
                var other = other
                let isSame =
                    self.backends[one.backend].name == after.backends[other.backend].name
                    && self.routeTexts(one) == after.routeTexts(other)
                // Their numbers may differ.
                (other.backend, other.routes) = (one.backend, one.routes)
                return isSame && one == other
            },
            differences: { one, other in
                let (old, new) = (self.backends[one.backend].name, after.backends[other.backend].name)
                let hasMoved = (one.address, one.port) != (other.address, other.port)
                var parts = (hasMoved ? ["at \(other.place)"] : []) + (old == new ? [] : ["backend \(new)"])
                if self.routeTexts(one) != after.routeTexts(other) { parts.append("routes") }
                parts += one.clients.differences(other.clients)
                if one.maxConnections != other.maxConnections { parts.append("maxConnections") }
                return parts.isEmpty ? "changed" : parts.joined(separator: ", ")
            })
        parts += Self.parts("backend", backends, after.backends, name: \.name, differences: Backend.differences)
        // The rest of the sections have their names; what needs no agreement among nodes has no digest.
        for (place, section) in Section.allCases.enumerated() where section != .frontends && section != .backends {
            if sectionDigests[place] != after.sectionDigests[place] { parts.append(section.rawValue) }
        }
        if log != after.log { parts.append("log") }
        if (status.token, status.user) != (after.status.token, after.status.user)
            || status.password != after.status.password
        {
            parts.append("status: who may ask")
        }
        return parts.isEmpty ? "nothing that this node goes by has changed" : parts.joined(separator: "; ")
    }

    /// `example.com/v1 to v1`.
    func routeTexts(_ frontend: Frontend) -> [String] {
        frontend.routes.map { "\($0.host ?? "*")\($0.path ?? "") to \(backends[$0.backend].name)" }
    }

    private static func parts<Item: Equatable>(
        _ kind: String, _ before: [Item], _ after: [Item], name: (Item) -> String,
        isSame: (Item, Item) -> Bool = { $0 == $1 }, differences: (Item, Item) -> String = { _, _ in "changed" }
    ) -> [String] {
        var parts: [String] = []
        for item in after {
            guard let old = before.first(where: { name($0) == name(item) }) else {
                parts.append("\(kind) \(name(item)) added")
                continue
            }
            if isSame(old, item) { continue }
            let what = differences(old, item)
            parts.append(what == "changed" ? "\(kind) \(name(item)) changed" : "\(kind) \(name(item)): \(what)")
        }
        for item in before where !after.contains(where: { name($0) == name(item) }) {
            parts.append("\(kind) \(name(item)) removed")
        }
        return parts
    }
}

extension Configuration.Frontend {
    /// As in the status: `*:80`.
    var place: String { "\(address ?? "*"):\(port)" }
}

extension Configuration.Clients {
    /// The keys that changed.
    fileprivate func differences(_ after: Self) -> [String] {
        [
            (forwarded != after.forwarded, "forwarded"), (trustedProxies != after.trustedProxies, "trustedProxies"),
            (hideHeaders != after.hideHeaders, "hideHeaders"), (errorPages != after.errorPages, "errorPages"),
        ].filter(\.0).map(\.1)
    }
}

extension Configuration.Backend {
    fileprivate static func differences(_ before: Self, _ after: Self) -> String {
        var parts: [String] = []
        var servers: [String] = []
        for server in after.servers {
            switch before.servers.first(where: { $0.id == server.id }) {
            case .none: servers.append("+\(server.id)")
            case .some(let old) where old != server: servers.append(server.id)
            case .some: break
            }
        }
        let gone = before.servers.filter { old in !after.servers.contains { $0.id == old.id } }
        servers += gone.map { "-\($0.id)" }
        if !servers.isEmpty { parts.append("servers \(servers.joined(separator: " "))") }
        if before.balance != after.balance { parts.append("balance \(after.balance.rawValue)") }
        parts += before.balancing.differences(after.balancing)
        if before.check != after.check { parts.append("check") }
        parts += before.capacity.differences(after.capacity)
        parts += before.resilience.differences(after.resilience)
        if before.autoscale != after.autoscale { parts.append("autoscale") }
        if before.sendProxy != after.sendProxy { parts.append("sendProxy") }
        if before.stickCookie != after.stickCookie { parts.append("stickCookie") }
        return parts.isEmpty ? "changed" : parts.joined(separator: ", ")
    }
}
