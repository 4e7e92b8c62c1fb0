// SocketAddress: an IPv4 or IPv6 address with a port, as a value that needs no allocation.
// Names are never looked up: a resolver can block, and the threads that use this may not.
// Unsafe code is allowed in this file (see TidyTests).

public import Glibc

/// An IP address and port. Text form `10.0.0.1:80` or `[2001:db8::1]:80`.
public struct SocketAddress: BitwiseCopyable, Equatable, Hashable, Sendable, CustomStringConvertible {
    /// 16 bytes in network order as two big-endian halves; an IPv4 address sits in the top 32 bits of `high`.
    public let high: UInt64
    public let low: UInt64
    public internal(set) var port: UInt16
    public let isIPv6: Bool

    public init(high: UInt64, low: UInt64, port: UInt16, isIPv6: Bool) {
        self.high = high
        self.low = low
        self.port = port
        self.isIPv6 = isIPv6
    }

    /// Whether they differ in their ports at most.
    public func hasSameHost(as other: SocketAddress) -> Bool {
        isIPv6 == other.isIPv6 && high == other.high && low == other.low
    }

    /// Parses a bare address (no port) such as `10.0.0.1` or `2001:db8::1`.
    public init?(address: String, port: UInt16) {
        var v4 = in_addr()
        if inet_pton(AF_INET, address, &v4) == 1 {
            self.init(high: UInt64(UInt32(bigEndian: v4.s_addr)) << 32, low: 0, port: port, isIPv6: false)
            return
        }
        var v6 = in6_addr()
        guard inet_pton(AF_INET6, address, &v6) == 1 else { return nil }
        let halves = withUnsafeBytes(of: &v6) {
            (
                UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
        self.init(high: halves.0, low: halves.1, port: port, isIPv6: true)
    }

    /// Parses `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if bracketed { host = host.dropFirst().dropLast() }
        guard host.contains(":") == bracketed else { return nil }
        self.init(address: String(host), port: port)
    }

    public init(_ storage: sockaddr_storage) {
        var storage = storage
        self = withUnsafePointer(to: &storage) { pointer in
            let raw = UnsafeRawPointer(pointer)
            if Int32(pointer.pointee.ss_family) == AF_INET6 {
                let port = UInt16(bigEndian: raw.load(fromByteOffset: 2, as: UInt16.self))
                let high = UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                let low = UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
                // A v4 client of a dual-stack listener arrives as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
                if high == 0, low >> 32 == 0xffff {
                    return SocketAddress(high: low << 32, low: 0, port: port, isIPv6: false)
                }
                return SocketAddress(high: high, low: low, port: port, isIPv6: true)
            }
            let port = UInt16(bigEndian: raw.load(fromByteOffset: 2, as: UInt16.self))
            let address = UInt32(bigEndian: raw.load(fromByteOffset: 4, as: UInt32.self))
            return SocketAddress(high: UInt64(address) << 32, low: 0, port: port, isIPv6: false)
        }
    }

    /// The address family for socket().
    public var family: Int32 { isIPv6 ? AF_INET6 : AF_INET }

    /// Calls `body` with the C form.
    public func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        var storage = sockaddr_storage()
        let length = withUnsafeMutableBytes(of: &storage) { raw -> Int in
            raw.storeBytes(of: UInt16(family), as: UInt16.self)
            raw.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
            if isIPv6 {
                raw.storeBytes(of: high.bigEndian, toByteOffset: 8, as: UInt64.self)
                raw.storeBytes(of: low.bigEndian, toByteOffset: 16, as: UInt64.self)
                return MemoryLayout<sockaddr_in6>.size
            }
            raw.storeBytes(of: UInt32(high >> 32).bigEndian, toByteOffset: 4, as: UInt32.self)
            return MemoryLayout<sockaddr_in>.size
        }
        return withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
        }
    }

    /// The address without its port: `10.0.0.1` or `2001:db8::1` (RFC 5952 form).
    public var host: String {
        guard isIPv6 else {
            return (0..<4).map { String((high >> (56 - 8 * UInt64($0))) & 0xff) }.joined(separator: ".")
        }
        var bytes = in6_addr()
        withUnsafeMutableBytes(of: &bytes) {
            $0.storeBytes(of: high.bigEndian, as: UInt64.self)
            $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
            guard let base = text.baseAddress, inet_ntop(AF_INET6, &bytes, base, socklen_t(INET6_ADDRSTRLEN)) != nil
            else { return "::" }
            return String(cString: base)
        }
    }

    public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
