// SlowStart: how much of its weight a server has that came up a moment ago.

public enum SlowStart {
    /// Percent of the weight, from 10 at first to 100.
    /// - Parameter leftMs: milliseconds to the end of the span; 0 when it is over.
    @inline(__always) public static func percent(leftMs: UInt64, of spanMs: UInt64) -> UInt64 {
        spanMs == 0 ? 100 : 100 - 90 * min(leftMs, spanMs) / spanMs
    }
}
