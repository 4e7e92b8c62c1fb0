// StatusServerTests: the status port over real sockets on loopback: routes, authorization, keep-alive, limits, streams.
// Server and clients share one thread and one reactor; every wait has a deadline.

import CLinux
import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

/// The server, its clients and the reactor that drives both; the runtime's part is played with a sample report.
private struct Stage: ~Copyable {
    let reactor: Reactor
    var server: StatusServer
    var report = StatusReport.sample()
    private(set) var asked: [(ticket: AdminTicket, request: AdminRequest)] = []
    private var clients: [Int32] = []
    private(set) var received: [[UInt8]] = []
    private(set) var closed: [Bool] = []
    /// Added to the clock, to make deadlines pass.
    var skippedNs: UInt64 = 0
    /// The clock goes with the loop's turns, so that no deadline passes because this thread stood still.
    private var turnsNs: UInt64 = 1_000_000_000_000

    init(_ access: StatusAccess = StatusAccess(token: "sesame")) throws {
        let reactor = try Reactor()
        var server = StatusServer(listenerKind: 6, connectionKind: 7, access: access)
        let any = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)
        try server.listen([any], reactor: reactor)
        self.reactor = reactor
        self.server = server
    }

    deinit { for client in clients where client >= 0 { System.close(client) } }

    var now: UInt64 { turnsNs + skippedNs }

    mutating func connect() throws -> Int {
        let port = try #require(server.ports.first)
        let address = try #require(SocketAddress("127.0.0.1:\(port)"))
        let client = try System.socket(AF_INET, SOCK_STREAM.rawValue)
        try #require(System.connect(client, address) == 0)
        clients.append(client)
        received.append([])
        closed.append(false)
        try reactor.register(client, Token(kind: 1, slot: clients.count - 1))
        return clients.count - 1
    }

    func send(_ client: Int, _ text: String) {
        let bytes = Array(text.utf8)
        guard case .moved(bytes.count) = System.write(clients[client], bytes, from: 0) else {
            Issue.record("the client could not send \(bytes.count) bytes")
            return
        }
    }

    mutating func hangUp(_ client: Int) {
        System.close(clients[client])
        clients[client] = -1
    }

    func text(_ client: Int) -> String { String(decoding: received[client], as: UTF8.self) }

    /// Turns the loop until `condition` holds; false when it didn't within `limitMs`.
    mutating func run(limitMs: Int = waitMsMax, until condition: (borrowing Stage) -> Bool) -> Bool {
        let end = System.bootNanoseconds() + UInt64(limitMs) * 1_000_000
        while !condition(self) {
            if System.bootNanoseconds() > end { return false }
            turn()
        }
        return true
    }

    /// Turns the loop a few times: long enough for what is under way on the loopback interface.
    mutating func settle(_ turns: Int = 10) { for _ in 0..<turns { turn() } }

    private mutating func turn() {
        turnsNs += 1_000_000
        let count = reactor.wait(timeoutMs: 5)
        for index in 0..<count {
            let (token, readiness) = reactor.event(at: index)
            if token.kind == 1 {
                receive(token.slot)
            } else {
                server.handle(token, readiness, now: now, reactor: reactor)
            }
        }
        if let deadline = server.deadline, deadline <= now { server.tick(now: now, reactor: reactor) }
        if server.needsReport { server.respond(report, now: now) }
        for (ticket, request) in server.takeAdminRequests() { asked.append((ticket, request)) }
    }

    private mutating func receive(_ client: Int) {
        while clients[client] >= 0 {
            switch System.read(clients[client], onto: &received[client], atMost: 65_536) {
            case .moved: continue
            case .wouldBlock: return
            case .ended, .failed:
                closed[client] = true
                return
            }
        }
    }

    /// One request on a connection of its own: what came until the server closed.
    mutating func exchange(_ request: String) throws -> String {
        let client = try connect()
        #expect(run { _ in true })
        send(client, request)
        #expect(run { $0.closed[client] }, "no end of the answer to \(request.debugDescription)")
        return text(client)
    }

    mutating func get(_ path: String, _ fields: String = "") throws -> String {
        try exchange("GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(fields)\r\n")
    }

    mutating func post(_ path: String, _ body: String, _ fields: String = "Authorization: Bearer sesame\r\n") throws
        -> Int
    {
        let client = try connect()
        send(
            client,
            "POST \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\(fields)\r\n\(body)"
        )
        return client
    }
}

