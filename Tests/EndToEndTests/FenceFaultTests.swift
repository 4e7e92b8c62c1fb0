// FenceFaultTests: `ip` fails on the node that is to take over. The VIP is late or goes elsewhere; it isn't lost, and never
// has two owners. Real processes in network namespaces, with clients.

import Glibc
import Testing

@testable import Node

/// An `ip` for each node, which makes the kernel's own refuse to add addresses as often as it is told to.
private struct FailingTools {
    let directory: String
    private let nodes = ["n1", "n2", "n3"]

    init() throws {
        directory = try LabSystem.makeTemporaryDirectory("triad-failing", inMemory: true)
        let real = try #require(LabSystem.find("ip"))
        for node in nodes {
            try LabSystem.makeDirectory("\(directory)/\(node)")
            let script = """
                #!/bin/sh
                case "$*" in *-batch*) ;; *) exec \(real) "$@" ;; esac
                while read -r line; do
                    case $line in
                    "addr replace"*)
                        read -r left <\(directory)/\(node)/left
                        if [ "$left" -gt 0 ]; then
                            echo $((left - 1)) >\(directory)/\(node)/left
                            line="addr replace 192.0.2.1/32 dev nowhere"
                        fi
                        ;;
                    esac
                    printf '%s\\n' "$line"
                done | \(real) "$@"

                """
            try LabSystem.write("\(directory)/\(node)/ip", script)
            try #require(chmod("\(directory)/\(node)/ip", 0o755) == 0)
            try fail(node, times: 0)
        }
    }

    /// The node's next attempts to add an address fail, so many of them.
    func fail(_ node: String, times: Int) throws {
        // At once, since it is read meanwhile.
        try LabSystem.write("\(directory)/\(node)/new", "\(times)\n")
        try #require(rename("\(directory)/\(node)/new", "\(directory)/\(node)/left") == 0)
    }

    func left(_ node: String) -> Int? {
        LabSystem.readText("\(directory)/\(node)/left").flatMap { Int($0.filter(\.isNumber)) }
    }

    /// Runs a node with its own tools. Its name is the last argument.
    var through: [String] {
        ["sh", "-c", "for node; do :; done; PATH=\(directory)/$node:$PATH; export PATH; exec \"$@\"", "sh"]
    }

    func remove() {
        for node in nodes {
            for file in ["ip", "left", "new"] { unlink("\(directory)/\(node)/\(file)") }
            rmdir("\(directory)/\(node)")
        }
        rmdir(directory)
    }
}

extension ClusterTests {
    @Test(arguments: ["auto", "wait"]) func theVIPOutlivesAnIPThatFailsDuringAHandover(fencing: String) throws {
        let tools = try FailingTools()
        defer { tools.remove() }
        try EndToEnd.withCluster(LabClusterOptions(fencing: fencing, through: tools.through)) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let first = try cluster.waitForOwner()
            let second = try #require(lab.nodes.first { $0 != first })
            let third = try #require(lab.nodes.first { $0 != first && $0 != second })

            // A few failures only make the move take longer.
            try tools.fail(second, times: 3)
            try story.window {
                _ = try cluster.operate(["handover", "--to", second], at: third)
            } until: {
                try lab.wait("\(second) owns the VIP", seconds: 30) { try cluster.owner() == second }
            }.require("ip fails three times", .init(outageMs: 2000 * EndToEnd.slack, keptMayFail: true))
            #expect(tools.left(second) == 0, "it didn't fail: the test shows nothing")
            try cluster.waitForAgreement("\(second) leads, and can") { $0.leader == second && $0.problems == [] }

            // One that never works again: the lead goes on to a node that can take the VIP.
            try tools.fail(third, times: 1_000_000)
            try story.window {
                _ = try cluster.operate(["handover", "--to", third], at: second)
                try lab.wait("\(third) has tried", seconds: 30) { tools.left(third).map { $0 < 1_000_000 } ?? false }
            } until: {
                try lab.wait("another node owns the VIP", seconds: 30) {
                    try cluster.owner().map { $0 != third } ?? false
                }
            }.require("ip fails for good", .init(outageMs: 6000 * EndToEnd.slack, keptMayFail: true))
            let owner = try cluster.waitForOwner(besides: third)
            try lab.wait("\(owner) says what is wrong with \(third)") {
                cluster.status(owner)?.problems.contains { $0.hasPrefix("node \(third) can't answer clients") } == true
            }
            try tools.fail(third, times: 0)
            try cluster.waitUntilSettled(seconds: 30)
        }
    }
}
