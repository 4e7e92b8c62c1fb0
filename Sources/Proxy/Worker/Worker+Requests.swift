// Worker+Requests: takes a complete request head, and forwards the request upwards as far as readiness allows.
//
// Head and body gather in `request` while they fit, so that they leave in one send and can be sent again to another
// server. A body that outgrows it is forwarded straight from `input`, and can't be repeated.

extension Worker {
    /// Parses the head at the start of `input`, writes the server's version of it, and sends it on its way.
    mutating func begin(_ slot: Int, headBytes: Int) {
        guard headBytes <= limits.headBytesMax else { return refuse(slot, .fieldsTooLarge) }
        let input = sessions[slot].input
        let from = Stretch(buffer: input.buffer, start: input.start, end: input.start + Int32(headBytes))
        let outcome = buffers.bytes(from) { bytes -> Result<RequestHead, Refusal> in
            do throws(Refusal) {
                return .success(
                    try RequestHead.parse(bytes, into: &fields, bodyMax: limits.requestBodyBytesMax))
            } catch {
                return .failure(error)
            }
        }
        switch outcome {
        case .failure(let refusal):
            refuse(slot, refusal)
        case .success(let head):
            sessions[slot].backend = backend(of: head, Int(sessions[slot].frontend), from)
            let policy = findClient(slot, from)
            // RFC 9110, 7.4: only a proxy that we trust can have received it over TLS.
            if head.isSecure, !policy.trustsPeer { return refuse(slot, .misdirected) }
            guard admitRequest(Int(sessions[slot].frontend), sessions[slot].client) else {
                return refuseRate(slot, head, from)
            }
            guard writeRequest(slot, head, from, policy) else { return refuse(slot, .fieldsTooLarge) }
            take(slot, head)
            findKey(slot, head, from)
            findStick(slot, from)
            logHead(slot, head, from)
            sessions[slot].input.start += Int32(headBytes)
            guard takeBody(slot) else { return }
            // RFC 9110, 7.6.2: it is for us then. We know no OPTIONS worth telling, and reflect nothing.
            if head.maxForwards == 0 {
                return answer(slot, head.method == .options ? .options : .notImplemented, keepingAlive: true)
            }
            route(slot)
        }
    }

    /// The slot of the backend that the frontend's routes say, or its own.
    @inline(__always)
    private func backend(of head: RequestHead, _ frontend: Int, _ from: Stretch) -> Int32 {
        if frontends[frontend].routeCount == 0 { return frontends[frontend].backend }
        let first = Int(frontends[frontend].firstRoute)
        let rules = first..<first + Int(frontends[frontend].routeCount)
        return buffers.bytes(from) { tables.routes.backend($0, head, of: rules) } ?? frontends[frontend].backend
    }

    /// The client makes requests too fast: it may go on on this connection, if the request's end is known.
    private mutating func refuseRate(_ slot: Int, _ head: RequestHead, _ from: Stretch) {
        take(slot, head)
        logHead(slot, head, from)
        sessions[slot].input.start += Int32(from.count)
        logCause(slot, .proxy, .request)
        answer(slot, .tooManyRequests, keepingAlive: true)
    }

    private mutating func writeRequest(_ slot: Int, _ head: RequestHead, _ from: Stretch, _ policy: FieldPolicy)
        -> Bool
    {
        let buffer = buffers.take()
        var writer = HeadWriter(buffers, buffer)
        // Connections to such a server carry one request: each begins with the header.
        let header = backends[Int(sessions[slot].backend)].sendProxy
        sessions[slot].sendsHeader = header != nil
        if let header { ProxyHeader.append(header, addresses(of: slot), buffers, to: &writer) }
        Rewrite.request(
            head, fields, buffers, from: from, peer: sessions[slot].peer,
            host: backends[Int(sessions[slot].backend)].host, policy: policy,
            ownCookie: backends[Int(sessions[slot].backend)].stickName, into: &writer)
        sessions[slot].request = Stretch(buffer: buffer, start: 0, end: Int32(writer.at))
        if writer.overflowed { buffers.release(&sessions[slot].request) }
        return !writer.overflowed
    }

