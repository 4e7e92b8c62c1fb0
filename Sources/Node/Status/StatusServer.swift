// StatusServer: the small HTTP/1.1 server of the status port, on the control thread's reactor.
//
// It never blocks, never reads a file, and holds no more than its limits say. What it can't know it asks for: views
// wait until the runtime calls `respond` with a report (see `needsReport`), changes come out of `takeAdminRequests`
// and wait for `answer`. Owned by the control thread.
//
//   connection     goes to        when
//   reading        waiting        a whole request needs a report or the runtime's answer
//   reading        writing        it can be answered at once, or was refused
//   waiting        writing        the answer came, or `Limit.answerNs` passed (504)
//   waiting        streaming      /events: the head is sent, events follow as they happen
//   waiting        watching       /live: the head is sent, the page follows whenever `show` is called
//   writing        reading        all sent and the connection is kept
//   writing        lingering      all sent to a refused request: read and forget, so that the answer isn't lost to a reset
//   any            closed         peer gone, or its deadline passed
//
// One request at a time is worked on; pipelined ones wait in the buffer.

import CLinux
import Glibc
import Proxy

/// Why the status port can't be opened.
struct StatusProblem: Error, Equatable, CustomStringConvertible {
    var description: String
}

/// Names an admin request that waits for its answer.
struct AdminTicket: Hashable, Sendable {
    fileprivate let slot: Int
    fileprivate let generation: UInt32
}

struct StatusServer: ~Copyable {
    enum Limit {
        static let connections = 64
        /// Of those, event streams.
        static let streams = 24
        static let requestNs: UInt64 = 5_000_000_000
        static let idleNs: UInt64 = 30_000_000_000
        static let answerNs: UInt64 = 15_000_000_000
        /// A planned move first lets what is in flight finish; the node says in time how that ended (`requestMove`), so this
        /// only has to be later.
        static let moveNs = UInt64(Configuration.Timeouts.drainMax.nanoseconds) + answerNs
        static let writeNs: UInt64 = 10_000_000_000
        static let lingerNs: UInt64 = 1_000_000_000
        /// A comment line on a silent stream, so that both ends notice a dead peer.
        static let streamBeatNs: UInt64 = 15_000_000_000
        /// A stream whose reader is this far behind is closed.
        static let streamBacklogBytes = 64 << 10
        static let backlog: Int32 = 64
        /// What a client may send after a refusal or on a stream, where nothing is expected.
        static let forgottenBytes = 64 << 10
        /// Turns of one connection before others, and the heartbeats, get theirs.
        static let turns = 32
        /// Listening stops this long when the process is out of descriptors.
        static let pauseNs: UInt64 = 200_000_000
    }

    private enum Phase: Equatable {
        case reading
        case waitingForReport(StatusView)
        case waitingForAnswer
        case writing
        case streaming
        /// A page that is shown live.
        case watching
        case lingering
    }

    private struct Connection {
        var generation: UInt32 = 0
        /// -1: the slot is free.
        var descriptor: Int32 = -1
        var phase = Phase.reading
        var input: [UInt8] = []
        var output: [UInt8] = []
        var sent = 0
        var keepsAlive = false
        var omitsBody = false
        var toldToContinue = false
        var refused = false
        /// A request isn't looked for before the input has that many bytes; below it, `searched` were in vain.
        var neededBytes = 1
        var searched = 0
        /// Bytes read only to be forgotten.
        var forgotten = 0
        /// It stopped in the middle for the sake of others.
        var goesOn = false
        var deadlineNs: UInt64 = .max

        var isOpen: Bool { descriptor >= 0 }
        var isIdle: Bool { isOpen && phase == .reading && input.isEmpty }
    }

    var access: StatusAccess
    private let listenerKind: UInt8
    private let connectionKind: UInt8
    private var listeners: [Int32] = []
    private var pausedUntilNs: UInt64?
    private var connections: [Connection] = []
    private var adminRequests: [(AdminTicket, AdminRequest)] = []
    /// True when a connection waits for a report: call `respond`.
    private(set) var needsReport = false
    /// Answers sent since the start.
    private(set) var requests: UInt64 = 0

    init(listenerKind: UInt8, connectionKind: UInt8, access: StatusAccess) {
        self.listenerKind = listenerKind
        self.connectionKind = connectionKind
        self.access = access
    }

    deinit {
        for listener in listeners { System.close(listener) }
        for connection in connections where connection.isOpen { System.close(connection.descriptor) }
    }

