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
                slot(of: route.id, version: table.version).map {
                    RouteEntry(
                        slot: $0, key: keys[$0], address: route.address, weight: route.weight, usable: route.usable,
                        isBackup: route.isBackup, upSinceMs: route.upSinceMs,
                        connectionsMax: route.connectionsMax)
                }
            }
            return BackendRoute(slot: backend.slot, servers: servers)
        }
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
