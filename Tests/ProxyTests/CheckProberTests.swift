// CheckProberTests: the prober against real sockets on loopback that refuse, freeze, dribble, lie or answer well.
// Prober and servers share one thread and one reactor, so nothing races; every wait has a deadline.

import Glibc
import Testing

@testable import Proxy

/// What a little server does with a connection.
private enum Behaviour {
    /// Bound but not listening: connections are refused.
    case refuses
    /// Accepts and says nothing.
    case frozen
    case answers(String)
    /// Sends this, then closes.
    case answersAndCloses(String)
    /// Waits, then answers.
    case answersLate(afterMs: UInt64, String)
}

/// Servers, a prober and the reactor that drives both.
private struct Stage: ~Copyable {
    static let proberKind: UInt8 = 8
    static let listenerKind: UInt8 = 1
    static let connectionKind: UInt8 = 2

    let reactor: Reactor
    var prober = Prober(kind: proberKind)
    private(set) var requests: [String] = []
    private(set) var connections = 0
    var changes: [ProbeChange] = []
    private var listeners: [(descriptor: Int32, behaviour: Behaviour)] = []
    private var accepted: [(descriptor: Int32, behaviour: Behaviour)] = []
    private var late: [(atNs: UInt64, descriptor: Int32, text: String)] = []

    init() throws { reactor = try Reactor() }

    deinit {
        for listener in listeners { System.close(listener.descriptor) }
        for connection in accepted where connection.descriptor >= 0 { System.close(connection.descriptor) }
    }

    mutating func serve(_ behaviour: Behaviour) throws -> SocketAddress {
        let descriptor = try System.socket(AF_INET, SOCK_STREAM.rawValue)
        let any = try #require(SocketAddress("127.0.0.1:0"))
        try System.bind(descriptor, any)
        let slot = listeners.count
        listeners.append((descriptor, behaviour))
        if case .refuses = behaviour {} else { try System.listen(descriptor, backlog: 128) }
        try reactor.registerForReading(descriptor, Token(kind: Self.listenerKind, slot: slot))
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let outcome = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        try #require(outcome == 0)
        return SocketAddress(storage)
    }

    mutating func change(_ index: Int, to behaviour: Behaviour) { listeners[index].behaviour = behaviour }

    /// Turns the loop until `condition` holds; false when it didn't within `limitMs`.
    mutating func run(limitMs: Int = waitMsMax, until condition: (borrowing Stage) -> Bool) -> Bool {
        let end = System.bootNanoseconds() + UInt64(limitMs) * 1_000_000
        while !condition(self) {
            let now = System.bootNanoseconds()
            if now > end { return false }
            let next = min(end, prober.deadline ?? end, late.map(\.atNs).min() ?? end)
            turn(waitMs: Int32(next > now ? (next - now + 999_999) / 1_000_000 : 0))
        }
        return true
    }

    private mutating func turn(waitMs: Int32) {
        let count = reactor.wait(timeoutMs: waitMs)
        let now = System.bootNanoseconds()
        for index in 0..<count {
            let (token, readiness) = reactor.event(at: index)
            switch token.kind {
            case Self.proberKind: prober.handle(token, readiness, now: now, reactor: reactor)
            case Self.listenerKind: accept(token.slot)
            default: converse(token.slot)
            }
        }
        for answer in late where answer.atNs <= now {
            _ = System.write(answer.descriptor, Array(answer.text.utf8), from: 0)
        }
        late.removeAll { $0.atNs <= now }
        prober.tick(now: now, reactor: reactor)
        changes += prober.takeChanges()
    }

    private mutating func accept(_ slot: Int) {
        var peer = SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
        while let descriptor = System.accept(listeners[slot].descriptor, &peer).descriptor {
            connections += 1
            let token = Token(kind: Self.connectionKind, slot: accepted.count)
            accepted.append((descriptor, listeners[slot].behaviour))
            do { try reactor.register(descriptor, token) } catch { Issue.record(error) }
        }
    }

    private mutating func converse(_ slot: Int) {
        let (descriptor, behaviour) = accepted[slot]
        var bytes: [UInt8] = []
        guard descriptor >= 0 else { return }
        switch System.read(descriptor, onto: &bytes, atMost: 4096) {
        case .moved: requests.append(String(decoding: bytes, as: UTF8.self))
        case .wouldBlock: return
        case .ended, .failed:
            System.close(descriptor)
            accepted[slot].descriptor = -1
            return
        }
        switch behaviour {
        case .refuses, .frozen: break
        case .answers(let text): _ = System.write(descriptor, Array(text.utf8), from: 0)
        case .answersAndCloses(let text):
            if !text.isEmpty { _ = System.write(descriptor, Array(text.utf8), from: 0) }
            System.close(descriptor)
            accepted[slot].descriptor = -1
        case .answersLate(let afterMs, let text):
            late.append((System.bootNanoseconds() + afterMs * 1_000_000, descriptor, text))
        }
    }
}

