// WallTime: the time of day as people and machines read it. For display only, never for a decision.

enum WallTime {
    /// `2026-01-01T00:00:00.000Z` (RFC 3339, UTC).
    /// - Parameter ms: milliseconds since 1970; earlier times are shown as 1970.
    static func text(ms: Int64) -> String {
        let ms = max(0, ms)
        let seconds = ms / 1000
        let (year, month, day) = civil(days: seconds / 86_400)
        let inDay = seconds % 86_400
        let date = "\(digits(year, 4))-\(digits(month, 2))-\(digits(day, 2))"
        let time = "\(digits(inDay / 3600, 2)):\(digits(inDay / 60 % 60, 2)):\(digits(inDay % 60, 2))"
        return "\(date)T\(time).\(digits(ms % 1000, 3))Z"
    }

    /// Milliseconds since 1970 of what `text` wrote; nil for anything else.
    static func ms(_ text: String) -> Int64? {
        let parts = text.split { "-T:.Z".contains($0) }.compactMap { Int64($0) }
        guard parts.count == 7, text.utf8.count == 24, (1...12).contains(parts[1]), parts[0] >= 1970 else { return nil }
        let (year, month) = parts[1] > 2 ? (parts[0], parts[1] - 3) : (parts[0] - 1, parts[1] + 9)
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + parts[2] - 1 - 719_468
        return ((days * 24 + parts[3]) * 60 + parts[4]) * 60_000 + parts[5] * 1000 + parts[6]
    }

    /// The Gregorian date that many days after 1970-01-01, counted in eras of 400 years that begin on 1 March, so that
    /// the leap day comes last.
    private static func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
    }

    private static func digits(_ number: Int64, _ count: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, count - text.count)) + text
    }
}
