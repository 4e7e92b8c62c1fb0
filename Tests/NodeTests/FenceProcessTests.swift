// FenceProcessTests: the real fence in a real network namespace: what the kernel shows when it is told, killed or frozen.

import Glibc
import Gossip
import Testing

@testable import Node

@Suite(.serialized, .ownThread, .enabled(if: geteuid() == 0, "needs root, to make network namespaces"))
struct FenceProcessTests {
    /// A bench whose fence has said `ready`.
    private func bench(_ vips: [String] = [FenceBench.vip], before: String = ":") throws -> FenceBench {
        let bench = try FenceBench(vips: vips, before: before)
        let ready = bench.awaits { $0.has(.answer(.ready)) }
        try #require(ready, "no ready from \(FenceBench.program): \(bench.record.prefix(3))")
        return bench
    }

    /// A bench whose fence holds.
    /// - Parameter leaseMs: the real one where a test is about its end.
    private func holding(_ vips: [String] = [FenceBench.vip], leaseMs: Int = 10_000) throws -> FenceBench {
        let bench = try bench(vips)
        bench.leaseMs = leaseMs
        bench.leads = true
        let held = bench.awaits { $0.has(.answer(.held(term: 7))) }
        try #require(held, "not held: \(bench.record)")
        return bench
    }

