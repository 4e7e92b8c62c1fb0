// APIServer: the demo API, a small HTTP/1.1 server that says who it is. For the demo, the tests and compose.
//
// One thread, one reactor. It never blocks and never keeps more of a request than its head.
//
// A connection: head ──complete──▶ body ──skipped──▶ answered ──▶ head (keep-alive) or closed.
// RFC 9112; a body with Transfer-Encoding is not read: the answer closes the connection.

import CLinux
import Glibc
import Proxy

/// Answers `{"message": "API #N"}` on `/` and 200 on `/health`.
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
    }

    private struct Connection {
        var descriptor: Int32
        var input: [UInt8] = []
        var output: [UInt8] = []
        /// Bytes of a request body still to be thrown away.
        var bodyLeft = 0
        var closesWhenSent = false
    }

    private let reactor: Reactor
    private let listener: Int32
    private let number: Int
    private var connections: [Connection?] = []
    private var generations: [UInt32] = []
    private var free: [Int] = []
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
            let count = reactor.wait(timeoutMs: -1)
            for index in 0..<count {
                let (token, _) = reactor.event(at: index)
                if token.kind == Kind.listener {
                    accept()
                } else if generations[token.slot] == token.generation {
                    serve(token.slot)
                }
            }
        }
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
        if isOpen { isOpen = flush(&connection) }
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
        return !connection.closesWhenSent
    }

    private func answer(_ connection: inout Connection) {
        while !connection.closesWhenSent {
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
        }
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
        closes = words[2] == "HTTP/1.0"
        for line in lines.dropFirst() { readField(line) }
    }

    private mutating func readField(_ line: String) {
        guard let colon = line.firstIndex(of: ":") else { return }
        let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }.lowercased()
        switch line[..<colon].lowercased() {
        case "content-length": bodyLength = max(0, Int(value) ?? 0)
        case "connection": closes = value.contains("close") || (closes && !value.contains("keep-alive"))
        case "expect": expectsContinue = value.hasPrefix("100-continue")
        case "transfer-encoding": closes = true
        default: break
        }
    }

    func answer(number: Int) -> [UInt8] {
        if !isValid { return Self.response(status: "400 Bad Request", "this is not HTTP/1.1\n", true) }
        let isHead = method == "HEAD"
        switch path {
        case "/": return Self.response(status: "200 OK", "{\"message\": \"API #\(number)\"}\n", closes, isHead)
        case "/health": return Self.response(status: "200 OK", "{\"status\": \"up\"}\n", closes, isHead)
        default: return Self.response(status: "404 Not Found", "{\"error\": \"not found\"}\n", closes, isHead)
        }
    }

    static func response(status: String, _ body: String, _ closes: Bool, _ isHead: Bool = false) -> [UInt8] {
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
            + "Connection: \(closes ? "close" : "keep-alive")\r\n\r\n"
        return Array((isHead ? head : head + body).utf8)
    }
}
