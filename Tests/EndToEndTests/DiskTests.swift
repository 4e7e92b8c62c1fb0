// DiskTests: nodes whose disk gets full, or turns read-only because it fails: real file systems, each in a mount
// namespace of its own, so that they go with the node whatever happens.

import Glibc
import Proxy
import Testing

@testable import Node

/// What a node's data directory is on.
private enum Volume {
    /// 64 KiB in memory.
    static let small = "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$d/data\""
    /// ext4 in a file, which turns read-only when it finds an error.
    static let failing =
        "[ -e \"$d/image\" ] || { truncate -s 8M \"$d/image\"; mkfs.ext4 -q \"$d/image\"; }; "
        + "mount -o loop,errors=remount-ro \"$d/image\" \"$d/data\""

    /// What comes before a node's command: `$4` is its configuration file.
    static func through(_ mount: String) -> [String] {
        let script = "d=$(dirname \"$4\"); mkdir -p \"$d/data\"; \(mount) && exec \"$@\""
        return ["unshare", "--mount", "sh", "-c", script, "sh"]
    }

    /// Loop devices and ext4 are not everywhere.
    static let canFail: Bool = {
        let script =
            "d=$(mktemp -d); mkdir $d/data; { \(failing); } 2>/dev/null; code=$?; umount $d/data; rm -r $d; exit $code"
        guard getuid() == 0, let pid = try? LabSystem.spawn(.init(command: ["unshare", "--mount", "sh", "-c", script]))
        else { return false }
        return LabSystem.exitCode(pid, wait: true) == 0
    }()
}

extension LabCluster {
    /// A path below a node's directory, as that node sees it.
    fileprivate func seen(_ path: String, by node: String) throws -> String {
        guard let pid = nodes[node]?.pid else { throw LabProblem("\(node) was never started") }
        return "/proc/\(pid)/root\(directory(node))/\(path)"
    }

    fileprivate func fillDisk(of node: String) throws {
        let path = try seen("data/filler", by: node)
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
        guard descriptor >= 0 else { throw LabProblem(call: path) }
        defer { close(descriptor) }
        let page = [UInt8](repeating: 1, count: 4096)
        while write(descriptor, page, page.count) > 0 {}
    }

    fileprivate func freeDisk(of node: String) throws {
        guard try unlink(seen("data/filler", by: node)) == 0 else { throw LabProblem(call: "filler") }
    }

    fileprivate func cannotWrite(_ node: String) -> Bool {
        status(node)?.problems.contains { $0.contains("can't write its state") } ?? false
    }

    /// Changes a weight, at a node.
    fileprivate func setWeight(_ weight: Int, at node: String) throws -> LabAnswer {
        try operate(["weight", "api/api_1", "\(weight)"], at: node)
    }

    /// Changes weights until a node says that it can't write: what fits its last page still fits a full disk.
    /// - Returns: the weight that was acknowledged last.
    fileprivate func changeUntil(_ node: String, cannotWrite what: String, at asked: String) throws -> Int {
        var weight = 10
        for _ in 0..<200 {
            if cannotWrite(node) { return weight }
            let answer = try setWeight(weight + 1, at: asked)
            guard answer.code == 0 else { throw LabProblem("weight \(weight + 1): \(answer.errors)") }
            weight += 1
        }
        throw LabProblem("\(node) never says that \(what)")
    }

    fileprivate func hasWeight(_ weight: Int) -> (LabStatus) -> Bool {
        { status in status.servers.contains { $0.id == "api_1" && $0.weight == weight } }
    }
}

