// MutationTests: heads and bodies with random damage, seeded: whatever arrives, parsing ends with an outcome, and what
// is accepted has offsets that lie within it. A failure names the seed and the round that show it again.

import Testing

@testable import Proxy

@Suite("Mutations") struct MutationTests {
    private struct Random {
        var state: UInt64
        mutating func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
    }

    private static let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a?b HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nConnection: close, X\r\nX: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; srv=x;; srv=\"y\"; b\r\nCookie: srv=z\r\n\r\n",
        "OPTIONS http://a.b:1 HTTP/1.0\r\nContent-Length: 12\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nExpect: 100-continue\r\nY:\r\n\r\n",
    ]
    private static let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie: srv=1\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.0 304\r\nServer: x\r\nConnection: a,b,,c\r\n\r\n",
        "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nX-Powered-By: y\r\nContent-Length: 3\r\n\r\n",
    ]
    private static let spice: [UInt8] = Array("\r\n\r\n :,;\t\0\u{7f}/*?#@[]%0123456789aA".utf8) + [0x80, 0xff]

    private func damaged(_ text: String, _ random: inout Random) -> [UInt8] {
        var bytes = Array(text.utf8)
        for _ in 0...random.next(4) {
            let at = random.next(bytes.count)
            switch random.next(4) {
            case 0: bytes[at] = Self.spice[random.next(Self.spice.count)]
            case 1: bytes.insert(Self.spice[random.next(Self.spice.count)], at: at)
            case 2 where bytes.count > 4: bytes.remove(at: at)
            default: bytes.insert(contentsOf: bytes[at..<min(at + random.next(20), bytes.count)], at: at)
            }
        }
        return bytes
    }

    @Test("heads", arguments: [UInt64(1), 2, 3, 4]) func heads(seed: UInt64) {
        var random = Random(state: seed)
        let pool = BufferPool(smallBytes: 4_096, smallMax: 3)
        let (buffer, target, names) = (pool.take(), pool.take(), pool.take())
        pool.store(ContiguousArray("srv".utf8), names, 0)
        let cookie = Stretch(buffer: names, start: 0, end: 3)
        var fields = FieldTable(max: 20)
        var accepted = 0
        for round in 0..<5_000 {
            let isRequest = random.next(2) == 0
            let source = isRequest ? Self.requests : Self.responses
            let bytes = damaged(source[random.next(source.count)], &random)
            pool.store(ContiguousArray(bytes), buffer, 0)
            var scan = HeadScan()
            let all = Stretch(buffer: buffer, start: 0, end: Int32(bytes.count))
            guard case .complete(let count) = scan.advance(pool, all), count > 2 else { continue }
            let head = Stretch(buffer: buffer, start: 0, end: Int32(count))
            var writer = HeadWriter(pool, target)
            if isRequest {
                let parsed = pool.bytes(head) { try? RequestHead.parse($0, into: &fields, bodyMax: .max) }
                guard let parsed else { continue }
                accepted += 1
                Rewrite.request(
                    parsed, fields, pool, from: head, peer: SocketAddress(high: 0, low: 0, port: 0, isIPv6: false),
                    host: Stretch(buffer: buffer, start: 0, end: 1), ownCookie: cookie, into: &writer)
                let written = Stretch(buffer: target, start: 0, end: Int32(writer.at))
                // What we send must be acceptable to ourselves, and framed the same.
                let again = pool.bytes(written) { try? RequestHead.parse($0, into: &fields, bodyMax: .max) }
                #expect(again?.framing == parsed.framing, "seed \(seed), round \(round)")
                // The second reading left its fields.
                let hasOwn = pool.bytes(written) { bytes in
                    (0..<fields.count).contains { index in
                        guard fields[index].name == .cookie else { return false }
                        var cursor = Int(fields[index].valueStart)
                        while let pair = Cookies.next(bytes, &cursor, Int(fields[index].valueEnd)) {
                            if pool.equals(bytes, pair.name, cookie) { return true }
                        }
                        return false
                    }
                }
                #expect(!hasOwn, "seed \(seed), round \(round)")
            } else {
                let parsed = pool.bytes(head) { ResponseHead.parse($0, into: &fields, isHead: false) }
                guard let parsed else { continue }
                accepted += 1
                Rewrite.response(
                    parsed, fields, pool, from: head, persistence: .closes, isPlain: false,
                    cookie: CookieOrder(name: cookie, isSecure: true, value: StickValue(nonce: 1, sealed: 2)),
                    into: &writer)
                #expect(writer.at <= count + Rewrite.responseGrowthMax, "seed \(seed), round \(round)")
                let written = Stretch(buffer: target, start: 0, end: Int32(writer.at))
                let again = pool.bytes(written) { ResponseHead.parse($0, into: &fields, isHead: false) }
                #expect(again?.framing == parsed.framing, "seed \(seed), round \(round)")
            }
        }
        // Damage that nobody notices must be part of it, or the rest means little.
        #expect(accepted > 200)
    }

    @Test("chunked bodies: a division never changes the outcome", arguments: [UInt64(5), 6, 7]) func bodies(
        seed: UInt64
    ) {
        var random = Random(state: seed)
        for round in 0..<3_000 {
            let bytes = damaged("5;a=b\r\nhello\r\n00a\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET", &random)
            var whole = BodyFramer.chunked
            let end = whole.advance(bytes.span)
            var parts = BodyFramer.chunked
            var at = 0
            while at < bytes.count, !parts.isDone, !parts.isBroken {
                let piece = Array(bytes[at..<min(at + 1 + random.next(7), bytes.count)])
                at += parts.advance(piece.span)
            }
            #expect(parts == whole && at == end, "seed \(seed), round \(round)")
        }
    }
}
