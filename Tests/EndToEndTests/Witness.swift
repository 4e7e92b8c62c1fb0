// Witness: whether this machine ran its processes: a thread on each processor, with the lab's own priority, that wakes every
// millisecond and notes when it was late. What takes the processor from it (a host that gives it to another guest, above all)
// takes it from nodes and clients, too: of a time of a few milliseconds that was measured meanwhile nobody can be judged.

import Glibc
import Proxy
import Synchronization

final class Witness: Sendable {
    /// Watches from its first use to the end of this process.
    static let shared = Witness()

    /// Shorter ones are everyday.
    private static let stallMinNs: UInt64 = 3_000_000
    private static let stallsMax = 100_000

    private let stalls = Mutex<[(from: UInt64, to: UInt64)]>([])

    private init() {
        for processor in 0..<Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
            _ = try? BackgroundThread(name: "witness") { [self] in watch(processor) }
        }
    }

    /// The longest time in which a processor did not run its witness, from a moment on, milliseconds.
    func longestStallMs(since moment: UInt64) -> Double {
        stalls.withLock { stalls in
            stalls.reduce(0) { longest, stall in
                stall.to > moment ? max(longest, Double(stall.to - max(stall.from, moment)) / 1e6) : longest
            }
        }
    }

    private func watch(_ processor: Int) {
        guard Self.stay(on: processor) else { return }
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -10)
        var last = System.bootNanoseconds()
        while true {
            usleep(1000)
            let now = System.bootNanoseconds()
            if now - last > Self.stallMinNs + 1_000_000 {
                stalls.withLock { if $0.count < Self.stallsMax { $0.append((last + 1_000_000, now)) } }
            }
            last = now
        }
    }

    /// Binds the calling thread. False where that is not allowed.
    private static func stay(on processor: Int) -> Bool {
        typealias SetAffinity = @convention(c) (pid_t, Int, UnsafeRawPointer) -> Int32
        guard let address = dlsym(nil, "sched_setaffinity") else { return false }
        var mask = [UInt64](repeating: 0, count: processor / 64 + 1)
        mask[processor / 64] = 1 << UInt64(processor % 64)
        return unsafeBitCast(address, to: SetAffinity.self)(0, mask.count * 8, mask) == 0
    }
}
