// ServiceTests: a node as systemd runs it: what it says on NOTIFY_SOCKET, a real datagram socket, and that the
// capabilities of cluster/triad.service are enough for the VIP. Also the operator's command, run by a real node.

import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

/// The receiving end of sd_notify.
final class NotifySocket {
    let path: String
    private let descriptor: Int32
    private(set) var heard: [String] = []

    init(_ path: String) throws {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(code == 0)
    }

    deinit {
        close(descriptor)
        unlink(path)
    }

    /// The next message; nil when none comes in time.
    func next(withinMs: Int32) -> String? {
        guard LabSystem.isReadable(descriptor, withinMs: withinMs) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        guard count > 0 else { return nil }
        let message = String(decoding: bytes[..<count], as: UTF8.self)
        heard.append(message)
        return message
    }

    /// Reads until a message begins with `start`.
    func wait(for start: String, seconds: Double = 20) throws -> String {
        let deadline = System.bootNanoseconds() + UInt64(seconds * 1e9)
        while System.bootNanoseconds() < deadline {
            if let message = next(withinMs: 100), message.hasPrefix(start) { return message }
        }
        throw LabProblem("\(start) was never said; heard: \(heard)")
    }
}

@Suite("ServiceNotifier") struct ServiceNotifierTests {
    private static let start = Instant(nanoseconds: 1_000_000_000)

    private func socket() throws -> NotifySocket {
        try NotifySocket("/tmp/triad-notify-\(getpid())-\(UInt32.random(in: 0 ... .max))")
    }

    @Test func saysWhatHappens() throws {
        let socket = try socket()
        var notifier = ServiceNotifier(environment: { $0 == "NOTIFY_SOCKET" ? socket.path : nil }, now: Self.start)
        notifier.ready()
        notifier.tell("leads")
        notifier.tell("leads")
        notifier.reloading()
        notifier.stopping(within: .seconds(7))
        #expect(socket.next(withinMs: 1000) == "READY=1")
        #expect(socket.next(withinMs: 1000) == "STATUS=leads")
        #expect(socket.next(withinMs: 1000)?.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") == true)
        #expect(socket.next(withinMs: 1000) == "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000")
        #expect(notifier.deadline == nil, "no watchdog was asked for")
    }

    @Test func signsOfLifeOnlyWhileHealthy() throws {
        let socket = try socket()
        let variables = ["NOTIFY_SOCKET": socket.path, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "77"]
        var notifier = ServiceNotifier(environment: { variables[$0] }, process: 77, now: Self.start)
        #expect(notifier.watchdogInterval == .seconds(1))
        notifier.elapse(now: Self.start, isHealthy: true)
        #expect(socket.next(withinMs: 1000) == "WATCHDOG=1")
        notifier.elapse(now: Self.start.advanced(by: .milliseconds(500)), isHealthy: true)
        notifier.elapse(now: Self.start.advanced(by: .seconds(1)), isHealthy: false)
        #expect(socket.next(withinMs: 0) == nil, "too early, then not healthy")
        let next = try #require(notifier.deadline)
        #expect(next == Self.start.advanced(by: .seconds(2)))
        notifier.elapse(now: next, isHealthy: true)
        #expect(socket.next(withinMs: 1000) == "WATCHDOG=1")
    }

    @Test func aWatchdogForAnotherProcess() throws {
        let socket = try socket()
        let variables = ["NOTIFY_SOCKET": socket.path, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "76"]
        let notifier = ServiceNotifier(environment: { variables[$0] }, process: 77, now: Self.start)
        #expect(notifier.watchdogInterval == nil)
    }

