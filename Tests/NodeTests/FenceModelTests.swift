// FenceModelTests: FenceState among a modelled kernel, a modelled `ip` and a main process that does anything, at random
// but repeatably. `ip` executes lines as late as it likes, announcements arrive late, everything may stand still.

import Gossip
import Testing

@testable import Node

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

    init(seed: UInt64) {
        generator = SplitMix(seed: seed)
        hasVIP = seed % 3 == 0
        state = FenceState(vips: ["v"], now: now)
        act()
    }

    mutating func run(steps: Int) {
        for _ in 0..<steps where !ended && violations.isEmpty { step() }
    }

    private mutating func check(_ holds: Bool, _ rule: String) { if !holds { violations.append(rule) } }

    private mutating func step() {
        switch generator.next() % 16 {
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
        case 15 where generator.next() % 32 == 0: tell(.closed)
        default: tell(.tick)
        }
    }

    /// Time goes on; the fence is woken at its deadline unless everything stands still.
    private mutating func pass(milliseconds: UInt64) {
        let end = now.advanced(by: .milliseconds(Int(milliseconds)))
        let frozen = generator.next() % 4 == 0
        while !frozen, let deadline = state.deadline, deadline <= end, violations.isEmpty, !ended {
            move(to: max(now.advanced(by: .microseconds(100)), deadline))
            tell(.tick)
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
            check(killAt.map { now < $0 } ?? false, "a line that adds is executed with the kernel's timer standing")
            check(now < until.advanced(by: FenceState.Timing.killGrace), "an address is added late")
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
            case .startTool, .announce: break
            case .stopTool: lines = []
            case .write(let line, _, let before):
                if case .put = line {
                    check(before.map { now < $0 } ?? false, "a line that adds is written within the lease")
                    check(!lines.contains(line), "one line that adds at a time")
                    check(!holds.isEmpty, "an order that was reported as done with has an effect")
                }
                lines.append(line)
            case .look:
                while !announcements.isEmpty { state.step(announcements.removeFirst(), now: now) }
                story.append("    looked: \(hasVIP)")
                state.step(.looked(present: [hasVIP], strays: []), now: now)
            case .killAt(let time):
                killAt = time
                if time == nil { check(isGone, "disarmed when all is gone") }
            case .report(let answer):
                reports.append(answer)
                if case .dropped(let done, _, _) = answer {
                    check(isGone, "dropped is said when all is gone")
                    holds.removeAll { $0 <= done }
                }
                if case .ready = answer { check(isGone, "ready is said when all is gone") }
            case .release: check(isGone, "the release is said when all is gone")
            case .exit: ended = true
            }
        }
    }

    private var isGone: Bool { !hasVIP && !lines.contains { if case .put = $0 { true } else { false } } }
}

@Suite struct FenceModelTests {
    @Test func nothingBreaksItsRules() {
        var held = 0
        var dropped = 0
        for seed in 1...1500 as ClosedRange<UInt64> {
            var model = FenceModel(seed: seed)
            model.run(steps: 200)
            if !model.violations.isEmpty {
                Issue.record("seed \(seed): \(model.violations)\n\(model.story.suffix(30).joined(separator: "\n"))")
                return
            }
            for report in model.reports {
                if case .held = report { held += 1 }
                if case .dropped = report { dropped += 1 }
            }
        }
        // The runs went somewhere.
        #expect(held > 700 && dropped > 700, "\(held) held, \(dropped) dropped")
    }
}
