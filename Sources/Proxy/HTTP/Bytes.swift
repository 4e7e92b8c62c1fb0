// Bytes: which bytes HTTP allows where, and comparing bytes with literals. Pure; no table, no allocation.
// RFC 9110, 5.5 (field values) and 5.6.2 (tokens); RFC 9112, 2.2 (line ends).

enum Bytes {
    static let cr = UInt8(ascii: "\r")
    static let lf = UInt8(ascii: "\n")
    static let space = UInt8(ascii: " ")
    static let tab = UInt8(ascii: "\t")
    static let colon = UInt8(ascii: ":")
    static let comma = UInt8(ascii: ",")

    // Bit n of the pair stands for byte n.
    // WHY: two constants in registers; a table in memory would be a global that is initialised on first use.
    private static func isIn(_ byte: UInt8, _ low: UInt64, _ high: UInt64) -> Bool {
        byte < 128 && (byte < 64 ? low : high) >> UInt64(byte & 63) & 1 == 1
    }

    /// tchar: letters, digits and !#$%&'*+-.^_`|~
    @inline(__always) static func isToken(_ byte: UInt8) -> Bool {
        isIn(byte, 0x03ff_6cfa_0000_0000, 0x57ff_ffff_c7ff_fffe)
    }

    /// field-vchar, SP and HTAB, bytes above 127 included (obs-text).
    @inline(__always) static func isValue(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != 0x7f || byte == tab }

    /// A visible ASCII byte other than `#`: what a request-target may consist of. Fragments aren't sent (RFC 9110, 4.2.5).
    @inline(__always) static func isTarget(_ byte: UInt8) -> Bool {
        byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "#")
    }

    /// Letters, digits and -._~!$&'()*+;=:[]% : what an authority without user information consists of. RFC 3986 also
    /// allows a comma, which would make one name of two joined Host lines.
    @inline(__always) static func isAuthority(_ byte: UInt8) -> Bool {
        isIn(byte, 0x2fff_6ff2_0000_0000, 0x47ff_fffe_afff_fffe)
    }

    /// `host [":" port]`, the host not empty (RFC 9110, 4.2.1; RFC 3986, 3.2.2 and 3.2.3).
    static func isAuthority(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        var at = range.lowerBound
        let end = range.upperBound
        guard at < end else { return false }
        if bytes[at] == UInt8(ascii: "[") {
            at += 1
            let start = at
            while at < end, hexValue(bytes[at]) != nil || bytes[at] == colon || bytes[at] == UInt8(ascii: ".") {
                at += 1
            }
            guard at - start >= 2, at < end, bytes[at] == UInt8(ascii: "]") else { return false }
            at += 1
        } else {
            while at < end, bytes[at] != colon {
                guard isAuthority(bytes[at]), bytes[at] != UInt8(ascii: "["), bytes[at] != UInt8(ascii: "]") else {
                    return false
                }
                if bytes[at] == UInt8(ascii: "%") {
                    guard at + 2 < end, hexValue(bytes[at + 1]) != nil, hexValue(bytes[at + 2]) != nil else {
                        return false
                    }
                    at += 2
                }
                at += 1
            }
            guard at > range.lowerBound else { return false }
        }
        return at == end || bytes[at] == colon && isPort(bytes, at + 1..<end)
    }

    /// Nothing, or a number up to 65535.
    private static func isPort(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        guard range.count <= 5 else { return false }
        var port = 0
        for at in range {
            guard isDigit(bytes[at]) else { return false }
            port = port * 10 + Int(bytes[at] - 0x30)
        }
        return port <= 65_535
    }

    @inline(__always) static func lowercased(_ byte: UInt8) -> UInt8 {
        byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
    }

    @inline(__always) static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    /// The value of a hexadecimal digit.
    @inline(__always) static func hexValue(_ byte: UInt8) -> UInt64? {
        switch byte {
        case 0x30...0x39: UInt64(byte - 0x30)
        case 0x41...0x46: UInt64(byte - 0x41 + 10)
        case 0x61...0x66: UInt64(byte - 0x61 + 10)
        default: nil
        }
    }

    /// Whether `bytes[range]` is `literal`, which is in lower case, in any case.
    @inline(__always) static func equal(_ bytes: Span<UInt8>, _ range: Range<Int>, _ literal: StaticString)
        -> Bool
    {
        guard range.count == literal.utf8CodeUnitCount else { return false }
        return literal.withUTF8Buffer { letters in
            var at = range.lowerBound
            for letter in letters {
                let byte = bytes[at]
                if lowercased(byte) != letter { return false }
                at += 1
            }
            return true
        }
    }

    /// The same, with `_` taken for `-`.
    static func equalDashed(_ bytes: Span<UInt8>, _ range: Range<Int>, _ literal: StaticString) -> Bool {
        guard range.count == literal.utf8CodeUnitCount else { return false }
        return literal.withUTF8Buffer { letters in
            var at = range.lowerBound
            for letter in letters {
                let byte = bytes[at] == UInt8(ascii: "_") ? UInt8(ascii: "-") : bytes[at]
                if lowercased(byte) != letter { return false }
                at += 1
            }
            return true
        }
    }

    /// Whether two ranges of `bytes` are equal in any case.
    static func equal(_ bytes: Span<UInt8>, _ left: Range<Int>, _ right: Range<Int>) -> Bool {
        guard left.count == right.count else { return false }
        for offset in 0..<left.count {
            let a = bytes[left.lowerBound + offset]
            let b = bytes[right.lowerBound + offset]
            if lowercased(a) != lowercased(b) { return false }
        }
        return true
    }

    /// The range without spaces and tabs at its ends.
    @inline(__always) static func trimmed(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Range<Int> {
        var start = range.lowerBound
        var end = range.upperBound
        while start < end, bytes[start] == space || bytes[start] == tab { start += 1 }
        while end > start, bytes[end - 1] == space || bytes[end - 1] == tab { end -= 1 }
        return start..<end
    }

    /// The next element of a comma-separated list in `bytes[cursor ..< end]`, trimmed; moves `cursor` past it.
    /// Empty elements are skipped (RFC 9110, 5.6.1.2). Nil at the end.
    @inline(__always) static func nextElement(_ bytes: Span<UInt8>, _ cursor: inout Int, _ end: Int)
        -> Range<Int>?
    {
        while cursor < end {
            let start = cursor
            while cursor < end, bytes[cursor] != comma { cursor += 1 }
            let element = trimmed(bytes, start..<cursor)
            if cursor < end { cursor += 1 }
            if !element.isEmpty { return element }
        }
        return nil
    }
}
