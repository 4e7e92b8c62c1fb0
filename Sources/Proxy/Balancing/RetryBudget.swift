// RetryBudget: lets retries be at most a share of the requests, so that failing servers don't get a storm. Pure.
//
// A token bucket in hundredths of a retry: each request pays in a fifth of one, each second three, each retry takes one
// out. What it can hold lets a server die under full load with all its requests in flight.

struct RetryBudget: BitwiseCopyable {
    private static let perRequest = 20
    private static let perSecond = 300
    private static let initial = 3_000
    private static let most = 100_000

    private var hundredths = initial
    private var paidUntilMs: UInt64

    init(nowMs: UInt64) { paidUntilMs = nowMs }

    @inline(__always) mutating func request() { hundredths = min(hundredths + Self.perRequest, Self.most) }

    /// Takes a retry out; false when there is none left.
    mutating func take(nowMs: UInt64) -> Bool {
        let elapsed = Int(min(nowMs - min(paidUntilMs, nowMs), 60_000))
        hundredths = min(hundredths + elapsed * Self.perSecond / 1_000, Self.most)
        paidUntilMs = nowMs
        guard hundredths >= 100 else { return false }
        hundredths -= 100
        return true
    }
}
