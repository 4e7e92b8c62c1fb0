// APIServer: the demo API, a small HTTP/1.1 server that says who it is. For the demo, the tests and compose.
//
// One thread, one reactor. It never blocks and never keeps more of a request than its head.
//
// A connection: head ──complete──▶ body ──skipped──▶ answered ──▶ head (keep-alive) or closed.
//                    ├──/slow──▶ streaming, a little each 20 ms ──all sent──▶ head or closed
//                    └──/echo, upgraded──▶ WebSocket: every frame comes back, until a close frame
// RFC 9112; a body with Transfer-Encoding is not read: the answer closes the connection.

import CLinux
import Glibc
import Proxy
import Synchronization

/// Answers `{"message": "API #N"}` on `/` and 200 on `/health`; streams on `/slow`, echoes a WebSocket on `/echo`.
struct APIServer: ~Copyable {
    private enum Kind {
        static let listener: UInt8 = 1
        static let connection: UInt8 = 2
    }

    private enum Limit {
        static let connections = 10_000
        static let head = 16 << 10
        /// Answers waiting for a client that pipelines and does not read.
        static let output = 256 << 10
        /// Between two pieces of a stream.
        static let streamEveryMs: Int32 = 20
    }

    private struct Connection {
        var descriptor: Int32
        var input: [UInt8] = []
        var output: [UInt8] = []
        /// Bytes of a request body still to be thrown away.
        var bodyLeft = 0
        var closesWhenSent = false
        var stream: APIStream?
        var isWebSocket = false
    }

    /// Everything is answered with 500.
    static let isBroken = Atomic(false)

    private let reactor: Reactor
    private let listener: Int32
    private let number: Int
    private var connections: [Connection?] = []
    private var generations: [UInt32] = []
    private var free: [Int] = []
    /// Slots that stream.
    private var streaming: [Int] = []
    private var scratch = [UInt8](repeating: 0, count: 1 << 16)

    /// Listens at once.
    init(number: Int, address: SocketAddress) throws(SystemError) {
        let reactor = try Reactor()
        let listener = try Self.listen(address)
        try reactor.registerForReading(listener, Token(kind: Kind.listener, slot: 0))
        self.reactor = reactor
        self.listener = listener
        self.number = number
    }