    @Test func whatFindsNoRoomIsSaidLater() throws {
        let socket = try socket()
        var notifier = ServiceNotifier(environment: { $0 == "NOTIFY_SOCKET" ? socket.path : nil }, now: Self.start)
        // The receiver's queue is some hundred messages long at most (net.unix.max_dgram_qlen).
        for number in 0..<2000 where notifier.deadline == nil { notifier.tell("\(number)") }
        let waits = notifier.deadline
        notifier.ready()
        while socket.next(withinMs: 0) != nil {}
        notifier.elapse(now: try #require(waits), isHealthy: true)
        var last: String?
        while let message = socket.next(withinMs: 100) { last = message }
        #expect(last == "READY=1")
        #expect(notifier.deadline == nil)
    }

    @Test(arguments: [nil, "", "relative", "/nonexistent/socket"]) func nobodyToTell(_ path: String?) {
        var notifier = ServiceNotifier(
            environment: { ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000"][$0] ?? nil }, now: Self.start)
        notifier.ready()
        notifier.elapse(now: Self.start, isHealthy: true)
        #expect(notifier.deadline == nil)
    }
}

extension ClusterTests {
    private func service(in lab: Lab) throws -> String {
        let directory = "\(lab.directory)/service"
        try LabSystem.makeDirectory(directory)
        try LabSystem.write("\(directory)/on-event", "#!/bin/sh\ncat >>\(directory)/events\n")
        try #require(chmod("\(directory)/on-event", 0o755) == 0)
        try LabSystem.write(
            "\(directory)/triad.json5",
            """
            {
              cluster: "lab", nodes: [{ id: "n1", address: "10.77.0.11" }],
              vip: { address: "10.77.0.100/24", interface: "eth0" }, data: "data",
              frontends: [{ name: "web", port: 80, backend: "api" }],
              backends: [{ name: "api", servers: [{ id: "api_1", address: "10.77.0.21:8080" }] }],
              timeouts: { drain: "200ms" },
              notify: { command: ["\(directory)/on-event"] },
            }
            """)
        return directory
    }

    /// The capabilities of the unit's CapabilityBoundingSet, as setpriv writes them.
    private func capabilities() throws -> String {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        let unit = try #require(LabSystem.readText("\(root)/cluster/triad.service"))
        let line = try #require(unit.split(separator: "\n").first { $0.hasPrefix("CapabilityBoundingSet=") })
        let names = line.dropFirst("CapabilityBoundingSet=".count).split(separator: " ")
        return "-all," + names.map { "+" + $0.dropFirst("CAP_".count).lowercased() }.joined(separator: ",")
    }

    @Test func aNodeAsSystemdRunsIt() throws {
        let lab = try Lab()
        defer { lab.tearDown() }
        let directory = try service(in: lab)
        let socket = try NotifySocket("\(lab.directory)/notify")
        let command = [
            "env", "NOTIFY_SOCKET=\(socket.path)", "WATCHDOG_USEC=600000", "TRIAD_NODE=n1",
            "TRIAD_CONFIG=\(directory)/triad.json5", "setpriv", "--bounding-set=\(try capabilities())",
            "--no-new-privs",
            LabSystem.triad, "run",
        ]
        let node = try lab.start("service", command, on: "n1", log: "\(directory)/log")
        func log() -> String { LabSystem.readText(node.errors) ?? "" }
        func events() -> String { LabSystem.readText("\(directory)/events") ?? "" }
        _ = try socket.wait(for: "READY=1")
        try lab.wait("the VIP, and the command that hears of it") { events().contains("\"event\":\"vip-acquired\"") }
        #expect(events().contains("\"vips\":[\"10.77.0.100/24\"]"), "\(events())")
        #expect(log().contains("the kernel's gate stands") || !log().contains("CAP_"), "\(log())")
        _ = try socket.wait(for: "STATUS=leads")
        _ = try socket.wait(for: "WATCHDOG=1")

        lab.signal(node, SIGHUP, group: false)
        _ = try socket.wait(for: "RELOADING=1")
        _ = try socket.wait(for: "READY=1")

        // Hung: whoever waits for its signs gets none.
        lab.signal(node, SIGSTOP, group: false)
        while socket.next(withinMs: 100) != nil {}
        #expect(socket.next(withinMs: 1500) == nil)
        lab.signal(node, SIGCONT, group: false)
        _ = try socket.wait(for: "WATCHDOG=1")

        lab.signal(node, SIGTERM, group: false)
        _ = try socket.wait(for: "STOPPING=1")
        #expect(try lab.waitForEnd(node, seconds: 20) == 0, "\(log())")
        try lab.wait("the command of the last event") { events().contains("\"event\":\"vip-released\"") }
    }
}
