// GateTests: the promises about failover with the gate, seen from outside: an owner is who answers for the VIP. Every kind
// of client is busy meanwhile. That there are never two owners, and who moves where, is exact; times are wide
// here and narrow in `triad demo --scenario`, which tells the same scenarios.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    private static var hasNFT: Bool { LabSystem.find("nft") != nil }

    /// Tells scenarios on one cluster with the gate, and prints what was measured.
    private func tell(
        _ scenarios: [LabScenario], isIPv6: Bool = false, gossip: String = "", drain: String = "600s",
        _ scenarioOptions: LabScenarioOptions = LabScenarioOptions()
    ) throws {
        for attempt in 1... {
            let lab = try Lab(inMemory: true, isIPv6: isIPv6)
            defer { lab.tearDown() }
            var options = LabClusterOptions(fencing: "auto", checkInterval: "500ms", gossip: gossip)
            options.extra = "timeouts: { drain: \"\(drain)\" },"
            let cluster = try LabCluster(lab, options)
            let witness = Witness.shared
            var stallMs = 0.0
            do {
                try cluster.startAll()
                try cluster.waitUntilSettled()
                try lab.wait("the gate is in force on every node") { cluster.isGated }
                let isPatient = scenarios.contains { $0.isPlanned || $0 == .stall }
                let clients = try LabClients(cluster, clientsOptions(isPatient: isPatient))
                var limits = scenarioOptions
                limits.slack = EndToEnd.slack
                let stories = LabScenarios(cluster, clients, limits)
                for scenario in scenarios {
                    let start = System.bootNanoseconds()
                    let outcome = try stories.run(scenario)
                    LabSystem.say("  \(scenario.title): \(outcome.summary)\n")
                    stallMs = max(stallMs, DemoWindow.longestStallMs(outcome.window.base.fresh))
                    try #require(outcome.window.overlaps == [], "two owners: \(scenario.rawValue)")
                    let problem = "\(scenario.rawValue): \(outcome.broken.joined(separator: "; "))"
                    if !outcome.broken.isEmpty, outcome.broken == outcome.late {
                        throw EndToEnd.Late(problem, stallMs: witness.longestStallMs(since: start))
                    }
                    if !outcome.broken.isEmpty { throw LabProblem(problem) }
                }
                try #require(try lab.ownership().overlaps == [])
                return
            } catch {
                let record = try? lab.ownership()
                if record?.overlaps.isEmpty == true, attempt < EndToEnd.attempts,
                    let stood = EndToEnd.excuse(error, clientStallMs: stallMs)
                {
                    LabSystem.say("  the machine stood still for \(DemoWindow.ms(stood)): told again (\(error))\n")
                    continue
                }
                lab.keepDirectory()
                LabSystem.say("\n\(error)\n\(cluster.logTails())\nkept: \(lab.directory)\n")
                throw error
            }
        }
    }

    /// Fewer than in the demo: a debug build on a machine that may be compiling.
    /// - Parameter isPatient: where nothing may break. A machine that is too slow for an answer then breaks nothing, but a
    ///   connection that was lost is lost.
    private func clientsOptions(isPatient: Bool) -> LabClientsOptions {
        var options = LabClientsOptions()
        options.newConnections = 100
        options.keptConnections = 20
        options.keptRate = 80
        options.coldConnections = 10
        options.downloadSeconds = 2
        options.downloadBytes = 100_000
        if isPatient { options.timeoutMs = 2000 }
        return options
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedLeaderDies() throws {
        try tell([.killMain, .killAll, .crash])
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedLeaderFreezesAndIsCutOffAndReachesNoServer() throws {
        try tell([.freeze, .cutOff, .noServer], LabScenarioOptions(freezeSeconds: 2))
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedLeaderStandsStillForAMoment() throws {
        try tell([.stall])
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedLeaderHandsOver() throws {
        try tell([.handovers], LabScenarioOptions(handovers: 6))
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedLeaderIsTerminated() throws {
        try tell([.terminate], drain: "3500ms", LabScenarioOptions(terminateSeconds: 2.8))
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedNodesAreRestartedOneAfterTheOther() throws {
        try tell([.rolling], drain: "3500ms", LabScenarioOptions(rollingDrainSeconds: 3.5))
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedClusterOnABadNetwork() throws {
        try tell([.cutLink, .loss], LabScenarioOptions(lossSeconds: 5, cutSeconds: 1))
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedVIPOfIPv6() throws {
        try tell([.crash, .stall, .handovers], isIPv6: true, LabScenarioOptions(handovers: 3))
    }

    @Test(.enabled(if: hasNFT, "needs nft")) func gatedLeaderCrashesOnAFastNetwork() throws {
        try tell([.crash], gossip: DemoScenarios.lan, LabScenarioOptions(crashMs: 180))
    }

    /// Where `nft` is missing, on one node or on all, `auto` waits as before, and says so.
    @Test func withoutNFTTheKernelIsWaitedFor() throws {
        let lab = try Lab(inMemory: true)
        defer { lab.tearDown() }
        let tools = "\(lab.directory)/tools"
        try LabSystem.makeDirectory(tools)
        try #require(symlink(try #require(LabSystem.find("ip")), "\(tools)/ip") == 0)
        let cluster = try LabCluster(
            lab, LabClusterOptions(fencing: "auto", through: ["/usr/bin/env", "PATH=\(tools)"]))
        try cluster.startAll()
        try cluster.waitUntilSettled()
        try lab.wait("every node says that it waits") { lab.nodes.allSatisfy { cluster.status($0)?.fencing == "wait" } }
        let leader = try cluster.waitForOwner()
        try cluster.killAll(leader)
        try cluster.waitForOwner(besides: leader)
        // The kernel's record here: without a gate who has the address answers for it.
        try #require(try lab.addresses().overlaps == [])
        try #require(try lab.ownership().overlaps == [])
    }
}