    private static func listen(_ address: SocketAddress) throws(SystemError) -> Int32 {
        let listener = try System.socket(address.family, SOCK_STREAM.rawValue)
        try System.setOption(listener, SOL_SOCKET, SO_REUSEADDR, 1)
        try System.setOption(listener, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        try System.bind(listener, address)
        try System.listen(listener, backlog: 1024)
        return listener
    }

    deinit { System.close(listener) }

    /// Serves until the process ends.
    mutating func run() {
        while true {
            let count = reactor.wait(timeoutMs: streaming.isEmpty ? -1 : Limit.streamEveryMs)
            for index in 0..<count {
                let (token, _) = reactor.event(at: index)
                if token.kind == Kind.listener {
                    accept()
                } else if generations[token.slot] == token.generation {
                    serve(token.slot)
                }
            }
            if !streaming.isEmpty { continueStreams() }
        }
    }

    /// Gives every stream what is due by now.
    private mutating func continueStreams() {
        let slots = streaming
        streaming = []
        for slot in slots { serve(slot) }
    }

    private mutating func accept() {
        var peer = SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
        while let descriptor = System.accept(listener, &peer).descriptor {
            guard let slot = free.popLast() ?? grow() else {
                System.close(descriptor)
                continue
            }
            generations[slot] &+= 1
            connections[slot] = Connection(descriptor: descriptor)
            let token = Token(kind: Kind.connection, slot: slot, generation: generations[slot])
            do throws(SystemError) {
                try reactor.register(descriptor, token)
            } catch {
                close(slot)
            }
        }
    }

    private mutating func grow() -> Int? {
        guard connections.count < Limit.connections else { return nil }
        connections.append(nil)
        generations.append(0)
        return connections.count - 1
    }

    private mutating func close(_ slot: Int) {
        guard let connection = connections[slot] else { return }
        System.close(connection.descriptor)
        connections[slot] = nil
        generations[slot] &+= 1
        free.append(slot)
    }

    /// Reads all there is, answers every complete request, writes what fits.
    private mutating func serve(_ slot: Int) {
        guard var connection = connections[slot] else { return }
        // Taken out of the table meanwhile, so that its arrays are not copied.
        connections[slot]?.input = []
        connections[slot]?.output = []
        var isOpen = true
        reading: while !connection.closesWhenSent, connection.output.count < Limit.output {
            switch LabSystem.receive(connection.descriptor, appendTo: &connection.input, scratch: &scratch) {
            case .moved: answer(&connection)
            case .wouldBlock: break reading
            case .ended, .failed:
                // The answer to what was complete still goes out: a client may half-close.
                connection.closesWhenSent = true
                isOpen = !connection.output.isEmpty
            }
        }
        if connection.output.count < Limit.output, let piece = connection.stream?.take(at: System.bootNanoseconds()) {
            connection.output += piece
        }
        if isOpen { isOpen = flush(&connection) }
        if isOpen, connection.stream?.isOver == true {
            connection.stream = nil
            answer(&connection)
            isOpen = flush(&connection)
        }
        if isOpen, connection.stream != nil, !streaming.contains(slot) { streaming.append(slot) }
        connections[slot] = connection
        if !isOpen { close(slot) }
    }

    /// False when the connection is over.
    private func flush(_ connection: inout Connection) -> Bool {
        while !connection.output.isEmpty {
            switch LabSystem.send(connection.descriptor, connection.output) {
            case .moved(let count): connection.output.removeFirst(count)
            case .wouldBlock: return true
            case .ended, .failed: return false
            }
        }
        return !connection.closesWhenSent || connection.stream != nil
    }

    private func answer(_ connection: inout Connection) {
        if connection.isWebSocket { return echo(&connection) }
        while !connection.closesWhenSent, connection.stream == nil {
            let skipped = min(connection.bodyLeft, connection.input.count)
            connection.input.removeFirst(skipped)
            connection.bodyLeft -= skipped
            if connection.input.isEmpty || connection.bodyLeft > 0 { return }
            guard let length = APIRequest.headLength(connection.input) else {
                if connection.input.count > Limit.head {
                    connection.output += APIRequest.response(status: "431 Request Header Fields Too Large", "", true)
                    connection.closesWhenSent = true
                }
                return
            }
            let request = APIRequest(head: connection.input[..<length])
            connection.input.removeFirst(length)
            connection.bodyLeft = request.bodyLength
            connection.closesWhenSent = request.closes
            if request.expectsContinue { connection.output += Array("HTTP/1.1 100 Continue\r\n\r\n".utf8) }
            connection.output += request.answer(number: number)
            connection.stream = request.stream(startingAt: System.bootNanoseconds())
            if request.webSocketKey != nil {
                connection.isWebSocket = true
                return echo(&connection)
            }
        }
    }

    private func echo(_ connection: inout Connection) {
        while !connection.closesWhenSent, connection.output.count < Limit.output {
            switch WebSocket.read(&connection.input) {
            case .needMore: return
            case .refused: connection.closesWhenSent = true
            case .frame(var frame):
                // A client's frames are masked (RFC 6455, 5.1).
                if !frame.isMasked { return connection.closesWhenSent = true }
                frame.isMasked = false
                if frame.opcode == WebSocket.Opcode.close { connection.closesWhenSent = true }
                if frame.opcode == WebSocket.Opcode.pong { continue }
                if frame.opcode == WebSocket.Opcode.ping { frame.opcode = WebSocket.Opcode.pong }
                connection.output += WebSocket.write(frame)
            }
        }
    }
}

/// A response body that takes its time. Its bytes tell their own place, so that a torn one is noticed.
struct APIStream: Equatable {
    enum Limit {
        static let bytes = 1 << 30
        static let seconds = 3600.0
    }

    let bytes: Int
    let seconds: Double
    let startedAt: UInt64
    private(set) var sent = 0

    init(bytes: Int, seconds: Double, startedAt: UInt64) {
        self.bytes = min(max(0, bytes), Limit.bytes)
        self.seconds = min(max(0, seconds), Limit.seconds)
        self.startedAt = startedAt
    }

    var isOver: Bool { sent == bytes }

    /// The byte at a place. 251 is prime, so that no lost packet leaves the pattern as it was.
    static func byte(at place: Int) -> UInt8 { UInt8(place % 251) }

