// Worker+Tunnels: connections whose bytes are forwarded as they come: those of TCP frontends, and upgraded ones.
//
// A session is a tunnel from the server's accept (TCP) or from its 101 (upgrade) on, and can't be tried again then: the
// server may have spoken, or have heard. Each direction is a `Flow`. How the ends are told:
//   end of one direction   passed on behind its last byte; the other direction goes on (half-closed)
//   both ended             both sockets are closed
//   a side is reset        what it sent before is passed on, what is on its way to it is dropped, the other side is reset
//   timeout, stop          a side that wasn't told the end of its stream is reset, so that it can't take the cut for one

/// Both directions of a tunnel.
struct Tunnel: BitwiseCopyable {
    /// From the client to the server, and back.
    var up = Flow()
    var down = Flow()
    var clientBroke = false
    var serverBroke = false
    /// It stands in the worker's list of sessions that have more to do.
    var isPending = false

    var isHalfClosed: Bool { up.isEnded || down.isEnded }
}

extension Worker {
    /// A connection of a TCP frontend: connects it to a server.
    mutating func openStream(_ slot: Int) {
        let backend = frontends[Int(sessions[slot].frontend)].backend
        sessions[slot].backend = backend
        sessions[slot].sendsHeader = backends[Int(backend)].sendProxy != nil
        sessions[slot].isBusy = true
        sessions[slot].state = .connecting
        counters.add(.requests)
        counters.add(.inFlight)
        counters.add(.inFlight, backend: Int(backend))
        backends[Int(backend)].budget.request()
        findKey(slot)
        beginLog(slot, isConnection: true)
        awaitClient(slot)
        guard sessions[slot].isRegistered else { return }
        route(slot)
    }

    /// Ends a TCP session that has no server: reset, because an orderly end would pass for an answer.
    mutating func refuseStream(_ slot: Int) {
        logCause(slot, sessions[slot].timedOut ? .serverTimeout : .server, .connect)
        resetStream(slot)
    }

    mutating func resetStream(_ slot: Int) {
        counters.add(.errors)
        System.resetOnClose(sessions[slot].descriptor)
        closeSession(slot)
    }

    /// From now on bytes go both ways as they come. Those the session has already go first.
    mutating func openTunnel(_ slot: Int) {
        if sessions[slot].isTCP, let header = backends[Int(sessions[slot].backend)].sendProxy {
            prependHeader(slot, header)
        }
        var tunnel = Tunnel()
        tunnel.up.held = sessions[slot].input
        tunnel.down.held = sessions[slot].response
        sessions[slot].input = Stretch()
        sessions[slot].response = Stretch()
        sessions[slot].ready = 0
        sessions[slot].tunnel = Int32(tunnels.insert(tunnel))
        sessions[slot].state = .tunnel
        let generation = sessions.generation(slot)
        awaitClient(slot)
        if sessions.isCurrent(slot, generation) { pumpTunnel(slot) }
    }

    /// Moves bytes both ways as far as they go now, and passes ends on.
    mutating func pumpTunnel(_ slot: Int) {
        let link = Int(sessions[slot].link)
        let place = Int(sessions[slot].tunnel)
        if tunnels[place].clientBroke { breakClient(slot, place) }
        if tunnels[place].serverBroke { breakServer(link, place) }
        var isUnfinished = false
        // A broken side may be found out by writing to it: what it said before is then read here, too.
        if !tunnels[place].down.isPassedOn { isUnfinished = moveDown(slot, link, place) }
        if !tunnels[place].up.isPassedOn, moveUp(slot, link, place) { isUnfinished = true }
        if tunnels[place].serverBroke, !tunnels[place].down.isEnded, moveDown(slot, link, place) {
            isUnfinished = true
        }
        if passEndsOn(slot, link, place) { return closeSession(slot) }
        let span = tunnels[place].isHalfClosed ? timeouts.halfClosedMs : timeouts.tunnelMs
        timers.set(slot, deadlineMs: nowMs + UInt64(span))
        if isUnfinished, !tunnels[place].isPending {
            tunnels[place].isPending = true
            pending.append(Token(kind: 0, slot: slot, generation: sessions.generation(slot)).raw)
        }
    }