    /// Notes what the head says, and that a request is being worked on.
    private mutating func take(_ slot: Int, _ head: RequestHead) {
        counters.add(.requests)
        counters.add(.inFlight)
        counters.add(.inFlight, backend: Int(sessions[slot].backend))
        backends[Int(sessions[slot].backend)].budget.request()
        sessions[slot].isBusy = true
        sessions[slot].isUsed = true
        sessions[slot].keepsAlive = head.keepsAlive
        sessions[slot].isVersion10 = head.minorVersion == 0
        sessions[slot].isHeadMethod = head.method == .head
        sessions[slot].isIdempotent = head.method.isIdempotent
        sessions[slot].upgrades = head.upgrades
        sessions[slot].requestFramer = head.framing
        sessions[slot].requestSent = 0
        sessions[slot].framed = 0
        sessions[slot].bodyBytes = 0
        sessions[slot].awaitsContinue = head.expectsContinue && !head.framing.isDone
        sessions[slot].tried = TriedServers()
        sessions[slot].retries = 0
        sessions[slot].timedOut = false
        sessions[slot].patience = freshPatience
        sessions[slot].responseStarted = false
        sessions[slot].interims = 0
        sessions[slot].prefersHTML = head.prefersHTML
    }

    /// Notes who the request came from; returns what is done with fields that say so. `fields` holds the head's.
    private mutating func findClient(_ slot: Int, _ from: Stretch) -> FieldPolicy {
        let frontend = Int(sessions[slot].frontend)
        var policy = frontends[frontend].policy
        let peer = sessions[slot].peer
        sessions[slot].client = peer
        guard frontends[frontend].networkCount > 0, isTrusted(peer, by: frontend) else { return policy }
        policy.trustsPeer = true
        let readsForwarded = policy.style == .rfc7239
        var chain = ForwardedChain()
        buffers.bytes(from) { bytes in
            for index in 0..<fields.count {
                let field = fields[index]
                if readsForwarded, field.name == .forwarded {
                    chain.addForwarded(bytes, field.value) { isTrusted($0, by: frontend) }
                } else if !readsForwarded, field.name == .xForwardedFor {
                    chain.addX(bytes, field.value) { isTrusted($0, by: frontend) }
                }
            }
        }
        sessions[slot].client = chain.client ?? peer
        return policy
    }

    private func isTrusted(_ address: SocketAddress, by frontend: Int) -> Bool {
        let first = Int(frontends[frontend].firstNetwork)
        for index in first..<first + Int(frontends[frontend].networkCount)
        where tables.networks[index].contains(address) {
            return true
        }
        return false
    }

    /// The request that was worked on is over, one way or another.
    @inline(__always) mutating func endRequest(_ slot: Int) {
        sessions[slot].isBusy = false
        counters.add(.inFlight, -1)
        counters.add(.inFlight, backend: Int(sessions[slot].backend), -1)
    }

    /// Moves body bytes that are here already behind the head, while they fit; false when the request was refused.
    private mutating func takeBody(_ slot: Int) -> Bool {
        if !sessions[slot].requestFramer.isDone, !sessions[slot].input.isEmpty {
            guard frameBody(slot) else { return false }
            _ = gather(slot)
        }
        if sessions[slot].input.isEmpty { buffers.release(&sessions[slot].input) }
        return true
    }

    /// Finds which bytes of `input` belong to the body; false when it had to be refused: its framing is broken, so
    /// nothing after it can be understood, or it is too large. The server must not see its end then.
    private mutating func frameBody(_ slot: Int) -> Bool {
        let end = buffers.bytes(sessions[slot].input) { sessions[slot].requestFramer.advance($0) }
        sessions[slot].framed = Int32(end)
        sessions[slot].awaitsContinue = false
        sessions[slot].bodyBytes += UInt64(end)
        let isTooLarge = sessions[slot].bodyBytes > limits.requestBodyBytesMax
        guard sessions[slot].requestFramer.isBroken || isTooLarge else { return true }
        if sessions[slot].responseStarted || sessions[slot].ready > 0 {
            abortSession(slot)
        } else {
            dropLink(slot)
            refuse(slot, isTooLarge ? .contentTooLarge : .badRequest)
        }
        return false
    }

    /// Moves framed bytes into `request` if they fit there; false when they don't.
    private mutating func gather(_ slot: Int) -> Bool {
        let request = sessions[slot].request
        let count = Int(sessions[slot].framed)
        guard request.hasBuffer, Int(request.end) + count <= buffers.size(request.buffer) || enlarge(slot) else {
            return false
        }
        buffers.copy(
            sessions[slot].input.buffer, Int(sessions[slot].input.start), to: sessions[slot].request.buffer,
            Int(request.end),
            count: count)
        sessions[slot].request.end += Int32(count)
        sessions[slot].input.start += Int32(count)
        sessions[slot].framed = 0
        return true
    }

