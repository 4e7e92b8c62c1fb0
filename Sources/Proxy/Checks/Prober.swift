// Prober: checks servers actively, by a TCP connection, an HTTP request or an ICMP echo, on the control thread's reactor.
//
// It decides when with `CheckState` and judges answers with `HTTPCheck`; here are only the sockets. It never
// blocks, never keeps a connection, never looks a name up, and never reads more of an answer than `CheckResponse` allows.
// Owned by the control thread, which calls `tick` at `deadline` and `handle` for events of the prober's token kind.
//
// A probe: connecting → (tcp: passed) → sending → reading the answer → passed or failed → closed. Whatever fails, and
// a timeout over all of it, is a failure with a reason in words for people. An echo has a socket of its own as well: sent →
// answered → closed.
//
// A connection that is only to be opened ends with a reset instead of the handshake's last packet: the server's kernel has
// said that it would accept, and its program never learns of it.

import CLinux
import Glibc

/// How to probe one server.
public struct ProbeSettings: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        /// A connection that is accepted passes.
        case tcp
        /// An HTTP/1.1 request whose answer is as expected passes. Status 503 with the field `X-Triad-State: drain` says
        /// that the server wants no new requests.
        case http(HTTPCheck)
        /// An ICMP echo that is answered passes: the machine is there. The server's port doesn't matter.
        case icmp
    }

    public let kind: Kind
    public let interval: Duration
    /// For the whole probe: connecting, sending and the answer's head.
    public let timeout: Duration
    /// Passes in a row that take a server from down to up.
    public let rise: Int
    /// Failures in a row that take a server from up to down.
    public let fall: Int
    /// The PROXY header that the server expects first; it says that the check speaks for itself.
    public let greeting: ProxyVersion?

    public init(
        kind: Kind, interval: Duration, timeout: Duration, rise: Int, fall: Int, greeting: ProxyVersion? = nil
    ) {
        self.kind = kind
        self.interval = interval
        self.timeout = timeout
        self.rise = rise
        self.fall = fall
        self.greeting = greeting
    }

    var pacing: CheckPacing { CheckPacing(interval: interval, timeout: timeout, rise: rise, fall: fall) }
}

/// One server to be probed.
public struct ProbeTarget: Sendable, Equatable {
    /// Names it in changes: `api/api_1`.
    public let id: String
    public let address: SocketAddress
    public let settings: ProbeSettings

    public init(id: String, address: SocketAddress, settings: ProbeSettings) {
        self.id = id
        self.address = address
        self.settings = settings
    }
}

/// A server's verdict changed.
public struct ProbeChange: Sendable, Equatable {
    public let id: String
    /// Never `unknown`.
    public let verdict: CheckVerdict
    /// `HTTP 200 in 1 ms`, `connection refused`, …
    public let reason: String
}

/// What is known of a server: for status and metrics.
public struct ProbeView: Sendable, Equatable {
    public let verdict: CheckVerdict
    /// Of the last finished probe; empty before the first.
    public let reason: String
    /// Duration of the last finished probe.
    public let latencyNs: UInt64
    /// When it finished; 0 before the first.
    public let checkedNs: UInt64
    public let passes: UInt64
    public let failures: UInt64
}

public struct Prober: ~Copyable {
    /// Probes under way at once; the rest wait their turn.
    public static let probesMax = 256
    /// Reads of one answer in one go: more than an answer's limits take.
    private static let readsPerTurn = 64
    /// Starts of probes stand this far apart, or at the same time: of many servers some are probed together, and the control
    /// thread wakes for all of them once.
    private static let phaseNs: UInt64 = 5_000_000
    /// A handshake that took no longer is certainly not complete yet: the kernel holds its end back for 200 ms.
    private static let unseenNs: UInt64 = 150_000_000
    /// Datagrams looked at for an echo's answer in one go.
    private static let datagramsPerTurn = 32

    private struct Target {
        var target: ProbeTarget
        var check: CheckState
        var slot: Int?
        var reason = ""
        var latencyNs: UInt64 = 0
        var checkedNs: UInt64 = 0
        var passes: UInt64 = 0
        var failures: UInt64 = 0
        /// With `sameContent`: what it answered, as long as the answer is as expected otherwise.
        var content: CheckContent?
    }

