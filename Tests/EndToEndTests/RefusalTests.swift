// RefusalTests: what `triad run` refuses to start with: the real program, on a real host, with one thing wrong each time.
// Each is refused with exit code 1 at once, and a message that names the thing.

import Glibc
import Testing

@testable import Node

extension ClusterTests {
    /// A configuration with one text in it replaced by another, and what the refusal must mention.
    private struct Refusal {
        var what: String
        var replacing: String = ""
        var by: String = ""
        var node = "n1"
        /// Put before the command.
        var through: [String] = []
        var mentions: [String]
    }

    private static let refusals = [
        Refusal(what: "unknown key", replacing: "port: 80,", by: "prot: 80,", mentions: ["prot", "port"]),
        Refusal(what: "bad address", replacing: "10.77.0.12\"", by: "10.77.0.512\"", mentions: ["10.77.0.512"]),
        Refusal(what: "duplicate id", replacing: "id: \"n2\"", by: "id: \"n1\"", mentions: ["n1"]),
        Refusal(
            what: "even number of nodes", replacing: "{ id: \"n3\", address: \"10.77.0.13\" },", by: "",
            mentions: ["2 nodes", "even"]),
        Refusal(what: "a node that is not in the file", node: "n7", mentions: ["n7", "n1"]),
        Refusal(
            what: "lease not below the election timeout", replacing: "keyFile: \"gossip.key\"",
            by: "keyFile: \"gossip.key\", lease: \"200ms\"", mentions: ["lease", "electionTimeout"]),
        Refusal(
            what: "missing key file", replacing: "gossip.key", by: "other.key", mentions: ["other.key", "triad keygen"]),
        Refusal(what: "no such interface", replacing: "eth0", by: "eth7", mentions: ["eth7"]),
        Refusal(
            what: "no ip on PATH", through: ["/usr/bin/env", "PATH=/nonexistent"], mentions: ["ip", "iproute2"]),
        Refusal(
            what: "no NET_ADMIN", through: ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"],
            mentions: ["NET_ADMIN"]),
        Refusal(what: "port in use", replacing: "port: 80,", by: "port: 8099,", mentions: ["8099"]),
        Refusal(
            what: "data directory that is a file", replacing: "data: \"data\"", by: "data: \"triad.json5\"",
            mentions: ["triad.json5"]),
    ]

    @Test func wrongInputIsRefusedClearly() throws {
        let lab = try Lab()
        defer { lab.tearDown() }
        let cluster = try LabCluster(lab)
        let path = "\(cluster.directory("n1"))/triad.json5"
        let good = try #require(LabSystem.readText(path))
        let other = [LabSystem.triad, "api", "--id", "1", "--port", "8099"]
        _ = try lab.start("another server", other, on: "n1", log: "\(lab.directory)/other")
        try lab.wait("another server listens") {
            LabSystem.readText("\(lab.directory)/other.log")?.contains("8099") == true
        }
        for (number, refusal) in Self.refusals.enumerated() {
            try #require(refusal.replacing.isEmpty || good.contains(refusal.replacing), "\(refusal.what)")
            let parts = refusal.replacing.isEmpty ? [good] : split(good, at: refusal.replacing)
            try LabSystem.write(path, parts.joined(separator: refusal.by))
            let command = refusal.through + [LabSystem.triad, "run", "--config", path, "--node", refusal.node]
            let process = try lab.start(refusal.what, command, on: "n1", log: "\(lab.directory)/refusal-\(number)")
            let code = try lab.waitForEnd(process, seconds: 20)
            let message = LabSystem.readText(process.errors) ?? ""
            LabSystem.say("  \(refusal.what): \(message)")
            #expect(code == 1, "\(refusal.what): \(message)")
            for word in refusal.mentions { #expect(message.contains(word), "\(refusal.what): \(message)") }
            #expect(!message.contains("Fatal error"), "\(message)")
        }
    }

    private func split(_ text: String, at part: String) -> [String] {
        guard let range = text.firstRange(of: part) else { return [text] }
        return [String(text[..<range.lowerBound]), String(text[range.upperBound...])]
    }

    @Test func damagedLogIsRefusedAndANodeRejoinsEmpty() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let node = try #require(lab.nodes.first { $0 != leader })
            for weight in 1...20 {
                let answer = try cluster.operate(["weight", "api/api_1", "\(weight)"], at: leader)
                try #require(answer.code == 0, "\(answer.errors)")
            }
            try cluster.waitForAgreement("the last weight") { $0.servers.contains { $0.weight == 20 } }
            try cluster.killAll(node)
            try lab.wait("\(node) is gone") { try cluster.hasEnded(node) && cluster.processes(node).isEmpty }
            let log = "\(cluster.directory(node))/data/log"
            var bytes = try #require(LabSystem.read(log))
            // In the middle: what follows proves that this was durable once.
            bytes[bytes.count / 2] ^= 0x55
            try write(bytes, to: log)

            try cluster.start(node)
            try lab.wait("\(node) refuses") { cluster.hasEnded(node) }
            let message = LabSystem.readText("\(lab.directory)/\(node).log")?.split(separator: "\n").last ?? ""
            LabSystem.say("  damaged log: \(message)\n")
            try #require(cluster.exitCode(node) == 1)
            try #require(message.contains("data/log"), "\(message)")

            // The remedy that the message names.
            try #require(rename("\(cluster.directory(node))/data", "\(cluster.directory(node))/damaged") == 0)
            try cluster.bringBack(node)
            try cluster.waitUntilSettled()
            try cluster.waitForAgreement("the weight again") { $0.servers.contains { $0.weight == 20 } }
        }
    }

    private func write(_ bytes: [UInt8], to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_TRUNC)
        try #require(descriptor >= 0 && Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
        close(descriptor)
    }
}
