// DemoScenarios: `triad demo --scenario`: every promise about failover, measured from outside, several times, as a table.
//
// Each scenario gets a lab and a cluster of its own; its repetitions share them. One thread, which blocks.

import Glibc
import Proxy

enum DemoScenarios {
    struct Options {
        var scenarios: [LabScenario]
        var repetitions = 3
        var isIPv6 = false
        /// In a user namespace this process can have one lab only.
        var isOwnUser = false
        var cluster = LabClusterOptions()
        var scenario = LabScenarioOptions()
    }

    /// Timings for one fast and quiet network; README.md says when they are right.
    static let lan = "heartbeat: \"15ms\", lease: \"60ms\", electionTimeout: [\"80ms\", \"120ms\"]"

    /// Exit code: 1 when a promise did not hold.
    static func run(_ options: Options, interruption: @escaping () -> Bool) throws -> Int32 {
        if options.isOwnUser, options.scenarios.count > 1 {
            throw LabProblem("--scenario all needs root; without, give the scenarios one at a time")
        }
        var rows: [Row] = []
        var isFirst = true
        for scenario in options.scenarios {
            var chosen = options.cluster
            chosen.extra += "timeouts: { drain: \"\(scenario.drain(mayBeGated: chosen.mayBeGated))\" },"
            let lab = try Lab(forGood: options.isOwnUser, isIPv6: options.isIPv6)
            lab.interruption = interruption
            defer { lab.tearDown() }
            let cluster = try LabCluster(lab, chosen)
            do {
                try lab.observe()
                try cluster.startAll()
                try cluster.waitUntilSettled()
                if isFirst { LabSystem.say(header(cluster)) }
                isFirst = false
                let clients = scenario == .busy ? nil : try LabClients(cluster)
                let scenarios = LabScenarios(cluster, clients, options.scenario)
                for repetition in 1...(scenario == .busy ? 1 : options.repetitions) {
                    let outcome = try scenarios.run(scenario)
                    LabSystem.say("\(scenario.rawValue) \(repetition): \(outcome.summary)\n")
                    for sentence in outcome.broken { LabSystem.say("    BROKEN: \(sentence)\n") }
                    rows.append(Row(outcome))
                }
            } catch {
                if interruption() { throw error }
                LabSystem.say("\(scenario.rawValue): \(error)\n\(cluster.logTails())\n")
                rows.append(Row(scenario: scenario, error: "\(error)"))
            }
        }
        LabSystem.say("\n" + table(rows))
        let broken = rows.reduce(0) { $0 + $1.broken }
        LabSystem.say(broken == 0 ? "\nevery promise held\n" : "\n\(broken) promises broken\n")
        return broken == 0 ? 0 : 1
    }

    private static func header(_ cluster: LabCluster) -> String {
        let inForce = cluster.lab.nodes.compactMap { cluster.status($0)?.fencing }.first ?? "unknown"
        let timings = cluster.options.gossip.isEmpty ? "default timings" : cluster.options.gossip
        return "fencing \(cluster.options.fencing) (in force: \(inForce)), \(timings)\n"
            + "clients: 200 new connections/s, 200 requests/s over 50 kept connections, 20/s with an empty neighbour cache, "
            + "5 downloads of 10 s, a WebSocket with 20 frames/s; timeout 250 ms\n\n"
    }

    private struct Row {
        var scenario: LabScenario
        var outageMs = 0.0
        var coldMs = 0.0
        var movedMs: Double?
        var gapMs = 0.0
        var overlaps = 0
        var failed = 0
        var requests = 0
        var broken: Int

        init(_ outcome: LabOutcome) {
            scenario = outcome.scenario
            outageMs = outcome.window.outageMs
            coldMs = outcome.window.coldOutageMs
            movedMs = outcome.movedMs
            gapMs = outcome.window.gapMs
            overlaps = outcome.window.overlaps.count
            failed = outcome.window.broken
            requests = outcome.window.requests
            broken = outcome.broken.count
        }

        init(scenario: LabScenario, error: String) {
            self.scenario = scenario
            broken = 1
        }
    }

    /// A line per scenario; figures of several runs with a slash between them.
    private static func table(_ rows: [Row]) -> String {
        var text =
            "| event | the clients' outage | with empty neighbour cache | the VIP moved after | without an owner "
        text += "| two owners | failed or broken |\n|---|---|---|---|---|---|---|\n"
        for scenario in LabScenario.allCases {
            let runs = rows.filter { $0.scenario == scenario }
            if runs.isEmpty { continue }
            let list = { (value: (Row) -> String) in runs.map(value).joined(separator: " / ") }
            let cells = [
                scenario.title, list { DemoWindow.ms($0.outageMs) }, list { DemoWindow.ms($0.coldMs) },
                list { $0.movedMs.map { DemoWindow.ms($0) } ?? "not" }, list { DemoWindow.ms($0.gapMs) },
                list { $0.overlaps == 0 ? "never" : "\($0.overlaps) times" }, list { "\($0.failed) of \($0.requests)" },
            ]
            text += "| " + cells.joined(separator: " | ") + " |\n"
        }
        return text
    }
}
