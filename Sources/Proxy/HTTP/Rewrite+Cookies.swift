// Rewrite+Cookies: the cookie that keeps a client with its server: clients get it, servers don't see it. Pure.
// RFC 6265, 4.1 (Set-Cookie) and 4.2 (Cookie); RFC 6265bis for SameSite; RFC 9111, 5.2.2.7 (Cache-Control: private).

/// What a response says of its backend's cookie.
struct CookieOrder: BitwiseCopyable {
    /// In a buffer of its own; without one there is no such cookie.
    var name = Stretch()
    var isSecure = false
    /// What the client gets; nil: it has what it needs.
    var value: StickValue?

    /// More than it adds to a head.
    static let bytesMax = 176
}

extension Rewrite {
    /// Writes a Cookie field without the pairs of this name; every other pair stays byte for byte, and nothing is written
    /// if there is nothing else. False when it has no such pair.
    static func appendCookies(
        _ field: Field, without name: Stretch, _ pool: borrowing BufferPool, _ from: Stretch,
        _ writer: inout HeadWriter
    ) -> Bool {
        let value = field.value
        guard let rest = pool.bytes(from, { rest(of: value, without: name, $0, pool) }) else { return false }
        if rest.isEmpty { return true }
        let base = Int(from.start)
        writer.append(pool, from.buffer, base + Int(field.start)..<base + Int(field.valueStart))
        pool.bytes(from) { bytes in
            var (cursor, at) = (value.lowerBound, value.lowerBound)
            while at < value.upperBound {
                let pair = Cookies.next(bytes, &cursor, value.upperBound)
                if let pair, !pool.equals(bytes, pair.name, name) { continue }
                let kept = (at..<(pair?.whole.lowerBound ?? value.upperBound)).clamped(to: rest)
                writer.append(pool, from.buffer, base + kept.lowerBound..<base + kept.upperBound)
                at = pair?.whole.upperBound ?? value.upperBound
            }
        }
        writer.append(pool, "\r\n")
        return true
    }

    /// From the first to the last of the other pairs, without what separated them from those at the ends; nil when all are
    /// others.
    private static func rest(
        of value: Range<Int>, without name: Stretch, _ bytes: Span<UInt8>, _ pool: borrowing BufferPool
    ) -> Range<Int>? {
        var (start, end) = (-1, value.lowerBound)
        var (isFound, isLast) = (false, false)
        var cursor = value.lowerBound
        while let pair = Cookies.next(bytes, &cursor, value.upperBound) {
            isLast = pool.equals(bytes, pair.name, name)
            if isLast {
                isFound = true
                continue
            }
            if start < 0 { start = isFound ? pair.name.lowerBound : value.lowerBound }
            end = pair.whole.upperBound - (bytes[pair.whole.upperBound - 1] == Cookies.separator ? 1 : 0)
        }
        guard isFound else { return nil }
        return start < 0 ? value.lowerBound..<value.lowerBound : start..<(isLast ? end : value.upperBound)
    }

    /// Whether a field is a server's Set-Cookie of this name.
    static func setsCookie(
        _ field: Field, _ name: Stretch, _ pool: borrowing BufferPool, _ from: Stretch
    ) -> Bool {
        pool.bytes(from) { bytes in
            guard Bytes.equal(bytes, field.nameRange, "set-cookie") else { return false }
            var cursor = Int(field.valueStart)
            guard let pair = Cookies.next(bytes, &cursor, Int(field.valueEnd)) else { return false }
            return pool.equals(bytes, pair.name, name)
        }
    }

    /// Writes the Set-Cookie that is due, and keeps the response out of caches that are shared, unless it says itself who
    /// may keep it.
    static func appendSetCookie(
        _ order: CookieOrder, _ head: ResponseHead, _ table: FieldTable, _ pool: borrowing BufferPool, from: Stretch,
        _ writer: inout HeadWriter
    ) {
        guard let value = order.value else { return }
        writer.append(pool, "Set-Cookie: ")
        writer.append(pool, order.name)
        writer.append(pool, byte: UInt8(ascii: "="))
        for index in 0..<StickValue.characters { writer.append(pool, byte: value.character(index)) }
        writer.append(pool, "; Path=/; HttpOnly; SameSite=Lax")
        if order.isSecure { writer.append(pool, "; Secure") }
        writer.append(pool, "\r\n")
        // 101 is no response that anybody could keep.
        if !head.isInterim, !hasCacheControl(table, pool, from) { writer.append(pool, "Cache-Control: private\r\n") }
    }

    private static func hasCacheControl(_ table: FieldTable, _ pool: borrowing BufferPool, _ from: Stretch) -> Bool {
        pool.bytes(from) { bytes in
            for index in 0..<table.count where Bytes.equal(bytes, table[index].nameRange, "cache-control") {
                return true
            }
            return false
        }
    }
}
