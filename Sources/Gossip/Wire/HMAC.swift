// HMAC: HMAC-SHA256 (RFC 2104, vectors of RFC 4231) with the key's two blocks absorbed once.
//
// A tag then costs the message's blocks and two more. Comparison takes the same time wherever tags differ.

/// Signs and checks messages with one key.
public struct HMAC: Sendable {
    private let inner: SHA256
    private let outer: SHA256

    /// - Parameter key: any length; one longer than a block (64 bytes) counts as its digest.
    public init(key: [UInt8]) {
        var block = key.count > SHA256.blockBytes ? SHA256.digest(key) : key
        while block.count < SHA256.blockBytes { block.append(0) }
        let innerBlock = block.map { $0 ^ 0x36 }
        let outerBlock = block.map { $0 ^ 0x5c }
        var inner = SHA256()
        inner.update(innerBlock.span)
        self.inner = inner
        var outer = SHA256()
        outer.update(outerBlock.span)
        self.outer = outer
    }

    /// The whole tag of `message`, 32 bytes.
    public func tag(_ message: [UInt8]) -> [UInt8] { tag(message.span) }

    func tag(_ message: Span<UInt8>) -> [UInt8] {
        var hash = inner
        hash.update(message)
        var last = outer
        let digest = hash.finish()
        last.update(digest.span)
        return last.finish()
    }

    /// Whether `tag` is the tag of `message`, or its first bytes (at least 16, so that guessing stays hopeless).
    public func verifies(_ message: [UInt8], tag: [UInt8]) -> Bool { verifies(message.span, tag: tag.span) }

    func verifies(_ message: Span<UInt8>, tag: Span<UInt8>) -> Bool {
        guard (16...SHA256.digestBytes).contains(tag.count) else { return false }
        // WHY a variable: Swift 6.3.1 miscompiles the span of a temporary in debug builds (the verifier stops it).
        let expected = self.tag(message)
        return equalInConstantTime(expected.span.extracting(first: tag.count), tag)
    }
}

/// Compares without telling by its duration where the two differ; only their lengths show. For tags and tokens.
public func equalInConstantTime(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    equalInConstantTime(left.span, right.span)
}

func equalInConstantTime(_ left: Span<UInt8>, _ right: Span<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for index in 0..<left.count { difference |= left[index] ^ right[index] }
    return difference == 0
}
