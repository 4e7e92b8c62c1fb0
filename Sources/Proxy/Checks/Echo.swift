// Echo: one ICMP echo as bytes, and which datagrams answer it. Pure; checks of type "icmp" and the gateway's probe use it.
//
// An answer repeats the echo's identifier, sequence number and data (RFC 792; RFC 4443, 4.1 and 4.2). The data holds a
// random token: whoever didn't receive the echo can't answer it, and neither another process's answer nor one that
// comes again passes for it.

/// What the echoes of one socket have in common.
public struct EchoForm: Equatable, Sendable {
    public let isIPv6: Bool
    /// A raw IPv4 socket hears the IP header, too, and leaves the checksum to us.
    public let isRaw: Bool
    public let identifier: UInt16

    public init(isIPv6: Bool, isRaw: Bool, identifier: UInt16) {
        self.isIPv6 = isIPv6
        self.isRaw = isRaw
        self.identifier = identifier
    }
}

public struct Echo: Equatable, Sendable {
    public let form: EchoForm
    public let sequence: UInt16
    public let token: UInt64

    /// - Parameter token: not to be guessed: random for each echo.
    public init(_ form: EchoForm, sequence: UInt16, token: UInt64) {
        self.form = form
        self.sequence = sequence
        self.token = token
    }

    /// What to send.
    public var bytes: [UInt8] {
        var bytes: [UInt8] = [form.isIPv6 ? 128 : 8, 0, 0, 0] + repeated
        // The kernel sums ICMPv6 up itself, since that sum covers the addresses, and all that echo sockets send.
        guard form.isRaw, !form.isIPv6 else { return bytes }
        let sum = InternetChecksum.of(bytes)
        (bytes[2], bytes[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
        return bytes
    }

    /// Whether a datagram, as the socket gave it, is the answer to this echo.
    public func isAnswered(by datagram: [UInt8]) -> Bool {
        var message = datagram[...]
        if form.isRaw, !form.isIPv6 {
            guard let first = message.first, first >> 4 == 4, first & 0x0f >= 5 else { return false }
            message = message.dropFirst(4 * Int(first & 0x0f))
            // Raw sockets get a datagram before the kernel has looked at its ICMP checksum.
            guard InternetChecksum.of(Array(message)) == 0 else { return false }
        }
        return message.prefix(2) == [form.isIPv6 ? 129 : 0, 0] && message.dropFirst(4) == repeated[...]
    }

    /// What the answer has in common with the echo: everything behind the checksum.
    private var repeated: [UInt8] {
        [form.identifier, sequence].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
            + (0..<8).map { UInt8(truncatingIfNeeded: token >> (56 - 8 * UInt64($0))) }
    }
}