    @Test func addsRenewsAndDrops() throws {
        let bench = try bench()
        defer { bench.close() }
        bench.leaseMs = 10_000
        var adds: [Double] = []
        var drops: [Double] = []
        for _ in 0..<15 {
            bench.forget()
            let told = bench.nowMs
            bench.hold()
            bench.leads = true
            #expect(bench.awaits { $0.has(.answer(.held(term: 7))) }, "\(bench.record)")
            adds.append((bench.times(of: .appeared(FenceBench.vip)).first ?? .infinity) - told)
            bench.leads = false
            let ended = bench.nowMs
            bench.drop()
            #expect(
                bench.awaits { $0.has(.answer(.dropped(order: $0.order, term: 7, cause: .commanded))) },
                "\(bench.record)")
            drops.append((bench.times(of: .vanished(FenceBench.vip)).first ?? .infinity) - ended)
            #expect(!bench.isUp())
        }
        print("fence: hold to address visible \(median(adds)) ms, drop to address gone \(median(drops)) ms (medians)")
    }

    @Test func ownsSeveralAddressesOfBothFamilies() throws {
        let bench = try holding([FenceBench.vip, "10.88.0.101", FenceBench.vip6])
        defer { bench.close() }
        bench.live(700)
        #expect(bench.isUp() && bench.isUp("10.88.0.101") && bench.isUp(FenceBench.vip6))
        #expect(!bench.has(.vanished(FenceBench.vip6)))
        bench.drop()
        bench.leads = false
        #expect(bench.awaits { $0.hasDropped(.commanded) }, "\(bench.record)")
        #expect(!bench.isUp() && !bench.isUp("10.88.0.101") && !bench.isUp(FenceBench.vip6))
    }

    @Test func aKilledMainProcessIsUndoneAndThePeersAreTold() throws {
        var gone: [Double] = []
        var told: [Double] = []
        for _ in 0..<5 {
            let bench = try holding()
            defer { bench.close() }
            bench.live(Int.random(in: 0..<300))
            let process = try #require(bench.process)
            let killed = bench.nowMs
            bench.dieAsMain()
            #expect(
                bench.awaits { $0.times(of: .datagram).count == 3 && $0.has(.vanished(FenceBench.vip)) },
                "\(bench.record)")
            gone.append((bench.times(of: .vanished(FenceBench.vip)).first ?? .infinity) - killed)
            told.append((bench.times(of: .datagram).first ?? .infinity) - killed)
            // It was the fence that let go, and then it ended.
            #expect(bench.awaits { _ in !FenceBench.lives(process) })
            #expect(!bench.isUp())
        }
        print("fence: end of main to address gone \(median(gone)) ms, to first release \(median(told)) ms (medians)")
    }

    @Test func aFrozenMainProcessLosesTheAddressAtTheLeasesEnd() throws {
        let bench = try holding(leaseMs: FenceBench.leaseMs)
        defer { bench.close() }
        var late: [Double] = []
        for _ in 0..<5 {
            bench.forget()
            bench.leads = true
            #expect(bench.awaits { $0.has(.answer(.held(term: 7))) || $0.isUp() })
            bench.live(Int.random(in: 50..<200))
            bench.leads = false
            #expect(bench.awaits { $0.hasDropped(.expired) }, "\(bench.record)")
            late.append((bench.times(of: .vanished(FenceBench.vip)).first ?? .infinity) - bench.untilMs)
        }
        print("fence: address gone \(median(late)) ms after the lease's end (median; negative: before)")
    }

    @Test func aShortPauseOfTheFenceCostsNothing() throws {
        let bench = try holding()
        defer { bench.close() }
        let process = try #require(bench.process)
        for _ in 0..<5 {
            bench.leads = true
            kill(process, SIGSTOP)
            bench.live(60)
            kill(process, SIGCONT)
            bench.live(60)
        }
        #expect(!bench.has(.vanished(FenceBench.vip)))
        #expect(bench.isUp())
    }

    @Test func withAllProcessesKilledTheKernelLetsGo() throws {
        var after: [Double] = []
        for _ in 0..<3 {
            let bench = try holding(leaseMs: FenceBench.leaseMs)
            defer { bench.close() }
            let process = try #require(bench.process)
            let tool = try #require(bench.tool)
            bench.live(Int.random(in: 200..<500))
            try #require(bench.awaits { $0.isUp() })
            bench.forget()
            let killed = bench.nowMs
            kill(process, SIGKILL)
            bench.dieAsMain()
            #expect(bench.awaits { _ in !FenceBench.lives(tool) }, "ip outlived the fence")
            #expect(bench.awaits { $0.has(.vanished(FenceBench.vip)) })
            after.append((bench.times(of: .vanished(FenceBench.vip)).first ?? .infinity) - killed)
            #expect(bench.times(of: .datagram) == [])
        }
        // How late is the kernel's affair.
        print("fence: address gone \(after.map { Int($0) }) ms after all processes were killed")
    }

    @Test func aKilledFenceIsReplacedAndSweptAfter() throws {
        let bench = try holding(leaseMs: 2000)
        defer { bench.close() }
        let process = try #require(bench.process)
        bench.leads = false
        bench.forget()
        let order = bench.order
        kill(process, SIGKILL)
        #expect(bench.awaits { $0.has(.answer(.ready)) }, "\(bench.record)")
        let answers = bench.record.compactMap { if case .answer(let answer) = $0.kind { answer } else { nil } }
        // On a busy machine an `ip` may be too slow for the new fence, which says so.
        let others = answers.filter { if case .warning = $0 { false } else { true } }
        #expect(
            others == [
                .died("the fence ended; a new one is started"), .swept("\(FenceBench.vip)/32 on eth0"),
                .dropped(order: order, term: 7, cause: .expired), .ready,
            ], "\(bench.record)")
        bench.leads = true
        #expect(bench.awaits { $0.has(.answer(.held(term: 7))) }, "\(bench.record)")
    }

    @Test func vipWithTheSubnetsPrefixIsHeldBesideTheNodesOwnAddress() throws {
        let bench = try holding(["\(FenceBench.vip)/24"], leaseMs: 1000)
        defer { bench.close() }
        #expect(bench.times(of: .appeared(FenceBench.vip)).count == 1, "\(bench.record)")
        bench.leads = false
        #expect(bench.awaits { $0.has(.vanished(FenceBench.vip)) }, "\(bench.record)")
    }

    @Test func whatSomebodyRemovesComesBack() throws {
        let bench = try holding()
        defer { bench.close() }
        var back: [Double] = []
        for _ in 0..<5 {
            bench.live(100)
            bench.forget()
            bench.inside("ip addr del \(FenceBench.vip)/32 dev eth0")
            #expect(bench.awaits { $0.has(.answer(.restored("\(FenceBench.vip)/32 on eth0"))) }, "\(bench.record)")
            let vanished = bench.times(of: .vanished(FenceBench.vip)).first ?? -.infinity
            back.append((bench.times(of: .appeared(FenceBench.vip)).last ?? .infinity) - vanished)
        }
        print("fence: an address that was removed is back after \(median(back)) ms (median)")
    }

    @Test func whatAnEarlierLifeLeftIsSwept() throws {
        let bench = try bench(
            before: "ip addr add \(FenceBench.vip)/32 dev eth0; ip addr add \(FenceBench.vip)/24 dev far0")
        defer { bench.close() }
        #expect(bench.has(.answer(.swept("\(FenceBench.vip)/32 on eth0"))))
        #expect(bench.has(.answer(.swept("\(FenceBench.vip)/24 on far0"))))
        #expect(!bench.isUp())
        bench.inside("ip addr add \(FenceBench.vip)/32 dev eth0")
        bench.forget()
        #expect(bench.awaits { $0.has(.answer(.swept("\(FenceBench.vip)/32 on eth0"))) }, "\(bench.record)")
    }

    @Test func signalsForTheWholeGroupLeaveItAlone() throws {
        let bench = try holding()
        defer { bench.close() }
        let process = try #require(bench.process)
        let tool = try #require(bench.tool)
        bench.live(200)
        bench.forget()
        for number in [SIGINT, SIGTERM, SIGHUP] {
            kill(process, number)
            kill(tool, number)
        }
        bench.live(700)
        #expect(!bench.has(.vanished(FenceBench.vip)))
        #expect(bench.process == process && bench.tool == tool)
        #expect(getsid(process) == process, "a session of its own")
    }

    @Test func aKilledToolIsReplaced() throws {
        let bench = try holding()
        defer { bench.close() }
        let tool = try #require(bench.tool)
        bench.live(200)
        bench.forget()
        kill(tool, SIGKILL)
        bench.live(900)
        #expect(!bench.has(.vanished(FenceBench.vip)))
        #expect(bench.awaits { $0.has(.answer(.recovered)) }, "\(bench.record)")
        #expect(bench.tool != nil && bench.tool != tool)
    }

    @Test func aFrozenToolIsReplaced() throws {
        let bench = try holding(leaseMs: 1500)
        defer { bench.close() }
        let tool = try #require(bench.tool)
        bench.live(200)
        bench.forget()
        kill(tool, SIGSTOP)
        bench.live(900)
        #expect(!bench.has(.vanished(FenceBench.vip)))
        #expect(bench.tool != nil && bench.tool != tool)
        kill(try #require(bench.tool), SIGSTOP)
        bench.leads = false
        #expect(bench.awaits { $0.hasDropped(.expired) }, "\(bench.record)")
        #expect(!bench.isUp())
    }

    @Test func anInterfaceThatGoesIsAFailureUntilItIsBack() throws {
        let bench = try holding()
        defer { bench.close() }
        bench.inside("ip link del eth0")
        #expect(
            bench.awaits {
                $0.record.contains {
                    if case .answer(.failed(let why)) = $0.kind { why.contains("\"eth0\"") } else { false }
                }
            }, "\(bench.record)")
        bench.forget()
        bench.inside("ip link add eth0 type veth peer name far0")
        #expect(bench.awaits { $0.has(.answer(.recovered)) }, "\(bench.record)")
        #expect(bench.isUp())
    }
}

