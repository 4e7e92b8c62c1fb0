// Network: a range of addresses, such as 10.0.0.0/8, as a value that is compared without a loop.

/// A range of addresses: `10.0.0.0/8`.
public struct Network: BitwiseCopyable, Equatable, Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64
    private let highMask: UInt64
    private let lowMask: UInt64
    private let isIPv6: Bool

    /// - Parameter prefix: 0 ... 32, or 128 for IPv6. Bits of the address behind it don't matter.
    public init(_ address: SocketAddress, prefix: Int) {
        highMask = prefix >= 64 ? .max : prefix <= 0 ? 0 : ~(UInt64.max >> UInt64(prefix))
        lowMask = prefix >= 128 ? .max : prefix <= 64 ? 0 : ~(UInt64.max >> UInt64(prefix - 64))
        high = address.high & highMask
        low = address.low & lowMask
        isIPv6 = address.isIPv6
    }

    /// The range's first address: `address` without the bits behind the prefix.
    public static func first(of address: SocketAddress, prefix: Int) -> SocketAddress {
        let network = Network(address, prefix: prefix)
        return SocketAddress(high: network.high, low: network.low, port: address.port, isIPv6: address.isIPv6)
    }

    @inline(__always) public func contains(_ address: SocketAddress) -> Bool {
        address.isIPv6 == isIPv6 && address.high & highMask == high && address.low & lowMask == low
    }
}
