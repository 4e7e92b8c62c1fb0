// BalancerTests: the balancer, the retry budget, the timer wheel and the slab as plain values.

import Testing

@testable import Proxy

extension Balancer {
    /// Servers in slots from 10 on, as the tables have them.
    mutating func use(_ servers: [Server], nowMs: UInt64 = 0, wallMs: Int64 = 0) {
        update(ContiguousArray(servers), nowMs: nowMs, wallMs: wallMs)
    }

    mutating func next(_ count: Int, nowMs: UInt64 = 0) -> [Int: Int] {
        var found: [Int: Int] = [:]
        for _ in 0..<count { found[choose(nowMs: nowMs, tried: TriedServers()) ?? -1, default: 0] += 1 }
        return found
    }
}

@Suite("Balancer") struct BalancerTests {
    private func make(_ weights: [Int], _ balance: Balance = .roundRobin) -> Balancer {
        var balancer = Balancer(balance)
        balancer.use(weights.enumerated().map { Balancer.Server(slot: $0 + 10, key: UInt64($0 + 1), weight: $1) })
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

    @Test("the preferred server gets it while it can be chosen, and takes nobody's turn") func preferred() {
        for balance in [Balance.roundRobin, .leastConnections, .random, .hash, .first] {
            var balancer = make([1, 1, 1], balance)
            func choose(_ tried: TriedServers = TriedServers(), nowMs: UInt64 = 0) -> Int? {
                balancer.choose(nowMs: nowMs, tried: tried, preferred: 11)
            }
            for _ in 0..<5 { #expect(choose() == 11) }
            if balance == .roundRobin { #expect(balancer.next(3).count == 3) }
            var tried = TriedServers()
            tried.insert(11)
            #expect(choose(tried) != 11)
            // It failed just now: not while there are others.
            balancer.failed(11, nowMs: 0)
            #expect(choose(nowMs: 100) != 11 && balancer.serves(11))
            #expect(choose(nowMs: 260) == 11)
            for slot in 10...12 { balancer.failed(slot, nowMs: 300) }
            #expect(choose(nowMs: 301) == 11)
            balancer.use([.init(slot: 11, key: 2, isBackup: true), .init(slot: 12, key: 3)])
            #expect(choose() == 12 && !balancer.serves(11))
            balancer.use([.init(slot: 11, key: 2, weight: 0), .init(slot: 12, key: 3)])
            #expect(choose() == 12 && !balancer.serves(11))
            balancer.use([])
            #expect(choose() == nil && !balancer.serves(11) && !balancer.serves(5_000))
        }
    }

    @Test("equal weights take turns, and nobody is left out when the set changes") func turns() {
        var balancer = make([1, 1, 1])
        #expect(Set(choices(&balancer, 3)).count == 3)
        balancer.use([.init(slot: 10, key: 1), .init(slot: 12, key: 3)])
        #expect(Set(choices(&balancer, 2)) == ["a", "c"])
        balancer.use([])
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
        for balance in [Balance.roundRobin, .leastConnections, .random, .hash, .first] {
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

    @Test("backups get requests only when no other server is usable, or for requests that failed on all") func backups()
    {
        for balance in [Balance.roundRobin, .leastConnections, .random, .hash, .first] {
            var balancer = Balancer(balance)
            var servers = (10..<14).map { Balancer.Server(slot: $0, key: UInt64($0), isBackup: $0 >= 12) }
            balancer.use(servers)
            #expect(balancer.next(100).keys.allSatisfy { $0 == 10 || $0 == 11 }, "\(balance)")
            var tried = TriedServers()
            tried.insert(10)
            tried.insert(11)
            let spare = balancer.choose(nowMs: 0, tried: tried, key: 7) ?? 0
            #expect(spare >= 12)
            tried.insert(Int32(spare))
            #expect(balancer.choose(nowMs: 0, tried: tried, key: 7) == 25 - spare)
            servers[0].isUsable = false
            servers[1].weight = 0
            balancer.use(servers)
            let found = balancer.next(100)
            #expect(found[12, default: 0] + found[13, default: 0] == 100)
            #expect(balance == .first || found.count == 2)
            servers[0].isUsable = true
            balancer.use(servers)
            #expect(balancer.next(100) == [10: 100])
        }
    }

    @Test("first takes the first that is open") func first() {
        var balancer = make([1, 256, 1], .first)
        #expect(choices(&balancer, 3) == "aaa")
        balancer.failed(10, nowMs: 0)
        #expect(choices(&balancer, 3) == "bbb")
        balancer.use([.init(slot: 12, key: 3), .init(slot: 10, key: 1)], nowMs: 0)
        #expect(choices(&balancer, 3) == "ccc")
    }

    @Test("random draws by weight when nobody is busy, and leaves the busy alone") func random() {
        var idle = make([6, 3, 1], .random)
        let found = idle.next(10_000)
        // Two draws without putting back, the first of equals: the first one's distribution.
        #expect(abs(found[10, default: 0] - 6_000) < 300 && abs(found[12, default: 0] - 1_000) < 200, "\(found)")
        var busy = Balancer(.random, seed: 7)
        busy.use((0..<1_000).map { Balancer.Server(slot: $0, key: UInt64($0)) })
        for _ in 0..<20_000 { busy.count(busy.choose(nowMs: 0, tried: TriedServers()) ?? 0, 1) }
        // With one choice the fullest of 1,000 would have about 35; with two it is within a few of the mean.
        #expect(busy.candidates.map(\.inFlight).max() ?? 99 <= 24)
    }

    @Test("servers that stay keep their standing when others come, go or change") func standing() {
        var balancer = make([3, 1, 1, 1])
        balancer.failed(11, nowMs: 5)
        _ = balancer.next(17, nowMs: 5)
        var counts: [Int: Int] = [:]
        // Were the order begun anew with each table, the first would get everything.
        for round in 0..<600 {
            balancer.use(
                [3, 1, 1, 1].enumerated().map { Balancer.Server(slot: $0 + 10, key: UInt64($0 + 1), weight: $1) }
                    + [Balancer.Server(slot: 20, key: 20, weight: 1 + round % 5)], nowMs: 5)
            counts[balancer.choose(nowMs: 5, tried: TriedServers()) ?? -1, default: 0] += 1
        }
        #expect(counts[11] == nil, "it is still avoided")
        // Of 600: 3 and 1 and 1 and about 3 parts.
        #expect(abs(counts[10, default: 0] - 225) < 40 && abs(counts[12, default: 0] - 75) < 20, "\(counts)")
        balancer.connected(11)
        #expect(balancer.next(6, nowMs: 5)[11] != nil)
    }

    @Test("1,000 servers: shares to the request by weight, and evenly by load") func thousand() {
        let weights = (0..<1_000).map { 1 + $0 % 5 }
        var balancer = Balancer(.roundRobin)
        balancer.use(weights.enumerated().map { Balancer.Server(slot: $0, key: UInt64($0), weight: $1) })
        for _ in 0..<2 {
            let found = balancer.next(weights.reduce(0, +))
            for (slot, weight) in weights.enumerated() { #expect(found[slot] == weight) }
        }
        var least = Balancer(.leastConnections)
        least.use(weights.enumerated().map { Balancer.Server(slot: $0, key: UInt64($0), weight: $1) })
        for _ in 0..<12_000 { least.count(least.choose(nowMs: 0, tried: TriedServers()) ?? 0, 1) }
        for (slot, weight) in weights.enumerated() { #expect(least.candidates[slot].inFlight == 4 * Int32(weight)) }
        // All but one are busy, then that one is.
        least.count(777, -Int32(4 * weights[777]))
        #expect(least.choose(nowMs: 0, tried: TriedServers()) == 777)
    }

    @Test("the heap agrees with a search through all, whatever happens (seeded)", arguments: [UInt64(1), 2, 3])
    func heapIsRight(seed: UInt64) {
        var state = seed
        func draw(_ bound: Int) -> Int {
            state &+= StableHash.step
            return Int(StableHash.mix(state) % UInt64(bound))
        }
        var balancer = Balancer(.leastConnections)
        var servers = (0..<40).map { Balancer.Server(slot: $0, key: UInt64($0), weight: 1 + draw(5)) }
        var now: UInt64 = 1
        balancer.use(servers)
        for _ in 0..<5_000 {
            now += UInt64(draw(20))
            switch draw(10) {
            case 0:
                let index = draw(40)
                servers[index].isUsable.toggle()
                servers[draw(40)].weight = draw(4)
                for (slot, _) in servers.enumerated() {
                    let known = balancer.index(of: slot)
                    servers[slot].inFlight = known.map { balancer.candidates[$0].inFlight } ?? 0
                }
                balancer.use(servers, nowMs: now)
            case 1: balancer.failed(draw(40), nowMs: now)
            case 2: balancer.connected(draw(40))
            case 3, 4:
                let slot = draw(40)
                if let index = balancer.index(of: slot), balancer.candidates[index].inFlight > 0 {
                    balancer.count(slot, -1)
                }
            default:
                var tried = TriedServers()
                for _ in 0..<draw(4) { tried.insert(Int32(draw(40))) }
                let chosen = balancer.choose(nowMs: now, tried: tried)
                let all = balancer.candidates.filter { !tried.contains($0.slot) }
                let open = all.filter { $0.avoidUntilMs == 0 }
                let least = (open.isEmpty ? all : open).map { Double($0.inFlight) / Double($0.share) }.min()
                let found = chosen.flatMap { balancer.index(of: $0) }.map { balancer.candidates[$0] }
                #expect(found.map { Double($0.inFlight) / Double($0.share) } == least, "seed \(seed)")
                if let chosen { balancer.count(chosen, 1) }
            }
        }
    }

    @Test("virtual time begins anew without a server losing its place") func rewind() {
        var balancer = make([1, 2, 1])
        _ = balancer.next(5)
        balancer.virtualTime += 1 << 61
        for place in balancer.heap.indices { balancer.heap[place].turn += 1 << 61 }
        for _ in 0..<3 { #expect(balancer.next(4) == [10: 1, 11: 2, 12: 1]) }
        #expect(balancer.virtualTime < 1 << 50)
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
