// LabScenario: what is done to a cluster whose every kind of client is busy, and what it may cost them: one scenario for
// each promise about failover. `triad demo --scenario` runs them with the promised figures as limits, the end-to-end
// tests with wide ones; that there are never two owners is exact in both.
//
// Every scenario leaves the cluster as it found it. It belongs to the lab's thread, and blocks.

import Glibc
import Proxy

enum LabScenario: String, CaseIterable {
    case killMain = "kill-main"
    case killAll = "kill-all"
    case crash
    case freeze
    case stall
    case cutLink = "cut-link"
    case cutOff = "cut-off"
    case loss
    case noServer = "no-server"
    case handovers
    case terminate
    case rolling
    case busy

    var title: String {
        switch self {
        case .killMain: "kill -9 of the leader's main process"
        case .killAll: "kill -9 of all its processes at once"
        case .crash: "crash: all processes killed, link down"
        case .freeze: "all its processes frozen, then woken"
        case .stall: "all its processes stand still until another node leads"
        case .cutLink: "each link between two nodes cut in turn"
        case .cutOff: "leader cut off from the other nodes"
        case .loss: "30 % of the gossip lost"
        case .noServer: "leader reaches no server"
        case .handovers: "hand-overs in a row"
        case .terminate: "SIGTERM of the leader"
        case .rolling: "all nodes restarted, one after the other"
        case .busy: "all cores busy with load through the proxy"
        }
    }

    /// Nothing of what a client began may break.
    var isPlanned: Bool { [.cutLink, .handovers, .terminate, .rolling].contains(self) }

    /// How a cluster for it differs from the usual one: with the gate a planned move keeps what takes long, for as long as
    /// the drain; without, it begins only after the drain.
    func drain(mayBeGated: Bool) -> String {
        switch self {
        case .handovers: mayBeGated ? "600s" : "2s"
        case .stall: "600s"
        // Longer than a download: only what never ends by itself is cut off.
        case .rolling: "15s"
        default: "8s"
        }
    }
}

/// How much of each scenario.
struct LabScenarioOptions {
    var freezeSeconds = 10.0
    var lossSeconds = 60.0
    var cutSeconds = 2.0
    var handovers = 20
    /// How long nothing may break after SIGTERM: less than the drain.
    var terminateSeconds = 7.0
    /// The drain of a rolling restart.
    var rollingDrainSeconds = 15.0
    /// The binary that the nodes run after a rolling restart, and after the next one the former again; nil: the same.
    var upgrade: String?
    var busyMinutes = 10.0
    /// How much longer than promised anything may take.
    var slack = 1.0
    /// The longest outage after a crash, milliseconds: what the cluster's timings and its fencing promise.
    var crashMs = 350.0
}

/// What one run came to.
struct LabOutcome {
    var scenario: LabScenario
    var window: LabWindow
    /// When the VIP was at its new place, after the beginning, milliseconds; nil when it didn't move.
    var movedMs: Double?
    /// Anything else that was measured, in words.
    var notes: [String] = []
    /// Promises that did not hold.
    var broken: [String] = []
    /// Those of them that are about time alone: a machine that didn't run its processes breaks them, too.
    var late: [String] = []

    /// `outage 241 ms, empty cache 238 ms; moved after 244 ms; nobody for 240 ms; never two owners; …`
    var summary: String {
        let ms = DemoWindow.ms
        var parts = ["outage \(ms(window.outageMs)), with empty cache \(ms(window.coldOutageMs))"]
        if let movedMs { parts.append("moved after \(ms(movedMs))") }
        parts.append("no owner for \(ms(window.gapMs)) at most")
        parts.append(window.overlaps.isEmpty ? "never two owners" : "TWO OWNERS \(window.overlaps.count) times")
        let causes = window.causes.map { "\($0.name) \($0.count)" }.joined(separator: ", ")
        parts.append("\(window.broken) of \(window.requests) failed or broken\(causes.isEmpty ? "" : " (\(causes))")")
        return (parts + notes).joined(separator: "; ")
    }
}

final class LabScenarios {
    let cluster: LabCluster
    let options: LabScenarioOptions
    private let clients: LabClients?
    /// A node that has just started may have forgotten an owner, and holds up the next one for a while.
    var quietUntil: UInt64 = 0
    var lab: Lab { cluster.lab }

