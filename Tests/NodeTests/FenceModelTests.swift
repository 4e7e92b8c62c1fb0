// FenceModelTests: FenceState among a modelled kernel, modelled `ip` and `nft` and a main process that does anything, at
// random but repeatably. Lines are executed as late as the tools like, announcements arrive late, everything may stand
// still, somebody else removes addresses and tables.

import Gossip
import Testing

@testable import Node

/// The table in the kernel, and `nft`.
private struct ModelGate {
    static let grace: Duration = .milliseconds(40)

    struct Line {
        let line: GateLine
        let id: UInt64
        /// Of the elements.
        let time: Duration
    }

    var hasTable = false
    var openUntil = Instant(nanoseconds: 0)
    var forwarding: FlowRoute?
    /// What isn't known waits.
    var dropsUnknown = false
    var lines: [Line] = []
    /// Ended, which the fence doesn't know yet: what is written goes nowhere.
    var isDead = false
    var news: [GateState.Event] = []

    /// False when `nft` would refuse it.
    mutating func execute(_ line: Line, now: Instant) -> Bool {
        if line.line == .install {
            self.hasTable = true
            forwarding = nil
            dropsUnknown = false
            openUntil = now
        }
        if line.line == .remove { hasTable = false } else if !hasTable { return false }
        switch line.line {
        case .open: openUntil = now.advanced(by: line.time)
        case .serve, .close: openUntil = now
        case .forward(let route):
            forwarding = route
            dropsUnknown = false
        case .learn(let drops):
            forwarding = nil
            dropsUnknown = drops
        case .keep:
            forwarding = nil
            dropsUnknown = false
        case .install, .remove, .remember: break
        }
        return true
    }
}

private struct FenceModel {
    var state: FenceState
    var generator: SplitMix
    var now = Instant(nanoseconds: 1_000_000_000)
    var hasVIP: Bool
    /// When the address goes by itself.
    var validUntil = Instant(nanoseconds: .max)
    /// Lines that `ip` has and has not executed.
    var lines: [FenceLine] = []
    var announcements: [FenceState.Event] = []
    var killAt: Instant?
    /// The latest `until` that a hold named.
    var until = Instant(nanoseconds: 0)
    var order: UInt64 = 0
    /// Holds that no `dropped` has ended.
    var holds: [UInt64] = []
    var reports: [FenceAnswer] = []
    var ended = false
    var story: [String] = []
    var violations: [String] = []
    var gate = ModelGate()
    var forward: FlowRoute?

    init(seed: UInt64) {
        generator = SplitMix(seed: seed)
        hasVIP = seed % 3 == 0
        state = FenceState(
            vips: ["v"], gate: seed % 4 == 0 ? .never : .ifUsable, lineGrace: ModelGate.grace, now: now)
        act()
    }

    mutating func run(steps: Int) {
        for _ in 0..<steps where !ended && violations.isEmpty { step() }
    }

    private mutating func check(_ holds: Bool, _ rule: String) {
        if holds { return }
        violations.append(rule)
        story.append("VIOLATED: \(rule)")
    }

    private mutating func step() {
        switch generator.next() % 27 {
        case 0...3: pass(milliseconds: generator.next() % 30)
        case 4: pass(milliseconds: generator.next() % 400)
        case 5, 6, 7: execute()
        case 8, 9: deliver()
        case 10, 11:
            let end = now.advanced(by: .milliseconds(Int(generator.next() % 200) - 20))
            until = max(until, end)
            order += 1
            holds.append(order)
            tell(.hold(until: end, term: generator.next() % 3, order: order))
        case 12:
            order += 1
            tell(.drop(order: order))
        case 13 where generator.next() % 4 == 0:
            lines = []
            tell(.toolEnded(reason: "x"))
        case 14 where generator.next() % 2 == 0: remove(by: "somebody")
        case 15 where generator.next() % 32 == 0: tell(generator.next() % 2 == 0 ? .closed : .bye)
        case 16:
            order += 1
            tell(.yield(order: order))
        case 17:
            forward = [nil, FlowRoute(MemberID(1)), FlowRoute(MemberID(2))][Int(generator.next() % 3)]
            tell(.forward(to: forward))
        case 18...22:
            executeGateLine(refusing: generator.next() % 40 == 0)
            // Mostly it is quick.
            if generator.next() % 4 != 0 { hearGate() }
        case 23, 24: hearGate()
        case 25 where generator.next() % 8 == 0: disturb()
        case 26: beQuick()
        default: tell(.tick)
        }
    }

