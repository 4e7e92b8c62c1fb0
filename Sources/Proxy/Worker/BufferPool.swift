// BufferPool: a worker's buffers, named by number, and every operation on their bytes. One thread only.
//
// A connection takes a buffer when bytes arrive and gives it back when they have left, so an idle one has none. There
// are small buffers without limit (connections are limited) and a few large ones for long bodies. The last given back
// is the first taken: it is still in the cache. What a peak needed is given back to the system bit by bit (`trim`), not as
// soon as it is free: a load that goes up and down would pay for that with every request. Every operation checks its bounds.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

/// Bytes `start ..< end` of a buffer; no buffer when `buffer` is negative.
struct Stretch: BitwiseCopyable {
    var buffer: Int32 = -1
    var start: Int32 = 0
    var end: Int32 = 0

    var hasBuffer: Bool { buffer >= 0 }
    var isEmpty: Bool { start == end }
    var count: Int { Int(end - start) }
}

struct BufferPool: ~Copyable {
    let smallBytes: Int
    private let places: Int
    private let memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    /// Free small buffers: those that have memory, the last given back last, and those that have none.
    private let free: UnsafeMutablePointer<Int32>
    private let bare: UnsafeMutablePointer<Int32>
    // WHY: behind a pointer, so that taking a buffer doesn't count as changing the pool: a worker can then use the pool
    // and its own other parts in one expression.
    private let counts: UnsafeMutablePointer<Counts>

    private struct Counts: BitwiseCopyable {
        var free = 0
        /// The least that `free` was since the last `trim`.
        var leastFree = 0
        var bare = 0
        var made = ProxyLimits.largeBuffersMax
        /// A bit per large buffer.
        var freeLarge: UInt64 = (1 << UInt64(ProxyLimits.largeBuffersMax)) - 1
    }

    /// What `counts` has to itself, since each request changes it several times: two cache lines, which processors fetch in
    /// pairs. Otherwise it might share one with the counts of another worker.
    private static let countsBytes = 128
    /// Free small buffers that always keep their memory.
    private static let keptMin = 64

    /// - Parameter smallMax: more than can ever be taken at one time.
    init(smallBytes: Int, smallMax: Int) {
        precondition(ProxyLimits.largeBuffersMax < 64)
        self.smallBytes = smallBytes
        places = smallMax + ProxyLimits.largeBuffersMax
        memory = .allocate(capacity: places)
        free = .allocate(capacity: places)
        bare = .allocate(capacity: places)
        counts = UnsafeMutableRawPointer.allocate(byteCount: Self.countsBytes, alignment: Self.countsBytes)
            .bindMemory(to: Counts.self, capacity: 1)
        counts.initialize(to: Counts())
        for place in 0..<ProxyLimits.largeBuffersMax { (memory + place).initialize(to: nil) }
    }

    deinit {
        for place in 0..<counts.pointee.made { memory[place]?.deallocate() }
        memory.deallocate()
        free.deallocate()
        bare.deallocate()
        counts.deallocate()
    }

    /// Small buffers that have memory, taken or free.
    var withMemory: Int { counts.pointee.made - ProxyLimits.largeBuffersMax - counts.pointee.bare }

    // MARK: taking and giving

    func take() -> Int32 {
        let place: Int
        if counts.pointee.free > 0 {
            counts.pointee.free -= 1
            counts.pointee.leastFree = min(counts.pointee.leastFree, counts.pointee.free)
            return free[counts.pointee.free]
        }
        if counts.pointee.bare > 0 {
            counts.pointee.bare -= 1
            place = Int(bare[counts.pointee.bare])
        } else {
            precondition(counts.pointee.made < places)
            place = counts.pointee.made
            counts.pointee.made += 1
            (memory + place).initialize(to: nil)
        }
        memory[place] = .allocate(byteCount: smallBytes, alignment: 64)
        return Int32(place)
    }

    /// Gives the system half of the memory that nobody has needed since the last call: that which was unused for longest.
    /// Called once a second, it returns a peak's memory within some seconds.
    func trim() {
        let count = (counts.pointee.leastFree - Self.keptMin + 1) / 2
        counts.pointee.leastFree = counts.pointee.free
        guard count > 0 else { return }
        for index in 0..<count {
            let place = free[index]
            memory[Int(place)]?.deallocate()
            memory[Int(place)] = nil
            (bare + counts.pointee.bare).initialize(to: place)
            counts.pointee.bare += 1
        }
        counts.pointee.free -= count
        counts.pointee.leastFree -= count
        memmove(free, free + count, counts.pointee.free * MemoryLayout<Int32>.stride)
    }

    /// A large buffer; nil when all are taken.
    func takeLarge() -> Int32? {
        guard counts.pointee.freeLarge != 0 else { return nil }
        let place = counts.pointee.freeLarge.trailingZeroBitCount
        counts.pointee.freeLarge &= ~(1 << UInt64(place))
        if memory[place] == nil {
            memory[place] = .allocate(byteCount: ProxyLimits.largeBufferBytes, alignment: 4096)
        }
        return Int32(place)
    }

