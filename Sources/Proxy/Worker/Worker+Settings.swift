// Worker+Settings: takes over new settings while clients are served.
//
// What stays keeps its slot, its socket and its connections. A frontend that is gone goes on for a while: the kernel
// takes no new connections for it (its socket was told so), those whose handshake is under way or done are accepted and
// served, each response says close; after `ProxyLimits.leaveMs` what is queued is accepted a last time, the socket closes,
// and idle clients with it. Nothing is cut.

extension Worker {
    /// Runs between events, so allocation is fine here.
    mutating func install(_ settings: WorkerSettings) {
        timeouts = settings.timeouts
        if limits.fieldsMax != settings.limits.fieldsMax { fields = FieldTable(max: settings.limits.fieldsMax) }
        limits = settings.limits
        log.isOn = settings.accessLog != nil
        log.keepsQuery = settings.accessLog?.keepsQuery ?? true
        for entry in settings.backends { install(entry) }
        for slot in frontends.indices where !settings.frontends.contains(where: { $0.slot == slot }) {
            // Its socket may have gone to the frontend that has the address now.
            let moved = listeners[slot].map { own in settings.frontends.contains { $0.socket === own } } ?? false
            if moved { stopListening(slot) }
            leave(slot)
        }
        for entry in settings.frontends { install(entry) }
        countPresent()
        tables.rebuild(&frontends, buffers)
        counters.set(.generation, settings.generation)
    }

    private mutating func install(_ entry: BackendEntry) {
        while backends.count <= entry.slot { backends.append(BackendState(entry.settings, nowMs: nowMs)) }
        backends[entry.slot].adopt(entry.settings)
        if !backends[entry.slot].host.hasBuffer { backends[entry.slot].host.buffer = buffers.take() }
        let buffer = backends[entry.slot].host.buffer
        backends[entry.slot].host = keep(entry.settings.name, buffer, at: 0)
        backends[entry.slot].keyName = keep(entry.settings.hashOn.name, buffer, at: Self.nameBytesMax)
        let cookie = entry.settings.stickCookie?.name
        backends[entry.slot].stickName = cookie.map { keep($0, buffer, at: 2 * Self.nameBytesMax) } ?? Stretch()
    }

    private static var nameBytesMax: Int { 256 }

    private func keep(_ name: String, _ buffer: Int32, at start: Int) -> Stretch {
        let bytes = ContiguousArray(name.utf8.prefix(Self.nameBytesMax))
        buffers.store(bytes, buffer, start)
        return Stretch(buffer: buffer, start: Int32(start), end: Int32(start + bytes.count))
    }

    private mutating func install(_ entry: FrontendEntry) {
        while frontends.count <= entry.slot {
            frontends.append(FrontendState())
            listeners.append(nil)
            sourceLimits.append(SourceLimits())
        }
        sourceLimits[entry.slot] = entry.settings.sources ?? SourceLimits()
        frontends[entry.slot].adopt(entry)
        tables.adopt(entry)
        if listeners[entry.slot] !== entry.socket {
            stopListening(entry.slot)
            listeners[entry.slot] = entry.socket
            frontends[entry.slot].listener = entry.socket.descriptor
            if !listenersPaused { listen(entry.slot) }
        }
    }

    /// What another thread told before it was taken in: sockets that came and went without this worker seeing them.
    mutating func installLeaving(_ entry: FrontendEntry) {
        install(entry)
        tables.rebuild(&frontends, buffers)
        leave(entry.slot)
    }

    private mutating func leave(_ slot: Int) {
        guard !frontends[slot].isLeaving else { return }
        frontends[slot].isLeaving = true
        frontends[slot].leaveMs = nowMs + ProxyLimits.leaveMs
        nextLeaveMs = min(nextLeaveMs, frontends[slot].leaveMs)
    }

    private mutating func stopListening(_ slot: Int) {
        guard frontends[slot].listener >= 0 else { return }
        endPause(slot)
        ignoreListener(slot)
        frontends[slot].listener = -1
        // The last reference to a socket closes it.
        listeners[slot] = nil
    }

    /// Closes the sockets and the idle clients of frontends that were removed long enough ago.
    mutating func endLeaving() {
        nextLeaveMs = .max
        for slot in frontends.indices where frontends[slot].leaveMs != .max {
            guard frontends[slot].leaveMs <= nowMs else {
                nextLeaveMs = min(nextLeaveMs, frontends[slot].leaveMs)
                continue
            }
            // Out of places or descriptors: those in the queue have to wait, and the socket with them.
            guard acceptQueued(slot) else {
                frontends[slot].leaveMs = nowMs + ProxyLimits.acceptPauseMs
                nextLeaveMs = min(nextLeaveMs, frontends[slot].leaveMs)
                continue
            }
            frontends[slot].leaveMs = .max
            stopListening(slot)
            closeIdleSessions(of: slot)
        }
    }

    /// Accepts all that wait; false when that isn't possible now.
    private mutating func acceptQueued(_ slot: Int) -> Bool {
        guard frontends[slot].listener >= 0 else { return true }
        for _ in 0..<(Int(ProxyLimits.backlog) / ProxyLimits.acceptsPerTurnMax + 1) where !listenersPaused {
            if acceptClients(slot) { return true }
        }
        return false
    }
}
