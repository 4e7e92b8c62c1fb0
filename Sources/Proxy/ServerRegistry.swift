// ServerRegistry: gives every server id a slot that stays its own, so that figures survive changes of the table
// and workers name servers by a number. Owned by `DataPlane`, under its lock.

struct ServerRegistry: Sendable {
    private var slots: [String: Int] = [:]
    private(set) var ids: [String] = []
    /// The hash of each id.
    private var keys: [UInt64] = []
    /// The version of the last table that named the slot.
    private var lastNamed: [UInt64] = []

    /// Translates a table; servers beyond the limit are left out (the backend table has the same limit).
    /// - Parameter backends: those of the settings. Each gets an entry, also when the table doesn't name it (yet); what the
    ///   table says of others is left out.
    mutating func entries(of table: RoutingTable, backends: [(name: String, slot: Int)]) -> [BackendRoute] {
        // All names first: a slot that this very table still uses must not be given away.
        for route in table.backends.lazy.flatMap(\.servers) {
            if let slot = slots[route.id] { lastNamed[slot] = table.version }
        }
        return backends.map { backend in
            let routes = table.backends.first { $0.name == backend.name }?.servers ?? []
            let servers = routes.compactMap { route in
                slot(of: route.id, version: table.version).map { entry(route, $0) }
            }
            return BackendRoute(slot: backend.slot, servers: servers)
        }
    }

    /// What is new in a table that names the same servers as the last one in the same order; nil when it doesn't, or when
    /// telling all is as good.
    func changes(
        from last: RoutingTable, to table: RoutingTable, backends: [(name: String, slot: Int)]
    ) -> [RouteChange]? {
        guard last.backends.count == table.backends.count else { return nil }
        var changes: [RouteChange] = []
        for (old, new) in zip(last.backends, table.backends) {
            guard old.name == new.name, old.servers.count == new.servers.count else { return nil }
            for number in new.servers.indices where new.servers[number] != old.servers[number] {
                let route = new.servers[number]
                guard route.id == old.servers[number].id, changes.count < Self.changesMax else { return nil }
                guard let slot = slots[route.id], let backend = backends.first(where: { $0.name == new.name }) else {
                    continue
                }
                changes.append(RouteChange(slot: backend.slot, number: number, entry: entry(route, slot)))
            }
        }
        return changes
    }

    private static var changesMax: Int { 64 }

    private func entry(_ route: ServerRoute, _ slot: Int) -> RouteEntry {
        RouteEntry(
            slot: slot, key: keys[slot], address: route.address, weight: route.weight, usable: route.usable,
            isBackup: route.isBackup, upSinceMs: route.upSinceMs, connectionsMax: route.connectionsMax)
    }

    private mutating func slot(of id: String, version: UInt64) -> Int? {
        if let slot = slots[id] { return slot }
        if ids.count < ProxyLimits.serversMax {
            slots[id] = ids.count
            ids.append(id)
            keys.append(StableHash.of(id.utf8))
            lastNamed.append(version)
            return ids.count - 1
        }
        // Full: take over the slot of the server that has been gone for longest. Its counts go on under the new name.
        guard let oldest = lastNamed.indices.min(by: { lastNamed[$0] < lastNamed[$1] }), lastNamed[oldest] < version
        else { return nil }
        slots[ids[oldest]] = nil
        slots[id] = oldest
        ids[oldest] = id
        keys[oldest] = StableHash.of(id.utf8)
        lastNamed[oldest] = version
        return oldest
    }
}
