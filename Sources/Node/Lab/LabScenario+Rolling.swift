// LabScenario+Rolling: a rolling restart, with another binary where one is given: what an operator does for an upgrade.
// The followers first, the leader last: then the VIP moves once.

import Glibc
import Proxy

extension LabScenarios {
    func roll(_ leader: String) throws -> LabOutcome {
        let from = System.bootNanoseconds()
        var last = (from: from, to: from)
        var troubles: Set<String> = []
        for node in lab.nodes.filter({ $0 != leader }) + [leader] {
            last = try restart(node)
            for other in lab.nodes { troubles.formUnion(cluster.status(other)?.problems ?? []) }
        }
        // What the end of a drain cut off is noticed by its client when that has lost its patience.
        try goOn(until: last.to + 4_000_000_000)
        try cluster.waitUntilSettled()
        var outcome = try outcome(.rolling, from: from, goOn: 1)
        // As after the SIGTERM of a leader alone: what never ends by itself, a WebSocket, ends with the drain; no sooner.
        let drainEnd = last.from + UInt64((options.rollingDrainSeconds - 0.2) * 1e9)
        let isCutOff = { (result: LoadResult) in
            !result.outcome.isSuccess && result.end >= drainEnd && result.who?.hasPrefix("websocket") == true
        }
        let cutOff = outcome.window.streams.filter(isCutOff).count
        outcome.window.streams.removeAll(where: isCutOff)
        let seconds = Double(System.bootNanoseconds() - from) / 1e9
        outcome.notes.append("\(lab.nodes.count) nodes in \(seconds.rounded()) s")
        if cutOff > 0 { outcome.notes.append("WebSockets that ended with the drain: \(cutOff)") }
        if !troubles.isEmpty { outcome.notes.append("problems: \(troubles.sorted().joined(separator: ", "))") }
        judge(&outcome, outageMs: nil, gapMs: 5, moves: 1)
        return outcome
    }

    /// One step of it: SIGTERM, its end, its start, and what has to be seen before the next node's turn.
    /// - Returns: when its former process was told to end, and when it had.
    private func restart(_ node: String) throws -> (from: UInt64, to: UInt64) {
        let from = System.bootNanoseconds()
        try cluster.terminate(node)
        try lab.wait("\(node) ends", seconds: 60) { cluster.hasEnded(node) }
        let end = System.bootNanoseconds()
        guard cluster.exitCode(node) == 0 else {
            throw LabProblem("\(node) ended with exit code \(cluster.exitCode(node) ?? -1)")
        }
        if let upgrade = options.upgrade {
            cluster.binaries[node] = cluster.binary(node) == upgrade ? cluster.options.binary : upgrade
        }
        try bringBack(node)
        try lab.wait("\(node) is ready") { cluster.isReady(node) }
        try goOn(until: quietUntil)
        return (from, end)
    }
}
