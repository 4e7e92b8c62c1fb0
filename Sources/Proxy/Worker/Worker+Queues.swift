// Worker+Queues: limits on connections: places of servers, the queues of requests that wait for one, and frontends that
// stop accepting when they have all the clients they may have.
//
// A request takes its server's place when the server is chosen and gives it back with the link. When every server it may
// go to is full it waits in its backend's queue, in this worker. Whose turn it is when a place is freed: the worker's
// whose first one has waited for longest (`Places`). Nobody is served in the middle of another's step: what became due is
// done at the end of the loop's turn. Where nothing is limited all this costs a look at a flag.

extension Worker {
    // MARK: places of servers

    /// Takes a place of the server for the session; false when it is full.
    @inline(__always) mutating func takePlace(_ slot: Int, _ server: Int) -> Bool {
        guard servers[server].isLimited else { return true }
        guard places.take(.server(server)) else { return false }
        sessions[slot].place = Int32(server)
        return true
    }

    /// The session's request is at its server no more.
    @inline(__always) mutating func releasePlace(_ slot: Int) {
        if sessions[slot].place >= 0 { givePlaceBack(slot) }
    }

    private mutating func givePlaceBack(_ slot: Int) {
        let server = Int(sessions[slot].place)
        sessions[slot].place = -1
        places.release(.server(server))
        let backend = Int(servers[server].backend)
        if backend >= 0, places.isAwaited(.backend(backend)) { serveSoon(backend) }
    }

    /// Counts requests that are under way at servers, and clients of frontends, that are limited from now on.
    mutating func countPresent() {
        for slot in 0..<sessions.highWater where sessions.isTaken(slot) {
            let (link, frontend) = (Int(sessions[slot].link), Int(sessions[slot].frontend))
            if frontends[frontend].isLimited, !sessions[slot].holdsPlace {
                places.add(.frontend(frontend))
                sessions[slot].holdsPlace = true
            }
            guard link >= 0, sessions[slot].place < 0 else { continue }
            let server = Int(links[link].server)
            guard servers[server].isLimited else { continue }
            places.add(.server(server))
            sessions[slot].place = Int32(server)
        }
    }

    // MARK: the queue

