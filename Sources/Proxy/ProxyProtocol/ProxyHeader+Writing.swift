// ProxyHeader+Writing: the header by which we tell a server whose connection we forward. Pure but for the buffer.
// Version 1 is a line of text, version 2 is binary (Willy Tarreau, "The PROXY protocol", 2020, 2.1 and 2.2).

/// Which PROXY header a backend's servers get on every connection.
public enum ProxyVersion: Sendable, Equatable {
    case v1, v2

    /// What a connection of our own, such as a check, begins with: it speaks for nobody.
    var ownGreeting: [UInt8] {
        switch self {
        case .v1: Array("PROXY UNKNOWN\r\n".utf8)
        case .v2: ProxyHeader.signature + [0x20, 0, 0, 0]
        }
    }
}

extension ProxyHeader {
    /// No header that is written is longer.
    static let writtenBytesMax = textBytesMax

    static func append(
        _ version: ProxyVersion, _ addresses: Addresses, _ pool: borrowing BufferPool, to writer: inout HeadWriter
    ) {
        var source = addresses.source
        var destination = addresses.destination
        // The header has one family for both.
        if source.isIPv6 != destination.isIPv6 {
            source = source.asIPv6
            destination = destination.asIPv6
        }
        switch version {
        case .v1:
            writer.append(pool, source.isIPv6 ? "PROXY TCP6 " : "PROXY TCP4 ")
            writer.append(pool, source)
            writer.append(pool, " ")
            writer.append(pool, destination)
            writer.append(pool, " ")
            writer.append(pool, decimal: source.port)
            writer.append(pool, " ")
            writer.append(pool, decimal: destination.port)
            writer.append(pool, "\r\n")
        case .v2:
            writer.append(pool, "\r\n\r\n\0\r\nQUIT\n")
            writer.append(pool, byte: 0x21)
            writer.append(pool, byte: source.isIPv6 ? 0x21 : 0x11)
            writer.append(pool, number: source.isIPv6 ? 36 : 12, bytes: 2)
            writer.append(pool, binary: source)
            writer.append(pool, binary: destination)
            writer.append(pool, number: UInt64(source.port), bytes: 2)
            writer.append(pool, number: UInt64(destination.port), bytes: 2)
        }
    }
}

extension SocketAddress {
    /// An IPv4 address as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
    fileprivate var asIPv6: SocketAddress {
        isIPv6 ? self : SocketAddress(high: 0, low: 0xffff << 32 | high >> 32, port: port, isIPv6: true)
    }
}

extension HeadWriter {
    fileprivate mutating func append(_ pool: borrowing BufferPool, number: UInt64, bytes: Int) {
        for place in (0..<bytes).reversed() { append(pool, byte: UInt8(number >> UInt64(8 * place) & 0xff)) }
    }

    fileprivate mutating func append(_ pool: borrowing BufferPool, binary address: SocketAddress) {
        if address.isIPv6 {
            append(pool, number: address.high, bytes: 8)
            append(pool, number: address.low, bytes: 8)
        } else {
            append(pool, number: address.high >> 32, bytes: 4)
        }
    }

    fileprivate mutating func append(_ pool: borrowing BufferPool, decimal port: UInt16) {
        var divisor: UInt16 = 10_000
        while divisor > 1, port < divisor { divisor /= 10 }
        while divisor > 0 {
            append(pool, byte: UInt8(port / divisor % 10) + 0x30)
            divisor /= 10
        }
    }
}
