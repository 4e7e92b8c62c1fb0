// CheckStateTests: rise, fall, the first result, the grid of starts, and the pace under suspicion, on a virtual clock.

import Testing

@testable import Proxy

private let ms: UInt64 = 1_000_000

private func pacing(interval: Int = 1000, timeout: Int = 500, rise: Int = 2, fall: Int = 2) -> CheckPacing {
    CheckPacing(interval: .milliseconds(interval), timeout: .milliseconds(timeout), rise: rise, fall: fall)
}

/// Runs a check against a server that answers after `delayMs`, or never when nil.
private struct Run {
    var check: CheckState
    var nowNs: UInt64
    var starts: [UInt64] = []
    var decisions: [(atMs: UInt64, isUp: Bool)] = []
    /// (after this many ms, with this result); nil never answers.
    var answer: (afterMs: UInt64, passes: Bool)?
    private var answersAtNs: UInt64?

    init(_ pacing: CheckPacing, startMs: UInt64 = 10_000, phaseMs: UInt64 = 0) {
        nowNs = startMs * ms
        check = CheckState(pacing: pacing, phaseNs: phaseMs * ms, firstNs: startMs * ms)
    }

    var nowMs: UInt64 { nowNs / ms }

    mutating func advance(toMs end: UInt64) {
        while true {
            drain()
            let next = min(check.deadlineNs, answersAtNs ?? .max)
            guard next <= end * ms else { break }
            nowNs = max(nowNs, next)
            if let at = answersAtNs, at <= nowNs, let answer {
                answersAtNs = nil
                check.step(.finished(passed: answer.passes), nowNs: nowNs)
            } else {
                check.step(.tick, nowNs: nowNs)
            }
        }
        nowNs = end * ms
    }

    mutating func suspect() {
        check.step(.suspect, nowNs: nowNs)
        drain()
    }

    private mutating func drain() {
        while let effect = check.nextEffect() {
            switch effect {
            case .start:
                starts.append(nowMs)
                answersAtNs = answer.map { nowNs + $0.afterMs * ms }
            case .abandon: answersAtNs = nil
            case .decided(let verdict): decisions.append((nowMs, verdict == .up))
            }
        }
    }
}

@Suite struct CheckStateTests {
    @Test func firstPassDecidesAtOnce() {
        var run = Run(pacing(rise: 3))
        run.answer = (1, true)
        run.advance(toMs: 10_010)
        #expect(run.check.verdict == .up)
        #expect(run.decisions.map(\.atMs) == [10_001])
    }

    @Test func firstFailureDecidesAtOnce() {
        var run = Run(pacing(fall: 5))
        run.answer = (1, false)
        run.advance(toMs: 10_010)
        #expect(run.check.verdict == .down)
    }

    @Test func startsStandOnTheGridOfThePhase() {
        var run = Run(pacing(), phaseMs: 250)
        run.answer = (1, true)
        run.advance(toMs: 14_000)
        // The first at once; the grid's point 250 ms later is too near to it.
        #expect(run.starts == [10_000, 11_250, 12_250, 13_250])
    }

    @Test func fallFailuresInARowTakeItDownAndFollowQuickly() {
        var run = Run(pacing(fall: 3))
        run.answer = (1, true)
        run.advance(toMs: 12_500)
        run.answer = (1, false)
        run.advance(toMs: 13_900)
        #expect(run.starts.suffix(3) == [13_000, 13_250, 13_500])
        #expect(run.decisions.last?.atMs == 13_501)
        #expect(run.check.verdict == .down)
    }

    @Test func aPassBetweenFailuresStartsTheCountAnew() {
        var run = Run(pacing(fall: 2))
        run.answer = (1, true)
        run.advance(toMs: 12_500)
        run.answer = (1, false)
        run.advance(toMs: 13_100)
        run.answer = (1, true)
        run.advance(toMs: 13_800)
        run.answer = (1, false)
        run.advance(toMs: 14_100)
        #expect(run.check.verdict == .up)
        run.advance(toMs: 14_400)
        #expect(run.check.verdict == .down)
    }

    @Test func risePassesBringItBack() {
        var run = Run(pacing(rise: 3))
        run.answer = (1, false)
        run.advance(toMs: 10_500)
        run.answer = (1, true)
        run.advance(toMs: 11_499)
        #expect(run.check.verdict == .down)
        run.advance(toMs: 11_501)
        #expect(run.check.verdict == .up)
    }

    @Test func aFrozenServerIsDownWithinTwoTimeoutsOfTheNextProbe() {
        var run = Run(pacing())
        run.answer = (1, true)
        run.advance(toMs: 12_001)
        run.answer = nil
        run.advance(toMs: 15_000)
        // Starts at 13,000 and, off the grid, as soon as that one timed out.
        #expect(run.decisions.last?.atMs == 14_000)
        #expect(run.check.verdict == .down)
    }

    @Test func suspicionProbesAtOnceAndFollowsUpQuickly() {
        var run = Run(pacing(interval: 30_000))
        run.answer = (1, true)
        run.advance(toMs: 11_000)
        run.answer = (1, false)
        run.suspect()
        run.advance(toMs: 12_000)
        #expect(run.starts == [10_000, 11_000, 11_200])
        #expect(run.decisions.last?.atMs == 11_201)
    }

