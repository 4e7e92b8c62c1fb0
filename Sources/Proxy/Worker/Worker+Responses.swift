// Worker+Responses: reads a server's response, rewrites its head, forwards it, and ends the exchange.
//
// The head is rewritten in place, right before the first body bytes, so that both leave in one send. The server isn't
// read while the client doesn't take what there is. A response that isn't completely understood leaves its connection
// unusable: nothing that follows could be trusted.

extension Worker {
    /// Sends what is ready and reads more while both sides go along. State exchanging.
    mutating func pumpResponse(_ slot: Int) {
        var budget = ProxyLimits.bytesPerTurn
        while true {
            if sessions[slot].ready > 0 {
                budget -= Int(sessions[slot].ready)
                guard sendResponse(slot) else { return }
            }
            if !sessions[slot].piped.isEmpty {
                budget -= Int(sessions[slot].piped.count)
                guard sendPiped(slot) else { return }
            }
            if sessions[slot].responseDone { return finishExchange(slot) }
            let link = Int(sessions[slot].link)
            guard link >= 0, links[link].isConnected else { return }
            // Bytes behind an interim response may be the next head already.
            if sessions[slot].responseScan.isBehind(sessions[slot].response.count) {
                guard digest(slot) else { return }
                if sessions[slot].ready > 0 || sessions[slot].responseDone { continue }
            }
            guard links[link].isReadable else {
                if sessions[slot].response.isEmpty { buffers.release(&sessions[slot].response) }
                releasePipe(slot)
                startSilence(slot)
                return
            }
            if budget <= 0 {
                if !sessions[slot].isPending {
                    sessions[slot].isPending = true
                    pending.append(
                        Token(kind: TokenKind.client, slot: slot, generation: sessions.generation(slot)).raw)
                }
                return
            }
            if mayPipe(slot) {
                guard fillPipe(slot, link) else { return }
                continue
            }
            guard receiveResponse(slot, link), digest(slot) else { return }
        }
    }

    /// Sends all that is ready; false to stop pumping.
    private mutating func sendResponse(_ slot: Int) -> Bool {
        guard sessions[slot].isWritable else {
            awaitClient(slot)
            return false
        }
        let count = Int(sessions[slot].ready)
        // The end of the connection follows: let it travel in the same segment.
        let isLast = sessions[slot].responseDone && !sessions[slot].keepsAlive
        switch buffers.send(sessions[slot].descriptor, sessions[slot].response, count: count, more: isLast) {
        case .moved(let moved):
            noteSent(slot, moved)
            sessions[slot].response.start += Int32(moved)
            sessions[slot].ready -= Int32(moved)
            if sessions[slot].hasResponseHead { sessions[slot].responseStarted = true }
            if moved == count { return true }
        case .wouldBlock, .ended: break
        case .failed:
            abortSession(slot)
            return false
        }
        awaitRoom(slot)
        return false
    }

    @inline(__always) private mutating func noteSent(_ slot: Int, _ count: Int) {
        counters.add(.bytesOut, count)
        clientMoved(slot, count)
        log.note(sessions[slot].logEntry) { $0.bytesOut += UInt64(count) }
    }

    /// The client takes no more now.
    private mutating func awaitRoom(_ slot: Int) {
        sessions[slot].isWritable = false
        noteBlocked(slot)
        startSilence(slot)
        awaitClient(slot)
    }

    // MARK: receiving

    /// Whether what comes next is so much content that moving it through a pipe costs less than copying it. Then there
    /// is a pipe.
    @inline(__always) private mutating func mayPipe(_ slot: Int) -> Bool {
        sessions[slot].responseFramer.plainBytes >= ProxyLimits.pipedBodyBytesMin && sessions[slot].response.isEmpty
            && !sessions[slot].decodes && sessions[slot].piped.isWorthwhile
            && takePipe(slot)
    }

    private mutating func takePipe(_ slot: Int) -> Bool {
        if sessions[slot].piped.hasPipe { return true }
        var piped = sessions[slot].piped
        guard piped.prepare(&pipes, nowMs: nowMs) else { return false }
        // A connection of requests and answers delays acknowledgements, and a paced sender (BBR) slows down for want of them.
        System.acknowledgeAtOnce(links[Int(sessions[slot].link)].descriptor)
        sessions[slot].piped = piped
        return true
    }

