// DemoWindow: what happened between two moments of a demo, as the clients and the kernel's record saw it, and whether
// that is what was promised. Pure.

/// One step's measurements. Times are CLOCK_BOOTTIME nanoseconds.
struct DemoWindow {
    var from: UInt64
    var to: UInt64
    /// The whole record, from the start of the lab.
    var ownership: OwnershipRecord
    /// Requests on connections of their own that started in the window, and those on kept connections.
    var fresh: [LoadResult]
    var kept: [LoadResult]
    /// Idle connections that ended unannounced, which no request was lost by.
    var dropped: [LoadResult]

    init(from: UInt64, to: UInt64, ownership: OwnershipRecord, fresh: [LoadResult], kept: [LoadResult]) {
        self.from = from
        self.to = to
        self.ownership = ownership
        // A request under way when the step began belongs to it too, if it failed because of it.
        let isInside = { (result: LoadResult) in
            result.start < to && (result.start >= from || (result.end >= from && !result.outcome.isSuccess))
        }
        self.fresh = fresh.filter(isInside)
        let all = kept.filter(isInside)
        self.kept = all.filter { $0.outcome != .dropped }
        dropped = all.filter { $0.outcome == .dropped }
    }

    /// What the step may cost.
    struct Allowance {
        /// The longest outage of the client with new connections, milliseconds; nil: no request may fail.
        var outageMs: Double?
        /// The longest time without an owner, milliseconds; nil: not limited by itself.
        var withoutOwnerMs: Double?
        /// Requests on kept connections may fail too.
        var keptMayFail = false
        /// How long a node that stopped whole may still have the address beside its successor, milliseconds: 0 but for a
        /// crash in `trust`.
        var overlapMs = 0.0
        /// Only those requests may fail, on whichever connection, that were under way while the VIP moved.
        var onlyInFlight = false
    }

    var changes: OwnershipRecord { ownership.since(from) }

    /// Who had the VIP at the window's beginning and end.
    var ownerBefore: String? { ownership.owners(at: from).first }
    var ownerAfter: String? { ownership.owners(at: to).first }

    /// Time without an owner within the window, milliseconds.
    var withoutOwnerMs: Double {
        changes.gaps.reduce(0) { sum, gap in sum + Double(min(gap.to ?? to, to) - min(gap.from, to)) / 1e6 }
    }

    /// When the last new owner took the VIP; nil when it didn't move.
    var takenAt: UInt64? { changes.changes.last { $0.owns && $0.at > from }?.at }

    /// Whether a request began before the VIP was at its new place and was not over when it left the old one.
    private func wasInFlight(_ result: LoadResult) -> Bool {
        guard let taken = takenAt, let lost = changes.changes.first(where: { !$0.owns })?.at else { return false }
        // The record's times are those of printing, and neighbours need a moment to hear of the move.
        return result.start <= taken + 10_000_000 && result.end + 10_000_000 >= lost
    }

    var outages: [LoadOutage] { LoadOutages(fresh).all }

    /// Milliseconds, 0 when no request failed.
    var longestOutageMs: Double { outages.map { $0.milliseconds(until: to) }.max() ?? 0 }

