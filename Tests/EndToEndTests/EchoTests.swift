// EchoTests: the real program with checks of type "icmp", alone in a network of its own: what it shows of machines that
// vanish, and what it says when it may send no echo.

import Glibc
import Proxy
import Testing

@testable import Node

/// A node whose servers are addresses of its own machine.
private final class EchoNode {
    private let directory: String
    private let space: Int32
    private var node: pid_t = 0

    /// - Parameter through: put before the command.
    init(through: [String] = []) throws {
        directory = try LabSystem.makeTemporaryDirectory("triad-echo", inMemory: false)
        space = try LabSystem.makeNetworkNamespace()
        try LabSystem.write(
            "\(directory)/triad.json5",
            """
            {
              cluster: "lone", nodes: [ { id: "n1", address: "127.0.0.1" } ], data: "data", workers: 1,
              frontends: [ { name: "http", port: 80, backend: "api" } ],
              backends: [ {
                name: "api", check: { type: "icmp", interval: "200ms", timeout: "200ms" },
                servers: [ { id: "four", address: "10.9.0.1:8080" }, { id: "six", address: "[fd09::1]:8080" } ],
              } ],
            }
            """)
        try run("ip link set lo up && echo 1 0 > /proc/sys/net/ipv4/ping_group_range")
        let command = through + [LabSystem.triad, "run", "--config", "\(directory)/triad.json5", "--node", "n1"]
        node = try LabSystem.inside(space) { () throws(LabProblem) in
            try LabSystem.spawn(.init(command: command, errors: "\(directory)/log"))
        }
    }

    deinit {
        kill(node, SIGKILL)
        _ = LabSystem.exitCode(node, wait: true)
        System.close(space)
        if let rm = try? LabSystem.spawn(.init(command: ["rm", "-rf", directory])) {
            _ = LabSystem.exitCode(rm, wait: true)
        }
    }

    func run(_ script: String) throws {
        let code = try LabSystem.inside(space) { () throws(LabProblem) in
            LabSystem.exitCode(try LabSystem.spawn(.init(command: ["sh", "-c", script])), wait: true)
        }
        if code != 0 { throw LabProblem("\(script) failed") }
    }

    var log: String { LabSystem.readText("\(directory)/log") ?? "" }

    /// Waits until `triad status`, in the node's network, prints all of this (with one space between columns).
    func waitForStatus(_ words: [String]) throws {
        let path = "\(directory)/status"
        var shown = ""
        for _ in 0..<200 {
            try run("'\(LabSystem.triad)' status > '\(path)' 2>&1 || true")
            shown = (LabSystem.readText(path) ?? "").split(separator: " ").joined(separator: " ")
            if words.allSatisfy({ shown.contains($0) }) { return }
            LabSystem.pause(milliseconds: 100)
        }
        throw LabProblem("not shown within 20 s: \(words); last:\n\(shown)\nthe node's log:\n\(log)")
    }
}

@Suite(.enabled(if: EndToEnd.canRun, EndToEnd.reason)) struct EchoTests {
    @Test func machinesThatVanishAreDown() throws {
        let lone = try EchoNode()
        try lone.waitForStatus(["api/four is down: network unreachable", "api/six is down: network unreachable"])
        try lone.run("ip addr add 10.9.0.1/32 dev lo && ip addr add fd09::1/128 dev lo nodad")
        try lone.waitForStatus(["api/four is up: echo answered in", "api/six is up: echo answered in"])
        try lone.run("ip addr del fd09::1/128 dev lo")
        try lone.waitForStatus(["api/four 10.9.0.1:8080 up", "api/six [fd09::1]:8080 down"])
    }

    @Test func aNodeThatMaySendNoEchoSaysSoAndNamesTheRemedy() throws {
        let lone = try EchoNode(through: ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"])
        let remedy = "give the process CAP_NET_RAW, or include its group in the sysctl net.ipv4.ping_group_range"
        try lone.waitForStatus(["this node checks none of its servers: \(remedy)"])
        try lone.waitForStatus(["not checked: socket: Operation not permitted: \(remedy)"])
        #expect(lone.log.contains("backend api, check.type \"icmp\": no echo can be sent"))
        #expect(lone.log.contains(remedy))
    }
}
