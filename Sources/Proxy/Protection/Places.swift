// Places: how many requests each limited server has on this node, how many clients each limited frontend has, and which
// workers have somebody waiting for one of these places.
//
// Shared by all workers, because a limit divided by their number would refuse what meets in one worker while others have
// room. Words change by compare and exchange; nobody waits for anybody. What is limited nowhere isn't counted.
//
// Who waits stands in a *line*: one for each backend (requests that found its servers full) and one for each frontend
// (listeners that stopped accepting). A worker says in a line since when its first one waits, so that whoever frees a
// place finds the worker whose turn it is and wakes that one. Saying so and then looking for a place, here, and freeing a
// place and then looking who waits, there, are in one order for all (sequentially consistent): one of the two sees the
// other. A wake that is lost all the same (who was woken has just given up) costs a tick (`queueTickMs`).
// Beside them stand the errors that each server made in a row, for outlier detection (Worker+Outliers).
// Unsafe code is allowed in this file (see TidyTests).

import Glibc
import Synchronization

final class PlaceTable: @unchecked Sendable {
    private let words: UnsafeMutablePointer<Atomic<Int>>
    private let workers: Int

    init(workers: Int) {
        self.workers = workers
        let count = Places.linesAt + Places.lines * (1 + workers)
        // Zero as the kernel gives it: what is limited nowhere costs no memory.
        guard let memory = calloc(count, MemoryLayout<Atomic<Int>>.stride) else {
            preconditionFailure("no memory for places")
        }
        words = memory.bindMemory(to: Atomic<Int>.self, capacity: count)
    }

    deinit { free(words) }

    /// What threads use; valid while the table lives.
    var places: Places { Places(words: words, workers: workers) }
}

/// The working end: no reference, so that counting touches no reference count. Any thread.
struct Places {
    /// Something that has places.
    enum Owner {
        /// By slots, below `ProxyLimits.serversMax` and `frontendsMax`.
        case server(Int)
        case frontend(Int)
    }

    /// Where those stand who wait for a place.
    enum Line {
        /// By slots, below `ProxyLimits.backendsMax` and `frontendsMax`.
        case backend(Int)
        case frontend(Int)
    }

    private static let owners = ProxyLimits.serversMax + ProxyLimits.frontendsMax
    private static let runsAt = 2 * owners
    fileprivate static let linesAt = runsAt + ProxyLimits.serversMax
    fileprivate static let lines = ProxyLimits.backendsMax + ProxyLimits.frontendsMax

    // By owner: its places in use, and how many it has. Then by server: its errors in a row. Then by line: how many workers wait in it, and since when each.
    fileprivate let words: UnsafeMutablePointer<Atomic<Int>>
    fileprivate let workers: Int

    @inline(__always) private func at(_ owner: Owner) -> Int {
        switch owner {
        case .server(let slot):
            precondition(slot < ProxyLimits.serversMax)
            return 2 * slot
        case .frontend(let slot):
            precondition(slot < ProxyLimits.frontendsMax)
            return 2 * (ProxyLimits.serversMax + slot)
        }
    }

    @inline(__always) private func at(_ line: Line) -> Int {
        let number: Int
        switch line {
        case .backend(let slot):
            precondition(slot < ProxyLimits.backendsMax)
            number = slot
        case .frontend(let slot):
            precondition(slot < ProxyLimits.frontendsMax)
            number = ProxyLimits.backendsMax + slot
        }
        return Self.linesAt + number * (1 + workers)
    }

    // MARK: places

    /// - Parameter places: 0: as many as are asked for.
    func limit(_ owner: Owner, to places: Int) { words[at(owner) + 1].store(places, ordering: .relaxed) }

    @inline(__always) func isFull(_ owner: Owner) -> Bool {
        let place = at(owner)
        let most = words[place + 1].load(ordering: .relaxed)
        return most > 0 && words[place].load(ordering: .sequentiallyConsistent) >= most
    }

    /// Takes a place; false when none is free.
    func take(_ owner: Owner) -> Bool {
        let place = at(owner)
        var seen = words[place].load(ordering: .relaxed)
        while true {
            let most = words[place + 1].load(ordering: .relaxed)
            if most > 0 && seen >= most { return false }
            let (exchanged, original) = words[place].compareExchange(
                expected: seen, desired: seen + 1, ordering: .sequentiallyConsistent)
            if exchanged { return true }
            seen = original
        }
    }

    /// Counts who came before there was a limit.
    func add(_ owner: Owner) { words[at(owner)].add(1, ordering: .sequentiallyConsistent) }

    /// Gives back a place that was taken.
    func release(_ owner: Owner) { words[at(owner)].subtract(1, ordering: .sequentiallyConsistent) }

    // MARK: errors in a row

    /// Counts an error of a server: how many it made in a row with this one.
    func failed(server slot: Int) -> Int { words[run(slot)].add(1, ordering: .relaxed).newValue }

    /// Errors in a row.
    @inline(__always) func failures(server slot: Int) -> Int { words[run(slot)].load(ordering: .relaxed) }

    func succeeded(server slot: Int) { words[run(slot)].store(0, ordering: .relaxed) }

    @inline(__always) private func run(_ slot: Int) -> Int {
        precondition(slot < ProxyLimits.serversMax)
        return Self.runsAt + slot
    }

    // MARK: lines

    /// Says since when a worker's first one waits.
    /// - Parameter sinceUs: microseconds of the boot clock; 0: nobody waits.
    func announce(_ line: Line, worker: Int, sinceUs: UInt64) {
        let place = at(line)
        let before = words[place + 1 + worker].load(ordering: .relaxed)
        // First the count when it grows, last when it shrinks: who looks at it must not miss anybody.
        if before == 0, sinceUs > 0 { words[place].add(1, ordering: .sequentiallyConsistent) }
        words[place + 1 + worker].store(Int(sinceUs), ordering: .sequentiallyConsistent)
        if before > 0, sinceUs == 0 { words[place].subtract(1, ordering: .sequentiallyConsistent) }
    }

    /// Whether somebody waits in any worker.
    @inline(__always) func isAwaited(_ line: Line) -> Bool {
        words[at(line)].load(ordering: .sequentiallyConsistent) > 0
    }

    /// The worker whose first one has waited for longest, and since when; nil when nobody waits.
    func first(_ line: Line) -> (worker: Int, sinceUs: UInt64)? {
        let place = at(line)
        var first: (worker: Int, sinceUs: UInt64)?
        for worker in 0..<workers {
            let since = UInt64(words[place + 1 + worker].load(ordering: .sequentiallyConsistent))
            if since > 0, since < first?.sinceUs ?? .max { first = (worker, since) }
        }
        return first
    }
}
