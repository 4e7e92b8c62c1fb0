// GateMoveTests: planned moves between real fences: what is connected stays connected, what comes anew goes to the new
// owner, and at no moment two nodes answer.

import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

extension GateBench {
    /// From one node to another, as two main processes do it: the new owner is ready to forward before it holds.
    /// Returns how long nobody was the owner, in milliseconds.
    fileprivate func move(from old: Node, to new: Node) throws -> Double {
        let place = try #require(nodes.firstIndex { $0 === old })
        new.link?.forward(to: FlowRoute(MemberID(place)))
        yield(old)
        let isSilent = awaits { _ in old.isDropped }
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
}

@Suite(
    .serialized, .ownThread,
    .enabled(if: geteuid() == 0 && FenceSystem.find("nft") != nil, "needs root, to make network namespaces, and nft"))
struct GateMoveTests {
    /// - Parameter leaseMs: long, unless a test is about its end: this thread may stand still for longer than a real one.
    private func bench(_ count: Int = 2, membersIPv6: Bool = false, leaseMs: Int = 10_000) throws -> GateBench {
        let bench = try GateBench.standing(
            nodes: count, vips: [GateBench.vip, GateBench.vip6], membersIPv6: membersIPv6, leaseMs: leaseMs)
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
        #expect(bench.awaits { $0.firstClaim(of: b) != nil && $0.firstClaim(of: b, isIPv6: true) != nil })
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
        #expect(bench.awaits { _ in a.isDropped })
        b.link?.forward(to: nil)
        #expect(bench.awaits { !$0.inside(b, "nft list ruleset").contains("fwd") }, "the rules are gone")
        for connection in new { #expect(bench.talk(connection) == 2, "what began here stays") }
        for connection in old {
            #expect(bench.talk(connection, withinMs: 3000) == nil, "and what was elsewhere is over")
        }
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

    @Test func aPortUsedAgainBelongsToItsLatestConnection() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let first = try hosts.map { try bench.connect($0, from: 40_000) }
        for connection in first { #expect(bench.talk(connection) == 1) }
        _ = try bench.move(from: a, to: b)
        for connection in first {
            #expect(bench.talk(connection) == 1, "forwarded")
            System.resetOnClose(connection)
            Glibc.close(connection)
        }
        #expect(bench.awaits { !$0.inside(a, "nft list ruleset").contains("40000") }, "forgotten")
        let second = try hosts.map { try bench.connect($0, from: 40_000) }
        for connection in second { #expect(bench.talk(connection) == 2) }
        b.link?.forward(to: nil)
        a.link?.forward(to: FlowRoute(MemberID(1)))
        _ = try bench.move(from: b, to: a)
        for connection in second { #expect(bench.talk(connection) == 2, "forwarded") }
        for connection in second { Glibc.close(connection) }
    }

    /// Whoever ends last doesn't wait, and has its port free again at once.
    @Test func aPortUsedAgainAtOnceBelongsToItsLatestConnection() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        // So that what begins is remembered.
        a.link?.forward(to: FlowRoute(MemberID(1)))
        #expect(bench.awaits { $0.inside(a, "nft list ruleset").contains("fwd ip to") })
        let first = try hosts.map { try bench.connect($0, from: 40_000) }
        for connection in first { #expect(bench.talk(connection) == 1) }
        #expect(bench.inside(a, "nft list ruleset").contains("40000"), "remembered")
        for server in a.accepted { System.shutdownWrite(server) }
        for connection in first {
            #expect(bench.awaits { _ in FenceSystem.read(connection, max: 1) == .ended })
            Glibc.close(connection)
        }
        // Less than a flow stays whose client ended it first.
        let sets = ["flows4", "flows6", "closing4", "closing6"]
        let set = "nft list set netdev \(GateTable.name(cluster: "bench", node: "0"))"
        #expect(
            bench.awaits { bench in sets.allSatisfy { !bench.inside(a, "\(set) \($0)").contains("40000") } },
            "forgotten")
        _ = try bench.move(from: a, to: b)
        let second = try hosts.map { try bench.connect($0, from: 40_000) }
        for connection in second { #expect(bench.talk(connection) == 2) }
        b.link?.forward(to: nil)
        _ = try bench.move(from: b, to: a)
        for connection in second { #expect(bench.talk(connection) == 2, "forwarded") }
        for connection in second { Glibc.close(connection) }
    }

    /// That this node ended the port's former connection first doesn't make the client's end the last word on the next one.
    @Test func aPortUsedAgainAtTheSameNodeBeginsAnew() throws {
        let bench = try bench(1)
        defer { bench.close() }
        let node = bench.nodes[0]
        node.link?.forward(to: FlowRoute(MemberID(1)))
        #expect(bench.awaits { $0.inside(node, "nft list ruleset").contains("fwd ip to") })
        let set = "nft list set netdev \(GateTable.name(cluster: "bench", node: "0"))"
        func remembers(_ names: [String]) -> Bool {
            names.contains { bench.inside(node, "\(set) \($0)").contains("40000") }
        }
        let first = try hosts.map { try bench.connect($0, from: 40_000) }
        for connection in first { #expect(bench.talk(connection) == 1) }
        for server in node.accepted { System.shutdownWrite(server) }
        for connection in first {
            #expect(bench.awaits { _ in FenceSystem.read(connection, max: 1) == .ended })
            Glibc.close(connection)
        }
        #expect(bench.awaits { _ in !remembers(["flows4", "flows6"]) })
        let second = try hosts.map { try bench.connect($0, from: 40_000) }
        for connection in second { #expect(bench.talk(connection) == 1) }
        // What was ended before is forgotten with a tick of the kernel's clock.
        bench.live(50)
        for connection in second {
            System.shutdownWrite(connection)
        }
        #expect(bench.awaits { _ in !remembers(["flows4", "flows6"]) })
        #expect(remembers(["closing4"]) && remembers(["closing6"]), "the server may still have much to say")
        for connection in second { Glibc.close(connection) }
    }

    /// Its acknowledgements of what the server still sends stay where it is.
    @Test func aClientThatSaysNoMoreGoesOnListening() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        _ = try bench.move(from: a, to: b)
        let listening = try hosts.map { try bench.connect($0) }
        for connection in listening {
            #expect(bench.talk(connection) == 2)
            System.shutdownWrite(connection)
        }
        let set = "nft list set netdev \(GateTable.name(cluster: "bench", node: "1"))"
        #expect(
            bench.awaits { bench in
                ["flows4", "flows6"].allSatisfy { !bench.inside(b, "\(set) \($0)").contains("9000") }
            }, "remembered as closing only")
        for word in 1...20 as ClosedRange<UInt8> {
            for server in b.accepted { #expect(FenceSystem.write(server, [word]) == .moved(1)) }
            for connection in listening {
                #expect(bench.awaits { _ in FenceSystem.read(connection, max: 1) == .bytes([word]) })
            }
        }
        for connection in listening { Glibc.close(connection) }
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
        node.link?.forward(to: FlowRoute(MemberID(2)))
        #expect(bench.awaits { $0.inside(node, "nft list ruleset").contains("fwd ip to 10.88.0.13") })
        let new = try hosts.map { try bench.connect($0) }
        for connection in old + new { #expect(bench.talk(connection) == 1) }
        for connection in old + new { Glibc.close(connection) }
    }

    @Test func nothingIsForwardedPastARouter() throws {
        let bench = try bench()
        defer { bench.close() }
        let node = bench.nodes[0]
        _ = bench.inside(node, "ip route add 10.88.0.13/32 via 10.88.0.12")
        node.link?.forward(to: FlowRoute(MemberID(2)))
        let told = "connections to \(GateBench.vip)/32 break in a move: 10.88.0.13 isn't a neighbour on eth0"
        #expect(bench.awaits { _ in node.has(.warning(told)) }, "\(node.answers)")
        #expect(!bench.inside(node, "nft list ruleset").contains("10.88.0.13"))
        node.link?.forward(to: FlowRoute(MemberID(1)))
        #expect(bench.awaits { $0.inside(node, "nft list ruleset").contains("fwd ip to 10.88.0.12") })
    }

    /// A flow of the third node's reaches it although the first two name each other, as they do until digests tell.
    @Test func packetsThatTwoNodesWouldSendEachOtherReachTheThird() throws {
        let bench = try bench(3)
        defer { bench.close() }
        let (a, b, c) = (bench.nodes[0], bench.nodes[1], bench.nodes[2])
        bench.drop(a)
        #expect(bench.awaits { _ in a.isDropped } && bench.lead(c))
        let third = try hosts.map { try bench.connect($0) }
        for connection in third { #expect(bench.talk(connection) == 3) }
        _ = try bench.move(from: c, to: a)
        let first = try hosts.map { try bench.connect($0) }
        for connection in first { #expect(bench.talk(connection) == 1) }
        _ = try bench.move(from: a, to: b)
        let (ofA, ofB, ofC) = (MemberID(0), MemberID(1), MemberID(2))
        b.link?.forward(to: FlowRoute(ofA, detours: [.init(from: ofA, to: ofC)]))
        a.link?.forward(to: FlowRoute(ofB, detours: [.init(from: ofB, to: ofC)]))
        #expect(bench.awaits { $0.inside(a, "nft list ruleset").contains("fwd ip to 10.88.0.12") })
        #expect(bench.awaits { $0.inside(b, "nft list ruleset").contains("ether saddr 02:88:00:00:00:01") })
        for connection in third { #expect(bench.talk(connection) == 3, "from the owner") }
        // Back at the first, while the second is still as it was.
        bench.yield(b)
        #expect(bench.awaits { _ in b.isDropped } && bench.lead(a))
        for connection in third { #expect(bench.talk(connection) == 3, "from the owner before") }
        for connection in first { #expect(bench.talk(connection) == 1) }
        for connection in first + third { Glibc.close(connection) }
    }

    /// Until the kernel's list is written down, packets wait; none of them is taken for nobody's.
    @Test func thousandsOfKeptConnectionsOutliveTheWayBack() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let kept = try (0..<4000).map { index in
            if index % 32 == 31 { bench.live(0) }
            return try bench.connect(GateBench.vip)
        }
        #expect(bench.awaits { _ in a.accepted.count == kept.count }, "\(a.accepted.count)")
        _ = try bench.move(from: a, to: b)
        b.link?.forward(to: nil)
        let gap = try bench.move(from: b, to: a)
        print("gate: way back to \(kept.count) kept connections: \(gap) ms from silent to held")
        for connection in stride(from: 0, to: kept.count, by: 97).map({ kept[$0] }) + [kept[kept.count - 1]] {
            #expect(bench.talk(connection) == 1)
        }
        for connection in kept { Glibc.close(connection) }
    }

    /// Its `nft` hangs, and somebody else removes the table: what it keeps must not answer beside the new owner.
    @Test func whoYieldsIsSilentWithoutItsTable() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let old = try bench.connect(GateBench.vip)
        #expect(bench.talk(old) == 1)
        _ = try bench.move(from: a, to: b)
        kill(try #require(bench.tool(a, "nft")), SIGSTOP)
        _ = bench.inside(a, "nft delete table netdev \(GateTable.name(cluster: "bench", node: "0"))")
        #expect(bench.live(200) { !$0.inside(a, "ip addr").contains(GateBench.vip) })
        bench.live(5)
        bench.forget()
        #expect(bench.awaits { $0.inside(a, "ip addr").contains(GateBench.vip) }, "back behind a new one")
        bench.live(100)
        #expect(bench.lastClaim(of: a) == nil && bench.lastClaim(of: a, isIPv6: true) == nil)
        #expect(bench.talk(old) == 1, "and so are its connections")
        Glibc.close(old)
    }

    /// The old owner stood still, its lease is over and its addresses are gone; it finds its successor when it wakes.
    @Test func connectionsOutliveALeaseThatEnded() throws {
        let bench = try bench(leaseMs: 1500)
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let old = try hosts.map { try bench.connect($0) }
        for connection in old { #expect(bench.talk(connection) == 1) }
        a.answers = []
        a.leads = false
        #expect(bench.awaits { _ in a.isExpired }, "\(a.answers)")
        #expect(bench.awaits { !$0.inside(a, "ip addr").contains(GateBench.vip) })
        // The new one expects that the old one has connections.
        b.link?.forward(to: FlowRoute(MemberID(0)))
        #expect(bench.lead(b))
        bench.live(20)
        bench.forget()
        for connection in old { #expect(bench.talk(connection, withinMs: 50) == nil, "nobody serves it yet") }
        bench.yield(a)
        for connection in old { #expect(bench.talk(connection) == 1, "and nobody has reset it") }
        let new = try hosts.map { try bench.connect($0) }
        for connection in new { #expect(bench.talk(connection) == 2) }
        bench.live(100)
        #expect(bench.lastClaim(of: a) == nil && bench.lastClaim(of: a, isIPv6: true) == nil, "two owners")
        #expect(bench.lastClaim(of: b) != nil && bench.lastClaim(of: b, isIPv6: true) != nil)
        for connection in old + new { Glibc.close(connection) }
    }

    @Test func aFenceThatDiesWhileItYieldsIsFollowedByOneThatYields() throws {
        let bench = try bench()
        defer { bench.close() }
        let (a, b) = (bench.nodes[0], bench.nodes[1])
        let old = try hosts.map { try bench.connect($0) }
        for connection in old { #expect(bench.talk(connection) == 1) }
        _ = try bench.move(from: a, to: b)
        for connection in old { #expect(bench.talk(connection) == 1) }
        bench.forget()
        kill(try #require(bench.processes(a).first), SIGKILL)
        for connection in old { #expect(bench.talk(connection) == 1, "\(a.answers)") }
        bench.live(100)
        #expect(bench.lastClaim(of: a) == nil && bench.lastClaim(of: a, isIPv6: true) == nil, "two owners")
        for connection in old { Glibc.close(connection) }
    }

    /// A node between others begins to serve again when it knows where to send what isn't its own.
    @Test func aFenceThatFollowsInTheMiddleResetsNobody() throws {
        try withSlowRules { program in
            let bench = try GateBench.standing(nodes: 3, leaseMs: 10_000, program: program)
            defer { bench.close() }
            for node in bench.nodes { try bench.listen(node) }
            let (a, b, c) = (bench.nodes[0], bench.nodes[1], bench.nodes[2])
            #expect(bench.lead(a))
            let old = try (0..<20).map { _ in try bench.connect(GateBench.vip) }
            for connection in old { #expect(bench.talk(connection) == 1) }
            _ = try bench.move(from: a, to: b)
            _ = try bench.move(from: b, to: c)
            for connection in old { #expect(bench.talk(connection) == 1) }
            kill(try #require(bench.processes(b).first), SIGKILL)
            // At every moment of the new one's start.
            for connection in old { _ = bench.talk(connection, withinMs: 30) }
            for connection in old { #expect(bench.talk(connection) == 1) }
            for connection in old { Glibc.close(connection) }
        }
    }

    /// A fence whose `nft` takes its time for the rules that forward.
    private func withSlowRules(_ body: (String) throws -> Void) throws {
        try GateBench.withNft(
            """
            #!/bin/sh
            PATH=/usr/sbin:/sbin:/usr/bin:/bin
            while read -r line; do
                case $line in *"fwd ip to"*) case $line in *"add table"*) ;; *) sleep 0.15 ;; esac ;; esac
                printf '%s\\n' "$line"
            done | nft -i
            """,
            body)
    }

    /// However long the rules take that keep packets from a node that doesn't know them: it takes none before.
    @Test func rulesThatTakeTheirTimeDelayPacketsAndResetNothing() throws {
        try withSlowRules { program in
            let bench = try GateBench.standing(
                nodes: 2, vips: [GateBench.vip, GateBench.vip6], leaseMs: 10_000, program: program)
            defer { bench.close() }
            for node in bench.nodes { try bench.listen(node) }
            #expect(bench.lead(bench.nodes[0]))
            let old = try hosts.map { try bench.connect($0) }
            for connection in old { #expect(bench.talk(connection) == 1) }
            let gap = try bench.move(from: bench.nodes[0], to: bench.nodes[1])
            try #require(gap > 100, "the rules took \(gap) ms: the test shows nothing")
            for connection in old { #expect(bench.talk(connection) == 1) }
            for connection in old { Glibc.close(connection) }
        }
    }

    @Test func aDrainEndsWithTheMainProcess() throws {
        let bench = try bench()
        defer { bench.close() }
        let node = bench.nodes[0]
        bench.yield(node)
        #expect(bench.awaits { _ in node.isDropped })
        bench.live(1500)
        #expect(bench.inside(node, "ip addr").contains(GateBench.vip), "renewed while it drains")
        let process = try #require(bench.processes(node).first)
        node.link = nil
        #expect(bench.awaits { _ in !FenceBench.lives(process) })
        #expect(!bench.inside(node, "ip addr").contains(GateBench.vip))
        #expect(!bench.inside(node, "nft list tables").contains("triad"))
    }
}