    /// - Parameter clients: nil for `busy`, whose load is its own.
    init(_ cluster: LabCluster, _ clients: LabClients?, _ options: LabScenarioOptions) {
        self.cluster = cluster
        self.clients = clients
        self.options = options
    }

    func run(_ scenario: LabScenario) throws -> LabOutcome {
        try goOn(until: quietUntil)
        let leader = try cluster.waitForOwner()
        switch scenario {
        case .killMain: return try lose(leader, scenario, limitMs: 50) { try cluster.killMain(leader) }
        case .killAll: return try lose(leader, scenario, limitMs: options.crashMs) { try cluster.killAll(leader) }
        case .crash: return try lose(leader, scenario, limitMs: options.crashMs) { try cluster.crash(leader) }
        case .freeze: return try freeze(leader)
        case .stall: return try stall(leader)
        case .cutLink: return try cutLinks()
        case .cutOff: return try cutOff(leader)
        case .loss: return try loseGossip(leader)
        case .noServer: return try cutServers(leader)
        case .handovers: return try handOver()
        case .terminate: return try terminate(leader)
        case .rolling: return try roll(leader)
        case .busy: return try keepBusy(leader)
        }
    }

    // MARK: unplanned

    private func lose(
        _ leader: String, _ scenario: LabScenario, limitMs: Double, by act: () throws -> Void
    ) throws -> LabOutcome {
        let from = System.bootNanoseconds()
        try act()
        try cluster.waitForOwner(besides: leader)
        try cluster.waitForAgreement("a leader after \(leader)", among: lab.nodes.filter { $0 != leader })
        var outcome = try outcome(scenario, from: from, goOn: 0.5)
        outcome.notes.append(TakeOver(cluster, old: leader, at: from, log: try lab.answers()).text)
        judge(&outcome, outageMs: limitMs, moves: 1)
        try bringBack(leader)
        return outcome
    }

    private func freeze(_ leader: String) throws -> LabOutcome {
        let from = System.bootNanoseconds()
        try cluster.freeze(leader)
        try cluster.waitForOwner(besides: leader)
        try goOn(until: from + UInt64(options.freezeSeconds * 1e9))
        try cluster.thaw(leader)
        try cluster.waitUntilSettled()
        var outcome = try outcome(.freeze, from: from, goOn: 1)
        // What it believed before must not make it answer again: one move, away from it, is all.
        judge(&outcome, outageMs: options.crashMs, moves: 1)
        return outcome
    }

    /// As when a host takes the processor away from a virtual machine for a moment: the lead moves, and the connections
    /// of the node that wakes go on. Clients that wait no longer than the stall give up on theirs; none is reset.
    private func stall(_ leader: String) throws -> LabOutcome {
        let from = System.bootNanoseconds()
        try cluster.freeze(leader)
        try cluster.waitForOwner(besides: leader)
        try cluster.thaw(leader)
        try cluster.waitUntilSettled()
        var outcome = try outcome(.stall, from: from, goOn: 1)
        judge(&outcome, outageMs: options.crashMs, moves: 1)
        let cut = outcome.window.causes.filter { cause in
            ["reset", "closed", "reconnected", "dropped"].contains { cause.name.hasSuffix($0) }
        }
        if cluster.isGated, !cut.isEmpty {
            let list = cut.map { "\($0.name) \($0.count)" }.joined(separator: ", ")
            outcome.broken.append("connections were cut: \(list)")
        }
        return outcome
    }

    private func cutOff(_ leader: String) throws -> LabOutcome {
        let from = System.bootNanoseconds()
        try lab.network.partition([leader], from: lab.nodes.filter { $0 != leader })
        try cluster.waitForOwner(besides: leader)
        try goOn(until: System.bootNanoseconds() + 1_000_000_000)
        try lab.network.heal()
        try cluster.waitUntilSettled()
        var outcome = try outcome(.cutOff, from: from, goOn: 0.5)
        judge(&outcome, outageMs: options.crashMs, moves: 1)
        return outcome
    }

