// SlotRegistry: gives every frontend and backend a slot that stays its own while the settings change, and keeps the
// listening sockets. Owned by `DataPlane`, under its lock. Control thread only; workers get what it says as `WorkerSettings`.
//
// A frontend is known by its address and mode (its name is a label), a backend by its name. Who is in the settings again
// finds its former slot. A slot goes to somebody else only when none is left that was never used, and no worker can have
// a connection or request that names it: so a number never means two things.

/// Slots of frontends, of backends, and the sockets of the frontends.
struct SlotRegistry {
    /// What makes a frontend another one.
    struct FrontendKey: Equatable {
        let address: SocketAddress
        let mode: FrontendSettings.Mode
    }

    private struct Frontend {
        var key: FrontendKey
        var settings: FrontendSettings
        var backend: Int
        /// Those of its routes.
        var routes: [Int] = []
        /// One per worker while the frontend is in the settings.
        var sockets: [ListenerSocket] = []
        /// The same ones, which a worker may go on using for a moment afterwards.
        var known: [WeakSocket] = []
        /// The first generation without it; nil while it is in the settings.
        var goneSince: Int?
    }

    private struct Backend {
        var name: String
        var settings: BackendSettings
        var goneSince: Int?
    }

    private struct WeakSocket {
        weak var socket: ListenerSocket?
    }

    /// Raised by each settings taken over.
    private(set) var generation = 0
    private var frontends: [Frontend] = []
    private var backends: [Backend] = []
    /// The slots of the settings' frontends, in their order.
    private var order: [Int] = []
    private var timeouts = ProxyTimeouts()
    private var limits = ProxyLimits()
    private var accessLog: AccessLogSettings?

    /// The port of each frontend of the settings, in their order.
    var ports: [UInt16] { order.map { frontends[$0].sockets.first?.port ?? 0 } }

    /// The frontends of the settings, with a socket per worker.
    var listeners: [(name: String, slot: Int, sockets: [ListenerSocket])] {
        order.map { (frontends[$0].settings.name, $0, frontends[$0].sockets) }
    }

    /// The backends of the settings.
    var backendSlots: [(name: String, slot: Int)] {
        backends.indices.lazy.filter { backends[$0].goneSince == nil }.map { (backends[$0].name, $0) }
    }

    /// The frontends of the settings, in their order.
    var frontendSlots: [(settings: FrontendSettings, slot: Int)] { order.map { (frontends[$0].settings, $0) } }

    /// What worker `index` is to know.
    func settings(forWorker index: Int) -> WorkerSettings {
        WorkerSettings(
            generation: generation,
            frontends: order.map { slot in
                FrontendEntry(
                    slot: slot, settings: frontends[slot].settings, backend: frontends[slot].backend,
                    routes: frontends[slot].routes, socket: frontends[slot].sockets[index])
            },
            backends: backends.indices.filter { backends[$0].goneSince == nil }
                .map { BackendEntry(slot: $0, settings: backends[$0].settings) },
            timeouts: timeouts, limits: limits, accessLog: accessLog)
    }

    /// Of frontends and backends by slot, those that are gone too.
    var names: (frontends: [String], backends: [String]) {
        (frontends.map(\.settings.name), backends.map(\.name))
    }

    /// Takes over `settings`: opens the sockets that are missing, lets go of those that are no longer wanted. Whoever
    /// connects to an address that stays never notices.
    /// - Parameters:
    ///   - workers: sockets per frontend.
    ///   - usage: what the workers still use, to give slots away safely.
    /// - Throws: which frontend or backend can't be had, and the remedy; then nothing has changed.
    mutating func adopt(_ settings: ProxySettings, workers: Int, usage: SlotUsage) throws(ProxyProblem) {
        var next = self
        next.generation += 1
        next.timeouts = settings.timeouts
        next.limits = settings.limits
        next.accessLog = settings.accessLog
        let slots = try next.placeBackends(settings.backends, usage)
        try next.placeFrontends(settings.frontends, backends: slots, workers: workers, usage)
        for place in next.frontends where place.goneSince == next.generation {
            for known in place.known where !next.isHeld(known.socket) { known.socket?.refuseNew(true) }
        }
        for slot in next.order {
            for socket in next.frontends[slot].sockets { socket.serve(next.frontends[slot].settings) }
        }
        self = next
    }

    // MARK: backends

    private mutating func placeBackends(
        _ settings: [BackendSettings], _ usage: SlotUsage
    ) throws(ProxyProblem) -> [Int] {
        for slot in backends.indices where backends[slot].goneSince == nil { backends[slot].goneSince = generation }
        var slots: [Int] = []
        for backend in settings {
            let former = backends.firstIndex { $0.name == backend.name }
            let slot = if let former { former } else { try freeBackend(backend, usage) }
            if backends[slot].goneSince == nil { throw ProxyProblem("there are two backends \(backend.name)") }
            backends[slot] = Backend(name: backend.name, settings: backend)
            slots.append(slot)
        }
        return slots
    }

