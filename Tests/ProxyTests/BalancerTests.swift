// BalancerTests: the balancer, the retry budget, the timer wheel and the slab as plain values.

import Testing

@testable import Proxy

@Suite("Balancer") struct BalancerTests {
    private func make(_ weights: [Int], _ balance: Balance = .roundRobin) -> Balancer {
        var balancer = Balancer(balance)
        balancer.update(weights.enumerated().map { (slot: $0 + 10, weight: $1, inFlight: 0) })
        return balancer
    }

    private func choices(_ balancer: inout Balancer, _ count: Int) -> String {
        (0..<count).map { _ in
            balancer.choose(nowMs: 0, tried: TriedServers()).map { ["a", "b", "c", "d"][$0 - 10] } ?? "-"
        }.joined()
    }

    @Test("weights 5, 1, 1 are spread as in nginx's description of smooth round robin") func smooth() {
        var balancer = make([5, 1, 1])
        let round = choices(&balancer, 7)
        #expect(round.filter { $0 == "a" }.count == 5)
        #expect(!(round + round).contains("aaaaa"))
        #expect(choices(&balancer, 7) == round)
    }

    @Test(
        "every window of the total weight has every server's share", arguments: [[1, 2, 3, 4], [256, 1], [7, 7, 1]])
    func shares(weights: [Int]) {
        var balancer = make(weights)
        let total = weights.reduce(0, +)
        for _ in 0..<3 {
            let round = choices(&balancer, total)
            for (index, weight) in weights.enumerated() {
                let name = Character(["a", "b", "c", "d"][index])
                #expect(round.filter { $0 == name }.count == weight)
            }
        }
    }

    @Test("equal weights take turns, and nobody is left out when the set changes") func turns() {
        var balancer = make([1, 1, 1])
        #expect(Set(choices(&balancer, 3)).count == 3)
        balancer.update([(slot: 10, weight: 1, inFlight: 0), (slot: 12, weight: 1, inFlight: 0)])
        #expect(Set(choices(&balancer, 2)) == ["a", "c"])
        balancer.update([])
        #expect(choices(&balancer, 1) == "-")
    }

    @Test("least connections, in proportion to weight, equals in turn") func leastConnections() {
        var even = make([1, 1, 1], .leastConnections)
        #expect(Set(choices(&even, 3)).count == 3)
        var balancer = make([2, 1], .leastConnections)
        var inFlight = [10: 0, 11: 0]
        for _ in 0..<9 {
            let slot = balancer.choose(nowMs: 0, tried: TriedServers()) ?? 0
            inFlight[slot, default: 0] += 1
            balancer.count(slot, 1)
        }
        #expect(inFlight == [10: 6, 11: 3])
        balancer.count(11, -3)
        #expect(choices(&balancer, 1) == "b")
    }

    @Test("a tried server isn't chosen again; when all were, none is") func tried() {
        for balance in [Balance.roundRobin, .leastConnections] {
            var balancer = make([1, 1, 1], balance)
            var tried = TriedServers()
            var seen: Set<Int> = []
            for _ in 0..<3 {
                let slot = balancer.choose(nowMs: 0, tried: tried) ?? 0
                tried.insert(Int32(slot))
                seen.insert(slot)
            }
            #expect(seen == [10, 11, 12])
            #expect(balancer.choose(nowMs: 0, tried: tried) == nil)
        }
    }