/// Everything on a node stopped at once, by SIGSTOP, and continued in any order: the address never reappears.
@Suite(.enabled(if: geteuid() == 0, "needs root, to make network namespaces"))
struct FenceFreezeTests {
    private func holding() throws -> FenceBench {
        let bench = try FenceBench()
        bench.leads = true
        let held = bench.awaits { $0.has(.answer(.held(term: 7))) }
        try #require(held, "not held: \(bench.record)")
        return bench
    }

    @Test func neverReappearsAfterAFreeze() throws {
        for round in 0..<3 {
            let bench = try holding()
            defer { bench.close() }
            let process = try #require(bench.process)
            let tool = try #require(bench.tool)
            bench.live(Int.random(in: 200..<500))
            try #require(bench.awaits { $0.isUp() })
            kill(process, SIGSTOP)
            kill(tool, SIGSTOP)
            let stale = bench.until
            // The main process is stopped too: it neither speaks nor hears.
            bench.leads = false
            let isGone = bench.awaits(attendingLink: false) { $0.has(.vanished(FenceBench.vip)) }
            #expect(isGone, "by the kernel alone")
            bench.live(1500, attendingLink: false)
            bench.forget()
            for woken in round % 2 == 0 ? [process, tool] : [tool, process] { kill(woken, SIGCONT) }
            // The first thing a woken main process may do is what it was about to do.
            bench.hold(until: stale)
            bench.live(1000)
            #expect(!bench.has(.appeared(FenceBench.vip)), "round \(round): \(bench.record)")
            #expect(bench.awaits { $0.has(.answer(.ready)) }, "a new fence stands: \(bench.record)")
            bench.leads = true
            #expect(bench.awaits { $0.has(.answer(.held(term: 7))) }, "\(bench.record)")
        }
    }

    /// The dangerous one: `ip` has a line in hand when everything stops, and is the first to be woken.
    @Test func aLineInHandIsNeverExecutedLate() throws {
        var inHand = 0
        var died: [Double] = []
        // On a busy machine the moment is missed now and then: until it was hit three times.
        for round in 0..<12 where inHand < 3 {
            let bench = try holding()
            defer { bench.close() }
            let process = try #require(bench.process)
            let tool = try #require(bench.tool)
            // A renewal is due 300 ms after the last; the tool stops just before it is written.
            bench.live(200)
            bench.forget()
            try #require(bench.awaits { $0.has(.appeared(FenceBench.vip)) })
            bench.live(285)
            kill(tool, SIGSTOP)
            bench.live(35)
            kill(process, SIGSTOP)
            bench.leads = false
            if bench.hasLineWaiting(for: tool) { inHand += 1 }
            let end = bench.untilMs
            // The look above may have taken longer than what is to be measured.
            let inTime = bench.nowMs < end + 20
            // Nobody is awake, and yet both die.
            #expect(bench.awaits(attendingLink: false) { _ in !FenceBench.lives(tool) })
            if inTime { died.append(bench.nowMs - end) }
            let woken = bench.nowMs
            kill(tool, SIGCONT)
            bench.live(50, attendingLink: false)
            kill(process, SIGCONT)
            bench.live(1200, attendingLink: false)
            // A fence that was still awake may have started another `ip` in time.
            let late = bench.times(of: .appeared(FenceBench.vip)).filter { $0 > max(woken, end) }
            #expect(late == [], "round \(round), lease's end \(end), woken \(woken): \(bench.record)")
        }
        #expect(inHand > 0, "no round had a line in hand: the test shows nothing")
        print(
            "fence: \(inHand) freezes caught ip with a line in hand; none was executed late; "
                + "ip was dead \(died.map { Int($0) }) ms after the lease's end")
    }
}
