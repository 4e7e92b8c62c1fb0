// StatusText: numbers as people read them, for the page and the commands.

enum StatusText {
    /// `4.2 s`, `3 min 20 s`, `5 h 12 min`, `3 d 4 h`.
    static func span(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0, seconds < 1e12 else { return "–" }
        let whole = Int(seconds)
        switch whole {
        case ..<10: return JSONWriter.text(seconds, decimals: 1) + " s"
        case ..<60: return "\(whole) s"
        case ..<3600: return "\(whole / 60) min \(whole % 60) s"
        case ..<86_400: return "\(whole / 3600) h \(whole / 60 % 60) min"
        default: return "\(whole / 86_400) d \(whole / 3600 % 24) h"
        }
    }

    /// `4s`, `3m20s`, `5h12m`, `3d4h`: for columns.
    static func shortSpan(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0, seconds < 1e12 else { return "-" }
        let whole = Int(seconds)
        switch whole {
        case ..<60: return "\(whole)s"
        case ..<3600: return "\(whole / 60)m\(whole % 60)s"
        case ..<86_400: return "\(whole / 3600)h\(whole / 60 % 60)m"
        default: return "\(whole / 86_400)d\(whole / 3600 % 24)h"
        }
    }

    /// `12345`, `1234k`: at most five characters or so.
    static func short(_ count: UInt64) -> String {
        switch count {
        case ..<100_000: String(count)
        case ..<10_000_000: "\(count / 1000)k"
        case ..<10_000_000_000: "\(count / 1_000_000)M"
        default: "\(count / 1_000_000_000)G"
        }
    }

    /// `12:34:56.789`
    static func time(_ ms: Int64) -> String { String(WallTime.text(ms: ms).dropFirst(11).dropLast()) }
}