    /// Every promise that the step broke, in a sentence each.
    func broken(_ allowance: Allowance) -> [String] {
        var broken: [String] = []
        for overlap in ownership.overlaps where (overlap.to ?? to) > from && overlap.from < to {
            let length = Double((overlap.to ?? to) - overlap.from) / 1e6
            if length <= allowance.overlapMs { continue }
            broken.append("\(overlap.nodes.joined(separator: " and ")) owned the VIP together for \(Self.ms(length))")
        }
        if let limit = allowance.withoutOwnerMs, withoutOwnerMs > limit {
            broken.append("nobody owned the VIP for \(Self.ms(withoutOwnerMs)), more than \(Self.ms(limit))")
        }
        if let limit = allowance.outageMs {
            if longestOutageMs > limit {
                broken.append("an outage of \(Self.ms(longestOutageMs)), longer than \(Self.ms(limit))")
            }
            // Once the new owner is there nothing may fail; the neighbours need a moment to hear of it.
            let late = (takenAt ?? from) + 50_000_000
            let count = fresh.filter { !$0.outcome.isSuccess && $0.start > late }.count
            if count > 0 { broken.append("\(count) requests failed that began after the VIP had moved") }
        } else {
            let count = fresh.filter { !$0.outcome.isSuccess }.count
            if count > 0 { broken.append("\(count) requests failed, and none should") }
        }
        if allowance.onlyInFlight {
            let other = (fresh + kept).filter { !$0.outcome.isSuccess && !wasInFlight($0) }.count
            if other > 0 { broken.append("\(other) requests failed that were not under way when the VIP moved") }
        }
        let keptFailures = kept.filter { !$0.outcome.isSuccess }.count
        if keptFailures > 0, !allowance.keptMayFail, !allowance.onlyInFlight {
            broken.append("\(keptFailures) requests on kept connections failed, and none should")
        }
        if fresh.isEmpty || kept.isEmpty { broken.append("a client sent nothing") }
        return broken
    }

    /// How long two nodes had the address at once within the window, milliseconds.
    var overlapMs: Double {
        ownership.overlaps.reduce(0) { sum, overlap in
            let (start, end) = (max(overlap.from, from), min(overlap.to ?? to, to))
            return end > start ? sum + Double(end - start) / 1e6 : sum
        }
    }

    // MARK: text

    /// `n1 → n3, nobody had it for 12 ms`.
    var moves: String {
        guard let taken = takenAt, let after = ownerAfter else {
            return ownerAfter.map { "stayed at \($0)" } ?? "nobody has it"
        }
        if ownerBefore == after { return "came back to \(after), nobody had it for \(Self.ms(withoutOwnerMs))" }
        let total = Double(taken - from) / 1e6
        return
            "\(ownerBefore ?? "nobody") → \(after) after \(Self.ms(total)), nobody had it for \(Self.ms(withoutOwnerMs))"
    }

    /// `outage 14 ms, 3 of 412 requests failed (refused 2, reset 1)`.
    static func describe(_ results: [LoadResult], until: UInt64) -> String {
        var causes: [(name: String, count: Int)] = []
        for result in results where !result.outcome.isSuccess { LoadFigures.count(result.outcome.word, in: &causes) }
        let again = results.filter { $0.outcome == .reconnected }.count
        let suffix = again > 0 ? ", \(again) on a second connection" : ""
        let failed = causes.reduce(0) { $0 + $1.count }
        if failed == 0 { return "0 of \(results.count) requests failed\(suffix)" }
        let longest = LoadOutages(results).all.map { $0.milliseconds(until: until) }.max() ?? 0
        let list = causes.map { "\($0.name) \($0.count)" }.joined(separator: ", ")
        return "outage \(ms(longest)), \(failed) of \(results.count) requests failed (\(list))\(suffix)"
    }

    /// The longest time between the starts of two requests that followed each other. The client is open-loop, so more than
    /// its interval means that this machine did not run it: nothing that was measured then says much about the cluster.
    static func longestStallMs(_ results: [LoadResult]) -> Double {
        let starts = results.map(\.start).sorted()
        return zip(starts.dropFirst(), starts).map { Double($0 - $1) / 1e6 }.max() ?? 0
    }

    /// Who answered in the window: `API #1: 40, API #2: 40`.
    var answered: String {
        var servers: [(name: String, count: Int)] = []
        for result in fresh where result.outcome.isSuccess { LoadFigures.count(result.who ?? "?", in: &servers) }
        return LoadFigures.list(servers)
    }

    static func ms(_ milliseconds: Double) -> String {
        guard milliseconds.isFinite else { return "ever" }
        return milliseconds >= 1000
            ? "\((milliseconds / 10).rounded() / 100) s" : LoadFigures.milliseconds(UInt64(max(0, milliseconds) * 1e6))
    }
}
