// RefusalTests: everything that request smuggling and sloppy clients live on gets its status, and the connection closes.
// Each case names the rule's section (RFC 9112 unless said otherwise). The server behind must not see any of them.

import Testing

@testable import Proxy

@Suite("Refusals") struct RefusalTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let rule: String
        let status: Int
        let bytes: String
        init(_ rule: String, _ status: Int, _ bytes: String) {
            self.rule = rule
            self.status = status
            self.bytes = bytes
        }
        var testDescription: String { rule }
    }

    private static let head = "POST / HTTP/1.1\r\nHost: a\r\n"

    static let cases: [Case] = [
        // Lengths and codings.
        Case("6.3, two lengths that differ", 400, head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        Case("6.3, a repeated length", 400, head + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        Case("6.3, a list of lengths", 400, head + "Content-Length: 5, 5\r\n\r\nhello"),
        Case("RFC 9110 8.6, a signed length", 400, head + "Content-Length: +5\r\n\r\nhello"),
        Case("RFC 9110 8.6, a negative length", 400, head + "Content-Length: -5\r\n\r\nhello"),
        Case("RFC 9110 8.6, a hexadecimal length", 400, head + "Content-Length: 0x5\r\n\r\nhello"),
        Case("RFC 9110 8.6, an empty length", 400, head + "Content-Length:\r\n\r\n"),
        Case("RFC 9110 8.6, a length of words", 400, head + "Content-Length: 1 2\r\n\r\n"),
        Case("RFC 9110 15.5.14, a length beyond numbers", 413, head + "Content-Length: 99999999999999999999\r\n\r\n"),
        Case("RFC 9110 15.5.14, a body beyond the limit", 413, head + "Content-Length: 20000000\r\n\r\n"),
        Case("6.1, length and coding", 400, head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Case("6.1, coding and length", 400, head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        Case("6.1, a coding in HTTP/1.0", 400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Case("6.3, a coding that isn't chunked", 400, head + "Transfer-Encoding: gzip\r\n\r\n"),
        Case("6.3, chunked not last", 400, head + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        Case("7, chunked twice", 400, head + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        Case("6.1, chunked over another coding", 501, head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        Case(
            "6.1, two lines of codings", 400, head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Case("6.1, identity", 400, head + "Transfer-Encoding: identity\r\n\r\n"),
        Case("6.1, a parameter", 400, head + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
        Case("6.1, an x in front", 400, head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        Case("5.5, a vertical tab before chunked", 400, head + "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
        // Lines and names.
        Case("2.2, bare LF in the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        Case("2.2, bare LF after a field", 400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        Case("2.2, bare LF as the empty line", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        Case("2.2, bare CR in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
        Case("2.2, bare CR in the request line", 400, "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("5.2, a folded line", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        Case("5.2, a folded line with a tab", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n"),
        Case("2.2, a space before the first field", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        Case("5.1, a space before the colon", 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        Case("5.1, a tab before the colon", 400, "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"),
        Case("5.1, an empty name", 400, "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
        Case("5.1, a line without a colon", 400, "GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n"),
        Case("RFC 9110 5.1, a space in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"),
        Case("RFC 9110 5.1, a bracket in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n"),
        Case("RFC 9110 5.1, a byte above 127 in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: b\r\n\r\n"),
        Case("RFC 9110 5.5, NUL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        Case("RFC 9110 5.5, DEL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\u{7f}b\r\n\r\n"),
        Case("RFC 9110 5.1, NUL in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n"),
        // Request line.
        Case("3, two spaces", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("3, a space in the target", 400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("3, a tab for a space", 400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("3, a space at the end", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        Case("3, no version (HTTP/0.9)", 400, "GET /\r\n\r\n"),
        Case("3, a byte above 127 in the target", 400, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("3.2, a fragment in the target", 400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("3.2, a target that is no path", 400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("3.2.2, a user in the authority", 400, "GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        Case("3.2.2, an empty authority", 400, "GET http:/// HTTP/1.1\r\nHost: b\r\n\r\n"),
        Case("3.2.2, another scheme", 400, "GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        Case("3.2.4, * for GET", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("2.3, lower case version", 400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
        Case("2.3, a version of words", 400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        Case("2.3, HTTP/2's preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Case("2.3, version 3.0", 505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        Case("RFC 9110 9.3.6, CONNECT", 501, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        Case("RFC 9110 9.1, no method", 400, " / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("RFC 9110 9.1, a method that is no token", 400, "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case(
            "RFC 9110 15.6.2, a method beyond measure", 501, String(repeating: "A", count: 40) + " / HTTP/1.1\r\n\r\n"),
        Case("TLS to the wrong port", 400, "\u{16}\u{3}\u{1}\u{2}\u{0}"),
        // Host.
        Case("3.2, no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
        Case("3.2, two Hosts", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        Case("3.2, a path in Host", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        Case("3.2, a user in Host", 400, "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        Case("3.2, a list in Host", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        // Limits.
        Case("3, a target beyond the limit", 414, "GET /" + String(repeating: "a", count: 20_000)),
        Case(
            "RFC 6585 5, a field beyond the limit", 431,
            "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "a", count: 20_000)),
        Case(
            "RFC 6585 5, too many fields", 431,
            "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X: a\r\n", count: 100) + "\r\n"),
        Case(
            "7.6.1 RFC 9110, too many Connection options", 400,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + String(repeating: "a,", count: 40) + "\r\n\r\n"),
        // Chunks.
        Case("7.1, a size that isn't hexadecimal", 400, head + "Transfer-Encoding: chunked\r\n\r\nG\r\n"),
        Case("7.1, no size", 400, head + "Transfer-Encoding: chunked\r\n\r\n\r\n"),
        Case("7.1, a signed size", 400, head + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n"),
        Case("7.1, a size with 0x", 400, head + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
        Case("7.1, a size beyond numbers", 400, head + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n"),
        Case(
            "7.1, zeros beyond measure", 400, head + "Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n"),
        Case("7.1, bare LF after the size", 400, head + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
        Case("7.1, data longer than said", 400, head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"),
        Case("7.1, bare LF after data", 400, head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"),
        Case("7.1.1, bare LF in an extension", 400, head + "Transfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n"),
        Case(
            "7.1.1, an extension beyond measure", 400,
            head + "Transfer-Encoding: chunked\r\n\r\n5;" + String(repeating: "a", count: 300) + "\r\nhello\r\n"),
        Case("7.1.2, a trailer without a colon", 400, head + "Transfer-Encoding: chunked\r\n\r\n0\r\nnothing\r\n\r\n"),
        Case("7.1.2, a folded trailer", 400, head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n"),
        Case("7.1.2, bare LF at the end", 400, head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\n"),
    ]

    @Test("is answered, and the connection closes", arguments: cases) func refused(_ item: Case) throws {
        let server = try TestServer.saying("seen")
        let plane = try TestPlane([server.route]) { $0.limits.requestBodyBytesMax = 10_000_000 }
        let wire = try plane.connect()
        // Sent in one go, so that a broken body is seen before a server is.
        try wire.send(item.bytes.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) })
        let response = try wire.readMessage()
        #expect(response.status == item.status)
        #expect(response["connection"] == ["close"])
        #expect(response["content-type"] == ["application/json"])
        #expect(response.text.contains("\"status\":\(item.status)"))
        #expect(wire.isClosed())
        #expect(server.requests.isEmpty)
        let figures = plane.plane.figures
        #expect(figures.refused == 1 && figures.responses[item.status / 100] == 1)
    }

    @Test("what looks odd but is allowed goes through") func allowed() throws {
        let server = try TestServer.saying("seen")
        let plane = try TestPlane([server.route])
        let wire = try plane.connect()
        for (sent, seen) in [
            // 2.2: an empty line before a request.
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1"),
            // RFC 9110 5.5: bytes above 127, tabs and spaces in values, empty values.
            ("GET /b HTTP/1.1\r\nHost:\ta \r\nX: \u{e9}\t \"q\"\r\nY:\r\n\r\n", "GET /b HTTP/1.1"),
            // 3.2.2: absolute-form, whose authority replaces Host.
            ("GET http://example.org:80/c?d HTTP/1.1\r\nHost: other\r\n\r\n", "GET /c?d HTTP/1.1"),
            ("GET HTTP://example.org?d HTTP/1.1\r\nHost: other\r\n\r\n", "GET /?d HTTP/1.1"),
            ("OPTIONS http://example.org HTTP/1.1\r\nHost: other\r\n\r\n", "OPTIONS * HTTP/1.1"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1"),
            // RFC 9110 9.1: methods nobody registered; 2.5: a higher minor version.
            ("BREW /pot HTTP/1.2\r\nHost: [::1]:80\r\n\r\n", "BREW /pot HTTP/1.1"),
        ] {
            try wire.send(sent.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) })
            #expect(try wire.readMessage().status == 200)
            #expect(server.requests.last?.startLine == seen)
        }
        #expect(server.requests[2]["host"] == ["example.org:80"])
        #expect(server.requests[2]["x-forwarded-host"] == ["example.org:80"])
    }
}
