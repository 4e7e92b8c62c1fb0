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
}