    @inline(__always) mutating func releasePipe(_ slot: Int) {
        guard sessions[slot].piped.hasPipe else { return }
        var piped = sessions[slot].piped
        piped.release(&pipes)
        sessions[slot].piped = piped
    }

    /// Receives content into the empty pipe; false to stop pumping.
    private mutating func fillPipe(_ slot: Int, _ link: Int) -> Bool {
        buffers.release(&sessions[slot].response)
        let limit = Int(min(sessions[slot].responseFramer.plainBytes, UInt64(ProxyLimits.pipeBytes)))
        switch sessions[slot].piped.fill(from: links[link].descriptor, atMost: limit, pipes) {
        case .moved(let count):
            sessions[slot].responseFramer.skip(UInt64(count))
            if sessions[slot].responseFramer.isDone { sessions[slot].responseDone = true }
            return true
        case .wouldBlock:
            links[link].isReadable = false
            return true
        case .ended:
            linkEnded(slot, isClean: true)
        case .failed:
            linkEnded(slot, isClean: false)
        }
        return false
    }

    /// Sends what is in the pipe; false to stop pumping.
    private mutating func sendPiped(_ slot: Int) -> Bool {
        guard sessions[slot].isWritable else {
            awaitClient(slot)
            return false
        }
        let isLast = sessions[slot].responseDone && !sessions[slot].keepsAlive
        switch sessions[slot].piped.drain(into: sessions[slot].descriptor, more: isLast, pipes) {
        case .moved(let moved):
            noteSent(slot, moved)
            if sessions[slot].piped.isEmpty { return true }
        case .wouldBlock, .ended: break
        case .failed:
            abortSession(slot)
            return false
        }
        awaitRoom(slot)
        return false
    }

    /// Receives more of the response; false to stop pumping.
    private mutating func receiveResponse(_ slot: Int, _ link: Int) -> Bool {
        prepareBuffer(slot)
        let response = sessions[slot].response
        let room = buffers.size(response.buffer) - Int(response.end)
        switch buffers.receive(links[link].descriptor, response) {
        case .moved(let count):
            sessions[slot].response.end += Int32(count)
            if count < room && !links[link].peerClosed { links[link].isReadable = false }
            return true
        case .wouldBlock:
            links[link].isReadable = false
            return true
        case .ended:
            linkEnded(slot, isClean: true)
        case .failed:
            linkEnded(slot, isClean: false)
        }
        return false
    }

    /// Sees to it that `response` has room: behind what it holds while a head is read, from the start otherwise.
    private mutating func prepareBuffer(_ slot: Int) {
        if sessions[slot].response.isEmpty {
            let wantsLarge = sessions[slot].hasResponseHead && isLong(sessions[slot].responseFramer)
            if sessions[slot].response.hasBuffer, wantsLarge != buffers.isLarge(sessions[slot].response.buffer) {
                buffers.release(&sessions[slot].response)
            }
            if !sessions[slot].response.hasBuffer {
                let large = wantsLarge ? buffers.takeLarge() : nil
                sessions[slot].response.buffer = large ?? buffers.take()
            }
            // Before a head, leave room for what its rewriting adds.
            let start = sessions[slot].hasResponseHead ? 0 : Int32(Rewrite.responseGrowthMax)
            sessions[slot].response.start = start
            sessions[slot].response.end = start
        }
    }

    /// Worth a large buffer: so long that the next receive would fill a small one, or of unknown length.
    func isLong(_ framer: BodyFramer) -> Bool {
        switch framer.kind {
        case .length, .chunked: framer.remaining > UInt64(buffers.smallBytes)
        case .untilClose: true
        case .empty, .broken: false
        }
    }