    /// What is due, at most 64 KiB.
    mutating func take(at now: UInt64) -> [UInt8] {
        let elapsed = Double(now > startedAt ? now - startedAt : 0) / 1e9
        let due = elapsed >= seconds ? bytes : Int(Double(bytes) * elapsed / seconds)
        let piece = (sent..<min(max(due, sent), sent + (64 << 10))).map(Self.byte)
        sent += piece.count
        return piece
    }
}

/// What the demo API needs to know of a request's head.
struct APIRequest: Equatable {
    var method = ""
    var path = ""
    var bodyLength = 0
    var closes = false
    var expectsContinue = false
    var isValid = true
    /// After the `?`.
    var query = ""
    /// Of a request for a WebSocket on `/echo` (RFC 6455, 4.2.1).
    var webSocketKey: String?
    private var wantsWebSocket = false

    /// The head's length with its empty line, nil while that has not arrived.
    static func headLength(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for end in 3..<bytes.count
        where bytes[end] == 10 && bytes[end - 1] == 13 && bytes[end - 2] == 10 && bytes[end - 3] == 13 {
            return end + 1
        }
        return nil
    }

    init(head: ArraySlice<UInt8>) {
        let lines = head.split(separator: 10).map { line in
            String(decoding: line.last == 13 ? line.dropLast() : line, as: UTF8.self)
        }
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count == 3, words[2].hasPrefix("HTTP/1.") else {
            isValid = false
            closes = true
            return
        }
        method = String(words[0])
        path = String(words[1].prefix { $0 != "?" })
        query = String(words[1].dropFirst(path.count + 1))
        closes = words[2] == "HTTP/1.0"
        for line in lines.dropFirst() { readField(line) }
        if !wantsWebSocket || path != "/echo" || method != "GET" { webSocketKey = nil }
    }

    private mutating func readField(_ line: String) {
        guard let colon = line.firstIndex(of: ":") else { return }
        let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }.lowercased()
        switch line[..<colon].lowercased() {
        case "content-length": bodyLength = max(0, Int(value) ?? 0)
        case "connection": closes = value.contains("close") || (closes && !value.contains("keep-alive"))
        case "expect": expectsContinue = value.hasPrefix("100-continue")
        case "transfer-encoding": closes = true
        case "upgrade": wantsWebSocket = value == "websocket"
        case "sec-websocket-key":
            webSocketKey = String(line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" })
        default: break
        }
    }

    func answer(number: Int) -> [UInt8] {
        if APIServer.isBroken.load(ordering: .relaxed) {
            return Self.response(
                status: "500 Internal Server Error", "{\"error\": \"broken\"}\n", closes, method == "HEAD")
        }
        if !isValid { return Self.response(status: "400 Bad Request", "this is not HTTP/1.1\n", true) }
        let isHead = method == "HEAD"
        if let webSocketKey {
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            return Array((head + "Sec-WebSocket-Accept: \(WebSocket.accept(webSocketKey))\r\n\r\n").utf8)
        }
        switch path {
        case "/slow": return slowHead
        case "/": return Self.response(status: "200 OK", "{\"message\": \"API #\(number)\"}\n", closes, isHead)
        case "/health": return Self.response(status: "200 OK", "{\"status\": \"up\"}\n", closes, isHead)
        default: return Self.response(status: "404 Not Found", "{\"error\": \"not found\"}\n", closes, isHead)
        }
    }

    /// `/slow?bytes=N&seconds=T`: N bytes, spread over T seconds.
    private var asked: (bytes: Int, seconds: Double)? {
        guard path == "/slow", method == "GET" else { return nil }
        var (bytes, seconds) = (1 << 20, 10.0)
        for pair in query.split(separator: "&").map({ $0.split(separator: "=", maxSplits: 1) }) where pair.count == 2 {
            if pair[0] == "bytes" { bytes = Int(pair[1]) ?? bytes }
            if pair[0] == "seconds" { seconds = Double(pair[1]) ?? seconds }
        }
        return (bytes, seconds.isFinite ? seconds : 0)
    }

    /// The body of `/slow`, nil for any other request.
    func stream(startingAt now: UInt64) -> APIStream? {
        asked.map { APIStream(bytes: $0.bytes, seconds: $0.seconds, startedAt: now) }
    }

    private var slowHead: [UInt8] {
        guard let length = stream(startingAt: 0)?.bytes else {
            return Self.response(status: "405 Method Not Allowed", "{\"error\": \"GET is needed\"}\n", closes)
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: \(length)\r\n"
        return Array((head + "Connection: \(closes ? "close" : "keep-alive")\r\n\r\n").utf8)
    }

    static func response(status: String, _ body: String, _ closes: Bool, _ isHead: Bool = false) -> [UInt8] {
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
            + "Connection: \(closes ? "close" : "keep-alive")\r\n\r\n"
        return Array((isHead ? head : head + body).utf8)
    }
}
