// RecentLatency: how long a server took to answer lately, all nodes together: two windows of ten seconds, the one before
// and the present one, so that what is told is of the last ten to twenty seconds. Pure.

import Gossip
import Proxy

struct RecentLatency: Sendable, Equatable {
    static let window = Duration.seconds(10)

    private var present = LatencyFigures()
    private var before = LatencyFigures()
    private var since = Instant(nanoseconds: 0)

    /// Takes in what was counted between two words of a node.
    mutating func add(_ now: LatencyFigures, since last: LatencyFigures, at instant: Instant) {
        rotate(instant)
        for index in present.counts.indices {
            let (new, old) = (now.counts[index], last.counts[index])
            present.counts[index] += new >= old ? new - old : new
        }
    }

    /// Forgets what is long over.
    mutating func rotate(_ now: Instant) {
        let age = since.duration(to: now)
        guard age >= Self.window else { return }
        before = age >= Self.window + Self.window ? LatencyFigures() : present
        present = LatencyFigures()
        since = now
    }

    var figures: LatencyFigures {
        var all = before
        for index in all.counts.indices { all.counts[index] += present.counts[index] }
        return all
    }
}
