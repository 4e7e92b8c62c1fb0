// RequestLogTests: what a running data plane writes into its access log, request by request and connection by connection.

import Foundation
import Glibc
import Testing

@testable import Proxy

/// A log file in a directory of its own, read as it grows.
private final class LogFile {
    private let directory: String
    var path: String { directory + "/access.log" }

    init() throws {
        directory = NSTemporaryDirectory() + "triad-requests-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func settings(style: LogStyle = .json, keepsQuery: Bool = true) -> AccessLogSettings {
        AccessLogSettings(target: .file(path), style: style, keepsQuery: keepsQuery)
    }

    /// The first lines, as soon as there are so many.
    func lines(_ count: Int) -> [String] {
        var lines: [String] = []
        _ = eventually {
            lines = all
            return lines.count >= count
        }
        return lines
    }

    private var all: [String] {
        let bytes = FileManager.default.contents(atPath: path) ?? Data()
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    func objects(_ count: Int) throws -> [[String: Any]] {
        try lines(count).map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any], "\($0)")
        }
    }
}

@Suite("Access log of requests") struct RequestLogTests {
    @Test("each request of a connection has its line, with what it moved and who answered") func requests() throws {
        let file = try LogFile()
        let server = try TestServer.answering { request in
            "HTTP/1.1 201 Created\r\nContent-Length: \(request.body.count)\r\n\r\n" + request.text
        }
        let plane = try TestPlane([server.route]) { $0.accessLog = file.settings() }
        let wire = try plane.connect()
        try wire.send("GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try wire.readMessage().status == 201)
        try wire.send("POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        #expect(try wire.readMessage().text == "hello")
        let lines = try file.objects(2)
        try #require(lines.count == 2)
        #expect(lines[0]["method"] as? String == "GET" && lines[0]["target"] as? String == "/a?b=c")
        #expect(lines[1]["method"] as? String == "POST" && lines[1]["target"] as? String == "/two")
        for line in lines {
            #expect(line["client"] as? String == "127.0.0.1" && line["status"] as? Int == 201)
            #expect(line["frontend"] as? String == "http" && line["backend"] as? String == "api")
            #expect(line["server"] as? String == String(server.route.id.dropFirst(4)) && line["end"] as? String == "--")
            let spans = try #require(line["ms"] as? [String: Any])
            for name in ["head", "queue", "connect", "response", "total"] { #expect(spans[name] is Int, "\(name)") }
        }
        #expect(lines[0]["bytesIn"] as? Int == 32 && lines[1]["bytesIn"] as? Int == 55)
        let body = try #require(lines[1]["bytesOut"] as? Int)
        #expect(body == (lines[0]["bytesOut"] as? Int).map { $0 + 5 })
    }

    @Test("what ends before its response is said with how far it was and whose doing it was") func failures() throws {
        let file = try LogFile()
        let silent = try TestServer { wire, _, log in
            log.note(try wire.readHead())
            _ = try wire.readToEnd()
        }
        func plane(_ change: (inout ProxyTimeouts) -> Void) throws -> TestPlane {
            try TestPlane([silent.route]) { settings in
                settings.accessLog = file.settings(keepsQuery: false)
                change(&settings.timeouts)
            }
        }
        let patient = try plane { _ in }
        let refused = try patient.connect()
        try refused.send("GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        #expect(try refused.readMessage().status == 400)
        let ofHeads = try plane { $0.requestMs = 300 }
        let slow = try ofHeads.connect()
        try slow.send("GET /sl")
        #expect(try slow.readMessage().status == 408)
        let ofServers = try plane { $0.serverMs = 300 }
        #expect(try ofServers.get("/frozen?key=secret").status == 504)
        #expect(eventually { silent.requests.count == 1 })
        do {
            let impatient = try patient.connect()
            try impatient.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(eventually { silent.requests.count == 2 })
            impatient.resetOnClose()
        }
        let empty = try TestPlane([]) { $0.accessLog = file.settings() }
        #expect(try empty.get("/none").status == 503)
        let lines = try file.objects(5)
        let seen = Set(lines.map { "\($0["status"] as? Int ?? 0) \($0["end"] ?? "") \($0["target"] ?? "")" })
        #expect(seen == ["400 PR ", "408 cR ", "504 sH /frozen…", "0 CH /left", "503 SC /none"])
        #expect(!file.lines(5).contains { $0.contains("secret") })
    }

    @Test("a dead server: the line names the one that answered, and counts the attempts") func retried() throws {
        let file = try LogFile()
        let good = try TestServer.saying("good")
        let dead = TestServer.route(port: closedPort())
        let plane = try TestPlane([dead, good.route]) { $0.accessLog = file.settings() }
        let begun = System.bootNanoseconds()
        for _ in 0..<2 { #expect(try plane.get().text == "good") }
        // It may be tried once more after a while.
        let most = 1 + avoidanceEnds(since: begun)
        let lines = try file.objects(2)
        #expect((1...most).contains(lines.reduce(0) { $0 + ($1["retries"] as? Int ?? 0) }))
        #expect(lines.allSatisfy { $0["server"] as? String == String(good.route.id.dropFirst(4)) })
        #expect(lines.allSatisfy { $0["end"] as? String == "--" })
    }

    @Test("a TCP connection has one line when it ends, with its bytes and its end") func connections() throws {
        let file = try LogFile()
        let server = try TestServer { wire, number, _ in
            _ = try wire.read(5)
            try wire.send("answer")
            if number == 2 { wire.resetOnClose() } else { _ = try wire.readToEnd() }
        }
        let plane = try TestPlane([server.route]) { settings in
            settings.frontends[0].mode = .tcp
            settings.accessLog = file.settings()
        }
        for number in 1...2 {
            let wire = try plane.connect()
            try wire.send("hello")
            #expect(try wire.read(6) == Array("answer".utf8))
            if number == 1 { wire.shutdownWrite() }
            _ = try? wire.readToEnd()
            _ = file.lines(number)
        }
        let lines = try file.objects(2)
        try #require(lines.count == 2)
        for line in lines {
            #expect(line["method"] == nil && line["bytesIn"] as? Int == 5 && line["bytesOut"] as? Int == 6)
        }
        #expect(lines.map { $0["end"] as? String } == ["--", "SD"])
    }

    @Test("the client in the line is the one that a trusted proxy names") func forwarded() throws {
        let file = try LogFile()
        let server = try TestServer.saying("good")
        let plane = try TestPlane([server.route]) { settings in
            let loopback = SocketAddress(high: 0x7f00_0000 << 32, low: 0, port: 0, isIPv6: false)
            settings.frontends[0].trustedProxies = [Network(loopback, prefix: 8)]
            settings.accessLog = file.settings(style: .haproxy)
        }
        let wire = try plane.connect()
        try wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n")
        #expect(try wire.readMessage().status == 200)
        #expect(file.lines(1).first?.hasPrefix("192.0.2.9:") == true)
    }

    @Test("the log is switched on, off and elsewhere while requests go on") func switched() throws {
        let (one, other) = (try LogFile(), try LogFile())
        let server = try TestServer.saying("good")
        let plane = try TestPlane([server.route])
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: plane.port, isIPv6: false)
        var settings = ProxySettings(
            workers: 1, frontends: [FrontendSettings(name: "http", address: address, backend: 0)],
            backends: [BackendSettings(name: "api", balance: .roundRobin)], timeouts: .endless)
        func apply(_ log: AccessLogSettings?, then path: String) throws {
            settings.accessLog = log
            try plane.plane.apply(settings)
            // A worker takes it over between two events; from the first request on that is logged, all are.
            for _ in 0..<200 where try plane.get(path).status != 200 {}
        }
        #expect(try plane.get("/unlogged").status == 200)
        try apply(one.settings(), then: "/one")
        #expect(one.lines(1).allSatisfy { $0.contains("/one") })
        try apply(other.settings(), then: "/other")
        // What was under way to the first may still come into the second before it.
        #expect((1...300).contains { other.lines($0).last?.contains("/other") == true })
        try apply(nil, then: "/off")
        _ = plane.figures { $0.accessLog.written > 0 }
        #expect(!(one.lines(1) + other.lines(1)).contains { $0.contains("/unlogged") })
    }
}
