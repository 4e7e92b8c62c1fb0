// ProxyHeaderFuzz: PROXY headers of both versions. What is read is read alike however it arrives, is decided at the same byte
// whatever follows, agrees with a second reading that shares no code with the parser, and survives being written anew.

import Glibc

@testable import Proxy

enum ProxyHeaderFuzz {
    static func run(_ input: [UInt8]) throws {
        let whole = ProxyHeader.parse(input.span)
        try compareArrivals(input, whole)
        guard case .complete(let header) = whole else {
            let plain = PlainProxyHeader(input)
            return try require(plain == nil, "\(whole), and reads as \(String(describing: plain))")
        }
        try require(header.count > 0 && header.count <= input.count, "\(header.count) bytes of \(input.count)")
        guard let plain = PlainProxyHeader(input) else { throw FuzzFinding(description: "accepted, and reads as none") }
        try require(plain.count == header.count, "\(header.count) bytes read as \(plain.count)")
        try require(
            plain.addresses == header.addresses.map { [$0.source, $0.destination] },
            "\(String(describing: header.addresses)) reads as \(String(describing: plain.addresses))")
        if let addresses = header.addresses { try writeAnew(addresses) }
    }

    /// Bytes that arrive later don't change what was decided, and nothing is decided before it must be.
    private static func compareArrivals(_ input: [UInt8], _ whole: ProxyHeader.Outcome) throws {
        var division = Division(input)
        var seen = 0
        while seen < input.count {
            seen = min(input.count, seen + division.next(40))
            let early = ProxyHeader.parse(Array(input[..<seen]).span)
            if early == .needMore { continue }
            return try require(early == whole, "\(early) after \(seen) bytes, \(whole) in one piece")
        }
        try require(whole == .needMore || input.isEmpty, "in one piece \(whole), in pieces never")
    }

    private static func writeAnew(_ addresses: ProxyHeader.Addresses) throws {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1)
        for version in [ProxyVersion.v1, .v2] {
            var writer = HeadWriter(pool, pool.take())
            ProxyHeader.append(version, addresses, pool, to: &writer)
            let outcome = pool.bytes(
                Stretch(buffer: writer.buffer, start: 0, end: Int32(writer.at)), ProxyHeader.parse)
            try require(writer.at <= ProxyHeader.writtenBytesMax, "\(writer.at) bytes written")
            try require(
                outcome == .complete(ProxyHeader(count: writer.at, addresses: addresses)),
                "\(addresses) written as \(version) reads as \(outcome)")
            pool.give(writer.buffer)
        }
    }
}

/// A second reading: naive, on arrays and the C library's reading of addresses. nil: no complete, correct header.
struct PlainProxyHeader {
    let count: Int
    let addresses: [SocketAddress]?

    init?(_ bytes: [UInt8]) {
        if bytes.starts(with: "\r\n\r\n\0\r\nQUIT\n".utf8) { self.init(binary: bytes) } else { self.init(text: bytes) }
    }

    private init?(text bytes: [UInt8]) {
        guard let end = bytes.firstIndex(of: 13), end + 1 < bytes.count, bytes[end + 1] == 10, end + 2 <= 107,
            bytes[..<end].allSatisfy({ 32...126 ~= $0 })
        else { return nil }
        count = end + 2
        let words = String(decoding: bytes[..<end], as: UTF8.self)
            .split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard words.count >= 2, words[0] == "PROXY" else { return nil }
        if words[1] == "UNKNOWN" {
            addresses = nil
            return
        }
        let family = words[1] == "TCP4" ? AF_INET : AF_INET6
        guard words[1] == "TCP4" || words[1] == "TCP6", words.count == 6 else { return nil }
        var read: [SocketAddress] = []
        for place in 2...3 {
            var parsed = [UInt8](repeating: 0, count: 16)
            guard inet_pton(family, words[place], &parsed) == 1, let port = UInt16(words[place + 2]),
                String(port) == words[place + 2]
            else { return nil }
            read.append(Self.address(parsed[..<(family == AF_INET ? 4 : 16)], port))
        }
        addresses = read
    }

    private init?(binary bytes: [UInt8]) {
        guard bytes.count >= 16, [0x20, 0x21].contains(bytes[12]), bytes[13] >> 4 < 4, bytes[13] & 15 < 3 else {
            return nil
        }
        count = 16 + Int(bytes[14]) * 256 + Int(bytes[15])
        guard count <= ProxyHeader.binaryBytesMax, count <= bytes.count else { return nil }
        let body = Array(bytes[16..<count])
        if bytes[12] == 0x20 {
            addresses = nil
            return
        }
        let width = [0, 4, 16, 108][Int(bytes[13] >> 4)]
        let fixed = width * 2 + (width == 4 || width == 16 ? 4 : 0)
        guard body.count >= fixed else { return nil }
        if width > 0 {
            var rest = body.dropFirst(fixed)
            while !rest.isEmpty {
                guard rest.count >= 3 else { return nil }
                let length = Int(rest[rest.startIndex + 1]) * 256 + Int(rest[rest.startIndex + 2])
                guard rest.count >= 3 + length else { return nil }
                rest = rest.dropFirst(3 + length)
            }
        }
        guard bytes[13] & 15 == 1, width == 4 || width == 16 else {
            addresses = nil
            return
        }
        addresses = (0...1).map { place in
            let port = UInt16(body[2 * width + 2 * place]) * 256 + UInt16(body[2 * width + 2 * place + 1])
            return Self.address(body[place * width..<(place + 1) * width], port)
        }
    }

    /// As the data plane keeps it: what stands for an IPv4 address is one.
    private static func address(_ bytes: ArraySlice<UInt8>, _ port: UInt16) -> SocketAddress {
        let mapped = [UInt8](repeating: 0, count: 10) + [255, 255]
        let plain = bytes.count == 16 && bytes.starts(with: mapped) ? bytes.suffix(4) : bytes
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        if plain.count == 4 { return SocketAddress(high: number(plain) << 32, low: 0, port: port, isIPv6: false) }
        return SocketAddress(high: number(plain.prefix(8)), low: number(plain.suffix(8)), port: port, isIPv6: true)
    }
}
