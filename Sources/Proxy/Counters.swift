// Counters: one worker's figures, written by that worker and read by the control thread without a lock.
//
// Each figure is an atomic word that one thread writes (a relaxed load, an addition and a relaxed store: plain
// instructions) and any thread reads, so a reading may be a moment old and its parts may differ by a request.
// Unsafe code is allowed in this file (see TidyTests).

import Glibc
import Synchronization

/// A worker's own figures.
enum WorkerFigure: Int, CaseIterable {
    case connections, idle, inFlight, accepted, requests
    /// Unused, so that class n of the responses stands at `responses0 + n`.
    case responses0
    case responses1, responses2, responses3, responses4, responses5
    case retries, retriesDenied, errors, refused, aborted, bytesIn, bytesOut
    /// Clients that were too slow: with a request's head, with its body, in taking a response.
    case slowHeads, slowBodies, slowReaders
    /// Beyond a source's limit: connections, the rate of them, the rate of requests.
    case sourceConnections, sourceConnectionRate, sourceRequestRate
    /// Whether accepting pauses now; how often it did for want of descriptors or memory, and of places.
    case acceptPaused, acceptPausesSystem, acceptPausesFull
    /// Which settings the worker runs by.
    case generation
}

/// A frontend's figures, kept per frontend slot.
enum FrontendFigure: Int, CaseIterable {
    case connections
    /// Whether the worker doesn't accept because the frontend has all the clients it may have; how often it stopped.
    case paused, pauses
    /// Whether the worker wants to know of new clients; how often it looked for some, and how often it had to open its
    /// listener again.
    case listens, looks, reopenings
}

/// A backend's figures, kept per backend slot.
enum BackendFigure: Int, CaseIterable {
    case inFlight
    /// Requests that wait for a server's place now, that ever did, that waited for too long, that found the queue full.
    case queued, everQueued, queueTimeouts, queueFull
}

/// A server's figures, kept per server slot.
enum ServerFigure: Int, CaseIterable {
    case sessions, connections, requests, retries, errors
    /// Times it was set aside for errors in a row.
    case outlier
}

/// A fixed block of figures, shared by its writer and its readers for as long as either lives.
final class Counters: @unchecked Sendable {
    /// In words.
    private static let cacheLine = 8
    private static let serversAt = aligned(WorkerFigure.allCases.count)
    /// Of a server's words.
    fileprivate static let latencyAt = ServerFigure.allCases.count
    /// A server's figures, the sum of its answers' times, and the buckets of those. Whole cache lines: a request counts in
    /// two of them, and with many servers they come from memory.
    fileprivate static let perServer = aligned(latencyAt + 1 + LatencyFigures.bucketCount)
    private static let frontendsAt = serversAt + perServer * ProxyLimits.serversMax
    private static let backendsAt = frontendsAt + FrontendFigure.allCases.count * ProxyLimits.frontendsMax
    private static let count = backendsAt + BackendFigure.allCases.count * ProxyLimits.backendsMax

    private let block: UnsafeMutableRawPointer
    private let words: UnsafeMutablePointer<Atomic<Int>>

    init() {
        // Zeroed by the kernel page by page as they are used: most servers' places never are.
        guard let block = calloc(Self.count + Self.cacheLine, MemoryLayout<Atomic<Int>>.stride) else {
            preconditionFailure("no memory for counters")
        }
        self.block = block
        words = block.alignedUp(toMultipleOf: Self.cacheLine * MemoryLayout<Atomic<Int>>.stride)
            .bindMemory(to: Atomic<Int>.self, capacity: Self.count)
    }

    deinit {
        free(block)
    }

    private static func aligned(_ words: Int) -> Int { (words + cacheLine - 1) / cacheLine * cacheLine }

    /// What the writing thread uses; valid while the block lives.
    var writer: CounterWriter { CounterWriter(words: words) }

    fileprivate static func index(_ figure: ServerFigure, _ slot: Int) -> Int {
        serversAt + slot * perServer + figure.rawValue
    }

    /// The sum of a server's times, and its buckets behind it.
    fileprivate static func latency(ofServer slot: Int) -> Int { serversAt + slot * perServer + latencyAt }

    fileprivate static func index(_ figure: FrontendFigure, _ slot: Int) -> Int {
        frontendsAt + slot * FrontendFigure.allCases.count + figure.rawValue
    }