    @Test("a failed server is avoided while others are left, longer each time, until it connects") func avoidance() {
        var balancer = make([1, 1])
        for _ in 0..<9 { balancer.failed(10, nowMs: 1_000) }
        for _ in 0..<4 { #expect(balancer.choose(nowMs: 1_249, tried: TriedServers()) == 11) }
        #expect(Set((0..<2).map { _ in balancer.choose(nowMs: 1_250, tried: TriedServers()) }) == [10, 11])
        balancer.failed(10, nowMs: 1_300)
        for _ in 0..<4 { #expect(balancer.choose(nowMs: 1_799, tried: TriedServers()) == 11) }
        var tried = TriedServers()
        tried.insert(11)
        #expect(balancer.choose(nowMs: 1_799, tried: tried) == 10)
        balancer.failed(11, nowMs: 1_799)
        #expect(balancer.choose(nowMs: 1_799, tried: TriedServers()) != nil)
        balancer.connected(10)
        for _ in 0..<4 { #expect(balancer.choose(nowMs: 1_800, tried: TriedServers()) == 10) }
    }

    @Test("the budget: some to begin with, a fifth per request, three per second") func budget() {
        func spend(_ budget: inout RetryBudget, _ nowMs: UInt64) -> Int {
            var count = 0
            while budget.take(nowMs: nowMs) { count += 1 }
            return count
        }
        var budget = RetryBudget(nowMs: 1_000)
        #expect(spend(&budget, 1_000) == 30)
        for _ in 0..<100 { budget.request() }
        #expect(spend(&budget, 1_000) == 20)
        #expect(spend(&budget, 2_000) == 3)
        for _ in 0..<1_000_000 { budget.request() }
        #expect(spend(&budget, 2_000) == 1_000)
        // A clock that stands still or is read late takes nothing away.
        #expect(spend(&budget, 1_500) == 0)
    }
}

@Suite("Timer wheel and slab") struct WheelTests {
    private func fired(_ wheel: inout TimerWheel, _ nowMs: UInt64) -> Set<Int> {
        var slots: Set<Int> = []
        while let slot = wheel.next(nowMs: nowMs) { slots.insert(slot) }
        return slots
    }

    @Test("fires at the deadline, at most a tick late, never early, once") func precision() {
        var wheel = TimerWheel(nowMs: 100_000)
        for slot in 0..<100 { wheel.set(slot, deadlineMs: 100_000 + UInt64(slot) * 37) }
        var at: [Int: UInt64] = [:]
        for now in stride(from: UInt64(100_000), to: 104_000, by: 1) {
            for slot in fired(&wheel, now) {
                #expect(at[slot] == nil)
                at[slot] = now
            }
        }
        for slot in 0..<100 {
            let late = Int(at[slot] ?? 0) - 100_000 - slot * 37
            #expect((0...Int(TimerWheel.tickMs)).contains(late))
        }
        #expect(wheel.waitMs(nowMs: 104_000) == nil)
    }

    @Test("a deadline moved later, earlier, beyond the horizon, or taken away") func moving() {
        var wheel = TimerWheel(nowMs: 50_000)
        wheel.set(1, deadlineMs: 50_100)
        wheel.set(1, deadlineMs: 51_000)
        wheel.set(2, deadlineMs: 60_000)
        wheel.set(2, deadlineMs: 50_200)
        wheel.set(3, deadlineMs: 3_650_000)
        wheel.set(4, deadlineMs: 50_300)
        wheel.clear(4)
        #expect(fired(&wheel, 50_150) == [])
        #expect(fired(&wheel, 50_208) == [2])
        #expect(fired(&wheel, 50_900) == [])
        #expect(fired(&wheel, 51_008) == [1])
        // A far deadline is met although the wheel turns many times, also when nobody looks for long.
        for now in stride(from: UInt64(52_000), to: 3_649_000, by: 7_000) { #expect(fired(&wheel, now) == []) }
        #expect(fired(&wheel, 3_650_008) == [3])
    }

    @Test("the wait is never longer than to the next deadline") func waiting() {
        var wheel = TimerWheel(nowMs: 1_000)
        #expect(wheel.waitMs(nowMs: 1_000) == nil)
        wheel.set(0, deadlineMs: 21_000)
        #expect(fired(&wheel, 2_000) == [])
        // Set after the wheel looked ahead to a later one.
        wheel.set(1, deadlineMs: 2_500)
        let wait = wheel.waitMs(nowMs: 2_000) ?? .max
        #expect(wait >= 490 && wait <= 508)
        #expect(fired(&wheel, 2_504) == [1])
    }

    @Test("a random life of timers fires each at its time (seeded)", arguments: [UInt64(1), 2, 3]) func random(
        seed: UInt64
    ) {
        var state = seed
        func next(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        var now: UInt64 = 10_000
        var wheel = TimerWheel(nowMs: now)
        var deadlines: [Int: UInt64] = [:]
        for _ in 0..<20_000 {
            let slot = Int(next(50))
            switch next(4) {
            case 0, 1:
                let deadline = now + next(next(10) == 0 ? 100_000 : 500)
                wheel.set(slot, deadlineMs: deadline)
                deadlines[slot] = deadline
            case 2:
                wheel.clear(slot)
                deadlines[slot] = nil
            default:
                now += next(200)
                for slot in fired(&wheel, now) {
                    let deadline = deadlines.removeValue(forKey: slot)
                    #expect(deadline != nil && deadline ?? .max <= now)
                }
                for (_, deadline) in deadlines where deadline + TimerWheel.tickMs < now {
                    Issue.record("seed \(seed): a deadline at \(deadline) was missed at \(now)")
                }
            }
        }
    }

    @Test("a slot's generation tells its element from the one before") func generations() {
        var slab = Slab<Int>(capacity: 2)
        let first = slab.insert(1)
        let second = slab.insert(2)
        let generation = slab.generation(first)
        #expect(slab.isFull && slab[first] == 1 && slab[second] == 2)
        slab.remove(first)
        #expect(!slab.isCurrent(first, generation) && !slab.isTaken(first) && slab.isTaken(second))
        #expect(slab.insert(3) == first)
        #expect(!slab.isCurrent(first, generation) && slab[first] == 3 && slab.count == 2)
    }

    @Test("an idle client costs at most 512 bytes beside the kernel's") func idleCost() {
        // The slab adds two numbers, the wheel an entry of 24 bytes.
        #expect(MemoryLayout<Session>.stride + 8 + 24 <= 512, "\(MemoryLayout<Session>.stride)")
    }
}
