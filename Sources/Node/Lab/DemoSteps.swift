// DemoSteps: the story that `triad demo` tells: what is done to the cluster, step by step, and what is printed of it.
//
// Each step: act ── wait until the cluster is whole again ── let the clients go on a while ── judge the window.

import Glibc
import Proxy

final class DemoSteps {
    let cluster: LabCluster
    /// Promises that did not hold, each with its step.
    private(set) var broken: [String] = []
    /// A step was broken while this machine did not even run the clients.
    private var stalled = false
    private let secondsPerStep: Double
    private let isColoured = isatty(STDOUT_FILENO) == 1
    private var number = 0
    private var fresh: LabLoad?
    private var kept: LabLoad?

    private static let stepCount = 6.0
    private static let freshRate = 200
    private static let keptRate = 50

    private var lab: Lab { cluster.lab }

    init(_ cluster: LabCluster, seconds: Double) {
        self.cluster = cluster
        secondsPerStep = seconds / (Self.stepCount + 1)
    }

    func run() throws {
        try begin()
        try killLeader()
        try crashLeader()
        try crashedReturns()
        try stopAPI()
        try startAPI()
        try handOver()
        try end()
    }

    // MARK: the story

    private func begin() throws {
        let nodes = try lab.nodes.map { "\($0) \(try lab.network.host($0).addresses[0])" }.joined(separator: ", ")
        LabSystem.say(
            """
            \(bold("Triad demo"))  three nodes, one virtual IP, five of nine APIs, all on this machine
              nodes        \(nodes)
              VIP          \(lab.network.vip), fencing \(cluster.options.fencing)
              clients      \(Self.freshRate) requests/s on new connections, \(Self.keptRate)/s on 8 kept ones; timeout 250 ms


            """)
        let start = System.bootNanoseconds()
        try cluster.startAll()
        let owner = try cluster.waitForOwner()
        let owned = Double(System.bootNanoseconds() - start) / 1e6
        try cluster.waitUntilSettled()
        let settled = Double(System.bootNanoseconds() - start) / 1e6
        fresh = try cluster.startLoad("new", rate: Self.freshRate, newConnections: true)
        kept = try cluster.startLoad("kept", rate: Self.keptRate, newConnections: false)
        say("start of all nodes")
        line("VIP", "\(owner) took it after \(DemoWindow.ms(owned))")
        if cluster.options.mayBeGated {
            let why =
                "by nft on every node: who doesn't renew its lease stops answering for the VIP, by the kernel's hand"
            line("gate", cluster.isGated ? "closed and opened \(why)" : "none: nft is missing or refused on a node")
        }
        line("state", "agreed on all nodes after \(DemoWindow.ms(settled)): API 1 to 5 up, 6 to 9 down")
        LabSystem.say("\n")
        let fresh = fresh
        try lab.wait("the client's first answers") { (fresh?.results().count ?? 0) >= Self.freshRate / 2 }
    }

    private func killLeader() throws {
        let leader = try cluster.waitForOwner()
        try step(
            "kill -9 of the leader's main process (\(leader))",
            .init(outageMs: 50, keptMayFail: true)
        ) {
            try cluster.killMain(leader)
        } until: {
            try cluster.waitForOwner(besides: leader)
            try cluster.bringBack(leader)
            try cluster.waitUntilSettled()
            return "\(leader) was started again and agrees"
        }
    }

    private func crashLeader() throws {
        let leader = try cluster.waitForOwner()
        let rest = lab.nodes.filter { $0 != leader }
        let trusts = cluster.options.fencing == "trust"
        let isSoon = trusts || cluster.isGated
        try step(
            "crash of the leader (\(leader)): all its processes killed, its link down",
            // In `trust` the dead machine's address may outlive it by the second that the kernel gives it.
            .init(outageMs: isSoon ? 350 : 1500, keptMayFail: true, overlapMs: trusts ? 1100 : 0)
        ) {
            try cluster.crash(leader)
        } until: {
            try cluster.waitForOwner(besides: leader)
            try cluster.waitForAgreement("without \(leader)", among: rest)
            return "\(rest.joined(separator: " and ")) agree"
        }
    }

    private func crashedReturns() throws {
        guard let crashed = lab.nodes.first(where: { cluster.status($0) == nil }) else { return }
        try step("return of \(crashed)", .init()) {
            try cluster.bringBack(crashed)
        } until: {
            try cluster.waitUntilSettled()
            return "\(crashed) caught up and agrees"
        }
    }

    private func stopAPI() throws {
        try step("API 3 is killed", .init()) {
            try cluster.signalAPI(3, SIGKILL)
        } until: {
            let took = try cluster.waitForAgreement("API 3 down") { $0.health("api_3") == "down" }
            return "all nodes agree that API 3 is down after \(DemoWindow.ms(took))"
        }
    }