    @Test func aPassClearsSuspicion() {
        var run = Run(pacing(interval: 30_000))
        run.answer = (1, true)
        run.advance(toMs: 11_000)
        run.suspect()
        run.advance(toMs: 29_000)
        #expect(run.starts == [10_000, 11_000])
        #expect(run.check.verdict == .up)
    }

    @Test func aFloodOfSuspicionIsNotAFloodOfProbes() {
        var run = Run(pacing())
        run.answer = (1, true)
        run.advance(toMs: 10_100)
        for time in UInt64(10_100)..<11_100 {
            run.advance(toMs: time)
            run.suspect()
        }
        #expect(run.starts.count <= 12)
    }

    @Test func suspicionOfAServerKnownToBeDownChangesNothingButTheNextStart() {
        var run = Run(pacing(interval: 30_000))
        run.answer = (1, false)
        run.advance(toMs: 10_500)
        run.suspect()
        run.advance(toMs: 12_000)
        #expect(run.starts == [10_000, 10_500])
        #expect(run.decisions.count == 1)
    }

    @Test func aLateResultOfAnAbandonedProbeIsIgnored() {
        var run = Run(pacing(fall: 1))
        run.answer = (1, true)
        run.advance(toMs: 10_500)
        run.answer = nil
        run.advance(toMs: 11_600)
        #expect(run.check.verdict == .down)
        run.check.step(.finished(passed: true), nowNs: run.nowNs)
        #expect(run.check.nextEffect() == nil)
        #expect(run.check.verdict == .down)
    }

    @Test func aProbeThatCouldNotBeMadeSaysNothing() {
        var run = Run(pacing(fall: 1))
        run.answer = (1, true)
        run.advance(toMs: 10_500)
        run.answer = nil
        run.advance(toMs: 11_000)
        run.check.step(.gaveUp, nowNs: run.nowNs)
        #expect(run.check.verdict == .up)
        #expect(!run.check.isRunning)
        #expect(run.check.deadlineNs == 12_000 * ms)
    }

    /// Whatever happens in whatever order: a probe at most at a time, verdicts alternate, and a deadline is ahead.
    @Test(arguments: 0..<50) func randomHistoriesKeepTheInvariants(seed: Int) {
        var random = SplitMix(state: UInt64(seed) &+ 1)
        let pacing = pacing(
            interval: Int(random.next() % 2000) + 1, timeout: Int(random.next() % 1000) + 1,
            rise: Int(random.next() % 4), fall: Int(random.next() % 4))
        var now: UInt64 = 1_000_000_000
        var check = CheckState(pacing: pacing, phaseNs: random.next() % 3_000_000_000, firstNs: now)
        var running = false
        var last: Bool?
        for _ in 0..<500 {
            now += random.next() % 300 * ms
            switch random.next() % 4 {
            case 0: check.step(.suspect, nowNs: now)
            case 1 where running && random.next() % 8 == 0:
                check.step(.gaveUp, nowNs: now)
                running = false
            case 1 where running:
                check.step(.finished(passed: random.next() % 2 == 0), nowNs: now)
                running = false
            default: check.step(.tick, nowNs: now)
            }
            while let effect = check.nextEffect() {
                switch effect {
                case .start:
                    #expect(!running, "seed \(seed): a second probe began")
                    running = true
                case .abandon:
                    #expect(running, "seed \(seed): nothing to abandon")
                    running = false
                case .decided(let verdict):
                    let isUp = verdict == .up
                    #expect(isUp != last, "seed \(seed): decided the same twice")
                    last = isUp
                }
            }
            #expect(check.isRunning == running, "seed \(seed)")
            #expect(
                check.deadlineNs <= now + pacing.intervalNs * 2 + pacing.timeoutNs + CheckState.suspicionGapNs,
                "seed \(seed)")
        }
    }
}

/// A small seeded generator (SplitMix64).
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}

extension CheckStateTests {
    /// What a check decides when its results come a second apart.
    private func decisions(_ events: [CheckState.Event]) -> [CheckVerdict?] {
        var check = CheckState(pacing: pacing(rise: 2, fall: 3), phaseNs: 0, firstNs: 1)
        var now: UInt64 = 1
        return events.map { event in
            now = max(now, check.deadlineNs)
            check.step(.tick, nowNs: now)
            check.step(event, nowNs: now + 1)
            var decided: CheckVerdict?
            while let effect = check.nextEffect() { if case .decided(let verdict) = effect { decided = verdict } }
            return decided
        }
    }

    @Test func aServersOwnWordNeedsNoRepetition() {
        let (pass, fail) = (CheckState.Event.finished(passed: true), CheckState.Event.finished(passed: false))
        #expect(decisions([pass, .drains, .drains, pass, pass]) == [.up, .drain, nil, .up, nil])
        #expect(decisions([.drains, fail, fail, fail, .drains]) == [.drain, nil, nil, .down, .drain])
        #expect(decisions([fail, .drains, pass]) == [.down, .drain, .up])
        // Failures count in a row only.
        #expect(decisions([pass, fail, fail, .drains, fail, fail, pass]) == [.up, nil, nil, .drain, nil, nil, .up])
    }
}
