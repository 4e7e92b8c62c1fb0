// FenceStateTests: what FenceState decides, event by event, with no clock and no kernel.

import Gossip
import Testing

@testable import Node

/// A FenceState with a clock to set, which collects what it wants done.
private struct Stage {
    var state: FenceState
    var nowMs = 1000
    /// The last order given, and the last one that `dropped` named (which the effects here don't show).
    var order: UInt64 = 0
    var droppedOrder: UInt64?

    init(vips: [String] = ["v"], present: [Bool]? = nil) {
        state = FenceState(vips: vips, now: Stage.at(1000))
        _ = drain()
        _ = tell(.gate(.ended(reason: "no nft")))
        _ = tell(.looked(present: present ?? vips.map { _ in false }, strays: []))
    }

    static func at(_ milliseconds: Int) -> Instant { Instant(nanoseconds: UInt64(milliseconds) * 1_000_000) }

    mutating func drain() -> [FenceState.Effect] {
        var effects: [FenceState.Effect] = []
        while let effect = state.nextEffect() {
            if case .report(.dropped(let order, let term, let cause)) = effect {
                droppedOrder = order
                effects.append(.report(.dropped(order: 0, term: term, cause: cause)))
            } else {
                effects.append(effect)
            }
        }
        return effects
    }

    mutating func tell(_ event: FenceState.Event) -> [FenceState.Effect] {
        state.step(event, now: Stage.at(nowMs))
        return drain()
    }

    mutating func tell(_ event: FenceState.Event, atMs: Int) -> [FenceState.Effect] {
        nowMs = atMs
        return tell(event)
    }

    /// Ticks whenever it is due, up to a time.
    mutating func pass(untilMs: Int) -> [FenceState.Effect] {
        var effects: [FenceState.Effect] = []
        while let deadline = state.deadline, deadline <= Stage.at(untilMs) {
            nowMs = max(nowMs, Int((deadline.nanoseconds + 999_999) / 1_000_000))
            let more = tell(.tick)
            effects += more
            // It waits for the answer to a look: time alone changes nothing.
            if more.isEmpty, state.deadline == deadline { break }
        }
        nowMs = untilMs
        return effects
    }

    mutating func hold(untilMs: Int, term: UInt64 = 1) -> [FenceState.Effect] {
        order += 1
        return tell(.hold(until: Stage.at(untilMs), term: term, order: order))
    }

    mutating func drop() -> [FenceState.Effect] {
        order += 1
        return tell(.drop(order: order))
    }
}

extension [FenceState.Effect] {
    fileprivate var lines: [FenceLine] {
        compactMap { if case .write(let line, _, _) = $0 { line } else { nil } }
    }
    fileprivate var reports: [FenceAnswer] { compactMap { if case .report(let answer) = $0 { answer } else { nil } } }
    fileprivate var lastLine: UInt64? {
        last { if case .write = $0 { true } else { false } }.flatMap {
            if case .write(_, let id, _) = $0 { id } else { nil }
        }
    }
}

@Suite struct FenceStateTests {
    @Test func startsItsToolLooksAndIsReady() {
        var state = FenceState(vips: ["v"], now: Stage.at(0))
        #expect(state.nextEffect() == .look)
        #expect(state.nextEffect() == .startTool)
        #expect(state.nextEffect() == .gate(.start))
        #expect(state.nextEffect() == .gate(.write(.remove, id: 1)))
        #expect(state.nextEffect() == nil)
        state.step(.looked(present: [false], strays: []), now: Stage.at(0))
        // A table that an earlier life left is swept first.
        #expect(state.nextEffect() == nil)
        state.step(.gate(.committed(line: 1)), now: Stage.at(0))
        #expect(state.nextEffect() == .gate(.stop))
        #expect(state.nextEffect() == .report(.ready))
        #expect(state.nextEffect() == nil)
        #expect(state.deadline == nil)
    }