    /// Time goes on; the fence is woken at its deadline unless everything stands still.
    private mutating func pass(milliseconds: UInt64) {
        let end = now.advanced(by: .milliseconds(Int(milliseconds)))
        var ticks = 0
        let frozen = generator.next() % 4 == 0
        while !frozen, let deadline = state.deadline, deadline <= end, violations.isEmpty, !ended {
            move(to: max(now.advanced(by: .microseconds(100)), deadline))
            tell(.tick)
            ticks += 1
            check(ticks < 200, "it is woken for something")
        }
        if now < end { move(to: end) }
    }

    private mutating func move(to time: Instant) {
        now = time
        if now >= validUntil { remove(by: "its lifetime") }
        // The kernel kills the fence, and with it `ip`.
        if let killAt, now >= killAt {
            ended = true
            lines = []
        }
    }

    private mutating func executeGateLine(refusing: Bool) {
        guard !gate.lines.isEmpty, !ended else { return }
        let line = gate.lines.removeFirst()
        story.append("nft executes \(line.line)\(refusing ? ", which fails" : "")")
        if case .open(let until) = line.line {
            check(killAt.map { now < $0 } ?? false, "a line that opens is executed with the kernel's timer standing")
            check(
                now.advanced(by: line.time) <= until.advanced(by: ModelGate.grace), "the gate is open after the lease")
        }
        let isDone = !refusing && gate.execute(line, now: now)
        gate.news.append(isDone ? .committed(line: line.id) : .refused(line: line.id, reason: "x"))
    }

    /// For once nothing is late.
    private mutating func beQuick() {
        for _ in 0..<20 where !ended && violations.isEmpty {
            execute()
            deliver()
            executeGateLine(refusing: false)
            hearGate()
            tell(.tick)
        }
    }

    private mutating func hearGate() { if !gate.news.isEmpty { tell(.gate(gate.news.removeFirst())) } }

    /// Somebody else, or `nft` by itself.
    private mutating func disturb() {
        switch generator.next() % 3 {
        case 0:
            gate.hasTable = false
            gate.news.append(.disturbed)
        case 1:
            gate.lines = []
            gate.isDead = true
            gate.news.append(.ended(reason: "x"))
        default: tell(.gate(.unsure))
        }
    }

    private mutating func tend(_ effect: GateState.Effect) {
        switch effect {
        case .start:
            gate.lines = []
            gate.isDead = false
        case .stop:
            gate.lines = []
            gate.news.append(.stopped)
        case .write(let line, let id):
            check(gate.lines.isEmpty, "one line at a time")
            var time = Duration.zero
            if case .open(let until) = line {
                check(!holds.isEmpty, "a hold that was reported as done with opens the gate")
                time = now.duration(to: until) - GateState.Timing.tick
                check(
                    forward == nil || now < gate.openUntil || gate.forwarding == forward || gate.dropsUnknown,
                    "what is to be forwarded is, before the gate opens, or waits")
                if time < .milliseconds(1) { return state.step(.gate(.withheld(line: id)), now: now) }
            }
            if !gate.isDead { gate.lines.append(.init(line: line, id: id, time: time)) }
        case .findFlows: state.step(.gate(.found(parts: Int(generator.next() % 9))), now: now)
        case .report(let answer): reports.append(answer)
        }
    }

