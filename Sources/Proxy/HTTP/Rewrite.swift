// Rewrite: turns a received head into the one that is forwarded, by copying ranges of its bytes. Pure but for buffers.
//
// RFC 9110, 7.6.1: Connection, what it names, Keep-Alive, Proxy-Connection, TE and Upgrade stay on their own hop; TE:
// trailers is said anew. Requests: an absolute target becomes origin-form with its authority as Host (RFC 9112, 3.2.2);
// Max-Forwards counts down; X-Forwarded-* and Forwarded as the frontend's policy says; version 1.1.
// Responses: what the policy hides is left out; Date is added where it is missing (RFC 9110, 6.6.1); version 1.1.

enum Rewrite {
    /// Copies field lines, joining neighbours that stay into one copy.
    private struct Run {
        private var start = -1
        private var end = -1

        mutating func keep(_ field: Field, _ writer: inout HeadWriter, _ pool: borrowing BufferPool, _ from: Stretch) {
            if Int(field.start) != end {
                flush(&writer, pool, from)
                start = Int(field.start)
            }
            end = Int(field.end)
        }

        mutating func flush(_ writer: inout HeadWriter, _ pool: borrowing BufferPool, _ from: Stretch) {
            if start >= 0 { writer.append(pool, from.buffer, Int(from.start) + start..<Int(from.start) + end) }
            start = -1
            end = -1
        }
    }

    /// Writes the request that a server gets.
    /// - Parameters:
    ///   - from: the received head.
    ///   - host: Host for requests that name none.
    ///   - ownCookie: the name of a cookie that is ours, not the server's; none when it has no buffer.
    static func request(
        _ head: RequestHead, _ table: FieldTable, _ pool: borrowing BufferPool, from: Stretch, peer: SocketAddress,
        host: Stretch, policy: FieldPolicy = FieldPolicy(), ownCookie: Stretch = Stretch(),
        into writer: inout HeadWriter
    ) {
        func range(_ offsets: Range<Int>) -> Range<Int> {
            Int(from.start) + offsets.lowerBound..<Int(from.start) + offsets.upperBound
        }
        writer.append(pool, from.buffer, range(0..<head.methodEnd + 1))
        appendTarget(head, pool, from, range(head.path), &writer)
        writer.append(pool, " HTTP/1.1\r\n")
        let authority = head.authority.isEmpty ? head.host : head.authority
        let writesHost = !head.authority.isEmpty || head.host.isEmpty
        if writesHost {
            writer.append(pool, "Host: ")
            if authority.isEmpty {
                writer.append(pool, host.buffer, Int(host.start)..<Int(host.end))
            } else {
                writer.append(pool, from.buffer, range(authority))
            }
            writer.append(pool, "\r\n")
        }
        var run = Run()
        var kept = KeptOrigin()
        for index in 0..<table.count {
            let field = table[index]
            switch field.name {
            case .connection, .hop, .te: continue
            case .xForwardedFor where policy.style.writesX || !policy.trustsPeer: continue
            case .forwarded where policy.style.writesForwarded || !policy.trustsPeer: continue
            case .xForwardedProto, .xForwardedHost:
                guard policy.trustsPeer else { continue }
                kept.formUnion(field.name == .xForwardedProto ? .proto : .host)
                run.keep(field, &writer, pool, from)
            case .maxForwards where head.maxForwards >= 0: continue
            case .host where writesHost: continue
            case .upgrade where !head.upgrades: continue
            // An HTTP/1.0 client doesn't understand 100 (RFC 9110, 10.1.1).
            case .expect where head.minorVersion == 0: continue
            case .other, .accept, .cookie, .date, .via, .server, .poweredBy, .maxForwards:
                if head.nominates && isNominated(field, table, pool, from) { continue }
                if field.name == .cookie, ownCookie.hasBuffer {
                    run.flush(&writer, pool, from)
                    if appendCookies(field, without: ownCookie, pool, from, &writer) { continue }
                }
                run.keep(field, &writer, pool, from)
            default: run.keep(field, &writer, pool, from)
            }
        }
        run.flush(&writer, pool, from)
        appendOrigin(table, pool, from: from, peer: peer, authority: range(authority), policy, kept, &writer)
        if head.maxForwards > 0 {
            writer.append(pool, "Max-Forwards: ")
            writer.append(pool, number: head.maxForwards - 1)
            writer.append(pool, "\r\n")
        }
        if head.upgrades {
            writer.append(pool, "Connection: upgrade\r\n")
        } else if head.acceptsTrailers {
            // Trailers are passed on, so this may be said in our own name (RFC 9110, 10.1.4).
            writer.append(pool, "TE: trailers\r\nConnection: TE\r\n")
        }
        writer.append(pool, "\r\n")
    }

    /// X-Forwarded- fields of a trusted proxy that stay as they are.
    private struct KeptOrigin: OptionSet {
        let rawValue: UInt8
        static let proto = KeptOrigin(rawValue: 1)
        static let host = KeptOrigin(rawValue: 2)
    }

    /// What the server is told about where the request came from.
    private static func appendOrigin(
        _ table: FieldTable, _ pool: borrowing BufferPool, from: Stretch, peer: SocketAddress, authority: Range<Int>,
        _ policy: FieldPolicy, _ kept: KeptOrigin, _ writer: inout HeadWriter
    ) {
        if policy.style.writesX {
            appendList("X-Forwarded-For: ", .xForwardedFor, table, policy, pool, from, &writer)
            writer.append(pool, peer)
            writer.append(pool, "\r\n")
            if !kept.contains(.proto) { writer.append(pool, "X-Forwarded-Proto: http\r\n") }
            if !kept.contains(.host), !authority.isEmpty {
                writer.append(pool, "X-Forwarded-Host: ")
                writer.append(pool, from.buffer, authority)
                writer.append(pool, "\r\n")
            }
        }
        if policy.style.writesForwarded {
            appendList("Forwarded: ", .forwarded, table, policy, pool, from, &writer)
            appendForwarded(pool, peer, from.buffer, authority, &writer)
        }
    }

