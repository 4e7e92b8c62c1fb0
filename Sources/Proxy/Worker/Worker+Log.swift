// Worker+Log: what the access log is told of a request as it goes on. See Log/ for where it goes from here.
//
// Each function does nothing for a session without a record, which is every session while the log is off.

extension Worker {
    /// A request's first byte is here, or a connection that has none is open.
    @inline(__always) mutating func beginLog(_ slot: Int, isConnection: Bool = false) {
        guard log.isOn else { return }
        let record = LogRecord(
            startMs: nowMs, client: sessions[slot].peer, frontend: sessions[slot].frontend,
            backend: frontends[Int(sessions[slot].frontend)].backend, isConnection: isConnection)
        sessions[slot].logEntry = log.begin(record)
    }

    /// Its head is understood.
    @inline(__always) func logHead(_ slot: Int, _ head: RequestHead, _ from: Stretch) {
        let entry = sessions[slot].logEntry
        guard entry >= 0 else { return }
        log.keepText(entry, buffers, from, methodEnd: head.methodEnd, targetEnd: head.targetEnd)
        log.note(entry) {
            $0.headMs = $0.lap(nowMs)
            $0.isVersion10 = head.minorVersion == 0
            $0.bytesIn = UInt64(from.count)
            $0.backend = sessions[slot].backend
            $0.client = sessions[slot].client
        }
    }

    /// A server was chosen.
    @inline(__always) func logServer(_ slot: Int, _ server: Int) {
        log.note(sessions[slot].logEntry) {
            $0.server = Int32(server)
            if $0.queueMs < 0 { $0.queueMs = $0.lap(nowMs) }
        }
    }

    /// It is connected to.
    @inline(__always) func logConnected(_ slot: Int) {
        log.note(sessions[slot].logEntry) { $0.connectMs = max($0.connectMs, 0) + $0.lap(nowMs) }
    }

    /// The head of a final response is here, from a server; what failed before no longer counts.
    @inline(__always) func logResponse(_ slot: Int, status: Int) {
        log.note(sessions[slot].logEntry) {
            // A connection that was there already.
            $0.connectMs = max($0.connectMs, 0)
            $0.responseMs = $0.lap(nowMs)
            $0.status = UInt16(clamping: status)
            $0.cause = .none
            $0.phase = .none
        }
    }

    /// What is ending the request, should it end now.
    @inline(__always) func logCause(_ slot: Int, _ cause: LogCause, _ phase: LogPhase? = nil) {
        log.note(sessions[slot].logEntry) {
            $0.cause = cause
            $0.phase = phase ?? self.phase(slot)
        }
    }

    private func phase(_ slot: Int) -> LogPhase {
        switch sessions[slot].state {
        case .idle, .head: .request
        case .connecting: .connect
        case .exchanging where !sessions[slot].hasResponseHead: .head
        default: .data
        }
    }

    /// The request is over, and its response has left.
    @inline(__always) mutating func endLog(_ slot: Int) {
        if sessions[slot].logEntry >= 0 { writeLog(slot) }
    }

    /// The request is over because its session is.
    @inline(__always) mutating func breakLog(_ slot: Int) {
        guard sessions[slot].logEntry >= 0 else { return }
        if log[sessions[slot].logEntry].cause == .none { logCause(slot, isStopping ? .killed : .client) }
        writeLog(slot)
    }

    private mutating func writeLog(_ slot: Int) {
        let entry = sessions[slot].logEntry
        sessions[slot].logEntry = -1
        log.note(entry) {
            $0.totalMs = Int32(clamping: nowMs - $0.startMs)
            $0.retries = sessions[slot].retries
            if $0.headMs >= 0 { $0.bytesIn += sessions[slot].bodyBytes }
        }
        log.end(entry)
    }
}
