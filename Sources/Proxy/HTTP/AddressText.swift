// AddressText: reads an IP address out of bytes, without a String or a system call. Pure.
// RFC 4291, 2.2 (IPv6 text), RFC 7239, 6 (brackets and ports). What inet_pton refuses is refused here.

enum AddressText {
    /// `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`: the address, with port 0.
    static func parse(_ bytes: Span<UInt8>, _ range: Range<Int>) -> SocketAddress? {
        guard !range.isEmpty else { return nil }
        if bytes[range.lowerBound] == UInt8(ascii: "[") {
            var end = range.lowerBound + 1
            while end < range.upperBound, bytes[end] != UInt8(ascii: "]") { end += 1 }
            guard end < range.upperBound, isPort(bytes, end + 1..<range.upperBound) else { return nil }
            return ipv6(bytes, range.lowerBound + 1..<end)
        }
        var colon = range.lowerBound
        while colon < range.upperBound, bytes[colon] != Bytes.colon { colon += 1 }
        var isIPv6 = false
        if colon < range.upperBound {
            for at in colon + 1..<range.upperBound where bytes[at] == Bytes.colon { isIPv6 = true }
        }
        if isIPv6 { return ipv6(bytes, range) }
        guard isPort(bytes, colon..<range.upperBound) else { return nil }
        return ipv4(bytes, range.lowerBound..<colon)
    }

    static func ipv4(_ bytes: Span<UInt8>, _ range: Range<Int>) -> SocketAddress? {
        parseIPv4(bytes, range).map { SocketAddress(high: UInt64($0) << 32, low: 0, port: 0, isIPv6: false) }
    }

    /// Nothing, or a colon and digits.
    private static func isPort(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        if range.isEmpty { return true }
        guard 2...6 ~= range.count, bytes[range.lowerBound] == Bytes.colon else { return false }
        for at in range.dropFirst() where !Bytes.isDigit(bytes[at]) { return false }
        return true
    }

    private static func parseIPv4(_ bytes: Span<UInt8>, _ range: Range<Int>) -> UInt32? {
        var address: UInt32 = 0
        var part: UInt32 = 0
        var digits = 0
        var parts = 0
        for at in range {
            if bytes[at] == UInt8(ascii: ".") {
                guard digits > 0, parts < 3 else { return nil }
                address = address << 8 | part
                parts += 1
                part = 0
                digits = 0
                continue
            }
            // No leading zero: some read it as octal.
            guard Bytes.isDigit(bytes[at]), digits == 0 || part > 0 else { return nil }
            part = part * 10 + UInt32(bytes[at] - 0x30)
            digits += 1
            guard part <= 255 else { return nil }
        }
        return parts == 3 && digits > 0 ? address << 8 | part : nil
    }

    /// One that stands for an IPv4 address is that address.
    static func ipv6(_ bytes: Span<UInt8>, _ range: Range<Int>) -> SocketAddress? {
        // Groups before `::` (all of them when there is none) and behind it.
        var (head, tail) = (Groups(), Groups())
        var isBehind = false
        var at = range.lowerBound
        while at < range.upperBound {
            if bytes[at] == Bytes.colon {
                let isPair = at + 1 < range.upperBound && bytes[at + 1] == Bytes.colon
                if isPair {
                    guard !isBehind else { return nil }
                    isBehind = true
                    at += 2
                    if at < range.upperBound, bytes[at] == Bytes.colon { return nil }
                    continue
                }
                // A single colon stands between two groups.
                guard at > range.lowerBound, at + 1 < range.upperBound else { return nil }
                at += 1
            }
            let start = at
            var value: UInt64 = 0
            while at < range.upperBound, let digit = Bytes.hexValue(bytes[at]), at - start < 4 {
                value = value << 4 | digit
                at += 1
            }
            guard at > start else { return nil }
            if at < range.upperBound, bytes[at] == UInt8(ascii: ".") {
                guard let last = parseIPv4(bytes, start..<range.upperBound) else { return nil }
                at = range.upperBound
                let isRoom = isBehind ? tail.add(UInt64(last >> 16)) : head.add(UInt64(last >> 16))
                guard isRoom else { return nil }
                value = UInt64(last & 0xffff)
            } else if at < range.upperBound, bytes[at] != Bytes.colon {
                return nil
            }
            guard isBehind ? tail.add(value) : head.add(value) else { return nil }
        }
        guard isBehind ? head.count + tail.count < 8 : head.count == 8 else { return nil }
        return address(head, tail)
    }

    private static func address(_ head: Groups, _ tail: Groups) -> SocketAddress {
        let (front, back) = (head.shifted(up: 8 - head.count), tail.shifted(up: 0))
        let (high, low) = (front.high | back.high, front.low | back.low)
        // As for clients of a listener for both families (RFC 4291, 2.5.5.2).
        if high == 0, low >> 32 == 0xffff { return SocketAddress(high: low << 32, low: 0, port: 0, isIPv6: false) }
        return SocketAddress(high: high, low: low, port: 0, isIPv6: true)
    }

    /// Up to eight groups of 16 bits; the last is the lowest.
    private struct Groups {
        private var high: UInt64 = 0
        private var low: UInt64 = 0
        private(set) var count = 0

        mutating func add(_ value: UInt64) -> Bool {
            guard count < 8 else { return false }
            high = high << 16 | low >> 48
            low = low << 16 | value
            count += 1
            return true
        }

        /// - Parameter up: 0 ... 8 groups.
        func shifted(up: Int) -> (high: UInt64, low: UInt64) {
            let bits = UInt64(16 * up)
            // WHY: a shift by 64 or more is zero in Swift, also to the other side.
            return up >= 4 ? (low << (bits - 64), 0) : (high << bits | low >> (64 - bits), low << bits)
        }
    }
}
