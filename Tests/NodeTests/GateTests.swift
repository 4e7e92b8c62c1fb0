// GateTests: the real gate in real network namespaces, judged from outside: who answers for the VIP, and when no longer.

import Glibc
import Gossip
import Testing

@testable import Node

extension GateBench {
    /// A bench whose fences have said `ready`.
    static func standing(
        nodes: Int = 1, vips: [String] = [GateBench.vip], gate: GateUse = .ifUsable, membersIPv6: Bool = false,
        leaseMs: Int = FenceBench.leaseMs, before: String = ":", program: String = FenceBench.program
    ) throws -> GateBench {
        let bench = try GateBench(
            nodes: nodes, vips: vips, gate: gate, membersIPv6: membersIPv6, leaseMs: leaseMs, before: before,
            program: program)
        let isReady = bench.awaits { $0.nodes.allSatisfy { $0.has(.ready) } }
        try #require(isReady, "no ready: \(bench.nodes.map(\.answers))")
        return bench
    }
}

private let bothVIPs = [GateBench.vip, GateBench.vip6]

@Suite(
    .serialized, .ownThread,
    .enabled(if: geteuid() == 0 && FenceSystem.find("nft") != nil, "needs root, to make network namespaces, and nft"))
struct GateTests {
    @Test func answersWhileItHoldsAndOnlyThen() throws {
        let bench = try GateBench.standing(vips: bothVIPs)
        defer { bench.close() }
        let node = bench.nodes[0]
        #expect(node.answers.prefix(2) == [.gate(isUsable: true, reason: ""), .ready])
        #expect(bench.claims.isEmpty)
        var opened: [Double] = []
        var silent: [Double] = []
        for _ in 0..<10 {
            bench.forget()
            node.answers = []
            let told = bench.nowMs
            #expect(bench.lead(node), "\(node.answers)")
            opened.append(bench.nowMs - told)
            #expect(bench.awaits { $0.firstClaim(of: node) != nil && $0.firstClaim(of: node, isIPv6: true) != nil })
            bench.live(30)
            let ended = bench.nowMs
            bench.drop(node)
            #expect(bench.awaits { _ in node.isDropped }, "\(node.answers)")
            silent.append(bench.nowMs - ended)
            // What was answered before may still be on its way to us.
            bench.live(5)
            bench.forget()
            bench.live(30)
            #expect(bench.claims.isEmpty)
        }
        print("gate: hold to held \(median(opened)) ms, drop to dropped \(median(silent)) ms (medians)")
    }

