// RetryBudget: lets retries be at most a share of the requests, so that failing servers don't get a storm. Pure.
//
// A token bucket in hundredths of a retry: each request pays in a share of one (a fifth unless said otherwise), each second
// some (three), each retry takes one out. What it can hold lets a server die under full load with all its requests in flight.
// It begins with what ten seconds bring.

struct RetryBudget: BitwiseCopyable {
    private static let most = 100_000

    /// Of a retry: hundredths.
    private var perRequest: Int
    private var perSecond: Int
    private var hundredths: Int
    private var paidUntilMs: UInt64

    init(_ settings: RetrySettings = RetrySettings(), nowMs: UInt64) {
        perRequest = settings.budgetPercent
        perSecond = 100 * settings.perSecondMin
        hundredths = 10 * perSecond
        paidUntilMs = nowMs
    }

    /// Goes on by these settings with what is there.
    mutating func adopt(_ settings: RetrySettings) {
        perRequest = settings.budgetPercent
        perSecond = 100 * settings.perSecondMin
    }

    @inline(__always) mutating func request() { hundredths = min(hundredths + perRequest, Self.most) }

    /// Takes a retry out; false when there is none left.
    mutating func take(nowMs: UInt64) -> Bool {
        let elapsed = Int(min(nowMs - min(paidUntilMs, nowMs), 60_000))
        hundredths = min(hundredths + elapsed * perSecond / 1_000, Self.most)
        paidUntilMs = nowMs
        guard hundredths >= 100 else { return false }
        hundredths -= 100
        return true
    }
}
