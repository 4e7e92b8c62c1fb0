// ProxyHeaderTests: PROXY headers of both versions, well-formed and not, as readable cases; and those that are written.

import Testing

@testable import Proxy

@Suite("PROXY headers") struct ProxyHeaderTests {
    private func parse(_ bytes: [UInt8]) -> String { Self.describe(ProxyHeader.parse(bytes.span)) }
    private func parse(_ text: String) -> String { parse(Array(text.utf8)) }

    /// `N: SOURCE > DESTINATION`, where N bytes are the header's.
    private static func describe(_ outcome: ProxyHeader.Outcome) -> String {
        switch outcome {
        case .needMore: "more"
        case .malformed: "malformed"
        case .complete(let header):
            "\(header.count): " + (header.addresses.map { "\($0.source) > \($0.destination)" } ?? "nobody")
        }
    }

    /// A header of version 2 from hexadecimal digits; `SIG` stands for its signature.
    private func binary(_ text: String) -> [UInt8] {
        text.split(separator: " ").flatMap { word -> [UInt8] in
            if word == "SIG" { return ProxyHeader.signature }
            let digits = Array(word)
            return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
        }
    }

    @Test(
        "version 1, well-formed",
        arguments: [
            ("PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r\nGET /", "39: 1.2.3.4:56324 > 10.0.0.1:443"),
            ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "44: 255.255.255.255:65535 > 0.0.0.0:0"),
            ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "32: [2001:db8::1]:1 > [::1]:2"),
            ("PROXY TCP6 :: 1:2:3:4:5:6:7:8 1 2\r\n", "35: [::]:1 > [1:2:3:4:5:6:7:8]:2"),
            ("PROXY TCP6 fe80:: 1:2:3:4:5:6:7:: 1 2\r\n", "39: [fe80::]:1 > [1:2:3:4:5:6:7:0]:2"),
            ("PROXY TCP6 ABCD::ef12 1:2::7:8 1 2\r\n", "36: [abcd::ef12]:1 > [1:2::7:8]:2"),
            // Written as IPv6, an IPv4 address all the same.
            ("PROXY TCP6 ::ffff:1.2.3.4 ::ffff:102:305 1 2\r\n", "46: 1.2.3.4:1 > 1.2.3.5:2"),
            ("PROXY UNKNOWN\r\n", "15: nobody"),
            ("PROXY UNKNOWN ffff::1 whatever 1 2\r\nrest", "36: nobody"),
        ]) func textWellFormed(_ text: String, _ expected: String)
    {
        #expect(parse(text) == expected)
        // Nothing is decided before the last byte.
        let end = Int(expected.prefix { $0 != ":" })!
        for count in 0..<end { #expect(parse(Array(text.utf8.prefix(count))) == "more") }
    }

    @Test("the longest line of version 1 is one byte shorter than one that is too long") func textLength() {
        let longest = "PROXY UNKNOWN " + String(repeating: "x", count: 91) + "\r\n"
        #expect(longest.utf8.count == 107)
        #expect(parse(longest) == "107: nobody")
        #expect(parse("PROXY UNKNOWN " + String(repeating: "x", count: 92) + "\r\n") == "malformed")
        #expect(parse("PROXY UNKNOWN " + String(repeating: "x", count: 500)) == "malformed")
    }

    @Test(
        "version 1, malformed",
        arguments: [
            "GET / HTTP/1.1\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY\r\n", "PROXY \r\n", "PROXY TCP4\r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX", "PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\0\r\n", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.4. 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1..3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n", "PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n",
            "PROXY TCP6 1::2::3 ::1 1 2\r\n", "PROXY TCP6 ::: ::1 1 2\r\n", "PROXY TCP6 :1 ::1 1 2\r\n",
            "PROXY TCP6 1: ::1 1 2\r\n", "PROXY TCP6 1:2:3:4:5:6:7:8:: ::1 1 2\r\n",
            "PROXY TCP6 12345::1 ::1 1 2\r\n", "PROXY TCP6 g::1 ::1 1 2\r\n", "PROXY TCP6 ::1%eth0 ::1 1 2\r\n",
            "PROXY TCP6 [::1] ::1 1 2\r\n", "PROXY TCP6 ::1.2.3.4:5 ::1 1 2\r\n", "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNX\r\n",
        ]) func textMalformed(_ text: String)
    {
        #expect(parse(text) == "malformed")
    }

    @Test(
        "version 2, well-formed",
        arguments: [
            ("SIG 21 11 000c 01020304 0a000001 dc04 01bb 4745", "28: 1.2.3.4:56324 > 10.0.0.1:443"),
            (
                "SIG 21 21 0024 20010db8000000000000000000000001 00000000000000000000000000000001 0001 0002",
                "52: [2001:db8::1]:1 > [::1]:2"
            ),
            (
                "SIG 21 21 0024 00000000000000000000ffff01020304 00000000000000000000ffff01020305 0001 0002",
                "52: 1.2.3.4:1 > 1.2.3.5:2"
            ),
            // A check of whoever is before us; its addresses, if any, are not looked at.
            ("SIG 20 00 0000", "16: nobody"),
            ("SIG 20 11 0003 010203", "19: nobody"),
            // Two extensions behind the addresses: 03 (a checksum), 04 (padding, empty).
            ("SIG 21 11 0016 01020304 0a000001 dc04 01bb 03 0004 01020304 04 0000", "38: 1.2.3.4:56324 > 10.0.0.1:443"),
            // Families that name no client we could use.
            ("SIG 21 00 0000", "16: nobody"),
            ("SIG 21 00 0002 ffff", "18: nobody"),
            ("SIG 21 12 000c 01020304 0a000001 dc04 01bb", "28: nobody"),
            ("SIG 21 31 00d8 " + String(repeating: "2f", count: 216), "232: nobody"),
        ]) func binaryWellFormed(_ text: String, _ expected: String)
    {
        let bytes = binary(text)
        #expect(parse(bytes) == expected)
        let end = Int(expected.prefix { $0 != ":" })!
        for count in 0..<end { #expect(parse(Array(bytes.prefix(count))) == "more") }
    }

    @Test(
        "version 2, malformed",
        arguments: [
            "0d0a0d0a000d0a515549540b", "0d0a0d0b", "SIG 11", "SIG 31", "SIG 22", "SIG 2f", "SIG 21 41", "SIG 21 13",
            // Shorter than its addresses.
            "SIG 21 11 000b 01020304 0a000001 dc04 01", "SIG 21 21 000c 01020304 0a000001 dc04 01bb",
            "SIG 21 31 000c 01020304 0a000001 dc04 01bb",
            // Longer than is read.
            "SIG 21 11 0801", "SIG 20 00 ffff",
            // Extensions that end within a value, or within their own length.
            "SIG 21 11 0010 01020304 0a000001 dc04 01bb 03 0002 01", "SIG 21 11 000e 01020304 0a000001 dc04 01bb 03 00",
        ]) func binaryMalformed(_ text: String)
    {
        #expect(parse(binary(text)) == "malformed")
    }

    @Test("no bytes are read beyond what is there, whatever they are") func anything() {
        var state: UInt64 = 42
        func random(_ below: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % below
        }
        let seeds = [
            Array("PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 1 2\r\n".utf8),
            binary("SIG 21 11 0013 01020304 0a000001 dc04 01bb 03 0004 01020304"),
        ]
        for _ in 0..<5_000 {
            var bytes = seeds[random(2)]
            for _ in 0...random(3) { bytes[random(bytes.count)] = UInt8(random(256)) }
            bytes = Array(bytes.prefix(random(bytes.count + 1)))
            guard case .complete(let header) = ProxyHeader.parse(bytes.span) else { continue }
            #expect(header.count <= bytes.count)
        }
    }

    // MARK: written

    private func written(_ version: ProxyVersion, from: String, to: String) throws -> [UInt8] {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1)
        var writer = HeadWriter(pool, pool.take())
        let addresses = try ProxyHeader.Addresses(
            source: #require(SocketAddress(from)), destination: #require(SocketAddress(to)))
        ProxyHeader.append(version, addresses, pool, to: &writer)
        return pool.bytes(Stretch(buffer: writer.buffer, start: 0, end: Int32(writer.at))) { span in
            span.indices.map { span[$0] }
        }
    }

    @Test("what is written is what the other side reads") func writing() throws {
        let line = try written(.v1, from: "1.2.3.4:56324", to: "10.0.0.1:80")
        #expect(String(decoding: line, as: UTF8.self) == "PROXY TCP4 1.2.3.4 10.0.0.1 56324 80\r\n")
        #expect(
            try written(.v2, from: "1.2.3.4:56324", to: "10.0.0.1:443")
                == binary("SIG 21 11 000c 01020304 0a000001 dc04 01bb"))
        let pairs = [
            ("1.2.3.4:1", "5.6.7.8:65535"), ("[2001:db8::1]:10", "[::1]:100"),
            ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            // One family for both; each is read as what it was.
            ("1.2.3.4:1000", "[2001:db8::1]:10000"),
        ]
        for (from, to) in pairs {
            for version in [ProxyVersion.v1, .v2] {
                let bytes = try written(version, from: from, to: to)
                #expect(bytes.count <= ProxyHeader.writtenBytesMax)
                #expect(parse(bytes) == "\(bytes.count): \(from) > \(to)")
            }
        }
    }

    @Test("our own connections speak for nobody") func greetings() {
        #expect(parse(ProxyVersion.v1.ownGreeting) == "15: nobody")
        #expect(parse(ProxyVersion.v2.ownGreeting) == "16: nobody")
    }

    @Test("networks contain what their prefix says") func networks() throws {
        let cases = [
            ("10.0.0.0", 8, "10.255.1.2", true), ("10.0.0.0", 8, "11.0.0.0", false), ("0.0.0.0", 0, "9.9.9.9", true),
            ("0.0.0.0", 0, "::1", false), ("1.2.3.4", 32, "1.2.3.4", true), ("1.2.3.4", 32, "1.2.3.5", false),
            ("2001:db8::", 32, "2001:db8:ffff::1", true), ("2001:db8::", 32, "2001:db9::1", false),
            ("::1", 128, "::1", true), ("::1", 128, "::2", false), ("2001:db8::1:0", 112, "2001:db8::1:ffff", true),
            ("2001:db8::1:0", 112, "2001:db8::2:0", false), ("fe80::", 64, "fe80::1", true),
        ]
        for (first, prefix, address, isIn) in cases {
            let network = Network(try #require(SocketAddress(address: first, port: 0)), prefix: prefix)
            let found = network.contains(try #require(SocketAddress(address: address, port: 9)))
            #expect(found == isIn, "\(address) in \(first)/\(prefix)")
        }
    }
}
