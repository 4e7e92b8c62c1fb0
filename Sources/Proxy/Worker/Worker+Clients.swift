// Worker+Clients: client connections: accepting them, reading request heads, answering by ourselves, closing.

import Glibc

extension Worker {
    // MARK: accepting

    /// Whether no more clients may come in now.
    var isFull: Bool { sessions.count >= limits.connectionsMax || sessions.isFull }

    /// Accepts clients of a frontend, so many that others get their turn; true when none waits any more.
    mutating func acceptClients(_ frontend: Int) -> Bool {
        guard !listenersPaused, frontends[frontend].listener >= 0 else { return false }
        counters.add(.looks, frontend: frontend)
        var peer = SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
        for _ in 0..<ProxyLimits.acceptsPerTurnMax {
            if isFull {
                pauseAccepting(.full)
                return false
            }
            let isLimited = frontends[frontend].isLimited
            if isLimited, !places.take(.frontend(frontend)) {
                pauseFrontend(frontend)
                return false
            }
            let (accepted, code) = System.accept(frontends[frontend].listener, &peer)
            if let descriptor = accepted {
                openSession(descriptor, frontend, peer, holdsPlace: isLimited)
                continue
            }
            if isLimited { releaseFrontend(frontend) }
            switch code {
            // Clients that went away while they waited (accept(2) says to treat network errors alike).
            case ECONNABORTED, EINTR, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH:
                continue
            case EAGAIN: return true
            case EINVAL where listenAgain(frontend): continue
            // Out of descriptors or memory: listeners are level-triggered, so going on would spin.
            default:
                pauseAccepting(.system)
                return false
            }
        }
        return false
    }

    /// For a listener that somebody shut down. Until it is open again it reports readiness without end.
    private func listenAgain(_ frontend: Int) -> Bool {
        guard let listener = listeners[frontend], listener.listenAgain() else { return false }
        counters.add(.reopenings, frontend: frontend)
        return true
    }

    private mutating func pauseAccepting(_ reason: PauseReason) {
        countPause(reason)
        listenersPaused = true
        resumeAcceptMs = nowMs + ProxyLimits.acceptPauseMs
        for slot in frontends.indices { ignoreListener(slot) }
    }

    mutating func resumeAccepting() {
        listenersPaused = false
        counters.set(.acceptPaused, 0)
        for slot in frontends.indices where !listenersPaused { listen(slot) }
    }

    mutating func listen(_ frontend: Int) {
        guard frontends[frontend].listener >= 0, !frontends[frontend].isPaused else { return }
        do {
            try reactor.registerForReading(
                frontends[frontend].listener, Token(kind: TokenKind.listener, slot: frontend))
            counters.set(.listens, frontend: frontend, 1)
        } catch {
            pauseAccepting(.system)
        }
    }

    /// Leaves new clients of a frontend to wait, until `listen`.
    func ignoreListener(_ frontend: Int) {
        guard frontends[frontend].listener >= 0 else { return }
        // First, so that nobody takes this for neglect.
        counters.set(.listens, frontend: frontend, 0)
        reactor.unregister(frontends[frontend].listener)
    }

