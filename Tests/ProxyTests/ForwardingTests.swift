// ForwardingTests: requests and responses through a running data plane, seen from both ends over real sockets: many,
// large and slow ones. What single messages become is in Fixtures/.

import Glibc
import Testing

@testable import Proxy

@Suite("Forwarding") struct ForwardingTests {
    @Test("both sides keep their connections") func keepAlive() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for _ in 0..<20 {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try wire.readMessage().text == "hello")
        }
        #expect(server.connections == 1)
        let figures = plane.figures { $0.idle == 1 }
        #expect(figures.accepted == 1 && figures.requests == 20 && figures.responses[2] == 20)
        #expect(figures.servers[server.route.id]?.requests == 20)
    }

    @Test("pipelined requests are answered in order") func pipelining() throws {
        let server = try TestServer.answering { request in
            let path = request.startLine.split(separator: " ")[1]
            return "HTTP/1.1 200 OK\r\nContent-Length: \(path.count)\r\n\r\n\(path)"
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        let paths = (0..<200).map { "/\($0)" }
        // Split at an odd place, so that a head arrives in two parts.
        let all = Array(paths.map { "GET \($0) HTTP/1.1\r\nHost: a\r\n\r\n" }.joined().utf8)
        try wire.send(Array(all[..<1_234]))
        #expect(try wire.readMessage().text == "/0")
        try wire.send(Array(all[1_234...]))
        for path in paths.dropFirst() { #expect(try wire.readMessage().text == path) }
        #expect(server.connections == 1)
    }

    /// Bytes in which a misplaced, lost or doubled stretch shows.
    static func pattern(_ count: Int) -> [UInt8] {
        var state: UInt32 = 12_345
        return (0..<count).map { _ in
            state = state &* 1_664_525 &+ 1_013_904_223
            return UInt8(state >> 24)
        }
    }

    @Test("8 MiB up and down, by length and in chunks", arguments: [false, true]) func large(chunked: Bool) throws {
        let server = try TestServer { wire, _, _ in
            while true {
                let request = try wire.readMessage()
                let head = chunked ? "Transfer-Encoding: chunked" : "Content-Length: \(request.body.count)"
                try wire.send("HTTP/1.1 200 OK\r\n\(head)\r\n\r\n")
                try wire.send(request.rawBody)
            }
        }
        let plane = try TestPlane([server.route])
        let body = Self.pattern(8 << 20)
        let wire = try plane.connect()
        for _ in 0..<2 {
            try wire.send("POST / HTTP/1.1\r\nHost: a\r\n")
            if chunked {
                try wire.send("Transfer-Encoding: chunked\r\n\r\n")
                var at = 0
                var size = 1
                while at < body.count {
                    let end = min(at + size, body.count)
                    try wire.send(Array("\(String(end - at, radix: 16))\r\n".utf8) + body[at..<end] + [13, 10])
                    at = end
                    size = size * 3 % 100_003
                }
                try wire.send("0\r\n\r\n")
            } else {
                try wire.send("Content-Length: \(body.count)\r\n\r\n")
                try wire.send(body)
            }
            let response = try wire.readMessage()
            #expect(response.body == body)
        }
        #expect(server.connections == 1)
    }

    @Test("a client that reads slowly gets everything") func slowReader() throws {
        let body = Self.pattern(4 << 20)
        let server = try TestServer { wire, _, _ in
            _ = try wire.readMessage()
            try wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n")
            try wire.send(body)
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect(receiveBytes: 4_096)
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let head = try wire.readHead()
        var got: [UInt8] = []
        while got.count < body.count { got += try wire.read(min(65_536, body.count - got.count)) }
        #expect(head.status == 200 && got == body)
    }

    @Test("messages that arrive in two parts, divided anywhere, are the same messages") func divisions() throws {
        let request = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n"
        let response =
            "HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n5;e\r\nhello\r\n0\r\nT: v\r\n\r\n"
        let server = try TestServer { wire, _, log in
            for cut in 0... {
                log.note(try wire.readMessage())
                try wire.send(Array(response.utf8.prefix(cut % response.utf8.count)))
                usleep(500)
                try wire.send(Array(response.utf8.dropFirst(cut % response.utf8.count)))
            }
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for cut in 0..<max(request.utf8.count, response.utf8.count) {
            try wire.send(Array(request.utf8.prefix(cut)))
            usleep(500)
            try wire.send(Array(request.utf8.dropFirst(cut)))
            let message = try wire.readMessage()
            #expect(message.startLine == "HTTP/1.1 200 OK" && message.text == "hello", "divided at \(cut)")
        }
        #expect(server.requests.allSatisfy { $0.text == "abc" } && server.connections == 1)
    }

    @Test("shares of requests follow the weights") func weights() throws {
        let servers = try ["a", "b"].map { try TestServer.saying($0) }
        let plane = try TestPlane([
            TestServer.route(port: servers[0].port, weight: 3), TestServer.route(port: servers[1].port),
        ])
        let wire = try plane.connect()
        var order = ""
        for _ in 0..<8 {
            try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            order += try wire.readMessage().text
        }
        #expect(order.filter { $0 == "a" }.count == 6)
        #expect(!order.contains("aaaa"))
    }

    @Test("two workers share a port and their figures") func workers() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route], workers: 2)
        for _ in 0..<40 { #expect(try plane.get().text == "hello") }
        let figures = plane.figures { $0.connections == 0 }
        #expect(figures.requests == 40 && figures.connections == 0 && figures.inFlight == 0)
    }
}
