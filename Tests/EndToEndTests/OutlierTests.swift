// OutlierTests: servers that fail their clients between two checks, and a backend of which hardly a server is up.

import Glibc
import Testing

@testable import Node

extension ClusterTests {
    /// With ten minutes between two checks nobody would look in time, but for what one node's requests tell.
    @Test func aServerThatFailsClientsIsProbedByEveryNodeAtOnce() throws {
        var options = LabClusterOptions()
        options.apis = [1, 2]
        options.checkInterval = "10m"
        options.backend = "outlier: { errors: 3, statusErrors: true },"
        try EndToEnd.withCluster(options) { story in
            let cluster = story.cluster
            let owner = try cluster.waitForOwner()
            try cluster.signalAPI(1, SIGUSR1)
            try cluster.waitForAgreement("API 1 down, as every node saw by itself") { status in
                let server = status.servers.first { $0.id == "api_1" }
                return server?.health == "down" && server?.views.allSatisfy { $0.health == "down" } == true
            }
            try cluster.waitForAgreement("every node names the one that sets it aside") { status in
                status.servers.first { $0.id == "api_1" }?.setAsideBy == [owner]
            }
            let events = try cluster.view(owner).events
            try story.holds(events.contains { $0.kind == "server-outlier" }, "the owner says why")
        }
    }

    @Test func withHardlyAServerUpTheVerdictsAreIgnored() throws {
        var options = LabClusterOptions()
        // Long enough that none of it is over before it is looked at.
        options.backend = "panicThreshold: \"50%\", slowStart: \"10m\","
        try EndToEnd.withCluster(options) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            func isPanicking(_ node: String) -> Bool? {
                cluster.status(node).map { $0.problems.contains { $0.contains("verdicts are ignored") } }
            }
            try lab.wait("five of nine are enough") { lab.nodes.allSatisfy { isPanicking($0) == false } }
            for number in 2...5 { try cluster.signalAPI(number, SIGKILL) }
            try lab.wait("every node says so") { lab.nodes.allSatisfy { isPanicking($0) == true } }
            let answered = story.requests.count { $0.who == "API #1" }
            try lab.wait("the one that is left answers") { story.requests.count { $0.who == "API #1" } > answered + 20 }
            for number in 2...5 { try cluster.startAPI(number) }
            try lab.wait("and that it is over") {
                lab.nodes.allSatisfy { node in
                    cluster.status(node).map { status in
                        isPanicking(node) == false && status.events.contains { $0.kind == "panic-over" }
                    } ?? false
                }
            }
            try cluster.waitForAgreement("those that came back have a part of their weight") { status in
                status.servers.filter { ["api_2", "api_5"].contains($0.id) }.allSatisfy {
                    ($0.slowStartPercent ?? 100) < 100
                }
            }
        }
    }
}