    /// Opens listeners at these addresses, each once. Port 0 takes any free port.
    /// - Throws: a sentence that names the address and what is wrong with it.
    mutating func listen(_ addresses: [SocketAddress], reactor: borrowing Reactor) throws(StatusProblem) {
        for (index, address) in addresses.enumerated() where !addresses[..<index].contains(address) {
            do throws(SystemError) {
                let descriptor = try System.socket(address.family, SOCK_STREAM.rawValue)
                listeners.append(descriptor)
                try System.setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
                try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
                if address.isIPv6 { try System.setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
                try System.bind(descriptor, address)
                try System.listen(descriptor, backlog: Limit.backlog)
                try reactor.registerForReading(descriptor, Token(kind: listenerKind, slot: listeners.count - 1))
            } catch {
                throw StatusProblem(description: Self.explain(error, address))
            }
        }
    }

    private static func explain(_ error: SystemError, _ address: SocketAddress) -> String {
        let place = "status port \(address)"
        return switch error.code {
        case EADDRINUSE: "\(place): the port is in use by another process; choose another as status.port"
        case EADDRNOTAVAIL: "\(place): this machine doesn't have the address; see the node's address or status.address"
        case EACCES: "\(place): not allowed; ports below 1024 need CAP_NET_BIND_SERVICE"
        default: "\(place): \(error)"
        }
    }

    /// The listeners' ports: for tests, which bind port 0.
    var ports: [UInt16] { listeners.map { System.localPort($0) } }

    // MARK: - Events from the reactor and the clock

    /// When `tick` is next due, in nanoseconds of CLOCK_BOOTTIME.
    var deadline: UInt64? {
        var earliest = pausedUntilNs ?? .max
        for connection in connections where connection.isOpen {
            earliest = min(earliest, connection.goesOn ? 0 : connection.deadlineNs)
        }
        return earliest == .max ? nil : earliest
    }

    mutating func tick(now: UInt64, reactor: borrowing Reactor) {
        for slot in connections.indices where connections[slot].isOpen {
            if connections[slot].deadlineNs <= now {
                expire(slot, now: now)
            } else if connections[slot].goesOn {
                pump(slot, now: now)
            }
        }
        if let until = pausedUntilNs, until <= now {
            pausedUntilNs = nil
            for (index, listener) in listeners.enumerated() {
                // A failure here would be a lost listener; the next pause's end tries again.
                do { try reactor.registerForReading(listener, Token(kind: listenerKind, slot: index)) } catch {
                    pausedUntilNs = now + Limit.pauseNs
                }
            }
        }
    }

    private mutating func expire(_ slot: Int, now: UInt64) {
        switch connections[slot].phase {
        case .waitingForAnswer, .waitingForReport:
            // Closed after this, so that a late answer can't be taken for that of another request.
            connections[slot].keepsAlive = false
            let text = "no answer from the cluster in time: the change may or may not have been made"
            reply(slot, .admin(504, text), now: now)
        case .streaming, .watching: send(slot, Array(":\n\n".utf8), now: now)
        case .reading where !connections[slot].input.isEmpty:
            refuse(slot, status: 408, text: "the request took too long", now: now)
            pump(slot, now: now)
        default: close(slot)
        }
    }

    /// An event of the listeners' or the connections' token kind; stale ones are recognised.
    mutating func handle(_ token: Token, _ readiness: Readiness, now: UInt64, reactor: borrowing Reactor) {
        if token.kind == listenerKind {
            accept(token.slot, now: now, reactor: reactor)
            return
        }
        let slot = token.slot
        guard slot < connections.count, connections[slot].isOpen, connections[slot].generation == token.generation
        else { return }
        if readiness.contains(.failed) || readiness.contains(.hungUp) { return close(slot) }
        pump(slot, now: now)
    }

    // MARK: - What the runtime supplies

    /// Answers every view that waits.
    mutating func respond(_ report: StatusReport, now: UInt64) {
        needsReport = false
        for slot in connections.indices {
            guard connections[slot].isOpen, case .waitingForReport(let view) = connections[slot].phase else { continue }
            if view == .events || view == .live {
                startStream(slot, view, report, now: now)
            } else {
                reply(slot, view.response(report), now: now)
            }
        }
    }

    /// Authorized changes since the last call; each wants an `answer`.
    mutating func takeAdminRequests() -> [(AdminTicket, AdminRequest)] {
        defer { adminRequests.removeAll() }
        return adminRequests
    }

    /// What became of a change. A ticket whose client has gone is ignored.
    /// - Parameters:
    ///   - status: 200 done, 202 under way, 404 no such server or node, 409 not possible as things are, 503 no leader.
    ///   - text: one line for people.
    mutating func answer(_ ticket: AdminTicket, status: Int, text: String, now: UInt64) {
        let slot = ticket.slot
        guard connections[slot].isOpen, connections[slot].generation == ticket.generation,
            connections[slot].phase == .waitingForAnswer
        else { return }
        reply(slot, .admin(status, text), now: now)
    }

    /// Sends events to the open streams, as they happen.
    mutating func publish(_ events: [StatusEvent], now: UInt64) {
        guard !events.isEmpty else { return }
        let bytes = events.flatMap { StatusView.message($0) }
        for slot in connections.indices where connections[slot].isOpen && connections[slot].phase == .streaming {
            if connections[slot].output.count - connections[slot].sent + bytes.count > Limit.streamBacklogBytes {
                close(slot)
            } else {
                send(slot, bytes, now: now)
            }
        }
    }

    /// Whether somebody looks at a live page.
    var hasViewers: Bool { connections.contains { $0.isOpen && $0.phase == .watching } }

    /// Sends the page to those who look at it live. Who hasn't taken the last one yet gets a later one instead.
    mutating func show(_ report: StatusReport, now: UInt64) {
        let bytes = StatusView.frame(report)
        for slot in connections.indices where connections[slot].isOpen && connections[slot].phase == .watching {
            if connections[slot].output.isEmpty { send(slot, bytes, now: now) }
        }
    }

    // MARK: - Connections

    private mutating func accept(_ listener: Int, now: UInt64, reactor: borrowing Reactor) {
        // A few at a time: the listener is level-triggered, and heartbeats must not wait behind a flood.
        for _ in 0..<8 {
            guard listener < listeners.count else { return }
            var peer = SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
            let (accepted, code) = System.accept(listeners[listener], &peer)
            guard let descriptor = accepted else {
                if code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOBUFS {
                    pause(now: now, reactor: reactor)
                }
                return
            }
            guard let slot = takeSlot() else {
                let full = StatusResponse(503, "too many connections to the status port")
                _ = System.write(descriptor, full.encode(keepsAlive: false, omitsBody: false), from: 0)
                System.close(descriptor)
                continue
            }
            connections[slot].descriptor = descriptor
            connections[slot].deadlineNs = now + Limit.requestNs
            let token = Token(kind: connectionKind, slot: slot, generation: connections[slot].generation)
            do { try reactor.register(descriptor, token) } catch { close(slot) }
        }
    }

    private mutating func pause(now: UInt64, reactor: borrowing Reactor) {
        pausedUntilNs = now + Limit.pauseNs
        for listener in listeners { reactor.unregister(listener) }
    }

    /// A free slot, if need be that of a connection that only waits for a next request.
    private mutating func takeSlot() -> Int? {
        if let free = connections.firstIndex(where: { !$0.isOpen }) { return free }
        if connections.count < Limit.connections {
            connections.append(Connection())
            return connections.count - 1
        }
        let idle = connections.indices.filter { connections[$0].isIdle }
        guard let oldest = idle.min(by: { connections[$0].deadlineNs < connections[$1].deadlineNs }) else { return nil }
        close(oldest)
        return oldest
    }

    private mutating func close(_ slot: Int) {
        System.close(connections[slot].descriptor)
        connections[slot] = Connection(generation: connections[slot].generation &+ 1)
    }

    /// Moves bytes both ways until something has to be waited for, or it was its turn for long enough.
    private mutating func pump(_ slot: Int, now: UInt64) {
        connections[slot].goesOn = false
        for _ in 0..<Limit.turns {
            guard connections[slot].isOpen, flush(slot, now: now) else { return }
            switch connections[slot].phase {
            case .writing: finishWriting(slot, now: now)
            case .reading:
                if parse(slot, now: now) { continue }
                guard read(slot) else { return }
            case .streaming, .watching, .lingering:
                guard forget(slot) else { return }
            case .waitingForReport, .waitingForAnswer: return
            }
        }
        connections[slot].goesOn = connections[slot].isOpen
    }

    /// Sends what is to be sent; false when it must wait or the connection is gone.
    private mutating func flush(_ slot: Int, now: UInt64) -> Bool {
        while connections[slot].sent < connections[slot].output.count {
            switch System.write(connections[slot].descriptor, connections[slot].output, from: connections[slot].sent) {
            case .moved(let count):
                connections[slot].sent += count
                connections[slot].deadlineNs = max(now + Limit.writeNs, connections[slot].deadlineNs)
            case .wouldBlock: return false
            case .ended, .failed:
                close(slot)
                return false
            }
        }
        connections[slot].output.removeAll()
        connections[slot].sent = 0
        return true
    }

    /// Reads once; false when there is nothing, or the connection is gone.
    private mutating func read(_ slot: Int) -> Bool {
        switch System.read(connections[slot].descriptor, onto: &connections[slot].input, atMost: 16 << 10) {
        case .moved: return true
        case .wouldBlock: return false
        case .ended, .failed:
            close(slot)
            return false
        }
    }

    /// Reads where nothing is expected; false when there is nothing, or the connection is gone.
    private mutating func forget(_ slot: Int) -> Bool {
        guard read(slot) else { return false }
        connections[slot].forgotten += connections[slot].input.count
        connections[slot].input.removeAll()
        guard connections[slot].forgotten <= Limit.forgottenBytes else {
            close(slot)
            return false
        }
        return true
    }

    private mutating func finishWriting(_ slot: Int, now: UInt64) {
        if connections[slot].refused {
            System.shutdownWrite(connections[slot].descriptor)
            connections[slot].phase = .lingering
            connections[slot].deadlineNs = now + Limit.lingerNs
        } else if connections[slot].keepsAlive {
            connections[slot].phase = .reading
            connections[slot].toldToContinue = false
            connections[slot].deadlineNs = now + (connections[slot].input.isEmpty ? Limit.idleNs : Limit.requestNs)
        } else {
            close(slot)
        }
    }

    // MARK: - Requests

    /// True when the input held a request, which is now answered, waiting or refused.
    private mutating func parse(_ slot: Int, now: UInt64) -> Bool {
        guard connections[slot].input.count >= connections[slot].neededBytes else { return false }
        switch StatusRequest.parse(connections[slot].input, searched: connections[slot].searched) {
        case .needHead:
            connections[slot].searched = connections[slot].input.count
            connections[slot].neededBytes = connections[slot].searched + 1
            // The first bytes of a request on a kept connection start its time.
            connections[slot].deadlineNs = min(connections[slot].deadlineNs, now + Limit.requestNs)
            return false
        case .needBody(let bytes):
            connections[slot].searched = 0
            connections[slot].neededBytes = bytes
            connections[slot].deadlineNs = min(connections[slot].deadlineNs, now + Limit.requestNs)
            return false
        case .expectsContinue:
            if !connections[slot].toldToContinue {
                connections[slot].toldToContinue = true
                connections[slot].output = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
                _ = flush(slot, now: now)
            }
            return false
        case .refused(let status, let text): refuse(slot, status: status, text: text, now: now)
        case .request(let request, let bytes):
            connections[slot].input.removeFirst(bytes)
            connections[slot].neededBytes = 1
            connections[slot].searched = 0
            connections[slot].keepsAlive = request.keepsAlive
            connections[slot].omitsBody = request.method == "HEAD"
            route(slot, StatusRoute(request, access), now: now)
        }
        return true
    }

    private mutating func route(_ slot: Int, _ route: StatusRoute, now: UInt64) {
        connections[slot].deadlineNs = now + Limit.answerNs
        switch route {
        case .reply(let response): prepare(slot, response, now: now)
        case .view(let view):
            connections[slot].phase = .waitingForReport(view)
            needsReport = true
        case .change(let request):
            connections[slot].phase = .waitingForAnswer
            if case .handover = request { connections[slot].deadlineNs = now + Limit.moveNs }
            adminRequests.append((AdminTicket(slot: slot, generation: connections[slot].generation), request))
        }
    }

    private mutating func refuse(_ slot: Int, status: Int, text: String, now: UInt64) {
        connections[slot].keepsAlive = false
        connections[slot].refused = true
        connections[slot].input.removeAll()
        prepare(slot, StatusResponse(status, text), now: now)
    }

    private mutating func prepare(_ slot: Int, _ response: StatusResponse, now: UInt64) {
        requests += 1
        connections[slot].phase = .writing
        connections[slot].output += response.encode(
            keepsAlive: connections[slot].keepsAlive, omitsBody: connections[slot].omitsBody)
        connections[slot].deadlineNs = now + Limit.writeNs
    }

    private mutating func reply(_ slot: Int, _ response: StatusResponse, now: UInt64) {
        prepare(slot, response, now: now)
        pump(slot, now: now)
    }

    private mutating func startStream(_ slot: Int, _ view: StatusView, _ report: StatusReport, now: UInt64) {
        let streams = connections.count { $0.isOpen && ($0.phase == .streaming || $0.phase == .watching) }
        guard streams < Limit.streams else {
            return reply(slot, StatusResponse(503, "too many event streams"), now: now)
        }
        let response = view.response(report)
        if connections[slot].omitsBody { return reply(slot, response, now: now) }
        requests += 1
        connections[slot].phase = view == .live ? .watching : .streaming
        send(slot, response.encode(keepsAlive: false, omitsBody: false, length: false), now: now)
    }

    private mutating func send(_ slot: Int, _ bytes: [UInt8], now: UInt64) {
        // Whoever took nothing since the last beat is gone.
        if connections[slot].sent < connections[slot].output.count, connections[slot].deadlineNs <= now {
            return close(slot)
        }
        if connections[slot].sent > 0 {
            connections[slot].output.removeFirst(connections[slot].sent)
            connections[slot].sent = 0
        }
        connections[slot].output += bytes
        connections[slot].deadlineNs = now + Limit.streamBeatNs
        pump(slot, now: now)
    }
}
