// ShortageTests: one node as a process of its own on loopback: it runs out of descriptors, its access log is moved away, and
// it is stopped while a client stays.

import CLinux
import Glibc
import Proxy
import Testing

@testable import Node

/// A node with one API behind it, and clients for it.
private final class LoneNode {
    let directory: String
    let port: UInt16
    let streamPort: UInt16
    private let statusPort: UInt16
    private(set) var node: pid_t = 0
    private var api: pid_t = 0

    /// - Parameter descriptors: how many the node may have.
    init(descriptors: Int) throws {
        directory = try LabSystem.makeTemporaryDirectory("triad-lone", inMemory: false)
        let ports = try Self.freePorts(5)
        (port, statusPort, streamPort) = (ports[0], ports[1], ports[4])
        try LabSystem.write(
            "\(directory)/triad.json5",
            """
            {
              cluster: "lone", nodes: [ { id: "n1", address: "127.0.0.1", gossipPort: \(ports[2]) } ], data: "data",
              workers: 1, status: { port: \(statusPort) }, log: { access: { to: "access.log" } },
              timeouts: { drain: "1s" },
              frontends: [
                { name: "http", address: "127.0.0.1", port: \(port), backend: "api" },
                { name: "stream", mode: "tcp", address: "127.0.0.1", port: \(streamPort), backend: "api" },
              ],
              backends: [ { name: "api", servers: [ { id: "api_1", address: "127.0.0.1:\(ports[3])" } ] } ],
            }
            """)
        api = try LabSystem.spawn(.init(command: [LabSystem.triad, "api", "--id", "1", "--port", "\(ports[3])"]))
        let run =
            "ulimit -n \(descriptors) && exec '\(LabSystem.triad)' run --config '\(directory)/triad.json5' --node n1"
        node = try LabSystem.spawn(.init(command: ["sh", "-c", run], errors: "\(directory)/log"))
    }

    deinit {
        for process in [node, api] where process > 0 {
            kill(process, SIGKILL)
            _ = LabSystem.exitCode(process, wait: true)
        }
        if let rm = try? LabSystem.spawn(.init(command: ["rm", "-rf", directory])) {
            _ = LabSystem.exitCode(rm, wait: true)
        }
    }