    /// True when it had its share of this turn and isn't through.
    private mutating func moveUp(_ slot: Int, _ link: Int, _ place: Int) -> Bool {
        var ends = FlowEnds(
            source: sessions[slot].descriptor, sink: links[link].descriptor, isReadable: sessions[slot].isReadable,
            isWritable: links[link].isWritable, endIsNear: sessions[slot].peerClosed)
        var flow = tunnels[place].up
        let stop = flow.advance(&ends, buffers, &pipes, nowMs: nowMs)
        tunnels[place].up = flow
        sessions[slot].isReadable = ends.isReadable
        links[link].isWritable = ends.isWritable
        counters.add(.bytesIn, ends.received)
        log.note(sessions[slot].logEntry) { $0.bytesIn += UInt64(ends.received) }
        switch stop {
        case .waits: return false
        case .unfinished: return true
        case .sourceBroke:
            tunnels[place].up.isEnded = true
            breakClient(slot, place)
        case .sinkBroke:
            breakServer(link, place)
        }
        return false
    }

    /// The same for the other direction.
    private mutating func moveDown(_ slot: Int, _ link: Int, _ place: Int) -> Bool {
        var ends = FlowEnds(
            source: links[link].descriptor, sink: sessions[slot].descriptor, isReadable: links[link].isReadable,
            isWritable: sessions[slot].isWritable, endIsNear: links[link].peerClosed)
        var flow = tunnels[place].down
        let stop = flow.advance(&ends, buffers, &pipes, nowMs: nowMs)
        tunnels[place].down = flow
        links[link].isReadable = ends.isReadable
        sessions[slot].isWritable = ends.isWritable
        counters.add(.bytesOut, ends.sent)
        if ends.sent > 0 { noteSuccess(Int(links[link].server)) }
        log.note(sessions[slot].logEntry) { $0.bytesOut += UInt64(ends.sent) }
        switch stop {
        case .waits: return false
        case .unfinished: return true
        case .sourceBroke:
            tunnels[place].down.isEnded = true
            breakServer(link, place)
        case .sinkBroke:
            breakClient(slot, place)
        }
        return false
    }

    // MARK: ends

    /// The client takes nothing any more; what it sent before is still read, and then there is its end.
    private mutating func breakClient(_ slot: Int, _ place: Int) {
        tunnels[place].clientBroke = true
        tunnels[place].down = drop(tunnels[place].down)
        sessions[slot].isReadable = true
    }

    private mutating func breakServer(_ link: Int, _ place: Int) {
        tunnels[place].serverBroke = true
        tunnels[place].up = drop(tunnels[place].up)
        links[link].isReadable = true
    }

    /// A flow whose bytes nobody wants any more.
    private mutating func drop(_ flow: Flow) -> Flow {
        var flow = flow
        flow.release(buffers, &pipes)
        flow.isEnded = true
        return flow
    }

    /// Tells each side the end of its stream when it has got everything before; true when there is nothing left to do.
    private mutating func passEndsOn(_ slot: Int, _ link: Int, _ place: Int) -> Bool {
        let (upIsOver, downIsOver) = (tunnels[place].up.isOver, tunnels[place].down.isOver)
        let (clientBroke, serverBroke) = (tunnels[place].clientBroke, tunnels[place].serverBroke)
        if clientBroke || serverBroke {
            guard upIsOver && downIsOver else { return false }
            if serverBroke {
                let server = Int(links[link].server)
                counters.add(.errors)
                counters.add(.errors, slot: server)
                noteError(server)
                suspect(server)
                logCause(slot, .server)
            } else {
                counters.add(.aborted)
                logCause(slot, .client)
            }
            endLog(slot)
            return true
        }
        if upIsOver, !tunnels[place].up.isPassedOn {
            tunnels[place].up.isPassedOn = true
            System.shutdownWrite(links[link].descriptor)
        }
        if downIsOver, !tunnels[place].down.isPassedOn {
            tunnels[place].down.isPassedOn = true
            System.shutdownWrite(sessions[slot].descriptor)
        }
        if upIsOver && downIsOver { endLog(slot) }
        return upIsOver && downIsOver
    }

    /// Gives back what a tunnel has, and makes the coming close a reset for a side that wasn't told its stream's end.
    mutating func closeTunnel(_ slot: Int) {
        let place = Int(sessions[slot].tunnel)
        if !tunnels[place].down.isPassedOn { System.resetOnClose(sessions[slot].descriptor) }
        if !tunnels[place].up.isPassedOn { System.resetOnClose(links[Int(sessions[slot].link)].descriptor) }
        _ = drop(tunnels[place].up)
        _ = drop(tunnels[place].down)
        tunnels.remove(place)
        sessions[slot].tunnel = -1
    }
}
