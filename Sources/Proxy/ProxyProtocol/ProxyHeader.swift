// ProxyHeader: reads the header by which a balancer or proxy before us tells whose connection it forwards. Pure.
//
// The PROXY protocol, versions 1 and 2 (Willy Tarreau, "The PROXY protocol", 2020), is read once, from a connection's
// first byte on, and only from sources that are configured to send it: whoever sends it chooses an address. So it is
// read strictly: the fields of version 1 are single-spaced and in their one decimal form; version 2 has a known version,
// command and family; a length has room for its addresses; the extensions (TLVs) behind them are well-formed, and skipped.
//
// What says nothing of a client (LOCAL, UNKNOWN, Unix sockets, datagrams) leaves the connection's own addresses.

/// A complete header.
struct ProxyHeader: BitwiseCopyable, Equatable {
    struct Addresses: BitwiseCopyable, Equatable {
        /// The client.
        let source: SocketAddress
        /// What the client connected to.
        let destination: SocketAddress
    }

    /// Bytes it takes; the stream's own follow.
    let count: Int
    /// nil: whoever sent it speaks for itself, such as to check us.
    let addresses: Addresses?

    enum Outcome: Equatable {
        case needMore
        case complete(ProxyHeader)
        case malformed
    }

    /// Longest line of version 1, its end included.
    static let textBytesMax = 107
    /// Longest header of version 2 that is read: more than the known extensions fill, less than the smallest buffer.
    static let binaryBytesMax = 2_048

