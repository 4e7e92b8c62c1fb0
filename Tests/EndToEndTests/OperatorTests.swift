// OperatorTests: what people do when machines die for good, disks come back empty or files differ. Real processes in
// network namespaces, with clients; and in every story there are never two owners.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    /// What a node says of itself and the others, asked at this address; nil when it doesn't answer.
    private func report(_ cluster: LabCluster, at address: String) -> StatusReport? {
        guard let client = try? cluster.lab.network.host(LabNetwork.clientName),
            let status = SocketAddress(address: address, port: LabCluster.statusPort),
            let answer = LabHTTP.get("/status", of: status, from: client), answer.status == 200
        else { return nil }
        return StatusReport(json: answer.body)
    }

    private func report(_ cluster: LabCluster, of node: String) throws -> StatusReport? {
        report(cluster, at: try cluster.lab.network.host(node).addresses[0])
    }

    /// What `triad status` prints.
    private func table(_ cluster: LabCluster, of node: String) throws -> String {
        let address = try cluster.lab.network.host(node).addresses[0]
        let url = "http://\(cluster.lab.network.endpoint(address, Int(LabCluster.statusPort)))"
        return try cluster.lab.run(["status", "--url", url], on: LabNetwork.clientName).output
    }

    /// What `one` says in which sections `other`'s file differs.
    private func differences(_ cluster: LabCluster, seenBy one: String, of other: String) throws -> [String]? {
        try report(cluster, of: one)?.nodes.first { $0.id == other }?.configDiffers
    }

    private func edit(_ cluster: LabCluster, _ node: String, _ old: String, _ new: String) throws {
        let path = "\(cluster.directory(node))/triad.json5"
        let text = try #require(LabSystem.readText(path))
        try #require(text.contains(old))
        try LabSystem.write(path, text.replacing(old, with: new))
    }

    private func reload(_ cluster: LabCluster, _ node: String) throws {
        cluster.lab.signal(try #require(cluster.nodes[node]), SIGHUP, group: false)
    }

    private func discardDisk(_ cluster: LabCluster, _ node: String) throws {
        let data = "\(cluster.directory(node))/data"
        try #require(rename(data, data + ".gone") == 0)
    }

    /// Waits until a node's processes are gone, whichever way.
    private func waitForEnd(_ cluster: LabCluster, _ node: String) throws {
        try cluster.lab.wait("\(node) is gone") { try cluster.hasEnded(node) && cluster.processes(node).isEmpty }
    }

    // MARK: Another machine

    @Test func aDeadMachineIsReplacedByOneWithAnotherAddress() throws {
        try EndToEnd.withCluster(isPatient: true) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let dead = try #require(lab.nodes.last { $0 != leader })
            let other = try #require(lab.nodes.first { $0 != leader && $0 != dead })
            let weight = try cluster.operate(["weight", "api/api_1", "7"], at: other)
            try #require(weight.code == 0, "\(weight.errors)")
            let term = try cluster.view(leader).term
            let (old, new) = (try lab.network.host(dead).addresses[0], lab.network.address(50))

            let window = try story.window {
                try cluster.killAll(dead)
                try waitForEnd(cluster, dead)
                // Another machine: nothing of the old one, and an address of its own.
                try discardDisk(cluster, dead)
                let move = ["addr del \(old)/24 dev eth0", "addr add \(new)/24 dev eth0"]
                try lab.network.ip(move, in: try lab.network.host(dead))
                for node in lab.nodes { try edit(cluster, node, "\"\(old)\"", "\"\(new)\"") }
                // One after the other, and meanwhile each says what is different.
                try reload(cluster, other)
                try lab.wait("\(leader) sees what differs") {
                    try differences(cluster, seenBy: leader, of: other) == ["nodes"]
                }
                let problems = try cluster.view(leader).problems
                #expect(problems.contains("node \(other) has another configuration file; what differs: nodes"))
                try reload(cluster, leader)
                try cluster.start(dead)
            } until: {
                try lab.wait("the new machine has everything", seconds: 20) {
                    guard let here = report(cluster, at: new), let there = try report(cluster, of: leader) else {
                        return false
                    }
                    return here.quorum && here.leader == leader && here.state == there.state
                        && here.backends[0].servers[0].weight == 7
                        && here.nodes.allSatisfy { $0.alive && $0.configDiffers.isEmpty }
                        && there.nodes.allSatisfy { $0.alive && $0.configDiffers.isEmpty }
                }
            }
            try window.require("replacing a dead machine", .init())
            try #require(window.changes.changes.isEmpty || window.changes.owners == [leader])
            try story.holds(cluster.view(leader).term == term, "nobody was elected for it")

            // And it counts: with the leader gone, it is half of the majority.
            try cluster.killMain(leader)
            try cluster.waitForOwner(besides: leader)
            try lab.wait("both agree") {
                guard let here = report(cluster, at: new), let there = try report(cluster, of: other) else {
                    return false
                }
                return here.leader != nil && here.leader != leader && here.leader == there.leader && here.term > term
                    && here.state == there.state
            }
        }
    }

    // MARK: An empty disk

    @Test func aLeaderThatReturnsWithAnEmptyDiskTakesNothingBack() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            for change in [
                ["weight", "api/api_1", "7"], ["drain", "api/api_2"],
                ["add", "api/api_x", "\(lab.network.api(6)):8080"],
            ] {
                let answer = try cluster.operate(change, at: leader)
                try #require(answer.code == 0, "\(answer.errors)")
            }
            let index = try cluster.view(leader).index
            try cluster.killAll(leader)
            try waitForEnd(cluster, leader)
            try discardDisk(cluster, leader)
            try cluster.bringBack(leader)
            try cluster.waitForOwner()
            try cluster.waitForAgreement("what was agreed, on an empty disk too") { status in
                status.index > index && status.quorum && status.servers.contains { $0.id == "api_x" }
                    && status.servers.contains { $0.id == "api_1" && $0.weight == 7 }
                    && status.servers.contains { $0.id == "api_2" && $0.admin == "drain" }
            }
            // It counts again: without it the other two would be one.
            let next = try cluster.waitForOwner()
            let gone = next == leader ? try #require(lab.nodes.first { $0 != leader }) : next
            try cluster.killAll(gone)
            try cluster.waitForOwner(besides: gone)
            let rest = lab.nodes.filter { $0 != gone }
            try cluster.waitForAgreement("the two that are left", among: rest) { $0.leader != gone && $0.quorum }
        }
    }

    // MARK: Files that differ

    @Test func nodesWithDifferentFilesSayWhatDiffers() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            try edit(cluster, "n2", "\"lab\",", "\"lab\", limits: { buffer: \"32KiB\" },")
            try reload(cluster, "n2")
            try lab.wait("n2 says what waits for a restart") {
                try report(cluster, of: "n2")?.problems.contains {
                    $0.hasSuffix("needs a restart of this node: limits.buffer")
                } == true
            }
            // It still runs by the old one, so for the others nothing differs yet.
            let seen = try lab.answer("n1 of n2") { try differences(cluster, seenBy: "n1", of: "n2") }
            try #require(seen == [])
            try edit(cluster, "n2", "interval: \"1s\"", "interval: \"2s\"")
            try reload(cluster, "n2")
            for (one, another) in [("n1", "n2"), ("n3", "n2"), ("n2", "n1"), ("n2", "n3")] {
                try lab.wait("\(one) sees what differs at \(another)") {
                    try differences(cluster, seenBy: one, of: another) == ["backends"]
                }
            }
            let table = try table(cluster, of: "n1")
            #expect(table.contains("differs: backends"), "\(table)")
            try cluster.terminate("n2")
            try waitForEnd(cluster, "n2")
            try cluster.bringBack("n2")
            try lab.wait("after a restart all of it differs") {
                try differences(cluster, seenBy: "n1", of: "n2") == ["backends", "limits"]
            }
        }
    }

    // MARK: What protects the VIP

    /// A directory with `ip` and without `nft`, for a PATH.
    private func makeToolsWithoutNft() throws -> String {
        let folder = try LabSystem.makeTemporaryDirectory("triad-tools", inMemory: true)
        for tool in ["ip", "env"] {
            try #require(symlink(try #require(LabSystem.find(tool)), "\(folder)/\(tool)") == 0)
        }
        return folder
    }

    @Test(.enabled(if: LabSystem.find("nft") != nil, "without nft there is no gate"))
    func theStatusSaysWhatProtectsTheVIPAndWhoDrains() throws {
        let tools = try makeToolsWithoutNft()
        defer {
            for tool in ["ip", "env"] { unlink("\(tools)/\(tool)") }
            rmdir(tools)
        }
        let script = "case \"$*\" in *'--node n3') PATH=\(tools);; esac; exec \"$@\""
        let options = LabClusterOptions(
            fencing: "auto", extra: "timeouts: { drain: \"20s\" },", through: ["sh", "-c", script, "sh"])
        try EndToEnd.withCluster(options) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            // One without: any of them may be the next owner, so the cluster is as slow as that one.
            for node in lab.nodes {
                try lab.wait("\(node) says who has no gate") {
                    guard let report = try report(cluster, of: node) else { return false }
                    return report.fencing == "wait" && report.nodes.map(\.gate) == [true, true, false]
                        && report.problems.contains {
                            $0.hasPrefix("node n3 has no gate (") && $0.contains("1.3 s longer")
                        }
                }
            }
            try #require(try cluster.view("n3").problems.contains { $0.contains("nft") })
            try cluster.killAll("n3")
            try lab.wait("the others are protected by the gate") { try report(cluster, of: "n1")?.fencing == "gate" }

            // A download that a move doesn't interrupt: while it lasts, everybody says so.
            let from = try cluster.waitForOwner(besides: "n3")
            try cluster.waitForAgreement("a leader of two", among: ["n1", "n2"]) { $0.leader == from && $0.quorum }
            let streams = try cluster.startStreams(["--downloads", "1", "--seconds", "6", "--websockets", "0"])
            let to = from == "n1" ? "n2" : "n1"
            func isDraining(seenBy node: String) throws -> Bool? {
                try report(cluster, of: node)?.nodes.first { $0.id == from }?.draining
            }
            // Every other request is over in a moment: what is under way at each of many looks is the download.
            var looks = 0
            try lab.wait("the download is under way") {
                looks = (try report(cluster, of: from)?.traffic.requestsInFlight ?? 0) > 0 ? looks + 1 : 0
                return looks == 30
            }
            let answer = try cluster.operate(["handover"], at: to)
            try #require(answer.code == 0, "\(answer.errors)")
            for node in [from, to] {
                try lab.wait("\(node) says that \(from) drains") { try isDraining(seenBy: node) == true }
            }
            try lab.wait("the download is over, and with it the drain", seconds: 30) {
                try isDraining(seenBy: from) == false && isDraining(seenBy: to) == false
            }
            let results = try cluster.stop(streams)
            #expect(results.first?.outcome.isSuccess == true, "the download that the move came upon: \(results)")
        }
    }

    // MARK: The gateway

    @Test func aLeaderThatDoesNotReachTheGatewayHandsOverAndStaysWell() throws {
        // A host that answers echoes and has no other part in this.
        let leadership = "leadership: { gateway: \"10.77.0.201\", fitnessHold: \"1s\" },"
        try EndToEnd.withCluster(LabClusterOptions(extra: leadership)) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let first = try cluster.waitForOwner()
            let other = try #require(lab.nodes.first { $0 != first })
            func faults(of node: String) throws -> [String]? {
                try report(cluster, of: other)?.nodes.first { $0.id == node }?.unfit
            }
            try lab.wait("everybody reaches the gateway") { try lab.nodes.allSatisfy { try faults(of: $0) == [] } }
            try lab.network.cut(from: LabNetwork.coldName, to: first)
            try lab.wait("\(first) is seen not to reach it", seconds: 30) { try faults(of: first) == ["gateway"] }
            try #require(
                try cluster.view(other).problems.contains("node \(first) doesn't reach the gateway 10.77.0.201"))
            let second = try cluster.waitForOwner(besides: first, seconds: 30)
            try lab.network.heal()
            try lab.wait("\(first) reaches it again", seconds: 30) { try faults(of: first) == [] }
            // Nobody is fitter than anybody now: nothing moves, for as long as a move would have taken.
            let settledAt = System.bootNanoseconds()
            try lab.wait("three seconds pass") { System.bootNanoseconds() > settledAt + 3_000_000_000 }
            let changes = try lab.ownership().since(settledAt).changes
            try #require(changes.allSatisfy { $0.node == second }, "the lead stays where it is: \(changes)")
        }
    }

    // MARK: The last survivor

    @Test func theLastSurvivorIsForcedToLeadUntilOthersReturn() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let survivor = try #require(lab.nodes.first)
            let others = Array(lab.nodes.dropFirst())
            let force = ["force-leader", "--node", survivor, "--i-accept-two-owners"]
            // Refused while a majority is there; and said to a node that it isn't meant for.
            let early = try cluster.operate(force, at: survivor)
            #expect(early.code == 1 && early.errors.contains("a majority of the nodes is in touch"), "\(early.errors)")
            let astray = try cluster.operate(force, at: others[0])
            let address = try lab.network.host(survivor).addresses[0]
            #expect(astray.code == 1 && astray.errors.contains("http://\(address):8084"), "\(astray.errors)")
            let unwilling = try cluster.operate(["force-leader", "--node", survivor], at: survivor)
            #expect(unwilling.code == 2 && unwilling.errors.contains("two nodes own the VIP"), "\(unwilling.errors)")

            for node in others { try cluster.killAll(node) }
            for node in others { try waitForEnd(cluster, node) }
            try lab.wait("nobody owns the VIP") {
                try lab.ownershipSoFar().owners.isEmpty && report(cluster, of: survivor)?.quorum == false
            }
            var answer = try cluster.operate(force, at: survivor)
            try lab.wait("the survivor knows that it is the last one") {
                // Until the others count as silent, a majority is in touch as far as it knows.
                if answer.code != 0 { answer = try cluster.operate(force, at: survivor) }
                return answer.code == 0
            }
            try lab.wait("\(survivor) owns the VIP") { try cluster.owner() == survivor }
            let forced = try lab.answer("status of \(survivor)") { try report(cluster, of: survivor) }
            #expect(forced.forced && forced.problems.first?.hasPrefix("FORCED: \(survivor) owns the VIP") == true)
            #expect(forced.events.contains { $0.kind == "leader-forced" })
            let client = try lab.network.host(LabNetwork.clientName)
            let status = try #require(SocketAddress(address: address, port: LabCluster.statusPort))
            let metrics = try lab.answer("metrics of \(survivor)") { LabHTTP.get("/metrics", of: status, from: client) }
            #expect(String(decoding: metrics.body, as: UTF8.self).contains("\ntriad_leader_forced 1\n"))
            let table = try table(cluster, of: survivor)
            #expect(table.contains("FORCED"), "\(table)")
            let from = System.bootNanoseconds()
            try lab.wait("clients are served") { story.requests.contains { $0.end > from && $0.outcome.isSuccess } }

            for node in others { try cluster.bringBack(node) }
            try lab.wait("it ends by itself") { try report(cluster, of: survivor)?.forced == false }
            try cluster.waitUntilSettled()
            let events = try cluster.view(survivor).events
            #expect(events.contains { $0.kind == "leader-forced" && $0.text.contains("forced no longer") })
        }
    }
}