private func status(_ answer: String) -> Int? {
    answer.hasPrefix("HTTP/1.1 ") ? Int(answer.dropFirst(9).prefix(3)) : nil
}

private func body(_ answer: String) -> String {
    guard let end = answer.firstRange(of: "\r\n\r\n") else { return "" }
    return String(answer[end.upperBound...])
}

@Suite struct StatusServerTests {
    @Test func pagesHaveTheirTypeAndLength() throws {
        let pages = [
            ("/status", "application/json"), ("/", "text/html; charset=utf-8"), ("/stats", "text/html; charset=utf-8"),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8"), ("/health", "text/plain; charset=utf-8"),
            ("/ready", "text/plain; charset=utf-8"), ("/status?pretty", "application/json"),
        ]
        var stage = try Stage()
        for (path, type) in pages {
            let answer = try stage.get(path)
            #expect(status(answer) == 200, "\(path)")
            #expect(answer.contains("\r\nContent-Type: \(type)\r\n"), "\(path)")
            #expect(answer.contains("\r\nContent-Length: \(body(answer).utf8.count)\r\n"), "\(path)")
        }
        #expect(stage.server.requests == UInt64(pages.count))
    }

    @Test func readySaysWhyNot() throws {
        var stage = try Stage()
        stage.report.quorum = false
        var answer = try stage.get("/ready")
        #expect(status(answer) == 503)
        #expect(body(answer).contains("quorum"))
        stage.report.quorum = true
        stage.report.backends[0].servers.removeFirst()
        answer = try stage.get("/ready")
        #expect(status(answer) == 503)
        #expect(body(answer) == "no server is up\n")
        // The process runs all the same.
        #expect(status(try stage.get("/health")) == 200)
    }