    func give(_ buffer: Int32) {
        let place = Int(buffer)
        if isLarge(buffer) {
            counts.pointee.freeLarge |= 1 << UInt64(place)
            return
        }
        (free + counts.pointee.free).initialize(to: buffer)
        counts.pointee.free += 1
    }

    /// Gives a stretch's buffer back, if it has one.
    func release(_ stretch: inout Stretch) {
        if stretch.hasBuffer { give(stretch.buffer) }
        stretch = Stretch()
    }

    func isLarge(_ buffer: Int32) -> Bool { buffer < ProxyLimits.largeBuffersMax }

    func size(_ buffer: Int32) -> Int { isLarge(buffer) ? ProxyLimits.largeBufferBytes : smallBytes }

    // MARK: sockets

    /// Receives at the end of a stretch, as much as fits in its buffer.
    /// - Precondition: there is room.
    @inline(__always) func receive(_ descriptor: Int32, _ stretch: Stretch) -> Transfer {
        let room = size(stretch.buffer) - Int(stretch.end)
        precondition(room > 0)
        let at = base(stretch.buffer) + Int(stretch.end)
        return System.read(descriptor, into: UnsafeMutableRawBufferPointer(start: at, count: room))
    }

    /// Sends the first `count` bytes of a stretch.
    /// - Parameter more: another send or the end of the connection follows at once.
    @inline(__always) func send(_ descriptor: Int32, _ stretch: Stretch, count: Int, more: Bool = false) -> Transfer {
        precondition(count > 0 && count <= stretch.count)
        let at = base(stretch.buffer) + Int(stretch.start)
        return System.write(descriptor, UnsafeRawBufferPointer(start: at, count: count), more: more)
    }

    // MARK: bytes

    /// Calls `body` with the stretch's bytes.
    @inline(__always) func bytes<Result>(_ stretch: Stretch, _ body: (Span<UInt8>) -> Result) -> Result {
        precondition(stretch.start >= 0 && stretch.start <= stretch.end && Int(stretch.end) <= size(stretch.buffer))
        let start = (base(stretch.buffer) + Int(stretch.start)).assumingMemoryBound(to: UInt8.self)
        return body(UnsafeBufferPointer(start: start, count: stretch.count).span)
    }

    /// Where `byte` first stands in the stretch at or after `from`, both relative to the stretch's start.
    func find(_ byte: UInt8, in stretch: Stretch, from: Int) -> Int? {
        precondition(from >= 0 && from <= stretch.count)
        let start = base(stretch.buffer) + Int(stretch.start)
        guard let found = memchr(start + from, Int32(byte), stretch.count - from) else { return nil }
        return UnsafeRawPointer(found) - UnsafeRawPointer(start)
    }

    func byte(_ buffer: Int32, _ at: Int) -> UInt8 {
        precondition(at >= 0 && at < size(buffer))
        return base(buffer).load(fromByteOffset: at, as: UInt8.self)
    }

    /// Whether `span[range]`, of a buffer or not, is what a stretch holds.
    func equals(_ span: Span<UInt8>, _ range: Range<Int>, _ stretch: Stretch) -> Bool {
        guard range.count == stretch.count else { return false }
        return bytes(stretch) { own in
            for offset in 0..<range.count where span[range.lowerBound + offset] != own[offset] { return false }
            return true
        }
    }

    /// Copies between buffers or within one (then the two may overlap).
    func copy(_ from: Int32, _ fromAt: Int, to: Int32, _ toAt: Int, count: Int) {
        precondition(count >= 0 && fromAt >= 0 && fromAt + count <= size(from))
        precondition(toAt >= 0 && toAt + count <= size(to))
        memmove(base(to) + toAt, base(from) + fromAt, count)
    }

    func store(_ value: UInt8, _ buffer: Int32, _ at: Int) {
        precondition(at >= 0 && at < size(buffer))
        base(buffer).storeBytes(of: value, toByteOffset: at, as: UInt8.self)
    }

    func store(_ text: StaticString, _ buffer: Int32, _ at: Int) {
        precondition(at >= 0 && at + text.utf8CodeUnitCount <= size(buffer))
        memcpy(base(buffer) + at, text.utf8Start, text.utf8CodeUnitCount)
    }

    func store(_ bytes: ContiguousArray<UInt8>, _ buffer: Int32, _ at: Int) {
        precondition(at >= 0 && at + bytes.count <= size(buffer))
        bytes.withUnsafeBytes { source in
            if let start = source.baseAddress { memcpy(base(buffer) + at, start, source.count) }
        }
    }

    @inline(__always) private func base(_ buffer: Int32) -> UnsafeMutableRawPointer {
        precondition(buffer >= 0 && Int(buffer) < counts.pointee.made)
        guard let start = memory[Int(buffer)] else { preconditionFailure("buffer \(buffer) is not taken") }
        return start
    }
}
