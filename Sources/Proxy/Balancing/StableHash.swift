// StableHash: hashes that are the same on every node and after every restart, for choices that nodes must agree on. Pure.
//
// FNV-1a over the bytes, finished with SplitMix64's mixer (Steele, Lea & Flood, 2014), which spreads its result over all
// 64 bits. Not keyed: a client can find keys that meet on one server, and gains what the bound on a server's load leaves.

struct StableHash: BitwiseCopyable {
    private var state: UInt64 = 0xcbf2_9ce4_8422_2325

    @inline(__always) mutating func take(_ byte: UInt8) { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }

    /// Never 0, which stands for "no key".
    @inline(__always) var value: UInt64 { max(Self.mix(state), 1) }

    static func of(_ bytes: some Sequence<UInt8>) -> UInt64 {
        var hash = StableHash()
        for byte in bytes { hash.take(byte) }
        return hash.value
    }

    /// Of an address without its port.
    static func of(_ address: SocketAddress) -> UInt64 {
        let family: UInt64 = address.isIPv6 ? 6 : 4
        return max(mix(mix(address.high ^ family) &+ address.low), 1)
    }

    /// One to one, and every bit of the result depends on every bit of `value`.
    @inline(__always) static func mix(_ value: UInt64) -> UInt64 {
        var mixed = value &+ step
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }

    /// 2^64 divided by the golden ratio: its multiples are spread evenly.
    static let step: UInt64 = 0x9e37_79b9_7f4a_7c15
}
