// HeadWriter: writes a message head into a pooled buffer, piece by piece. Pure but for the buffer's bytes.
// Nothing is written past the end: `overflowed` tells that the head didn't fit, and the caller refuses the message.

struct HeadWriter {
    let buffer: Int32
    private(set) var at: Int
    private let end: Int
    private(set) var overflowed = false

    init(_ pool: borrowing BufferPool, _ buffer: Int32, at: Int = 0) {
        self.buffer = buffer
        self.at = at
        end = pool.size(buffer)
    }

    private mutating func hasRoom(_ count: Int) -> Bool {
        if overflowed || at + count > end { overflowed = true }
        return !overflowed
    }

    /// Copies bytes of another buffer.
    /// Nothing for an empty range, whatever the buffer.
    @inline(__always) mutating func append(_ pool: borrowing BufferPool, _ from: Int32, _ range: Range<Int>) {
        guard !range.isEmpty, hasRoom(range.count) else { return }
        pool.copy(from, range.lowerBound, to: buffer, at, count: range.count)
        at += range.count
    }

    @inline(__always) mutating func append(_ pool: borrowing BufferPool, _ text: StaticString) {
        guard hasRoom(text.utf8CodeUnitCount) else { return }
        pool.store(text, buffer, at)
        at += text.utf8CodeUnitCount
    }

    mutating func append(_ pool: borrowing BufferPool, _ from: Stretch) {
        append(pool, from.buffer, Int(from.start)..<Int(from.end))
    }

    mutating func append(_ pool: borrowing BufferPool, byte: UInt8) {
        guard hasRoom(1) else { return }
        pool.store(byte, buffer, at)
        at += 1
    }

    /// - Parameter number: not negative.
    mutating func append(_ pool: borrowing BufferPool, number: Int) {
        var divisor = 1
        while number / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            append(pool, byte: Self.digit(UInt64(number / divisor % 10)))
            divisor /= 10
        }
    }

    /// An address without its port, as in X-Forwarded-For: `10.0.0.1`, `2001:db8::1` (RFC 5952).
    mutating func append(_ pool: borrowing BufferPool, _ address: SocketAddress) {
        if address.isIPv6 { return appendIPv6(pool, address) }
        for part in UInt64(0)..<4 {
            if part > 0 { append(pool, byte: UInt8(ascii: ".")) }
            let value = address.high >> (56 - 8 * part) & 0xff
            if value >= 100 { append(pool, byte: Self.digit(value / 100)) }
            if value >= 10 { append(pool, byte: Self.digit(value / 10 % 10)) }
            append(pool, byte: Self.digit(value % 10))
        }
    }

    private mutating func appendIPv6(_ pool: borrowing BufferPool, _ address: SocketAddress) {
        func group(_ index: Int) -> UInt64 {
            (index < 4 ? address.high : address.low) >> UInt64(48 - 16 * (index % 4)) & 0xffff
        }
        // The longest run of two or more zero groups, the first of equals, becomes `::`.
        var run = 0..<0
        var start = 0
        for index in 0...8 {
            if index < 8, group(index) == 0 { continue }
            if index - start >= 2, index - start > run.count { run = start..<index }
            start = index + 1
        }
        var index = 0
        while index < 8 {
            if index == run.lowerBound, !run.isEmpty {
                append(pool, "::")
                index = run.upperBound
                continue
            }
            if index > 0, index != run.upperBound || run.isEmpty { append(pool, byte: Bytes.colon) }
            let value = group(index)
            if value >= 0x1000 { append(pool, byte: Self.digit(value >> 12)) }
            if value >= 0x100 { append(pool, byte: Self.digit(value >> 8 & 0xf)) }
            if value >= 0x10 { append(pool, byte: Self.digit(value >> 4 & 0xf)) }
            append(pool, byte: Self.digit(value & 0xf))
            index += 1
        }
    }

    private static func digit(_ value: UInt64) -> UInt8 {
        UInt8(value < 10 ? value + 0x30 : value - 10 + 0x61)
    }
}
