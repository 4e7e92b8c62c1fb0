// Rewrite: turns a received head into the one that is forwarded, by copying ranges of its bytes. Pure but for buffers.
//
// RFC 9110, 7.6.1: Connection, what it names, Keep-Alive, Proxy-Connection, TE and Upgrade stay on their own hop.
// Requests: an absolute target becomes origin-form with its authority as Host (RFC 9112, 3.2.2); X-Forwarded-For gets
// the client's address appended to what came; X-Forwarded-Proto and -Host are replaced; version 1.1.
// Responses: Server, X-Powered-By and Via are left out, so a client can't tell which server answered; version 1.1.

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
    ///   - host: Host for HTTP/1.0 requests that name none.
    static func request(
        _ head: RequestHead, _ table: FieldTable, _ pool: borrowing BufferPool, from: Stretch, peer: SocketAddress,
        host: Stretch, into writer: inout HeadWriter
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
        for index in 0..<table.count {
            let field = table[index]
            switch field.name {
            case .connection, .hop, .xForwardedFor, .xForwardedProto, .xForwardedHost: continue
            case .host where writesHost: continue
            case .upgrade where !head.upgrades: continue
            // An HTTP/1.0 client doesn't understand 100 (RFC 9110, 10.1.1).
            case .expect where head.minorVersion == 0: continue
            case .other where head.nominates && isNominated(field, table, pool, from): continue
            default: run.keep(field, &writer, pool, from)
            }
        }
        run.flush(&writer, pool, from)
        writer.append(pool, "X-Forwarded-For: ")
        for index in 0..<table.count where table[index].name == .xForwardedFor && !table[index].value.isEmpty {
            writer.append(pool, from.buffer, range(table[index].value))
            writer.append(pool, ", ")
        }
        writer.append(pool, peer)
        writer.append(pool, "\r\nX-Forwarded-Proto: http\r\n")
        if !authority.isEmpty {
            writer.append(pool, "X-Forwarded-Host: ")
            writer.append(pool, from.buffer, range(authority))
            writer.append(pool, "\r\n")
        }
        if head.upgrades { writer.append(pool, "Connection: upgrade\r\n") }
        writer.append(pool, "\r\n")
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
    /// - Parameter decoded: the body is sent without its chunked coding.
    static func response(
        _ head: ResponseHead, _ table: FieldTable, _ pool: borrowing BufferPool, from: Stretch,
        persistence: Persistence, decoded: Bool, into writer: inout HeadWriter
    ) {
        let hasNoBody = head.isInterim || head.status == 204
        writer.append(pool, "HTTP/1.1")
        writer.append(pool, from.buffer, Int(from.start) + 8..<Int(from.start) + head.fieldsStart)
        var run = Run()
        for index in 0..<table.count {
            let field = table[index]
            switch field.name {
            case .connection, .hop, .identity: continue
            case .upgrade where persistence != .switches: continue
            // RFC 9110, 8.6: neither length nor coding belongs there; a client might believe them.
            case .contentLength where hasNoBody || head.dropsLength: continue
            case .transferEncoding where hasNoBody || decoded: continue
            case .other where head.nominates && isNominated(field, table, pool, from): continue
            default: run.keep(field, &writer, pool, from)
            }
        }
        run.flush(&writer, pool, from)
        switch persistence {
        case .stays: break
        case .staysAloud: writer.append(pool, "Connection: keep-alive\r\n")
        case .closes: writer.append(pool, "Connection: close\r\n")
        case .switches: writer.append(pool, "Connection: upgrade\r\n")
        }
        writer.append(pool, "\r\n")
    }

    /// Bytes that a rewritten response head may be longer than the received one.
    static let responseGrowthMax = 32

    private static func isNominated(
        _ field: Field, _ table: FieldTable, _ pool: borrowing BufferPool, _ from: Stretch
    ) -> Bool {
        pool.bytes(from) { table.isNominated($0, field.nameRange) }
    }
}