    private func cutLinks() throws -> LabOutcome {
        let from = System.bootNanoseconds()
        let nodes = lab.nodes
        for (index, node) in nodes.enumerated() {
            try lab.network.partition([node], from: [nodes[(index + 1) % nodes.count]])
            try goOn(until: System.bootNanoseconds() + UInt64(options.cutSeconds * 1e9))
            try lab.network.heal()
            try cluster.waitUntilSettled()
        }
        var outcome = try outcome(.cutLink, from: from, goOn: 0.5)
        judge(&outcome, outageMs: nil)
        return outcome
    }

    private func loseGossip(_ leader: String) throws -> LabOutcome {
        let before = cluster.status(leader)?.term
        let from = System.bootNanoseconds()
        for node in lab.nodes { try lab.network.lose(percent: 30, at: node) }
        try goOn(until: from + UInt64(options.lossSeconds * 1e9))
        for node in lab.nodes { try lab.network.lose(percent: 0, at: node) }
        try cluster.waitUntilSettled()
        var outcome = try outcome(.loss, from: from, goOn: 0.2)
        let after = cluster.status(leader)
        if after?.leader != leader || after?.term != before {
            outcome.broken.append("the leader changed: term \(before ?? 0) to \(after?.term ?? 0)")
        }
        outcome.notes.append(lapses(outcome.window))
        judge(&outcome, outageMs: .infinity, moves: 0)
        return outcome
    }

    private func cutServers(_ leader: String) throws -> LabOutcome {
        let servers = (1...9).map { lab.network.api($0) }
        let from = System.bootNanoseconds()
        try lab.network.cut(addresses: servers, at: try lab.network.host(leader))
        try cluster.waitForOwner(besides: leader)
        var outcome = try outcome(.noServer, from: from, goOn: 0.5)
        judge(&outcome, outageMs: 4000, moves: 1)
        // A leader that came to lead by such a move stays for ten seconds, whatever it reaches.
        quietUntil = System.bootNanoseconds() + 11_000_000_000
        try lab.network.heal(addresses: servers, at: try lab.network.host(leader))
        try cluster.waitUntilSettled()
        return outcome
    }

    // MARK: planned

    private func handOver() throws -> LabOutcome {
        let from = System.bootNanoseconds()
        var longestMs = 0.0
        for _ in 0..<options.handovers {
            let leader = try cluster.waitForOwner()
            let other = lab.nodes.first { $0 != leader } ?? leader
            let start = System.bootNanoseconds()
            let answer = try cluster.operate(["handover"], at: other)
            guard answer.code == 0 else { throw LabProblem("triad handover: \(answer.errors)") }
            try cluster.waitForOwner(besides: leader)
            longestMs = max(longestMs, Double(System.bootNanoseconds() - start) / 1e6)
            try cluster.waitForAgreement("a leader after \(leader)") { $0.leader != leader }
        }
        var outcome = try outcome(.handovers, from: from, goOn: 1)
        outcome.notes.append("\(options.handovers) asked for, each done within \(DemoWindow.ms(longestMs))")
        let gaps = outcome.window.base.changes.gaps.map(\.milliseconds).sorted()
        if let median = gaps.isEmpty ? nil : gaps[gaps.count / 2] {
            outcome.notes.append("without an owner \(DemoWindow.ms(median)) in the median")
        }
        judge(&outcome, outageMs: nil, gapMs: 5, moves: options.handovers)
        return outcome
    }

