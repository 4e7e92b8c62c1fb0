// SourceTable: connections and rates of clients by their address, for all workers of a node, in a fixed piece of memory.
//
// Shared, because the kernel spreads a client's connections over the workers as it likes: limits divided by the number of
// workers would cut a client off whose connections happen to meet in one. Workers change words by compare and exchange;
// nobody waits for anybody.
//
// The table consists of sets of eight places; a source's hash says which set, and is what it is known by (a hash of
// 64 bits with a secret key). A newcomer to a full set takes the place of the source without connections that was active
// longest ago. If all have connections, the newcomer isn't counted. So an attacker with a million addresses can at most
// make the table forget: whatever it forgets is let in, nobody is refused for another's sake.
//
// Races end the same way. A count carries a part of its source's hash, so that it can't be raised for another; a word of
// time that two sources share for a moment is off by one event. Two workers that place one source at once may leave it two
// places, if neither sees the other's in time: the first is found from then on, and the second is free again when the
// connections that were counted there have ended. For that a connection's end is counted where its beginning was.
// Unsafe code is allowed in this file (see TidyTests).

import Glibc
import Synchronization

final class SourceTable: @unchecked Sendable {
    /// Sources that fit, all frontends together. 32 bytes each, of which untouched ones cost nothing.
    static let sourcesMax = 65_536

    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    private let count: Int
    let sets: Int

    /// - Parameter sources: a power of two, at least 8.
    init(sources: Int = sourcesMax) {
        precondition(sources >= SourceCounts.ways && sources & (sources - 1) == 0)
        sets = sources / SourceCounts.ways
        count = sources * SourceCounts.wordsPerSource
        // Zero as the kernel gives it: a place costs memory from its first use on.
        guard let memory = calloc(count, MemoryLayout<Atomic<UInt64>>.stride) else {
            preconditionFailure("no memory for \(sources) sources")
        }
        words = memory.bindMemory(to: Atomic<UInt64>.self, capacity: count)
    }

    deinit { free(words) }

    /// What workers use; valid while the table lives.
    var counts: SourceCounts { SourceCounts(words: words, setMask: UInt64(sets - 1)) }

    /// Sources that have a place now.
    var used: Int {
        var used = 0
        for set in 0..<sets {
            for way in 0..<SourceCounts.ways
            where words[set * SourceCounts.wordsPerSet + way].load(ordering: .relaxed) != 0 { used += 1 }
        }
        return used
    }
}

/// The working end: no reference, so that counting touches no reference count. Any thread.
struct SourceCounts {
    static let ways = 8
    static let wordsPerSource = 4
    static let wordsPerSet = ways * wordsPerSource

    /// Which rate: its words follow those of the connections.
    enum Rate: Int {
        case connections = 2
        case requests = 3
    }

    /// A connection that was counted, and the place where.
    struct Connection: BitwiseCopyable, Equatable {
        fileprivate let source: UInt64
        fileprivate let place: Int32
    }

    /// How an attempt to open a connection ended.
    enum Opening: Equatable {
        case counted(Connection)
        case refused
        /// No place for it: let in all the same.
        case uncounted
    }

    // By set: eight sources, then their connections (with a part of the source), then their two times.
    fileprivate let words: UnsafeMutablePointer<Atomic<UInt64>>
    fileprivate let setMask: UInt64

    // MARK: connections

    /// Counts a connection of a source, unless it has `max` already.
    func open(_ source: UInt64, max: Int, nowNs: UInt64) -> Opening {
        guard let place = place(of: source, nowNs: nowNs) else { return .uncounted }
        let word = words + place + Self.ways
        var seen = word.pointee.load(ordering: .relaxed)
        while true {
            var count = seen
            if seen >> 32 != source >> 32 {
                // Of a source that had the place before, or that lost a race for it.
                guard seen & 0xffff_ffff == 0, words[place].load(ordering: .relaxed) == source else {
                    return .uncounted
                }
                count = (source >> 32) << 32
            }
            if Int(count & 0xffff_ffff) >= max { return .refused }
            let (exchanged, original) = word.pointee.compareExchange(
                expected: seen, desired: count + 1, ordering: .relaxed)
            if exchanged { return .counted(Connection(source: source, place: Int32(place))) }
            seen = original
        }
    }