private func http(
    interval: Int = 1000, timeout: Int = 600_000, expect: Int = 200, method: String = "GET", host: String? = nil
) -> ProbeSettings {
    ProbeSettings(
        kind: .http(HTTPCheck(method: method, path: "/health", host: host, expect: StatusRanges(expect))),
        interval: .milliseconds(interval),
        timeout: .milliseconds(timeout), rise: 2, fall: 2)
}

private let tcp = ProbeSettings(
    kind: .tcp, interval: .seconds(1), timeout: .seconds(600), rise: 2, fall: 2)
private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

@Suite struct CheckProberTests {
    /// The first change that a server of this behaviour brings.
    private func first(_ behaviour: Behaviour, _ settings: ProbeSettings) throws -> ProbeChange {
        var stage = try Stage()
        let address = try stage.serve(behaviour)
        stage.prober.setTargets(
            [ProbeTarget(id: "api/a", address: address, settings: settings)], now: System.bootNanoseconds())
        #expect(stage.run { !$0.changes.isEmpty })
        return try #require(stage.changes.first)
    }

    @Test func anAnswerAsExpectedPasses() throws {
        let change = try first(.answers(ok), http())
        #expect(change.verdict == .up)
        #expect(change.reason.hasPrefix("HTTP 200 in ") && change.reason.hasSuffix(" ms"))
        #expect(change.id == "api/a")
    }

    @Test func aTcpCheckNeedsOnlyTheConnection() throws {
        let change = try first(.frozen, tcp)
        #expect(change.verdict == .up)
        #expect(change.reason.hasPrefix("connected in "))
    }

    @Test func theServersProgramNeverSeesATcpCheck() throws {
        var stage = try Stage()
        let address = try stage.serve(.frozen)
        let often = ProbeSettings(kind: .tcp, interval: .milliseconds(20), timeout: .seconds(600), rise: 2, fall: 2)
        stage.prober.setTargets(
            [ProbeTarget(id: "api/a", address: address, settings: often)], now: System.bootNanoseconds())
        // But for a check that waits for long, because this machine is that busy: so ten in a row.
        var (seen, passes) = (0, UInt64(0))
        let areUnseen = stage.run {
            let done = $0.prober.view(of: "api/a")?.passes ?? 0
            if $0.connections > seen { (seen, passes) = ($0.connections, done) }
            return done >= passes + 10
        }
        #expect(areUnseen)
        #expect(stage.prober.view(of: "api/a")?.failures == 0)
        // One that speaks is seen.
        let spoken = ProbeSettings(
            kind: .tcp, interval: .milliseconds(20), timeout: .seconds(600), rise: 2, fall: 2, greeting: .v1)
        stage.prober.setTargets(
            [ProbeTarget(id: "api/b", address: address, settings: spoken)], now: System.bootNanoseconds())
        #expect(stage.run { $0.connections >= seen + 10 })
    }

    @Test func serversThatExpectAProxyHeaderGetOneThatSpeaksForTheCheck() throws {
        for (settings, greeting, expected) in [
            (http(), ProxyVersion.v1, "PROXY UNKNOWN\r\nGET /health HTTP/1.1\r\n"),
            (http(), .v2, "\r\n\r\n\0\r\nQUIT\n \0\0\0GET /health HTTP/1.1\r\n"), (tcp, .v1, "PROXY UNKNOWN\r\n"),
        ] {
            var stage = try Stage()
            let address = try stage.serve(.answers(ok))
            let greeted = ProbeSettings(
                kind: settings.kind, interval: settings.interval, timeout: settings.timeout, rise: 2, fall: 2,
                greeting: greeting)
            stage.prober.setTargets(
                [ProbeTarget(id: "api/a", address: address, settings: greeted)], now: System.bootNanoseconds())
            #expect(stage.run { !$0.changes.isEmpty && !$0.requests.isEmpty })
            #expect(stage.changes.first?.verdict == .up)
            #expect(stage.requests.first?.hasPrefix(expected) == true)
        }
    }

    @Test func anotherExpectedStatusPasses() throws {
        #expect(try first(.answers("HTTP/1.1 404 Not Found\r\n\r\n"), http(expect: 404)).verdict == .up)
    }