    private struct Probe {
        var generation: UInt32 = 0
        /// -1: the slot is free.
        var descriptor: Int32 = -1
        var target = 0
        var startedNs: UInt64 = 0
        /// As it was when the probe began: settings may change meanwhile.
        var kind = ProbeSettings.Kind.tcp
        var connected = false
        var request: [UInt8] = []
        var sent = 0
        var response = CheckResponse()
        var echo: (socket: EchoSocket, sent: Echo)?

        /// All it wants is a connection.
        var saysNothing: Bool { kind == .tcp && request.isEmpty }
    }

    private enum Outcome {
        case passed(String)
        case failed(String)
        /// The server asks for it.
        case drains(String)
        /// This node lacks something: it says nothing about the server.
        case gaveUp(String)
    }

    private let kind: UInt8
    /// This node's share of an interval, in 1/1024, by which its grid is moved against other nodes'.
    private let share: UInt64
    private var targets: [Target] = []
    private var indexByID: [String: Int] = [:]
    /// Targets by when their next probe begins, and by when the one under way has taken too long.
    private var waiting = DeadlineQueue()
    private var underWay = DeadlineQueue()
    private var probes: [Probe] = []
    private var freeSlots: [Int] = []
    private var running = 0
    private var changes: [ProbeChange] = []
    private var echoes: UInt16 = 0

    /// - Parameters:
    ///   - kind: token kind for the reactor.
    ///   - node: this node's place among `nodes`, so that the nodes' probes of one server spread over the interval
    ///     where their clocks agree.
    public init(kind: UInt8, node: Int = 0, of nodes: Int = 1) {
        self.kind = kind
        share = UInt64(max(0, node)) * 1024 / UInt64(max(1, nodes))
    }

    deinit {
        for probe in probes where probe.descriptor >= 0 { System.close(probe.descriptor) }
    }

    /// When `tick` is next due, in nanoseconds of CLOCK_BOOTTIME; nil with nothing to probe.
    public var deadline: UInt64? {
        next?.deadlineNs
    }

    /// The target that is due first. Those that wait have to go on waiting while as many probes are under way as may be.
    private var next: (deadlineNs: UInt64, number: Int)? {
        guard running < Self.probesMax, let start = waiting.first else { return underWay.first }
        guard let end = underWay.first, end.deadlineNs < start.deadlineNs else { return start }
        return end
    }

    /// Probes exactly these from now on. A target that stays (same id and address) keeps its verdict.
    public mutating func setTargets(_ wanted: [ProbeTarget], now: UInt64) {
        waiting.removeAll()
        underWay.removeAll()
        var kept: [Target] = []
        kept.reserveCapacity(wanted.count)
        var index: [String: Int] = [:]
        // New ones start soon, but not in one burst.
        let stepNs = min(5_000_000, 200_000_000 / UInt64(max(1, wanted.count)))
        var fresh: UInt64 = 0
        for target in wanted where index[target.id] == nil {
            index[target.id] = kept.count
            if let old = indexByID[target.id], targets[old].target.address == target.address {
                var same = targets[old]
                same.target = target
                same.check.pacing = target.settings.pacing
                if let slot = same.slot { probes[slot].target = kept.count }
                targets[old].slot = nil
                kept.append(same)
                continue
            }
            let pacing = target.settings.pacing
            let phase =
                (Self.hash(target.id) % pacing.intervalNs) / Self.phaseNs * Self.phaseNs
                + pacing.intervalNs / 1024 * share
            kept.append(
                Target(target: target, check: CheckState(pacing: pacing, phaseNs: phase, firstNs: now + fresh * stepNs))
            )
            fresh += 1
        }
        for gone in targets { if let slot = gone.slot { release(slot) } }
        targets = kept
        indexByID = index
        for index in targets.indices { schedule(index) }
    }