    private mutating func freeBackend(_ settings: BackendSettings, _ usage: SlotUsage) throws(ProxyProblem) -> Int {
        if backends.count < ProxyLimits.backendsMax {
            backends.append(Backend(name: settings.name, settings: settings, goneSince: generation))
            return backends.count - 1
        }
        // Connections of a frontend that is gone may still be led to any backend it knew.
        let isLinked = frontends.indices.contains { frontends[$0].goneSince != nil && !isFree($0, usage) }
        let free = backends.indices.first { slot in
            guard let since = backends[slot].goneSince, since < generation, !isLinked else { return false }
            return usage.generation >= since && usage.backends(slot) == 0
        }
        guard let free else {
            throw ProxyProblem(
                "backend \(settings.name): \(ProxyLimits.backendsMax) backends are in use, with those that requests are "
                    + "still ending on; use fewer, or try again later")
        }
        return free
    }

    // MARK: frontends

    private mutating func placeFrontends(
        _ settings: [FrontendSettings], backends slots: [Int], workers: Int, _ usage: SlotUsage
    ) throws(ProxyProblem) {
        for slot in order { frontends[slot].goneSince = generation }
        order = []
        for frontend in settings {
            let key = FrontendKey(address: frontend.address, mode: frontend.mode)
            let isTaken = order.contains { frontends[$0].key.address == key.address && key.address.port != 0 }
            if isTaken {
                throw ProxyProblem("frontend \(frontend.name): another frontend has \(frontend.address) already")
            }
            let former = frontends.indices.first { frontends[$0].key == key && !order.contains($0) }
            let slot = if let former { former } else { try freeFrontend(frontend, usage) }
            // On failure the new ones close by themselves: nobody else holds them.
            let sockets = try sockets(for: frontend, at: slot, workers: workers)
            frontends[slot] = Frontend(
                key: key, settings: frontend, backend: slots[frontend.backend],
                routes: frontend.routes.map { slots[$0.backend] }, sockets: sockets,
                known: sockets.map { WeakSocket(socket: $0) })
            order.append(slot)
        }
        for slot in frontends.indices where frontends[slot].goneSince != nil { frontends[slot].sockets = [] }
    }

    private mutating func freeFrontend(_ settings: FrontendSettings, _ usage: SlotUsage) throws(ProxyProblem) -> Int {
        let key = FrontendKey(address: settings.address, mode: settings.mode)
        if frontends.count < ProxyLimits.frontendsMax {
            frontends.append(Frontend(key: key, settings: settings, backend: 0, goneSince: generation))
            return frontends.count - 1
        }
        let free = frontends.indices.first { slot in
            frontends[slot].goneSince.map { $0 < generation } ?? false && isFree(slot, usage)
        }
        guard let free else {
            throw ProxyProblem(
                "frontend \(settings.name): \(ProxyLimits.frontendsMax) frontends are in use, with those whose connections "
                    + "are still ending; use fewer, or try again later")
        }
        return free
    }

    /// Whether no worker has a connection of this frontend or can get another one.
    private func isFree(_ slot: Int, _ usage: SlotUsage) -> Bool {
        guard let since = frontends[slot].goneSince else { return false }
        // WHY in this order: as long as a worker has the socket it may count one more.
        return usage.generation >= since && frontends[slot].known.allSatisfy { $0.socket == nil }
            && usage.frontends(slot) == 0
    }

    // MARK: sockets

    /// The address's sockets, of which some or all may be open: of this frontend, of one in another mode, or of one that
    /// was just removed.
    private func sockets(
        for frontend: FrontendSettings, at slot: Int, workers: Int
    ) throws(ProxyProblem) -> [ListenerSocket] {
        // Each frontend with port 0 has a port of its own.
        let places =
            frontend.address.port == 0
            ? [slot] : frontends.indices.filter { frontends[$0].key.address == frontend.address }
        var sockets: [ListenerSocket?] = (0..<workers).map { worker in
            places.lazy.compactMap { place in
                let known = frontends[place].known
                return known.indices.contains(worker) ? known[worker].socket : nil
            }.first
        }
        let missing = sockets.indices.filter { sockets[$0] == nil }
        guard !missing.isEmpty else { return sockets.compactMap(\.self) }
        let port = sockets.lazy.compactMap(\.?.port).first ?? frontend.address.port
        let ours = frontends.contains { $0.known.contains { $0.socket?.port == port } }
        let opened = try Listener.open(frontend, count: missing.count, port: port, besideOurs: ours)
        for (worker, socket) in zip(missing, opened) { sockets[worker] = socket }
        return sockets.compactMap(\.self)
    }

    /// Lets go of every socket: nobody accepts any more.
    mutating func closeSockets() {
        for slot in frontends.indices { frontends[slot].sockets = [] }
    }

    private func isHeld(_ socket: ListenerSocket?) -> Bool {
        order.contains { slot in frontends[slot].sockets.contains { $0 === socket } }
    }
}

/// What the workers still use, as their figures tell.
struct SlotUsage {
    /// Every worker runs by these settings or by newer ones.
    let generation: Int
    /// Client connections of a frontend, and requests on a backend, by slot.
    let frontends: (Int) -> Int
    let backends: (Int) -> Int
}
