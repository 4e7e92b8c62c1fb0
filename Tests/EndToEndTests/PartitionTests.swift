// PartitionTests: links between nodes fail, in one direction, in both, all of them; and a minority is left alone.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    @Test func leaderIsCutOffFromItsPeers() throws {
        try EndToEnd.withCluster { story in
            let (cluster, network) = (story.cluster, story.lab.network)
            let leader = try cluster.waitForOwner()
            let others = story.lab.nodes.filter { $0 != leader }
            // The client still reaches it: were it to go on as owner, nobody would notice.
            let window = try story.window {
                try network.partition([leader], from: others)
            } until: {
                try story.waitForTakeOver(from: leader)
            }
            try window.require("leader cut off", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try story.holds(try cluster.owner().map(others.contains) == true, "one of \(others) owns the VIP")
            try story.window {
                try network.heal()
            } until: {
                try cluster.waitUntilSettled()
            }.require("healed", .init())
        }
    }

    @Test func followersAreCutOffOneWay() throws {
        try EndToEnd.withCluster(LabClusterOptions(checkInterval: "500ms")) { story in
            let (cluster, network) = (story.cluster, story.lab.network)
            let leader = try cluster.waitForOwner()
            let others = story.lab.nodes.filter { $0 != leader }
            // One follower no longer hears the leader, but is heard: it must learn everything from its peer.
            try story.window {
                try network.cut(from: leader, to: others[0])
                try cluster.signalAPI(2, SIGKILL)
            } until: {
                try cluster.waitForAgreement("API 2 down", among: [others[1]]) { $0.health("api_2") == "down" }
                try story.lab.wait("\(others[0]) learns that API 2 is down") {
                    cluster.status(others[0])?.health("api_2") == "down"
                }
            }.require("one follower deaf to the leader", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try network.heal()
            try cluster.startAPI(2)
            try cluster.waitUntilSettled()
            // The leader no longer hears anybody: its lease must end, though the followers still hear it.
            let deaf = try cluster.waitForOwner()
            let heard = story.lab.nodes.filter { $0 != deaf }
            try story.window {
                for node in heard { try network.cut(from: node, to: deaf) }
            } until: {
                try story.waitForTakeOver(from: deaf, among: heard)
            }.require("leader deaf", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try network.heal()
            try cluster.waitUntilSettled()
        }
    }

    /// What is left of a lease may be used: until then an owner that lost the VIP may take it back.
    private static let leaseNs: UInt64 = 150_000_000

    @Test func minorityNeverOwnsTheAddress() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let network = lab.network
            let nodes = lab.nodes
            // The followers from each other first: until the last cut the leader has a majority, and nobody else can be elected.
            let leader = try cluster.waitForOwner()
            let followers = nodes.filter { $0 != leader }
            try network.partition([followers[0]], from: [followers[1]])
            for follower in followers { try network.partition([follower], from: [leader]) }
            let cutAt = System.bootNanoseconds() + Self.leaseNs
            try lab.wait("nobody owns the VIP") { try lab.ownershipSoFar().owners.isEmpty }
            // Longer than an election and an address's lifetime.
            let quietUntil = System.bootNanoseconds() + 2_000_000_000
            try lab.wait("two seconds pass") { System.bootNanoseconds() > quietUntil }
            let apart = try lab.ownership().since(cutAt)
            try #require(apart.changes.filter { $0.owns && $0.at > cutAt }.isEmpty, "everyone is alone")
            try #require(apart.owners.isEmpty)
            try story.holds(nodes.allSatisfy { try !cluster.view($0).quorum }, "nobody claims a quorum")
            try network.heal()
            try cluster.waitUntilSettled()

            // Two of three gone: the third may answer for its own state, never for the VIP.
            let last = try cluster.waitForOwner()
            let others = nodes.filter { $0 != last }
            for node in others { try cluster.killAll(node) }
            let goneAt = System.bootNanoseconds() + Self.leaseNs
            try lab.wait("\(last) lets go of the VIP") { try lab.ownershipSoFar().owners.isEmpty }
            let aloneUntil = System.bootNanoseconds() + 2_000_000_000
            try lab.wait("two seconds pass") { System.bootNanoseconds() > aloneUntil }
            try #require(try lab.ownership().changes.filter { $0.owns && $0.at > goneAt }.isEmpty, "\(last) is alone")
            for node in others { try cluster.bringBack(node) }
            try cluster.waitUntilSettled()
        }
    }
}
