// Forwarding: who a request came from, as far as proxies in front of us can be believed, and what servers are told of it.
// Pure. RFC 7239 (Forwarded); X-Forwarded-For, -Proto and -Host by custom.
//
// What a client says of itself is worth nothing, so these fields are removed and written anew, unless they come from a
// trusted proxy: then they are kept and added to, and the client is the rightmost address in them that isn't trusted.
// Only the field that the frontend itself writes is read: a trusted proxy that keeps one of them passes the other on as
// its own client sent it.

/// Which fields tell servers about the client.
public enum ForwardedStyle: Sendable, Equatable, BitwiseCopyable {
    /// X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
    case x
    /// Forwarded.
    case rfc7239
    case both
    case none

    var writesX: Bool { self == .x || self == .both }
    var writesForwarded: Bool { self == .rfc7239 || self == .both }
}

/// Response fields that are kept from clients.
public struct HiddenFields: OptionSet, Sendable, BitwiseCopyable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let server = HiddenFields(rawValue: 1)
    public static let poweredBy = HiddenFields(rawValue: 2)
    public static let via = HiddenFields(rawValue: 4)
    public static let all: HiddenFields = [.server, .poweredBy, .via]
}

/// What a frontend does with the fields of the messages that pass, for one client connection.
struct FieldPolicy: BitwiseCopyable {
    var style = ForwardedStyle.x
    var hides = HiddenFields.all
    /// The connection comes from a trusted proxy.
    var trustsPeer = false
}

/// Reads the addresses that a request came through, from the field's first line to its last.
struct ForwardedChain {
    /// The rightmost address that isn't trusted; when all are, the leftmost of those that can be believed.
    private(set) var client: SocketAddress?

    /// Takes the next address, nil for something else (`unknown`, an obfuscated name): nothing left of it counts.
    private mutating func take(_ address: SocketAddress?, isTrusted: (SocketAddress) -> Bool) {
        guard let address else {
            client = nil
            return
        }
        if client == nil || !isTrusted(address) { client = address }
    }

    /// A line of X-Forwarded-For: a list of addresses, perhaps with ports.
    mutating func addX(_ bytes: Span<UInt8>, _ value: Range<Int>, isTrusted: (SocketAddress) -> Bool) {
        var cursor = value.lowerBound
        while let element = Bytes.nextElement(bytes, &cursor, value.upperBound) {
            take(AddressText.parse(bytes, element), isTrusted: isTrusted)
        }
    }

    /// A line of Forwarded: a list of `for=192.0.2.60;proto=http`.
    mutating func addForwarded(_ bytes: Span<UInt8>, _ value: Range<Int>, isTrusted: (SocketAddress) -> Bool) {
        var address: SocketAddress?
        var at = value.lowerBound
        while at < value.upperBound {
            // One pair: up to `;` or `,` outside of quotes.
            let start = at
            var equals = -1
            var isQuoted = false
            while at < value.upperBound {
                let byte = bytes[at]
                if isQuoted, byte == UInt8(ascii: "\\") {
                    at += 1
                } else if byte == UInt8(ascii: "\"") {
                    isQuoted.toggle()
                } else if !isQuoted, byte == UInt8(ascii: ";") || byte == Bytes.comma {
                    break
                } else if equals < 0, byte == UInt8(ascii: "=") {
                    equals = at
                }
                at += 1
            }
            at = min(at, value.upperBound)
            if isQuoted {
                client = nil
                return
            }
            if equals >= 0, Bytes.equal(bytes, Bytes.trimmed(bytes, start..<equals), "for") {
                address = AddressText.parse(bytes, Self.unquoted(bytes, Bytes.trimmed(bytes, equals + 1..<at)))
            }
            let isEnd = at == value.upperBound || bytes[at] == Bytes.comma
            if isEnd {
                if !Bytes.trimmed(bytes, start..<at).isEmpty { take(address, isTrusted: isTrusted) }
                address = nil
            }
            at += 1
        }
    }

    private static func unquoted(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Range<Int> {
        let isQuoted = range.count >= 2 && bytes[range.lowerBound] == UInt8(ascii: "\"")
        return isQuoted ? range.lowerBound + 1..<range.upperBound - 1 : range
    }
}
