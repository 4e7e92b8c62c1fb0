// ReloadTests: the file changes again and again while clients are served, and nobody notices; what can't be done changes
// nothing and says why.

import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    private static let extraPort: UInt16 = 8081

    private func report(_ cluster: LabCluster, of node: String) throws -> StatusReport? {
        guard let client = try? cluster.lab.network.host(LabNetwork.clientName),
            let status = SocketAddress(
                address: try cluster.lab.network.host(node).addresses[0], port: LabCluster.statusPort),
            let answer = LabHTTP.get("/status", of: status, from: client), answer.status == 200
        else { return nil }
        return StatusReport(json: answer.body)
    }

    private func path(_ cluster: LabCluster, _ node: String) -> String { "\(cluster.directory(node))/triad.json5" }

    /// Gives a node this file and tells it to read it.
    private func reload(_ cluster: LabCluster, _ node: String, _ text: String) throws {
        try LabSystem.write(path(cluster, node), text)
        cluster.lab.signal(try #require(cluster.nodes[node]), SIGHUP, group: false)
    }

    /// The file with another name, backend and balance for the clients' frontend, a frontend more, a server less, other
    /// timeouts and limits.
    private func otherFile(_ text: String, _ cluster: LabCluster) throws -> String {
        let servers = [1, 2, 3, 6].map {
            "{ id: \"new_\($0)\", address: \"\(cluster.lab.network.endpoint(cluster.lab.network.api($0), 8080))\" }"
        }
        let second = """
            { name: "second", balance: "leastconn", check: { type: "tcp" }, servers: [ \(servers.joined(separator: ", ")) ] }
            """
        let gone = try #require(text.split(separator: "\n").first { $0.contains("\"api_5\"") })
        return text.replacing(gone, with: "")
            .replacing(
                "{ name: \"http\", port: 80, mode: \"http\", backend: \"api\" }",
                with: """
                    { name: "web", port: 80, mode: "http", backend: "second" },
                    { name: "extra", port: \(Self.extraPort), mode: "http", backend: "api" },
                    """
            )
            .replacing("backends: [ {", with: "backends: [ \(second), {")
            .replacing("roundrobin", with: "leastconn")
            .replacing(
                "data: \"data\",",
                with: """
                    data: "data", timeouts: { keepAlive: "5s", server: "7s", drain: "4s" },
                    limits: { retries: 3, connections: 5000, headers: 90 },
                    """)
    }

    /// A process's descriptors: connections, whose number is the clients' doing (a moment of a slow machine leaves idle ones to
    /// servers for a while), and everything else.
    private func descriptors(_ node: LabProcess) -> (connections: Int, others: Int) {
        var connected: Set<String> = []
        for table in ["tcp", "tcp6"] {
            let lines = (LabSystem.readText("/proc/\(node.pid)/net/\(table)") ?? "").split(separator: "\n")
            for line in lines.dropFirst() {
                // The fourth word is the state (0A: LISTEN), the tenth the inode.
                let words: [Substring] = line.split(separator: " ")
                if words.count > 9, words[3] != "0A" { connected.insert("socket:[\(words[9])]") }
            }
        }
        var count = (connections: 0, others: 0)
        guard let folder = opendir("/proc/\(node.pid)/fd") else { return count }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let link = LabSystem.readLink("/proc/\(node.pid)/fd/\(name)") else { continue }
            if connected.contains(link) { count.connections += 1 } else { count.others += 1 }
        }
        return count
    }

    /// Whether a request to the extra frontend on the VIP is answered.
    private func answersExtra(_ cluster: LabCluster) throws -> Bool {
        let address = try #require(SocketAddress(address: cluster.lab.network.vip, port: Self.extraPort))
        return LabHTTP.get("/", of: address, from: try cluster.lab.network.host(LabNetwork.clientName))?.status == 200
    }

    @Test func reloadsUnderLoadLoseNothing() throws {
        try EndToEnd.withCluster(LabClusterOptions(apis: [1, 2, 3, 4, 5, 6]), isPatient: true) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let process = try #require(cluster.nodes[leader])
            let one = try #require(LabSystem.readText(path(cluster, leader)))
            let other = try otherFile(one, cluster)
            // The added frontend at another port, with other timeouts.
            let moved = other.replacing("port: \(Self.extraPort)", with: "port: \(Self.extraPort + 1)")
                .replacing("server: \"7s\"", with: "server: \"8s\"")
            let files = [one, other, moved]
            let before = descriptors(process)
            let streams = try cluster.startStreams(["--downloads", "2", "--seconds", "2", "--websockets", "1"])
            let window = try story.window {
                for round in 1...60 {
                    for node in lab.nodes { try reload(cluster, node, files[round % 3]) }
                    LabSystem.pause(milliseconds: 60 + round % 3 * 40)
                }
                for node in lab.nodes { try reload(cluster, node, other) }
            } until: {
                for node in lab.nodes {
                    try lab.wait("\(node) goes by the last file") {
                        try report(cluster, of: node)?.traffic.frontends.map(\.name) == ["web", "extra"]
                    }
                }
                try lab.wait("the added frontend answers, the new servers serve") {
                    let served = try report(cluster, of: leader)?.backends.first?.servers.allSatisfy { $0.requests > 0 }
                    return try answersExtra(cluster) && served == true
                }
                for node in lab.nodes { try reload(cluster, node, one) }
                try lab.wait("the removed frontend is gone") { try !answersExtra(cluster) }
            }
            try window.require("62 reloads", .init())
            let results = try cluster.stop(streams)
            #expect(results.count { $0.who?.hasPrefix("download") == true } >= 4)
            #expect(results.allSatisfy { $0.outcome.isSuccess }, "\(results.filter { !$0.outcome.isSuccess })")
            // One that leaked would leave a listener per worker and reload, or the connections of those that had it.
            var after = before
            do {
                try lab.wait("descriptors are as before", seconds: 45) {
                    after = descriptors(process)
                    return after.others <= before.others + 4 && after.connections <= before.connections + 40
                }
            } catch {
                throw LabProblem("\(error): \(before) then, \(after) now")
            }
            LabSystem.say("  62 reloads: \(before) descriptors before, \(after) after\n")
        }
    }

    @Test func whatCannotBeTakenOverChangesNothingAndIsExplained() throws {
        try EndToEnd.withCluster(isPatient: true) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let one = try #require(LabSystem.readText(path(cluster, leader)))
            let digest = try cluster.view(leader).configDigest
            func problem(_ text: String) throws -> Bool {
                guard let report = try report(cluster, of: leader) else { return false }
                #expect(report.state.configDigest == digest && report.backends.map(\.name) == ["api"])
                return report.problems.contains {
                    $0.hasPrefix("the file has changed, and nothing of it holds: ") && $0.contains(text)
                }
            }
            let api = [LabSystem.triad, "api", "--id", "7", "--port", "\(Self.extraPort)"]
            let squatter = try lab.start("API #7", api, on: leader, log: "\(lab.directory)/squatter")
            try lab.wait("somebody else has the port") {
                LabSystem.readText("\(lab.directory)/squatter.log")?.contains(":\(Self.extraPort)") == true
            }
            let window = try story.window {
                try reload(cluster, leader, one.replacing("balance: \"roundrobin\"", with: "balance: \"roundrobbin\""))
                try lab.wait("the mistake is named") { try problem("backends[0].balance") }
                try reload(cluster, leader, try otherFile(one, cluster))
                try lab.wait("the port is named") {
                    try problem("frontend extra ([::]:\(Self.extraPort)): port \(Self.extraPort) is in use")
                }
                // Another port isn't opened either, nor does anything else of that file hold.
                let last = try lab.answer("status of \(leader)") { try report(cluster, of: leader) }
                #expect(last.traffic.frontends.map(\.name) == ["http"])
            } until: {
                lab.signal(squatter, SIGKILL, group: true)
                for node in lab.nodes { try reload(cluster, node, try otherFile(one, cluster)) }
                try lab.wait("with the port free it is taken over") {
                    guard let report = try report(cluster, of: leader) else { return false }
                    return report.problems.isEmpty && report.backends.map(\.name) == ["second", "api"]
                }
            }
            try window.require("files that can't be taken over", .init())
        }
    }
}
