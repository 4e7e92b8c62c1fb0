// OriginTests: who a request came from, as read from what proxies say, and other small pure pieces: addresses, networks,
// dates, the choice between HTML and JSON.

import Glibc
import Testing

@testable import Proxy

@Suite("Origin") struct OriginTests {
    private static func address(_ text: String) -> SocketAddress? { SocketAddress(address: text, port: 0) }

    private static func parse(_ text: String) -> SocketAddress? {
        let bytes = Array(text.utf8)
        return AddressText.parse(bytes.span, 0..<bytes.count)
    }

    @Test(
        "addresses are read as the system reads them",
        arguments: [
            "1.2.3.4", "255.255.255.255", "0.0.0.0", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1..2.3",
            "1.2.3.4.",
            "", " ", "a", "::", "::1", "1::", "2001:db8::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2::3", ":1:2", "1:2:", ":::", "12345::", "g::", "::10.0.0.1",
            "1:2:3:4:5:6:10.0.0.1", "1:2:3:4:5:6:7:10.0.0.1", "::10.0.0", "64:ff9b::192.0.2.33", "fe80::1%eth0", "::1 ",
            "1:2:3:4::5:6:7:8",
        ])
    func addresses(text: String) {
        let expected = Self.address(text)
        // An IPv4 address in IPv6's clothes is IPv4 here.
        #expect(Self.parse(text) == expected, "\(text)")
        if text.contains(":") { #expect(Self.parse("[\(text)]:8080") == expected, "\(text)") }
    }

    @Test("ports and brackets belong to it; mapped addresses are IPv4") func forms() {
        #expect(Self.parse("1.2.3.4:80") == Self.address("1.2.3.4"))
        #expect(Self.parse("[::1]") == Self.address("::1"))
        #expect(Self.parse("::ffff:1.2.3.4") == Self.address("1.2.3.4"))
        for wrong in ["1.2.3.4:", "1.2.3.4:a", "1.2.3.4:123456", "[::1", "[::1]:", "[::1]80", "[1.2.3.4]", "[]"] {
            #expect(Self.parse(wrong) == nil, "\(wrong)")
        }
    }

    @Test(
        "a network has the addresses of its prefix",
        arguments: [
            ("10.0.0.0", 8, "10.255.0.1", true), ("10.0.0.0", 8, "11.0.0.1", false), ("10.1.2.3", 16, "10.1.9.9", true),
            ("1.2.3.4", 32, "1.2.3.4", true), ("1.2.3.4", 32, "1.2.3.5", false), ("0.0.0.0", 0, "9.9.9.9", true),
            ("0.0.0.0", 0, "::1", false), ("2001:db8::", 32, "2001:db8:ffff::1", true),
            ("2001:db8::", 32, "2001:db9::1", false), ("2001:db8::", 64, "2001:db8::ffff", true),
            ("2001:db8::", 64, "2001:db8:0:1::", false), ("2001:db8::10", 124, "2001:db8::1f", true),
            ("2001:db8::10", 124, "2001:db8::20", false), ("::1", 128, "::1", true), ("::1", 128, "::2", false),
        ])
    func networks(base: String, prefix: Int, address: String, isIn: Bool) throws {
        let network = Network(try #require(Self.address(base)), prefix: prefix)
        #expect(network.contains(try #require(Self.address(address))) == isIn)
    }

    private static func isTrusted(_ address: SocketAddress) -> Bool { address.high >> 56 == 10 }

    @Test(
        "the client is the rightmost address of X-Forwarded-For that isn't trusted",
        arguments: [
            (["1.1.1.1"], "1.1.1.1"), (["1.1.1.1, 10.0.0.1"], "1.1.1.1"), (["1.1.1.1, 2.2.2.2, 10.0.0.1"], "2.2.2.2"),
            (["1.1.1.1", "2.2.2.2", "10.0.0.1, 10.0.0.2"], "2.2.2.2"), (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            (["1.1.1.1, unknown, 10.0.0.1, 10.0.0.2"], "10.0.0.1"), (["1.1.1.1, unknown"], ""), ([""], ""), ([], ""),
            (["1.1.1.1:99,, [2001:db8::1]:80 ,10.0.0.1"], "2001:db8::1"),
        ])
    func xForwardedFor(lines: [String], client: String) {
        var chain = ForwardedChain()
        for line in lines {
            let bytes = Array(line.utf8)
            chain.addX(bytes.span, 0..<bytes.count, isTrusted: Self.isTrusted)
        }
        #expect(chain.client == Self.address(client))
    }

    @Test(
        "and that of Forwarded (RFC 7239, 4)",
        arguments: [
            (["for=1.1.1.1"], "1.1.1.1"), (["For=\"1.1.1.1:80\";proto=https;by=10.0.0.9"], "1.1.1.1"),
            (["proto=http;FOR = \"[2001:db8::1]:4711\", for=10.0.0.1"], "2001:db8::1"),
            (["for=1.1.1.1, for=2.2.2.2;host=\"a,for=3.3.3.3\"", "for=10.0.0.1"], "2.2.2.2"),
            (["for=1.1.1.1;host=\"a\\\",for=3.3.3.3\""], "1.1.1.1"),
            (["for=1.1.1.1, for=_hidden, for=10.0.0.1"], "10.0.0.1"),
            (["for=1.1.1.1, proto=https"], ""), (["for=1.1.1.1, host=\"a"], ""), (["for=1.1.1.1,"], "1.1.1.1"),
            (["for=unknown"], ""), (["\"for=1.1.1.1\""], ""), ([""], ""), (["for=\"1.1.1.1"], ""),
        ])
    func forwarded(lines: [String], client: String) {
        var chain = ForwardedChain()
        for line in lines {
            let bytes = Array(line.utf8)
            chain.addForwarded(bytes.span, 0..<bytes.count, isTrusted: Self.isTrusted)
        }
        #expect(chain.client == Self.address(client))
    }

    @Test(
        "browsers get HTML, programs JSON (RFC 9110, 12.5.1)",
        arguments: [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true), ("*/*", false), ("", false),
            ("application/json", false), ("application/json, text/html", false), ("text/html, application/json", true),
            ("text/html;q=0.5, application/json", false),
            ("application/json;q=0.5, TEXT/HTML ; level=1; q=0.501", true),
            ("text/html;q=0", false), ("text/*", false), ("text/html;q=x, application/json;q=0.1", false),
            ("text/htmlx", false), ("application/json;q=0.3,text/html;q=0.30", false),
        ])
    func accept(value: String, html: Bool) {
        let bytes = Array(value.utf8)
        #expect(Accept.prefersHTML(bytes.span, 0..<bytes.count) == html, "\(value)")
    }

    @Test(
        "dates are as the C library writes them",
        arguments: [
            0, 784_111_777, 951_782_399, 951_782_400, 951_868_800, 1_709_164_800, 1_709_251_199, 4_107_542_400,
            4_102_444_799, 1_735_689_599, 1_735_689_600, 253_402_300_799,
        ])
    func dates(seconds: Int) {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1)
        let stretch = Stretch(buffer: pool.take(), start: 7, end: Int32(7 + DateText.bytes))
        DateText.write(seconds, pool, into: stretch)
        let written = pool.bytes(stretch) { span in (0..<span.count).map { span[$0] } }
        var (time, parts) = (time_t(seconds), tm())
        gmtime_r(&time, &parts)
        var text = [CChar](repeating: 0, count: 64)
        let count = strftime(&text, 64, "%a, %d %b %Y %H:%M:%S GMT", &parts)
        #expect(written == text[..<count].map { UInt8(bitPattern: $0) })
    }
}