    @Test func theAnswersBodyIsLookedAt() throws {
        let check = HTTPCheck(path: "/", expect: StatusRanges([200...299]), expectBody: "ok")
        func settings(_ timeout: Duration = .seconds(600)) -> ProbeSettings {
            ProbeSettings(kind: .http(check), interval: .seconds(1), timeout: timeout, rise: 2, fall: 2)
        }
        for behaviour in [
            Behaviour.answers(ok), .answersAndCloses("HTTP/1.1 201 OK\r\n\r\nall ok"),
            .answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
        ] {
            #expect(try first(behaviour, settings()).verdict == .up)
        }
        let bad = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops"
        #expect(try first(.answers(bad), settings()).reason == "HTTP 200, body lacks \"ok\"")
        #expect(
            try first(.answersAndCloses(bad), settings()).reason == "HTTP 200, body lacks \"ok\"")
        #expect(
            try first(.answersAndCloses(String(ok.dropLast())), settings()).reason
                == "connection closed within the answer")
        let cut = try first(.answers(String(ok.dropLast())), settings(.milliseconds(400)))
        #expect(cut.reason == "no answer in 400 ms")
    }

    @Test func aServerAsksToBeDrained() throws {
        let drain = "HTTP/1.1 503 Busy\r\nX-Triad-State: drain\r\n\r\n"
        let change = try first(.answers(drain), http())
        #expect(change.verdict == .drain && change.reason == "asks to be drained (HTTP 503)")
        #expect(try first(.answers(drain.replacing("503", with: "500")), http()).verdict == .down)
        var stage = try Stage()
        let address = try stage.serve(.answers(ok))
        let target = ProbeTarget(id: "api/a", address: address, settings: http(interval: 100))
        stage.prober.setTargets([target], now: System.bootNanoseconds())
        #expect(stage.run { $0.changes.map(\.verdict) == [.up] })
        stage.change(0, to: .answers(drain))
        #expect(stage.run { $0.changes.map(\.verdict) == [.up, .drain] })
        stage.change(0, to: .answers(ok))
        #expect(stage.run { $0.changes.map(\.verdict) == [.up, .drain, .up] })
    }

    @Test func aServerWithOtherContentIsDown() throws {
        var stage = try Stage()
        let same = ProbeSettings(
            kind: .http(HTTPCheck(path: "/", sameContent: true)), interval: .milliseconds(100), timeout: .seconds(600),
            rise: 2, fall: 2)
        var targets: [ProbeTarget] = []
        for name in ["api/a", "api/b", "api/c", "other/a"] {
            let address = try stage.serve(.answers(name == "other/a" ? ok.replacing("\nok", with: "\nno") : ok))
            targets.append(ProbeTarget(id: name, address: address, settings: same))
        }
        stage.prober.setTargets(targets, now: System.bootNanoseconds())
        #expect(stage.run { $0.changes.count == 4 })
        #expect(stage.changes.allSatisfy { $0.verdict == .up })
        stage.change(1, to: .answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nKO"))
        #expect(stage.run { $0.changes.count == 5 })
        let reason = "differs from the majority: 2 of 3 servers answer alike"
        #expect(stage.changes.last == ProbeChange(id: "api/b", verdict: .down, reason: reason))
        stage.change(1, to: .answers(ok))
        #expect(stage.run { $0.changes.count == 6 })
        #expect(stage.changes.last?.id == "api/b" && stage.changes.last?.verdict == .up)
    }

    @Test func aRefusedConnectionSaysSo() throws {
        for settings in [tcp, http()] {
            let change = try first(.refuses, settings)
            #expect(change.verdict == .down)
            #expect(change.reason == "connection refused")
        }
    }

    @Test func aFrozenServerTimesOut() throws {
        let began = System.bootNanoseconds()
        let change = try first(.frozen, http(timeout: 300))
        #expect(change.verdict == .down)
        #expect(change.reason == "no answer in 300 ms")
        #expect(System.bootNanoseconds() - began >= 300_000_000)
    }

    @Test func aLateAnswerIsNoAnswer() throws {
        let change = try first(.answersLate(afterMs: 900, ok), http(timeout: 300))
        #expect(change.reason == "no answer in 300 ms")
        #expect(try first(.answersLate(afterMs: 100, ok), http()).verdict == .up)
    }

    @Test func badAnswersSayWhatIsWrong() throws {
        let huge = "HTTP/1.1 200 OK\r\nX: " + String(repeating: "a", count: 30_000) + "\r\n\r\n"
        #expect(try first(.answers("HTTP/1.1 200 OK\r\nA: b\r\n"), http(timeout: 300)).reason == "no answer in 300 ms")
        let cases: [(Behaviour, String)] = [
            (.answers("HTTP/1.1 500 Oops\r\n\r\n"), "HTTP 500, expected 200"),
            (.answers("220 mail.example.com ESMTP\r\n"), "the answer isn't HTTP"),
            (.answers(huge), "answer head over 16 KiB"),
            (.answersAndCloses(""), "closed without an answer"),
            (.answersAndCloses("HTTP/1.1 200 OK\r\n"), "connection closed within the answer"),
            (.answers("HTTP/1.1 200 OK\r\nbroken\r\n\r\n"), "malformed answer: a header field isn't one"),
        ]
        for (behaviour, reason) in cases {
            let change = try first(behaviour, http())
            #expect(change.verdict == .down)
            #expect(change.reason == reason)
        }
    }

    @Test func theRequestIsWellFormedAndConfigurable() throws {
        var stage = try Stage()
        let address = try stage.serve(.answers(ok))
        let now = System.bootNanoseconds()
        stage.prober.setTargets(
            [
                ProbeTarget(id: "api/a", address: address, settings: http()),
                ProbeTarget(id: "api/b", address: address, settings: http(method: "HEAD", host: "api.example")),
            ], now: now)
        #expect(stage.run { $0.changes.count == 2 })
        let requests = stage.requests.sorted()
        #expect(requests.count == 2)
        #expect(requests.first?.hasPrefix("GET /health HTTP/1.1\r\nHost: \(address)\r\n") == true)
        #expect(requests.last?.hasPrefix("HEAD /health HTTP/1.1\r\nHost: api.example\r\n") == true)
        for request in requests {
            #expect(request.contains("\r\nConnection: close\r\n"))
            #expect(request.hasSuffix("\r\n\r\n"))
        }
    }

    @Test func aServerThatDiesGoesDownQuicklyWhenSuspected() throws {
        var stage = try Stage()
        let address = try stage.serve(.answers(ok))
        stage.prober.setTargets(
            [ProbeTarget(id: "api/a", address: address, settings: http(interval: 600_000))],
            now: System.bootNanoseconds())
        #expect(stage.run { !$0.changes.isEmpty })
        stage.change(0, to: .answersAndCloses(""))
        stage.prober.probeNow("api/a", now: System.bootNanoseconds())
        // Long before the interval.
        #expect(stage.run { $0.changes.count == 2 })
        #expect(stage.changes.last == ProbeChange(id: "api/a", verdict: .down, reason: "closed without an answer"))
    }

    @Test func targetsThatStayKeepTheirVerdict() throws {
        var stage = try Stage()
        let good = try stage.serve(.answers(ok))
        let bad = try stage.serve(.refuses)
        let a = ProbeTarget(id: "api/a", address: good, settings: http())
        stage.prober.setTargets([a], now: System.bootNanoseconds())
        #expect(stage.run { $0.changes.count == 1 })
        let b = ProbeTarget(id: "api/b", address: bad, settings: http())
        stage.prober.setTargets([b, a], now: System.bootNanoseconds())
        #expect(stage.prober.view(of: "api/a")?.verdict == .up)
        #expect(stage.prober.view(of: "api/b")?.verdict == .unknown)
        #expect(stage.run { $0.changes.count == 2 })
        #expect(stage.changes.last?.id == "api/b")
        // A new address is a new server.
        stage.prober.setTargets(
            [ProbeTarget(id: "api/a", address: bad, settings: http())], now: System.bootNanoseconds())
        #expect(stage.prober.view(of: "api/b") == nil)
        #expect(stage.prober.view(of: "api/a")?.verdict == .unknown)
        #expect(stage.run { $0.changes.count == 3 })
        #expect(stage.prober.view(of: "api/a")?.reason == "connection refused")
    }

    @Test func removingATargetEndsItsProbe() throws {
        var stage = try Stage()
        let address = try stage.serve(.frozen)
        stage.prober.setTargets(
            [ProbeTarget(id: "api/a", address: address, settings: http())], now: System.bootNanoseconds())
        #expect(stage.run { $0.requests.count == 1 })
        stage.prober.setTargets([], now: System.bootNanoseconds())
        #expect(stage.prober.deadline == nil)
        #expect(!stage.run(limitMs: 400) { !$0.changes.isEmpty })
    }

    @Test func manyServersShareTheProbesThereAre() throws {
        var stage = try Stage()
        let frozen = try stage.serve(.frozen)
        let good = try stage.serve(.answers(ok))
        var targets: [ProbeTarget] = []
        for number in 0..<(Prober.probesMax + 100) {
            targets.append(
                ProbeTarget(
                    id: "api/s\(number)", address: number < Prober.probesMax ? frozen : good,
                    settings: http(interval: 10_000, timeout: number < Prober.probesMax ? 1000 : 600_000)))
        }
        stage.prober.setTargets(targets, now: System.bootNanoseconds())
        #expect(stage.run { $0.changes.count == targets.count })
        #expect(stage.changes.count { $0.verdict == .up } == 100)
    }
}
