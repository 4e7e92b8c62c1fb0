// FencePreflightTests: each thing that would keep a node from owning its VIP is found, named, and has its remedy.

import CLinux
import Glibc
import Proxy
import Testing

@testable import Node

@Suite(.serialized, .ownThread, .enabled(if: geteuid() == 0, "needs root, to make network namespaces"))
struct FencePreflightTests {
    private func vip(_ host: String, _ interface: String) throws -> FenceAddress {
        let address = try #require(SocketAddress(address: host, port: 0))
        return FenceAddress(address: address, prefix: address.isIPv6 ? 128 : 32, interface: interface)
    }

    @Test func findsNothingWhereAllIsWell() throws {
        let bench = try FenceBench()
        defer { bench.close() }
        #expect(
            FencePreflight.check(vips: [try vip("10.88.0.100", "eth0"), try vip("fd88::1", "eth0")], gate: .never) == []
        )
        #expect(FencePreflight.check(vips: [], gate: .required) == [])
    }

    @Test func namesTheInterfacesThereAre() throws {
        let bench = try FenceBench()
        defer { bench.close() }
        let problems = FencePreflight.check(vips: [try vip("10.88.0.100", "eth9")], gate: .never)
        #expect(problems.count == 1)
        let problem = try #require(problems.first)
        #expect(problem.isFatal)
        #expect(problem.text.hasPrefix("vip 10.88.0.100/32: there is no interface \"eth9\"; this machine has lo, "))
        #expect(problem.text.contains("eth0") && problem.text.contains("far0"))
    }

    @Test func warnsOfAnInterfaceThatIsDown() throws {
        let bench = try FenceBench(before: "ip link set eth0 down")
        defer { bench.close() }
        #expect(
            FencePreflight.check(vips: [try vip("10.88.0.100", "eth0")], gate: .never) == [
                .init(
                    text: "vip 10.88.0.100/32: interface eth0 is down: ip link set eth0 up", isFatal: false)
            ])
    }

    @Test func asksForNftablesWhereAGateIsWanted() throws {
        let bench = try FenceBench()
        defer { bench.close() }
        let vips = [try vip("10.88.0.100", "eth0")]
        func problems(_ gate: GateUse) -> [FencePreflight.Problem] {
            FencePreflight.check(vips: vips, gate: gate, searchPath: "/nonexistent").filter { $0.text.contains("nft") }
        }
        #expect(problems(.never) == [])
        #expect(problems(.ifUsable).map(\.isFatal) == [false])
        #expect(problems(.required).map(\.isFatal) == [true])
        #expect(problems(.required).allSatisfy { $0.text.contains("install nftables") })
    }

    @Test func refusesIPv6WhereItIsOff() throws {
        let bench = try FenceBench(before: "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        defer { bench.close() }
        let problems = FencePreflight.check(vips: [try vip("fd88::1", "eth0")], gate: .never)
        #expect(problems.map(\.isFatal) == [true])
        #expect(problems.first?.text.contains("sysctl -w net.ipv6.conf.eth0.disable_ipv6=0") == true)
    }
}
