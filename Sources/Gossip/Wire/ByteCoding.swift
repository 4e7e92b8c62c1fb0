// ByteCoding: the one way this module turns values into bytes and back, on the wire and on disk.
//
// Integers are LEB128 varints unless a width is named (big-endian then). A reader never traps: running past the
// end, an over-long varint or a length above the limit makes it `failed`, every later read returns zeros, and the
// caller asks once at the end.

public struct ByteWriter: Sendable {
    public private(set) var bytes: [UInt8]

    public init(reserving capacity: Int = 256) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    public mutating func byte(_ value: UInt8) { bytes.append(value) }

    public mutating func fixed64(_ value: UInt64) {
        for shift in stride(from: UInt64(56), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    public mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    public mutating func varint(_ value: Int) { varint(UInt64(max(0, value))) }

    public mutating func flag(_ value: Bool) { bytes.append(value ? 1 : 0) }

    /// Raw bytes without a length: the reader knows how many.
    public mutating func raw(_ value: some Sequence<UInt8>) { bytes.append(contentsOf: value) }

    /// Bytes with their length in front.
    public mutating func block(_ value: some Collection<UInt8>) {
        varint(value.count)
        bytes.append(contentsOf: value)
    }

    public mutating func string(_ value: String) { block(value.utf8) }
}

public struct ByteReader: Sendable {
    private let bytes: ArraySlice<UInt8>
    private var position: Int
    /// Something read was not there or not as it must be; what was returned since means nothing.
    public private(set) var failed = false

    public init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    public init(_ bytes: [UInt8]) { self.init(bytes[...]) }

    /// Bytes not read yet.
    public var remaining: Int { bytes.endIndex - position }
    /// Everything was read, and all of it was good.
    public var finished: Bool { !failed && remaining == 0 }

    /// Marks the input as bad, for what a caller finds wrong.
    public mutating func fail() { failed = true }

    public mutating func byte() -> UInt8 {
        guard !failed, remaining >= 1 else {
            failed = true
            return 0
        }
        defer { position += 1 }
        return bytes[position]
    }

    public mutating func flag() -> Bool {
        let value = byte()
        if value > 1 { failed = true }
        return value == 1
    }

    public mutating func fixed64() -> UInt64 {
        var value: UInt64 = 0
        for _ in 0..<8 { value = value << 8 | UInt64(byte()) }
        return failed ? 0 : value
    }

    public mutating func varint() -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            let next = byte()
            if failed { return 0 }
            if shift == 63, next > 1 { break }
            value |= UInt64(next & 0x7f) << shift
            if next < 0x80 { return value }
        }
        failed = true
        return 0
    }

    /// A term, index, round, version or time: below 2^62, so that adding to it never overflows.
    public mutating func ordinal() -> UInt64 {
        let value = varint()
        if value >= 1 << 62 { failed = true }
        return failed ? 0 : value
    }

    /// A count or length that may not exceed `limit`.
    public mutating func count(limit: Int) -> Int {
        let value = varint()
        if value > UInt64(limit) { failed = true }
        return failed ? 0 : Int(value)
    }

    public mutating func raw(_ count: Int) -> [UInt8] {
        guard !failed, count >= 0, remaining >= count else {
            failed = true
            return []
        }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    public mutating func block(limit: Int) -> [UInt8] {
        let length = count(limit: limit)
        return raw(length)
    }

    /// A UTF-8 string of at most `limit` bytes.
    public mutating func string(limit: Int) -> String {
        guard let text = String(validating: block(limit: limit), as: UTF8.self) else {
            failed = true
            return ""
        }
        return text
    }
}
