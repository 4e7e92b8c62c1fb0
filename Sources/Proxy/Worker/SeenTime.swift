// SeenTime: up to when a worker knows what happened. Pure.
//
// A worker may stand still: its core is given to others, its process is stopped, its machine is moved. When it goes on, the
// clock is past deadlines of clients and servers that kept them: their bytes wait in the kernel, and it may have come from its
// wait without them (interrupted, or just before they arrived), or with a part of them. So a deadline is over when it was over
// at a time from which on everything was asked for and nothing had come. That costs no more than another look at the kernel.

struct SeenTime: BitwiseCopyable {
    /// All that happened until then was taken from the reactor. Milliseconds.
    private(set) var ms: UInt64
    /// While one wait after the other brings as much as it can: when the first of them began, and what they brought.
    private var sinceMs: UInt64 = 0
    private var taken = 0

    init(nowMs: UInt64) { ms = nowMs }

    /// A wait brought so many events, and they were dealt with.
    /// - Parameters:
    ///   - askedMs: a time before the wait.
    ///   - isAll: nothing was left for the next one.
    ///   - most: descriptors that there are. The kernel gives out what is ready in turn, so as many events hold all that were ready
    ///     before the first of them.
    @inline(__always) mutating func took(_ count: Int, askedMs: UInt64, isAll: Bool, most: Int) {
        if isAll {
            ms = askedMs
            taken = 0
            return
        }
        if taken == 0 { sinceMs = askedMs }
        taken += count
        guard taken >= most else { return }
        ms = sinceMs
        taken = 0
    }
}