    @Test func headHasNoBody() throws {
        var stage = try Stage()
        let answer = try stage.exchange("HEAD /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        #expect(status(answer) == 200)
        #expect(answer.hasSuffix("\r\n\r\n"))
        #expect(!answer.contains("Content-Length: 0\r\n"))
    }

    @Test func wrongRequestsGetTheRightRefusal() throws {
        let cases: [(String, Int)] = [
            ("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
            ("DELETE /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
            ("GET /admin/drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
            ("POST /admin/explode HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
            ("GET /status HTTP/1.1\r\n\r\n", 400),
            ("GET  /status HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET status HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /status HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
            ("GET /status HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
            ("GET /status HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", 400),
            ("GET /status HTTP/1.1\nHost: x\r\n\r\n", 400),
            ("GET /\u{0} HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}\u{2}\u{0}", 400),
            ("GET /status HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            ("POST /admin/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
            ("POST /admin/drain HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
            ("POST /admin/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
            ("POST /admin/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 16385\r\n\r\n", 413),
            ("GET /" + String(repeating: "a", count: 9000) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431),
            ("GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 80) + "\r\n", 431),
        ]
        var stage = try Stage()
        for (request, expected) in cases {
            let answer = try stage.exchange(request)
            #expect(status(answer) == expected, "\(request.prefix(80).debugDescription)")
            #expect(answer.contains("Connection: close\r\n"))
        }
    }

    @Test func connectionsAreKeptAndPipelinedRequestsAnsweredInOrder() throws {
        var stage = try Stage()
        let client = try stage.connect()
        let get = { (path: String) in "GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n" }
        stage.send(client, get("/health") + get("/status") + get("/health") + get("/nothing"))
        #expect(stage.run { $0.text(client).contains("HTTP/1.1 404") })
        let order = stage.text(client).split(separator: "HTTP/1.1 ").map { $0.prefix(3) }
        #expect(order == ["200", "200", "200", "404"])
        stage.send(client, get("/health"))
        #expect(stage.run { $0.server.requests == 5 })
        #expect(!stage.closed[client])
        // HTTP/1.0 closes unless asked not to.
        #expect(status(try stage.exchange("GET /health HTTP/1.0\r\n\r\n")) == 200)
    }

    @Test func aFloodOfPipelinedRequestsIsServedInTurns() throws {
        var stage = try Stage()
        let client = try stage.connect()
        stage.send(client, String(repeating: "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", count: 400))
        #expect(stage.run { $0.server.requests == 400 })
    }

    @Test func aRequestThatDribblesIsReadAndOneThatStallsIsCut() throws {
        var stage = try Stage()
        let client = try stage.connect()
        for byte in "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
            stage.send(client, String(byte))
            stage.settle(2)
            if stage.closed[client] { break }
        }
        #expect(stage.run { $0.closed[client] })
        #expect(status(stage.text(client)) == 200)

        let stalled = try stage.connect()
        stage.send(stalled, "GET /health HTT")
        stage.settle()
        stage.skippedNs = 6_000_000_000
        #expect(stage.run { $0.closed[stalled] })
        #expect(status(stage.text(stalled)) == 408)
    }

    @Test func silentConnectionsAreClosed() throws {
        var stage = try Stage()
        let client = try stage.connect()
        stage.settle()
        stage.skippedNs = 6_000_000_000
        #expect(stage.run { $0.closed[client] })
        #expect(stage.received[client].isEmpty)
    }

    @Test func tooManyConnectionsPushOutIdleOnes() throws {
        var stage = try Stage()
        for _ in 0..<StatusServer.Limit.connections { _ = try stage.connect() }
        stage.settle(20)
        #expect(status(try stage.get("/health")) == 200)
        #expect(stage.run { $0.closed.filter { $0 }.count == 2 })
    }

    @Test func changesNeedTheToken() throws {
        var stage = try Stage()
        let body = #"{"server":"api/api_1"}"#
        for fields in [
            "", "Authorization: Bearer open\r\n", "Authorization: Bearer sesame2\r\n", "Authorization: sesame\r\n",
        ] {
            let client = try stage.post("/admin/drain", body, fields)
            #expect(stage.run { $0.closed[client] })
            #expect(status(stage.text(client)) == 401)
            #expect(stage.text(client).contains("WWW-Authenticate: Bearer"))
        }
        #expect(stage.asked.isEmpty)
        var closedStage = try Stage(StatusAccess())
        let client = try closedStage.post("/admin/drain", body)
        #expect(closedStage.run { $0.closed[client] })
        #expect(status(closedStage.text(client)) == 403)
        #expect(closedStage.text(client).contains("TRIAD_TOKEN"))
    }

    @Test func changesReachTheRuntimeAndItsAnswerTheClient() throws {
        let api1 = ServerID(backend: "api", server: "api_1")
        let address = try #require(SocketAddress("[2001:db8::1]:8080"))
        let cases: [(String, String, AdminRequest)] = [
            ("/admin/drain", #"{"server":"api/api_1"}"#, .setAdmin(api1, .drain)),
            ("/admin/ready", #"{"server":"api/api_1"}"#, .setAdmin(api1, .ready)),
            ("/admin/maint", #"{"server":"api/api_1"}"#, .setAdmin(api1, .maint)),
            ("/admin/weight", #"{"server":"api/api_1","weight":256}"#, .setWeight(api1, 256)),
            ("/admin/add", #"{"server":"api/api_1","address":"[2001:db8::1]:8080"}"#, .add(api1, address)),
            ("/admin/remove", #"{"server":"api/api_1"}"#, .remove(api1)),
            ("/admin/handover", #"{"to":"n2"}"#, .handover(to: "n2")),
            ("/admin/handover", "", .handover(to: nil)),
            ("/admin/force-leader", #"{"node":"n2","acceptTwoOwners":true}"#, .forceLeader(node: "n2")),
        ]
        var stage = try Stage()
        for (path, json, expected) in cases {
            let before = stage.asked.count
            let client = try stage.post(path, json)
            #expect(stage.run { $0.asked.count > before })
            let (ticket, request) = try #require(stage.asked.last)
            #expect(request == expected)
            #expect(stage.received[client].isEmpty)
            stage.server.answer(ticket, status: 200, text: "done \"well\"", now: stage.now)
            #expect(stage.run { $0.closed[client] })
            #expect(body(stage.text(client)) == "{\"ok\":true,\"text\":\"done \\\"well\\\"\"}\n")
            // Its own words read back as the same request.
            let verb = String(expected.path.dropFirst("/admin/".count))
            #expect(try AdminRequest(verb: verb, body: expected.body) == expected)
        }
    }

    @Test func malformedChangesSayWhatIsWrong() throws {
        let cases: [(String, String, String)] = [
            ("/admin/drain", "", "\"server\" is missing"),
            ("/admin/force-leader", "", "\"node\" is missing"),
            ("/admin/force-leader", #"{"node":"n2"}"#, "\"acceptTwoOwners\" must be true: it makes that node own"),
            ("/admin/force-leader", #"{"node":"n2","acceptTwoOwners":"yes"}"#, "must be true or false"),
            ("/admin/force-leader", #"{"node":"no such","acceptTwoOwners":true}"#, "must be a node's id"),
            ("/admin/drain", "{", "body:"),
            ("/admin/drain", "[]", "must be a JSON object"),
            ("/admin/drain", #"{"server":"api_1"}"#, "must be BACKEND/SERVER"),
            ("/admin/drain", #"{"server":7}"#, "must be a string"),
            ("/admin/drain", #"{"server":"api/api_1","weigth":1}"#, "unknown key \"weigth\""),
            ("/admin/weight", #"{"server":"api/api_1","weight":257}"#, "from 0 to 256"),
            ("/admin/weight", #"{"server":"api/api_1"}"#, "from 0 to 256"),
            ("/admin/add", #"{"server":"api/api_1","address":"example.com:80"}"#, "must be ADDRESS:PORT"),
            ("/admin/add", #"{"server":"api/api_1","address":"10.0.0.1:0"}"#, "must be ADDRESS:PORT"),
        ]
        var stage = try Stage()
        for (path, json, expected) in cases {
            let client = try stage.post(path, json)
            #expect(stage.run { $0.closed[client] })
            #expect(status(stage.text(client)) == 400)
            let text = stage.text(client).replacing("\\\"", with: "\"")
            #expect(text.contains(expected), "\(text)")
        }
        #expect(stage.asked.isEmpty)
    }

    @Test func anUnansweredChangeTimesOutAndALateAnswerGoesNowhere() throws {
        var stage = try Stage()
        let client = try stage.post("/admin/remove", "{server:\"api/api_1\"}")
        #expect(stage.run { !$0.asked.isEmpty })
        let ticket = try #require(stage.asked.first?.ticket)
        stage.skippedNs = 16_000_000_000
        #expect(stage.run { $0.closed[client] })
        #expect(status(stage.text(client)) == 504)
        let next = try stage.post("/admin/handover", "")
        #expect(stage.run { $0.asked.count == 2 })
        stage.server.answer(ticket, status: 200, text: "late", now: stage.now)
        stage.settle()
        #expect(stage.received[next].isEmpty)
    }

    /// A leader may let its clients finish for `timeouts.drain`, and whoever asked waits for the outcome.
    @Test func aMoveIsAnsweredAfterTheLongestDrain() throws {
        var stage = try Stage()
        let client = try stage.post("/admin/handover", "")
        #expect(stage.run { !$0.asked.isEmpty })
        let ticket = try #require(stage.asked.first?.ticket)
        stage.skippedNs = UInt64(Configuration.Timeouts.drainMax.nanoseconds) + 3_000_000_000
        stage.settle()
        #expect(stage.received[client].isEmpty && !stage.closed[client])
        stage.server.answer(ticket, status: 200, text: "n2 leads now", now: stage.now)
        #expect(stage.run { !$0.received[client].isEmpty })
        #expect(status(stage.text(client)) == 200)
        #expect(UInt64(AdminCommands.moveTimeoutMs) * 1_000_000 > StatusServer.Limit.moveNs)
    }

    @Test func aClientThatLeavesIsForgotten() throws {
        var stage = try Stage()
        let client = try stage.post("/admin/remove", "{server:\"api/api_1\"}")
        #expect(stage.run { !$0.asked.isEmpty })
        let ticket = try #require(stage.asked.first?.ticket)
        stage.hangUp(client)
        stage.settle()
        stage.server.answer(ticket, status: 200, text: "done", now: stage.now)
        #expect(status(try stage.get("/health")) == 200)
    }

    @Test func readingNeedsThePasswordWhenThereIsOne() throws {
        var stage = try Stage(StatusAccess(token: "sesame", user: "admin", password: "pass word"))
        let good = Base64.encode(Array("admin:pass word".utf8))
        let bad = Base64.encode(Array("admin:password".utf8))
        for path in ["/", "/status", "/metrics", "/events", "/live", "/stats;csv"] {
            let answer = try stage.get(path)
            #expect(status(answer) == 401)
            #expect(answer.contains("WWW-Authenticate: Basic"))
            #expect(status(try stage.get(path, "Authorization: Basic \(bad)\r\n")) == 401)
        }
        for path in ["/", "/status", "/metrics", "/stats;csv"] {
            #expect(status(try stage.get(path, "Authorization: basic \(good)\r\n")) == 200)
            #expect(status(try stage.get(path, "Authorization: Bearer sesame\r\n")) == 200)
        }
        #expect(status(try stage.get("/health")) == 200)
        #expect(status(try stage.get("/ready")) == 200)
    }

    @Test func eventsStreamAsTheyHappen() throws {
        var stage = try Stage()
        let client = try stage.connect()
        stage.send(client, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(stage.run { $0.text(client).contains("vip-acquired") })
        #expect(stage.text(client).contains("Content-Type: text/event-stream\r\n"))
        #expect(!stage.text(client).contains("Content-Length"))
        let event = StatusEvent(atMs: 0, node: "n2", kind: "server-down", text: "line\nbreak")
        stage.server.publish([event], now: stage.now)
        #expect(stage.run { $0.text(client).hasSuffix("\"text\":\"line\\nbreak\"}\n\n") })
        // A comment keeps a silent stream alive.
        stage.skippedNs = 16_000_000_000
        #expect(stage.run { $0.text(client).hasSuffix("\n\n:\n\n") })
        #expect(!stage.closed[client])
    }

    @Test func aPageIsShownLive() throws {
        var stage = try Stage()
        let isWatched = stage.server.hasViewers
        #expect(!isWatched)
        let client = try stage.connect()
        stage.send(client, "GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(stage.run { $0.text(client).hasSuffix("</main>\n\n") })
        #expect(stage.text(client).contains("Content-Type: text/event-stream\r\n"))
        #expect(stage.run { $0.server.hasViewers })
        // What happens is shown to it as a page, not as an event.
        stage.server.publish([StatusEvent(atMs: 0, node: "n2", kind: "noise", text: "x")], now: stage.now)
        stage.report.leader = "n3"
        stage.server.show(stage.report, now: stage.now)
        #expect(stage.run { $0.text(client).contains("n3 leads") })
        #expect(!stage.text(client).contains("noise"))
        stage.skippedNs = 16_000_000_000
        #expect(stage.run { $0.text(client).hasSuffix("</main>\n\n:\n\n") })
        stage.hangUp(client)
        #expect(stage.run { !$0.server.hasViewers })
    }

    /// Who doesn't read holds up nobody, and costs no more than one page and what the kernel's buffers take.
    @Test func aViewerThatDoesNotReadGetsLaterPages() throws {
        var stage = try Stage()
        let slow = try stage.connect()
        stage.send(slow, "GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(stage.run { $0.server.hasViewers })
        let page = StatusView.frame(stage.report).count
        for _ in 0..<3000 { stage.server.show(stage.report, now: stage.now) }
        stage.report.leader = "n3"
        #expect(stage.run { $0.text(slow).hasSuffix("</main>\n\n") })
        #expect(stage.received[slow].count < 2500 * page)
        stage.server.show(stage.report, now: stage.now)
        #expect(stage.run { $0.text(slow).contains("n3 leads") })
        #expect(status(try stage.get("/health")) == 200)
    }

    @Test func streamsAreBoundedInNumber() throws {
        var stage = try Stage()
        for number in 0..<StatusServer.Limit.streams {
            let client = try stage.connect()
            stage.send(client, "GET /\(number % 2 == 0 ? "live" : "events") HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(stage.run { !$0.received[client].isEmpty })
        }
        #expect(status(try stage.get("/live")) == 503)
        #expect(status(try stage.get("/status")) == 200)
    }

    @Test func aStreamThatIsNotReadIsClosed() throws {
        var stage = try Stage()
        let client = try stage.connect()
        stage.send(client, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(stage.run { !$0.received[client].isEmpty })
        let event = StatusEvent(atMs: 0, node: "n2", kind: "noise", text: String(repeating: "x", count: 8000))
        // Nobody turns the client's side meanwhile: what the kernel's buffers don't hold piles up, to a limit.
        for _ in 0..<3000 { stage.server.publish([event], now: stage.now) }
        #expect(stage.run { $0.closed[client] })
        #expect(stage.received[client].count < 3000 * 8000)
    }

    @Test func aPortInUseIsToldClearly() throws {
        let stage = try Stage()
        let port = try #require(stage.server.ports.first)
        var second = StatusServer(listenerKind: 6, connectionKind: 7, access: StatusAccess())
        let taken = try #require(SocketAddress("127.0.0.1:\(port)"))
        do throws(StatusProblem) {
            try second.listen([taken], reactor: stage.reactor)
            Issue.record("the port was taken twice")
        } catch {
            #expect(error.description.contains("127.0.0.1:\(port): the port is in use"))
        }
        let elsewhere = try #require(SocketAddress("192.0.2.1:8084"))
        do throws(StatusProblem) {
            try second.listen([elsewhere], reactor: stage.reactor)
            Issue.record("bound an address that isn't here")
        } catch {
            #expect(error.description.contains("doesn't have the address"))
        }
    }
}
