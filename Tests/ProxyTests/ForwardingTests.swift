// ForwardingTests: requests and responses through a running data plane, seen from both ends over real sockets.

import Glibc
import Testing

@testable import Proxy

@Suite("Forwarding") struct ForwardingTests {
    @Test("a request and its response, with the fields of either hop") func fields() throws {
        let server = try TestServer.answering { _ in
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nX-Powered-By: PHP\r\nVia: 1.1 x\r\nX-Kept: yes\r\n"
                + "Connection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\nContent-Length: 2\r\n\r\nok"
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send(
            "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"
                + "X-Forwarded-Host: evil\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\n"
                + "Keep-Alive: 3\r\nProxy-Connection: x\r\nProxy: http://evil\r\nAccept: */*\r\n\r\n")
        let response = try wire.readMessage()
        #expect(response.startLine == "HTTP/1.1 200 OK")
        #expect(response.fields.map(\.name) == ["X-Kept", "Content-Length", "Connection"])
        #expect(response["connection"] == ["close"])
        #expect(response.text == "ok")
        #expect(wire.isClosed())
        let request = try #require(server.requests.first)
        #expect(request.startLine == "GET /a?b=c HTTP/1.1")
        #expect(
            request.fields.map { "\($0): \($1)" } == [
                "Host: example.org", "Accept: */*", "X-Forwarded-For: 1.2.3.4, 127.0.0.1", "X-Forwarded-Proto: http",
                "X-Forwarded-Host: example.org",
            ])
    }

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

    @Test("bodies pipelined behind each other don't mix") func pipelinedBodies() throws {
        let server = try TestServer.answering { request in
            "HTTP/1.1 200 OK\r\nContent-Length: \(request.text.utf8.count)\r\n\r\n\(request.text)"
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
                + "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1;x=y\r\no\r\n0\r\nT: v\r\n\r\n"
                + "GET / HTTP/1.1\r\nHost: a\r\n\r\n" + "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour")
        for text in ["one", "two", "", "four"] { #expect(try wire.readMessage().text == text) }
        #expect(String(decoding: server.requests[1].rawBody, as: UTF8.self).contains("T: v"))
    }

    @Test("HEAD, 204 and 304 have no body, whatever their fields say") func withoutBody() throws {
        let server = try TestServer.answering { request in
            switch request.startLine.split(separator: " ")[1] {
            case "/204": "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n"
            case "/304": "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"
            default: "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
            }
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage(hasBody: false)["content-length"] == ["7"])
        try wire.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage()["content-length"] == [])
        try wire.send("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage()["content-length"] == ["7"])
        #expect(server.connections == 1)
    }

    @Test("interim responses reach the client before the final one") func interim() throws {
        let server = try TestServer { wire, _, log in
            while true {
                var request = try wire.readHead()
                try wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
                request.body = try wire.read(5)
                log.note(request)
                try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for _ in 0..<2 {
            try wire.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(try wire.readMessage().status == 103)
            #expect(try wire.readMessage().status == 100)
            try wire.send("hello")
            #expect(try wire.readMessage().text == "ok")
        }
        #expect(server.requests.map(\.text) == ["hello", "hello"])
        #expect(server.requests[0]["expect"] == ["100-continue"])
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

    @Test("bytes that trickle in from both sides make whole messages") func trickle() throws {
        let server = try TestServer { wire, _, _ in
            _ = try wire.readMessage()
            for byte in "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;e\r\nhello\r\n0\r\nT: v\r\n\r\n".utf8 {
                try wire.send([byte])
                usleep(200)
            }
            _ = try? wire.readMessage()
        }
        // On a busy machine each byte may take its time.
        let plane = try TestPlane([server.route]) { $0.timeouts.requestMs = 60_000 }
        let wire = try plane.connect()
        for byte in "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".utf8 {
            try wire.send([byte])
            usleep(200)
        }
        let response = try wire.readMessage()
        #expect(response.startLine == "HTTP/1.1 200 OK" && response.text == "hello")
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

    @Test("a response until the connection's end is passed on as one") func untilClose() throws {
        let server = try TestServer { wire, _, _ in
            _ = try wire.readMessage()
            try wire.send("HTTP/1.0 200 OK\r\n\r\nall of it")
        }
        let plane = try TestPlane([server.route])
        let response = try plane.get()
        #expect(response.startLine == "HTTP/1.1 200 OK")
        #expect(response.text == "all of it" && response["connection"] == ["close"])
    }

    @Test("HTTP/1.0 clients: keep-alive said aloud, chunks taken off, a Host made up") func version10() throws {
        let server = try TestServer.answering { request in
            request.startLine.contains("/chunked")
                ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nT: v\r\n\r\n"
                : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n")
        let first = try wire.readMessage()
        #expect(first["connection"] == ["keep-alive"] && first.text == "ok")
        try wire.send("GET /chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        let second = try wire.readMessage()
        #expect(second["transfer-encoding"] == [] && second["connection"] == ["close"] && second.text == "abcdefg")
        #expect(server.requests[0].startLine == "GET / HTTP/1.1")
        #expect(server.requests[0]["host"] == ["api"] && server.requests[0]["expect"] == [])
        let plain = try plane.connect()
        try plain.send("GET / HTTP/1.0\r\n\r\n")
        #expect(try plain.readMessage().text == "ok")
        #expect(plain.isClosed())
    }

    @Test("a client that closes its side after the request gets its response") func halfClose() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.shutdownWrite()
        #expect(try wire.readMessage().text == "hello")
        #expect(wire.isClosed())
    }

    @Test("an upgraded connection carries bytes both ways until either end closes") func upgrade() throws {
        let server = try TestServer { wire, _, log in
            log.note(try wire.readHead())
            try wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
            while true {
                let bytes = try wire.read(4)
                try wire.send(bytes.reversed())
            }
        }
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        let head = try wire.readHead()
        #expect(head.status == 101 && head["upgrade"] == ["websocket"] && head["connection"] == ["upgrade"])
        #expect(try wire.read(5) == Array("first".utf8))
        for text in ["abcd", "\0\u{1}\u{2}\u{3}"] {
            try wire.send(text)
            #expect(try wire.read(4) == text.utf8.reversed())
        }
        wire.shutdownWrite()
        #expect(try wire.readToEnd() == [])
        #expect(server.requests[0]["upgrade"] == ["websocket"])
        #expect(server.requests[0]["connection"] == ["upgrade"])
        // Other protocols would let requests pass unseen: not offered to the server.
        let other = try plane.connect()
        try other.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        _ = try other.readHead()
        #expect(server.requests[1]["upgrade"] == [])
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
