// Worker+Servers: chooses a server for a request, connects or takes a pooled connection, and tries again elsewhere.
//
// What may be tried again (RFC 9110, 9.2.2; RFC 9112, 9.3.1): a request of which the server got nothing, whatever its
// method; otherwise an idempotent one that is still whole in `request` and whose response hasn't started. A pooled
// connection that closed is no failure of its server, so the same server gets a fresh connection first.

import CLinux
import Glibc

extension Worker {
    // MARK: choosing

    /// Sends the session's request to a server of its backend, or answers it when there is none.
    mutating func route(_ slot: Int) {
        let backend = Int(sessions[slot].backend)
        // Nobody overtakes those who wait, but for who has waited already and whose server failed.
        if backends[backend].isLimited, sessions[slot].tried.isEmpty, places.isAwaited(.backend(backend)) {
            return enqueue(slot)
        }
        sendOn(slot)
    }

    mutating func sendOn(_ slot: Int) {
        while true {
            switch choose(slot) {
            case .server(let server): if begin(slot, at: server) { return }
            case .full: return enqueue(slot)
            case .none: return giveUp(slot)
            }
        }
    }

    enum Choice {
        /// One of its places was taken, if they are limited.
        case server(Int)
        /// Every server is full.
        case full
        case none
    }

    @inline(__always) mutating func choose(_ slot: Int) -> Choice {
        let backend = Int(sessions[slot].backend)
        let limits = backends[backend].isLimited ? places : nil
        while true {
            let chosen = backends[backend].balancer.choose(
                nowMs: nowMs, tried: sessions[slot].tried, key: sessions[slot].key,
                preferred: backends[backend].stickName.hasBuffer ? sessions[slot].stuck : -1, places: limits)
            guard let chosen else { return backends[backend].balancer.isFull ? .full : .none }
            // Another worker may have taken the last place since.
            if takePlace(slot, chosen) { return .server(chosen) }
        }
    }

    /// Sends the session's request to a server. False when that failed at once and another one may be tried.
    mutating func begin(_ slot: Int, at server: Int) -> Bool {
        // A request that can't be repeated gets a pooled connection only after another look at it.
        if !sessions[slot].isTCP, !sessions[slot].sendsHeader,
            let link = takeIdle(server, looking: !sessions[slot].isIdempotent)
        {
            attach(slot, link, server)
            sessions[slot].state = .exchanging
            pump(slot)
            return true
        }
        if connect(slot, server) { return true }
        sessions[slot].tried.insert(Int32(server))
        if spendRetry(slot, server) { return false }
        giveUp(slot)
        return true
    }

    mutating func giveUp(_ slot: Int) {
        if sessions[slot].tried.isEmpty { logCause(slot, .server, .connect) }
        if sessions[slot].isTCP { return refuseStream(slot) }
        let answer: LocalAnswer =
            sessions[slot].timedOut ? .gatewayTimeout : sessions[slot].tried.isEmpty ? .noServer : .badGateway
        self.answer(slot, answer, keepingAlive: true)
    }

    /// Whether another attempt is allowed after one on `server` failed; counts it.
    private mutating func spendRetry(_ slot: Int, _ server: Int) -> Bool {
        let made = Int(sessions[slot].retries)
        let backend = Int(sessions[slot].backend)
        let own = backends[backend].retriesMax
        guard made < min(own < 0 ? limits.retriesMax : own, ProxyLimits.attemptsMax - 1) else { return false }
        guard backends[backend].budget.take(nowMs: nowMs) else {
            counters.add(.retriesDenied)
            return false
        }
        sessions[slot].retries += 1
        counters.add(.retries)
        counters.add(.retries, slot: server)
        return true
    }

    // MARK: connecting

