// StatusClientTests: the commands' URL, HTTP client and whole command lines, against a status port on a thread of its
// own and against ports that refuse, freeze or answer nonsense.

import CLinux
import Glibc
import Proxy
import Synchronization
import Testing

@testable import Node

/// A status port that runs beside the test until `stop`; it answers changes as a runtime would.
private final class Port: Sendable {
    private let port = Mutex<UInt16>(0)
    private let stopped = Atomic(false)
    private let thread = Mutex<pthread_t?>(nil)

    /// A thread of its own: the pool's are few, and all tests share them.
    private final class Work {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// - Parameter raw: answer every connection with these bytes and close, instead of running a status server;
    ///   empty: never answer.
    init(
        _ access: StatusAccess = StatusAccess(token: "sesame"), raw: String? = nil,
        until isTime: @escaping @Sendable () -> Bool = { true }
    ) throws {
        let work = Work { [self] in
            do {
                if let raw { try serveRaw(raw, isTime) } else { try serve(access) }
            } catch { Issue.record(error) }
        }
        var started = pthread_t()
        let outcome = pthread_create(
            &started, nil,
            { argument in
                if let argument { Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body() }
                return nil
            }, Unmanaged.passRetained(work).toOpaque())
        try #require(outcome == 0)
        thread.withLock { $0 = started }
        let isThere = eventually { port.withLock { $0 } != 0 }
        try #require(isThere)
    }

    var url: String { "http://127.0.0.1:\(port.withLock { $0 })" }

    func client(timeoutMs: Int = waitMsMax, token: String? = nil) throws -> HTTPClient {
        HTTPClient(url: try StatusURL(url), timeoutMs: timeoutMs, token: token)
    }

    func stop() {
        stopped.store(true, ordering: .relaxed)
        if let thread = thread.withLock({ $0 }) { pthread_join(thread, nil) }
    }

    private static let any = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)

    private func serve(_ access: StatusAccess) throws {
        let reactor = try Reactor()
        var server = StatusServer(listenerKind: 6, connectionKind: 7, access: access)
        try server.listen([Self.any], reactor: reactor)
        port.withLock { $0 = server.ports[0] }
        while !stopped.load(ordering: .relaxed) {
            let count = reactor.wait(timeoutMs: 10)
            let now = System.bootNanoseconds()
            for index in 0..<count {
                let (token, readiness) = reactor.event(at: index)
                server.handle(token, readiness, now: now, reactor: reactor)
            }
            server.tick(now: now, reactor: reactor)
            if server.needsReport { server.respond(.sample(), now: now) }
            for (ticket, request) in server.takeAdminRequests() {
                if case .remove(let id) = request {
                    server.answer(ticket, status: 404, text: "there is no server \(id)", now: now)
                } else {
                    server.answer(ticket, status: 200, text: "done: \(request.path)", now: now)
                }
            }
        }
    }

    private func serveRaw(_ raw: String, _ isTime: () -> Bool) throws {
        let listener = try System.socket(AF_INET, SOCK_STREAM.rawValue)
        defer { System.close(listener) }
        try System.bind(listener, Self.any)
        try System.listen(listener, backlog: 16)
        port.withLock { $0 = System.localPort(listener) }
        while !stopped.load(ordering: .relaxed) {
            usleep(2000)
            var peer = Self.any
            guard !raw.isEmpty, let connection = System.accept(listener, &peer).descriptor else { continue }
            // The whole request first, and the client's end last: closing before would reset the connection.
            var bytes: [UInt8] = []
            _ = eventually { System.read(connection, onto: &bytes, atMost: 65_536) != .wouldBlock }
            _ = eventually(isTime)
            _ = System.write(connection, Array(raw.utf8), from: 0)
            System.shutdownWrite(connection)
            _ = eventually {
                switch System.read(connection, onto: &bytes, atMost: 65_536) {
                case .moved, .wouldBlock: false
                case .ended, .failed: true
                }
            }
            System.close(connection)
        }
    }
}

/// What two threads count.
private final class Count: Sendable {
    private let number = Atomic(0)
    var value: Int { number.load(ordering: .sequentiallyConsistent) }
    func add() { number.wrappingAdd(1, ordering: .sequentiallyConsistent) }
}

@Suite struct StatusClientTests {
    @Test(arguments: [
        ("http://127.0.0.1:8084", "127.0.0.1:8084", ""), ("10.0.0.11", "10.0.0.11:8084", ""),
        ("http://10.0.0.11/", "10.0.0.11:8084", ""), ("HTTP://[::1]:99/status", "[::1]:99", ""),
        ("http://[2001:db8::1]", "[2001:db8::1]:8084", ""), ("http://10.0.0.11:80/triad/", "10.0.0.11:80", "/triad"),
        ("http://u:p@10.0.0.11:80/triad/status", "10.0.0.11:80", "/triad"),
    ])
    func urls(_ text: String, _ address: String, _ prefix: String) throws {
        let url = try StatusURL(text)
        #expect(url.addresses.map(\.description) == [address])
        #expect(url.prefix == prefix)
        #expect(!url.text.contains("@"))
        #expect((url.authorization == "Basic dTpw") == text.contains("@"))
    }

    @Test func localhostIsBoth() throws {
        #expect(try StatusURL("localhost").addresses.map(\.description) == ["127.0.0.1:8084", "[::1]:8084"])
        #expect(try StatusURL("http://localhost:99").addresses.map(\.description) == ["127.0.0.1:99", "[::1]:99"])
    }

