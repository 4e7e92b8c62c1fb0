// Quantity: durations and sizes as people write them ("30ms", "1.5s", "16KiB"), and back for messages.
// A unit is always written: a bare number would be guessed wrong by someone.

enum Quantity {
    static let durationUnits = "us, ms, s, m, h or d"
    static let sizeUnits = "B, KiB, MiB or GiB"

    /// A duration such as `250ms`; nil when it isn't one, or is longer than 100 years.
    static func duration(_ text: String) -> Duration? {
        guard let (value, unit) = split(text), let nanoseconds = unitNanoseconds(unit) else { return nil }
        guard let total = value.times(nanoseconds), total <= 100 * 365 * 86400 * 1_000_000_000 else { return nil }
        return .nanoseconds(total)
    }

    /// A number of bytes such as `16KiB`; nil when it isn't one.
    static func bytes(_ text: String) -> Int? {
        guard let (value, unit) = split(text) else { return nil }
        let factor: Int64
        switch unit {
        case "B": factor = 1
        case "KiB": factor = 1 << 10
        case "MiB": factor = 1 << 20
        case "GiB": factor = 1 << 30
        default: return nil
        }
        return value.times(factor).map { Int($0) }
    }

    /// `150ms`, `1.5s`: the shortest exact form in one unit.
    static func text(_ span: Duration) -> String {
        let nanoseconds = span.components.seconds * 1_000_000_000 + span.components.attoseconds / 1_000_000_000
        if nanoseconds == 0 { return "0s" }
        for (name, size) in [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)] as [(String, Int64)]
        where nanoseconds % (size * 1_000_000_000) == 0 { return "\(nanoseconds / (size * 1_000_000_000))\(name)" }
        if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
        return "\(nanoseconds / 1000)us"
    }

    /// `16KiB`, `100B`.
    static func text(bytes: Int) -> String {
        if bytes != 0 {
            for (name, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] where bytes % (1 << shift) == 0 {
                return "\(bytes >> shift)\(name)"
            }
        }
        return "\(bytes)B"
    }

    private static func unitNanoseconds(_ unit: Substring) -> Int64? {
        switch unit {
        case "us": 1000
        case "ms": 1_000_000
        case "s": 1_000_000_000
        case "m": 60_000_000_000
        case "h": 3_600_000_000_000
        case "d": 86_400_000_000_000
        default: nil
        }
    }

    /// A decimal number as digits and a power of ten.
    private struct Decimal {
        var digits: Int64
        var scale: Int64

        /// nil when it overflows or isn't whole.
        func times(_ factor: Int64) -> Int64? {
            let (product, overflow) = digits.multipliedReportingOverflow(by: factor)
            return overflow || product % scale != 0 ? nil : product / scale
        }
    }

    private static func split(_ text: String) -> (Decimal, Substring)? {
        let number = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        let parts = number.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        let fraction = parts.count == 2 ? parts[1] : ""
        guard fraction.count <= 6, let digits = Int64(parts[0] + fraction) else { return nil }
        var scale: Int64 = 1
        for _ in fraction { scale *= 10 }
        return (Decimal(digits: digits, scale: scale), text[number.endIndex...])
    }
}
