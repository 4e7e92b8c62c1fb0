// FramerTests: the body framer and small pure pieces of HTTP, on bytes in every division.

import Testing

@testable import Proxy

@Suite("Body framer") struct FramerTests {
    /// Where the framer says the body ends, fed in pieces of `step` bytes; nil when broken or not done.
    private func end(_ framer: BodyFramer, _ text: String, step: Int) -> Int? {
        var framer = framer
        let bytes = Array(text.utf8)
        var at = 0
        while at < bytes.count, !framer.isDone, !framer.isBroken {
            let piece = Array(bytes[at..<min(at + step, bytes.count)])
            at += framer.advance(piece.span)
        }
        return framer.isDone ? at : nil
    }

    @Test(
        "chunked bodies end where they end, however they arrive (RFC 9112, 7.1)",
        arguments: [
            "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1\r\na\r\n2\r\nbc\r\n000\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\n",
            "a;x\r\n0123456789\r\n0;y=\"z\"\r\n\r\n", "1 ;x\r\na\r\n0\r\n\r\n", "1\r\na\r\n0\r\nT: v\r\nU:\r\n\r\n",
            "2\r\n\r\n\r\n0\r\n\r\n",
        ])
    func chunked(text: String) {
        for step in 1...8 { #expect(end(.chunked, text + "GET / ", step: step) == text.utf8.count) }
    }

    @Test(
        "trailers don't say what only a head may (RFC 9110, 6.5.1)",
        arguments: ["Content-Length: 2", "transfer-encoding: chunked", "HOST: a", "A: b\r\nX-Forwarded-For: c"])
    func trailers(text: String) {
        for step in 1...8 { #expect(end(.chunked, "2\r\nok\r\n0\r\n\(text)\r\n\r\n", step: step) == nil) }
    }

    @Test("a length counts bytes; none left is done") func length() {
        for step in 1...8 { #expect(end(.length(5), "helloGET", step: step) == 5) }
        #expect(BodyFramer.length(0).isDone)
        #expect(end(.length(9), "hello", step: 2) == nil)
    }

    @Test("until close never ends") func untilClose() {
        #expect(end(.untilClose, String(repeating: "a", count: 100), step: 7) == nil)
    }

    @Test("pieces tell content from framing") func pieces() {
        var framer = BodyFramer.chunked
        let bytes = Array("3;x\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\nrest".utf8)
        var content: [UInt8] = []
        var at = 0
        while !framer.isDone && !framer.isBroken {
            let piece = framer.step(bytes.span, from: at)
            if piece.kind == .data { content += bytes[at..<piece.end] }
            at = piece.end
        }
        #expect(content == Array("abcde".utf8) && Array(bytes[at...]) == Array("rest".utf8))
    }

    @Test("limits on extensions and trailers") func limits() {
        let long = String(repeating: "a", count: 5_000)
        #expect(end(.chunked, "1;\(long)\r\na\r\n0\r\n\r\n", step: 100) == nil)
        #expect(end(.chunked, "0\r\nT: \(long)\r\n\r\n", step: 100) == nil)
    }

    @Test("byte classes are those of the RFCs") func classes() {
        let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        for byte in UInt8.min...UInt8.max {
            let character = Character(Unicode.Scalar(byte))
            #expect(Bytes.isToken(byte) == (letters + "!#$%&'*+-.^_`|~").contains(character))
            #expect(Bytes.isAuthority(byte) == (letters + "-._~!$&'()*+;=:[]%").contains(character))
            #expect(Bytes.isValue(byte) == (byte == 9 || byte >= 32 && byte != 127))
        }
    }

    @Test(
        "addresses in X-Forwarded-For are in their shortest form (RFC 5952)",
        arguments: [
            "127.0.0.1", "10.20.30.255", "::", "::1", "2001:db8::1", "2001:db8:0:1:1:1:1:1", "1:0:0:2::3",
            "fe80::a:0:0",
            "1:2:3:4:5:6:7:8", "ff02::",
        ])
    func addresses(text: String) throws {
        let address = try #require(SocketAddress(address: text, port: 1))
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1)
        let buffer = pool.take()
        var writer = HeadWriter(pool, buffer)
        writer.append(pool, address)
        let written = pool.bytes(Stretch(buffer: buffer, start: 0, end: Int32(writer.at))) { span in
            (0..<span.count).map { span[$0] }
        }
        #expect(String(decoding: written, as: UTF8.self) == address.host)
    }

    @Test("a writer stops at its buffer's end and says so") func overflow() {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1)
        let buffer = pool.take()
        var writer = HeadWriter(pool, buffer, at: 4_090)
        writer.append(pool, "12345")
        #expect(!writer.overflowed && writer.at == 4_095)
        writer.append(pool, "67")
        #expect(writer.overflowed && writer.at == 4_095)
        writer.append(pool, "8")
        #expect(writer.at == 4_095)
    }
}