    @Test func sweepsWhatAnEarlierLifeLeft() {
        var state = FenceState(vips: ["v"], now: Stage.at(0))
        state.step(.gate(.ended(reason: "no nft")), now: Stage.at(0))
        while state.nextEffect() != nil {}
        state.step(.looked(present: [true], strays: []), now: Stage.at(0))
        #expect(state.nextEffect() == .write(.remove(vip: 0), id: 1, before: nil))
        #expect(state.nextEffect() == nil)
        state.step(.vanished(vip: 0), now: Stage.at(1))
        #expect(state.nextEffect() == .report(.swept("v")))
        #expect(state.nextEffect() == .report(.ready))
    }

    @Test func sweepsAnAddressInTheWrongPlace() {
        var stage = Stage()
        let stray = FenceStray(vip: 0, prefix: 24, interface: "eth1")
        #expect(stage.tell(.strayAppeared(stray)).lines == [.clear(stray)])
        #expect(stage.tell(.strayVanished(stray)).reports == [.swept("v/24 on eth1")])
    }

    @Test func holdArmsTheKernelBeforeItAdds() {
        var stage = Stage()
        let effects = stage.hold(untilMs: 1150)
        #expect(
            effects == [
                .killAt(Stage.at(1180)), .write(.put(vip: 0), id: 1, before: Stage.at(1147)),
            ])
        #expect(stage.tell(.appeared(vip: 0)) == [.announce(vip: 0), .report(.held(term: 1))])
    }

    @Test func aHoldInThePastIsAnsweredAndNothingElse() {
        var stage = Stage()
        #expect(stage.hold(untilMs: 1003) == [.report(.dropped(order: 0, term: 0, cause: .expired))])
        #expect(stage.droppedOrder == 1)
        #expect(stage.hold(untilMs: 500) == [.report(.dropped(order: 0, term: 0, cause: .expired))])
        #expect(stage.state.deadline == nil)
    }

    @Test func droppedNamesTheOrdersThatAreDoneWith() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.hold(untilMs: 1180)
        _ = stage.tell(.appeared(vip: 0))
        _ = stage.drop()
        // This one comes while letting go, and is not done with.
        _ = stage.hold(untilMs: 1200)
        _ = stage.tell(.vanished(vip: 0))
        #expect(stage.droppedOrder == 3)
        _ = stage.tell(.appeared(vip: 0))
        _ = stage.pass(untilMs: 1198)
        _ = stage.tell(.vanished(vip: 0))
        #expect(stage.droppedOrder == 4)
    }

    @Test func renewsEvery300MillisecondsWithOneLineAtATime() {
        var stage = Stage()
        _ = stage.hold(untilMs: 5000)
        _ = stage.tell(.appeared(vip: 0))
        #expect(stage.pass(untilMs: 1299).lines == [])
        #expect(stage.pass(untilMs: 1300).lines == [.put(vip: 0)])
        #expect(stage.tell(.tick, atMs: 1320).lines == [])
        _ = stage.tell(.appeared(vip: 0), atMs: 1321)
        #expect(stage.pass(untilMs: 1620).lines == [])
        #expect(stage.pass(untilMs: 1621).lines == [.put(vip: 0)])
    }

    @Test func letsGoByItselfWhenTheLeasePasses() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        let effects = stage.pass(untilMs: 1148)
        #expect(effects.lines == [.remove(vip: 0)])
        #expect(stage.nowMs == 1148)
        #expect(
            stage.tell(.vanished(vip: 0)) == [.killAt(nil), .report(.dropped(order: 0, term: 1, cause: .expired))])
    }

    @Test func neverRenewsAfterTheLeaseWhateverWokeIt() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        // Frozen for three seconds; the first thing seen is that the address went by its lifetime.
        let effects = stage.tell(.vanished(vip: 0), atMs: 4000)
        #expect(effects.lines == [])
        #expect(effects.reports == [.dropped(order: 0, term: 1, cause: .expired)])
        #expect(!effects.contains(.announce(vip: 0)))
    }

    @Test func aLineTooLateIsWithheldAndNotSentAgain() throws {
        var stage = Stage()
        let effects = stage.hold(untilMs: 1150)
        let line = try #require(effects.lastLine)
        let after = stage.tell(.withheld(line: line), atMs: 1149)
        #expect(after.lines == [])
        #expect(after.reports == [.dropped(order: 0, term: 1, cause: .expired)])
    }

    @Test func aDropFollowsALineThatIsStillUnderWay() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        #expect(stage.drop().lines == [.remove(vip: 0)])
        // It takes effect, and is undone: only then is it said.
        #expect(stage.tell(.appeared(vip: 0)).reports == [])
        #expect(stage.tell(.vanished(vip: 0)).reports == [.dropped(order: 0, term: 1, cause: .commanded)])
    }

    @Test func theToolDiesBeforeADropWithALineUnconfirmedIsReported() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.drop()
        let effects = stage.pass(untilMs: 1010)
        #expect(effects.first == .stopTool)
        #expect(effects.contains(.look))
        #expect(effects.contains(.startTool))
        #expect(!effects.reports.contains(.dropped(order: 0, term: 1, cause: .commanded)))
        #expect(
            stage.tell(.looked(present: [false], strays: [])).reports == [
                .dropped(order: 0, term: 1, cause: .commanded)
            ])
    }

    @Test func aDropWithNothingHeldIsAnsweredAtOnce() {
        var stage = Stage()
        #expect(stage.drop().reports == [.dropped(order: 0, term: 0, cause: .commanded)])
    }

    @Test func aHoldWhileLettingGoWaitsUntilItIsDone() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        _ = stage.drop()
        #expect(stage.hold(untilMs: 1200, term: 2).lines == [])
        let effects = stage.tell(.vanished(vip: 0))
        #expect(effects.reports == [.dropped(order: 0, term: 2, cause: .commanded)])
        #expect(effects.lines == [.put(vip: 0)])
        #expect(!effects.contains(.killAt(nil)))
    }

    @Test func aVIPThatSomebodyRemovedComesBack() {
        var stage = Stage()
        _ = stage.hold(untilMs: 9000)
        _ = stage.tell(.appeared(vip: 0))
        #expect(stage.tell(.vanished(vip: 0), atMs: 1200).lines == [.put(vip: 0)])
        let effects = stage.tell(.appeared(vip: 0))
        #expect(effects.contains(.announce(vip: 0)))
        #expect(effects.reports == [.restored("v")])
        // Not without end when somebody keeps at it.
        #expect(stage.tell(.vanished(vip: 0)).lines == [])
        #expect(stage.pass(untilMs: 1220).lines == [.put(vip: 0)])
    }

    @Test func announcesInABurstAndThenEveryTenSeconds() {
        var stage = Stage()
        _ = stage.hold(untilMs: 60_000)
        var (times, settled): ([Int], [Int]) = ([], [])
        if stage.tell(.appeared(vip: 0)).contains(.announce(vip: 0)) { times.append(0) }
        for millisecond in 1...25_000 {
            let effects = stage.tell(.tick, atMs: 1000 + millisecond)
            if effects.contains(.announce(vip: 0)) { times.append(millisecond) }
            if effects.contains(.announce(vip: 0, isSettled: true)) { settled.append(millisecond) }
            if effects.lines == [.put(vip: 0)] { _ = stage.tell(.appeared(vip: 0)) }
        }
        #expect(times == [0, 50, 200, 1000])
        // Whoever had it before has long let go.
        #expect(settled == [11_000, 21_000])
    }

    @Test func aDeadMainProcessMeansLetGoTellPeersEnd() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        let effects = stage.tell(.closed, atMs: 1050)
        #expect(effects.lines == [.remove(vip: 0)])
        #expect(!effects.contains(.release))
        #expect(stage.tell(.vanished(vip: 0), atMs: 1051) == [.killAt(nil), .release])
        #expect(stage.pass(untilMs: 1150) == [.release])
        #expect(stage.pass(untilMs: 1151) == [.release, .exit])
    }

    @Test func aDeadMainProcessThatNeverHeldIsNothingToTell() {
        var stage = Stage()
        #expect(stage.tell(.closed) == [.exit])
    }

    @Test func goodbyeTellsNobody() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        #expect(stage.tell(.bye).lines == [.remove(vip: 0)])
        #expect(stage.tell(.vanished(vip: 0)) == [.killAt(nil), .exit])
    }

    @Test func anOrphanThatCannotLetGoEndsWithoutARelease() {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        _ = stage.tell(.closed)
        var effects: [FenceState.Effect] = []
        while !effects.contains(.exit), stage.nowMs < 10_000 {
            effects += stage.pass(untilMs: stage.nowMs + 1)
            if effects.last == .look || effects.contains(.look) {
                effects += stage.tell(.looked(present: [true], strays: []))
            }
        }
        #expect(stage.nowMs <= 3001)
        #expect(!effects.contains(.release))
    }

    @Test func aRefusalIsReportedOnceAndRetriedWithPauses() throws {
        var stage = Stage()
        var effects = stage.hold(untilMs: 60_000)
        var tries: [Int] = []
        var reports: [FenceAnswer] = []
        while stage.nowMs < 4000 {
            if let line = effects.lastLine {
                tries.append(stage.nowMs)
                effects = stage.tell(.refused(line: line, reason: "no device"))
                effects += stage.tell(.looked(present: [false], strays: []))
                reports += effects.reports
            }
            effects = stage.pass(untilMs: stage.nowMs + 1)
        }
        #expect(reports == [.failed("no device")])
        #expect(tries.prefix(4) == [1000, 1020, 1060, 1140])
        #expect(zip(tries, tries.dropFirst()).map { $1 - $0 }.max() == 500)
        // The next try has its effect.
        while effects.lastLine == nil { effects = stage.pass(untilMs: stage.nowMs + 1) }
        #expect(stage.tell(.appeared(vip: 0)).reports == [.recovered, .held(term: 1)])
    }

    @Test func aRemovalThatFindsNothingIsNoFailure() throws {
        var stage = Stage()
        _ = stage.hold(untilMs: 1150)
        _ = stage.tell(.appeared(vip: 0))
        let effects = stage.drop()
        let line = try #require(effects.lastLine)
        _ = stage.tell(.refused(line: line, reason: "Cannot assign requested address"))
        #expect(
            stage.tell(.looked(present: [false], strays: [])).reports == [
                .dropped(order: 0, term: 1, cause: .commanded)
            ])
    }

    @Test func aDeadToolIsReplacedAndTheAddressRenewedInTime() {
        var stage = Stage()
        _ = stage.hold(untilMs: 60_000)
        _ = stage.tell(.appeared(vip: 0))
        let effects = stage.tell(.toolEnded(reason: "ip ended"), atMs: 1100)
        #expect(effects.reports == [.failed("ip ended")])
        _ = stage.tell(.looked(present: [true], strays: []))
        #expect(stage.pass(untilMs: 1120).contains(.startTool))
        #expect(stage.pass(untilMs: 1300).lines == [.put(vip: 0)])
    }

    @Test func severalVIPsAreHeldWhenAllAreThere() {
        var stage = Stage(vips: ["a", "b"])
        #expect(stage.hold(untilMs: 1150).lines == [.put(vip: 0)])
        var effects = stage.tell(.appeared(vip: 0))
        #expect(effects.lines == [.put(vip: 1)])
        #expect(effects.reports == [])
        effects = stage.tell(.appeared(vip: 1))
        #expect(effects.reports == [.held(term: 1)])
        #expect(stage.drop().lines == [.remove(vip: 0), .remove(vip: 1)])
        #expect(stage.tell(.vanished(vip: 1)).reports == [])
        #expect(stage.tell(.vanished(vip: 0)).reports == [.dropped(order: 0, term: 1, cause: .commanded)])
    }

    @Test func lostAnnouncementsMeanALook() {
        var stage = Stage()
        _ = stage.hold(untilMs: 9000)
        _ = stage.tell(.appeared(vip: 0))
        #expect(stage.tell(.overrun).contains(.look))
        #expect(stage.tell(.looked(present: [false], strays: [])).lines == [])
        #expect(stage.pass(untilMs: 1020).lines == [.put(vip: 0)])
    }
}
