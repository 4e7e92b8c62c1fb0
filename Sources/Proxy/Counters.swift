// Counters: one worker's figures, written by that worker and read by the control thread without a lock.
//
// Each figure is an atomic word that one thread writes (a relaxed load, an addition and a relaxed store: plain
// instructions) and any thread reads, so a reading may be a moment old and its parts may differ by a request.
// Unsafe code is allowed in this file (see TidyTests).

import Synchronization

/// A worker's own figures.
enum WorkerFigure: Int, CaseIterable {
    case connections, idle, inFlight, accepted, requests
    /// Unused, so that class n of the responses stands at `responses0 + n`.
    case responses0
    case responses1, responses2, responses3, responses4, responses5
    case retries, retriesDenied, errors, refused, aborted, bytesIn, bytesOut
}

/// A server's figures, kept per server slot.
enum ServerFigure: Int, CaseIterable {
    case sessions, connections, requests, retries, errors
}

/// A fixed block of figures, shared by its writer and its readers for as long as either lives.
final class Counters: @unchecked Sendable {
    private static let serversAt = WorkerFigure.allCases.count
    private static let perServer = ServerFigure.allCases.count
    private static let count = serversAt + perServer * ProxyLimits.serversMax

    private let words: UnsafeMutablePointer<Atomic<Int>>

    init() {
        words = .allocate(capacity: Self.count)
        for index in 0..<Self.count { (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        words.deinitialize(count: Self.count)
        words.deallocate()
    }

    /// What the writing thread uses; valid while the block lives.
    var writer: CounterWriter { CounterWriter(words: words, serversAt: Self.serversAt, perServer: Self.perServer) }

    func read(_ figure: WorkerFigure) -> Int { words[figure.rawValue].load(ordering: .relaxed) }

    func read(_ figure: ServerFigure, slot: Int) -> Int {
        precondition(slot < ProxyLimits.serversMax)
        return words[Self.serversAt + slot * Self.perServer + figure.rawValue].load(ordering: .relaxed)
    }

    /// Adds this block's figures (those of servers excepted) to `figures`.
    func add(to figures: inout Figures) {
        figures.connections += read(.connections)
        figures.idle += read(.idle)
        figures.inFlight += read(.inFlight)
        figures.accepted += UInt64(read(.accepted))
        figures.requests += UInt64(read(.requests))
        for status in 1...5 {
            figures.responses[status] += UInt64(
                words[WorkerFigure.responses0.rawValue + status].load(ordering: .relaxed))
        }
        figures.retries += UInt64(read(.retries))
        figures.retriesDenied += UInt64(read(.retriesDenied))
        figures.errors += UInt64(read(.errors))
        figures.refused += UInt64(read(.refused))
        figures.aborted += UInt64(read(.aborted))
        figures.bytesIn += UInt64(read(.bytesIn))
        figures.bytesOut += UInt64(read(.bytesOut))
    }
}

/// The writing end: no reference, so that counting touches no reference count. One thread only.
struct CounterWriter {
    fileprivate let words: UnsafeMutablePointer<Atomic<Int>>
    fileprivate let serversAt: Int
    fileprivate let perServer: Int

    @inline(__always) private func add(_ index: Int, _ amount: Int) {
        let value = words[index].load(ordering: .relaxed)
        words[index].store(value &+ amount, ordering: .relaxed)
    }

    @inline(__always) func add(_ figure: WorkerFigure, _ amount: Int = 1) { add(figure.rawValue, amount) }

    /// - Parameter slot: below `ProxyLimits.serversMax`.
    @inline(__always) func add(_ figure: ServerFigure, slot: Int, _ amount: Int = 1) {
        add(serversAt + slot * perServer + figure.rawValue, amount)
    }

    /// Counts a response by its status; anything outside 100 ... 599 counts as 5xx.
    @inline(__always) func response(status: Int) {
        let kind = status / 100
        add(WorkerFigure.responses0.rawValue + (1...5 ~= kind ? kind : 5), 1)
    }
}
