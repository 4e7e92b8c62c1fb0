// EchoCheckTests: checks of type "icmp" against the kernel of a network namespace: machines that answer, vanish and come
// back, and one that answers with something else.
//
// A test's body may not suspend: it would come back on another thread, in another network.

import CLinux
import Glibc
import Proxy
import Testing

@testable import Node

/// A network whose only machine is itself, with a prober in it.
private final class EchoBench {
    private let space: Int32
    private let reactor: Reactor
    private var prober = Prober(kind: 1)
    private(set) var changes: [ProbeChange] = []

    /// - Parameter groups: who may use the kernel's echo sockets; "1 0" is nobody, and raw sockets have to do.
    init(groups: String) throws {
        space = try LabSystem.makeNetworkNamespace()
        reactor = try Reactor()
        // Packets for addresses that nobody has go to eth0, and nowhere from there.
        try run(
            """
            ip link set lo up && ip link add eth0 type veth peer name far0 && \
            ip link set eth0 up && ip link set far0 up && ip addr add 10.9.0.254/24 dev eth0 && \
            ip -6 addr add fd09::254/64 dev eth0 nodad && \
            echo \(groups) > /proc/sys/net/ipv4/ping_group_range
            """)
    }

    deinit { System.close(space) }

    func inside<Value>(_ body: () throws(LabProblem) -> Value) throws -> Value { try LabSystem.inside(space, body) }

    func run(_ script: String) throws {
        let code = try inside { () throws(LabProblem) in
            LabSystem.exitCode(try LabSystem.spawn(.init(command: ["sh", "-c", script])), wait: true)
        }
        if code != 0 { throw LabProblem("exit code \(code.map { "\($0)" } ?? "none") of: \(script)") }
    }

    /// - Parameter timeout: ms.
    func check(_ hosts: [String], timeout: Int = 400, interval: Int = 400) throws {
        let settings = ProbeSettings(
            kind: .icmp, interval: .milliseconds(interval), timeout: .milliseconds(timeout), rise: 2, fall: 2)
        let targets = try hosts.map {
            ProbeTarget(
                id: "api/\($0)", address: try #require(SocketAddress(address: $0, port: 80)), settings: settings)
        }
        prober.setTargets(targets, now: System.bootNanoseconds())
    }

    /// Lets the prober work until the condition holds; false when it didn't within the limit of a wait.
    func turn(until condition: (EchoBench) -> Bool) throws -> Bool {
        try inside { () throws(LabProblem) in
            let end = System.bootNanoseconds() + UInt64(waitMsMax) * 1_000_000
            while !condition(self) {
                let now = System.bootNanoseconds()
                if now > end { return false }
                prober.tick(now: now, reactor: reactor)
                for index in 0..<reactor.wait(timeoutMs: 5) {
                    let (token, readiness) = reactor.event(at: index)
                    prober.handle(token, readiness, now: System.bootNanoseconds(), reactor: reactor)
                }
                changes += prober.takeChanges()
            }
            return true
        }
    }

    func view(of host: String) -> ProbeView? { prober.view(of: "api/\(host)") }
}

@Suite(.serialized, .ownThread, .enabled(if: geteuid() == 0, "needs root, to make network namespaces"))
struct EchoCheckTests {
    private static let nobody = "1 0"
    private static let everybody = "0 2147483647"
    private static let hosts = ["10.9.0.1", "fd09::1"]

    @Test(arguments: [nobody, everybody]) func aMachineIsUpWhileItAnswers(_ groups: String) throws {
        let bench = try EchoBench(groups: groups)
        try bench.run("ip addr add 10.9.0.1/32 dev lo && ip addr add fd09::1/128 dev lo nodad")
        try bench.check(Self.hosts)
        #expect(try bench.turn { $0.changes.count == 2 })
        #expect(bench.changes.allSatisfy { $0.verdict == .up && $0.reason.hasPrefix("echo answered in ") })
        try bench.run("ip addr del 10.9.0.1/32 dev lo && ip addr del fd09::1/128 dev lo")
        #expect(try bench.turn { $0.changes.count == 4 })
        for change in bench.changes[2...] {
            #expect(change.verdict == .down)
            #expect(["no answer in 400 ms", "host unreachable"].contains(change.reason), "\(change)")
        }
        try bench.run("ip addr add 10.9.0.1/32 dev lo && ip addr add fd09::1/128 dev lo nodad")
        #expect(try bench.turn { $0.changes.count == 6 })
        #expect(bench.changes[4...].allSatisfy { $0.verdict == .up })
    }

    @Test func aNetworkWithoutAWayThereIsAFailure() throws {
        let bench = try EchoBench(groups: Self.nobody)
        try bench.check(["10.8.0.1"])
        #expect(try bench.turn { $0.changes.count == 1 })
        #expect(bench.changes.first?.verdict == .down && bench.changes.first?.reason == "network unreachable")
    }

    /// It answers each echo itself: first with another token, an echo's answer that is none; at last with the right one.
    @Test(arguments: [nobody, everybody]) func aForgedAnswerIsNoAnswer(_ groups: String) throws {
        let bench = try EchoBench(groups: groups)
        try bench.run("ip addr add 10.9.0.1/32 dev lo && echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all")
        let (machine, address) = try bench.inside { () throws(LabProblem) in
            guard let address = SocketAddress(address: "10.9.0.1", port: 0),
                let machine = try? System.socket(AF_INET, SOCK_RAW.rawValue, Int32(IPPROTO_ICMP))
            else { throw LabProblem(call: "socket") }
            try? System.bind(machine, address)
            return (machine, address)
        }
        defer { System.close(machine) }
        var forged = 0
        var isHonest = false
        /// Answers the echoes that came.
        func answer() {
            var packet: [UInt8] = []
            while case .moved = System.receive(machine, into: &packet, atMost: 256) {
                guard packet.count == 36, packet[20] == 8 else { continue }
                var message = Array(packet[20...])
                if !isHonest { message[15] ^= 1 }
                message.replaceSubrange(0..<4, with: [0, 0, 0, 0])
                let sum = InternetChecksum.of(message)
                (message[2], message[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
                if case .moved = System.send(machine, message, to: address) { forged += 1 }
            }
        }
        try bench.check(["10.9.0.1"])
        #expect(
            try bench.turn {
                answer()
                return $0.changes.count == 1
            })
        #expect(bench.changes.first?.verdict == .down && bench.changes.first?.reason == "no answer in 400 ms")
        #expect(forged > 0)
        isHonest = true
        #expect(
            try bench.turn {
                answer()
                return $0.changes.count == 2
            })
        #expect(bench.changes.last?.verdict == .up)
    }
}
