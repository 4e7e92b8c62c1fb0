// KeyTests: the gossip key is changed on a running cluster, in the order that OPERATIONS.md gives, with clients watching.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    /// Gives a node's key file these keys, the first one signing, and waits until the node uses them.
    private func use(_ keys: [String], _ cluster: LabCluster, at node: String) throws {
        try LabSystem.write("\(cluster.directory(node))/gossip.key", keys.joined())
        func reloads() throws -> Int {
            try cluster.view(node).events.count { $0.kind == "reload" && $0.node == node }
        }
        let before = try reloads()
        cluster.lab.signal(try #require(cluster.nodes[node]), SIGHUP, group: false)
        // One line for the keys, one for the rest.
        try cluster.lab.wait("\(node) reads its key file again") { try reloads() >= before + 2 }
    }

    /// What is counted as signed with an unknown key, by all nodes together.
    private func refused(_ cluster: LabCluster) throws -> Int {
        try cluster.lab.nodes.reduce(0) { sum, node in sum + (try cluster.drops("badMAC", at: node)) }
    }

    @Test func keysAreRotatedWithoutDowntime() throws {
        // Cookies are made with these keys: through all of it a visitor stays with its server.
        let options = LabClusterOptions(fencing: "auto", backend: "stickCookie: \"srv\",")
        try EndToEnd.withCluster(options) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let visitor = Visitor(cluster)
            let home = try #require(visitor.ask())
            let first = try #require(visitor.cookie)
            let old = try #require(LabSystem.readText("\(cluster.directory(lab.nodes[0]))/gossip.key"))
            let new = try lab.run(["keygen"], on: LabNetwork.clientName).output
            let leader = try cluster.waitForOwner()
            let term = try cluster.view(leader).term
            let start = System.bootNanoseconds()
            let steps: [(what: String, keys: [String])] = [
                ("the new key second", [old, new]), ("the new key first", [new, old]), ("the old key gone", [new]),
            ]
            for step in steps {
                try story.window {
                    for node in lab.nodes {
                        try use(step.keys, cluster, at: node)
                        try expectProblems(cluster, step.keys == [new, old] ? node : nil)
                    }
                } until: {
                    try cluster.waitForAgreement(step.what)
                }.require(step.what, .init())
                try story.holds(try refused(cluster) == 0, "\(step.what): nothing is refused")
                try story.holds(visitor.staysWith(home), "\(step.what): \(home) answers its visitor")
                try lab.wait("nobody complains") { lab.nodes.allSatisfy { cluster.status($0)?.problems == [] } }
            }
            let views = try lab.nodes.map { try cluster.view($0) }
            try story.holds(views.allSatisfy { $0.term == term && $0.leader == leader }, "\(leader) leads as before")
            let changes = try lab.ownership().since(start).changes.filter { $0.at > start }
            try #require(changes.isEmpty, "\(changes)")

            try #require(
                visitor.cookie != first, "it has a cookie of the new key, since the old key's will be nobody's")
            // What is left speaks for the fence: its word must be believed, and it was started with the old key.
            try story.window {
                try cluster.killMain(leader)
            } until: {
                try story.waitForTakeOver(from: leader)
            }.require("kill -9 of the main process", .init(outageMs: 50 * EndToEnd.slack, keptMayFail: true))
            let cookie = visitor.cookie
            try story.holds(visitor.staysWith(home), "\(home) answers its visitor through another node")
            try #require(visitor.cookie == cookie, "its cookie is as good there")
            try story.holds(
                try lab.nodes.filter { $0 != leader }.allSatisfy { node in
                    try cluster.drops("badMAC", at: node) == 0
                }, "the fence signs with the new key")
            // Whoever still has the old key only is no member any more.
            try LabSystem.write("\(cluster.directory(leader))/gossip.key", old)
            try cluster.bringBack(leader)
            let witness = try #require(lab.nodes.first { $0 != leader })
            try lab.wait("\(witness) refuses the old key") { try cluster.drops("badMAC", at: witness) > 0 }
            try #require(try cluster.view(leader).quorum == false)
            try use([new], cluster, at: leader)
            try cluster.waitUntilSettled()
        }
    }

    /// While keys are being put in front, a node that has already done so sees others sign with its second one, and the
    /// others see it sign with theirs.
    private func expectProblems(_ cluster: LabCluster, _ node: String?) throws {
        guard let node, node != cluster.lab.nodes.last else { return }
        try cluster.lab.wait("\(node) says that others sign with its second key") {
            cluster.status(node)?.problems.contains { $0.contains("signs gossip with key 2") } == true
        }
    }
}