    /// The server's side ended or broke.
    private mutating func linkEnded(_ slot: Int, isClean: Bool) {
        let link = Int(sessions[slot].link)
        let server = Int(links[link].server)
        if sessions[slot].hasResponseHead, sessions[slot].responseFramer.kind == .untilClose, isClean {
            sessions[slot].responseDone = true
            sessions[slot].linkIsReusable = false
            return pumpResponse(slot)
        }
        if !sessions[slot].hasResponseHead, !sessions[slot].responseStarted {
            if sessions[slot].response.isEmpty {
                buffers.release(&sessions[slot].response)
                return linkBroke(slot)
            }
            return badResponse(slot)
        }
        counters.add(.errors)
        counters.add(.errors, slot: server)
        noteError(server)
        suspect(server)
        cut(slot)
    }

    /// What the server sent is no HTTP response.
    private mutating func badResponse(_ slot: Int) {
        let server = Int(links[Int(sessions[slot].link)].server)
        counters.add(.errors, slot: server)
        noteError(server)
        logCause(slot, .server, .head)
        dropLink(slot)
        buffers.release(&sessions[slot].response)
        answer(slot, .badGateway, keepingAlive: true)
    }

    // MARK: understanding

    /// Looks at what was received: a head to rewrite, or body bytes to frame. False to stop pumping.
    private mutating func digest(_ slot: Int) -> Bool {
        if sessions[slot].hasResponseHead { return digestBody(slot, from: 0) }
        let response = sessions[slot].response
        if response.isEmpty { return true }
        switch sessions[slot].responseScan.advance(buffers, response) {
        case .needMore:
            if response.count < limits.headBytesMax, Int(response.end) < buffers.size(response.buffer) { return true }
        case .malformed: break
        case .complete(let count):
            let from = Stretch(buffer: response.buffer, start: response.start, end: response.start + Int32(count))
            let isHead = sessions[slot].isHeadMethod
            let head = buffers.bytes(from) { ResponseHead.parse($0, into: &fields, isHead: isHead) }
            if let head, count <= limits.headBytesMax { return takeHead(slot, head, from) }
        }
        badResponse(slot)
        return false
    }

    private mutating func takeHead(_ slot: Int, _ head: ResponseHead, _ from: Stretch) -> Bool {
        sessions[slot].responseScan = HeadScan()
        if !head.isInterim || head.status == 101 { noteAnswer(slot, status: head.status) }
        if head.status == 101 { return switchProtocols(slot, head, from) }
        if head.isInterim {
            sessions[slot].interims += 1
            guard sessions[slot].interims <= ProxyLimits.interimsMax else {
                badResponse(slot)
                return false
            }
            sessions[slot].awaitsContinue = false
            // HTTP/1.0 has no interim responses (RFC 9110, 15.2).
            if sessions[slot].isVersion10 {
                sessions[slot].response.start = from.end
                return true
            }
            counters.response(status: head.status)
            rewrite(slot, head, from, .stays)
            return true
        }
        sessions[slot].awaitsContinue = false
        sessions[slot].hasResponseHead = true
        sessions[slot].responseFramer = head.framing
        sessions[slot].linkIsReusable = head.keepsAlive
        counters.response(status: head.status)
        logResponse(slot, status: head.status)
        if sessions[slot].unsentRequest.isEmpty { buffers.release(&sessions[slot].request) }
        if sessions[slot].request.hasBuffer == false { sessions[slot].requestSent = 0 }
        sessions[slot].decodes = sessions[slot].isVersion10 && head.framing.kind == .chunked
        // An answer before the request's end: what the client still sends can't be told from a next request.
        let closes =
            !sessions[slot].keepsAlive || isEnding(slot) || head.framing.kind == .untilClose || sessions[slot].decodes
            || !sessions[slot].requestDone
        if closes { sessions[slot].keepsAlive = false }
        let persistence: Rewrite.Persistence =
            closes ? .closes : sessions[slot].isVersion10 ? .staysAloud : .stays
        let bodyStart = rewrite(slot, head, from, persistence)
        return digestBody(slot, from: bodyStart)
    }

    /// The server has answered.
    @inline(__always) private mutating func noteAnswer(_ slot: Int, status: Int) {
        let server = Int(links[Int(sessions[slot].link)].server)
        counters.answered(slot: server, us: nowUs &- sessions[slot].chosenUs)
        noteStatus(server, status)
    }