    private func startAPI() throws {
        let fresh = fresh
        try step("API 8 is started", .init()) {
            try cluster.startAPI(8)
        } until: {
            let took = try cluster.waitForAgreement("API 8 up") { $0.health("api_8") == "up" }
            try lab.wait("API 8 answers a client") { fresh?.results().contains { $0.who == "API #8" } ?? false }
            return "all nodes agree that API 8 is up after \(DemoWindow.ms(took))"
        }
    }

    private func handOver() throws {
        let leader = try cluster.waitForOwner()
        // With the gate what is under way goes on at the old owner: nothing may fail.
        let isGated = cluster.isGated
        try step(
            "planned hand-over by the leader (\(leader)), asked of another node",
            .init(outageMs: isGated ? nil : 50, withoutOwnerMs: 10, onlyInFlight: !isGated)
        ) {
            let other = lab.nodes.first { $0 != leader } ?? leader
            let answer = try cluster.operate(["handover"], at: other)
            guard answer.code == 0 else { throw LabProblem("triad handover: \(answer.errors)") }
        } until: {
            try cluster.waitForOwner(besides: leader)
            try cluster.waitForAgreement("a new leader") { $0.leader != leader }
            return "all nodes agree"
        }
    }

    private func end() throws {
        guard let fresh, let kept else { return }
        let all = try cluster.stop(fresh) + cluster.stop(kept)
        let failed = all.filter { !$0.outcome.isSuccess }.count
        let record = try lab.ownership()
        let moves = record.changes.filter(\.owns).count - 1
        LabSystem.say(bold("all in all") + "\n")
        line("clients", "\(all.count) requests, \(failed) failed")
        let overlaps = record.overlaps.isEmpty ? "never two owners" : "two owners \(record.overlaps.count) times"
        line("VIP", "\(moves) moves; \(overlaps)")
        if broken.isEmpty {
            LabSystem.say(coloured("every promise held", 32) + "\n")
        } else {
            LabSystem.say(coloured("promises broken:", 31) + "\n" + broken.map { "  \($0)\n" }.joined())
            if stalled { LabSystem.say("this machine stood still meanwhile: try again when it is less busy\n") }
        }
    }

    // MARK: one step

    /// - Parameters:
    ///   - act: what is done; the window begins right before it.
    ///   - until: waits until the cluster is whole, and says so in a line.
    private func step(
        _ title: String, _ allowance: DemoWindow.Allowance, act: () throws -> Void, until: () throws -> String
    ) throws {
        let from = System.bootNanoseconds()
        try act()
        let state = try until()
        // The clients go on for the rest of the step's time, at least for half a second.
        let end = max(from + UInt64(secondsPerStep * 1e9), System.bootNanoseconds() + 500_000_000)
        try lab.wait("the step's time is over", seconds: secondsPerStep + 5) { System.bootNanoseconds() >= end }
        let to = System.bootNanoseconds()
        // Every request that began before then has ended one client timeout later.
        try lab.wait("the last requests have ended") { System.bootNanoseconds() >= to + 300_000_000 }
        let window = DemoWindow(
            from: from, to: to, ownership: try lab.ownership(), fresh: fresh?.results() ?? [],
            kept: kept?.results() ?? [])
        let broken = window.broken(allowance)
        say(title)
        line("VIP", window.moves)
        if window.overlapMs > 0 {
            line("", "two nodes had it for \(DemoWindow.ms(window.overlapMs)), until the kernel of the dead one let go")
        }
        line("client", DemoWindow.describe(window.fresh, until: to))
        line("kept", DemoWindow.describe(window.kept, until: to))
        line("answered", window.answered)
        line("state", state)
        let stall = DemoWindow.longestStallMs(window.fresh)
        if stall > 100, !broken.isEmpty { stalled = true }
        if stall > 100 {
            line("note", "this machine stood still for \(DemoWindow.ms(stall)): it is too busy to measure on")
        }
        for sentence in broken { line("", coloured("BROKEN: \(sentence)", 31)) }
        LabSystem.say("\n")
        self.broken += broken.map { "\(title): \($0)" }
    }

    private func say(_ title: String) {
        LabSystem.say(bold("\(number)  \(title)") + "\n")
        number += 1
    }

    private func line(_ label: String, _ text: String) {
        LabSystem.say("     " + label.padded(to: 11) + text + "\n")
    }

    private func bold(_ text: String) -> String { coloured(text, 1) }

    private func coloured(_ text: String, _ code: Int) -> String {
        isColoured ? "\u{1b}[\(code)m\(text)\u{1b}[0m" : text
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: Swift.max(0, width - count))
    }
}
