// ScalingDecisionTests: how many servers a load asks for, over curves in virtual time.

import Gossip
import Testing

@testable import Node

private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: 1_000_000_000_000 + UInt64(seconds * 1e9)) }

/// A cluster that takes over each decision at once.
private struct Curve {
    var rules = ScalingRules(min: 2, max: 9, share: .requests(100))
    var decision = ScalingDecision()
    var current: Int?
    var second = 0.0
    /// When each number was decided.
    var changes: [(at: Double, count: Int)] = []

    /// - Parameter load: of a second after the beginning of this call.
    mutating func run(_ seconds: Int, _ load: (Double) -> Double) {
        for step in 0..<seconds {
            decision.note(load(Double(step)), rules, now: at(second))
            if let next = decision.decide(current: current, serving: current ?? 2, rules, now: at(second)) {
                #expect(next.count != current && (rules.min...rules.max).contains(next.count))
                #expect(next.reason.utf8.count <= Limits.reasonBytesMax)
                current = next.count
                changes.append((second, next.count))
            }
            second += 1
        }
    }
}

@Suite("Scaling decisions") struct ScalingDecisionTests {
    @Test func itBeginsWithWhatServesOnceTheWindowIsFull() {
        var curve = Curve()
        curve.run(5) { _ in 150 }
        #expect(curve.current == nil)
        curve.run(3) { _ in 150 }
        #expect(curve.current == 2 && curve.changes.map(\.at) == [5])
        // Never fewer than are serving: it was somebody's will.
        var decision = ScalingDecision()
        for second in 0...10 { decision.note(0, curve.rules, now: at(Double(second))) }
        let first = decision.decide(current: nil, serving: 5, curve.rules, now: at(10))
        #expect(first?.count == 5)
    }

    @Test func moreAtOnceAndFewerLate() throws {
        var curve = Curve()
        curve.run(30) { _ in 150 }
        curve.run(40) { _ in 480 }
        #expect(curve.current == 5)
        // The first second shows that it takes more; the rest comes a cool-down later.
        let up = curve.changes.dropFirst().map(\.at)
        #expect(try #require(up.first) <= 32 && #require(up.last) <= 37)
        #expect(zip(up, up.dropFirst()).allSatisfy { $1 - $0 >= 5 })
        let before = curve.changes.count
        curve.run(60) { _ in 150 }
        #expect(curve.current == 5, "the window still held the high load within the cool-down")
        curve.run(15) { _ in 150 }
        #expect(curve.current == 2 && curve.changes.count <= before + 2, "one step for each window")
    }

    @Test func itDoesNotFlapAroundABoundary() {
        var curve = Curve()
        curve.run(20) { _ in 150 }
        let start = curve.changes.count
        // Four minutes between 280 and 320: three servers or four.
        curve.run(240) { 300 + 20 * ($0.truncatingRemainder(dividingBy: 40) < 20 ? -1 : 1) }
        #expect(curve.current == 4 && curve.changes.count - start <= 3)
        // 4 stays for what 3 would serve only when full: 270 needs 3, and 3.2 at 85 %.
        let settled = curve.changes.count
        curve.run(300) { _ in 270 }
        #expect(curve.current == 4 && curve.changes.count == settled)
        curve.run(90) { _ in 250 }
        #expect(curve.current == 3)
    }

    @Test func aRampIsFollowed() {
        var curve = Curve()
        curve.run(20) { _ in 100 }
        curve.run(120) { 100 + 5 * $0 }
        #expect(curve.current == 7)
        let counts = curve.changes.map(\.count)
        #expect(counts == counts.sorted())
        curve.run(30) { _ in 2000 }
        #expect(curve.current == 9, "never above max")
        curve.run(200) { _ in 0 }
        #expect(curve.current == 2, "never below min")
    }

    @Test func aShortPeakOfASecondIsNoReason() {
        var curve = Curve()
        curve.run(30) { _ in 150 }
        curve.run(20) { $0 == 3 ? 350 : 150 }
        #expect(curve.current == 2)
    }

    @Test func nothingIsDecidedOnGaps() {
        var curve = Curve()
        curve.run(90) { _ in 480 }
        #expect(curve.current == 5)
        // A node's restart: the figures are incomplete for three seconds, and what came before still counts.
        curve.decision.interrupt()
        #expect(curve.decision.decide(current: 5, serving: 5, curve.rules, now: at(curve.second)) == nil)
        curve.second += 3
        curve.run(1) { _ in 480 }
        #expect(curve.decision.load != nil)
        // Longer: neither up nor down before window and cool-down are full again.
        curve.second += 6
        let changes = curve.changes.count
        curve.run(5) { _ in 900 }
        #expect(curve.changes.count == changes)
        curve.run(1) { _ in 900 }
        #expect(curve.current == 9)
        curve.second += 6
        curve.run(60) { _ in 0 }
        #expect(curve.current == 9)
        curve.run(15) { _ in 0 }
        #expect(curve.current == 2)
    }

    @Test func theBoundsOfTheFileHoldAtOnce() {
        var curve = Curve()
        curve.run(20) { _ in 350 }
        #expect(curve.current == 4)
        curve.rules.min = 6
        curve.run(1) { _ in 350 }
        #expect(curve.current == 6)
        curve.rules.min = 1
        curve.rules.max = 3
        curve.run(1) { _ in 350 }
        #expect(curve.current == 3)
    }

    @Test func absurdLoadsDoNotTrap() {
        let rules = ScalingRules(min: 1, max: 4096, share: .sessions(1))
        #expect(rules.needed(for: .infinity) == Limits.serversMax)
        #expect(rules.needed(for: 1e300) == Limits.serversMax && rules.needed(for: 0) == 0)
        #expect(rules.needed(for: .nan) == Limits.serversMax)
    }
}
