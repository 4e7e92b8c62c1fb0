// ListenerTests: a node whose workers run and whose frontend is dead: its listeners are shut down by `ss -K`, or taken
// out of the workers' epoll from outside. Real processes in network namespaces, with clients.

import CLinux
import Glibc
import Proxy
import Synchronization
import Testing

@testable import Node

/// A frontend's listeners in another process, found by /proc and reached by pidfd_getfd(2).
private struct ForeignListeners {
    private let process: pid_t
    /// By descriptor, in that process: each listener, and the epoll that watches it.
    private(set) var found: [(listener: Int32, epoll: Int32)] = []

    init(of process: pid_t, port: UInt16) {
        self.process = process
        var sockets: Set<String> = []
        for table in ["tcp", "tcp6"] {
            let lines = (LabSystem.readText("/proc/\(process)/net/\(table)") ?? "").split(separator: "\n")
            for line in lines {
                // Local address, remote address, state (0A: LISTEN); the tenth is the inode.
                let words: [Substring] = line.split(separator: " ")
                guard words.count > 9, words[3] == "0A", let place = words[1].split(separator: ":").last else {
                    continue
                }
                if UInt16(place, radix: 16) == port { sockets.insert("socket:[\(words[9])]") }
            }
        }
        let descriptors: [Int32] = Array(0..<1024)
        let links = descriptors.map { LabSystem.readLink("/proc/\(process)/fd/\($0)") }
        let epolls = descriptors.filter { links[Int($0)] == "anon_inode:[eventpoll]" }
        for listener in descriptors where sockets.contains(links[Int(listener)] ?? "") {
            let epoll = epolls.first { Self.watches($0, listener, process) }
            if let epoll { found.append((listener, epoll)) }
        }
    }

    private static func watches(_ epoll: Int32, _ listener: Int32, _ process: pid_t) -> Bool {
        let lines = (LabSystem.readText("/proc/\(process)/fdinfo/\(epoll)") ?? "").split(separator: "\n")
        return lines.contains { line in
            let words: [Substring] = line.split(separator: " ")
            return words.count > 1 && words[0] == "tfd:" && words[1] == "\(listener)"
        }
    }

    /// Makes their workers hear no more of them. The sockets go on listening: the kernel completes handshakes.
    func blind() throws -> Bool {
        let isDone = Mutex(false)
        let thread = try BackgroundThread(name: "surgery") { [process, found] in
            let isBlind = Self.blind(process, found)
            isDone.withLock { $0 = isBlind }
        }
        thread.join()
        return isDone.withLock { $0 }
    }

    private static func blind(_ process: pid_t, _ found: [(listener: Int32, epoll: Int32)]) -> Bool {
        typealias Unshare = @convention(c) (Int32) -> Int32
        typealias Open = @convention(c) (pid_t, UInt32) -> Int32
        typealias Get = @convention(c) (Int32, Int32, UInt32) -> Int32
        guard let unshareAddress = dlsym(nil, "unshare"), let openAddress = dlsym(nil, "pidfd_open"),
            let getAddress = dlsym(nil, "pidfd_getfd")
        else { return false }
        let open = unsafeBitCast(openAddress, to: Open.self)
        let get = unsafeBitCast(getAddress, to: Get.self)
        // An entry of epoll is a file and its number, so the listener must have the number that it has there. From here
        // on (CLONE_FILES) this thread's numbers are its own.
        guard unsafeBitCast(unshareAddress, to: Unshare.self)(0x400) == 0 else { return false }
        let other = open(process, 0)
        return found.allSatisfy { pair in
            let epoll = fcntl(get(other, pair.epoll, 0), F_DUPFD, 5_000)
            let listener = fcntl(get(other, pair.listener, 0), F_DUPFD, 5_000)
            return dup2(listener, pair.listener) == pair.listener
                && epoll_ctl(epoll, EPOLL_CTL_DEL, pair.listener, nil) == 0
        }
    }
}

extension ClusterTests {
    @Test(.enabled(if: LabSystem.find("ss") != nil, "needs ss"))
    func aListenerThatSomebodyClosesIsOpenedAgain() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let address = try lab.network.host(leader).addresses[0]
            try story.window(goOn: 3) {
                let command = ["ss", "-K", "-lnt", "sport", "=", ":80"]
                let ss = try lab.start("ss", command, on: leader, log: "\(lab.directory)/ss")
                try #require(try lab.waitForEnd(ss, seconds: 10) == 0)
            } until: {
                try lab.wait("\(leader) tells of it") {
                    cluster.status(leader)?.events.contains { $0.kind == "listener" && $0.text.contains("open again") }
                        == true
                }
            }.require("ss -K of the listeners", .init(outageMs: 50 * EndToEnd.slack, keptMayFail: true))
            try story.holds(cluster.owner() == leader, "\(leader) at \(address) goes on leading")
            try #require(try !cluster.view(leader).problems.contains { $0.contains("accepts no clients") })
        }
    }

    @Test func aLeaderWhoseListenersAreDeadHandsOver() throws {
        try EndToEnd.withCluster { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let leader = try cluster.waitForOwner()
            let listeners = ForeignListeners(of: try #require(cluster.nodes[leader]).pid, port: 80)
            try #require(!listeners.found.isEmpty)
            try story.window {
                try #require(try listeners.blind())
            } until: {
                try story.waitForTakeOver(from: leader)
            }.require("dead listeners", .init(outageMs: 4000 * EndToEnd.slack, keptMayFail: true))
            let text = "frontend http accepts no clients: they wait, and no worker takes them"
            let status = try cluster.view(leader)
            #expect(status.events.contains { $0.kind == "listener" && $0.text == text }, "\(status.events)")
            #expect(status.problems.contains("\(text); restart this node"), "\(status.problems)")
            let other = try cluster.waitForOwner(besides: leader)
            try lab.wait("\(other) knows that \(leader) doesn't serve") {
                cluster.status(other)?.problems.contains { $0.hasPrefix("node \(leader) can't answer clients") } == true
            }
            try cluster.terminate(leader)
            try lab.wait("\(leader) ends", seconds: 30) { cluster.hasEnded(leader) }
            try cluster.bringBack(leader)
            try cluster.waitUntilSettled()
            try lab.wait("\(leader) has no problem left") { cluster.status(leader)?.problems == [] }
        }
    }
}
