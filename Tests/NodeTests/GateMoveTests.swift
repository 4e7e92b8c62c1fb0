// GateMoveTests: planned moves between real fences: what is connected stays connected, what comes anew goes to the new
// owner, and at no moment two nodes answer.

import Glibc
import Gossip
import Testing

@testable import Node

extension GateBench {
    /// From one node to another, as two main processes do it: the new owner is ready to forward before it holds.
    /// Returns how long nobody was the owner, in milliseconds.
    fileprivate func move(from old: Node, to new: Node) throws -> Double {
        let place = try #require(nodes.firstIndex { $0 === old })
        new.link?.forward(to: MemberID(place))
        yield(old)
        let isSilent = live(2000) { _ in old.isDropped }
        let silent = nowMs
        try #require(isSilent, "\(old.answers)")
        let isHeld = lead(new)
        try #require(isHeld, "\(new.answers)")
        return nowMs - silent
    }

    fileprivate func forgetNeighbours() {
        _ = asClient("ip neigh flush all; ip -6 neigh flush all")
        for node in nodes { _ = inside(node, "ip neigh flush all; ip -6 neigh flush all") }
    }

    /// As gossip does: each knows the others' Ethernet addresses. False when one doesn't get to.
    fileprivate func meet() -> Bool {
        let hosts = nodes.indices.flatMap { ["10.88.0.1\($0 + 1)", "fd88::1\($0 + 1)"] }
        for node in nodes { for host in hosts { greet(host, from: node) } }
        return nodes.indices.allSatisfy { index in
            let others = hosts.filter { !$0.hasSuffix("1\(index + 1)") }
            return live(10_000) { bench in
                let known = bench.inside(nodes[index], "ip neigh; ip -6 neigh").split(separator: "\n")
                return others.allSatisfy { host in
                    known.contains { $0.hasPrefix("\(host) ") && $0.contains(" lladdr ") }
                }
            }
        }
    }
}

@Suite(
    .serialized,
    .enabled(if: geteuid() == 0 && FenceSystem.find("nft") != nil, "needs root, to make network namespaces, and nft"))
struct GateMoveTests {
    private func bench(_ count: Int = 2, membersIPv6: Bool = false) throws -> GateBench {
        let bench = try GateBench.standing(
            nodes: count, vips: [GateBench.vip, GateBench.vip6], membersIPv6: membersIPv6)
        try #require(bench.meet(), "\(bench.inside(bench.nodes[0], "ip neigh"))")
        for node in bench.nodes { try bench.listen(node) }
        #expect(bench.lead(bench.nodes[0]))
        return bench
    }

    private let hosts = [GateBench.vip, GateBench.vip6]