    fileprivate static func index(_ figure: BackendFigure, _ slot: Int) -> Int {
        backendsAt + slot * BackendFigure.allCases.count + figure.rawValue
    }

    // WHY: acquiring and releasing, so that what the worker counted before it took new settings is seen with them.
    func read(_ figure: WorkerFigure) -> Int { words[figure.rawValue].load(ordering: .acquiring) }

    func read(_ figure: ServerFigure, slot: Int) -> Int {
        precondition(slot < ProxyLimits.serversMax)
        return words[Self.index(figure, slot)].load(ordering: .relaxed)
    }

    func read(_ figure: FrontendFigure, frontend slot: Int) -> Int {
        precondition(slot < ProxyLimits.frontendsMax)
        return words[Self.index(figure, slot)].load(ordering: .relaxed)
    }

    func read(_ figure: BackendFigure, backend slot: Int) -> Int {
        precondition(slot < ProxyLimits.backendsMax)
        return words[Self.index(figure, slot)].load(ordering: .relaxed)
    }

    /// Adds a server's times to `figures`.
    func add(to figures: inout LatencyFigures, slot: Int) {
        precondition(slot < ProxyLimits.serversMax)
        let place = Self.latency(ofServer: slot)
        figures.sumUs += UInt64(words[place].load(ordering: .relaxed))
        for bucket in 0..<LatencyFigures.bucketCount {
            figures.counts[bucket] += UInt64(words[place + 1 + bucket].load(ordering: .relaxed))
        }
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
        figures.slow.heads += UInt64(read(.slowHeads))
        figures.slow.bodies += UInt64(read(.slowBodies))
        figures.slow.readers += UInt64(read(.slowReaders))
        figures.overLimit.connections += UInt64(read(.sourceConnections))
        figures.overLimit.connectionRate += UInt64(read(.sourceConnectionRate))
        figures.overLimit.requestRate += UInt64(read(.sourceRequestRate))
        figures.accepting.paused += read(.acceptPaused)
        figures.accepting.pausesSystem += UInt64(read(.acceptPausesSystem))
        figures.accepting.pausesFull += UInt64(read(.acceptPausesFull))
    }
}

/// The writing end: no reference, so that counting touches no reference count. One thread only.
struct CounterWriter {
    fileprivate let words: UnsafeMutablePointer<Atomic<Int>>

    @inline(__always) private func add(_ index: Int, _ amount: Int) {
        let value = words[index].load(ordering: .relaxed)
        words[index].store(value &+ amount, ordering: .relaxed)
    }

    @inline(__always) func add(_ figure: WorkerFigure, _ amount: Int = 1) { add(figure.rawValue, amount) }

    /// - Parameter slot: below `ProxyLimits.serversMax`.
    @inline(__always) func add(_ figure: ServerFigure, slot: Int, _ amount: Int = 1) {
        add(Counters.index(figure, slot), amount)
    }

    /// - Parameter frontend: a slot below `ProxyLimits.frontendsMax`.
    @inline(__always) func add(_ figure: FrontendFigure, frontend: Int, _ amount: Int = 1) {
        add(Counters.index(figure, frontend), amount)
    }

    /// - Parameter backend: a slot below `ProxyLimits.backendsMax`.
    @inline(__always) func add(_ figure: BackendFigure, backend: Int, _ amount: Int = 1) {
        add(Counters.index(figure, backend), amount)
    }

    @inline(__always) func set(_ figure: FrontendFigure, frontend: Int, _ value: Int) {
        words[Counters.index(figure, frontend)].store(value, ordering: .relaxed)
    }

    /// Counts an answer of a server, by how long it took.
    @inline(__always) func answered(slot: Int, us: UInt64) {
        let place = Counters.latency(ofServer: slot)
        add(place, Int(us))
        add(place + 1 + LatencyFigures.bucket(us: us), 1)
    }

    func set(_ figure: WorkerFigure, _ value: Int) { words[figure.rawValue].store(value, ordering: .releasing) }

    /// Counts a response by its status; anything outside 100 ... 599 counts as 5xx.
    @inline(__always) func response(status: Int) {
        let kind = status / 100
        add(WorkerFigure.responses0.rawValue + (1...5 ~= kind ? kind : 5), 1)
    }
}
