// ProcessFigures: what this process costs the machine. Asked of the kernel without touching a disk, so that the
// control thread may do it.

import Glibc

struct ProcessFigures: Sendable, Equatable {
    /// Largest resident set so far, in bytes.
    var residentBytesMax: UInt64 = 0
    /// User and system time of all threads.
    var cpuSeconds: Double = 0

    static func current() -> ProcessFigures {
        var usage = rusage()
        guard getrusage(Int32(RUSAGE_SELF.rawValue), &usage) == 0 else { return ProcessFigures() }
        return ProcessFigures(
            residentBytesMax: UInt64(max(0, usage.ru_maxrss)) * 1024,
            cpuSeconds: seconds(usage.ru_utime) + seconds(usage.ru_stime))
    }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
}
