// CheckResponseTests: heads that an HTTP check accepts and refuses, whole and byte by byte.

import Testing

@testable import Proxy

@Suite struct CheckResponseTests {
    private static func whole(_ text: String) -> CheckResponse.Outcome {
        var response = CheckResponse()
        return response.read(Array(text.utf8))
    }

    private static func dribbled(_ text: String) -> CheckResponse.Outcome {
        var response = CheckResponse()
        for byte in text.utf8 {
            let outcome = response.read([byte])
            if outcome != .needMore { return outcome }
        }
        return .needMore
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\n\r\n", 200),
        ("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nbody", 404),
        ("HTTP/1.1 204 \r\nX-Empty:\r\n\r\n", 204),
        ("HTTP/1.1 204\r\n\r\n", 204),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\n\r\n", 503),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101),
    ])
    func accepts(_ text: String, _ status: Int) {
        #expect(Self.whole(text) == .status(status))
        #expect(Self.dribbled(text) == .status(status))
    }

    @Test(arguments: [
        "SSH-2.0-OpenSSH_9.2\r\n", "\u{16}\u{3}\u{1}", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 099 No\r\n\r\n", "HTTP/1.1 600 No\r\n\r\n",
        "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\nA: b\n\r\n", "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "HTTP/1.1 200 OK\r\nA: \u{0}\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n",
    ])
    func refuses(_ text: String) {
        for outcome in [Self.whole(text), Self.dribbled(text)] {
            guard case .refused = outcome else {
                Issue.record("\(outcome) for \(text.debugDescription)")
                continue
            }
        }
    }

    @Test(arguments: [
        "", "HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r", "HTTP/1.1 100 Continue\r\n\r\n",
    ])
    func waitsForTheRest(_ text: String) {
        #expect(Self.whole(text) == .needMore)
        #expect(Self.dribbled(text) == .needMore)
    }

    @Test func limitsTheHead() {
        let field = "X-Filler: " + String(repeating: "a", count: 1000) + "\r\n"
        let text = "HTTP/1.1 200 OK\r\n" + String(repeating: field, count: 17) + "\r\n"
        #expect(Self.whole(text) == .refused("answer head over 16 KiB"))
        #expect(Self.dribbled(text) == .refused("answer head over 16 KiB"))
        #expect(Self.whole("HTTP/1.1 200 OK\r\nA: " + String(repeating: "a", count: 20_000)) != .needMore)
    }

    // MARK: bodies

    private static func read(_ text: String, bytes: Int, isHead: Bool = false) -> (CheckResponse, CheckResponse.Outcome)
    {
        var response = CheckResponse(readsBodyOf: StatusRanges([200...299]), isHead: isHead)
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let outcome = response.read(Array(rest.prefix(bytes)))
            if outcome != .needMore { return (response, outcome) }
            rest = rest.dropFirst(bytes)
        }
        return (response, response.end())
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodxx", "good"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\ngo\r\n2\r\nod\r\n0\r\nT: t\r\n\r\n", "good"),
        ("HTTP/1.1 200 OK\r\n\r\ngood", "good"), ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", "good"),
        ("HTTP/1.1 204 No\r\n\r\n", ""), ("HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n", ""),
        // Not asked for.
        ("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\n", ""),
    ])
    func readsABodyToItsEnd(_ text: String, _ body: String) throws {
        for bytes in [1, 3, 1 << 20] {
            let (response, outcome) = Self.read(text, bytes: bytes)
            guard case .status = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(String(decoding: response.body, as: UTF8.self) == body && !response.isCut)
        }
        #expect(Self.read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", bytes: 99, isHead: true).1 == .status(200))
    }

    @Test(arguments: [
        ("Content-Length: 4\r\n\r\ngoo", "connection closed within the answer"),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n", "connection closed within the answer"),
        ("Transfer-Encoding: chunked\r\n\r\n4\ngood\r\n", "malformed answer: its chunks aren't chunks"),
        ("Transfer-Encoding: gzip\r\n\r\n", "malformed answer: Transfer-Encoding gzip"),
        ("Content-Length: -4\r\n\r\n", "malformed answer: Content-Length -4"),
        ("Content-Length: 4\r\nContent-Length: 5\r\n\r\n", "malformed answer: two values of Content-Length"),
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "malformed answer: both Content-Length and chunked"
        ),
    ])
    func refusesABodyWithoutAClearEnd(_ rest: String, _ reason: String) {
        for bytes in [1, 1 << 20] {
            #expect(Self.read("HTTP/1.1 200 OK\r\n" + rest, bytes: bytes).1 == .refused(reason))
        }
    }

    @Test func limitsTheBody() {
        let long = String(repeating: "a", count: CheckResponse.bodyBytesMax + 1)
        for head in ["Content-Length: 300000", "X: y"] {
            let (response, outcome) = Self.read("HTTP/1.1 200 OK\r\n\(head)\r\n\r\n" + long, bytes: 10_000)
            #expect(outcome == .status(200) && response.isCut && response.body.count == CheckResponse.bodyBytesMax)
        }
    }

    @Test(arguments: [
        ("X-Triad-State: drain", true), ("x-triad-state:\tDRAIN ", true), ("X-Triad-State: draining", false),
        ("X-Triad-States: drain", false),
    ])
    func noticesThatTheServerAsksToBeDrained(_ field: String, _ asks: Bool) {
        var response = CheckResponse()
        _ = response.read(Array("HTTP/1.1 103 Hints\r\nX-Triad-State: drain\r\n\r\n".utf8))
        #expect(response.read(Array("HTTP/1.1 503 No\r\n\(field)\r\n\r\n".utf8)) == .status(503))
        #expect(response.hasDrainField == asks)
    }
}
