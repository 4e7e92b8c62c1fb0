// Cookies: the pairs in a request's Cookie field, as offsets. Pure. RFC 6265, 4.2.1.

enum Cookies {
    static let separator = UInt8(ascii: ";")

    struct Pair {
        /// With what stands before it and its separator: from the end of the pair before.
        var whole: Range<Int>
        var name: Range<Int>
        /// Without the quotes around it.
        var value: Range<Int>
    }

    /// The next pair in `bytes[cursor ..< end]`; moves `cursor` past it and its semicolon. What has no `=` is a name
    /// without a value. Nil at the end.
    static func next(_ bytes: Span<UInt8>, _ cursor: inout Int, _ end: Int) -> Pair? {
        while cursor < end {
            let start = cursor
            var equals = -1
            while cursor < end, bytes[cursor] != separator {
                if equals < 0, bytes[cursor] == UInt8(ascii: "=") { equals = cursor }
                cursor += 1
            }
            let stop = cursor
            if cursor < end { cursor += 1 }
            let name = Bytes.trimmed(bytes, start..<(equals < 0 ? stop : equals))
            let value = equals < 0 ? stop..<stop : Bytes.trimmed(bytes, equals + 1..<stop)
            if name.isEmpty, value.isEmpty { continue }
            return Pair(whole: start..<cursor, name: name, value: unquoted(bytes, value))
        }
        return nil
    }

    private static func unquoted(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Range<Int> {
        let quote = UInt8(ascii: "\"")
        guard range.count >= 2, bytes[range.lowerBound] == quote, bytes[range.upperBound - 1] == quote else {
            return range
        }
        return range.lowerBound + 1..<range.upperBound - 1
    }
}
