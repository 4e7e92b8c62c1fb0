// LogRing: what a worker hands to the log's thread: a ring of records that one thread fills and one empties.
//
// The worker never waits: a record that doesn't fit is dropped and counted. It copies the record and stores the ring's new
// end; once in a turn of its loop it looks whether the reader sleeps, and wakes it then (a store, a fence and a load on
// each side, in opposite order, so that no record is left behind unseen).
// Unsafe code is allowed in this file (see TidyTests).

import Glibc
import Synchronization

final class LogRing: @unchecked Sendable {
    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    /// Written by the worker: the end, and what was dropped. Written by the reader: the start, and whether it sleeps.
    private let words: UnsafeMutablePointer<Atomic<Int>>
    // A cache line for each side.
    fileprivate static let end = 0, dropped = 1
    fileprivate static let start = 8, sleeps = 9
    private static let wordCount = 16

    /// - Parameter capacity: bytes, a power of two; touched only when used.
    init(capacity: Int = ProxyLimits.logRingBytes) {
        precondition(capacity & (capacity - 1) == 0 && capacity >= 8_192)
        self.capacity = capacity
        memory = .allocate(byteCount: capacity, alignment: 64)
        words = .allocate(capacity: Self.wordCount)
        for index in 0..<Self.wordCount { (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        memory.deallocate()
        words.deinitialize(count: Self.wordCount)
        words.deallocate()
    }

    /// What the worker uses; valid while the ring lives.
    var writer: LogRingWriter { LogRingWriter(memory: memory, mask: capacity - 1, words: words) }

    // MARK: the reader's side, one thread

    /// Records dropped so far because there was no room.
    var dropped: Int { words[Self.dropped].load(ordering: .relaxed) }

    var isEmpty: Bool {
        words[Self.start].load(ordering: .relaxed) == words[Self.end].load(ordering: .acquiring)
    }

    /// Takes the oldest record; nil when there is none.
    /// - Parameter text: gets the record's text in its first bytes; holds `LogRecord.textBytesMax`.
    func take(text: inout [UInt8]) -> LogRecord? {
        let start = words[Self.start].load(ordering: .relaxed)
        let end = words[Self.end].load(ordering: .acquiring)
        guard start != end else { return nil }
        let record = withUnsafeTemporaryAllocation(of: LogRecord.self, capacity: 1) { place -> LogRecord in
            copy(from: start, to: UnsafeMutableRawBufferPointer(place))
            return place[0]
        }
        let count = Int(record.textBytes)
        text.withUnsafeMutableBytes { bytes in
            precondition(count <= bytes.count)
            copy(from: start + LogRingWriter.recordBytes, to: UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]))
        }
        words[Self.start].store(start + LogRingWriter.size(count), ordering: .releasing)
        return record
    }

    private func copy(from position: Int, to target: UnsafeMutableRawBufferPointer) {
        guard let base = target.baseAddress else { return }
        let at = position & (capacity - 1)
        let first = min(target.count, capacity - at)
        memcpy(base, memory + at, first)
        if first < target.count { memcpy(base + first, memory, target.count - first) }
    }

    enum Rest: Int {
        /// At work, or waiting for its output: nothing wakes it.
        case awake
        /// Until there is a record.
        case asleep
        /// For a moment, in which records gather; until the ring is half full.
        case dozing
    }

    /// Says how the reader is about to rest. It must look at all rings once more before it sleeps.
    func announce(_ rest: Rest) {
        words[Self.sleeps].store(rest.rawValue, ordering: .relaxed)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }
}

/// The worker's end: no reference, so that logging touches no reference count. One thread only.
struct LogRingWriter {
    static let recordBytes = (MemoryLayout<LogRecord>.size + 7) & ~7

    fileprivate let memory: UnsafeMutableRawPointer
    fileprivate let mask: Int
    fileprivate let words: UnsafeMutablePointer<Atomic<Int>>
    /// Where the reader was when last looked at: it is only further now.
    private var start: Int

    fileprivate init(memory: UnsafeMutableRawPointer, mask: Int, words: UnsafeMutablePointer<Atomic<Int>>) {
        self.memory = memory
        self.mask = mask
        self.words = words
        start = words[LogRing.start].load(ordering: .acquiring)
    }

    fileprivate static func size(_ textBytes: Int) -> Int { recordBytes + (textBytes + 7) & ~7 }

    /// Adds a record and its text, or drops both.
    /// - Parameter text: `record.textBytes` bytes.
    mutating func append(_ record: LogRecord, text: UnsafeRawPointer) {
        let end = words[LogRing.end].load(ordering: .relaxed)
        let size = Self.size(Int(record.textBytes))
        if end + size - start > mask + 1 {
            start = words[LogRing.start].load(ordering: .acquiring)
            guard end + size - start <= mask + 1 else {
                words[LogRing.dropped].store(words[LogRing.dropped].load(ordering: .relaxed) + 1, ordering: .relaxed)
                return
            }
        }
        var record = record
        withUnsafeBytes(of: &record) { copy($0, to: end) }
        copy(UnsafeRawBufferPointer(start: text, count: Int(record.textBytes)), to: end + Self.recordBytes)
        words[LogRing.end].store(end + size, ordering: .releasing)
    }

    private func copy(_ source: UnsafeRawBufferPointer, to position: Int) {
        guard let base = source.baseAddress, source.count > 0 else { return }
        let at = position & mask
        let first = min(source.count, mask + 1 - at)
        memcpy(memory + at, base, first)
        if first < source.count { memcpy(memory, base + first, source.count - first) }
    }

    /// Whether the reader has to be woken: it sleeps, or it dozes and more than half of the ring is taken. Once per sleep.
    mutating func mustWake() -> Bool {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let rest = words[LogRing.sleeps].load(ordering: .relaxed)
        guard rest == LogRing.Rest.asleep.rawValue || rest == LogRing.Rest.dozing.rawValue && isHalfFull() else {
            return false
        }
        words[LogRing.sleeps].store(LogRing.Rest.awake.rawValue, ordering: .relaxed)
        return true
    }

    private mutating func isHalfFull() -> Bool {
        let end = words[LogRing.end].load(ordering: .relaxed)
        guard end - start > mask / 2 else { return false }
        start = words[LogRing.start].load(ordering: .acquiring)
        return end - start > mask / 2
    }
}
