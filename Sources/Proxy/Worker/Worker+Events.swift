// Worker+Events: what a turn of the loop reacts to: readiness of descriptors, deadlines, mail.

extension Worker {
    mutating func dispatch(_ token: Token, _ readiness: Readiness) {
        switch token.kind {
        case TokenKind.client:
            if sessions.isCurrent(token.slot, token.generation) { clientEvent(token.slot, readiness) }
        case TokenKind.server:
            if links.isCurrent(token.slot, token.generation) { serverEvent(token.slot, readiness) }
        case TokenKind.listener:
            _ = acceptClients(token.slot)
        default:
            takeMail()
        }
    }

    private mutating func clientEvent(_ slot: Int, _ readiness: Readiness) {
        // Who only ended its stream may be waiting for its answer.
        if readiness.contains(.hungUp), sessions[slot].state == .queued { return abortSession(slot) }
        if readiness.contains(.failed) {
            guard sessions[slot].state == .tunnel else { return abortSession(slot) }
            tunnels[Int(sessions[slot].tunnel)].clientBroke = true
        }
        if readiness.contains(.peerClosed) || readiness.contains(.hungUp) { sessions[slot].peerClosed = true }
        if readiness.contains(.readable) || sessions[slot].peerClosed { sessions[slot].isReadable = true }
        if readiness.contains(.writable) { sessions[slot].isWritable = true }
        switch sessions[slot].state {
        case .idle, .head: readRequest(slot)
        case .queued, .connecting: break
        case .exchanging: pump(slot)
        case .tunnel: pumpTunnel(slot)
        case .preface: readPreface(slot)
        case .lingering: linger(slot)
        }
    }

    private mutating func serverEvent(_ link: Int, _ readiness: Readiness) {
        let session = Int(links[link].session)
        if session < 0 { return checkIdle(link, readiness) }
        if !links[link].isConnected { return connectionEvent(link, readiness) }
        if readiness.contains(.peerClosed) || readiness.contains(.hungUp) || readiness.contains(.failed) {
            links[link].peerClosed = true
        }
        if readiness.contains(.readable) || links[link].peerClosed { links[link].isReadable = true }
        if readiness.contains(.writable) { links[link].isWritable = true }
        guard sessions[session].state == .tunnel else { return pump(session) }
        if readiness.contains(.failed) { tunnels[Int(sessions[session].tunnel)].serverBroke = true }
        pumpTunnel(session)
    }

    /// Sessions whose next request is here already, or whose long response goes on. In rounds, so that neither a client
    /// that pipelines without end nor a fast reader of long responses keeps others waiting or deepens the stack.
    mutating func servePending() {
        let count = pending.count
        for index in 0..<count {
            let token = Token(raw: pending[index])
            guard sessions.isCurrent(token.slot, token.generation) else { continue }
            sessions[token.slot].isPending = false
            switch sessions[token.slot].state {
            case .head, .idle: readRequest(token.slot)
            case .tunnel:
                tunnels[Int(sessions[token.slot].tunnel)].isPending = false
                pumpTunnel(token.slot)
            case .exchanging: pumpResponse(token.slot)
            case .queued, .connecting, .preface, .lingering: break
            }
        }
        pending.removeFirst(count)
    }

    // MARK: deadlines

    /// How long the reactor may wait.
    func waitMs() -> Int32 {
        if !pending.isEmpty || !dueQueues.isEmpty || mustResume { return 0 }
        var wait = timers.waitMs(nowMs: nowMs) ?? 60_000
        if listenersPaused { wait = min(wait, Int(ProxyLimits.acceptPauseMs)) }
        if waits.count > 0 || pausedFrontends > 0 { wait = min(wait, limits.queueTickMs) }
        if idleLinks > 0 { wait = min(wait, 1_000) }
        if unwatchedFrom < unwatched.count { wait = min(wait, Int(ProxyLimits.unwatchedMs)) }
        if nextLeaveMs != .max { wait = min(wait, Int(nextLeaveMs - min(nextLeaveMs, nowMs))) }
        return Int32(min(wait, 60_000))
    }