    @Test(arguments: [false, true])
    func connectionsOutliveAMove(membersIPv6: Bool) throws {
        let bench = try bench(membersIPv6: membersIPv6)
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let old = try hosts.map { try bench.connect($0) }
        for connection in old { #expect(bench.talk(connection) == 1) }
        bench.forget()
        let gap = try bench.move(from: a, to: b)
        print("gate: planned move: \(gap) ms from silent to held")
        // The last answers of the old owner come before the first of the new one.
        #expect(bench.live(2000) { $0.firstClaim(of: b) != nil && $0.firstClaim(of: b, isIPv6: true) != nil })
        bench.live(100)
        for isIPv6 in [false, true] {
            let last = bench.lastClaim(of: a, isIPv6: isIPv6) ?? 0
            #expect(last < (bench.firstClaim(of: b, isIPv6: isIPv6) ?? 0), "two owners")
        }
        for connection in old { #expect(bench.talk(connection) == 1, "through the new owner") }
        let new = try hosts.map { try bench.connect($0) }
        for connection in new { #expect(bench.talk(connection) == 2) }
        // Nobody remembers anything: the draining node has to find its client without being taken for the owner.
        bench.forgetNeighbours()
        bench.forget()
        for connection in old { #expect(bench.talk(connection) == 1, "after the caches were emptied") }
        for connection in new { #expect(bench.talk(connection) == 2) }
        bench.live(100)
        #expect(bench.lastClaim(of: a) == nil && bench.lastClaim(of: a, isIPv6: true) == nil)
        #expect(bench.lastClaim(of: b) != nil && bench.lastClaim(of: b, isIPv6: true) != nil)

        // The drain ends.
        bench.drop(a)
        #expect(bench.live(2000) { _ in a.isDropped })
        b.link?.forward(to: nil)
        #expect(bench.live(3000) { !$0.inside(b, "nft list ruleset").contains("fwd") }, "the rules are gone")
        for connection in new { #expect(bench.talk(connection) == 2, "what began here stays") }
        for connection in old { #expect(bench.talk(connection) == nil, "and what was elsewhere is over") }
        for connection in old + new { Glibc.close(connection) }
    }

    @Test func whatBeganHereEarlierStaysHereWhenTheVIPComesBack() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let first = try hosts.map { try bench.connect($0) }
        for connection in first { #expect(bench.talk(connection) == 1) }
        _ = try bench.move(from: a, to: b)
        let second = try hosts.map { try bench.connect($0) }
        for connection in second { #expect(bench.talk(connection) == 2) }
        // The draining node becomes the owner again, and the other one drains.
        b.link?.forward(to: nil)
        _ = try bench.move(from: b, to: a)
        let third = try hosts.map { try bench.connect($0) }
        for connection in third { #expect(bench.talk(connection) == 1) }
        for connection in first { #expect(bench.talk(connection) == 1, "known from the kernel's own list") }
        for connection in second { #expect(bench.talk(connection) == 2, "forwarded") }
        for connection in first + second + third { Glibc.close(connection) }
    }

    /// A drains to B, which drains to C: what C doesn't know B gets, and what B doesn't know A gets.
    @Test func movesMayFollowEachOther() throws {
        let bench = try bench(3)
        defer { bench.close() }
        let (a, b, c) = (bench.nodes[0], bench.nodes[1], bench.nodes[2])
        let first = try hosts.map { try bench.connect($0) }
        for connection in first { #expect(bench.talk(connection) == 1) }
        _ = try bench.move(from: a, to: b)
        let second = try hosts.map { try bench.connect($0) }
        for connection in second { #expect(bench.talk(connection) == 2) }
        _ = try bench.move(from: b, to: c)
        let third = try hosts.map { try bench.connect($0) }
        for (mark, connections) in [(1, first), (2, second), (3, third)] {
            for connection in connections { #expect(bench.talk(connection) == mark) }
        }
        for connection in first + second + third { Glibc.close(connection) }
    }

    @Test func forwardingToNobodyHurtsNobody() throws {
        let bench = try bench()
        defer { bench.close() }
        let node = bench.nodes[0]
        // While it holds: what is under way here is known before anything is forwarded.
        let old = try hosts.map { try bench.connect($0) }
        for connection in old { #expect(bench.talk(connection) == 1) }
        node.link?.forward(to: MemberID(2))
        #expect(bench.live(2000) { $0.inside(node, "nft list ruleset").contains("fwd ip to 10.88.0.13") })
        let new = try hosts.map { try bench.connect($0) }
        for connection in old + new { #expect(bench.talk(connection) == 1) }
        for connection in old + new { Glibc.close(connection) }
    }

    @Test func aDrainEndsWithTheMainProcess() throws {
        let bench = try bench()
        defer { bench.close() }
        let node = bench.nodes[0]
        bench.yield(node)
        #expect(bench.live(2000) { _ in node.isDropped })
        bench.live(1500)
        #expect(bench.inside(node, "ip addr").contains(GateBench.vip), "renewed while it drains")
        let process = try #require(bench.processes(node).first)
        node.link = nil
        #expect(bench.live(2000) { _ in !FenceBench.lives(process) })
        #expect(!bench.inside(node, "ip addr").contains(GateBench.vip))
        #expect(!bench.inside(node, "nft list tables").contains("triad"))
    }
}
