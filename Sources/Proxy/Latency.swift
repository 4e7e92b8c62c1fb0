// Latency: how long servers take to answer, counted in fixed buckets, so that any percentile can be told afterwards and
// counting is two additions. Written by workers through Counters, read by the control thread.

/// Answers by the time from the choice of the server to its response's head, connecting included.
public struct LatencyFigures: Sendable, Equatable {
    /// The buckets' upper bounds in microseconds, inclusive; a last bucket has what took longer.
    public static let boundsUs: [UInt64] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000,
    ]
    public static let bucketCount = 17

    /// Answers in each bucket, not added up.
    public var counts = [UInt64](repeating: 0, count: bucketCount)
    public var sumUs: UInt64 = 0

    public init() {}

    public var count: UInt64 { counts.reduce(0, +) }

    /// The bucket that a time belongs to. Without a table, since it runs for each answer.
    @inline(__always) static func bucket(us: UInt64) -> Int {
        var unit: UInt64 = 100
        var index = 0
        while index < 15 {
            if us <= unit { return index }
            if us <= unit * 5 / 2 { return index + 1 }
            if us <= unit * 5 { return index + 2 }
            unit *= 10
            index += 3
        }
        return us <= unit ? 15 : 16
    }

    /// The time within which that part of the answers came, in seconds; nil when there were none. Within a bucket they are
    /// taken to be evenly spread; the last one has no end and counts as its beginning.
    public func percentile(_ part: Double) -> Double? {
        let wanted = part * Double(count)
        guard wanted > 0 else { return nil }
        var below = 0.0
        for (index, count) in counts.enumerated() where count > 0 {
            let from = index == 0 ? 0 : Double(Self.boundsUs[index - 1])
            let to = index < Self.boundsUs.count ? Double(Self.boundsUs[index]) : from
            if below + Double(count) >= wanted {
                return (from + (to - from) * (wanted - below) / Double(count)) / 1e6
            }
            below += Double(count)
        }
        return Double(Self.boundsUs[Self.boundsUs.count - 1]) / 1e6
    }
}
