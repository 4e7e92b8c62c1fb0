// ProxyProtocolTests: PROXY headers that clients send and that servers get, through a running data plane.

import Glibc
import Testing

@testable import Proxy

@Suite("PROXY protocol") struct ProxyProtocolTests {
    private static let loopback = [
        Network(SocketAddress(high: 0x7f00_0000 << 32, low: 0, port: 0, isIPv6: false), prefix: 8)
    ]
    private static let elsewhere = [
        Network(SocketAddress(high: 0x0a00_0000 << 32, low: 0, port: 0, isIPv6: false), prefix: 8)
    ]
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    private func plane(
        _ server: TestServer, _ mode: FrontendSettings.Mode, accepts: [Network] = [], sends: ProxyVersion? = nil,
        adjust: (inout ProxySettings) -> Void = { _ in }
    ) throws -> TestPlane {
        try TestPlane([server.route]) { settings in
            settings.frontends[0].mode = mode
            settings.frontends[0].acceptProxy = accepts
            settings.backends[0].sendProxy = sends
            adjust(&settings)
        }
    }

    @Test("HTTP: the client is the one that the header names, for every request of the connection") func http() throws {
        let server = try TestServer.saying("ok")
        let plane = try plane(server, .http, accepts: Self.loopback)
        let headers = [
            "PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n": "192.0.2.7",
            "PROXY TCP6 2001:db8::7 2001:db8::1 5000 80\r\n": "2001:db8::7", "PROXY UNKNOWN\r\n": "127.0.0.1",
        ]
        for (header, client) in headers {
            let wire = try plane.connect()
            for piece in [header + Self.request, Self.request] {
                try wire.send(piece)
                #expect(try wire.readMessage().text == "ok")
                #expect(server.requests.last?["x-forwarded-for"] == [client])
            }
        }
        // In pieces, with a request behind it in the same piece as its end.
        let wire = try plane.connect()
        for byte in "PROXY TCP4 192.0.2.8 10.0.0.1 5000 8" { try wire.send(String(byte)) }
        try wire.send("0\r\n" + Self.request)
        #expect(try wire.readMessage().text == "ok")
        #expect(server.requests.last?["x-forwarded-for"] == ["192.0.2.8"])
    }

    @Test("from where it is expected, a connection without one is closed and counted") func required() throws {
        let server = try TestServer.saying("ok")
        for mode in [FrontendSettings.Mode.http, .tcp] {
            let plane = try plane(server, mode, accepts: Self.loopback) { $0.timeouts.requestMs = 200 }
            for wrong in [Self.request, "PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n", "\r\n\r\n\0\r\nQUIT\nx"] {
                let wire = try plane.connect()
                try wire.send(wrong)
                #expect(wire.isClosed())
            }
            // Late, and never.
            let late = try plane.connect()
            try late.send("PROXY TCP4 1.2")
            #expect(late.isClosed())
            #expect(try plane.connect().isClosed())
            let figures = plane.figures { $0.refused == 5 && $0.connections == 0 }
            #expect(figures.refused == 5 && figures.connections == 0 && figures.requests == 0 && figures.idle == 0)
        }
        #expect(server.connections == 0)
    }

    @Test("from elsewhere it is no request to HTTP, and data to TCP") func unexpected() throws {
        let header = "PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n"
        let server = try TestServer { wire, _, _ in try wire.send("got " + wire.readLine()) }
        let http = try plane(server, .http, accepts: Self.elsewhere)
        let wire = try http.connect()
        try wire.send(header + Self.request)
        #expect(try wire.readMessage().status == 400)
        #expect(server.connections == 0)
        let tcp = try plane(server, .tcp, accepts: Self.elsewhere)
        let other = try tcp.connect()
        try other.send(header)
        #expect(try String(decoding: other.readToEnd(), as: UTF8.self) == "got " + header.dropLast())
    }

    @Test("TCP: the header is taken off, and another put on", arguments: [nil, ProxyVersion.v1, .v2])
    func passedOn(_ version: ProxyVersion?) throws {
        let server = try TestServer { wire, _, _ in try wire.send(wire.readToEnd()) }
        let plane = try plane(server, .tcp, accepts: Self.loopback, sends: version)
        let wire = try plane.connect()
        try wire.send(
            ProxyHeader.signature + [0x21, 0x11, 0, 15, 192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80, 4, 0, 0])
        try wire.send("data")
        wire.shutdownWrite()
        let expected: [UInt8] =
            switch version {
            case nil: []
            case .v1: Array("PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n".utf8)
            case .v2: ProxyHeader.signature + [0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80]
            }
        #expect(try wire.readToEnd() == expected + Array("data".utf8))
    }

    @Test("a server that gets headers gets the connection's addresses, before the client says a word") func addresses()
        throws
    {
        let server = try TestServer { wire, _, _ in try wire.send("you are " + wire.readLine()) }
        let plane = try plane(server, .tcp, sends: .v1)
        let wire = try plane.connect()
        let port = System.localPort(wire.descriptor)
        #expect(
            try String(decoding: wire.readToEnd(), as: UTF8.self)
                == "you are PROXY TCP4 127.0.0.1 127.0.0.1 \(port) \(plane.port)")
    }

    @Test("HTTP: each connection to such a server begins with a header and serves one client once") func toHTTP() throws
    {
        let server = try TestServer { wire, _, log in
            let header = try wire.readLine()
            var request = try wire.readMessage()
            request.fields.append((name: "header", value: header))
            log.note(request)
            try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            _ = try wire.readToEnd()
        }
        let plane = try plane(server, .http, sends: .v1)
        var ports: [UInt16] = []
        for _ in 0..<2 {
            let wire = try plane.connect()
            ports.append(System.localPort(wire.descriptor))
            for _ in 0..<2 {
                try wire.send(Self.request)
                #expect(try wire.readMessage().text == "ok")
            }
        }
        #expect(server.connections == 4)
        let expected = ports.flatMap { port in
            Array(repeating: ["PROXY TCP4 127.0.0.1 127.0.0.1 \(port) \(plane.port)"], count: 2)
        }
        #expect(server.requests.map { $0["header"] } == expected)
        #expect(
            plane.figures { $0.servers[server.route.id]?.connections == 0 }.servers[server.route.id]?.connections == 0)
    }

    @Test("a request that is tried again on another server begins with a header there, too") func retried() throws {
        let first = try TestServer { wire, _, _ in wire.resetOnClose() }
        let second = try TestServer { wire, _, log in
            #expect(try wire.readLine().hasPrefix("PROXY TCP4 127.0.0.1 "))
            log.note(try wire.readMessage())
            try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        let plane = try plane(first, .http, sends: .v1)
        plane.publish([first.route, second.route])
        for _ in 0..<4 { #expect(try plane.get().text == "ok") }
        #expect(second.requests.count == 4)
    }
}