    /// Replaces the received head by the rewritten one; returns the latter's length.
    @discardableResult private mutating func rewrite(
        _ slot: Int, _ head: ResponseHead, _ from: Stretch, _ persistence: Rewrite.Persistence
    ) -> Int {
        var writer = HeadWriter(buffers, scratch)
        Rewrite.response(
            head, fields, buffers, from: from, persistence: persistence, isPlain: sessions[slot].isVersion10,
            hides: frontends[Int(sessions[slot].frontend)].policy.hides, date: date,
            cookie: cookieOrder(slot, head), into: &writer)
        // Where the received head ended, the rewritten one ends.
        let start = Int(from.end) - writer.at
        precondition(start >= 0 && !writer.overflowed)
        buffers.copy(scratch, 0, to: from.buffer, start, count: writer.at)
        sessions[slot].response.start = Int32(start)
        sessions[slot].ready = Int32(writer.at)
        return writer.at
    }

    /// Frames what was received behind the first `from` bytes: it becomes ready to be sent. False to stop pumping.
    private mutating func digestBody(_ slot: Int, from: Int) -> Bool {
        let response = sessions[slot].response
        var end = from
        if sessions[slot].decodes {
            end = decodeBody(slot, from: from)
        } else {
            end = buffers.bytes(response) { sessions[slot].responseFramer.advance($0, from: from) }
            if end < response.count { sessions[slot].linkIsReusable = false }
        }
        sessions[slot].response.end = response.start + Int32(end)
        sessions[slot].ready = Int32(end)
        if sessions[slot].responseFramer.isBroken {
            guard sessions[slot].responseStarted else {
                badResponse(slot)
                return false
            }
            let server = Int(links[Int(sessions[slot].link)].server)
            counters.add(.errors)
            counters.add(.errors, slot: server)
            noteError(server)
            cut(slot)
            return false
        }
        if sessions[slot].responseFramer.isDone { sessions[slot].responseDone = true }
        return true
    }

    /// Takes the chunked coding off; returns the end of the content.
    private mutating func decodeBody(_ slot: Int, from: Int) -> Int {
        let response = sessions[slot].response
        var at = from
        var end = from
        while at < response.count, !sessions[slot].responseFramer.isDone, !sessions[slot].responseFramer.isBroken {
            let piece = buffers.bytes(response) { sessions[slot].responseFramer.step($0, from: at) }
            if piece.kind == .data {
                let start = Int(response.start)
                buffers.copy(response.buffer, start + at, to: response.buffer, start + end, count: piece.end - at)
                end += piece.end - at
            }
            at = piece.end
        }
        if at < response.count { sessions[slot].linkIsReusable = false }
        return end
    }

    /// 101: from now on bytes go both ways as they come.
    private mutating func switchProtocols(_ slot: Int, _ head: ResponseHead, _ from: Stretch) -> Bool {
        guard sessions[slot].upgrades, head.upgradesToWebSocket, sessions[slot].requestDone else {
            badResponse(slot)
            return false
        }
        counters.response(status: 101)
        logResponse(slot, status: 101)
        rewrite(slot, head, from, .switches)
        buffers.release(&sessions[slot].request)
        sessions[slot].requestSent = 0
        openTunnel(slot)
        return false
    }

    // MARK: finishing

    /// The response has left completely.
    private mutating func finishExchange(_ slot: Int) {
        endLog(slot)
        releaseLink(slot)
        buffers.release(&sessions[slot].response)
        releasePipe(slot)
        sessions[slot].isHeadMethod = false
        if sessions[slot].isBusy { endRequest(slot) }
        guard sessions[slot].keepsAlive, sessions[slot].requestDone else { return closeAfterResponse(slot) }
        buffers.release(&sessions[slot].request)
        sessions[slot].requestSent = 0
        if sessions[slot].input.isEmpty {
            buffers.release(&sessions[slot].input)
            sessions[slot].state = .idle
            counters.add(.idle)
            timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.keepAliveMs))
        } else {
            sessions[slot].state = .head
            beginLog(slot)
            timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.requestMs))
        }
        if !sessions[slot].input.isEmpty || sessions[slot].isReadable {
            pending.append(Token(kind: TokenKind.client, slot: slot, generation: sessions.generation(slot)).raw)
        } else {
            awaitClient(slot)
        }
    }
}
