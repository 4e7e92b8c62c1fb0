// StickCookieTests: the cookie that keeps a client with its server, without sockets: how it is written, read, found and
// taken out of requests.

import Testing

@testable import Proxy

@Suite("Stick cookies") struct StickCookieTests {
    static func key(_ seed: UInt8) -> StickKey { StickKey(secret: (0..<32).map { seed &+ $0 }) }

    private static func text(_ value: StickValue) -> String {
        String(decoding: (0..<StickValue.characters).map(value.character), as: UTF8.self)
    }

    private static func value(_ text: String) -> StickValue? {
        let bytes = Array(text.utf8)
        return StickValue(bytes.span, 0..<bytes.count)
    }

    private static func table(_ keys: [StickKey], _ servers: Int = 5) -> StickTable {
        var table = StickTable()
        table.update(
            ContiguousArray(keys), ContiguousArray((0..<servers).map { .init(slot: Int32($0), key: UInt64($0) + 100) }))
        return table
    }

    @Test("SipHash-2-4 of a word") func sip() {
        // Key 00 01 … 0f and message 00 01 … 07, as in the reference's test vectors.
        let hash = SipHash(key0: 0x0706_0504_0302_0100, key1: 0x0f0e_0d0c_0b0a_0908)
        #expect(hash.hash(0x0706_0504_0302_0100) == 0x93f5_f579_9a93_2462)
    }