    /// Probes this server at once, because something suggests that it isn't well; unknown ids are ignored.
    public mutating func probeNow(_ id: String, now: UInt64) {
        guard let index = indexByID[id] else { return }
        step(index, .suspect, now: now)
    }

    private mutating func step(_ index: Int, _ event: CheckState.Event, now: UInt64) {
        targets[index].check.step(event, nowNs: now)
        schedule(index)
    }

    private mutating func schedule(_ index: Int) {
        let deadline = targets[index].check.deadlineNs
        if targets[index].check.isRunning {
            waiting.remove(index)
            underWay.set(index, deadlineNs: deadline)
        } else {
            underWay.remove(index)
            waiting.set(index, deadlineNs: deadline)
        }
    }

    /// Starts probes that are due and ends those that took too long.
    public mutating func tick(now: UInt64, reactor: borrowing Reactor) {
        // Each once: a probe that fails at once may be followed by the next one at once.
        for _ in targets.indices {
            guard let next, next.deadlineNs <= now else { return }
            step(next.number, .tick, now: now)
            carryOut(next.number, now: now, reactor: reactor)
        }
    }

    /// An event of this prober's token kind. Stale ones are recognised and ignored.
    public mutating func handle(_ token: Token, _ readiness: Readiness, now: UInt64, reactor: borrowing Reactor) {
        let slot = token.slot
        guard slot < probes.count, probes[slot].generation == token.generation, probes[slot].descriptor >= 0 else {
            return
        }
        if let outcome = advance(slot, readiness, now: now) { finish(slot, outcome, now: now, reactor: reactor) }
    }

    /// Verdicts that changed since the last call, in order.
    public mutating func takeChanges() -> [ProbeChange] {
        defer { changes.removeAll() }
        return changes
    }

    public func view(of id: String) -> ProbeView? {
        guard let index = indexByID[id] else { return nil }
        let target = targets[index]
        return ProbeView(
            verdict: target.check.verdict, reason: target.reason, latencyNs: target.latencyNs,
            checkedNs: target.checkedNs, passes: target.passes, failures: target.failures)
    }

    /// nil for an unknown id.
    public func verdict(of id: String) -> CheckVerdict? { indexByID[id].map { targets[$0].check.verdict } }

    // MARK: - One probe

    private mutating func carryOut(_ index: Int, now: UInt64, reactor: borrowing Reactor) {
        while let effect = targets[index].check.nextEffect() {
            switch effect {
            case .start: start(index, now: now, reactor: reactor)
            case .abandon: abandon(index, now: now)
            case .decided(let verdict):
                changes.append(
                    ProbeChange(id: targets[index].target.id, verdict: verdict, reason: targets[index].reason))
            }
        }
    }

    private mutating func start(_ index: Int, now: UInt64, reactor: borrowing Reactor) {
        let target = targets[index].target
        let slot = takeSlot()
        probes[slot].target = index
        probes[slot].startedNs = now
        probes[slot].kind = target.settings.kind
        probes[slot].request = target.settings.greeting?.ownGreeting ?? []
        targets[index].slot = slot
        if target.settings.kind == .icmp { return startEcho(slot, to: target.address, now: now, reactor: reactor) }
        do throws(SystemError) {
            let descriptor = try System.socket(target.address.family, SOCK_STREAM.rawValue)
            probes[slot].descriptor = descriptor
            if probes[slot].saysNothing {
                try System.delayHandshake(descriptor)
            } else {
                try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            }
            let code = System.connect(descriptor, target.address)
            if code == EADDRNOTAVAIL || code == EAGAIN { throw SystemError(call: "connect", code: code) }
            if code != 0 {
                finish(slot, .failed(Self.explain(code)), now: now, reactor: reactor)
                return
            }
            // Edge-triggered registration reports what is already so: a connection made at once is not missed.
            try reactor.register(descriptor, Token(kind: kind, slot: slot, generation: probes[slot].generation))
        } catch {
            finish(slot, .gaveUp("not checked: \(error)"), now: now, reactor: reactor)
        }
    }

