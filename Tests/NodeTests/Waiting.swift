// Waiting: one limit for all that tests wait for. On a busy machine any thread or process may stand still for seconds, and what comes
// at once when all is well is not made later by a generous limit.

import Glibc
import Proxy

/// How long a test waits for what must come, in milliseconds.
let waitMsMax = 30_000

/// Whether something comes true within the limit.
func eventually(_ isTrue: () throws -> Bool) rethrows -> Bool {
    let end = System.bootNanoseconds() + UInt64(waitMsMax) * 1_000_000
    while System.bootNanoseconds() < end {
        if try isTrue() { return true }
        usleep(1_000)
    }
    return try isTrue()
}
