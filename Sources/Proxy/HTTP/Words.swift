// Words: looks at eight bytes of a head at a time, where most bytes need no decision. Pure.
// Unsafe code is allowed in this file (see TidyTests): the load below is checked to be within its bytes.

extension Bytes {
    private static let ones: UInt64 = 0x0101_0101_0101_0101
    private static let tops: UInt64 = 0x8080_8080_8080_8080

    /// The first place at or after `from` whose byte is none of a field value (`isValue`).
    /// - Precondition: there is one.
    @inline(__always) static func skipValue(_ bytes: Span<UInt8>, from: Int) -> Int {
        var at = from
        while at + 8 <= bytes.count {
            // The first byte is the lowest.
            let word = UInt64(littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: at, as: UInt64.self))
            // The top bit of each byte that is below 0x20 or is 0x7f. A borrow can mark a byte too many, but only above
            // one that is rightly marked, and the lowest is what counts (Warren, "Hacker's Delight", 6-1).
            let low = (word &- 0x20 &* ones) & ~word
            let delete = word ^ 0x7f &* ones
            let found = (low | (delete &- ones) & ~delete) & tops
            if found == 0 {
                at += 8
                continue
            }
            at += found.trailingZeroBitCount / 8
            // Of what was found, a tab belongs to a value, too.
            if bytes[at] != tab { return at }
            at += 1
        }
        while isValue(bytes[at]) { at += 1 }
        return at
    }
}