    mutating func expireTimers() {
        while let slot = timers.next(nowMs: seen.ms) { expired(slot) }
        if unwatchedFrom < unwatched.count { watchLongLived() }
        if listenersPaused, nowMs >= resumeAcceptMs, !isFull { resumeAccepting() }
        if waits.count > 0 || pausedFrontends > 0, nowMs >= queueTickMs { tickQueues() }
        if idleLinks > 0, nowMs >= purgeMs { purgeIdle() }
        if nowMs >= nextLeaveMs { endLeaving() }
    }

    /// The session's state lasted too long: see the table in Session.swift.
    private mutating func expired(_ slot: Int) {
        switch sessions[slot].state {
        case .idle, .lingering, .tunnel:
            logCause(slot, .clientTimeout)
            closeSession(slot)
        case .preface:
            refusePreface(slot)
        case .head:
            counters.add(.refused)
            counters.add(.slowHeads)
            logCause(slot, .clientTimeout)
            answer(slot, .requestTimeout, keepingAlive: false)
        case .queued:
            queueTimedOut(slot)
        case .connecting:
            sessions[slot].timedOut = true
            connectFailed(Int(sessions[slot].link), isLocal: false)
        case .exchanging:
            if !sessions[slot].waitsForClient { return serverTimedOut(slot) }
            if hasGoneOn(slot) { return }
            counters.add(sessions[slot].owesClient ? .slowReaders : .slowBodies)
            logCause(slot, .clientTimeout)
            let mayAnswer = !sessions[slot].responseStarted && sessions[slot].ready == 0 && sessions[slot].link >= 0
            guard mayAnswer else { return abortSession(slot) }
            dropLink(slot)
            counters.add(.refused)
            answer(slot, .requestTimeout, keepingAlive: false)
        }
    }

    private mutating func serverTimedOut(_ slot: Int) {
        let server = Int(links[Int(sessions[slot].link)].server)
        counters.add(.errors, slot: server)
        noteError(server)
        suspect(server)
        guard !sessions[slot].responseStarted else {
            counters.add(.errors)
            return cut(slot, .serverTimeout)
        }
        logCause(slot, .serverTimeout)
        dropLink(slot)
        answer(slot, .gatewayTimeout, keepingAlive: true)
    }

    // MARK: mail

    private mutating func takeMail() {
        // Another worker may have freed a place: it wakes this one without a word.
        defer { serveAllSoon() }
        guard let mail = mailbox.take() else { return }
        if mail.stop { isStopping = true }
        isDraining = mail.draining
        for entry in mail.leaving { installLeaving(entry) }
        if let settings = mail.settings { install(settings) }
        if let routes = mail.routes { install(routes) }
        for change in mail.changes { install(change) }
        if mail.closeIdle { closeIdleSessions() }
        if !mail.abandoned.isEmpty { abandonSessions(of: mail.abandoned) }
    }

    /// Closes clients that have no request. One that arrived unseen gets its answer first.
    /// - Parameter frontend: only those of this slot.
    mutating func closeIdleSessions(of frontend: Int? = nil) {
        for slot in 0..<sessions.highWater where sessions.isTaken(slot) {
            if let frontend, Int(sessions[slot].frontend) != frontend { continue }
            let state = sessions[slot].state
            guard state == .idle || state == .preface else { continue }
            let generation = sessions.generation(slot)
            sessions[slot].isReadable = true
            if state == .idle { readRequest(slot) } else { readPreface(slot) }
            if sessions.isCurrent(slot, generation), sessions[slot].state == state { closeSession(slot) }
        }
    }

    private mutating func abandonSessions(of addresses: [SocketAddress]) {
        for slot in 0..<sessions.highWater where sessions.isTaken(slot) {
            guard let local = System.localAddress(sessions[slot].descriptor),
                addresses.contains(where: local.hasSameHost)
            else { continue }
            logCause(slot, .killed)
            // A complete response isn't taken back; of anything else a mere end could be mistaken for a complete one.
            if sessions[slot].state != .lingering { System.resetOnClose(sessions[slot].descriptor) }
            closeSession(slot)
        }
    }

    mutating func closeEverything() {
        for slot in 0..<sessions.highWater where sessions.isTaken(slot) {
            if sessions[slot].state == .exchanging { cut(slot, .killed) } else { closeSession(slot) }
        }
        for link in 0..<links.highWater where links.isTaken(link) { closeLink(link) }
        frontends = []
        listeners = []
    }
}
