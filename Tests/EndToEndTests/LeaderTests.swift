// LeaderTests: the leader dies, freezes, leaves and hands over, while clients use the VIP. Real processes in namespaces.

import Glibc
import Testing

@testable import Node

extension ClusterTests {
    @Test func leaderIsKilled() throws {
        try EndToEnd.withCluster(LabClusterOptions(checkInterval: "500ms")) { story in
            let cluster = story.cluster
            // A dead server that every leader to come must know of, from the first request on.
            try cluster.signalAPI(3, SIGKILL)
            try cluster.waitForAgreement("API 3 down") { $0.health("api_3") == "down" }
            let first = try cluster.waitForOwner()
            try story.window {
                try cluster.killMain(first)
            } until: {
                try story.waitForTakeOver(from: first)
            }.require("kill -9 of the main process", .init(outageMs: 50 * EndToEnd.slack, keptMayFail: true))
            let successor = try cluster.view(try cluster.waitForOwner())
            let served = successor.servers.filter { $0.requests > 0 }.map(\.id).sorted()
            try story.holds(served == ["api_1", "api_2", "api_4", "api_5"], "the new leader asks no dead server")
            try cluster.startAPI(3)
            try cluster.bringBack(first)
            try cluster.waitUntilSettled()

            let second = try cluster.waitForOwner()
            try story.window {
                try cluster.killAll(second)
            } until: {
                try story.waitForTakeOver(from: second)
            }.require("kill -9 of all processes", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try cluster.bringBack(second)
            try cluster.waitUntilSettled()

            let third = try cluster.waitForOwner()
            try story.window {
                try cluster.crash(third)
            } until: {
                try story.waitForTakeOver(from: third)
            }.require("crash with the link down", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try story.window {
                try cluster.bringBack(third)
            } until: {
                try cluster.waitUntilSettled()
            }.require("return after the crash", .init())
        }
    }

    @Test func leaderIsFrozen() throws {
        try EndToEnd.withCluster { story in
            let cluster = story.cluster
            let leader = try cluster.waitForOwner()
            let frozenAt = try story.window(goOn: 2.5) {
                try cluster.freeze(leader)
            } until: {
                try story.waitForTakeOver(from: leader)
            }
            try frozenAt.require("SIGSTOP of all processes", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            let thawed = try story.window {
                try cluster.thaw(leader)
            } until: {
                try cluster.waitUntilSettled()
            }
            try thawed.require("SIGCONT", .init())
            // What it believed before the pause must not make it add the address again, not even for a moment.
            try #require(thawed.changes.changes.allSatisfy { $0.node != leader || !$0.owns })
        }
    }

    @Test func leaderLeavesAndHandsOver() throws {
        try EndToEnd.withCluster { story in
            let cluster = story.cluster
            let planned = DemoWindow.Allowance(
                outageMs: 50 * EndToEnd.slack, withoutOwnerMs: 10 * EndToEnd.slack, onlyInFlight: true)
            let first = try cluster.waitForOwner()
            let second = try #require(story.lab.nodes.last { $0 != first })
            let third = try #require(story.lab.nodes.first { $0 != first && $0 != second })
            try story.window {
                let answer = try cluster.operate(["handover", "--to", second], at: third)
                try story.holds(answer.code == 0, answer.errors)
            } until: {
                try story.lab.wait("\(second) owns the VIP") { try cluster.owner() == second }
                try cluster.waitForAgreement("\(second) leads") { $0.leader == second }
            }.require("triad handover", planned)

            try story.window {
                try cluster.terminate(second)
            } until: {
                try story.waitForTakeOver(from: second)
                try story.lab.wait("\(second) ends") { cluster.hasEnded(second) }
            }.require("SIGTERM", planned)
            try story.holds(cluster.exitCode(second) == 0, "SIGTERM ends with exit code 0")
            try cluster.bringBack(second)
            try cluster.waitUntilSettled()

            // A node that has just started may have forgotten whom it followed: that must not hold up a planned move.
            let last = try cluster.waitForOwner()
            try story.window {
                let answer = try cluster.operate(["handover"], at: second)
                try story.holds(answer.code == 0, answer.errors)
            } until: {
                try story.waitForTakeOver(from: last)
            }.require("triad handover after a restart", planned)
        }
    }

    @Test func crashedLeaderIsReplacedSoonInTrust() throws {
        // The next leader has the clients keep the servers that they had.
        try EndToEnd.withCluster(LabClusterOptions(fencing: "trust", balance: "hash")) { story in
            let cluster = story.cluster
            let visitor = Visitor(cluster)
            let home = try #require(visitor.ask())
            try story.holds(visitor.staysWith(home), "one address, one server")
            let leader = try cluster.waitForOwner()
            let window = try story.window {
                try cluster.crash(leader)
            } until: {
                try story.waitForTakeOver(from: leader)
            }
            try window.require(
                "crash in trust", .init(outageMs: 350 * EndToEnd.slack, keptMayFail: true, overlapMs: 1100))
            try story.holds(visitor.staysWith(home), "\(home) answers its client through another node")
        }
    }
}
