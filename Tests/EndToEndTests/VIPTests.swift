// VIPTests: several VIPs: they move together, at a crash and at a hand-over, and of none are there ever two owners. Each has
// an observer of its own and every kind of client.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    @Test(.enabled(if: LabSystem.find("nft") != nil, "needs nft")) func vipsOfBothFamiliesMoveTogether() throws {
        let others = ["10.77.0.101/32", "fd77::100/128"]
        let lab = try Lab(inMemory: true)
        defer { lab.tearDown() }
        try giveIPv6(lab)
        var options = LabClusterOptions(fencing: "auto", checkInterval: "500ms")
        options.extra = "timeouts: { drain: \"600s\" },"
        options.moreVIPs = others
        let cluster = try LabCluster(lab, options)
        do {
            try cluster.startAll()
            try cluster.waitUntilSettled()
            try lab.wait("the gate is in force on every node") { cluster.isGated }
            let addresses = try others.map { String(try #require($0.split(separator: "/").first)) }
            let watches = try addresses.map { try OtherObserver(lab, $0) }
            let clients = try ([lab.network.vip] + addresses).map { address in
                cluster.frontAddress = address
                var options = LabClientsOptions(
                    newConnections: 50, keptConnections: 10, keptRate: 40, coldConnections: 5)
                (options.downloads, options.downloadSeconds, options.downloadBytes) = (2, 2, 100_000)
                // Here nothing may break, and a machine that is slow breaks nothing.
                options.timeoutMs = 2000
                return (address, try LabClients(cluster, options))
            }
            func waitForOneOwner(_ node: String) throws {
                try lab.wait("\(node) owns all") { watches.allSatisfy { $0.record().owners == [node] } }
            }
            try waitForOneOwner(try cluster.waitForOwner())

            for move in 1...2 {
                let leader = try cluster.waitForOwner()
                let from = System.bootNanoseconds()
                let other = try #require(lab.nodes.first { $0 != leader })
                let answer = try cluster.operate(["handover"], at: other)
                try #require(answer.code == 0, "\(answer.errors)")
                let next = try cluster.waitForOwner(besides: leader)
                try waitForOneOwner(next)
                let to = System.bootNanoseconds() + 1_000_000_000
                for (vip, client) in clients {
                    let window = try client.window(from: from, to: to)
                    LabSystem.say("  hand-over \(move), VIP \(vip): \(window.broken) of \(window.requests) broken\n")
                    if window.broken > 0 { throw LabProblem("\(vip): \(window.causes)") }
                    #expect(!window.base.kept.isEmpty && !window.streams.isEmpty)
                }
                try require(lab, watches, moves: move)
                try cluster.waitForAgreement("\(next) leads") { $0.leader == next }
            }

            let leader = try cluster.waitForOwner()
            let from = System.bootNanoseconds()
            try cluster.crash(leader)
            let next = try cluster.waitForOwner(besides: leader)
            try waitForOneOwner(next)
            let to = System.bootNanoseconds() + 500_000_000
            for (vip, client) in clients {
                let window = try client.window(from: from, to: to)
                LabSystem.say("  crash, VIP \(vip): \(window.broken) of \(window.requests) failed in two seconds\n")
                #expect(window.base.fresh.last { $0.outcome.isSuccess } != nil)
            }
            try require(lab, watches, moves: 3)
            try cluster.bringBack(leader)
            try cluster.waitUntilSettled()
            try require(lab, watches, moves: 3)
        } catch {
            lab.keepDirectory()
            LabSystem.say("\n\(error)\n\(cluster.logTails())\nkept: \(lab.directory)\n")
            throw error
        }
    }

    /// Of each VIP, by who answered for it: this many moves, and no two owners.
    private func require(_ lab: Lab, _ watches: [OtherObserver], moves: Int) throws {
        for record in try [lab.ownership()] + watches.map({ try $0.complete() }) {
            try #require(record.overlaps == [])
            let owners = record.changes.filter(\.owns).map(\.node)
            let moved = zip(owners, owners.dropFirst()).filter { $0 != $1 }.count
            #expect(moved == moves, "\(owners)")
        }
    }

    /// Addresses of the other family beside those that the lab gives.
    private func giveIPv6(_ lab: Lab) throws {
        for host in lab.network.hosts {
            guard let first = host.addresses.first, let last = first.split(separator: ".").last else { continue }
            let command = ["ip", "-6", "addr", "add", "fd77::\(last)/64", "dev", "eth0", "nodad"]
            let process = try lab.start("ip", command, on: host.name, log: "\(lab.directory)/ip6-\(host.name)")
            try #require(try lab.waitForEnd(process, seconds: 10) == 0, "IPv6 at \(host.name)")
        }
    }

    /// Who answers for another VIP than the network's.
    private struct OtherObserver {
        let lab: Lab
        let log: String

        init(_ lab: Lab, _ address: String) throws {
            self.lab = lab
            let path = "\(lab.directory)/observer-\(address).answers"
            log = path
            let command = [LabSystem.triad, "observe", address, "--interface", "eth0", "--log", path]
            _ = try lab.start(
                "observer-\(address)", command, on: LabNetwork.observerName, log: "\(lab.directory)/observer-\(address)"
            )
            try lab.wait("another observer sees the link") {
                AnswerLog(LabSystem.readText(path) ?? "").completeTo > 0
            }
        }

        func record() -> OwnershipRecord {
            AnswerLog(LabSystem.readText(log) ?? "").ownership(lab.network.stations)
        }

        /// Everything up to this moment.
        func complete() throws -> OwnershipRecord {
            let now = System.bootNanoseconds()
            try lab.wait("another observer's log is complete") {
                AnswerLog(LabSystem.readText(log) ?? "").completeTo >= now
            }
            return record()
        }
    }
}