    private mutating func remove(by whom: String) {
        validUntil = Instant(nanoseconds: .max)
        guard hasVIP else { return }
        story.append("removed by \(whom)")
        hasVIP = false
        announcements.append(.vanished(vip: 0))
    }

    private mutating func execute() {
        guard !lines.isEmpty, !ended else { return }
        let line = lines.removeFirst()
        story.append("ip executes \(line)")
        switch line {
        case .put:
            if !isSilent || !isGated {
                check(killAt.map { now < $0 } ?? false, "a line that adds is executed with the kernel's timer standing")
                check(now < until.advanced(by: FenceState.Timing.killGrace), "an address is added late")
            }
            hasVIP = true
            validUntil = now.advanced(by: .milliseconds(1050))
            announcements.append(.appeared(vip: 0))
        case .remove: remove(by: "ip")
        case .clear: break
        }
    }

    private mutating func deliver() {
        if !announcements.isEmpty { tell(announcements.removeFirst()) }
    }

    private mutating func tell(_ event: FenceState.Event) {
        if ended { return }
        story.append("\(now.nanoseconds / 1000): \(event)")
        state.step(event, now: now)
        act()
    }

    private mutating func act() {
        while let effect = state.nextEffect() {
            story.append("    \(effect)")
            switch effect {
            case .startTool: break
            case .announce:
                check(
                    !isGated || now < gate.openUntil || !gate.news.isEmpty,
                    "announced through an open gate, as far as known")
            case .gate(let effect): tend(effect)
            case .stopTool: lines = []
            case .write(let line, _, let before):
                if case .put = line {
                    check(before.map { now < $0 } ?? isGated, "a line that adds is written within the lease")
                    check(!lines.contains(line), "one line that adds at a time")
                    check(!holds.isEmpty || isGated, "an order that was reported as done with has an effect")
                }
                lines.append(line)
            case .look:
                while !announcements.isEmpty { state.step(announcements.removeFirst(), now: now) }
                story.append("    looked: \(hasVIP)")
                state.step(.looked(present: [hasVIP], strays: []), now: now)
            case .killAt(let time):
                killAt = time
                if time == nil { check(isSilent, "disarmed when nothing answers") }
            case .report(let answer):
                reports.append(answer)
                if case .dropped(let done, _, _) = answer {
                    check(isSilent, "dropped is said when nothing answers")
                    holds.removeAll { $0 <= done }
                }
                if case .ready = answer { check(isGone, "ready is said when all is gone") }
            case .release: check(isSilent, "the release is said when nothing answers")
            case .exit: ended = true
            }
        }
    }

    private var isGated: Bool { reports.contains(.gate(isUsable: true, reason: "")) }

    /// Nobody who asks for the VIP is answered, nor will be. A gate that somebody else has removed is his doing.
    private var isSilent: Bool {
        isGone || (isGated && now >= gate.openUntil && !gate.lines.contains { $0.line.opens })
    }

    private var isGone: Bool { !hasVIP && !lines.contains { if case .put = $0 { true } else { false } } }
}

@Suite struct FenceModelTests {
    @Test func nothingBreaksItsRules() {
        var held = 0
        var dropped = 0
        var gated = 0
        for seed in 1...1500 as ClosedRange<UInt64> {
            var model = FenceModel(seed: seed)
            model.run(steps: 200)
            if !model.violations.isEmpty {
                Issue.record(
                    "seed \(seed): \(model.violations)\n\(model.story.filter { !$0.hasSuffix(": tick") }.suffix(30).joined(separator: "\n"))"
                )
                return
            }
            for report in model.reports {
                if case .held = report { held += 1 }
                if case .dropped = report { dropped += 1 }
                if report == .gate(isUsable: true, reason: "") { gated += 1 }
            }
        }
        // The runs went somewhere.
        #expect(held > 700 && dropped > 700 && gated > 700, "\(held) held, \(dropped) dropped, \(gated) gated")
    }
}
