// GateStateTests: what FenceState does with a gate, event by event; no nft, no kernel.

import Gossip
import Testing

@testable import Node

/// A FenceState with a gate and a clock to set. `nft` and `ip` do what they are told, unless a test says otherwise.
private struct GateStage {
    var state: FenceState
    var nowMs = 1000
    var order: UInt64 = 0
    var reports: [FenceAnswer] = []
    var lines: [GateLine] = []
    var addressLines: [FenceLine] = []
    var effects: [FenceState.Effect] = []
    var lastLine: UInt64 = 0
    /// False: lines stay with `nft`.
    var nftWorks = true
    var parts = 0

    init(_ use: GateUse = .ifUsable) {
        state = FenceState(vips: ["v"], gate: use, lineGrace: .milliseconds(40), now: Self.at(1000))
        act()
    }

    static func at(_ milliseconds: Int) -> Instant { Instant(nanoseconds: UInt64(milliseconds) * 1_000_000) }

    mutating func tell(_ event: FenceState.Event) {
        state.step(event, now: Self.at(nowMs))
        act()
    }

    private mutating func act() {
        while let effect = state.nextEffect() {
            effects.append(effect)
            switch effect {
            case .look: state.step(.looked(present: [false], strays: []), now: Self.at(nowMs))
            case .report(let answer): reports.append(answer)
            case .write(let line, _, _):
                addressLines.append(line)
                if case .put(let vip) = line { state.step(.appeared(vip: vip), now: Self.at(nowMs)) }
                if case .remove(let vip) = line { state.step(.vanished(vip: vip), now: Self.at(nowMs)) }
            case .gate(.write(let line, let id)):
                lines.append(line)
                lastLine = id
                if nftWorks { state.step(.gate(.committed(line: id)), now: Self.at(nowMs)) }
            case .gate(.findFlows): state.step(.gate(.found(parts: parts)), now: Self.at(nowMs))
            case .gate(.stop): state.step(.gate(.stopped), now: Self.at(nowMs))
            default: break
            }
        }
    }

    /// Ticks whenever it is due, up to a time.
    mutating func pass(untilMs: Int) {
        while let deadline = state.deadline, deadline <= Self.at(untilMs) {
            nowMs = max(nowMs, Int((deadline.nanoseconds + 999_999) / 1_000_000))
            let before = effects.count
            tell(.tick)
            if effects.count == before, state.deadline == deadline { break }
        }
        nowMs = untilMs
    }

    /// The kernel says that the last line is in force.
    mutating func commit() { tell(.gate(.committed(line: lastLine))) }

    mutating func hold(untilMs: Int) {
        order += 1
        tell(.hold(until: Self.at(untilMs), term: 1, order: order))
    }

    mutating func drop() {
        order += 1
        tell(.drop(order: order))
    }

    mutating func yield() {
        order += 1
        tell(.yield(order: order))
    }

    /// What is written and said from here on.
    mutating func forget() {
        reports = []
        lines = []
        addressLines = []
        effects = []
    }
}

@Suite struct GateStateTests {
    private let dropped = FenceAnswer.dropped(order: 2, term: 1, cause: .commanded)

    @Test func theGateStandsBeforeReadyIsSaid() {
        let stage = GateStage()
        #expect(stage.lines == [.install])
        #expect(stage.reports == [.gate(isUsable: true, reason: ""), .ready])
    }

