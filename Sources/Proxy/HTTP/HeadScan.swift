// HeadScan: finds the end of a head as its bytes arrive, looking at each byte once. Pure.
// RFC 9112, 2.2: lines end with CRLF; a bare LF is refused at once, so that such a client isn't left waiting.

struct HeadScan: BitwiseCopyable, Equatable {
    enum Outcome: Equatable {
        case needMore
        /// The head, its empty line included, has this many bytes.
        case complete(Int)
        /// A line ends with a bare LF.
        case malformed
    }

    /// Where the line being read starts, relative to the head's start.
    private var lineStart: Int32 = 0
    /// Bytes looked at.
    private var scanned: Int32 = 0

    /// Whether a whole line was found.
    var hasLine: Bool { lineStart > 0 }

    /// Whether there are bytes that weren't looked at among the first `count`.
    func isBehind(_ count: Int) -> Bool { count > Int(scanned) }

    /// - Parameter stretch: the head from its first byte on; longer at every call.
    mutating func advance(_ pool: borrowing BufferPool, _ stretch: Stretch) -> Outcome {
        while let at = pool.find(Bytes.lf, in: stretch, from: Int(scanned)) {
            guard at > Int(lineStart), pool.byte(stretch.buffer, Int(stretch.start) + at - 1) == Bytes.cr else {
                return .malformed
            }
            scanned = Int32(at + 1)
            if at == Int(lineStart) + 1 { return .complete(at + 1) }
            lineStart = scanned
        }
        scanned = Int32(stretch.count)
        return .needMore
    }
}
