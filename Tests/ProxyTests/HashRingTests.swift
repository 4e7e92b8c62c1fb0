// HashRingTests: keys and servers: the same choice on every node, few keys that move, no server over its bound.

import Testing

@testable import Proxy

@Suite("Hash") struct HashRingTests {
    private func servers(_ count: Int, weight: (Int) -> Int = { _ in 1 }) -> [Balancer.Server] {
        (0..<count).map {
            Balancer.Server(slot: $0, key: StableHash.of("api/s\($0)".utf8), weight: weight($0))
        }
    }

    private func key(_ number: Int) -> UInt64 { StableHash.of("user-\(number)".utf8) }

    /// Whom each of many keys belongs to, by server id's hash.
    private func owners(_ servers: [Balancer.Server], _ count: Int = 5_000) -> [UInt64] {
        var balancer = Balancer(.hash)
        balancer.use(servers)
        let names = Dictionary(uniqueKeysWithValues: servers.map { ($0.slot, $0.key) })
        return (0..<count).map { number in
            balancer.choose(nowMs: 0, tried: TriedServers(), key: key(number)).flatMap { names[$0] } ?? 0
        }
    }

    @Test("two nodes that learned the servers in different orders choose alike") func agreement() {
        let one = servers(50) { 1 + $0 % 7 }
        var other = Array(one.reversed())
        for index in other.indices { other[index].slot = index + 100 }
        #expect(owners(one) == owners(other))
    }

    @Test("ids hash to the same numbers in every build") func constants() {
        #expect(StableHash.of("api/api_1".utf8) == 0x48be_5aa6_3083_bfdd)
        #expect(StableHash.of([]) != 0)
        var seen: Set<UInt64> = []
        for number in 0..<100_000 { seen.insert(key(number)) }
        #expect(seen.count == 100_000)
    }

    @Test("shares follow weights", arguments: [5, 100, 1_000]) func shares(count: Int) {
        let all = servers(count) { 1 + $0 % 4 }
        let found = Dictionary(grouping: owners(all, 200_000), by: { $0 }).mapValues(\.count)
        let total = all.reduce(0) { $0 + $1.weight }
        let parts = all.map { Double(found[$0.key, default: 0]) / (200_000 * Double($0.weight) / Double(total)) }
        let mean = parts.reduce(0, +) / Double(count)
        let variance = parts.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
        #expect(variance < 0.05, "\(variance)")
        #expect(parts.min() ?? 0 > 0.2 && parts.max() ?? 9 < 2.2, "\(parts.min() ?? 0), \(parts.max() ?? 0)")
    }

    @Test("a server that goes takes only its own keys along, and gets them back", arguments: [5, 200]) func moves(
        count: Int
    ) {
        var all = servers(count)
        let before = owners(all)
        all[3].isUsable = false
        let without = owners(all)
        for (old, new) in zip(before, without) { #expect(old == all[3].key ? new != old : new == old) }
        let removed = owners(all.filter { $0.slot != 3 })
        #expect(removed == without)
        all[3].isUsable = true
        #expect(owners(all) == before)
        all[4].weight = 2
        // It wins keys; nobody else does.
        for (old, new) in zip(before, owners(all)) { #expect(new == old || new == all[4].key) }
    }

    @Test("no server has more than 5/4 of its share in flight, and spilled keys come back") func bound() {
        var balancer = Balancer(.hash)
        balancer.use(servers(10))
        let hot = key(1)
        let owner = balancer.choose(nowMs: 0, tried: TriedServers(), key: hot) ?? -1
        var inFlight = [Int: Int]()
        for _ in 0..<1_000 {
            let slot = balancer.choose(nowMs: 0, tried: TriedServers(), key: hot) ?? -1
            inFlight[slot, default: 0] += 1
            balancer.count(slot, 1)
        }
        #expect(inFlight.values.max() ?? 0 <= 126)
        #expect(inFlight[owner, default: 0] >= 100)
        for (slot, count) in inFlight { balancer.count(slot, Int32(-count)) }
        // A key stays where it is while that is a little load.
        for _ in 0..<Balancer.boundFloor {
            #expect(balancer.choose(nowMs: 0, tried: TriedServers(), key: hot) == owner)
            balancer.count(owner, 1)
        }
        #expect(balancer.choose(nowMs: 0, tried: TriedServers(), key: hot) != owner)
    }

    @Test("without a key it is round robin's turn; a retry goes to the next on the ring, the same on every node")
    func otherwise() {
        var balancer = Balancer(.hash)
        balancer.use(servers(4))
        #expect(balancer.next(8) == [0: 2, 1: 2, 2: 2, 3: 2])
        var chain: [Int] = []
        var tried = TriedServers()
        while let slot = balancer.choose(nowMs: 0, tried: tried, key: key(9)) {
            chain.append(slot)
            tried.insert(Int32(slot))
        }
        #expect(Set(chain) == [0, 1, 2, 3])
        balancer.failed(chain[0], nowMs: 10)
        #expect(balancer.choose(nowMs: 10, tried: TriedServers(), key: key(9)) == chain[1])
        #expect(balancer.choose(nowMs: 260, tried: TriedServers(), key: key(9)) == chain[0])
    }

    @Test("limits: 4,096 servers of the largest weight; none; one") func limits() {
        var ring = HashRing()
        ring.update([])
        #expect(ring.count == 0)
        ring.update([.init(slot: 5, key: 1, weight: 1)])
        #expect(ring.count == 256 && ring.slot(ring.place(of: 99)) == 5)
        ring.update(ContiguousArray((0..<4_096).map { .init(slot: $0, key: UInt64($0), weight: 256) }))
        #expect(ring.count <= HashRing.pointsMax + 4_096 && ring.count > 4_096)
        #expect(Set((0..<200_000).map { ring.slot(ring.place(of: UInt64($0))) }).count == 4_096)
    }

    @Test("cookies are found whatever stands around them") func cookies() {
        func pairs(_ text: String) -> [String] {
            let bytes = Array(text.utf8)
            var found: [String] = []
            var cursor = 0
            while let pair = Cookies.next(bytes.span, &cursor, bytes.count) {
                found.append(
                    String(decoding: bytes[pair.name], as: UTF8.self) + "="
                        + String(decoding: bytes[pair.value], as: UTF8.self))
            }
            return found
        }
        #expect(pairs("a=1; b=\"2\";c = 3 ;; d; =e; f==") == ["a=1", "b=2", "c=3", "d=", "=e", "f=="])
        #expect(pairs("") == [] && pairs(";; ;") == [] && pairs("a=\"") == ["a=\""])
    }
}
