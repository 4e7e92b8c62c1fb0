// LoadEngine: sends requests at a steady rate and notes how each ends. Open loop: the moment of a request depends on the
// rate alone, never on the answers to earlier ones.
//
// One thread, one reactor; nothing blocks. Every request ends: by an answer, a failure or the timeout.
//
// A connection: free ──start──▶ connecting ──connected──▶ waiting ──answer──▶ idle (keep-alive) ──start──▶ waiting
//                                                                   └──────▶ lingering (until the peer closes too)
//   waiting, used before, closed by the peer before a byte of the answer ──once──▶ connecting: the close and the request
//   crossed on the way, and a GET may be sent again (RFC 9112, 9.3.1).

import CLinux
import Glibc
import Proxy

/// What to send, where and how often.
struct LoadOptions: Equatable {
    var target = SocketAddress(high: 0, low: 0, port: 80, isIPv6: false)
    /// For the Host field.
    var host = ""
    var path = "/"
    /// Requests a second.
    var rate = 100.0
    /// nil: until interrupted.
    var seconds: Double?
    var usesNewConnections = false
    /// Persistent connections, used in turn.
    var connections = 16
    var timeoutMs = 250
    /// A line per request goes there.
    var log: String?
    /// The kernel forgets the target's Ethernet address before each connection, on this interface.
    var forgetsOn: String?
    /// Each connection sends its next request as soon as the last one is answered, whatever the rate.
    var isClosedLoop = false

    var intervalNs: Double { 1e9 / rate }

    enum Limit {
        static let connections = 20_000
    }
}

struct LoadEngine: ~Copyable {
    private enum Kind {
        static let signal: UInt8 = 1
        static let connection: UInt8 = 2
    }

    private enum State {
        case free, connecting, waiting, idle, lingering
    }

    private struct Connection {
        var descriptor: Int32 = -1
        var generation: UInt32 = 0
        var state = State.free
        /// The request that it carries, and when that started and must have ended.
        var request = -1
        var start: UInt64 = 0
        var deadline: UInt64 = 0
        var served = 0
        var isSecondTry = false
        var input: [UInt8] = []
        var response = LoadResponse()
    }

    private struct Deadline {
        var at: UInt64
        var slot: Int
        var request: Int
    }

    private let options: LoadOptions
    private let requestBytes: [UInt8]
    private let reactor: Reactor
    private let signals: Int32
    private let logDescriptor: Int32
    private var connections: [Connection] = []
    private var free: [Int] = []
    /// In the order of last use; entries whose generation moved on are stale.
    private var idle: [(slot: Int, generation: UInt32)] = []
    private var open = 0
    private var active = 0
    private var deadlines: [Deadline] = []
    private var deadlinesFirst = 0
    private var scratch = [UInt8](repeating: 0, count: 1 << 16)
    private let neighbours: NeighbourTable?
    private var logText = ""
    private var second: [(name: String, count: Int)] = []
    private var secondFailures: [(name: String, count: Int)] = []
    private(set) var figures = LoadFigures()

