// Instant: a point on this node's monotonic clock, handed in by the shell (or by a simulator).
// The module never reads a clock. Instants of two nodes can't be compared; only spans travel.

/// Nanoseconds on the node's own clock (CLOCK_BOOTTIME in the shell).
public struct Instant: InstantProtocol, Hashable, Sendable {
    public var nanoseconds: UInt64

    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    public func advanced(by span: Duration) -> Instant {
        let nanoseconds = span.nanoseconds
        if nanoseconds >= 0 { return Instant(nanoseconds: self.nanoseconds &+ UInt64(nanoseconds)) }
        let back = UInt64(-nanoseconds)
        return Instant(nanoseconds: self.nanoseconds > back ? self.nanoseconds - back : 0)
    }

    public func duration(to other: Instant) -> Duration {
        .nanoseconds(Int64(bitPattern: other.nanoseconds &- nanoseconds))
    }
}

extension Duration {
    /// Whole nanoseconds; spans here are far below the 292 years that fit.
    public var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }

    public var milliseconds: Double { Double(nanoseconds) / 1_000_000 }
}