    @Test func aFrozenNodeFallsSilentAtTheLeasesEnd() throws {
        var ends: [Double] = []
        var looks = 0
        for round in 0..<20 where round < 4 || looks == 0 {
            let bench = try GateBench.standing(vips: bothVIPs)
            defer { bench.close() }
            let node = bench.nodes[0]
            try bench.listen(node)
            #expect(bench.lead(node))
            let kept = try bothVIPs.map { try bench.connect($0) }
            for descriptor in kept { #expect(bench.talk(descriptor) == 1) }
            try bench.freezeWhenRenewed(node)
            let end = bench.ms(node.until)
            // The lease, the grace of a line, and what the kernel's clock may be late by.
            let silence = GateBench.grace.milliseconds + 15
            bench.live(Int(end + silence - bench.nowMs))
            // It is the gate that ends it: the addresses are still there, unless we came to look when they need not be.
            if try bench.addresses(of: node) == bothVIPs.count { looks += 1 }
            // Nor does the kernel take packets of those who know the way.
            let late = try bothVIPs.map { try bench.connect($0) }
            for descriptor in kept + late {
                #expect(bench.talk(descriptor, withinMs: 100) == nil)
                close(descriptor)
            }
            let last = max(bench.lastClaim(of: node) ?? 0, bench.lastClaim(of: node, isIPv6: true) ?? 0)
            try #require(last > 0)
            ends.append(last - end)
            #expect(last - end < silence)
            bench.forget()
            bench.thaw(node)
            bench.live(300)
            #expect(bench.claims.isEmpty, "the woken node answers without a lease")
        }
        #expect(looks > 0, "no round looked in time: the test shows nothing")
        print("gate: all stopped: last answer \(ends.map { Int($0) }) ms after the lease's end")
    }

    @Test func withAllKilledTheGateClosesAtTheLeasesEnd() throws {
        let bench = try GateBench.standing()
        defer { bench.close() }
        let node = bench.nodes[0]
        #expect(bench.lead(node))
        bench.live(150)
        let processes = bench.processes(node)
        for process in processes { kill(process, SIGSTOP) }
        for process in processes { kill(process, SIGKILL) }
        node.leads = false
        node.link = nil
        let end = bench.ms(node.until)
        bench.live(500)
        let last = try #require(bench.lastClaim(of: node))
        #expect(last - end < GateBench.grace.milliseconds + 15)
        print("gate: all killed: last answer \(Int(last - end)) ms after the lease's end")
        #expect(bench.inside(node, "nft list tables").contains("triad_bench_0"))
    }

    /// The dangerous one: `nft` has a line in hand that opens when everything stops, and is the first to be woken.
    @Test func aLineInHandIsNeverExecutedLate() throws {
        var inHand = 0
        for _ in 0..<8 where inHand < 2 {
            let bench = try GateBench.standing()
            defer { bench.close() }
            let node = bench.nodes[0]
            #expect(bench.lead(node))
            bench.live(100)
            let fence = try #require(bench.processes(node).first)
            let tool = try #require(bench.tool(node, "nft"))
            kill(tool, SIGSTOP)
            let before = node.order
            bench.live(200) { _ in node.order > before }
            // The fence hears of the hold, writes a line, and stops before it finds the line late.
            bench.live(8)
            kill(fence, SIGSTOP)
            node.leads = false
            node.attends = false
            let end = bench.ms(node.until)
            // Nobody is awake, and yet both die.
            #expect(bench.awaits { _ in !FenceBench.lives(tool) })
            // Long before the lease's end: by the timer that stands for a line that opens.
            if bench.nowMs < end - 30 { inHand += 1 }
            kill(tool, SIGCONT)
            bench.live(20)
            kill(fence, SIGCONT)
            bench.live(300)
            let last = bench.lastClaim(of: node) ?? 0
            #expect(last - end < GateBench.grace.milliseconds + 15)
        }
        #expect(inHand > 0, "no round had a line in hand: the test shows nothing")
    }

    @Test func leavesTheTablesOfOthersAlone() throws {
        let others =
            "nft add table inet a; nft add chain inet a c; nft add rule inet a c tcp dport 22 accept; "
            + "nft add table netdev triad_other; nft add set netdev triad_other s \"{ type ether_type; }\""
        let bench = try GateBench.standing(vips: bothVIPs, before: others)
        defer { bench.close() }
        let node = bench.nodes[0]
        let list = "for t in \"inet a\" \"netdev triad_other\"; do nft list table $t; done"
        let before = bench.inside(node, list)
        #expect(before.contains("dport 22"))
        #expect(bench.inside(node, "nft list tables").contains("netdev triad_bench_0"))
        #expect(bench.lead(node))
        bench.drop(node)
        #expect(bench.awaits { _ in node.isDropped })
        node.link?.finish()
        #expect(bench.awaits { _ in !(node.link?.process.map(FenceBench.lives) ?? false) })
        #expect(bench.inside(node, list) == before)
        #expect(!bench.inside(node, "nft list tables").contains("triad_bench_0"), "its own table is gone")
    }

    @Test func sweepsWhatAnEarlierLifeLeftAlsoWithoutAGate() throws {
        let name = GateTable.name(cluster: "bench", node: "0")
        for gate in [GateUse.never, .ifUsable] {
            let bench = try GateBench.standing(
                gate: gate, before: "nft add table netdev \(name); nft add chain netdev \(name) left")
            defer { bench.close() }
            #expect(!bench.inside(bench.nodes[0], "nft list ruleset").contains("left"))
            #expect(bench.inside(bench.nodes[0], "nft list tables").contains(name) == (gate != .never))
        }
    }

    @Test func aTableThatSomebodyRemovesIsPutBack() throws {
        let bench = try GateBench.standing()
        defer { bench.close() }
        let node = bench.nodes[0]
        #expect(bench.lead(node))
        let name = GateTable.name(cluster: "bench", node: "0")
        for change in ["nft flush ruleset", "nft delete table netdev \(name)", "nft flush chain netdev \(name) in"] {
            node.answers = []
            _ = bench.inside(node, change)
            let told = FenceAnswer.warning("somebody else changed the gate's table: it is installed anew")
            #expect(bench.awaits { _ in node.has(told) }, "\(node.answers)")
            #expect(bench.awaits { $0.inside(node, "nft list table netdev \(name)").contains("@owns drop") })
        }
        bench.forget()
        #expect(bench.awaits { $0.lastClaim(of: node) != nil }, "it still holds")
        bench.freeze(node)
        let end = bench.ms(node.until)
        bench.live(400)
        #expect((bench.lastClaim(of: node) ?? 0) - end < GateBench.grace.milliseconds + 15, "and the gate is one")
    }

    @Test func anInterfaceThatIsReplacedGetsItsGateBack() throws {
        let bench = try GateBench.standing()
        defer { bench.close() }
        let node = bench.nodes[0]
        #expect(bench.lead(node))
        _ = bench.inside(node, "ip link del eth0")
        bench.live(200)
        node.answers = []
        bench.forget()
        _ = bench.asClient(
            "ip link add p0 type veth peer name eth0 address 02:88:00:00:00:01 netns \(bench.name)-0; "
                + "ip link set p0 master br0 up")
        _ = bench.inside(node, "ip link set eth0 up; ip addr add 10.88.0.11/24 dev eth0")
        #expect(bench.awaits { $0.lastClaim(of: node) != nil }, "\(node.answers)")
        bench.freeze(node)
        let end = bench.ms(node.until)
        bench.live(400)
        #expect((bench.lastClaim(of: node) ?? 0) - end < GateBench.grace.milliseconds + 15, "the gate is one")
    }

    @Test func anNftThatIsKilledOrStoppedIsReplaced() throws {
        let bench = try GateBench.standing()
        defer { bench.close() }
        let node = bench.nodes[0]
        #expect(bench.lead(node))
        for number in [SIGKILL, SIGSTOP] {
            let tool = try #require(bench.tool(node, "nft"))
            node.answers = []
            kill(tool, number)
            bench.live(600)
            bench.forget()
            #expect(bench.awaits { $0.lastClaim(of: node) != nil }, "\(node.answers)")
            #expect(bench.tool(node, "nft") != nil && bench.tool(node, "nft") != tool)
        }
        // Stopped when it is to let go: the word comes all the same, and is true.
        kill(try #require(bench.tool(node, "nft")), SIGSTOP)
        bench.drop(node)
        #expect(bench.awaits { _ in node.isDropped }, "\(node.answers)")
        bench.live(5)
        bench.forget()
        bench.live(200)
        #expect(bench.claims.isEmpty)
    }

    /// A fence without CAP_NET_ADMIN.
    private func withoutRights(_ body: (String) throws -> Void) throws {
        let scratch = Scratch()
        let line = "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin \(FenceBench.program) fence"
        try body(scratch.program("fence", "#!/bin/sh\n\(line)\n"))
        _ = scratch
    }

    /// Somebody else's ruleset may have kept it from its work.
    @Test func anNftThatHangsAtFirstIsReplaced() throws {
        let scratch = Scratch()
        let hung = scratch.file("hung")
        let hangs = "[ -f \(hung) ] && exec $(PATH=/usr/sbin:/sbin:/usr/bin:/bin command -v nft) -i"
        try GateBench.withNft("#!/bin/sh\n\(hangs)\n: >\(hung)\nexec /bin/sleep 100") { script in
            let bench = try GateBench.standing(program: script)
            defer { bench.close() }
            let node = bench.nodes[0]
            #expect(node.answers.first == .gate(isUsable: false, reason: "nft gave no answer within a second"))
            #expect(bench.lead(node), "without a gate meanwhile")
            #expect(bench.awaits { _ in node.has(.gate(isUsable: true, reason: "")) }, "\(node.answers)")
            bench.live(30)
            bench.forget()
            #expect(bench.awaits { $0.lastClaim(of: node) != nil }, "it still holds")
            bench.freeze(node)
            let end = bench.ms(node.until)
            bench.live(400)
            #expect((bench.lastClaim(of: node) ?? 0) - end < GateBench.grace.milliseconds + 15, "behind a gate now")
        }
    }

    /// What this node begins itself must not come from the VIP: the answers would go to whoever owns it.
    @Test func theVIPIsNoSourceOfOwnConnections() throws {
        let bench = try GateBench.standing(vips: bothVIPs)
        defer { bench.close() }
        let node = bench.nodes[0]
        // The VIP is the first address of its interface, as after a new lease of a DHCP client.
        _ = bench.inside(node, "ip addr del 10.88.0.11/24 dev eth0; ip addr del fd88::11/64 dev eth0")
        #expect(bench.lead(node))
        _ = bench.inside(
            node,
            "ip addr add 10.88.0.11/24 dev eth0; ip addr add fd88::11/64 dev eth0 nodad; "
                + "ip route add 10.99.0.0/16 dev eth0; ip route add default via 10.88.0.50; "
                + "ip -6 route add default via fd88::50")
        for host in ["10.88.0.50", "10.99.0.1", "192.0.2.1", "fd88::50", "2001:db8::1"] {
            let route = bench.inside(node, "ip route get \(host)")
            #expect(route.contains("src 10.88.0.11 ") || route.contains("src fd88::11 "), "\(route)")
        }
        bench.forget()
        #expect(bench.awaits { $0.lastClaim(of: node) != nil && $0.lastClaim(of: node, isIPv6: true) != nil })
    }

    @Test func withoutAUsableNftItSaysWhyAndHoldsWithoutOrNotAtAll() throws {
        let cases = [
            ("", "no nft on PATH: install nftables"),
            ("#!/bin/sh\nread l; echo Error: Operation not permitted >&2; cat", "nft: Operation not permitted"),
            ("#!/bin/sh\nexec sleep 100", "nft gave no answer within a second"),
        ]
        try withoutRights { script in
            let bench = try GateBench.standing(program: script)
            defer { bench.close() }
            let answer = bench.nodes[0].answers.first
            guard case .gate(false, let reason) = answer else {
                Issue.record("\(bench.nodes[0].answers)")
                return
            }
            #expect(reason.contains("not permitted"), "\(reason)")
        }
        for (nft, reason) in cases {
            for gate in [GateUse.ifUsable, .required] {
                try GateBench.withNft(nft) { script in
                    let bench = try GateBench.standing(gate: gate, program: script)
                    defer { bench.close() }
                    let node = bench.nodes[0]
                    #expect(node.answers.first == .gate(isUsable: false, reason: reason), "\(node.answers)")
                    // What never comes isn't waited for as long as what must.
                    #expect(
                        bench.lead(node, withinMs: gate == .ifUsable ? waitMsMax : 1000) == (gate == .ifUsable))
                    if gate == .required { #expect(!bench.inside(node, "ip addr").contains(GateBench.vip)) }
                    // There is nothing to be silent with, so this is a drop.
                    bench.yield(node)
                    #expect(bench.awaits { _ in node.isDropped }, "\(node.answers)")
                    #expect(!bench.inside(node, "ip addr").contains(GateBench.vip))
                }
            }
        }
    }
}
