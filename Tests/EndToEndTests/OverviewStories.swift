// OverviewStories: every node shows what all nodes do, how old that is, and what happened on the others.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    /// What a node says, as JSON, and nil when it says nothing.
    private func json(_ cluster: LabCluster, of node: String) throws -> JSONValue? {
        let host = try cluster.lab.network.host(node)
        let client = try cluster.lab.network.host(LabNetwork.clientName)
        guard let status = SocketAddress(address: host.addresses[0], port: LabCluster.statusPort),
            let answer = LabHTTP.get("/status", of: status, from: client), answer.status == 200
        else { return nil }
        return JSONValue(JSON5.parse(answer.body).value)
    }

    private func node(_ id: String, in json: JSONValue) -> JSONValue {
        json["nodes"].elements.first { $0["id"].text == id } ?? JSONValue(nil)
    }

    @Test func everyNodeShowsWhatAllNodesDo() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            try lab.wait("every node shows the owner's traffic, its age, and a rate") {
                try lab.nodes.allSatisfy { asked in
                    guard let json = try json(cluster, of: asked) else { return false }
                    let word = node(leader, in: json)["figures"]
                    let servers = json["backends"].elements.flatMap { $0["servers"].elements }
                    let work = servers.first { $0["id"].text == "api_1" }?["cluster"] ?? JSONValue(nil)
                    return word["requests"].count > 100 && word["ageMs"].count < 3000
                        && word["requestsPerSecond"].number > 50 && work["requests"].count > 10
                        && work["p50Ms"].number > 0 && work["p99Ms"].number >= work["p50Ms"].number
                        && work["requestsPerSecond"].number > 5
                        && json["clusterTraffic"]["requestsPerSecond"].number > 50
                        && !json["clusterTraffic"]["ageMs"].isMissing && json["leaderSinceSeconds"].number > 0
                        && word["leaseLowMs"].count > 0
                }
            }
            // A follower forwards nothing itself here: what it shows is what it was told.
            let follower = try #require(lab.nodes.first { $0 != leader })
            let seen = try lab.answer("status of \(follower)") { try json(cluster, of: follower) }
            let own = seen["backends"].elements[0]["servers"].elements[0]
            #expect(own["requests"].count == 0 && own["byNode"][leader]["requests"].count > 0)

            try cluster.killAll(leader)
            try story.waitForTakeOver(from: leader)
            let rest = lab.nodes.filter { $0 != leader }
            try lab.wait("the others tell how old the dead node's word is, and who took over in what time") {
                try rest.allSatisfy { asked in
                    guard let json = try json(cluster, of: asked), let owner = json["leader"].text else { return false }
                    let events = json["events"].elements + json["eventsElsewhere"].elements
                    return node(leader, in: json)["figures"]["ageMs"].count > 1500
                        && node(leader, in: json)["figures"]["requests"].count > 100
                        && node(owner, in: json)["figures"]["requestsPerSecond"].number > 50
                        && events.contains {
                            $0["kind"].text == "vip-moved" && $0["node"].text == owner
                                && $0["text"].text?.hasPrefix("\(leader) → \(owner): ") ?? false
                        }
                }
            }
        }
    }
}