    @Test(arguments: [
        "", "https://10.0.0.11", "http://", "http://example.com", "http://10.0.0.11:0", "http://10.0.0.11:99999",
        "http://localhost:x", "http://::1:80", "http://10.0.0.11/a b",
    ])
    func wrongURLs(_ text: String) { #expect(throws: UsageProblem.self) { try StatusURL(text) } }

    @Test func aStatusIsFetched() throws {
        let port = try Port()
        let (report, bytes) = try StatusCommand.fetch(try port.client())
        #expect(report.node == "n1")
        #expect(bytes == StatusReport.sample().json() + [10])
        port.stop()
    }

    @Test func changesAreMadeAndRefusalsTold() throws {
        let port = try Port()
        let drain = AdminRequest.handover(to: "n2")
        var answer = try port.client(token: "sesame").send(drain.path, body: drain.body)
        #expect(answer.status == 200)
        #expect(answer.text.contains("done: /admin/handover"))
        answer = try port.client().send(drain.path, body: drain.body)
        #expect(answer.status == 401)
        port.stop()
    }

    @Test func aLongWaitIsExplainedOnceAndAQuickAnswerNotAtAll() throws {
        let told = Count()
        let slow = try Port(raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") { told.value > 0 }
        var client = try slow.client()
        client.onSilence = (20, { told.add() })
        #expect(try client.send("/admin/handover", body: []).text == "ok")
        #expect(told.value == 1)
        slow.stop()
        let quick = try Port()
        client = try quick.client(token: "sesame")
        client.onSilence = (waitMsMax, { told.add() })
        let request = AdminRequest.handover(to: nil)
        #expect(try client.send(request.path, body: request.body).status == 200)
        #expect(told.value == 1)
        quick.stop()
    }

    @Test func commandLinesEndWithTheRightCode() throws {
        let port = try Port()
        let url = "--url=\(port.url)"
        // No token here: TRIAD_TOKEN is not set in a test run.
        #expect(Commands.run(["status", url]) == 0)
        #expect(Commands.run(["status", url, "--json"]) == 0)
        #expect(Commands.run(["watch", url, "--interval", "100", "--count", "2"]) == 0)
        #expect(Commands.run(["drain", "api/api_1", url]) == 1)
        #expect(Commands.run(["drain", "api/api_1", url, "--token-file", "/nonexistent"]) == 1)
        let wrong: [[String]] = [
            ["status", "extra"], ["status", "--url", "https://x"], ["drain"], ["drain", "api_1"],
            ["weight", "api/api_1"], ["weight", "api/api_1", "257"], ["weight", "api/api_1", "-1"],
            ["add", "api/api_1"], ["add", "api/api_1", "example.com:80"], ["handover", "--to", "no such name"],
            ["remove", "api/api_1", "--sudo"], ["watch", "--interval", "5"],
            ["force-leader"], ["force-leader", "--i-accept-two-owners"], ["force-leader", "--node", "n1", url],
            ["force-leader", "--node", "no such name", "--i-accept-two-owners", url],
        ]
        for words in wrong { #expect(Commands.run(words) == 2, "\(words)") }
        port.stop()
        #expect(Commands.run(["status", url]) == 1)
        #expect(Commands.run(["watch", url]) == 1)
    }

    @Test func aTokenFileWorks() throws {
        let port = try Port()
        let file = "/tmp/status-token-\(getpid())"
        let disk = Disk()
        let opened = try disk.open(file, .replace)
        try disk.write(opened, Array("sesame\n".utf8), at: 0)
        disk.close(opened)
        defer { unlink(file) }
        let common = ["--url", port.url, "--token-file", file]
        for words in [
            ["drain", "api/api_1"], ["ready", "api/api_1"], ["maint", "api/api_1"], ["weight", "api/api_1", "0"],
            ["add", "api/api_9", "10.0.0.29:8080"], ["handover"], ["handover", "--to", "n2"],
            ["force-leader", "--node", "n1", "--i-accept-two-owners"],
        ] {
            #expect(Commands.run(words + common) == 0, "\(words)")
        }
        #expect(Commands.run(["remove", "api/api_77"] + common) == 1)
        port.stop()
    }

    @Test func aPasswordTravelsInTheURL() throws {
        let port = try Port(StatusAccess(user: "u", password: "pass"))
        #expect(throws: HTTPProblem.self) { try StatusCommand.fetch(try port.client()) }
        let url = port.url.replacing("http://", with: "http://u:pass@")
        #expect(try StatusCommand.fetch(HTTPClient(url: StatusURL(url))).0.node == "n1")
        port.stop()
    }

    @Test func failuresAreOneClearLine() throws {
        let cases: [(String, String)] = [
            ("", "no answer within 300 ms"), ("garbage", "the answer isn't HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", "the answer is cut short"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "the answer is cut short"),
            ("HTTP/1.1 200 OK\r\n\r\n<html>\nother\n", "isn't a node's status"),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\none\ntwo\nx", "answered 500: one"),
        ]
        for (raw, expected) in cases {
            let port = try Port(raw: raw)
            let client = try port.client(timeoutMs: raw.isEmpty ? 300 : 10_000)
            do throws(HTTPProblem) {
                _ = try StatusCommand.fetch(client)
                Issue.record("\(raw.debugDescription) was taken for a status")
            } catch {
                #expect(error.description.contains(expected), "\(error)")
                #expect(!error.description.contains("\n"))
                #expect(error.description.contains("http://127.0.0.1:"))
            }
            port.stop()
        }
    }
}
