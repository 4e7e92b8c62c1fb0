// ForwardingTests: requests and responses through a running data plane, seen from both ends over real sockets.

import Testing

@testable import Proxy

@Suite("Forwarding") struct ForwardingTests {
    private let simple = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

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
}