    /// Gives `request` a large buffer, so that it stays whole for another attempt; false when it isn't worth it, doesn't fit
    /// there, or none is free.
    private mutating func enlarge(_ slot: Int) -> Bool {
        let most = UInt64(backends[Int(sessions[slot].backend)].replayBytesMax)
        let (request, framer) = (sessions[slot].request, sessions[slot].requestFramer)
        guard most > 0, sessions[slot].isIdempotent, !buffers.isLarge(request.buffer),
            framer.isDone || framer.kind == .length
        else { return false }
        let toCome = framer.isDone ? 0 : framer.remaining
        guard toCome <= most, sessions[slot].bodyBytes + toCome <= most,
            Int(request.end) + Int(sessions[slot].framed) + Int(toCome) <= ProxyLimits.largeBufferBytes,
            let large = buffers.takeLarge()
        else { return false }
        let start = Int(request.start)
        buffers.copy(request.buffer, start, to: large, start, count: request.count)
        buffers.give(request.buffer)
        sessions[slot].request.buffer = large
        return true
    }

    // MARK: forwarding

    /// Moves both directions as far as they go now. State exchanging.
    mutating func pump(_ slot: Int) {
        let generation = sessions.generation(slot)
        pumpRequest(slot)
        guard sessions.isCurrent(slot, generation), sessions[slot].state == .exchanging else { return }
        pumpResponse(slot)
    }

    /// Sends what there is of the request, reading more of its body while the server takes it.
    mutating func pumpRequest(_ slot: Int) {
        let link = Int(sessions[slot].link)
        guard link >= 0, links[link].isConnected else { return }
        while true {
            if !sessions[slot].unsentRequest.isEmpty {
                guard sendRequest(slot, link) else { return }
            } else if sessions[slot].framed > 0 {
                if gather(slot) { continue }
                // From here on it can't be repeated.
                buffers.release(&sessions[slot].request)
                sessions[slot].requestSent = 0
                guard sendBody(slot, link) else { return }
            } else if sessions[slot].requestFramer.isDone {
                if sessions[slot].input.isEmpty { buffers.release(&sessions[slot].input) }
                return
            } else {
                guard readBody(slot) else { return }
            }
        }
    }

    /// Sends the rest of `request`; false to stop pumping.
    private mutating func sendRequest(_ slot: Int, _ link: Int) -> Bool {
        guard links[link].isWritable else { return false }
        let unsent = sessions[slot].unsentRequest
        switch buffers.send(links[link].descriptor, unsent, count: unsent.count) {
        case .moved(let count):
            sessions[slot].requestSent += Int32(count)
            if count < unsent.count { links[link].isWritable = false }
            return true
        case .wouldBlock, .ended:
            links[link].isWritable = false
        case .failed:
            requestFailed(slot, link)
        }
        return false
    }

    /// Sends body bytes straight from `input`; false to stop pumping.
    private mutating func sendBody(_ slot: Int, _ link: Int) -> Bool {
        guard links[link].isWritable else { return false }
        let count = Int(sessions[slot].framed)
        switch buffers.send(links[link].descriptor, sessions[slot].input, count: count) {
        case .moved(let moved):
            sessions[slot].input.start += Int32(moved)
            sessions[slot].framed -= Int32(moved)
            if moved < count { links[link].isWritable = false }
            return true
        case .wouldBlock, .ended:
            links[link].isWritable = false
        case .failed:
            requestFailed(slot, link)
        }
        return false
    }

    /// The server doesn't take any more. What it said before is still worth reading: often a refusal of this very body.
    private mutating func requestFailed(_ slot: Int, _ link: Int) {
        links[link].isWritable = false
        links[link].isReadable = true
        links[link].peerClosed = true
    }

    /// Receives and frames more of the body; false to stop pumping.
    private mutating func readBody(_ slot: Int) -> Bool {
        if sessions[slot].input.isEmpty {
            guard sessions[slot].isReadable else {
                buffers.release(&sessions[slot].input)
                awaitClient(slot)
                return false
            }
            prepareInput(slot)
            switch receive(slot) {
            case .moved(let count): clientMoved(slot, count)
            case .wouldBlock: return readBody(slot)
            case .ended, .failed:
                // The server must not take a part for the whole.
                abortSession(slot)
                return false
            }
        }
        return frameBody(slot)
    }

    /// Gives an empty `input` a buffer of the size that its body is worth.
    private mutating func prepareInput(_ slot: Int) {
        let wantsLarge = isLong(sessions[slot].requestFramer)
        if sessions[slot].input.hasBuffer, wantsLarge != buffers.isLarge(sessions[slot].input.buffer) {
            buffers.release(&sessions[slot].input)
        }
        if !sessions[slot].input.hasBuffer {
            let large = wantsLarge ? buffers.takeLarge() : nil
            sessions[slot].input.buffer = large ?? buffers.take()
        }
        sessions[slot].input.start = 0
        sessions[slot].input.end = 0
    }
}
