// InternetChecksum: what IPv4, ICMP and ICMPv6 find damage with (RFC 1071). Pure.

public enum InternetChecksum {
    /// The ones' complement of the ones' complement sum of 16-bit words; an odd last byte counts as if a zero followed.
    public static func of(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            let low = index + 1 < bytes.count ? bytes[index + 1] : 0
            sum += UInt32(bytes[index]) << 8 | UInt32(low)
        }
        while sum > 0xffff { sum = (sum >> 16) + (sum & 0xffff) }
        return ~UInt16(sum)
    }
}
