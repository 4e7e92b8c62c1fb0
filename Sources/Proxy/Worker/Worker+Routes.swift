// Worker+Routes: takes over what the control thread says of servers. Runs between requests, so allocation is fine here.

extension Worker {
    /// Takes over a whole table.
    /// Backends that it doesn't name were removed: requests that are still on them may try the servers they had.
    mutating func install(_ routes: [BackendRoute]) {
        routing = routes
        for index in servers.indices { servers[index].isUsable = false }
        var hasNewLimit = false
        for route in routes where route.slot < backends.count {
            for entry in route.servers where adopt(entry, backend: route.slot) { hasNewLimit = true }
        }
        for index in servers.indices where !servers[index].isUsable { closeIdleLinks(index) }
        for route in routes where route.slot < backends.count { balance(route) }
        if hasNewLimit { countPresent() }
    }

    /// Takes over what is new of one server: cheaper than a table where there are many.
    mutating func install(_ change: RouteChange) {
        let entry = change.entry
        guard change.slot < backends.count, let place = routing.firstIndex(where: { $0.slot == change.slot }) else {
            return
        }
        let number =
            routing[place].servers.indices.contains(change.number)
                && routing[place].servers[change.number].slot == entry.slot
            ? change.number : routing[place].servers.firstIndex { $0.slot == entry.slot }
        guard let number else { return }
        let isSameLimit = routing[place].servers[number].connectionsMax == entry.connectionsMax
        routing[place].servers[number] = entry
        let hasNewLimit = adopt(entry, backend: change.slot)
        if !entry.usable { closeIdleLinks(entry.slot) }
        let isDone =
            isSameLimit
            && backends[change.slot].balancer.reweigh(
                standing(entry), nowMs: nowMs, wallMs: System.wallMilliseconds())
        if !isDone { balance(routing[place]) }
        if hasNewLimit { countPresent() }
    }

    /// - Returns: whether its places have to be counted from now on.
    private mutating func adopt(_ entry: RouteEntry, backend: Int) -> Bool {
        while servers.count <= entry.slot { servers.append(ServerState()) }
        if servers[entry.slot].address != entry.address {
            servers[entry.slot].address = entry.address
            servers[entry.slot].epoch &+= 1
            closeIdleLinks(entry.slot)
        }
        servers[entry.slot].backend = Int32(backend)
        servers[entry.slot].key = entry.key
        servers[entry.slot].isUsable = entry.usable
        let wasLimited = servers[entry.slot].isLimited
        servers[entry.slot].isLimited = entry.connectionsMax > 0
        return servers[entry.slot].isLimited && !wasLimited
    }

    private mutating func balance(_ route: BackendRoute) {
        var all: ContiguousArray<Balancer.Server> = []
        all.reserveCapacity(route.servers.count)
        for entry in route.servers { all.append(standing(entry)) }
        backends[route.slot].balancer.update(all, nowMs: nowMs, wallMs: System.wallMilliseconds())
        updateStick(route)
        backends[route.slot].isLimited = route.servers.contains { $0.connectionsMax > 0 }
    }

    private func standing(_ entry: RouteEntry) -> Balancer.Server {
        Balancer.Server(
            slot: entry.slot, key: entry.key, weight: entry.weight, isUsable: entry.usable, isBackup: entry.isBackup,
            inFlight: servers[entry.slot].inFlight, upSinceMs: entry.upSinceMs)
    }
}