extension ClusterTests {
    @Test func followerWithAFullDiskVotesNoMore() throws {
        let options = LabClusterOptions(fencing: "auto", through: Volume.through(Volume.small))
        try EndToEnd.withCluster(options, isPatient: true) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let others = lab.nodes.filter { $0 != leader }
            let (full, sound) = (others[0], others[1])
            let term = try cluster.view(leader).term
            var last = 0
            try story.window {
                try cluster.fillDisk(of: full)
                last = try cluster.changeUntil(full, cannotWrite: "its disk is full", at: leader)
            } until: {
                try cluster.waitForAgreement("weight \(last)", among: [leader, sound], cluster.hasWeight(last))
            }.require("\(full) has a full disk", .init())
            let view = try cluster.view(full)
            LabSystem.say("  \(full): \(view.role), \(view.problems)\n")
            try story.holds(view.role == "follower" && view.term == term, "\(full) follows as before")
            try story.holds(cluster.view(leader).term == term, "\(leader) leads as before")

            // Without the sound one there is a quorum, but no majority that could write: nothing is acknowledged.
            try cluster.killAll(sound)
            let refused = try cluster.setWeight(200, at: leader)
            LabSystem.say("  nobody could write it: \(refused.code) \(refused.errors)")
            try #require(refused.code == 1)
            try story.holds(cluster.view(leader).term == term, "\(full) still answers \(leader)'s heartbeats")
            try cluster.bringBack(sound)
            try cluster.waitForAgreement("\(sound) is back", among: [leader, sound], cluster.hasWeight(200))

            // Without the leader, the sound one alone can't be elected: the full one must not vote.
            try cluster.killAll(leader)
            try lab.wait("nobody owns the VIP") { try lab.ownershipSoFar().owners.isEmpty }
            let goneAt = System.bootNanoseconds()
            try lab.wait("two seconds pass") { System.bootNanoseconds() > goneAt + 2_000_000_000 }
            try #require(try lab.ownership().changes.filter { $0.owns && $0.at > goneAt }.isEmpty)
            try lab.wait("\(full) still complains") { cluster.cannotWrite(full) }
            try cluster.freeDisk(of: full)
            // Only the sound one has all that was acknowledged.
            try #require(try cluster.waitForOwner(besides: leader) == sound)
            try cluster.waitForAgreement("changes made meanwhile", among: others, cluster.hasWeight(200))
            try lab.wait("\(full) no longer complains") { !cluster.cannotWrite(full) }
            try #require(!cluster.hasEnded(full), "it was never restarted")
            try cluster.bringBack(leader)
            try cluster.waitUntilSettled()
        }
    }

    @Test func leaderWithAFullDiskStepsDown() throws {
        try EndToEnd.withCluster(LabClusterOptions(fencing: "auto", through: Volume.through(Volume.small))) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let full = try cluster.waitForOwner()
            let others = lab.nodes.filter { $0 != full }
            var last = 10
            let window = try story.window {
                try cluster.fillDisk(of: full)
                // The change that it can't write is not acknowledged by it, or is by its successor.
                for _ in 0..<200 where try cluster.owner() == full && !cluster.cannotWrite(full) {
                    last += 1
                    _ = try cluster.setWeight(last, at: others[0])
                }
            } until: {
                try story.waitForTakeOver(from: full)
            }
            try window.require(
                "the leader's disk is full", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try lab.wait("\(full) is a follower and says why") {
                cluster.status(full)?.role == "follower" && cluster.cannotWrite(full)
            }
            try #require(try cluster.setWeight(250, at: others[0]).code == 0)
            try cluster.waitForAgreement("the others go on", among: others, cluster.hasWeight(250))
            try cluster.freeDisk(of: full)
            try cluster.waitForAgreement("changes made meanwhile", cluster.hasWeight(250))
            try lab.wait("\(full) no longer complains") { !cluster.cannotWrite(full) }
            try #require(!cluster.hasEnded(full), "it was never restarted")
        }
    }

    @Test(.enabled(if: Volume.canFail, "loop devices and ext4")) func failingFileSystemIsSaid() throws {
        let options = LabClusterOptions(fencing: "auto", through: Volume.through(Volume.failing))
        try EndToEnd.withCluster(options, isPatient: true) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let others = lab.nodes.filter { $0 != leader }
            let failing = others[0]
            var last = 0
            try story.window {
                try failFileSystem(cluster, failing)
                last = try cluster.changeUntil(failing, cannotWrite: "its disk is read-only", at: leader)
            } until: {
                try cluster.waitForAgreement("weight \(last)", among: [leader, others[1]], cluster.hasWeight(last))
            }.require("\(failing)'s file system turned read-only", .init())
            let view = try cluster.view(failing)
            LabSystem.say("  \(failing): \(view.role), \(view.problems)\n")
            try #require(view.role == "follower" && !cluster.hasEnded(failing))
            // Mounted again (its namespace went with it), it has what it had and catches up.
            try cluster.killAll(failing)
            try cluster.bringBack(failing)
            try cluster.waitForAgreement("it caught up", cluster.hasWeight(last))
            try lab.wait("\(failing) can write") { cluster.status(failing)?.problems.isEmpty == true }
        }
    }

    /// As if the kernel had found the file system damaged.
    private func failFileSystem(_ cluster: LabCluster, _ node: String) throws {
        let pid = try #require(cluster.nodes[node]?.pid)
        let mounts = LabSystem.readText("/proc/\(pid)/mounts") ?? ""
        let line = try #require(mounts.split(separator: "\n").first { $0.contains("\(cluster.directory(node))/data ") })
        let device = try #require(line.split(separator: " ").first?.split(separator: "/").last)
        try LabSystem.write("/sys/fs/ext4/\(device)/trigger_fs_error", "test\n")
    }
}
