// HashRing: which server a key belongs to, the same on every node (consistent hashing: Karger et al., 1997). Pure.
//
// Each server has points on a ring in proportion to its weight; a key belongs to the server of the first point at or
// behind it. Points come from the server's id alone, so the order in which a node learned the servers makes no difference.
// Servers that can't be used keep their points, and whoever walks on from a key passes over them: so only a change of the
// set or of a weight makes the ring anew, and one that comes back finds its keys.

struct HashRing {
    struct Member: BitwiseCopyable, Equatable {
        let slot: Int32
        /// The hash of its id.
        let key: UInt64
        /// At least 1.
        let weight: Int32
    }

    /// Points of a weight of 1, as long as the weights' sum allows it: beyond 256 the points are shared out, and a change
    /// of one weight moves a few keys between the others, too.
    static let pointsPerWeight = 256
    static let pointsMax = 65_536

    private var members: ContiguousArray<Member> = []
    /// In order: the place on the ring in the upper bits, the server's slot in the lower ones.
    private var points: ContiguousArray<UInt64> = []
    /// Where the points begin whose upper bits are the index.
    private var starts: ContiguousArray<Int32> = [0, 0]
    private var shift: UInt64 = 63

    private static let slotMask: UInt64 = 0xfff

    var count: Int { points.count }

    /// The slot of the point at a place, 0 ..< `count`.
    @inline(__always) func slot(_ place: Int) -> Int32 { Int32(points[place] & Self.slotMask) }

    /// The place of a key's point. Only where `count` is above 0.
    @inline(__always) func place(of key: UInt64) -> Int {
        let wanted = StableHash.mix(key) & ~Self.slotMask
        var place = Int(starts[Int(wanted >> shift)])
        while place < points.count, points[place] < wanted { place += 1 }
        return place == points.count ? 0 : place
    }

    /// Makes the ring anew if the members aren't the same as before.
    mutating func update(_ fresh: ContiguousArray<Member>) {
        precondition(ProxyLimits.serversMax - 1 <= Int(Self.slotMask))
        guard fresh != members else { return }
        members = fresh
        let total = members.reduce(0) { $0 + Int($1.weight) }
        let wanted = min(Self.pointsPerWeight * total, Self.pointsMax)
        var unsorted: ContiguousArray<UInt64> = []
        unsorted.reserveCapacity(wanted + members.count)
        for member in members {
            for number in 0..<max(Int(member.weight) * wanted / total, 1) {
                let hash = StableHash.mix(member.key &+ UInt64(number + 1) &* StableHash.step)
                unsorted.append(hash & ~Self.slotMask | UInt64(member.slot))
            }
        }
        sort(unsorted)
    }

    /// About one point for each value of the upper bits: counted into place, and put in order there.
    private mutating func sort(_ unsorted: ContiguousArray<UInt64>) {
        let bits = max(Int.bitWidth - max(unsorted.count - 1, 1).leadingZeroBitCount, 1)
        shift = UInt64(64 - bits)
        starts = ContiguousArray(repeating: 0, count: 1 << bits + 1)
        for point in unsorted { starts[Int(point >> shift) + 1] += 1 }
        for index in 1..<starts.count { starts[index] += starts[index - 1] }
        var ends = starts
        points = ContiguousArray(repeating: 0, count: unsorted.count)
        for point in unsorted {
            let bucket = Int(point >> shift)
            var place = Int(ends[bucket])
            while place > Int(starts[bucket]), points[place - 1] > point {
                points[place] = points[place - 1]
                place -= 1
            }
            points[place] = point
            ends[bucket] += 1
        }
    }
}