    /// The name of a field that gets an element of ours, and what a trusted proxy wrote into it.
    private static func appendList(
        _ start: StaticString, _ name: FieldName, _ table: FieldTable, _ policy: FieldPolicy,
        _ pool: borrowing BufferPool, _ from: Stretch, _ writer: inout HeadWriter
    ) {
        writer.append(pool, start)
        guard policy.trustsPeer else { return }
        for index in 0..<table.count where table[index].name == name && !table[index].value.isEmpty {
            let field = table[index]
            writer.append(
                pool, from.buffer, Int(from.start) + Int(field.valueStart)..<Int(from.start) + Int(field.valueEnd))
            writer.append(pool, ", ")
        }
    }

    /// `for=192.0.2.60;host="example.org";proto=http` (RFC 7239, 4): an address with colons and the host are quoted.
    private static func appendForwarded(
        _ pool: borrowing BufferPool, _ peer: SocketAddress, _ buffer: Int32, _ authority: Range<Int>,
        _ writer: inout HeadWriter
    ) {
        writer.append(pool, peer.isIPv6 ? "for=\"[" : "for=")
        writer.append(pool, peer)
        if peer.isIPv6 { writer.append(pool, "]\"") }
        if !authority.isEmpty {
            writer.append(pool, ";host=\"")
            writer.append(pool, buffer, authority)
            writer.append(pool, "\"")
        }
        writer.append(pool, ";proto=http\r\n")
    }

    private static func appendTarget(
        _ head: RequestHead, _ pool: borrowing BufferPool, _ from: Stretch, _ path: Range<Int>,
        _ writer: inout HeadWriter
    ) {
        if path.isEmpty {
            // RFC 9112, 3.2.4: an absolute target without a path is `*` for OPTIONS.
            writer.append(pool, head.method == .options ? "*" : "/")
            return
        }
        if pool.byte(from.buffer, path.lowerBound) == UInt8(ascii: "?") { writer.append(pool, "/") }
        writer.append(pool, from.buffer, path)
    }

    /// What happens to the client's connection after a response.
    enum Persistence {
        /// Said by saying nothing (HTTP/1.1).
        case stays
        /// Said aloud, to HTTP/1.0 clients.
        case staysAloud
        case closes
        /// 101: the connection changes its protocol.
        case switches
    }

    /// Writes the response head that the client gets.
    /// - Parameters:
    ///   - isPlain: for a client that knows no codings (HTTP/1.0).
    ///   - date: a Date for responses without; none when empty.
    ///   - cookie: of the backend.
    static func response(
        _ head: ResponseHead, _ table: FieldTable, _ pool: borrowing BufferPool, from: Stretch,
        persistence: Persistence, isPlain: Bool, hides: HiddenFields = .all, date: Stretch = Stretch(),
        cookie: CookieOrder = CookieOrder(), into writer: inout HeadWriter
    ) {
        let hasNoBody = head.isInterim || head.status == 204
        // 426 means nothing without it (RFC 9110, 15.5.22).
        let demandsUpgrade = head.status == 426
        writer.append(pool, "HTTP/1.1")
        writer.append(pool, from.buffer, Int(from.start) + 8..<Int(from.start) + head.fieldsStart)
        var run = Run()
        for index in 0..<table.count {
            let field = table[index]
            switch field.name {
            case .connection, .hop, .te: continue
            case .server where hides.contains(.server): continue
            case .poweredBy where hides.contains(.poweredBy): continue
            case .via where hides.contains(.via): continue
            case .upgrade where persistence != .switches && !demandsUpgrade: continue
            // RFC 9110, 8.6: neither length nor coding belongs there; a client might believe them.
            case .contentLength where hasNoBody: continue
            case .transferEncoding where hasNoBody || isPlain: continue
            case .other where cookie.name.hasBuffer && setsCookie(field, cookie.name, pool, from): continue
            case .other, .accept, .cookie, .expect, .host, .maxForwards, .server, .poweredBy, .via, .xForwardedFor,
                .xForwardedProto, .xForwardedHost, .forwarded:
                if head.nominates && isNominated(field, table, pool, from) { continue }
                run.keep(field, &writer, pool, from)
            default: run.keep(field, &writer, pool, from)
            }
        }
        run.flush(&writer, pool, from)
        if !head.hasDate, !head.isInterim, !date.isEmpty {
            writer.append(pool, "Date: ")
            writer.append(pool, date.buffer, Int(date.start)..<Int(date.end))
            writer.append(pool, "\r\n")
        }
        if cookie.name.hasBuffer { appendSetCookie(cookie, head, table, pool, from: from, &writer) }
        switch persistence {
        case .stays: if demandsUpgrade { writer.append(pool, "Connection: upgrade\r\n") }
        case .staysAloud: writer.append(pool, "Connection: keep-alive\r\n")
        case .closes:
            writer.append(pool, demandsUpgrade ? "Connection: close, upgrade\r\n" : "Connection: close\r\n")
        case .switches: writer.append(pool, "Connection: upgrade\r\n")
        }
        writer.append(pool, "\r\n")
    }

    /// Bytes that a rewritten response head may be longer than the received one.
    static let responseGrowthMax = 80 + CookieOrder.bytesMax

    private static func isNominated(
        _ field: Field, _ table: FieldTable, _ pool: borrowing BufferPool, _ from: Stretch
    ) -> Bool {
        pool.bytes(from) { table.isNominated($0, field.nameRange) }
    }
}