    /// Starts a connection for the session's request; false when that failed at once.
    private mutating func connect(_ slot: Int, _ server: Int) -> Bool {
        if links.isFull { evictIdle() }
        do throws(SystemError) {
            let descriptor = try Self.connecting(servers[server].address)
            let link = links.insert(
                ServerLink(
                    descriptor: descriptor, server: Int32(server), epoch: servers[server].epoch, session: Int32(slot)))
            links[link].isPersonal = sessions[slot].sendsHeader
            counters.add(.connections, slot: server)
            attach(slot, link, server)
            sessions[slot].state = .connecting
            timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.connectMs))
            let token = Token(kind: TokenKind.server, slot: link, generation: links.generation(link))
            try reactor.register(descriptor, token)
            return true
        } catch {
            logCause(slot, .server, .connect)
            dropLink(slot)
            releasePlace(slot)
            noteFailure(server, isLocal: Self.isLocal(error.code))
            return false
        }
    }

    /// A socket that is being connected.
    private static func connecting(_ address: SocketAddress) throws(SystemError) -> Int32 {
        let descriptor = try System.socket(address.family, SOCK_STREAM.rawValue)
        do throws(SystemError) {
            try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            let code = System.connect(descriptor, address)
            if code != 0 { throw SystemError(call: "connect", code: code) }
            return descriptor
        } catch {
            System.close(descriptor)
            throw error
        }
    }

    /// Our own shortage, which says nothing about the server.
    private static func isLocal(_ code: Int32) -> Bool {
        [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL, EAGAIN].contains(code)
    }

    /// A link under way became ready: connected or failed.
    mutating func connectionEvent(_ link: Int, _ readiness: Readiness) {
        let isOver = readiness.contains(.writable) || readiness.contains(.failed) || readiness.contains(.hungUp)
        guard isOver else { return }
        guard System.pendingError(links[link].descriptor) == 0 else { return connectFailed(link, isLocal: false) }
        let slot = Int(links[link].session)
        links[link].isConnected = true
        links[link].isWritable = true
        if readiness.contains(.peerClosed) || readiness.contains(.hungUp) { links[link].peerClosed = true }
        links[link].isReadable = readiness.contains(.readable) || links[link].peerClosed
        noteConnected(Int(links[link].server))
        logConnected(slot)
        if sessions[slot].isTCP { return openTunnel(slot) }
        sessions[slot].state = .exchanging
        pump(slot)
    }

    /// A connection wasn't made (refused, unreachable, timed out): nothing was sent, so any request goes elsewhere.
    mutating func connectFailed(_ link: Int, isLocal: Bool) {
        let slot = Int(links[link].session)
        let server = Int(links[link].server)
        logCause(slot, sessions[slot].timedOut ? .serverTimeout : .server, .connect)
        dropLink(slot)
        noteFailure(server, isLocal: isLocal)
        sessions[slot].tried.insert(Int32(server))
        if spendRetry(slot, server) { route(slot) } else { giveUp(slot) }
    }

    private mutating func noteFailure(_ server: Int, isLocal: Bool) {
        counters.add(.errors, slot: server)
        guard !isLocal else { return }
        let backend = Int(servers[server].backend)
        if backend >= 0 { backends[backend].balancer.failed(server, nowMs: nowMs) }
        noteError(server)
        suspect(server)
    }

    /// Asks for a probe of this server, at most ten times a second.
    mutating func suspect(_ server: Int) {
        guard nowMs >= servers[server].suspectedMs + 100 else { return }
        servers[server].suspectedMs = nowMs
        suspicions.post(server)
    }

    /// The server closed or reset the connection before a byte of its response.
    mutating func linkBroke(_ slot: Int) {
        let link = Int(sessions[slot].link)
        let server = Int(links[link].server)
        let wasReused = links[link].isReused
        logCause(slot, .server, .head)
        // Kept for another connection to the same server.
        let place = sessions[slot].place
        sessions[slot].place = -1
        dropLink(slot)
        sessions[slot].place = place
        let mayRepeat =
            sessions[slot].request.hasBuffer && (sessions[slot].requestSent == 0 || sessions[slot].isIdempotent)
        if wasReused && mayRepeat {
            // Nobody's failure: it was closed while idle. Outside the budget; a fresh connection can't be stale.
            counters.add(.retries, slot: server)
            sessions[slot].requestSent = 0
            if servers[server].isUsable, connect(slot, server) { return }
        } else {
            noteFailure(server, isLocal: false)
        }
        releasePlace(slot)
        sessions[slot].tried.insert(Int32(server))
        sessions[slot].requestSent = 0
        if mayRepeat, spendRetry(slot, server) { route(slot) } else { giveUp(slot) }
    }

    // MARK: links and pools

    /// Makes a link the session's own for its request.
    private mutating func attach(_ slot: Int, _ link: Int, _ server: Int) {
        sessions[slot].link = Int32(link)
        sessions[slot].chosenUs = nowUs
        links[link].session = Int32(slot)
        sessions[slot].hasResponseHead = false
        sessions[slot].responseDone = false
        sessions[slot].responseScan = HeadScan()
        sessions[slot].responseFramer = .empty
        sessions[slot].piped = PipedBytes()
        sessions[slot].linkIsReusable = false
        sessions[slot].decodes = false
        servers[server].inFlight += 1
        logServer(slot, server)
        backends[Int(servers[server].backend)].balancer.count(server, 1)
        counters.add(.sessions, slot: server)
        counters.add(.requests, slot: server)
    }

    /// Ends the session's use of its link.
    private mutating func detach(_ slot: Int, _ link: Int) {
        let server = Int(links[link].server)
        sessions[slot].link = -1
        links[link].session = -1
        servers[server].inFlight -= 1
        releasePlace(slot)
        backends[Int(servers[server].backend)].balancer.count(server, -1)
        counters.add(.sessions, slot: server, -1)
    }

    /// Closes the session's link, if it has one.
    mutating func dropLink(_ slot: Int) {
        let link = Int(sessions[slot].link)
        guard link >= 0 else { return }
        detach(slot, link)
        closeLink(link)
    }

    /// Puts the session's link into its server's pool, or closes it when it can't carry another request.
    mutating func releaseLink(_ slot: Int) {
        let link = Int(sessions[slot].link)
        guard link >= 0 else { return }
        detach(slot, link)
        let server = Int(links[link].server)
        // The last receive may have filled its buffer to the byte, so nothing is known of what follows: look.
        if links[link].isReadable, sessions[slot].linkIsReusable, System.isQuiet(links[link].descriptor) {
            links[link].isReadable = false
        }
        let isGood =
            sessions[slot].linkIsReusable && sessions[slot].requestDone && !links[link].peerClosed
            && !links[link].isReadable && !links[link].isPersonal
        guard isGood, servers[server].isUsable, servers[server].epoch == links[link].epoch,
            Int(servers[server].idleCount) < limits.idlePerServerMax
        else { return closeLink(link) }
        let first = servers[server].firstIdle
        links[link].isReused = true
        links[link].idleSinceMs = nowMs
        links[link].previous = -1
        links[link].next = first
        if first >= 0 { links[Int(first)].previous = Int32(link) } else { servers[server].lastIdle = Int32(link) }
        servers[server].firstIdle = Int32(link)
        servers[server].idleCount += 1
        idleLinks += 1
    }

    /// The idle link of a server that was used last; nil when it has none.
    /// - Parameter looking: asks the kernel whether it is still open.
    private mutating func takeIdle(_ server: Int, looking: Bool) -> Int? {
        while servers[server].firstIdle >= 0 {
            let link = Int(servers[server].firstIdle)
            unlinkIdle(link)
            if looking, !System.isQuiet(links[link].descriptor) {
                closeLink(link)
                continue
            }
            return link
        }
        return nil
    }

    private mutating func unlinkIdle(_ link: Int) {
        let server = Int(links[link].server)
        let (previous, next) = (links[link].previous, links[link].next)
        if previous >= 0 { links[Int(previous)].next = next } else { servers[server].firstIdle = next }
        if next >= 0 { links[Int(next)].previous = previous } else { servers[server].lastIdle = previous }
        links[link].next = -1
        links[link].previous = -1
        servers[server].idleCount -= 1
        idleLinks -= 1
    }

    /// An idle link became ready: it was closed, or the server speaks out of turn. Either way it is of no use.
    mutating func checkIdle(_ link: Int, _ readiness: Readiness) {
        if readiness.contains(.writable) { links[link].isWritable = true }
        guard readiness != .writable, !System.isQuiet(links[link].descriptor) else { return }
        unlinkIdle(link)
        closeLink(link)
    }

    /// - Precondition: not in a pool, not in use.
    mutating func closeLink(_ link: Int) {
        counters.add(.connections, slot: Int(links[link].server), -1)
        System.close(links[link].descriptor)
        links.remove(link)
    }

    mutating func closeIdleLinks(_ server: Int) {
        while servers[server].firstIdle >= 0 {
            let link = Int(servers[server].firstIdle)
            unlinkIdle(link)
            closeLink(link)
        }
    }

    /// Closes links that have been idle for too long, oldest first.
    mutating func purgeIdle() {
        purgeMs = nowMs + 1_000
        for server in servers.indices {
            while servers[server].lastIdle >= 0 {
                let link = Int(servers[server].lastIdle)
                guard links[link].idleSinceMs + UInt64(limits.idleServerMs) <= nowMs else { break }
                unlinkIdle(link)
                closeLink(link)
            }
        }
    }

    /// Makes room for a link. There are more places than sessions, so one is idle.
    private mutating func evictIdle() {
        guard let server = servers.indices.max(by: { servers[$0].idleCount < servers[$1].idleCount }) else { return }
        let link = Int(servers[server].lastIdle)
        guard link >= 0 else { return }
        unlinkIdle(link)
        closeLink(link)
    }
}
