// LogOutput: where the access log's lines go: stderr, stdout or a file. The log's thread only.
//
// A line gets there whole or not at all. Pipes, sockets and terminals get pieces of whole lines of at most PIPE_BUF
// bytes, which a pipe takes in one piece (pipe(7)); what a socket takes in part is finished before anything else. A file that
// takes a part because the disk is full is cut back to its last line's end. Nothing waits for longer than its `Wait`.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

/// Where the access log goes.
public enum LogTarget: Sendable, Equatable {
    case stderr
    case stdout
    /// A path; the file is made when there is none.
    case file(String)
}

struct LogOutput: ~Copyable {
    private var descriptor: Int32 = -1
    /// Ours to close and cut; no other process writes it through the same description.
    private var isOwn = false
    private var isRegular = false

    /// What became of lines that were to be written.
    struct Outcome {
        var written = 0
        var lost = 0
        /// Why the last ones were lost: an errno, 0 when nobody took them in time.
        var code: Int32?
    }

    /// How long a write waits for a pipe's reader.
    struct Wait {
        /// A descriptor whose readiness ends the wait, if `goesOn` then says no.
        var wake: Int32
        /// -1: for ever.
        var ms: Int32
        var goesOn: () -> Bool
    }

    deinit { if isOwn { Glibc.close(descriptor) } }

    var isOpen: Bool { descriptor >= 0 }

    /// Takes up a target in place of the former one, which stays when this fails.
    mutating func open(_ target: LogTarget) throws(SystemError) {
        var fresh: Int32
        switch target {
        case .stderr: fresh = 2
        case .stdout: fresh = 1
        case .file(let path):
            // Non-blocking, should it be a pipe that nobody reads.
            fresh = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
            if fresh < 0 { throw SystemError(call: "open", code: clinux_errno()) }
        }
        close()
        descriptor = fresh
        isOwn = fresh > 2
        var status = stat()
        isRegular = fstat(fresh, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    mutating func close() {
        if isOwn { Glibc.close(descriptor) }
        descriptor = -1
        isOwn = false
    }

    /// Writes whole lines.
    /// - Parameters:
    ///   - patience: how long a reader is waited for.
    mutating func write(_ bytes: [UInt8], patience: Wait) -> Outcome {
        var outcome = Outcome()
        bytes.withUnsafeBytes { all in
            var at = 0
            while at < all.count {
                let end = pieceEnd(all, from: at)
                let piece = UnsafeRawBufferPointer(rebasing: all[at..<end])
                let lines = Self.lines(piece)
                let taken = write(piece, patience, &outcome.code)
                let whole = taken == piece.count ? lines : Self.lines(UnsafeRawBufferPointer(rebasing: piece[..<taken]))
                outcome.written += whole
                outcome.lost += lines - whole
                at = end
                guard taken == piece.count else {
                    outcome.lost += Self.lines(UnsafeRawBufferPointer(rebasing: all[at...]))
                    return
                }
                outcome.code = nil
            }
        }
        return outcome
    }

    /// The end of as many lines as are written in one piece.
    private func pieceEnd(_ bytes: UnsafeRawBufferPointer, from: Int) -> Int {
        let max = from + (isRegular ? 1 << 16 : LogFormat.lineBytesMax)
        if bytes.count <= max { return bytes.count }
        let end = bytes[from..<max].lastIndex(of: Bytes.lf)
        return end.map { $0 + 1 } ?? max
    }

    private static func lines(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count { $0 == Bytes.lf } }

    /// Writes a piece, waiting for its reader if need be; how much of it stays written: all, or whole lines.
    private func write(_ piece: UnsafeRawBufferPointer, _ patience: Wait, _ code: inout Int32?) -> Int {
        var at = 0
        while at < piece.count {
            // Somebody else's description may be a blocking one: asked first, it doesn't block.
            if !isRegular, !Self.isWritable(descriptor, patience) {
                code = 0
                return cutBack(piece, at)
            }
            let rest = UnsafeRawBufferPointer(rebasing: piece[at...])
            var count = send(descriptor, rest.baseAddress, rest.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
            if count < 0, clinux_errno() == ENOTSOCK { count = Glibc.write(descriptor, rest.baseAddress, rest.count) }
            if count < 0 {
                let failure = clinux_errno()
                if failure == EINTR || failure == EAGAIN { continue }
                code = failure
                return cutBack(piece, at)
            }
            at += count
        }
        return at
    }

    /// Whether the descriptor takes bytes; waits until it does, or until there is no use in waiting.
    private static func isWritable(_ descriptor: Int32, _ patience: Wait) -> Bool {
        while true {
            var polls = [
                pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0),
                pollfd(fd: patience.wake, events: Int16(POLLIN), revents: 0),
            ]
            if poll(&polls, 2, patience.ms) == 0 { return false }
            // An error or the reader's end shows in the write that follows.
            if polls[0].revents != 0 { return true }
            if polls[1].revents != 0, !patience.goesOn() { return false }
        }
    }

    /// Takes the beginning of a line away that was written before the failure; how much stays.
    private func cutBack(_ piece: UnsafeRawBufferPointer, _ written: Int) -> Int {
        let whole = (piece[..<written].lastIndex(of: Bytes.lf) ?? -1) + 1
        guard whole < written, isOwn, isRegular else { return whole }
        let end = lseek(descriptor, 0, SEEK_CUR)
        if end >= written - whole { _ = ftruncate(descriptor, end - off_t(written - whole)) }
        return whole
    }
}
