// StreamEngine: the hidden command `triad streams`: clients that stay: slow downloads, one after the other, and WebSockets
// that send a frame every so often and expect it back. For the lab: what a planned move may not break.
//
// One thread, one reactor; nothing blocks. Each download and each echo ends as a LoadResult in the log.
//
// A client: resting ──delay──▶ connecting ──▶ head ──▶ body (download) ──complete──▶ resting
//                                              └─────▶ echoing (WebSocket), until the time is over
//           any of them ──failure──▶ noted, resting

import CLinux
import Glibc
import Proxy

struct StreamOptions: Equatable {
    var target = SocketAddress(high: 0, low: 0, port: 80, isIPv6: false)
    var host = ""
    var downloads = 5
    var bytes = 2 << 20
    var seconds = 10.0
    var webSockets = 1
    /// Between two frames of a WebSocket.
    var everyMs = 50
    /// Without a byte, or an echo, for that long a stream has failed.
    var patienceMs = 3000
    var log = ""
}

enum Streams {
    static let command = Subcommand(
        name: "streams", summary: "keeps downloads and WebSockets going, for the lab",
        positionals: [.init(name: "URL")],
        options: [
            .value(
                "log", "FILE", "a line for each download and each echo, as `triad load --log` writes", required: true),
            .value("downloads", "N", "of /slow of the demo API at a time (5)"),
            .value("bytes", "N", "of each download (2 MiB)"),
            .value("seconds", "N", "that each download takes (10)"),
            .value("websockets", "N", "on /echo of the demo API (1)"),
            .value("patience", "MS", "without a byte or an echo; then it has failed (3000)"),
        ],
        hidden: true,
        run: { given throws(UsageProblem) in
            let url = try Load.url(given.required("URL"))
            var options = StreamOptions(target: url.target, host: url.host, log: given.required("log"))
            options.downloads = try given.integer("downloads", in: 0...1000) ?? options.downloads
            options.bytes = try given.integer("bytes", in: 1...(1 << 30)) ?? options.bytes
            options.seconds = try given.number("seconds", in: 0...3600) ?? options.seconds
            options.webSockets = try given.integer("websockets", in: 0...1000) ?? options.webSockets
            options.patienceMs = try given.integer("patience", in: 1...3_600_000) ?? options.patienceMs
            return run(options)
        })

    /// Until SIGINT.
    private static func run(_ options: StreamOptions) -> Int32 {
        do {
            var engine = try StreamEngine(options)
            return engine.run() ? 0 : 1
        } catch {
            LabSystem.say("triad streams: \(error)\n", to: STDERR_FILENO)
            return 1
        }
    }
}

struct StreamEngine: ~Copyable {
    private enum Kind {
        static let signal: UInt8 = 1
        static let client: UInt8 = 2
    }

    private enum State {
        case resting, connecting, head, body, echoing
    }

    private struct Client {
        let isWebSocket: Bool
        let name: String
        var state = State.resting
        var descriptor: Int32 = -1
        var generation: UInt32 = 0
        var startedAt: UInt64 = 0
        /// When it starts, or must have heard something.
        var deadline: UInt64
        var input: [UInt8] = []
        /// Bytes of the body so far.
        var received = 0
        /// Frames on their way: number and when it was sent.
        var awaited: [(number: Int, at: UInt64)] = []
        var frames = 0
        var nextFrameAt: UInt64 = 0
    }

    private let options: StreamOptions
    private let reactor: Reactor
    private let signals: Int32
    private let log: Int32
    private var clients: [Client] = []
    private var scratch = [UInt8](repeating: 0, count: 1 << 16)
    private var text = ""
    private var failed = 0

    /// RFC 6455, 4.1: any 16 bytes.
    private static let key = Base64.encode(Array("a WebSocket's key".utf8.prefix(16)))
    /// Between a failure and the next try, and between two downloads.
    private static let restNs: UInt64 = 50_000_000