    /// Takes back what `open` counted, once.
    func close(_ connection: Connection) {
        let word = words + Int(connection.place) + Self.ways
        var seen = word.pointee.load(ordering: .relaxed)
        // 0 when the source was forgotten meanwhile and has come back.
        while seen >> 32 == connection.source >> 32, seen & 0xffff_ffff > 0 {
            let (exchanged, original) = word.pointee.compareExchange(
                expected: seen, desired: seen - 1, ordering: .relaxed)
            if exchanged { return }
            seen = original
        }
    }

    func connections(_ source: UInt64) -> Int {
        guard let place = find(source) else { return 0 }
        let word = words[place + Self.ways].load(ordering: .relaxed)
        return word >> 32 == source >> 32 ? Int(word & 0xffff_ffff) : 0
    }

    // MARK: rates

    /// Counts an event of a source: nil when it is within its rate, else how long it would have to wait, in nanoseconds.
    func take(_ source: UInt64, _ kind: Rate, _ rate: SourceRate, nowNs: UInt64) -> UInt64? {
        guard let place = place(of: source, nowNs: nowNs) else { return nil }
        let word = words + place + kind.rawValue * Self.ways
        var seen = word.pointee.load(ordering: .relaxed)
        while true {
            guard let next = rate.admit(paidUntilNs: seen, nowNs: nowNs) else {
                return rate.waitNs(paidUntilNs: seen, nowNs: nowNs)
            }
            let (exchanged, original) = word.pointee.compareExchange(expected: seen, desired: next, ordering: .relaxed)
            if exchanged { return nil }
            seen = original
        }
    }

    // MARK: places

    /// Where a set begins.
    private func set(of source: UInt64) -> Int { Int(source & setMask) * Self.wordsPerSet }

    private func find(_ source: UInt64) -> Int? {
        let set = set(of: source)
        for place in set..<set + Self.ways where words[place].load(ordering: .relaxed) == source { return place }
        return nil
    }

    /// A source's place, a new one if need be; nil when there is none for it.
    private func place(of source: UInt64, nowNs: UInt64) -> Int? {
        if let place = find(source) { return place }
        // A few times: another worker may take the same place first.
        for _ in 0..<4 {
            guard let victim = victim(in: set(of: source)) else { return nil }
            if let claim = claim(victim, for: source) { return settle(claim) }
            if let place = find(source) { return place }
        }
        return nil
    }

    /// A place with a new name on it, and what was counted there before.
    struct Claim {
        fileprivate let source: UInt64
        fileprivate let place: Int
        fileprivate let count: UInt64
    }

    /// Takes a place; nil when another worker was faster.
    func claim(_ place: Int, for source: UInt64) -> Claim? {
        let former = words[place].load(ordering: .relaxed)
        let count = words[place + Self.ways].load(ordering: .relaxed)
        let exchanged = words[place].compareExchange(
            expected: former, desired: source, ordering: .sequentiallyConsistent
        ).exchanged
        return exchanged ? Claim(source: source, place: place, count: count) : nil
    }

    /// Makes a claimed place the source's own. Until then others may take it for theirs, and count there.
    func settle(_ claim: Claim) -> Int {
        let (source, place) = (claim.source, claim.place)
        _ = words[place + Self.ways].compareExchange(
            expected: claim.count, desired: (source >> 32) << 32, ordering: .relaxed)
        words[place + Rate.connections.rawValue * Self.ways].store(0, ordering: .relaxed)
        words[place + Rate.requests.rawValue * Self.ways].store(0, ordering: .relaxed)
        // The first of two is the one that everybody finds: a later one is given back.
        for first in set(of: source)..<place where words[first].load(ordering: .sequentiallyConsistent) == source {
            _ = words[place].compareExchange(expected: source, desired: 0, ordering: .sequentiallyConsistent)
            return first
        }
        return place
    }

    /// A free place of a set, or that of the source without connections whose times are the oldest; nil when all have
    /// connections.
    private func victim(in set: Int) -> Int? {
        var oldest: Int?
        var oldestNs = UInt64.max
        for place in set..<set + Self.ways {
            if words[place].load(ordering: .relaxed) == 0 { return place }
            guard words[place + Self.ways].load(ordering: .relaxed) & 0xffff_ffff == 0 else { continue }
            let last = max(
                words[place + Rate.connections.rawValue * Self.ways].load(ordering: .relaxed),
                words[place + Rate.requests.rawValue * Self.ways].load(ordering: .relaxed))
            if last < oldestNs {
                oldest = place
                oldestNs = last
            }
        }
        return oldest
    }
}
