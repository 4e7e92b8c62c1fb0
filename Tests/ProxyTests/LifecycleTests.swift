// LifecycleTests: timeouts of clients, draining, closing idle connections, limits on connections.

import Glibc
import Synchronization
import Testing

@testable import Proxy

@Suite("Lifecycle") struct LifecycleTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    @Test("a request head that takes too long gets 408; silence gets silence") func slowHead() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route]) { $0.timeouts.requestMs = 150 }
        let wire = try plane.connect()
        // A byte now and then doesn't move the deadline.
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\nX: ")
        let isTold = eventually {
            if wire.hasArrivals(within: 10) { return true }
            try? wire.send("a")
            return false
        }
        #expect(isTold)
        let response = try wire.readMessage()
        #expect(response.status == 408 && response["connection"] == ["close"])
        let silent = try plane.connect()
        // The kernel hands a silent connection over after about a second (TCP_DEFER_ACCEPT).
        #expect(try silent.readToEnd() == [])
    }

    @Test("an idle connection closes after its timeout, and not before") func idle() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route]) { $0.timeouts.keepAliveMs = 600 }
        // Until requests kept one open for longer than that: on a busy machine one of them may come too late.
        let isKept = try eventually {
            let wire = try plane.connect()
            let opened = System.bootNanoseconds()
            while true {
                let asked = System.bootNanoseconds()
                try? wire.send(Self.get)
                guard let answer = try? wire.readMessage() else { return false }
                #expect(answer.text == "hello")
                let isLast = elapsedMs(since: opened) > 800
                guard wire.isClosed(within: isLast ? waitMsMax : 200) else {
                    #expect(!isLast)
                    continue
                }
                // The worker counts in whole milliseconds.
                #expect(elapsedMs(since: asked) >= 599)
                return isLast
            }
        }
        #expect(isKept)
        #expect(plane.figures { $0.connections == 0 }.connections == 0)
    }

    @Test("a client that stops sending its body gets 408, and the server isn't told it was all") func stalledBody()
        throws
    {
        let server = try TestServer { wire, _, log in log.note(try wire.readMessage()) }
        let plane = try TestPlane([server.route]) { $0.timeouts.clientMs = 100 }
        let wire = try plane.connect()
        try wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
        #expect(try wire.readMessage().status == 408)
        #expect(wire.isClosed())
        #expect(server.requests.isEmpty)
    }

    @Test("a client that stops taking its response is cut off") func stalledReader() throws {
        let server = try TestServer { wire, _, _ in
            _ = try wire.readMessage()
            try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            while true { try wire.send([UInt8](repeating: 1, count: 100_000)) }
        }
        let plane = try TestPlane([server.route]) { $0.timeouts.clientMs = 150 }
        let wire = try plane.connect(receiveBytes: 4_096)
        try wire.send(Self.get)
        let id = server.route.id
        let figures = plane.figures { $0.aborted == 1 && $0.connections == 0 && $0.servers[id]?.connections == 0 }
        #expect(figures.aborted == 1 && figures.connections == 0 && figures.inFlight == 0)
    }

    @Test("draining: responses say close, idle connections end when told, requests in flight are answered")
    func draining() throws {
        let gate = Mutex(false)
        let server = try TestServer { wire, _, log in
            while true {
                let request = log.note(try wire.readMessage())
                while request.startLine.contains("slow"), !gate.withLock({ $0 }) { usleep(1_000) }
                try wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        let plane = try TestPlane([server.route])
        let used = try plane.connect()
        let idle = try plane.connect()
        for wire in [used, idle] {
            try wire.send(Self.get)
            #expect(try wire.readMessage()["connection"] == [])
        }
        let busy = try plane.connect()
        try busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(eventually { server.requests.count == 3 })
        plane.plane.setDraining(true)
        try used.send(Self.get)
        #expect(try used.readMessage()["connection"] == ["close"])
        #expect(used.isClosed())
        #expect(!idle.isClosed(within: 20))
        plane.plane.closeIdle()
        #expect(idle.isClosed())
        #expect(!busy.isClosed(within: 20))
        gate.withLock { $0 = true }
        let last = try busy.readMessage()
        #expect(last.text == "ok" && last["connection"] == ["close"])
        #expect(plane.figures { $0.connections == 0 }.connections == 0)
        plane.plane.setDraining(false)
        #expect(try plane.get()["connection"] == [])
    }

    @Test("who outlasts a drain is told, if it came by an address that goes") func abandoned() throws {
        let server = try TestServer { wire, _, log in
            log.note(try wire.readMessage())
            try wire.send("HTTP/1.1 200 OK\r\n\r\nhalf of what there is")
            _ = try wire.readMessage()
        }
        let plane = try TestPlane([server.route])
        let busy = try plane.connect()
        try busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try busy.readHead().startLine == "HTTP/1.1 200 OK")
        #expect(try busy.read(21) == Array("half of what there is".utf8))
        plane.plane.abandon([try #require(SocketAddress(address: "127.0.0.2", port: 0))])
        #expect(!busy.isClosed(within: 50))
        plane.plane.abandon([try #require(SocketAddress(address: "127.0.0.1", port: 0))])
        #expect(busy.isClosed())
        #expect(plane.figures { $0.connections == 0 }.connections == 0)
    }

    @Test("beyond the limit of connections clients wait until one leaves") func limit() throws {
        let server = try TestServer.saying("hello")
        let plane = try TestPlane([server.route]) { $0.limits.connectionsMax = 2 }
        var wires = try (0..<2).map { _ in try plane.connect() }
        for wire in wires {
            try wire.send(Self.get)
            _ = try wire.readMessage()
        }
        let third = try plane.connect()
        try third.send(Self.get)
        #expect(!third.isClosed(within: 150))
        wires.removeLast()
        #expect(try third.readMessage().text == "hello")
    }

    @Test("stop closes everything at once") func stop() throws {
        let server = try TestServer.saying("hello")
        let port = try freePort()
        let plane = try TestPlane([server.route], workers: 2) {
            $0.frontends[0].address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: port, isIPv6: false)
        }
        let wire = try plane.connect()
        try wire.send(Self.get)
        _ = try wire.readMessage()
        plane.plane.stop()
        #expect(wire.isClosed())
        // A child that another test is starting may still have the listener.
        #expect(eventually { (try? plane.connect()) == nil })
    }
}
