// Console: text to stdout and stderr. Any thread; a text goes out in one write where the kernel allows it.
//
// A reader that went away (`triad watch | head`) is no failure: the text is dropped and `out` says so, so that a
// command that goes on for long can end. `ignoreBrokenPipes` must have been called, or the signal ends the process.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

enum Console {
    /// Writes a line to stdout; false when nobody reads it any more.
    @discardableResult
    static func out(_ text: String) -> Bool { write(text + "\n", to: STDOUT_FILENO) }

    /// Writes to stdout as it is, without a line end.
    @discardableResult
    static func raw(_ text: String) -> Bool { write(text, to: STDOUT_FILENO) }

    /// Writes a line to stderr.
    static func error(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    /// Writes to stderr if it takes the text at once; false when it was dropped. For threads that may not wait.
    static func errorIfReady(_ text: String) -> Bool {
        // A pipe that polls writable takes PIPE_BUF bytes without blocking (POSIX); files always do.
        var poll = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        guard text.utf8.count <= Int(PIPE_BUF), Glibc.poll(&poll, 1, 0) == 1, Int32(poll.revents) & POLLOUT != 0 else {
            return false
        }
        return writeAtOnce(text, to: STDERR_FILENO)
    }

    /// Writes what a pipe or socket takes without waiting, whoever else (the access log's thread, the fence) filled it since
    /// it was last looked at; false when that wasn't the whole text. PIPE_BUF bytes at most go out in one piece.
    static func writeAtOnce(_ text: String, to descriptor: Int32) -> Bool {
        var text = text
        return text.withUTF8 { clinux_write_at_once(descriptor, $0.baseAddress, $0.count) == $0.count }
    }

    /// Makes writing to a closed pipe an error instead of a signal. At start; children inherit it.
    static func ignoreBrokenPipes() { _ = signal(SIGPIPE, SIG_IGN) }

    /// Whether stdout is a terminal.
    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    @discardableResult
    private static func write(_ text: String, to descriptor: Int32) -> Bool {
        var text = text
        return text.withUTF8 { bytes in
            var done = 0
            while done < bytes.count {
                let rest = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[done...])
                let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
                let code = clinux_errno()
                if count >= 0 {
                    done += count
                } else if code == EAGAIN {
                    // Someone made the terminal or pipe non-blocking: wait until it takes more.
                    var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = Glibc.poll(&poll, 1, 1000)
                } else if code != EINTR {
                    return false
                }
            }
            return true
        }
    }
}