    private mutating func startEcho(_ slot: Int, to address: SocketAddress, now: UInt64, reactor: borrowing Reactor) {
        let socket: EchoSocket
        do throws(SystemError) {
            socket = try EchoSocket(isIPv6: address.isIPv6)
        } catch {
            let remedy = error.code == EPERM || error.code == EACCES ? ": \(EchoSocket.remedy)" : ""
            return finish(slot, .gaveUp("not checked: \(error)\(remedy)"), now: now, reactor: reactor)
        }
        probes[slot].descriptor = socket.descriptor
        probes[slot].connected = true
        echoes &+= 1
        let echo = Echo(socket.form, sequence: echoes, token: .random(in: 0...(.max)))
        probes[slot].echo = (socket, echo)
        let code = socket.connect(address)
        if code != 0 { return finish(slot, .failed(Self.explain(code)), now: now, reactor: reactor) }
        do throws(SystemError) {
            try reactor.registerForReading(
                socket.descriptor, Token(kind: kind, slot: slot, generation: probes[slot].generation))
            guard case .failed(let code) = socket.send(echo) else { return }
            // A local filter refused it, or there was no memory for it.
            if [EPERM, ENOBUFS, ENOMEM].contains(code) { throw SystemError(call: "send", code: code) }
            finish(slot, .failed(Self.explain(code)), now: now, reactor: reactor)
        } catch {
            finish(slot, .gaveUp("not checked: \(error)"), now: now, reactor: reactor)
        }
    }

    /// Looks for the echo's answer among what came.
    private func receiveEcho(_ slot: Int, now: UInt64) -> Outcome? {
        guard let (socket, echo) = probes[slot].echo else { return nil }
        var datagram: [UInt8] = []
        for _ in 0..<Self.datagramsPerTurn {
            switch socket.receive(into: &datagram) {
            case .moved where echo.isAnswered(by: datagram):
                return .passed("echo answered in \(Self.milliseconds(now - probes[slot].startedNs)) ms")
            case .moved: continue
            case .failed(let code): return .failed(code == ECONNREFUSED ? "echo refused" : Self.explain(code))
            case .wouldBlock, .ended: return nil
            }
        }
        // The rest is for the next turn.
        return nil
    }

    /// Goes on with the probe in `slot` until it would block; an outcome when it is over.
    private mutating func advance(_ slot: Int, _ readiness: Readiness, now: UInt64) -> Outcome? {
        if probes[slot].kind == .icmp { return receiveEcho(slot, now: now) }
        if !probes[slot].connected {
            let code = System.pendingError(probes[slot].descriptor)
            if code != 0 { return .failed(Self.explain(code)) }
            guard readiness.contains(.writable) else { return nil }
            probes[slot].connected = true
            if case .http(let check) = probes[slot].kind {
                probes[slot].request += check.request(to: targets[probes[slot].target].target.address)
                probes[slot].response = CheckResponse(readsBodyOf: check.readsBodyOf, isHead: check.method == "HEAD")
            }
        }
        while probes[slot].sent < probes[slot].request.count {
            switch System.write(probes[slot].descriptor, probes[slot].request, from: probes[slot].sent) {
            case .moved(let count): probes[slot].sent += count
            case .wouldBlock: return nil
            // A server may answer (and close) without reading the request: what it said still counts.
            case .ended, .failed: probes[slot].sent = probes[slot].request.count
            }
        }
        if probes[slot].kind == .tcp {
            if probes[slot].saysNothing, now - probes[slot].startedNs < Self.unseenNs {
                System.resetOnClose(probes[slot].descriptor)
            }
            return .passed("connected in \(Self.milliseconds(now - probes[slot].startedNs)) ms")
        }
        return receive(slot, now: now)
    }

    private mutating func receive(_ slot: Int, now: UInt64) -> Outcome? {
        for _ in 0..<Self.readsPerTurn {
            var chunk: [UInt8] = []
            let outcome: CheckResponse.Outcome
            switch System.read(probes[slot].descriptor, onto: &chunk, atMost: 16 << 10) {
            case .wouldBlock: return nil
            case .ended: outcome = probes[slot].response.end()
            case .failed(let code): return .failed(Self.explain(code))
            case .moved: outcome = probes[slot].response.read(chunk)
            }
            switch outcome {
            case .needMore: continue
            case .refused(let why): return .failed(why)
            case .status(let status): return judge(status, slot, now: now)
            }
        }
        // The response's limits are below what was read here.
        return .failed("the answer doesn't end")
    }

