// SourceRate: how often something may happen, and whether it may happen now. Pure.
//
// The generic cell rate algorithm (ITU-T I.371), a token bucket kept in one word: the time up to which what has happened
// is paid for. Each event moves it on by an interval; an event is refused when that would put it further ahead of the
// present than a burst is worth. One word can be changed by compare and exchange, so that several workers share it.

public struct SourceRate: Sendable, Equatable {
    /// Between two events in the long run.
    let intervalNs: UInt64
    /// A burst's worth.
    let toleranceNs: UInt64

    /// - Parameters:
    ///   - events: how many in `seconds`, at least 1.
    ///   - burst: how many at once after a rest, at least 1.
    public init(events: Int, seconds: Int, burst: Int) {
        let events = UInt64(max(1, events))
        let seconds = UInt64(max(1, min(seconds, 86_400)))
        intervalNs = max(1, seconds * 1_000_000_000 / events)
        toleranceNs = intervalNs * UInt64(max(1, min(burst, 1_000_000)))
    }

    /// What an event now makes of the time up to which is paid; nil when it has to be refused.
    @inline(__always) func admit(paidUntilNs: UInt64, nowNs: UInt64) -> UInt64? {
        let next = start(paidUntilNs, nowNs) + intervalNs
        return next - nowNs > toleranceNs ? nil : next
    }

    /// How long an event that is refused now would have to wait.
    func waitNs(paidUntilNs: UInt64, nowNs: UInt64) -> UInt64 {
        let next = start(paidUntilNs, nowNs) + intervalNs
        return next - nowNs > toleranceNs ? next - nowNs - toleranceNs : 0
    }

    /// Nobody owes more than a burst: what was noted under a former limit must not outlast it.
    @inline(__always) private func start(_ paidUntilNs: UInt64, _ nowNs: UInt64) -> UInt64 {
        min(max(paidUntilNs, nowNs), nowNs + toleranceNs)
    }
}
