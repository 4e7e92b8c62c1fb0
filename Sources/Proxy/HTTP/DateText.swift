// DateText: a time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7). Pure but for the buffer's bytes.

enum DateText {
    static let bytes = 29

    /// - Parameter seconds: since 1970, UTC, not negative.
    static func write(_ seconds: Int, _ pool: borrowing BufferPool, into stretch: Stretch) {
        let (days, second) = seconds.quotientAndRemainder(dividingBy: 86_400)
        // Days of years that begin in March, so that a leap day comes last.
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let fromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * fromMarch + 2) / 5 + 1
        let month = fromMarch < 10 ? fromMarch + 2 : fromMarch - 10
        let year = yearOfEra + era * 400 + (month < 2 ? 1 : 0)
        var at = Int(stretch.start)
        func put(_ text: StaticString) {
            pool.store(text, stretch.buffer, at)
            at += text.utf8CodeUnitCount
        }
        func put(_ value: Int) {
            pool.store(UInt8(0x30 + value / 10 % 10), stretch.buffer, at)
            pool.store(UInt8(0x30 + value % 10), stretch.buffer, at + 1)
            at += 2
        }
        put(weekday((days + 4) % 7))
        put(day)
        put(Self.month(month))
        put(year / 100)
        put(year % 100)
        put(" ")
        put(second / 3_600)
        put(":")
        put(second / 60 % 60)
        put(":")
        put(second % 60)
        put(" GMT")
    }

    private static func weekday(_ day: Int) -> StaticString {
        switch day {
        case 0: "Sun, "
        case 1: "Mon, "
        case 2: "Tue, "
        case 3: "Wed, "
        case 4: "Thu, "
        case 5: "Fri, "
        default: "Sat, "
        }
    }

    private static func month(_ month: Int) -> StaticString {
        switch month {
        case 0: " Jan "
        case 1: " Feb "
        case 2: " Mar "
        case 3: " Apr "
        case 4: " May "
        case 5: " Jun "
        case 6: " Jul "
        case 7: " Aug "
        case 8: " Sep "
        case 9: " Oct "
        case 10: " Nov "
        default: " Dec "
        }
    }
}
