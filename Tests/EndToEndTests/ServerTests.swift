// ServerTests: servers die, freeze, come, and can't be reached by everyone; operators change them through any node.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    @Test func serversDieAndCome() throws {
        try EndToEnd.withCluster(LabClusterOptions(checkInterval: "500ms"), isPatient: true) { story in
            let cluster = story.cluster
            try story.window {
                try cluster.signalAPI(3, SIGKILL)
            } until: {
                try cluster.waitForAgreement("API 3 down") { $0.health("api_3") == "down" }
            }.require("server killed", .init())

            try story.window {
                try cluster.startAPI(8)
            } until: {
                try cluster.waitForAgreement("API 8 up") { $0.health("api_8") == "up" }
                try story.lab.wait("API 8 answers") { story.requests.contains { $0.who == "API #8" } }
            }.require("server started", .init())

            let frozenAt = System.bootNanoseconds()
            var agreedAfterMs = 0.0
            let frozen = try story.window {
                try cluster.signalAPI(4, SIGSTOP)
            } until: {
                try cluster.waitForAgreement("API 4 down") { $0.health("api_4") == "down" }
                agreedAfterMs = Double(System.bootNanoseconds() - frozenAt) / 1e6
            }
            LabSystem.say(
                "  server frozen: agreed down after \(DemoWindow.ms(agreedAfterMs)); client "
                    + "\(DemoWindow.describe(frozen.fresh, until: frozen.to))\n")
            try story.holds(agreedAfterMs <= 2000 * EndToEnd.slack, "agreed down in time")
            // Requests that it had already been sent are lost (it accepts and never answers); later ones may not be.
            let agreedAt = frozenAt + UInt64(agreedAfterMs * 1e6)
            try story.holds(
                frozen.fresh.allSatisfy { $0.outcome.isSuccess || $0.start <= agreedAt },
                "nothing fails once it is agreed down")
            try story.window {
                try cluster.signalAPI(4, SIGCONT)
            } until: {
                try cluster.waitForAgreement("API 4 up") { $0.health("api_4") == "up" }
            }.require("server thawed", .init())
        }
    }

    @Test func serverThatOnlyTheLeaderCannotReach() throws {
        try EndToEnd.withCluster(isPatient: true) { story in
            let (cluster, network) = (story.cluster, story.lab.network)
            let leader = try cluster.waitForOwner()
            let address = LabNetwork.apiAddress(5)
            let window = try story.window(goOn: 1) {
                try network.cut(addresses: [address], at: try network.host(leader))
            } until: {
                try cluster.waitForAgreement("\(leader) sees API 5 down") { status in
                    let views = status.servers.first { $0.id == "api_5" }?.views ?? []
                    return views.contains { $0.node == leader && $0.health == "down" }
                }
            }
            LabSystem.say(
                "  server cut from the leader: client \(DemoWindow.describe(window.fresh, until: window.to))\n")
            // Two of three reach it: the verdict stays up, and the leader serves from the others meanwhile.
            try story.holds(
                story.lab.nodes.allSatisfy { try cluster.view($0).health("api_5") == "up" }, "API 5 is agreed up")
            try story.holds(try cluster.waitForOwner() == leader, "\(leader) is still the owner")
            let settledAt = window.to - 1_000_000_000
            let late = window.fresh.filter { $0.start > settledAt }
            try story.holds(late.allSatisfy { $0.outcome.isSuccess && $0.who != "API #5" }, "others serve instead")
            try network.heal(addresses: [address], at: try network.host(leader))
            try story.lab.wait("\(leader) uses API 5 again") {
                story.requests.contains { $0.start > window.to && $0.who == "API #5" }
            }
        }
    }

    @Test func changesSurviveARestartOfAllNodes() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let follower = try #require(lab.nodes.first { $0 != leader })
            let extra = "\(LabNetwork.apiAddress(9)):9090"
            let api = [LabSystem.triad, "api", "--id", "99", "--address", LabNetwork.apiAddress(9), "--port", "9090"]
            _ = try lab.start("API #99", api, on: LabNetwork.apisName, log: "\(lab.directory)/api-99")
            for command in [["drain", "api/api_1"], ["weight", "api/api_2", "3"], ["add", "api/extra", extra]] {
                let answer = try cluster.operate(command, at: follower)
                try story.holds(answer.code == 0, "\(command): \(answer.errors)")
                let took = try cluster.waitForAgreement("\(command)")
                LabSystem.say("  \(command.joined(separator: " ")): equal on all nodes \(DemoWindow.ms(took)) later\n")
                try story.holds(took <= 200 * EndToEnd.slack, "equal on all nodes in time")
            }
            let isAsAsked = { (status: LabStatus) in
                let servers = status.servers
                return servers.contains { $0.id == "api_1" && $0.admin == "drain" }
                    && servers.contains { $0.id == "api_2" && $0.weight == 3 }
                    && servers.contains { $0.id == "extra" && $0.health == "up" }
            }
            try cluster.waitForAgreement("drained, weighted and added", isAsAsked)
            try lab.wait("the added server answers") { story.requests.contains { $0.who == "API #99" } }
            let drainedAt = System.bootNanoseconds()
            for node in lab.nodes { try cluster.killAll(node) }
            for node in lab.nodes { try cluster.bringBack(node) }
            try cluster.waitForOwner()
            try cluster.waitForAgreement("as before the restart", isAsAsked)
            try lab.wait("the added server answers again") {
                story.requests.contains { $0.start > drainedAt && $0.who == "API #99" }
            }
            try #require(!story.requests.contains { $0.start > drainedAt && $0.who == "API #1" })
        }
    }
}
