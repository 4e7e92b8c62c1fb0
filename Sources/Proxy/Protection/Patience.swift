// Patience: how long a client that is waited for may go on being slow. Pure.
//
// A silence limit alone lets a client hold a request for ever with a byte now and then. So waiting uses up patience, and
// each byte gives some back: a client that moves bytes at the minimum rate or faster, averaged over the span, never runs
// out of it. It can't be saved up beyond the span, so a fast start doesn't pay for a slow rest. Only time in
// which the client was waited for counts: it isn't to blame for a server that is slow to take a body.

struct Patience: BitwiseCopyable, Equatable {
    /// What is left, in milliseconds.
    private(set) var leftMs: Int32
    /// When the present wait began, in milliseconds modulo 2^32; meaningless when it isn't one.
    private var sinceMs: UInt32 = 0
    private(set) var isWaiting = false

    static let none = Patience(spanMs: .max)

    init(spanMs: Int32) { leftMs = spanMs }

    /// The client is waited for from now on, or still.
    @inline(__always) mutating func wait(nowMs: UInt64) {
        spend(nowMs)
        isWaiting = true
    }

    /// Something else is waited for.
    @inline(__always) mutating func rest(nowMs: UInt64) {
        spend(nowMs)
        isWaiting = false
    }

    /// The client moved bytes.
    /// - Parameter rate: bytes in a second, at least 1.
    @inline(__always) mutating func moved(_ bytes: Int, rate: Int, spanMs: Int32, nowMs: UInt64) {
        guard isWaiting else { return }
        spend(nowMs)
        let earned = min(bytes.multipliedReportingOverflow(by: 1_000).partialValue / rate, Int(spanMs))
        leftMs = Int32(min(Int(leftMs) + max(earned, 0), Int(spanMs)))
    }

    private mutating func spend(_ nowMs: UInt64) {
        let now = UInt32(truncatingIfNeeded: nowMs)
        if isWaiting { leftMs = Int32(max(0, Int(leftMs) - Int(now &- sinceMs))) }
        sinceMs = now
    }
}