    init(_ options: StreamOptions) throws {
        self.options = options
        let reactor = try Reactor()
        let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM])) ?? -1
        try reactor.registerForReading(signals, Token(kind: Kind.signal, slot: 0))
        let log = Glibc.open(options.log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o644)
        if log < 0 { throw LabProblem(call: "cannot write \(options.log)") }
        self.log = log
        self.reactor = reactor
        self.signals = signals
        let now = System.bootNanoseconds()
        for number in 0..<options.downloads {
            // Not all at once: at any moment one of them is about to begin and one about to end.
            let delay = UInt64(options.seconds * 1e9 * Double(number) / Double(options.downloads))
            clients.append(Client(isWebSocket: false, name: "download-\(number + 1)", deadline: now + delay))
        }
        for number in 0..<options.webSockets {
            clients.append(Client(isWebSocket: true, name: "websocket-\(number + 1)", deadline: now))
        }
    }

    /// - Returns: whether nothing failed.
    mutating func run() -> Bool {
        while true {
            let now = System.bootNanoseconds()
            for slot in clients.indices { elapse(slot, now) }
            flushLog()
            let count = reactor.wait(timeoutMs: 5)
            for index in 0..<count {
                let (token, readiness) = reactor.event(at: index)
                if token.kind == Kind.signal {
                    flushLog()
                    return failed == 0
                }
                if clients[token.slot].generation == token.generation { handle(token.slot, readiness) }
            }
        }
    }

    private mutating func elapse(_ slot: Int, _ now: UInt64) {
        if clients[slot].state == .echoing, now >= clients[slot].nextFrameAt { sendFrame(slot, now) }
        guard now >= clients[slot].deadline else { return }
        switch clients[slot].state {
        case .resting: connect(slot, now)
        case .connecting: end(slot, .connectTimeout)
        case .head, .body, .echoing: end(slot, .answerTimeout)
        }
    }

    private var patience: UInt64 { UInt64(options.patienceMs) * 1_000_000 }

    private mutating func connect(_ slot: Int, _ now: UInt64) {
        clients[slot].generation &+= 1
        clients[slot].startedAt = now
        clients[slot].deadline = now + patience
        clients[slot].state = .connecting
        clients[slot].input = []
        clients[slot].received = 0
        clients[slot].awaited = []
        do throws(SystemError) {
            let descriptor = try System.socket(options.target.family, SOCK_STREAM.rawValue)
            clients[slot].descriptor = descriptor
            try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            try reactor.register(
                descriptor, Token(kind: Kind.client, slot: slot, generation: clients[slot].generation))
            let code = System.connect(descriptor, options.target)
            if code != 0 { end(slot, LoadEngine.outcome(errno: code)) }
        } catch {
            end(slot, .local)
        }
    }

    private mutating func handle(_ slot: Int, _ readiness: Readiness) {
        if clients[slot].state == .connecting {
            let code = System.pendingError(clients[slot].descriptor)
            if code != 0 { return end(slot, LoadEngine.outcome(errno: code)) }
            guard readiness.contains(.writable) else { return }
            clients[slot].state = .head
            return send(slot, Array(request(clients[slot]).utf8))
        }
        let generation = clients[slot].generation
        while clients[slot].generation == generation, clients[slot].state != .resting {
            let descriptor = clients[slot].descriptor
            switch LabSystem.receive(descriptor, appendTo: &clients[slot].input, scratch: &scratch) {
            case .moved: received(slot)
            case .wouldBlock: return
            case .ended: return end(slot, .closed)
            case .failed(let code): return end(slot, LoadEngine.outcome(errno: code))
            }
        }
    }

    private func request(_ client: Client) -> String {
        if client.isWebSocket {
            return "GET /echo HTTP/1.1\r\nHost: \(options.host)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Key: \(Self.key)\r\nSec-WebSocket-Version: 13\r\n\r\n"
        }
        return "GET /slow?bytes=\(options.bytes)&seconds=\(options.seconds) HTTP/1.1\r\nHost: \(options.host)\r\n\r\n"
    }

    private mutating func send(_ slot: Int, _ bytes: [UInt8]) {
        switch LabSystem.send(clients[slot].descriptor, bytes) {
        // Small against an empty send buffer. One that is full means that the peer has not read for a long time.
        case .moved(let count): if count < bytes.count { end(slot, .answerTimeout) }
        case .wouldBlock: end(slot, .answerTimeout)
        case .ended: end(slot, .closed)
        case .failed(let code): end(slot, LoadEngine.outcome(errno: code))
        }
    }

    private mutating func sendFrame(_ slot: Int, _ now: UInt64) {
        clients[slot].nextFrameAt = now + UInt64(options.everyMs) * 1_000_000
        clients[slot].frames += 1
        let number = clients[slot].frames
        if clients[slot].awaited.isEmpty { clients[slot].deadline = now + patience }
        clients[slot].awaited.append((number, now))
        let frame = WebSocket.Frame(payload: Array("frame \(number)".utf8))
        send(slot, WebSocket.write(frame, mask: [0x5a, 0xa5, UInt8(number & 0xff), 0x33]))
    }

    private mutating func received(_ slot: Int) {
        clients[slot].deadline = System.bootNanoseconds() + patience
        if clients[slot].state == .head {
            guard let length = APIRequest.headLength(clients[slot].input) else { return }
            let head = String(decoding: clients[slot].input[..<length], as: UTF8.self)
            clients[slot].input.removeFirst(length)
            let code = Int(head.dropFirst(9).prefix(3)) ?? 0
            if clients[slot].isWebSocket {
                guard code == 101 else { return end(slot, .status(code)) }
                guard head.contains(WebSocket.accept(Self.key)) else { return end(slot, .malformed) }
                clients[slot].state = .echoing
                clients[slot].nextFrameAt = System.bootNanoseconds()
                return
            }
            guard code == 200 else { return end(slot, .status(code)) }
            clients[slot].state = .body
        }
        if clients[slot].isWebSocket { takeEchoes(slot) } else { takeBody(slot) }
    }

    private mutating func takeBody(_ slot: Int) {
        let place = clients[slot].received
        for (offset, byte) in clients[slot].input.enumerated() where byte != APIStream.byte(at: place + offset) {
            return end(slot, .malformed)
        }
        clients[slot].received += clients[slot].input.count
        clients[slot].input.removeAll(keepingCapacity: true)
        if clients[slot].received > options.bytes { end(slot, .malformed) }
        if clients[slot].received == options.bytes { end(slot, .answered) }
    }

    private mutating func takeEchoes(_ slot: Int) {
        while true {
            switch WebSocket.read(&clients[slot].input) {
            case .needMore: return
            case .refused: return end(slot, .malformed)
            case .frame(let frame):
                // Every frame comes back once, whole and in order.
                guard let first = clients[slot].awaited.first, frame.opcode == WebSocket.Opcode.text,
                    frame.payload == Array("frame \(first.number)".utf8)
                else { return end(slot, .malformed) }
                clients[slot].awaited.removeFirst()
                note(clients[slot], from: first.at, .answered)
            }
        }
    }

    /// The download is over, or the stream has failed.
    private mutating func end(_ slot: Int, _ outcome: LoadOutcome) {
        guard clients[slot].state != .resting else { return }
        var began = clients[slot].startedAt
        if clients[slot].state == .echoing {
            // Its outage begins with the first frame that didn't come back: now, where all of them had.
            began = clients[slot].awaited.first?.at ?? System.bootNanoseconds()
        }
        note(clients[slot], from: began, outcome)
        if clients[slot].descriptor >= 0 { System.close(clients[slot].descriptor) }
        clients[slot].descriptor = -1
        clients[slot].generation &+= 1
        clients[slot].state = .resting
        clients[slot].deadline = System.bootNanoseconds() + Self.restNs
    }

    private mutating func note(_ client: Client, from start: UInt64, _ outcome: LoadOutcome) {
        if !outcome.isSuccess { failed += 1 }
        text += LoadResult(start: start, end: System.bootNanoseconds(), outcome: outcome, who: client.name).line
    }

    private mutating func flushLog() {
        guard !text.isEmpty else { return }
        LabSystem.say(text, to: log)
        text = ""
    }
}