    /// Puts the session into its backend's queue; refuses it when that is full.
    mutating func enqueue(_ slot: Int) {
        let backend = Int(sessions[slot].backend)
        guard backends[backend].queue.count < backends[backend].queueMax else {
            counters.add(.queueFull, backend: backend)
            logCause(slot, .resource, .queue)
            return refuseUnplaced(slot)
        }
        // Whoever waits already is told of the next place.
        let isFirst = !places.isAwaited(.backend(backend))
        sessions[slot].state = .queued
        waits.append(slot, to: &backends[backend].queue, nowUs: nowUs)
        counters.add(.queued, backend: backend)
        counters.add(.everQueued, backend: backend)
        if backends[backend].queue.count == 1 { announceFirst(backend) }
        timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.queueMs))
        // A place may have become free before anybody could see that one is waited for.
        if isFirst { serveSoon(backend) }
        awaitClient(slot)
    }

    /// - Precondition: state queued.
    mutating func leaveQueue(_ slot: Int) {
        let backend = Int(sessions[slot].backend)
        let wasFirst = Int(backends[backend].queue.first) == slot
        waits.remove(slot, from: &backends[backend].queue)
        sessions[slot].state = .connecting
        counters.add(.queued, backend: backend, -1)
        if wasFirst { announceFirst(backend) }
    }

    /// It goes without having been served: a place that was meant for it is for somebody else.
    mutating func abandonQueue(_ slot: Int) {
        leaveQueue(slot)
        serveSoon(Int(sessions[slot].backend))
    }

    private func announceFirst(_ backend: Int) {
        places.announce(.backend(backend), worker: index, sinceUs: waits.since(backends[backend].queue))
    }

    /// It has waited for too long.
    mutating func queueTimedOut(_ slot: Int) {
        abandonQueue(slot)
        counters.add(.queueTimeouts, backend: Int(sessions[slot].backend))
        logCause(slot, .serverTimeout, .queue)
        refuseUnplaced(slot)
    }

    private mutating func refuseUnplaced(_ slot: Int) {
        if sessions[slot].isTCP { return resetStream(slot) }
        answer(slot, .noServer, keepingAlive: true)
    }

    // MARK: serving it

    mutating func serveSoon(_ backend: Int) {
        guard !backends[backend].isDue else { return }
        backends[backend].isDue = true
        dueQueues.append(Int32(backend))
    }

    /// What changed concerns everybody who waits here.
    mutating func serveAllSoon() {
        if waits.count > 0 {
            for backend in backends.indices where backends[backend].queue.count > 0 { serveSoon(backend) }
        }
        if pausedFrontends > 0 { mustResume = true }
    }

    /// At the end of a turn.
    mutating func serveQueues() {
        let count = dueQueues.count
        for place in 0..<count {
            let backend = Int(dueQueues[place])
            backends[backend].isDue = false
            serve(backend, inOrder: true)
        }
        dueQueues.removeFirst(count)
        if mustResume { resumeFrontends() }
    }

    /// Some while after the last time, whoever's turn it is: a worker that was woken may have nobody left, or hang.
    mutating func tickQueues() {
        queueTickMs = nowMs + UInt64(limits.queueTickMs)
        for backend in backends.indices where backends[backend].queue.count > 0 { serve(backend, inOrder: false) }
        if pausedFrontends > 0 { resumeFrontends() }
    }

    private mutating func serve(_ backend: Int, inOrder: Bool) {
        while let first = places.first(.backend(backend)) {
            if inOrder, first.worker != index { return System.signal(wakes[first.worker]) }
            guard serveNext(backend) else { return }
        }
    }

    /// Sends on the first that can go. Those that have tried the servers with room are passed over.
    private mutating func serveNext(_ backend: Int) -> Bool {
        var slot = Int(backends[backend].queue.first)
        while slot >= 0 {
            switch choose(slot) {
            case .none:
                leaveQueue(slot)
                giveUp(slot)
                return true
            case .server(let server):
                leaveQueue(slot)
                if !begin(slot, at: server) { sendOn(slot) }
                return true
            case .full:
                if sessions[slot].tried.isEmpty { return false }
                slot = waits.next(after: slot)
            }
        }
        return false
    }

    // MARK: frontends

    /// A frontend has all the clients it may have: others wait in the kernel's queue.
    mutating func pauseFrontend(_ frontend: Int) {
        guard !frontends[frontend].isPaused else { return }
        frontends[frontend].isPaused = true
        pausedFrontends += 1
        ignoreListener(frontend)
        counters.set(.paused, frontend: frontend, 1)
        counters.add(.pauses, frontend: frontend)
        places.announce(.frontend(frontend), worker: index, sinceUs: nowUs)
        // One may have gone before anybody could see that its place is waited for.
        if !places.isFull(.frontend(frontend)) { mustResume = true }
    }

    mutating func endPause(_ frontend: Int) {
        guard frontends[frontend].isPaused else { return }
        frontends[frontend].isPaused = false
        pausedFrontends -= 1
        counters.set(.paused, frontend: frontend, 0)
        places.announce(.frontend(frontend), worker: index, sinceUs: 0)
    }

    private mutating func resumeFrontends() {
        mustResume = false
        for frontend in frontends.indices
        where frontends[frontend].isPaused && !places.isFull(.frontend(frontend)) {
            endPause(frontend)
            if !listenersPaused { listen(frontend) }
            _ = acceptClients(frontend)
        }
    }

    /// A client is gone, or wasn't there: the worker that has waited for longest may accept one.
    mutating func releaseFrontend(_ frontend: Int) {
        places.release(.frontend(frontend))
        guard let first = places.isAwaited(.frontend(frontend)) ? places.first(.frontend(frontend)) : nil else {
            return
        }
        if first.worker == index { mustResume = true } else { System.signal(wakes[first.worker]) }
    }
}
