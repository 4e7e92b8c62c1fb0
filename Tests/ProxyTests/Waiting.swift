// Waiting: one limit for all that tests wait for, and timeouts of the data plane that no test runs into by accident.
//
// On a busy machine any thread may stand still for seconds: the test's, a server's, a worker. So what must come is waited
// for with one generous limit, which costs nothing when it comes at once; what a timeout must end has one of a fraction of a
// second; and no other timeout can end.

import Glibc

@testable import Proxy

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

/// A call, again as often as it is interrupted: a socket's wait with a limit is, whenever the process was stopped (signal(7)).
func uninterrupted<Number: BinaryInteger>(_ call: () -> Number) -> Number {
    while true {
        let outcome = call()
        if outcome >= 0 || errno != EINTR { return outcome }
    }
}

/// Milliseconds since a moment of `System.bootNanoseconds`.
func elapsedMs(since begun: UInt64) -> Int { Int((System.bootNanoseconds() - begun) / 1_000_000) }

/// How often a worker can have stopped avoiding a server that goes on failing since then, at most.
func avoidanceEnds(since begun: UInt64) -> Int {
    var (left, span, count) = (elapsedMs(since: begun), Int(Balancer.avoidMs), 0)
    while left >= span {
        left -= span
        span = min(2 * span, Int(Balancer.avoidMsMax))
        count += 1
    }
    return count
}

extension ProxyTimeouts {
    /// None that ends while a test runs: each sets those that it is about.
    static var endless: ProxyTimeouts {
        var timeouts = ProxyTimeouts()
        timeouts.queueMs = 600_000
        timeouts.connectMs = 600_000
        timeouts.requestMs = 600_000
        timeouts.clientMs = 600_000
        timeouts.serverMs = 600_000
        timeouts.keepAliveMs = 600_000
        timeouts.tunnelMs = 600_000
        timeouts.halfClosedMs = 600_000
        return timeouts
    }
}