    /// `\r\n\r\n\0\r\nQUIT\n`: no request of a protocol in use begins so.
    static let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 0x51, 0x55, 0x49, 0x54, 10]
    static let textStart: [UInt8] = [0x50, 0x52, 0x4f, 0x58, 0x59, 0x20]

    /// - Parameter bytes: the connection's bytes from the first on.
    static func parse(_ bytes: Span<UInt8>) -> Outcome {
        if bytes.isEmpty { return .needMore }
        let start = bytes[0] == signature[0] ? signature : textStart
        // Refused at the first wrong byte: what isn't a header isn't waited for.
        for index in 0..<min(start.count, bytes.count) where bytes[index] != start[index] { return .malformed }
        guard bytes.count >= start.count else { return .needMore }
        return start.count == signature.count ? binary(bytes) : text(bytes)
    }

    // MARK: version 1

    private static func text(_ bytes: Span<UInt8>) -> Outcome {
        var end = textStart.count
        while end < bytes.count, end < textBytesMax - 1, bytes[end] >= 0x20, bytes[end] < 0x7f { end += 1 }
        guard end < bytes.count else { return .needMore }
        guard end < textBytesMax - 1, bytes[end] == Bytes.cr else { return .malformed }
        guard end + 1 < bytes.count else { return .needMore }
        guard bytes[end + 1] == Bytes.lf else { return .malformed }

        var line = ProxyLine(at: textStart.count, end: end)
        let family = line.word(bytes)
        if matches(bytes, family, "UNKNOWN") { return .complete(ProxyHeader(count: end + 2, addresses: nil)) }
        let isIPv6 = matches(bytes, family, "TCP6")
        guard isIPv6 || matches(bytes, family, "TCP4") else { return .malformed }
        let words = (line.word(bytes), line.word(bytes), line.word(bytes), line.word(bytes))
        guard line.isDone,
            var from = isIPv6 ? AddressText.ipv6(bytes, words.0) : AddressText.ipv4(bytes, words.0),
            var to = isIPv6 ? AddressText.ipv6(bytes, words.1) : AddressText.ipv4(bytes, words.1),
            let fromPort = port(bytes, words.2), let toPort = port(bytes, words.3)
        else { return .malformed }
        from.port = fromPort
        to.port = toPort
        return .complete(ProxyHeader(count: end + 2, addresses: Addresses(source: from, destination: to)))
    }

    /// A decimal number in its one form.
    private static func port(_ bytes: Span<UInt8>, _ range: Range<Int>) -> UInt16? {
        guard 1...5 ~= range.count, range.count == 1 || bytes[range.lowerBound] != UInt8(ascii: "0") else { return nil }
        var value = 0
        for index in range {
            guard Bytes.isDigit(bytes[index]) else { return nil }
            value = value * 10 + Int(bytes[index] - UInt8(ascii: "0"))
        }
        return UInt16(exactly: value)
    }

    private static func matches(_ bytes: Span<UInt8>, _ range: Range<Int>, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        return text.withUTF8Buffer { text in
            for index in 0..<range.count where bytes[range.lowerBound + index] != text[index] { return false }
            return true
        }
    }

    // MARK: version 2

    private static func binary(_ bytes: Span<UInt8>) -> Outcome {
        // Version and command; then the family; then the length. Each is refused as soon as it is there.
        let at = signature.count
        guard bytes.count > at else { return .needMore }
        let command = bytes[at]
        guard command == 0x20 || command == 0x21 else { return .malformed }
        guard bytes.count > at + 1 else { return .needMore }
        let family = bytes[at + 1]
        guard family >> 4 <= 3, family & 0xf <= 2 else { return .malformed }
        guard bytes.count > at + 3 else { return .needMore }
        let count = at + 4 + (Int(bytes[at + 2]) << 8 | Int(bytes[at + 3]))
        guard count <= binaryBytesMax else { return .malformed }
        guard bytes.count >= count else { return .needMore }
        // LOCAL's addresses are to be skipped, whatever they are.
        if command == 0x20 { return .complete(ProxyHeader(count: count, addresses: nil)) }

        let first = at + 4
        let addressBytes = [0, 12, 36, 216][Int(family >> 4)]
        guard first + addressBytes <= count else { return .malformed }
        if addressBytes > 0, !hasWellFormedExtensions(bytes, first + addressBytes..<count) { return .malformed }
        guard family == 0x11 || family == 0x21 else {
            return .complete(ProxyHeader(count: count, addresses: nil))
        }
        let isIPv6 = family == 0x21
        let width = isIPv6 ? 16 : 4
        let addresses = Addresses(
            source: address(bytes, first, port: first + 2 * width, isIPv6),
            destination: address(bytes, first + width, port: first + 2 * width + 2, isIPv6))
        return .complete(ProxyHeader(count: count, addresses: addresses))
    }

    private static func address(_ bytes: Span<UInt8>, _ at: Int, port: Int, _ isIPv6: Bool) -> SocketAddress {
        func number(_ at: Int, _ width: Int) -> UInt64 {
            (at..<at + width).reduce(0) { $0 << 8 | UInt64(bytes[$1]) }
        }
        let portNumber = UInt16(number(port, 2))
        if isIPv6 { return plain(number(at, 8), number(at + 8, 8), portNumber) }
        return SocketAddress(high: number(at, 4) << 32, low: 0, port: portNumber, isIPv6: false)
    }

    /// Type, length and value, one after the other, to the very end.
    private static func hasWellFormedExtensions(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        var at = range.lowerBound
        while at < range.upperBound {
            guard at + 3 <= range.upperBound else { return false }
            at += 3 + (Int(bytes[at + 1]) << 8 | Int(bytes[at + 2]))
        }
        return at == range.upperBound
    }

    /// An IPv4 address written as IPv6 (::ffff:a.b.c.d) is the IPv4 address, as for accepted connections.
    private static func plain(_ high: UInt64, _ low: UInt64, _ port: UInt16) -> SocketAddress {
        let isMapped = high == 0 && low >> 32 == 0xffff
        return isMapped
            ? SocketAddress(high: low << 32, low: 0, port: port, isIPv6: false)
            : SocketAddress(high: high, low: low, port: port, isIPv6: true)
    }
}

/// The words of a line, each behind exactly one space.
private struct ProxyLine {
    var at: Int
    let end: Int
    /// Every word was taken, and nothing follows the last.
    var isDone: Bool { at == end + 1 }

    /// The next word; empty when there is none, or more than one space before it.
    mutating func word(_ bytes: Span<UInt8>) -> Range<Int> {
        guard at <= end else { return end..<end }
        let start = at
        while at < end, bytes[at] != 0x20 { at += 1 }
        defer { at += 1 }
        return start..<at
    }
}
