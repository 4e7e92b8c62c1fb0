// ScalingDecision: how many servers a backend should have for the load it has. Pure: a sample a second in, a number out.
//
// Up at once: as soon as the mean of `window` needs more servers than are wanted. Down late, to the largest number that was
// needed at any moment of `coolDown`, counted as if each server took only `fill` of its share. So a short lull changes nothing,
// and a number isn't left for one that would be left again at once. Down in one step, not one server at a time: what was
// enough for the whole of that time is enough. `upCoolDown` lies between any two changes, so that what was asked for can begin.
//
// Nothing is decided while figures aren't complete, and a gap of more than `gapMax` begins window and cool-down anew.

import Gossip

/// A backend's `autoscale`.
struct ScalingRules: Sendable, Equatable {
    enum Share: Sendable, Equatable {
        /// Per second.
        case requests(Int)
        /// Requests (TCP: connections) under way.
        case sessions(Int)

        var perServer: Int {
            switch self {
            case .requests(let count), .sessions(let count): count
            }
        }

        /// As in `412 requests/s`.
        var unit: String {
            switch self {
            case .requests: "requests/s"
            case .sessions: "sessions"
            }
        }
    }

    var min: Int
    var max: Int
    /// What one server is meant to take.
    var share: Share
    /// The load is its mean over this span.
    var window: Duration = .seconds(5)
    /// At least between two changes.
    var upCoolDown: Duration = .seconds(5)
    /// Fewer servers must have been enough for this long.
    var coolDown: Duration = .seconds(60)

    /// How full servers may be after there are fewer of them.
    static let fill = 0.85

    /// Servers that this load needs, without bounds.
    func needed(for load: Double, fill: Double = 1) -> Int {
        let servers = (load / (Double(share.perServer) * fill)).rounded(.up)
        return servers < Double(Limits.serversMax) ? Int(servers) : Limits.serversMax
    }

    func clamped(_ count: Int) -> Int { Swift.max(min, Swift.min(max, count)) }
}

struct ScalingDecision: Sendable {
    /// In the order of time, at most one a second for the longest cool-down.
    private var samples: [(at: Instant, load: Double, enough: Int)] = []
    /// When samples without a gap began.
    private var since: Instant?
    /// What was wanted when it was last asked, and since when.
    private var wanted: (count: Int?, since: Instant)?
    /// The mean of the window; nil while it isn't full.
    private(set) var load: Double?

    /// Without a sample for longer what came before tells nothing any more: a node's start takes less, or an election.
    static let gapMax = Duration.seconds(5)

    /// The figures aren't complete now.
    mutating func interrupt() { load = nil }

    /// Takes in the load of a moment; call it once a second.
    mutating func note(_ load: Double, _ rules: ScalingRules, now: Instant) {
        if let last = samples.last, last.at.duration(to: now) > Self.gapMax {
            samples = []
            since = nil
        }
        let first = since ?? now
        since = first
        samples.append((now, load, 0))
        let mean = mean(rules.window, now: now)
        samples[samples.count - 1].enough = rules.needed(for: mean, fill: ScalingRules.fill)
        let kept = samples.firstIndex { $0.at.duration(to: now) <= rules.coolDown + rules.window } ?? 0
        samples.removeFirst(kept)
        self.load = first.duration(to: now) >= rules.window ? mean : nil
    }

    private func mean(_ window: Duration, now: Instant) -> Double {
        let recent = samples.reversed().prefix { $0.at.duration(to: now) < window }
        return recent.isEmpty ? 0 : recent.reduce(0) { $0 + $1.load } / Double(recent.count)
    }

    /// What should be wanted from now on; nil: what is wanted already.
    /// - Parameters:
    ///   - current: what the cluster agreed on; nil: nothing yet.
    ///   - serving: servers that take requests now.
    mutating func decide(current: Int?, serving: Int, _ rules: ScalingRules, now: Instant) -> (
        count: Int, reason: String
    )? {
        if wanted?.count != current { wanted = (current, now) }
        guard let load else { return nil }
        let need = rules.needed(for: load)
        let told =
            "\(JSONWriter.text(load, decimals: load < 10 ? 1 : 0)) \(rules.share.unit), \(rules.share.perServer) a server"
        guard let current else {
            // It begins with what is there.
            return (rules.clamped(Swift.max(need, serving)), "it begins with \(serving): \(told)")
        }
        if current < rules.min { return (rules.min, "at least \(rules.min) are configured") }
        if current > rules.max { return (rules.max, "at most \(rules.max) are configured") }
        let rested = wanted.map { $0.since.duration(to: now) } ?? .zero
        guard rested >= rules.upCoolDown else { return nil }
        let more = rules.clamped(need)
        if more > current { return (more, told) }
        guard let since, since.duration(to: now) >= rules.coolDown + rules.window else { return nil }
        let recent = samples.reversed().prefix { $0.at.duration(to: now) <= rules.coolDown }
        let fewer = rules.clamped(recent.reduce(0) { Swift.max($0, $1.enough) })
        let span = Quantity.text(rules.coolDown)
        return fewer < current ? (fewer, "\(told): \(fewer) were enough for \(span)") : nil
    }
}