    @Test("a value is base64url without padding, and read back") func writing() {
        // By Python's base64.urlsafe_b64encode.
        let known = StickValue(nonce: 0x0001_0203_0405_0607, sealed: 0xfbff_fefd_fcfb_faf9)
        #expect(Self.text(known) == "AAECAwQFBgf7__79_Pv6-Q")
        #expect(Self.value("AAECAwQFBgf7__79_Pv6-Q") == known)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<500 {
            let value = StickValue(nonce: generator.next(), sealed: generator.next())
            #expect(Self.value(Self.text(value)) == value)
        }
    }

    @Test(
        "what isn't a value",
        arguments: [
            "", "A", "AAECAwQFBgf7__79_Pv6-", "AAECAwQFBgf7__79_Pv6-QA", "AAECAwQFBgf7//79/Pv6+Q",
            "AAECAwQFBgf7__79_Pv6=Q", "AAECAwQFBgf7__79_Pv6-R", "AAECAwQFBgf7__79_Pv6 Q", "AAECAwQFBgf7__79_Pv6-\u{e9}",
        ]) func malformed(_ text: String)
    { #expect(Self.value(text) == nil) }

    @Test("a value means its server, another nonce another value, and no change of it means any server") func meaning()
    {
        let table = Self.table([Self.key(1)])
        var seen: Set<String> = []
        for server in 0..<5 {
            for nonce in UInt64(0)..<4 {
                let value = table.value(for: UInt64(server) + 100, nonce: nonce)
                seen.insert(Self.text(value))
                #expect(table.meaning(of: value) == .init(slot: Int32(server), isFresh: true))
                for bit in UInt64(0)..<64 {
                    let other = StickValue(nonce: value.nonce ^ 1 << bit, sealed: value.sealed)
                    let another = StickValue(nonce: value.nonce, sealed: value.sealed ^ 1 << bit)
                    #expect(table.meaning(of: other) == nil && table.meaning(of: another) == nil)
                }
            }
        }
        #expect(seen.count == 20)
        #expect(StickTable().meaning(of: StickValue(nonce: 0, sealed: 0)) == nil)
        // The sealed parts of two servers under one nonce differ by their fingerprints alone: nonces must not repeat.
        #expect(table.value(for: 100, nonce: 1).sealed != table.value(for: 100, nonce: 2).sealed)
    }

    @Test("through the three rounds of a change of the key every node reads what any other one makes") func rotation() {
        let (old, new) = (Self.key(1), Self.key(200))
        let rounds = [[old], [old, new], [new, old], [new]]
        for (before, after) in zip(rounds, rounds.dropFirst()) {
            for (maker, reader) in [(before, after), (after, before)] {
                let value = Self.table(maker).value(for: 103, nonce: 7)
                let meaning = Self.table(reader).meaning(of: value)
                #expect(meaning == .init(slot: 3, isFresh: maker[0] == reader[0]))
            }
        }
        #expect(Self.table([new]).meaning(of: Self.table([old]).value(for: 103, nonce: 7)) == nil)
    }

    @Test("4,096 servers under eight keys") func limits() {
        let keys = (0..<8).map { Self.key($0 * 32) }
        var table = Self.table(keys, 4_096)
        for server in stride(from: 0, to: 4_096, by: 99) {
            for key in keys {
                let value = key.value(for: UInt64(server) + 100, nonce: UInt64(server))
                #expect(table.meaning(of: value) == .init(slot: Int32(server), isFresh: key == keys[0]))
            }
        }
        // A server that is gone is nobody; another slot is the same server.
        table.update(ContiguousArray(keys), [.init(slot: 9, key: 101)])
        #expect(table.meaning(of: keys[3].value(for: 101, nonce: 1)) == .init(slot: 9, isFresh: false))
        #expect(table.meaning(of: keys[0].value(for: 100, nonce: 1)) == nil)
    }

    // MARK: heads

    /// What a server gets of these field lines.
    private static func request(_ lines: String) throws -> String {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 3)
        let (source, target, names) = (pool.take(), pool.take(), pool.take())
        let bytes = ContiguousArray("GET / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n".utf8)
        pool.store(bytes, source, 0)
        pool.store(ContiguousArray("srv".utf8), names, 0)
        let from = Stretch(buffer: source, start: 0, end: Int32(bytes.count))
        var fields = FieldTable(max: 20)
        let head = try pool.bytes(from) { bytes in
            Result { () throws(Refusal) in try RequestHead.parse(bytes, into: &fields, bodyMax: .max) }
        }.get()
        var writer = HeadWriter(pool, target)
        Rewrite.request(
            head, fields, pool, from: from, peer: SocketAddress(high: 0, low: 0, port: 0, isIPv6: false),
            host: Stretch(), policy: FieldPolicy(style: .none), ownCookie: Stretch(buffer: names, start: 0, end: 3),
            into: &writer)
        let written = pool.bytes(Stretch(buffer: target, start: 0, end: Int32(writer.at))) { span in
            (0..<span.count).map { span[$0] }
        }
        let start = Array("GET / HTTP/1.1\r\nHost: a\r\n".utf8)
        #expect(written.starts(with: start) && written.suffix(4) == [13, 10, 13, 10])
        return String(decoding: written.dropFirst(start.count).dropLast(2), as: UTF8.self)
    }

    @Test(
        "our pairs leave a request, the rest stays byte for byte, and so do lines without them",
        arguments: [
            ("Cookie: srv=x\r\n", ""), ("Cookie: srv\r\n", ""), ("Cookie: srv=\"x\" ; srv=y;\r\n", ""),
            ("cookie:  a=1;  b = \"2\";c;; d==\r\n", "cookie:  a=1;  b = \"2\";c;; d==\r\n"),
            ("Cookie: a=1; srv=x\r\n", "Cookie: a=1\r\n"), ("Cookie: srv=x; a=1\r\n", "Cookie: a=1\r\n"),
            ("COOKIE:a=1;srv=x;  b=2\r\n", "COOKIE:a=1;  b=2\r\n"),
            ("Cookie: a=1; srv=x; b=2; srv=y; c=3\r\n", "Cookie: a=1; b=2; c=3\r\n"),
            ("Cookie: srv=x; srv=y; b=2; srv=z\r\n", "Cookie: b=2\r\n"),
            ("Cookie: a=srv=x; Srv=y; srv2=z; xsrv=q\r\n", "Cookie: a=srv=x; Srv=y; srv2=z; xsrv=q\r\n"),
            ("Cookie: ;; srv=x; ;\r\n", ""), ("Cookie: a=1;;; srv=x;; b=2;\r\n", "Cookie: a=1;;;; b=2;\r\n"),
            ("Cookie:\r\n", "Cookie:\r\n"), ("Cookie: ;\r\n", "Cookie: ;\r\n"),
            (
                "X: 1\r\nCookie: srv=x\r\nY: 2\r\nCookie: b=2; srv=x\r\nZ: srv=3\r\n",
                "X: 1\r\nY: 2\r\nCookie: b=2\r\nZ: srv=3\r\n"
            ),
        ]) func removal(_ lines: String, _ left: String) throws
    { #expect(try Self.request(lines) == left) }

    private static func response(_ lines: String, status: Int = 200, isSecure: Bool = false) throws -> (String, Int) {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 3)
        let (source, target, names) = (pool.take(), pool.take(), pool.take())
        let bytes = ContiguousArray("HTTP/1.1 \(status) OK\r\n\(lines)\r\n".utf8)
        pool.store(bytes, source, 0)
        let name = String(repeating: "n", count: StickCookie.nameBytesMax)
        pool.store(ContiguousArray(name.utf8), names, 0)
        DateText.write(0, pool, into: Stretch(buffer: names, start: 100, end: 100 + Int32(DateText.bytes)))
        let from = Stretch(buffer: source, start: 0, end: Int32(bytes.count))
        var fields = FieldTable(max: 20)
        let head = try #require(pool.bytes(from) { ResponseHead.parse($0, into: &fields, isHead: false) })
        let order = CookieOrder(
            name: Stretch(buffer: names, start: 0, end: Int32(name.utf8.count)), isSecure: isSecure,
            value: StickValue(nonce: 0, sealed: .max))
        var writer = HeadWriter(pool, target)
        Rewrite.response(
            head, fields, pool, from: from, persistence: status == 101 ? .switches : .closes, isPlain: false,
            date: Stretch(buffer: names, start: 100, end: 100 + Int32(DateText.bytes)), cookie: order, into: &writer)
        let text = pool.bytes(Stretch(buffer: target, start: 0, end: Int32(writer.at))) { span in
            String(decoding: (0..<span.count).map { span[$0] }, as: UTF8.self)
        }
        return (text.replacing(name, with: "NAME"), writer.at - bytes.count)
    }

    @Test("Set-Cookie, and who may keep the response") func setting() throws {
        let cookie = "Set-Cookie: NAME=AAAAAAAAAAD__________w; Path=/; HttpOnly; SameSite=Lax"
        let plain = try Self.response("Upgrade: x\r\nContent-Length: 0\r\n").0
        #expect(plain.contains("\r\n\(cookie)\r\nCache-Control: private\r\n"))
        let said = try Self.response("CACHE-control: no-cache\r\nContent-Length: 0\r\n", isSecure: true).0
        #expect(said.contains("\r\n\(cookie); Secure\r\n") && !said.contains("Cache-Control: private"))
        let upgrade = try Self.response("Connection: upgrade\r\nUpgrade: websocket\r\n", status: 101).0
        #expect(upgrade.contains(cookie) && !upgrade.contains("Cache-Control"))
        // With all that a head can get: `Connection: close, upgrade` comes with 426.
        let (longest, growth) = try Self.response("Content-Length: 0\r\n", status: 426, isSecure: true)
        #expect(longest.contains("Date: ") && longest.contains("close, upgrade") && longest.contains("private"))
        #expect(growth <= Rewrite.responseGrowthMax && growth > Rewrite.responseGrowthMax - 40)
    }

    @Test("a server's own cookie of this name is left out, its others stay") func serversCookie() throws {
        let name = String(repeating: "n", count: StickCookie.nameBytesMax)
        let text = try Self.response(
            "Set-Cookie: a=1; Path=/\r\nset-cookie: \(name) = 2; Path=/\r\nSet-Cookie: \(name)x=3\r\nX: \(name)=4\r\n"
        ).0
        #expect(text.contains("Set-Cookie: a=1; Path=/\r\nSet-Cookie: NAMEx=3\r\nX: NAME=4\r\n"))
        #expect(!text.contains("set-cookie: NAME"))
    }
}