    /// Ports that nobody has, below those that the kernel gives to clients: until the node listens nobody gets one by chance.
    private static func freePorts(_ count: Int) throws -> [UInt16] {
        var found: Set<UInt16> = []
        for _ in 0..<1000 where found.count < count {
            let port = UInt16.random(in: 12_000..<32_000)
            let descriptor = try System.socket(AF_INET, SOCK_STREAM.rawValue)
            defer { System.close(descriptor) }
            if (try? System.bind(descriptor, try #require(SocketAddress("127.0.0.1:\(port)")))) != nil {
                found.insert(port)
            }
        }
        try #require(found.count == count, "no free ports")
        return Array(found)
    }

    /// The exit code after SIGTERM; nil when the node is still there after 20 s.
    func stop() -> Int32? {
        kill(node, SIGTERM)
        for _ in 0..<2_000 {
            if let code = LabSystem.exitCode(node, wait: false) {
                node = 0
                return code
            }
            LabSystem.pause(milliseconds: 10)
        }
        return nil
    }

    func connect(_ port: UInt16? = nil) throws -> Int32 {
        let descriptor = try System.socket(AF_INET, SOCK_STREAM.rawValue)
        let address = try #require(SocketAddress("127.0.0.1:\(port ?? self.port)"))
        _ = System.connect(descriptor, address)
        return descriptor
    }

    /// The status of the answer to a GET on an open connection; nil when none comes in time.
    func get(_ path: String, on descriptor: Int32) -> Int? { answer(path, on: descriptor)?.status }

    func answer(_ path: String, on descriptor: Int32) -> (status: Int, body: [UInt8])? {
        var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard Glibc.poll(&poll, 1, 20_000) == 1 else { return nil }
        let request = "GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n"
        guard case .moved = LabSystem.send(descriptor, Array(request.utf8)) else { return nil }
        var response = LoadResponse(keptBodyMax: 1 << 20)
        var input: [UInt8] = []
        var scratch = [UInt8](repeating: 0, count: 1 << 16)
        while LabSystem.isReadable(descriptor, withinMs: 20_000) {
            switch LabSystem.receive(descriptor, appendTo: &input, scratch: &scratch) {
            case .moved: if case .done = response.read(&input) { return (response.status, response.body) }
            case .wouldBlock: continue
            case .ended, .failed: return nil
            }
        }
        return nil
    }

    func getOnce(_ path: String) throws -> Int? {
        let descriptor = try connect()
        defer { System.close(descriptor) }
        return get(path, on: descriptor)
    }

    func metrics() throws -> String {
        let descriptor = try connect(statusPort)
        defer { System.close(descriptor) }
        return String(decoding: answer("/metrics", on: descriptor)?.body ?? [], as: UTF8.self)
    }

    func log(_ name: String) -> String { LabSystem.readText("\(directory)/\(name)") ?? "" }

    func wait(_ what: String, _ condition: () throws -> Bool) throws {
        for _ in 0..<2_000 {
            if try condition() { return }
            LabSystem.pause(milliseconds: 10)
        }
        Issue.record("\(what) within 20 s; the node's log:\n\(log("log"))")
        throw LabProblem(what)
    }
}

@Suite struct ShortageTests {
    @Test func withoutDescriptorsThoseWhoAreConnectedAreServed() throws {
        let lone = try LoneNode(descriptors: 64)
        try lone.wait("the node serves") { try lone.getOnce("/") == 200 }
        let kept = try lone.connect()
        defer { System.close(kept) }
        #expect(lone.get("/", on: kept) == 200)
        var crowd: [Int32] = []
        for _ in 0..<100 { crowd.append(try lone.connect()) }
        try lone.wait("the shortage is told") { lone.log("log").contains("descriptors or memory are used up") }
        for _ in 0..<5 { #expect(lone.get("/", on: kept) == 200) }
        for descriptor in crowd { System.close(descriptor) }
        try lone.wait("new clients are served again") { try lone.getOnce("/") == 200 }
        let metrics = try lone.metrics()
        let pauses = try #require(
            metrics.split(separator: "\n").first { $0.hasPrefix("triad_accept_pauses_total{reason=\"system\"}") })
        #expect(!pauses.hasSuffix(" 0"), "\(pauses)")
    }

    @Test func aMovedLogIsOpenedAgain() throws {
        let lone = try LoneNode(descriptors: 1_024)
        try lone.wait("the node serves") { try lone.getOnce("/?before") == 200 }
        try lone.wait("a line") { lone.log("access.log").contains("\"target\":\"/?before\"") }
        #expect(rename("\(lone.directory)/access.log", "\(lone.directory)/access.log.1") == 0)
        kill(lone.node, SIGUSR1)
        try lone.wait("a new file") { access("\(lone.directory)/access.log", F_OK) == 0 }
        #expect(try lone.getOnce("/?after") == 200)
        try lone.wait("its first line") { lone.log("access.log").contains("\"target\":\"/?after\"") }
        #expect(!lone.log("access.log.1").contains("?after"))
        #expect(try lone.metrics().contains("triad_access_log_dropped_total 0"))
    }

    @Test func aStopIsNoEndForWhoIsStillConnected() throws {
        let lone = try LoneNode(descriptors: 1_024)
        try lone.wait("the node serves") { try lone.getOnce("/") == 200 }
        let stream = try lone.connect(lone.streamPort)
        defer { System.close(stream) }
        #expect(lone.get("/", on: stream) == 200)
        #expect(try lone.getOnce("/?last") == 200)
        #expect(lone.stop() == 0, "\(lone.log("log"))")
        // An end would tell the client that the server had said all.
        var byte: UInt8 = 0
        #expect(recv(stream, &byte, 1, 0) < 0 && clinux_errno() == ECONNRESET)
        let lines = lone.log("access.log").split(separator: "\n")
        #expect(lines.contains { $0.contains("\"target\":\"/?last\"") })
        #expect(lines.contains { $0.contains("\"frontend\":\"stream\"") && $0.contains("\"end\":\"KD\"") }, "\(lines)")
    }
}
