// RequestLog: a worker's side of the access log: the records of requests under way, and the way into its ring.
//
// A session has a record only while it has a request, named by a slot: an idle connection has none. Off, all it costs is a
// look at a number. It allocates nothing after start: memory is reserved for as many requests as there are sessions,
// and touched as far as requests were under way at one time.
// Unsafe code is allowed in this file (see TidyTests).

import Glibc

struct RequestLog: ~Copyable {
    /// Keeps the memory that `writer` writes.
    private let ring: LogRing
    private var writer: LogRingWriter
    private var records: Slab<LogRecord>
    private let texts: UnsafeMutableRawPointer
    /// Records were added in this turn of the loop.
    private(set) var hasNews = false
    var isOn = false
    /// A target's query is kept.
    var keepsQuery = true

    init(ring: LogRing, capacity: Int) {
        self.ring = ring
        writer = ring.writer
        records = Slab(capacity: capacity)
        texts = .allocate(byteCount: capacity * LogRecord.textBytesMax, alignment: 64)
    }

    deinit { texts.deallocate() }

    /// The place of a request that begins.
    @inline(__always) mutating func begin(_ record: LogRecord) -> Int32 { Int32(records.insert(record)) }

    /// - Precondition: not -1.
    subscript(entry: Int32) -> LogRecord {
        @inline(__always) get { records[Int(entry)] }
        @inline(__always) nonmutating set { records[Int(entry)] = newValue }
    }

    /// Calls `change` with the record, if there is one.
    @inline(__always) func note(_ entry: Int32, _ change: (inout LogRecord) -> Void) {
        if entry >= 0 { change(&records[Int(entry)]) }
    }

    /// Keeps a request line's method and target.
    /// - Parameters:
    ///   - line: begins with them.
    ///   - methodEnd, targetEnd: where they end in it.
    func keepText(_ entry: Int32, _ pool: borrowing BufferPool, _ line: Stretch, methodEnd: Int, targetEnd: Int) {
        var end = targetEnd
        if !keepsQuery, let query = pool.find(UInt8(ascii: "?"), in: line, from: methodEnd) { end = min(end, query) }
        let count = min(end, LogRecord.textBytesMax)
        let text = texts + Int(entry) * LogRecord.textBytesMax
        pool.bytes(line) { bytes in
            precondition(count <= bytes.count)
            bytes.withUnsafeBytes { source in
                if let base = source.baseAddress { memcpy(text, base, count) }
            }
        }
        records[Int(entry)].methodBytes = UInt8(min(methodEnd, 255))
        records[Int(entry)].textBytes = UInt16(count)
        records[Int(entry)].isCut = count < targetEnd
    }

    /// Hands a record over and forgets it.
    mutating func end(_ entry: Int32) {
        if isOn {
            writer.append(records[Int(entry)], text: texts + Int(entry) * LogRecord.textBytesMax)
            hasNews = true
        }
        records.remove(Int(entry))
    }

    /// Whether the log's thread has to be woken for what was added since the last call.
    mutating func mustWake() -> Bool {
        hasNews = false
        return writer.mustWake()
    }
}
