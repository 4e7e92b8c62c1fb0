// JSONWriter: writes JSON (RFC 8259) as bytes, with commas and escapes in the right places. It never reads any;
// JSON5.swift does. A value, used by whoever holds it.

struct JSONWriter {
    private(set) var bytes: [UInt8] = []
    private var needsComma = false

    init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    /// `{ … }` with what `body` writes.
    mutating func object(_ name: String? = nil, _ body: (inout JSONWriter) -> Void) {
        enclose(name, "{", "}", body)
    }

    /// `[ … ]` with what `body` writes.
    mutating func array(_ name: String? = nil, _ body: (inout JSONWriter) -> Void) {
        enclose(name, "[", "]", body)
    }

    mutating func field(_ name: String, _ text: String) {
        begin(name)
        quote(text)
    }

    mutating func field(_ name: String, _ number: some BinaryInteger) {
        begin(name)
        raw(String(number))
    }

    mutating func field(_ name: String, _ flag: Bool) {
        begin(name)
        raw(flag ? "true" : "false")
    }

    /// - Parameter decimals: digits kept after the point.
    mutating func field(_ name: String, _ number: Double, decimals: Int) {
        begin(name)
        raw(Self.text(number, decimals: decimals))
    }

    mutating func null(_ name: String) {
        begin(name)
        raw("null")
    }

    /// A text, or null.
    mutating func field(_ name: String, _ text: String?) {
        if let text { field(name, text) } else { null(name) }
    }

    /// A number, or null.
    mutating func field(_ name: String, _ number: (some BinaryInteger)?) {
        if let number { field(name, number) } else { null(name) }
    }

    /// A number, or null.
    /// - Parameter decimals: digits kept after the point.
    mutating func field(_ name: String, _ number: Double?, decimals: Int) {
        if let number { field(name, number, decimals: decimals) } else { null(name) }
    }

    /// A string as an element of an array.
    mutating func element(_ text: String) {
        begin(nil)
        quote(text)
    }

    /// `12.3` for 12.3004 with three decimals: no trailing zeros, no exponent; what isn't finite becomes null.
    static func text(_ number: Double, decimals: Int) -> String {
        guard number.isFinite else { return "null" }
        var scale = 1
        for _ in 0..<max(0, min(9, decimals)) { scale *= 10 }
        let scaled = (number.magnitude * Double(scale)).rounded()
        // Beyond this a Double has no digits after the point to lose, and Int no room.
        guard scaled < 9e15 else { return String(Int64(max(-9.2e18, min(9.2e18, number)))) }
        let whole = Int64(scaled)
        let fraction = whole % Int64(scale)
        var text = number < 0 && whole > 0 ? "-" : ""
        text += String(whole / Int64(scale))
        guard fraction != 0 else { return text }
        var digits = String(fraction)
        digits = String(repeating: "0", count: String(scale).count - 1 - digits.count) + digits
        while digits.hasSuffix("0") { digits.removeLast() }
        return "\(text).\(digits)"
    }

    // MARK: - Pieces

    private mutating func enclose(
        _ name: String?, _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ body: (inout JSONWriter) -> Void
    ) {
        begin(name)
        bytes.append(UInt8(ascii: open))
        needsComma = false
        body(&self)
        bytes.append(UInt8(ascii: close))
        needsComma = true
    }

    private mutating func begin(_ name: String?) {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        if let name {
            quote(name)
            bytes.append(UInt8(ascii: ":"))
        }
        needsComma = true
    }

    private mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

    private mutating func quote(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\n"): raw("\\n")
            case UInt8(ascii: "\r"): raw("\\r")
            case UInt8(ascii: "\t"): raw("\\t")
            case 0..<32, 127: raw("\\u00" + (byte < 16 ? "0" : "") + String(byte, radix: 16))
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
