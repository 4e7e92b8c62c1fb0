// PipePool: a worker's pipes, through which large streams pass without being copied. One thread only.
//
// A stream takes a pipe for as long as bytes are in it and gives it back empty. Making one costs four system calls, so
// they are kept. There is a limit, because what is in a pipe is kernel memory; when all are taken, or the system has no
// more, streams are copied instead.

struct PipePool: ~Copyable {
    private struct Pipe: BitwiseCopyable {
        var reading: Int32 = -1
        var writing: Int32 = -1
        var bytes: Int32 = 0
    }

    private var pipes: ContiguousArray<Pipe> = []
    /// Empty pipes, the last used last.
    private var free: ContiguousArray<Int32> = []
    /// Places whose pipe was closed.
    private var vacant: ContiguousArray<Int32> = []
    /// After a failure none is made before this time.
    private var retryMs: UInt64 = 0
    private let pipesMax: Int

    init(max: Int = ProxyLimits.pipesMax) {
        pipesMax = max
        pipes.reserveCapacity(max)
        free.reserveCapacity(max)
        vacant.reserveCapacity(max)
    }

    deinit {
        for pipe in pipes where pipe.reading >= 0 {
            System.close(pipe.reading)
            System.close(pipe.writing)
        }
    }

    /// Pipes that streams hold now.
    var taken: Int { pipes.count - free.count - vacant.count }

    /// An empty pipe; nil when there is none to be had.
    mutating func take(nowMs: UInt64) -> Int32? {
        if let pipe = free.popLast() { return pipe }
        guard nowMs >= retryMs, pipes.count < pipesMax || !vacant.isEmpty else { return nil }
        guard let made = try? System.pipe(bytes: Int32(ProxyLimits.pipeBytes)) else {
            retryMs = nowMs + ProxyLimits.pipePauseMs
            return nil
        }
        let pipe = Pipe(reading: made.reading, writing: made.writing, bytes: made.bytes)
        // A process that may not have more gets pipes of a page or two, which cost more than they save.
        guard made.bytes >= Int32(ProxyLimits.pipeBytesMin) else {
            System.close(pipe.reading)
            System.close(pipe.writing)
            retryMs = nowMs + ProxyLimits.pipePauseMs
            return nil
        }
        guard let place = vacant.popLast() else {
            pipes.append(pipe)
            return Int32(pipes.count - 1)
        }
        pipes[Int(place)] = pipe
        return place
    }

    /// Gives a pipe back.
    /// - Parameter held: bytes still in it; then it is of no further use and closed.
    mutating func give(_ pipe: Int32, holding held: Int) {
        if held == 0 { return free.append(pipe) }
        System.close(pipes[Int(pipe)].reading)
        System.close(pipes[Int(pipe)].writing)
        pipes[Int(pipe)] = Pipe()
        vacant.append(pipe)
    }

    /// Fills an empty pipe from a socket.
    @inline(__always) func fill(_ pipe: Int32, from socket: Int32, atMost count: Int) -> Transfer {
        System.splice(socket, to: pipes[Int(pipe)].writing, atMost: min(count, Int(pipes[Int(pipe)].bytes)))
    }

    /// Moves `count` bytes, or as many as fit, from a pipe into a socket.
    @inline(__always) func drain(_ pipe: Int32, into socket: Int32, count: Int, more: Bool) -> Transfer {
        System.splice(pipes[Int(pipe)].reading, to: socket, atMost: count, more: more)
    }
}

/// Bytes on their way through a pipe, and the pipe. What `Stretch` is for a buffer.
struct PipedBytes: BitwiseCopyable {
    private var pipe: Int32 = -1
    private(set) var count: Int32 = 0
    /// Small pieces in a row.
    private var smallPieces: UInt8 = 0

    var isEmpty: Bool { count == 0 }
    var hasPipe: Bool { pipe >= 0 }
    /// False for a stream that comes in pieces so small that copying them costs less.
    var isWorthwhile: Bool { smallPieces < ProxyLimits.smallPiecesMax }

    /// Sees to it that there is a pipe; false when none is to be had.
    @inline(__always) mutating func prepare(_ pipes: inout PipePool, nowMs: UInt64) -> Bool {
        if pipe >= 0 { return true }
        guard let taken = pipes.take(nowMs: nowMs) else { return false }
        pipe = taken
        return true
    }

    /// Receives from a socket. A short piece says nothing of what is left there: many small packets fill a pipe, too.
    mutating func fill(from socket: Int32, atMost limit: Int, _ pipes: borrowing PipePool) -> Transfer {
        let transfer = pipes.fill(pipe, from: socket, atMost: limit)
        if case .moved(let moved) = transfer {
            count = Int32(moved)
            smallPieces = moved < ProxyLimits.splicedBytesMin && moved < limit ? smallPieces + 1 : 0
        }
        return transfer
    }

    /// Sends what there is.
    mutating func drain(into socket: Int32, more: Bool, _ pipes: borrowing PipePool) -> Transfer {
        let transfer = pipes.drain(pipe, into: socket, count: Int(count), more: more)
        if case .moved(let moved) = transfer { count -= Int32(moved) }
        return transfer
    }

    /// Gives the pipe back; what waits in it is lost.
    mutating func release(_ pipes: inout PipePool) {
        if pipe >= 0 { pipes.give(pipe, holding: Int(count)) }
        pipe = -1
        count = 0
    }
}