    /// - Parameter holdsPlace: one of the frontend's limited places was taken for it.
    private mutating func openSession(
        _ descriptor: Int32, _ frontend: Int, _ peer: SocketAddress, holdsPlace: Bool
    ) {
        var counted: SourceCounts.Connection?
        let namesClient = sendsHeader(peer, to: frontend)
        if !namesClient, !admitConnection(frontend, peer, &counted) {
            if holdsPlace { releaseFrontend(frontend) }
            return System.close(descriptor)
        }
        let slot = sessions.insert(
            Session(descriptor: descriptor, frontend: Int32(frontend), peer: peer, isTCP: frontends[frontend].isTCP))
        sessions[slot].counted = counted
        sessions[slot].holdsPlace = holdsPlace
        counters.add(.connections, frontend: frontend)
        counters.add(.accepted)
        counters.add(.connections)
        timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.requestMs))
        let token = Token(kind: TokenKind.client, slot: slot, generation: sessions.generation(slot))
        if namesClient {
            sessions[slot].state = .preface
            readPreface(slot)
        } else {
            start(slot)
        }
        if sessions.isCurrent(slot, token.generation), !sessions[slot].isRegistered {
            guard unwatched.count < ProxyLimits.unwatchedMax else { return awaitClient(slot) }
            unwatched.append((token.raw, nowMs + ProxyLimits.unwatchedMs))
        }
    }

    /// The client is known: what it sends from now on is its own.
    mutating func start(_ slot: Int) {
        if sessions[slot].isTCP { return openStream(slot) }
        sessions[slot].state = .idle
        counters.add(.idle)
        timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.requestMs))
        // TCP_DEFER_ACCEPT: the request is most likely here already.
        readRequest(slot)
    }

    /// Registers clients that were left unregistered as short-lived, and have lived: so that their leaving is noticed.
    mutating func watchLongLived() {
        while unwatchedFrom < unwatched.count, unwatched[unwatchedFrom].untilMs <= nowMs {
            let token = Token(raw: unwatched[unwatchedFrom].token)
            unwatchedFrom += 1
            if sessions.isCurrent(token.slot, token.generation) { awaitClient(token.slot) }
        }
        // Moved to the front when half of it is past: each entry moves about once.
        if unwatchedFrom * 2 > unwatched.count {
            unwatched.removeFirst(unwatchedFrom)
            unwatchedFrom = 0
        }
    }

    /// Makes sure that the reactor tells when the client can be read or written again.
    @inline(__always) mutating func awaitClient(_ slot: Int) {
        if !sessions[slot].isRegistered { registerClient(slot) }
    }

    private mutating func registerClient(_ slot: Int) {
        let token = Token(kind: TokenKind.client, slot: slot, generation: sessions.generation(slot))
        do {
            try reactor.register(sessions[slot].descriptor, token)
            sessions[slot].isRegistered = true
        } catch {
            abortSession(slot)
        }
    }

    // MARK: reading requests

    /// Reads until a head is complete, and starts forwarding it. State idle or head.
    mutating func readRequest(_ slot: Int) {
        while true {
            if !sessions[slot].input.isEmpty, scanRequest(slot) { return }
            guard sessions[slot].isReadable else {
                if sessions[slot].input.isEmpty { buffers.release(&sessions[slot].input) }
                return awaitClient(slot)
            }
            if !sessions[slot].input.hasBuffer { sessions[slot].input.buffer = buffers.take() }
            makeRoom(slot)
            switch receive(slot) {
            case .moved: break
            case .wouldBlock: continue
            case .ended, .failed: return closeSession(slot)
            }
            if sessions[slot].state == .idle {
                sessions[slot].state = .head
                beginLog(slot)
                counters.add(.idle, -1)
                timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.requestMs))
            }
        }
    }

    /// Receives behind `input`, and keeps `isReadable` true to what is known.
    @inline(__always) mutating func receive(_ slot: Int) -> Transfer {
        let room = buffers.size(sessions[slot].input.buffer) - Int(sessions[slot].input.end)
        let transfer = buffers.receive(sessions[slot].descriptor, sessions[slot].input)
        switch transfer {
        case .moved(let count):
            sessions[slot].input.end += Int32(count)
            counters.add(.bytesIn, count)
            // Less than asked for: there was no more. A known end is still to be read.
            if count < room && !sessions[slot].peerClosed { sessions[slot].isReadable = false }
        case .wouldBlock: sessions[slot].isReadable = false
        case .ended, .failed: break
        }
        return transfer
    }

    /// Moves what is in `input` to its buffer's start when it is in the way of reading on.
    mutating func makeRoom(_ slot: Int) {
        let input = sessions[slot].input
        guard input.start > 0 else { return }
        if !input.isEmpty {
            guard Int(input.end) == buffers.size(input.buffer) else { return }
            buffers.copy(input.buffer, Int(input.start), to: input.buffer, 0, count: input.count)
        }
        sessions[slot].input.start = 0
        sessions[slot].input.end = Int32(input.count)
    }

    /// Looks for a complete head in `input`; true when the session has moved on.
    private mutating func scanRequest(_ slot: Int) -> Bool {
        while !sessions[slot].input.isEmpty {
            let input = sessions[slot].input
            switch sessions[slot].requestScan.advance(buffers, input) {
            case .malformed:
                refuse(slot, .badRequest)
                return true
            case .needMore:
                return refuseEarly(slot)
            case .complete(let count):
                sessions[slot].requestScan = HeadScan()
                if count > 2 {
                    begin(slot, headBytes: count)
                    return true
                }
                // An empty line before a request is ignored (RFC 9112, 2.2).
                sessions[slot].input.start += 2
            }
        }
        return false
    }

    /// Refuses an incomplete head that can't become a good one; false when it can.
    private mutating func refuseEarly(_ slot: Int) -> Bool {
        let input = sessions[slot].input
        let first = buffers.byte(input.buffer, Int(input.start))
        if !Bytes.isToken(first), first != Bytes.cr {
            refuse(slot, .badRequest)
            return true
        }
        if sessions[slot].requestScan.hasLine {
            // HTTP/0.9 clients, for one, send a line and wait.
            let refusal = buffers.bytes(input) { RequestHead.refusal(ofLine: $0) }
            if let refusal {
                refuse(slot, refusal)
                return true
            }
        }
        guard input.count >= min(limits.headBytesMax, buffers.smallBytes) else { return false }
        refuse(slot, sessions[slot].requestScan.hasLine ? .fieldsTooLarge : .targetTooLong)
        return true
    }

    // MARK: answering by ourselves

    /// Answers a request that can't be accepted; what follows on the connection can't be trusted.
    mutating func refuse(_ slot: Int, _ refusal: Refusal) {
        counters.add(.refused)
        logCause(slot, .proxy)
        sessions[slot].isHeadMethod = false
        sessions[slot].prefersHTML = false
        answer(slot, LocalAnswer(refusal), keepingAlive: false)
    }

    /// Sends a response of our own in place of a server's. The session has no link.
    /// - Parameter keepingAlive: when the client wants it and its request has been read.
    mutating func answer(_ slot: Int, _ answer: LocalAnswer, keepingAlive: Bool) {
        let keeps =
            keepingAlive && sessions[slot].keepsAlive && !isEnding(slot) && sessions[slot].requestFramer.isDone
            && sessions[slot].framed == 0
        sessions[slot].keepsAlive = keeps
        sessions[slot].state = .exchanging
        buffers.release(&sessions[slot].request)
        sessions[slot].requestSent = 0
        if !sessions[slot].response.hasBuffer { sessions[slot].response.buffer = buffers.take() }
        var writer = HeadWriter(buffers, sessions[slot].response.buffer)
        let first = Int(frontends[Int(sessions[slot].frontend)].firstAnswer)
        let text = tables.answers[first + answer.place(html: sessions[slot].prefersHTML)]
        writer.append(buffers, text.head)
        writer.append(buffers, "Date: ")
        writer.append(buffers, date)
        writer.append(buffers, "\r\n")
        if !keeps {
            writer.append(buffers, "Connection: close\r\n")
        } else if sessions[slot].isVersion10 {
            writer.append(buffers, "Connection: keep-alive\r\n")
        }
        writer.append(buffers, "\r\n")
        if !sessions[slot].isHeadMethod { writer.append(buffers, text.body) }
        sessions[slot].response.start = 0
        sessions[slot].response.end = Int32(writer.at)
        sessions[slot].ready = Int32(writer.at)
        sessions[slot].hasResponseHead = true
        sessions[slot].responseDone = true
        counters.response(status: answer.status)
        log.note(sessions[slot].logEntry) { $0.status = UInt16(answer.status) }
        if answer.status >= 502 && answer.status <= 504 { counters.add(.errors) }
        pumpResponse(slot)
    }

    // MARK: closing

    /// Ends a session whose client must not be told that all is well.
    mutating func abortSession(_ slot: Int) {
        if sessions[slot].isBusy { counters.add(.aborted) }
        closeSession(slot)
    }

    /// Cuts a response short so that its client notices: one that ends with the connection needs a reset.
    mutating func cut(_ slot: Int, _ cause: LogCause = .server) {
        logCause(slot, cause)
        if sessions[slot].responseFramer.kind == .untilClose { System.resetOnClose(sessions[slot].descriptor) }
        closeSession(slot)
    }

    /// Closes at once, whatever the state, and gives back everything the session has.
    mutating func closeSession(_ slot: Int) {
        breakLog(slot)
        forgetSource(slot)
        if sessions[slot].tunnel >= 0 { closeTunnel(slot) }
        if sessions[slot].state == .queued { abandonQueue(slot) }
        dropLink(slot)
        if sessions[slot].holdsPlace { releaseFrontend(Int(sessions[slot].frontend)) }
        if sessions[slot].state == .idle { counters.add(.idle, -1) }
        if sessions[slot].isBusy { endRequest(slot) }
        counters.add(.connections, frontend: Int(sessions[slot].frontend), -1)
        counters.add(.connections, -1)
        releaseBuffers(slot)
        timers.clear(slot)
        System.close(sessions[slot].descriptor)
        sessions.remove(slot)
    }

    /// Whether this client is to close after its response: the node drains, or its frontend is gone.
    @inline(__always) func isEnding(_ slot: Int) -> Bool {
        isDraining || frontends[Int(sessions[slot].frontend)].isLeaving
    }

    mutating func releaseBuffers(_ slot: Int) {
        buffers.release(&sessions[slot].input)
        buffers.release(&sessions[slot].request)
        buffers.release(&sessions[slot].response)
        releasePipe(slot)
    }

    /// Closes after a complete response. A client that may still be sending is read for a while: closing with unread
    /// bytes would reset the connection, and the reset could overtake the response (RFC 9112, 9.6).
    mutating func closeAfterResponse(_ slot: Int) {
        guard sessions[slot].isReadable || !sessions[slot].input.isEmpty || !sessions[slot].requestFramer.isDone else {
            return closeSession(slot)
        }
        System.shutdownWrite(sessions[slot].descriptor)
        releaseBuffers(slot)
        sessions[slot].state = .lingering
        timers.set(slot, deadlineMs: nowMs + ProxyLimits.lingerMs)
        linger(slot)
    }

    /// Reads and forgets until the client ends.
    mutating func linger(_ slot: Int) {
        sessions[slot].input.buffer = buffers.take()
        // Not for ever in one turn.
        for _ in 0..<64 where sessions[slot].isReadable {
            sessions[slot].input.start = 0
            sessions[slot].input.end = 0
            switch receive(slot) {
            case .moved, .wouldBlock: continue
            case .ended, .failed: return closeSession(slot)
            }
        }
        buffers.release(&sessions[slot].input)
        // More than a megabyte at once isn't a client that just hadn't heard yet.
        if sessions[slot].isReadable { return closeSession(slot) }
        awaitClient(slot)
    }
}