    init(_ options: LoadOptions) throws {
        self.options = options
        requestBytes = Array(
            ("GET \(options.path) HTTP/1.1\r\nHost: \(options.host)\r\nUser-Agent: triad-load\r\nAccept: */*\r\n"
                + (options.usesNewConnections ? "Connection: close\r\n" : "") + "\r\n").utf8)
        let reactor = try Reactor()
        let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM])) ?? -1
        try reactor.registerForReading(signals, Token(kind: Kind.signal, slot: 0))
        var log: Int32 = -1
        if let path = options.log {
            log = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o644)
            if log < 0 { throw LabProblem(call: "cannot write \(path)") }
        }
        let neighbours = try options.forgetsOn.map { try NeighbourTable(interface: $0) }
        self.neighbours = neighbours
        logDescriptor = log
        self.reactor = reactor
        self.signals = signals
    }

    /// Runs until the time is over or SIGINT or SIGTERM arrives, then until every request has ended.
    /// - Parameter report: gets a line for each second.
    mutating func run(_ report: (String) -> Void) {
        let begin = System.bootNanoseconds()
        let end = options.seconds.map { begin + UInt64($0 * 1e9) } ?? .max
        let total =
            options.isClosedLoop ? Int.max : options.seconds.map { Int(($0 * options.rate).rounded()) } ?? Int.max
        var started = 0
        var reports = 1
        var isStopping = false
        while true {
            let now = System.bootNanoseconds()
            while options.isClosedLoop, !isStopping, started < total, active < options.connections {
                start(request: started)
                started += 1
            }
            var due = begin + UInt64(Double(started) * options.intervalNs)
            while !isStopping, !options.isClosedLoop, started < total, due <= now {
                figures.lagMax = max(figures.lagMax, now - due)
                start(request: started)
                started += 1
                due = begin + UInt64(Double(started) * options.intervalNs)
            }
            expire(now)
            if now >= begin + UInt64(reports) * 1_000_000_000 {
                report(line(second: reports))
                reports += 1
            }
            flushLog()
            let isEnding = isStopping || started == total || (options.isClosedLoop && now >= end)
            if isEnding { isStopping = true }
            if isEnding, active == 0 {
                if !second.isEmpty || !secondFailures.isEmpty { report(line(second: reports)) }
                return
            }
            var wake = begin + UInt64(reports) * 1_000_000_000
            if !isEnding, !options.isClosedLoop { wake = min(wake, due) }
            if deadlinesFirst < deadlines.count { wake = min(wake, deadlines[deadlinesFirst].at) }
            let count = reactor.wait(timeoutMs: wake > now ? Int32((wake - now + 999_999) / 1_000_000) : 0)
            for index in 0..<count {
                let (token, readiness) = reactor.event(at: index)
                if token.kind == Kind.signal {
                    isStopping = true
                    takeSignal()
                } else if connections[token.slot].generation == token.generation {
                    handle(token.slot, readiness)
                }
            }
        }
    }

    /// Consumes the signal. A second one ends the process at once, as the user then expects.
    private func takeSignal() {
        reactor.unregister(signals)
        var set = LabSystem.signalSet([SIGINT, SIGTERM])
        var number: Int32 = 0
        sigwait(&set, &number)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    // MARK: a request's life

    private mutating func start(request: Int) {
        let now = System.bootNanoseconds()
        active += 1
        let slot: Int
        if !options.usesNewConnections, open >= options.connections, let used = takeIdle() {
            slot = used
        } else if let fresh = free.popLast() ?? grow() {
            slot = fresh
            connections[slot].served = 0
        } else {
            active -= 1
            note(LoadResult(start: now, end: now, outcome: .local, who: nil), request)
            return
        }
        connections[slot].request = request
        connections[slot].start = now
        connections[slot].deadline = now + UInt64(options.timeoutMs) * 1_000_000
        connections[slot].isSecondTry = false
        connections[slot].response = LoadResponse()
        deadlines.append(Deadline(at: connections[slot].deadline, slot: slot, request: request))
        if connections[slot].state == .idle {
            connections[slot].state = .waiting
            send(slot)
        } else {
            connect(slot)
        }
    }

    private mutating func takeIdle() -> Int? {
        while let first = idle.first {
            idle.removeFirst()
            let connection = connections[first.slot]
            if connection.generation == first.generation, connection.state == .idle { return first.slot }
        }
        return nil
    }

    private mutating func grow() -> Int? {
        guard connections.count < LoadOptions.Limit.connections else { return nil }
        connections.append(Connection())
        return connections.count - 1
    }

    private mutating func connect(_ slot: Int) {
        connections[slot].generation &+= 1
        connections[slot].state = .connecting
        connections[slot].input = []
        neighbours?.forget(options.target)
        do throws(SystemError) {
            let descriptor = try System.socket(options.target.family, SOCK_STREAM.rawValue)
            connections[slot].descriptor = descriptor
            open += 1
            try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            try reactor.register(
                descriptor, Token(kind: Kind.connection, slot: slot, generation: connections[slot].generation))
            let code = System.connect(descriptor, options.target)
            if code != 0 { end(slot, Self.outcome(errno: code)) }
        } catch {
            end(slot, .local)
        }
    }

    private mutating func send(_ slot: Int) {
        switch LabSystem.send(connections[slot].descriptor, requestBytes) {
        // A request is far smaller than an empty send buffer, so that it goes whole or not at all.
        case .moved: break
        case .wouldBlock, .ended: lost(slot, .closed)
        case .failed(let code): lost(slot, Self.outcome(errno: code))
        }
    }

    private mutating func handle(_ slot: Int, _ readiness: Readiness) {
        if connections[slot].state == .connecting {
            let code = System.pendingError(connections[slot].descriptor)
            if code != 0 { return end(slot, Self.outcome(errno: code)) }
            guard readiness.contains(.writable) else { return }
            connections[slot].state = .waiting
            return send(slot)
        }
        guard readiness != .writable else { return }
        let generation = connections[slot].generation
        while connections[slot].generation == generation {
            let descriptor = connections[slot].descriptor
            let moved = LabSystem.receive(descriptor, appendTo: &connections[slot].input, scratch: &scratch)
            switch moved {
            case .moved: received(slot)
            case .wouldBlock: return
            case .ended: return lost(slot, .closed)
            case .failed(let code): return lost(slot, Self.outcome(errno: code))
            }
        }
    }

    private mutating func received(_ slot: Int) {
        guard connections[slot].state == .waiting else { return close(slot) }
        // Taken out of the table meanwhile: two fields of one element can't be changed at once.
        var input: [UInt8] = []
        swap(&input, &connections[slot].input)
        let step = connections[slot].response.read(&input)
        swap(&input, &connections[slot].input)
        switch step {
        case .needMore: break
        case .refused: end(slot, .malformed)
        case .done: answered(slot)
        }
    }

    /// The connection ended or failed.
    private mutating func lost(_ slot: Int, _ outcome: LoadOutcome) {
        let connection = connections[slot]
        if connection.state == .idle { noteDropped() }
        guard connection.state == .waiting else { return close(slot) }
        if outcome == .closed, connection.response.isCompleteAtEnd { return answered(slot) }
        let hasNothing = connection.response.status == 0 && connection.input.isEmpty
        if connection.served > 0, !connection.isSecondTry, hasNothing {
            System.close(connection.descriptor)
            connections[slot].descriptor = -1
            open -= 1
            connections[slot].isSecondTry = true
            connections[slot].served = 0
            return connect(slot)
        }
        end(slot, outcome)
    }

    private mutating func answered(_ slot: Int) {
        let connection = connections[slot]
        let code = connection.response.status
        let success: LoadOutcome = connection.isSecondTry ? .reconnected : .answered
        let outcome = (200..<400).contains(code) ? success : .status(code)
        active -= 1
        note(
            LoadResult(
                start: connection.start, end: System.bootNanoseconds(), outcome: outcome, who: connection.response.who),
            connection.request)
        if options.usesNewConnections {
            connections[slot].state = .lingering
        } else if connection.response.keepsAlive {
            connections[slot].state = .idle
            connections[slot].served += 1
            idle.append((slot, connection.generation))
        } else {
            close(slot)
        }
    }

    /// The request failed, and its connection with it.
    private mutating func end(_ slot: Int, _ outcome: LoadOutcome) {
        let connection = connections[slot]
        active -= 1
        note(
            LoadResult(start: connection.start, end: System.bootNanoseconds(), outcome: outcome, who: nil),
            connection.request)
        close(slot)
    }

    private mutating func close(_ slot: Int) {
        if connections[slot].descriptor >= 0 {
            System.close(connections[slot].descriptor)
            open -= 1
        }
        connections[slot].descriptor = -1
        connections[slot].generation &+= 1
        connections[slot].state = .free
        connections[slot].request = -1
        connections[slot].input = []
        free.append(slot)
    }

    private mutating func expire(_ now: UInt64) {
        while deadlinesFirst < deadlines.count, deadlines[deadlinesFirst].at <= now {
            let deadline = deadlines[deadlinesFirst]
            deadlinesFirst += 1
            guard connections[deadline.slot].request == deadline.request else { continue }
            switch connections[deadline.slot].state {
            case .connecting: end(deadline.slot, .connectTimeout)
            case .waiting: end(deadline.slot, .answerTimeout)
            case .lingering: close(deadline.slot)
            case .idle, .free: break
            }
        }
        if deadlinesFirst > 1024 {
            deadlines.removeFirst(deadlinesFirst)
            deadlinesFirst = 0
        }
    }

    static func outcome(errno code: Int32) -> LoadOutcome {
        switch code {
        case ECONNREFUSED: .refused
        case ECONNRESET, EPIPE: .reset
        case EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN: .unreachable
        case ETIMEDOUT: .connectTimeout
        default: .local
        }
    }

    // MARK: reports

    private mutating func note(_ result: LoadResult, _ request: Int) {
        figures.add(result, number: request)
        if logDescriptor >= 0 { logText += result.line }
        if result.outcome.isSuccess {
            LoadFigures.count(result.who ?? "?", in: &second)
        } else {
            LoadFigures.count(result.outcome.word, in: &secondFailures)
        }
    }

    /// The peer ended a connection that it had promised to keep. No request was lost, so it is none of the figures.
    private mutating func noteDropped() {
        let now = System.bootNanoseconds()
        figures.dropped += 1
        if logDescriptor >= 0 { logText += LoadResult(start: now, end: now, outcome: .dropped, who: nil).line }
    }

    private mutating func flushLog() {
        guard !logText.isEmpty else { return }
        LabSystem.say(logText, to: logDescriptor)
        logText = ""
    }

    private mutating func line(second number: Int) -> String {
        var text = "\(number) s  " + (second.isEmpty ? "no answers" : LoadFigures.list(second))
        if !secondFailures.isEmpty {
            text += "  FAILED " + secondFailures.map { "\($0.name) \($0.count)" }.joined(separator: ", ")
        }
        second = []
        secondFailures = []
        return text + "\n"
    }
}