    private func terminate(_ leader: String) throws -> LabOutcome {
        // Outlasts any drain, and neither side says anything: this client learns of the end only when it is told.
        let silent = [
            "--downloads", "1", "--bytes", "2", "--seconds", "600", "--websockets", "0", "--patience", "600000",
        ]
        let listener = try cluster.startStreams(silent)
        try goOn(until: System.bootNanoseconds() + 1_000_000_000)
        let from = System.bootNanoseconds()
        try cluster.terminate(leader)
        try cluster.waitForOwner(besides: leader)
        let moved = System.bootNanoseconds()
        // Until the drain is over nothing breaks; then what never ends by itself, the WebSocket, has to.
        let end = from + UInt64(options.terminateSeconds * 1e9)
        while System.bootNanoseconds() < end, !cluster.hasEnded(leader) {
            try goOn(until: min(end, System.bootNanoseconds() + 100_000_000))
        }
        var outcome = try outcome(.terminate, from: from, to: max(moved, System.bootNanoseconds() - 100_000_000))
        judge(&outcome, outageMs: nil, gapMs: 5, moves: 1)
        try lab.wait("\(leader) ends", seconds: 30) { cluster.hasEnded(leader) }
        try lab.wait("a client that waits for its answer is told that none comes") { !listener.results().isEmpty }
        let told = try cluster.stop(listener).first?.outcome.word ?? "nothing"
        outcome.notes.append("who still waits for an answer then is told: \(told)")
        // Others notice it when they have lost their patience: not in the next run.
        let noticed = System.bootNanoseconds() + 4_000_000_000
        if cluster.exitCode(leader) != 0 { outcome.broken.append("exit code \(cluster.exitCode(leader) ?? -1)") }
        try bringBack(leader)
        quietUntil = max(quietUntil, noticed)
        return outcome
    }

    // MARK: nothing wrong

    /// Load as fast as it is answered, through the proxy, for minutes: nobody may take that for a dead leader.
    private func keepBusy(_ leader: String) throws -> LabOutcome {
        let terms = lab.nodes.map { cluster.status($0)?.term }
        let from = System.bootNanoseconds()
        let more = ["--closed-loop", "--timeout", "10000"]
        let loads = try (1...2).map {
            try cluster.startLoad("busy-\($0)", connections: 100, more: more)
        }
        let idle = LabSystem.processorTimes()
        try goOn(until: from + UInt64(options.busyMinutes * 60e9))
        let after = LabSystem.processorTimes()
        for load in loads { _ = try cluster.stop(load) }
        let window = LabWindow(
            base: DemoWindow(
                from: from, to: System.bootNanoseconds(), ownership: try lab.ownership(), fresh: [], kept: []),
            cold: [], streams: [])
        var outcome = LabOutcome(scenario: .busy, window: window)
        try cluster.waitUntilSettled()
        let now = lab.nodes.map { cluster.status($0)?.term }
        if now != terms || cluster.status(leader)?.leader != leader {
            outcome.broken.append("there was an election: terms \(terms.map { $0 ?? 0 }) to \(now.map { $0 ?? 0 })")
        }
        let spent = Double(after.all - idle.all)
        let busy = 100 - 100 * Double(after.idle - idle.idle) / max(1, spent)
        outcome.notes.append("\((busy * 10).rounded() / 10) % of all cores busy")
        outcome.notes += loads.compactMap { $0.summary.split(separator: "\n").first { $0.contains(" requests, ") } }
            .map(String.init)
        outcome.notes.append(lapses(window))
        for overlap in window.overlaps { outcome.broken.append("two owners: \(overlap.nodes)") }
        return outcome
    }

    func bringBack(_ node: String) throws {
        try cluster.bringBack(node)
        // The lease and the address that it may have forgotten, and the start of the process.
        quietUntil = System.bootNanoseconds() + 1_500_000_000
        try cluster.waitUntilSettled()
    }

    // MARK: measuring

    func goOn(until end: UInt64) throws {
        try lab.wait("time passes", seconds: 3600) { System.bootNanoseconds() >= end }
    }

    func outcome(_ scenario: LabScenario, from: UInt64, goOn seconds: Double) throws -> LabOutcome {
        try outcome(scenario, from: from, to: System.bootNanoseconds() + UInt64(seconds * 1e9))
    }

    func outcome(_ scenario: LabScenario, from: UInt64, to: UInt64) throws -> LabOutcome {
        guard let clients else { throw LabProblem("\(scenario.rawValue) needs clients") }
        let window = try clients.window(from: from, to: to)
        let taken = window.base.changes.changes.first { $0.owns && $0.at > from && $0.node != window.base.ownerBefore }
        return LabOutcome(scenario: scenario, window: window, movedMs: taken.map { Double($0.at - from) / 1e6 })
    }

