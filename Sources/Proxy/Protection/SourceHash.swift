// SourceHash: what the source table calls a client: a keyed hash of its address or network. Pure.
//
// SipHash with a key that is drawn at start: nobody outside can find two addresses that share a place in the table. IPv6
// clients are counted by network, since each has at least a /64 to choose addresses from.

struct SourceHash: Sendable {
    private let sip: SipHash

    init(key0: UInt64, key1: UInt64) { sip = SipHash(key0: key0, key1: key1) }

    /// With a key of its own.
    init() {
        var generator = SystemRandomNumberGenerator()
        self.init(key0: generator.next(), key1: generator.next())
    }

    /// Never 0.
    /// - Parameters:
    ///   - prefixV6: the bits of an IPv6 address that count, 1 ... 128.
    ///   - realm: sources of different realms (frontends) are different ones.
    @inline(__always) func source(_ address: SocketAddress, prefixV6: Int, realm: UInt64) -> UInt64 {
        var (high, low) = (address.high, address.low)
        if address.isIPv6 {
            high &= Self.mask(prefixV6)
            low &= Self.mask(prefixV6 - 64)
        }
        // An IPv4 address and the IPv6 network with the same first bits aren't the same source.
        let hash = hash(high, low, realm << 1 | (address.isIPv6 ? 1 : 0))
        return hash == 0 ? 1 : hash
    }

    /// The first `bits` bits of a word.
    private static func mask(_ bits: Int) -> UInt64 { bits >= 64 ? .max : bits <= 0 ? 0 : .max << UInt64(64 - bits) }

    /// Of three words. `source` never has a third one of `.max`, which is free for other uses of this key.
    func hash(_ first: UInt64, _ second: UInt64, _ third: UInt64) -> UInt64 { sip.hash(first, second, third) }
}
