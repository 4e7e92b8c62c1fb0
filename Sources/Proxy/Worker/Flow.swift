// Flow: one direction of a tunnel: bytes from one socket to another, unread, and then the end of the stream.
//
// Reads only what was passed on before, so a slow sink slows its source down (backpressure) and at most one buffer or
// pipe of bytes is held. Short messages are copied through a small buffer, which costs two system calls; when a read
// fills it, the stream is long, and its bytes go through a pipe without being copied until they come in small pieces
// again. Bytes wait in `held` or in the pipe, never in both. Neither is kept while nothing waits.
//
// States: open ─▶ ended (the source's end was read, bytes may wait) ─▶ passed on (the sink was told). How an end is told,
// and what a broken socket means for the other direction, is the worker's decision (Worker+Tunnels).

/// The sockets of a flow, and what the reactor last told of them.
struct FlowEnds: BitwiseCopyable {
    let source: Int32
    let sink: Int32
    var isReadable: Bool
    var isWritable: Bool
    /// The source's end is known to come: a short read doesn't mean that there is nothing to read.
    let endIsNear: Bool
    /// Bytes that left the source and reached the sink, for the figures.
    var received = 0
    var sent = 0
}

struct Flow: BitwiseCopyable {
    /// Bytes that wait in a buffer.
    var held = Stretch()
    private var piped = PipedBytes()
    /// The source's end was read.
    var isEnded = false
    /// The sink was told of the end.
    var isPassedOn = false
    private var isLong = false

    /// Why `advance` returned.
    enum Stop {
        /// For the reactor, or for ever: nothing more moves now.
        case waits
        /// It had its share of this turn and more would move.
        case unfinished
        case sourceBroke, sinkBroke
    }

    var isEmpty: Bool { piped.isEmpty && held.isEmpty }

    /// Its end was read, and nothing waits before it.
    var isOver: Bool { isEnded && isEmpty }

    /// Moves bytes as far as both sockets go along, within one turn's share.
    mutating func advance(
        _ ends: inout FlowEnds, _ buffers: borrowing BufferPool, _ pipes: inout PipePool, nowMs: UInt64
    ) -> Stop {
        for _ in 0..<ProxyLimits.flowRoundsMax {
            if !isEmpty {
                guard ends.isWritable else { return .waits }
                guard send(&ends, buffers, pipes) else { return .sinkBroke }
                if !isEmpty { return .waits }
            }
            guard !isEnded, ends.isReadable else {
                release(buffers, &pipes)
                return .waits
            }
            guard receive(&ends, buffers, &pipes, nowMs) else {
                release(buffers, &pipes)
                return .sourceBroke
            }
        }
        return .unfinished
    }

    /// Forgets what waits, and gives back what it waits in.
    mutating func release(_ buffers: borrowing BufferPool, _ pipes: inout PipePool) {
        buffers.release(&held)
        piped.release(&pipes)
    }

    /// False when the sink takes nothing any more.
    private mutating func send(
        _ ends: inout FlowEnds, _ buffers: borrowing BufferPool, _ pipes: borrowing PipePool
    ) -> Bool {
        let isHeld = piped.isEmpty
        let waiting = isHeld ? held.count : Int(piped.count)
        let transfer =
            isHeld
            ? buffers.send(ends.sink, held, count: waiting) : piped.drain(into: ends.sink, more: false, pipes)
        switch transfer {
        case .moved(let count):
            ends.sent += count
            if isHeld { held.start += Int32(count) }
            if count < waiting { ends.isWritable = false }
        case .wouldBlock, .ended: ends.isWritable = false
        case .failed: return false
        }
        return true
    }

    /// False when the source broke.
    private mutating func receive(
        _ ends: inout FlowEnds, _ buffers: borrowing BufferPool, _ pipes: inout PipePool, _ nowMs: UInt64
    ) -> Bool {
        choosePath(buffers, &pipes, nowMs)
        let room: Int
        let transfer: Transfer
        let isPiped = piped.hasPipe
        if isPiped {
            room = .max
            transfer = piped.fill(from: ends.source, atMost: .max, pipes)
        } else {
            if !held.hasBuffer { held.buffer = buffers.take() }
            held.start = 0
            held.end = 0
            room = buffers.size(held.buffer)
            transfer = buffers.receive(ends.source, held)
        }
        switch transfer {
        case .moved(let count):
            ends.received += count
            if isPiped {
                isLong = piped.isWorthwhile
            } else {
                held.end = Int32(count)
                if count < room, !ends.endIsNear { ends.isReadable = false }
                isLong = count == room
                // Long anew, whatever it was before.
                if isLong { piped = PipedBytes() }
            }
        case .wouldBlock: ends.isReadable = false
        case .ended: isEnded = true
        case .failed: return false
        }
        return true
    }

    /// Through a pipe or a buffer; both are empty now.
    private mutating func choosePath(_ buffers: borrowing BufferPool, _ pipes: inout PipePool, _ nowMs: UInt64) {
        if !isLong {
            piped.release(&pipes)
        } else if !piped.hasPipe, piped.prepare(&pipes, nowMs: nowMs) {
            buffers.release(&held)
        }
    }
}
