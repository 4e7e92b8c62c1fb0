// ServiceNotifier: what systemd is told of this process (sd_notify(3)): that it is ready, reloads or stops, how it is in a
// line, and that it is alive (`WatchdogSec=`). Without NOTIFY_SOCKET it does nothing.
//
// The watchdog's word comes from the control thread's own loop, and only while the workers answer, too: a node that hangs
// is killed and started again by systemd. Control thread only; a send never waits.

import CLinux
import Glibc
import Gossip
import Proxy

struct ServiceNotifier {
    enum Limit {
        /// Messages that wait because the socket took none.
        static let pending = 8
        static let retry = Duration.milliseconds(100)
    }

    /// -1: there is nobody to tell.
    private let descriptor: Int32
    /// Between two signs of life; nil: none are asked for.
    let watchdogInterval: Duration?
    private var nextSign: Instant
    private var status = ""
    private var pending: [String] = []

    /// - Parameters:
    ///   - environment: NOTIFY_SOCKET, and WATCHDOG_USEC and WATCHDOG_PID.
    ///   - process: this process's id; a watchdog may be meant for another one.
    init(environment: (String) -> String? = { Environment.variable($0) }, process: Int32 = getpid(), now: Instant) {
        nextSign = now
        guard let path = environment("NOTIFY_SOCKET"), path.hasPrefix("/") || path.hasPrefix("@") else {
            descriptor = -1
            watchdogInterval = nil
            return
        }
        descriptor = clinux_connect_unix_datagram(path)
        let isMine = environment("WATCHDOG_PID").map { $0 == String(process) } ?? true
        let microseconds = environment("WATCHDOG_USEC").flatMap { Int64($0) }
        // Three signs in the time that systemd waits for one.
        watchdogInterval = microseconds.flatMap { isMine && $0 > 0 ? .microseconds($0 / 3) : nil }
    }

    /// When `elapse` has something to do; nil: never.
    var deadline: Instant? {
        guard descriptor >= 0, watchdogInterval != nil || !pending.isEmpty else { return nil }
        return nextSign
    }

    /// It serves, or has taken over a changed file or refused it.
    mutating func ready() { say("READY=1") }

    mutating func reloading() {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        say("RELOADING=1\nMONOTONIC_USEC=\(Int(now.tv_sec) * 1_000_000 + Int(now.tv_nsec) / 1000)")
    }

    /// - Parameter within: how long the stop may take, however long systemd would wait.
    mutating func stopping(within: Duration) {
        say("STOPPING=1\nEXTEND_TIMEOUT_USEC=\(Int(within.milliseconds) * 1000)")
    }

    /// A line for `systemctl status`; told when it changed.
    mutating func tell(_ text: String) {
        guard text != status else { return }
        status = text
        say("STATUS=\(text)")
    }

    /// Says what waits, and that the process lives, when it is time to.
    /// - Parameter isHealthy: false keeps the sign of life back.
    mutating func elapse(now: Instant, isHealthy: Bool) {
        guard let deadline, now >= deadline else { return }
        nextSign = now.advanced(
            by: min(watchdogInterval ?? Limit.retry, pending.isEmpty ? .seconds(3600) : Limit.retry))
        let waiting = pending
        pending = []
        for message in waiting { say(message) }
        if watchdogInterval != nil, isHealthy { send("WATCHDOG=1") }
    }

    private mutating func say(_ message: String) {
        guard descriptor >= 0, !send(message), pending.count < Limit.pending else { return }
        pending.append(message)
    }

    /// False when the socket took nothing.
    @discardableResult
    private func send(_ message: String) -> Bool {
        let bytes = Array(message.utf8)
        return Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
            == bytes.count
    }
}

extension Runtime {
    /// A line for `systemctl status`.
    func serviceStatus(now: Instant) -> String {
        if move?.thenExit ?? false { return "stops" }
        let owns = core.holdsAddress ? " and has the VIP" : ""
        if core.role == .leader { return "leads term \(core.term)\(owns)" }
        guard let leader = core.knownLeader(now: now) else { return "hears no leader" }
        return "follows \(configuration.nodes[leader.index].id)"
    }
}
