// Worker+Protection: limits per source, patience with slow clients, and what is counted of them.
//
// A frontend without limits per source costs a look at one flag per connection and request. Patience costs a few numbers
// per wait. Neither reads a clock.

extension Worker {
    // MARK: limits per source

    /// Whether a source may open another connection on this frontend, and how it was counted, if it was.
    mutating func admitConnection(
        _ frontend: Int, _ peer: SocketAddress, _ counted: inout SourceCounts.Connection?
    ) -> Bool {
        guard frontends[frontend].limitsSources, !isExempt(peer, from: frontend) else { return true }
        let (maximum, rate) = (sourceLimits[frontend].connections, sourceLimits[frontend].connectionRate)
        guard maximum != nil || rate != nil else { return true }
        let source = source(frontend, peer)
        // First the connections: who has too many already isn't to lose what rate it has left.
        if let maximum {
            switch sourceCounts.open(source, max: maximum, nowNs: nowMs * 1_000_000) {
            case .refused:
                counters.add(.sourceConnections)
                return false
            case .counted(let connection): counted = connection
            case .uncounted: break
            }
        }
        if let rate, sourceCounts.take(source, .connections, rate, nowNs: nowMs * 1_000_000) != nil {
            if let connection = counted { sourceCounts.close(connection) }
            counted = nil
            counters.add(.sourceConnectionRate)
            return false
        }
        return true
    }

    /// Whether a source may make another request on this frontend.
    mutating func admitRequest(_ frontend: Int, _ client: SocketAddress) -> Bool {
        guard frontends[frontend].limitsSources, let rate = sourceLimits[frontend].requestRate,
            !isExempt(client, from: frontend)
        else { return true }
        let name = source(frontend, client)
        guard sourceCounts.take(name, .requests, rate, nowNs: nowMs * 1_000_000) != nil else { return true }
        counters.add(.sourceRequestRate)
        return false
    }

    private func isExempt(_ address: SocketAddress, from frontend: Int) -> Bool {
        let state = frontends[frontend]
        let first = Int(state.firstNetwork + state.networkCount + state.proxyCount)
        for index in first..<first + Int(state.exemptCount) where tables.networks[index].contains(address) {
            return true
        }
        return false
    }

    /// The session's connection is over.
    @inline(__always) func forgetSource(_ slot: Int) {
        if let connection = sessions[slot].counted { sourceCounts.close(connection) }
    }

    private func source(_ frontend: Int, _ address: SocketAddress) -> UInt64 {
        sourceHash.source(address, prefixV6: sourceLimits[frontend].prefixV6, realm: UInt64(frontend))
    }

    // MARK: slow clients

    /// For a request that begins.
    @inline(__always) var freshPatience: Patience {
        limits.minimumRate > 0 ? Patience(spanMs: Int32(clamping: limits.minimumRateSpanMs)) : .none
    }

    /// The client moved bytes of a body or response.
    @inline(__always) func clientMoved(_ slot: Int, _ bytes: Int) {
        guard limits.minimumRate > 0 else { return }
        sessions[slot].patience.moved(
            bytes, rate: limits.minimumRate, spanMs: Int32(clamping: limits.minimumRateSpanMs), nowMs: nowMs)
    }

    /// Starts the span for what the session waits for now.
    @inline(__always) mutating func startSilence(_ slot: Int) {
        if sessions[slot].waitsForClient {
            sessions[slot].patience.wait(nowMs: nowMs)
            let span = min(timeouts.clientMs, Int(sessions[slot].patience.leftMs))
            timers.set(slot, deadlineMs: nowMs + UInt64(span))
        } else {
            sessions[slot].patience.rest(nowMs: nowMs)
            timers.set(slot, deadlineMs: nowMs + UInt64(timeouts.serverMs))
        }
    }

    /// The client doesn't take what there is: notes how much the kernel holds for it.
    @inline(__always) func noteBlocked(_ slot: Int) {
        if limits.minimumRate > 0 { sessions[slot].unsent = System.unsentBytes(sessions[slot].descriptor) }
    }

    /// A client's time is up. The kernel asks for more only when a good part of its buffer is free, which may take a slow
    /// client longer than that: true when it took enough meanwhile to be given more time.
    mutating func hasGoneOn(_ slot: Int) -> Bool {
        guard limits.minimumRate > 0, sessions[slot].owesClient else { return false }
        let unsent = System.unsentBytes(sessions[slot].descriptor)
        let moved = sessions[slot].unsent - unsent
        guard moved > 0 else { return false }
        sessions[slot].unsent = unsent
        clientMoved(slot, Int(moved))
        guard sessions[slot].patience.leftMs > 0 else { return false }
        startSilence(slot)
        return true
    }

    // MARK: accepting

    /// Why no more connections are accepted for a moment.
    enum PauseReason {
        /// No descriptor, or no memory.
        case system
        /// As many clients as a worker may have.
        case full
    }

    func countPause(_ reason: PauseReason) {
        counters.set(.acceptPaused, 1)
        counters.add(reason == .system ? .acceptPausesSystem : .acceptPausesFull)
    }
}