    @Test func aHoldOpensWithTheKernelsTimerStanding() {
        var stage = GateStage()
        stage.forget()
        stage.nftWorks = false
        stage.hold(untilMs: 1150)
        #expect(
            stage.effects.prefix(3) == [
                .killAt(GateStage.at(1180)), .killAt(GateStage.at(1040)),
                .gate(.write(.open(until: GateStage.at(1150)), id: 2)),
            ])
        #expect(stage.addressLines == [.put(vip: 0)])
        #expect(stage.reports == [], "the address alone is nothing")
        #expect(!stage.effects.contains(.announce(vip: 0)), "nor would anybody hear of it")
        stage.tell(.gate(.committed(line: 2)))
        #expect(stage.reports == [.held(term: 1)])
        #expect(stage.effects.suffix(3) == [.killAt(GateStage.at(1180)), .announce(vip: 0), .report(.held(term: 1))])
    }

    @Test func everyHoldRenewsAndOneLineIsUnderWayAtATime() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.nftWorks = false
        stage.hold(untilMs: 1160)
        stage.hold(untilMs: 1170)
        stage.hold(untilMs: 1180)
        #expect(stage.lines == [.open(until: GateStage.at(1160))])
        stage.tell(.gate(.committed(line: stage.lastLine)))
        #expect(stage.lines.last == .open(until: GateStage.at(1180)))
    }

    @Test func droppedIsSaidWhenTheGateIsClosedOrTheAddressGone() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.drop()
        #expect(stage.lines == [.close])
        #expect(stage.reports == [dropped])
        // Closed first, then the address.
        #expect(stage.effects.first == .gate(.write(.close, id: stage.lastLine)))
    }

    @Test func aLeaseThatPassesClosesTheGate() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.pass(untilMs: 1148)
        #expect(stage.lines == [.close])
        #expect(stage.reports == [.dropped(order: 1, term: 1, cause: .expired)])
    }

    @Test func whoYieldsIsSilentAndKeepsTheAddress() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.parts = 1
        stage.yield()
        // It may own again soon, and knows its flows by then.
        #expect(stage.lines == [.serve, .learn(dropsUnknown: false), .remember(part: 0), .forward(to: nil)])
        #expect(stage.reports == [dropped])
        stage.pass(untilMs: 5000)
        #expect(!stage.addressLines.contains(.remove(vip: 0)))
        #expect(stage.addressLines.filter { $0 == .put(vip: 0) }.count >= 12, "renewed")
        #expect(stage.lines.filter { $0 == .serve }.count >= 12)
        #expect(!stage.effects.contains(.announce(vip: 0)))
        #expect(stage.reports == [dropped])
        stage.drop()
        #expect(stage.addressLines.last == .remove(vip: 0))
        #expect(stage.lines.suffix(2) == [.close, .keep])
    }

    @Test func whoOwnsAgainForwardsWithOneLine() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.parts = 3
        stage.yield()
        stage.forget()
        stage.tell(.forward(to: FlowRoute(MemberID(1))))
        stage.hold(untilMs: 1200)
        #expect(stage.lines == [.forward(to: FlowRoute(MemberID(1))), .open(until: GateStage.at(1200))])
    }

    /// The VIP comes back to a node with so many connections that to name them all takes longer than clients should wait.
    @Test func theGateOpensBeforeAllOfManyFlowsAreRemembered() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.parts = 300
        stage.nftWorks = false
        stage.yield()
        for _ in 0..<20 { stage.commit() }
        #expect(stage.lines.last == .remember(part: 18))
        stage.forget()
        stage.nowMs += 8
        stage.tell(.forward(to: FlowRoute(MemberID(1))))
        stage.hold(untilMs: 1200)
        for _ in 0..<3 { stage.commit() }
        // What it doesn't know yet waits; then it goes on from where it was.
        #expect(
            stage.lines == [
                .learn(dropsUnknown: true), .open(until: GateStage.at(1200)), .remember(part: 19),
            ])
        #expect(stage.reports == [.held(term: 1)])
        while stage.lines.last != .remember(part: 299), stage.lines.count < 400 { stage.commit() }
        stage.commit()
        #expect(stage.lines.last == .forward(to: FlowRoute(MemberID(1))))
    }

    @Test func aHoldEndsAYield() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.yield()
        stage.forget()
        stage.hold(untilMs: 1200)
        #expect(stage.lines == [.open(until: GateStage.at(1200)), .keep])
        #expect(stage.reports == [.held(term: 1)])
        #expect(!stage.addressLines.contains(.remove(vip: 0)))
    }

    @Test func withoutAGateAYieldIsADrop() {
        var stage = GateStage(.never)
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.yield()
        #expect(stage.addressLines == [.remove(vip: 0)])
        #expect(stage.reports == [dropped])
    }

    @Test func whatIsToBeForwardedIsBeforeTheGateOpens() {
        var stage = GateStage()
        stage.parts = 2
        stage.forget()
        stage.tell(.forward(to: FlowRoute(MemberID(2))))
        stage.hold(untilMs: 1150)
        #expect(
            stage.lines == [
                .remember(part: 0), .remember(part: 1), .forward(to: FlowRoute(MemberID(2))),
                .open(until: GateStage.at(1150)),
            ])
        stage.forget()
        stage.tell(.forward(to: FlowRoute(MemberID(1))))
        stage.tell(.forward(to: nil))
        #expect(stage.lines == [.forward(to: FlowRoute(MemberID(1))), .keep])
    }

    /// The shell asks for a neighbour's Ethernet address, and writes the line again as long as it says so.
    @Test func aNeighbourThatIsSoughtIsLookedForAgain() {
        var stage = GateStage()
        let route = FlowRoute(MemberID(2))
        stage.tell(.forward(to: route))
        stage.forget()
        stage.tell(.gate(.seeking))
        stage.pass(untilMs: 1004)
        #expect(stage.lines == [])
        stage.pass(untilMs: 1006)
        #expect(stage.lines == [.forward(to: route)])
        stage.pass(untilMs: 1900)
        #expect(stage.lines == [.forward(to: route)], "once for each time")
        stage.tell(.gate(.seeking))
        stage.tell(.forward(to: nil))
        stage.pass(untilMs: 2900)
        #expect(stage.lines == [.forward(to: route), .keep], "not when nothing goes there any more")
    }

    @Test func whatBeginsWhileItHoldsIsRememberedFirst() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.parts = 1
        stage.tell(.forward(to: FlowRoute(MemberID(2))))
        #expect(stage.lines == [.learn(dropsUnknown: true), .remember(part: 0), .forward(to: FlowRoute(MemberID(2)))])
    }

    @Test func aRefusalMeansANewNftANewTableAndNothingHeldMeanwhile() {
        var stage = GateStage()
        stage.forget()
        stage.nftWorks = false
        stage.hold(untilMs: 1150)
        stage.nftWorks = true
        stage.tell(.gate(.refused(line: stage.lastLine, reason: "x")))
        #expect(stage.reports == [.failed("x")])
        #expect(stage.effects.contains(.gate(.stop)))
        stage.pass(untilMs: 1030)
        #expect(stage.lines.suffix(2) == [.install, .open(until: GateStage.at(1150))])
        #expect(stage.reports == [.failed("x"), .recovered, .held(term: 1)])
    }

    @Test func anNftThatHangsIsKilledBeforeTheKernelsTimerFires() {
        var stage = GateStage()
        stage.forget()
        stage.nftWorks = false
        stage.hold(untilMs: 1150)
        stage.pass(untilMs: 1030)
        #expect(stage.effects.contains(.gate(.stop)))
        #expect(stage.reports == [.warning("nft gave no answer within 20 ms: restarted")])
        #expect(stage.effects.contains(.gate(.start)))
    }

    @Test func aGateThatCannotBeClosedIsClosedByItsTime() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.nftWorks = false
        stage.yield()
        #expect(stage.reports == [])
        stage.pass(untilMs: 1145)
        #expect(!stage.reports.contains(dropped))
        stage.pass(untilMs: 1151)
        #expect(stage.reports.contains(dropped))
    }

    @Test func aTableThatSomebodyRemovesIsInstalledAndOpenedAgain() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.tell(.gate(.disturbed))
        #expect(stage.lines == [.install, .open(until: GateStage.at(1150))])
        #expect(stage.reports == [.warning("somebody else changed the gate's table: it is installed anew")])
    }

    /// Behind no gate its address would answer beside the new owner's, for as long as `nft` fails.
    @Test func whoYieldsKeepsNoAddressWithoutATable() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.yield()
        stage.forget()
        stage.nftWorks = false
        stage.tell(.gate(.disturbed))
        #expect(stage.addressLines == [.remove(vip: 0)])
        stage.tell(.gate(.refused(line: stage.lastLine, reason: "x")))
        stage.pass(untilMs: 1900)
        #expect(stage.addressLines == [.remove(vip: 0)])
        stage.nftWorks = true
        stage.tell(.gate(.refused(line: stage.lastLine, reason: "x")))
        stage.pass(untilMs: 3000)
        #expect(stage.lines.contains(.serve))
        #expect(stage.addressLines.prefix(2) == [.remove(vip: 0), .put(vip: 0)], "back behind the new one")
        #expect(!stage.reports.contains(.restored("v")), "it was nobody else's doing")
    }

    @Test func anNftThatHangsAtFirstIsReplacedAndItsSuccessorUsed() {
        var state = FenceState(vips: ["v"], gate: .ifUsable, lineGrace: .milliseconds(40), now: GateStage.at(1000))
        var said: [FenceAnswer] = []
        var starts: [Int] = []
        var last: UInt64?
        func act(_ nowMs: Int) {
            while let effect = state.nextEffect() {
                switch effect {
                case .report(let answer): said.append(answer)
                case .look: state.step(.looked(present: [false], strays: []), now: GateStage.at(nowMs))
                case .gate(.start): starts.append(nowMs)
                case .gate(.stop): state.step(.gate(.stopped), now: GateStage.at(nowMs))
                case .gate(.write(_, let id)): last = id
                case .write(.put, _, _): state.step(.appeared(vip: 0), now: GateStage.at(nowMs))
                default: break
                }
            }
        }
        for ms in 1000..<7000 {
            if ms % 30 == 0, ms > 2500 {
                state.step(.hold(until: GateStage.at(ms + 150), term: 1, order: UInt64(ms)), now: GateStage.at(ms))
            }
            state.step(.tick, now: GateStage.at(ms))
            act(ms)
            // The third works.
            if starts.count == 3, let line = last {
                last = nil
                state.step(.gate(.committed(line: line)), now: GateStage.at(ms))
                act(ms)
            }
        }
        #expect(starts == [1000, 3000, 6000], "after a second's patience, with growing pauses")
        #expect(said.first == .gate(isUsable: false, reason: "nft gave no answer within a second"))
        #expect(said.contains(.held(term: 1)), "held without a gate meanwhile")
        #expect(said.last == .gate(isUsable: true, reason: ""))
    }

    @Test func aNodeThatNeedsAGateAndHasNoneHoldsNothing() {
        var stage = GateStage(.required)
        stage = GateStage(.required)
        stage.nftWorks = false
        var refused = FenceState(vips: ["v"], gate: .required, lineGrace: .milliseconds(40), now: GateStage.at(1000))
        refused.step(.looked(present: [false], strays: []), now: GateStage.at(1000))
        refused.step(.gate(.ended(reason: "no nft")), now: GateStage.at(1000))
        refused.step(.hold(until: GateStage.at(1150), term: 1, order: 1), now: GateStage.at(1000))
        var said: [FenceAnswer] = []
        while let effect = refused.nextEffect() {
            if case .report(let answer) = effect { said.append(answer) }
            if case .write(.put, _, _) = effect { Issue.record("held") }
        }
        #expect(
            said == [.gate(isUsable: false, reason: "no nft"), .ready, .dropped(order: 1, term: 0, cause: .expired)])
    }

    @Test func goodbyeRemovesTheTableAfterTheAddress() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.tell(.bye)
        #expect(stage.lines == [.close, .remove])
        #expect(stage.addressLines == [.remove(vip: 0)])
        #expect(stage.effects.last == .exit)
        let address = stage.effects.firstIndex { if case .write(.remove, _, _) = $0 { true } else { false } } ?? .max
        let table = stage.effects.firstIndex { if case .gate(.write(.remove, _)) = $0 { true } else { false } } ?? 0
        #expect(address < table)
    }

    @Test func aDeadMainProcessIsToldOfAsSoonAsNothingAnswers() {
        var stage = GateStage()
        stage.hold(untilMs: 1150)
        stage.forget()
        stage.tell(.closed)
        #expect(stage.effects.contains(.release))
        stage.pass(untilMs: 1101)
        #expect(stage.effects.last == .exit)
        #expect(stage.lines == [.close, .remove])
    }
}