    private mutating func judge(_ status: Int, _ slot: Int, now: UInt64) -> Outcome {
        let index = probes[slot].target
        guard case .http(let check) = probes[slot].kind else { return .failed("") }
        let before = targets[index].content
        targets[index].content = nil
        if status == 503, probes[slot].response.hasDrainField { return .drains("asks to be drained (HTTP 503)") }
        if let fault = check.fault(probes[slot].response, status: status) { return .failed(fault) }
        if check.sameContent {
            let content = CheckContent(probes[slot].response.body, nowNs: now, before: before)
            targets[index].content = content
            if let difference = content.difference(from: contents(besides: index)) { return .failed(difference) }
        }
        return .passed("HTTP \(status) in \(Self.milliseconds(now - probes[slot].startedNs)) ms")
    }

    /// What the other servers of the same backend answered last.
    private func contents(besides index: Int) -> [CheckContent] {
        let backend = targets[index].target.id.prefix { $0 != "/" }
        return targets.indices.compactMap { other in
            other != index && targets[other].target.id.prefix { $0 != "/" } == backend ? targets[other].content : nil
        }
    }

    private mutating func finish(_ slot: Int, _ outcome: Outcome, now: UInt64, reactor: borrowing Reactor) {
        let index = probes[slot].target
        record(index, outcome, now: now)
        release(slot)
        targets[index].slot = nil
        switch outcome {
        case .passed: step(index, .finished(passed: true), now: now)
        case .failed: step(index, .finished(passed: false), now: now)
        case .drains: step(index, .drains, now: now)
        case .gaveUp: step(index, .gaveUp, now: now)
        }
        carryOut(index, now: now, reactor: reactor)
    }

    private mutating func abandon(_ index: Int, now: UInt64) {
        guard let slot = targets[index].slot else { return }
        let limit = Self.milliseconds(targets[index].check.pacing.timeoutNs)
        let what = probes[slot].connected ? "no answer" : "no connection"
        record(index, .failed("\(what) in \(limit) ms"), now: now)
        release(slot)
        targets[index].slot = nil
    }

    private mutating func record(_ index: Int, _ outcome: Outcome, now: UInt64) {
        if let slot = targets[index].slot { targets[index].latencyNs = now - probes[slot].startedNs }
        targets[index].checkedNs = now
        switch outcome {
        case .passed(let reason), .drains(let reason):
            targets[index].passes += 1
            targets[index].reason = reason
        case .failed(let reason):
            targets[index].failures += 1
            targets[index].reason = reason
        case .gaveUp(let reason): targets[index].reason = reason
        }
    }

    // MARK: - Slots and words

    private mutating func takeSlot() -> Int {
        running += 1
        if let slot = freeSlots.popLast() { return slot }
        probes.append(Probe())
        return probes.count - 1
    }

    private mutating func release(_ slot: Int) {
        if probes[slot].descriptor >= 0 { System.close(probes[slot].descriptor) }
        probes[slot] = Probe(generation: probes[slot].generation &+ 1)
        freeSlots.append(slot)
        running -= 1
    }

    /// Rounded to the nearest, and 1 for less.
    private static func milliseconds(_ nanoseconds: UInt64) -> UInt64 { max(1, (nanoseconds + 500_000) / 1_000_000) }

    private static func explain(_ code: Int32) -> String {
        switch code {
        case ECONNREFUSED: "connection refused"
        case ECONNRESET, EPIPE: "connection reset"
        case EHOSTUNREACH: "host unreachable"
        case ENETUNREACH: "network unreachable"
        case ETIMEDOUT: "no connection: timed out"
        default: System.explain(code)
        }
    }

    /// FNV-1a: the same on every node and in every run, unlike Swift's own hash.
    private static func hash(_ text: String) -> UInt64 {
        text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
}