    /// - Parameters:
    ///   - outageMs: how long new clients may be refused; nil: nothing at all may fail.
    ///   - gapMs: how long nobody may own the VIP.
    ///   - moves: how often it moves.
    func judge(_ outcome: inout LabOutcome, outageMs: Double?, gapMs: Double? = nil, moves: Int? = nil) {
        let window = outcome.window
        for overlap in window.overlaps {
            let length = Double((overlap.to ?? window.base.to) - overlap.from) / 1e6
            outcome.broken.append(
                "\(overlap.nodes.joined(separator: " and ")) both answered for \(DemoWindow.ms(length))")
        }
        if let moves, window.moves != moves {
            outcome.broken.append("the VIP moved \(window.moves) times, not \(moves)")
        }
        if window.base.fresh.isEmpty || window.base.kept.isEmpty || window.cold.isEmpty {
            outcome.broken.append("a client sent nothing")
        }
        if let gapMs, window.gapMs > gapMs * options.slack {
            outcome.late.append(
                "nobody owned the VIP for \(DemoWindow.ms(window.gapMs)), promised \(DemoWindow.ms(gapMs))")
        }
        guard let outageMs else {
            if window.broken > 0 { outcome.broken.append("\(window.broken) failed or broken, and none should") }
            outcome.broken += outcome.late
            return
        }
        for (who, ms) in [("", window.outageMs), (" with empty cache", window.coldOutageMs)]
        where ms > outageMs * options.slack {
            outcome.late.append("outage\(who) of \(DemoWindow.ms(ms)), promised \(DemoWindow.ms(outageMs))")
        }
        outcome.broken += outcome.late
    }

    /// What the owner missed of the probes without losing the VIP.
    private func lapses(_ window: LabWindow) -> String {
        let all = window.base.changes.lapses.filter { $0.from < window.base.to }
        let sum = all.reduce(0) { $0 + $1.milliseconds }
        return all.isEmpty ? "no lapse" : "\(all.count) lapses, \(DemoWindow.ms(sum)) in all"
    }
}

/// What a new leader needs after the old one is gone, by its own log and the observer's. Milliseconds; nil: not seen.
struct TakeOver {
    /// Until a follower campaigns: its election timeout, and the pre-vote.
    private(set) var detection: Double?
    /// Until it is elected: the votes, each on disk.
    private(set) var election: Double?
    /// Until it answers for the VIP: what it waits for the old owner's sake, and the address.
    private(set) var address: Double?
    /// Until its first gratuitous announcement is on the link; it may come before the first answer.
    private(set) var announcement: Double?

    init(_ cluster: LabCluster, old: String, at start: UInt64, log: AnswerLog) {
        let stations = cluster.lab.network.stations
        guard let run = log.runs.first(where: { $0.firstAt > start && stations[$0.station] != old }),
            let node = stations[run.station]
        else { return }
        let lines = (LabSystem.readText("\(cluster.lab.directory)/\(node).log") ?? "").split(separator: "\n")
        // The first of a kind after the start: `2026-11-23T08:46:14.761Z n2 election: n2 campaigns in term 2`.
        let moment = { (kind: String, text: String) -> UInt64? in
            for line in lines {
                let words = line.split(separator: " ", maxSplits: 3)
                guard words.count == 4, words[2] == "\(kind):", words[3].hasPrefix(text),
                    let ms = WallTime.ms(String(words[0]))
                else { continue }
                let at = cluster.lab.bootNanoseconds(wallMs: ms)
                // Times of the log are cut to milliseconds.
                if at + 1_000_000 > start { return at }
            }
            return nil
        }
        let span = { (from: UInt64?, to: UInt64?) -> Double? in
            guard let from, let to else { return nil }
            return to >= from ? Double(to - from) / 1e6 : -Double(from - to) / 1e6
        }
        let campaign = moment("election", node)
        let elected = moment("leader-elected", node)
        let told = log.announcements.first { $0.at > start && $0.station == run.station }?.at
        detection = span(start, campaign)
        election = span(campaign, elected)
        address = span(elected, run.firstAt)
        announcement = span(run.firstAt, told)
    }

    var text: String {
        let ms = { (value: Double?) in value.map { "\(($0 * 10).rounded() / 10) ms" } ?? "not seen" }
        return "detection \(ms(detection)), election \(ms(election)), address \(ms(address)), "
            + "announcement \(ms(announcement))"
    }
}
