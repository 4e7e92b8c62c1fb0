// Balancer+Heap: the order in which servers are next, for roundRobin, leastConnections and hash without a key.
//
// Virtual time: a server with a weight of 1 has a turn every `round`, one with a weight of w has w of them (weighted fair
// queuing: Demers, Keshav & Shenker, 1989; here each request is as long as any other). A binary heap has the next server
// at its root. Those that can't be chosen now stay where they are: a search goes past them, no deeper than there are such.

extension Balancer {
    /// In virtual time, for a share of 1.
    static let round: Int64 = 1 << 40
    /// Then time begins anew.
    private static let timeMax: Int64 = 1 << 61

    private var hasHeap: Bool { balance != .random && balance != .first }

    @inline(__always) private func precedes(_ left: Int, _ right: Int) -> Bool {
        if balance == .leastConnections {
            if isLessLoaded(left, than: right) { return true }
            if isLessLoaded(right, than: left) { return false }
        }
        let (one, other) = (candidates[left].turn, candidates[right].turn)
        return one == other ? left < right : one < other
    }

    mutating func rebuildHeap() {
        guard hasHeap else { return }
        heap.removeAll(keepingCapacity: true)
        for index in candidates.indices {
            candidates[index].place = -1
            guard isInUse(index) else { continue }
            candidates[index].place = Int32(heap.count)
            heap.append(Int32(index))
        }
        for place in (0..<heap.count / 2).reversed() { siftDown(place) }
    }

    /// The next one that is open, which then has had its turn.
    mutating func takeTurn(_ closed: Closed) -> Int? {
        guard !heap.isEmpty else { return nil }
        var best = -1
        search(0, closed, &best)
        guard best >= 0 else { return nil }
        // One that wasn't open for a while gets no turns for that time.
        let now = max(candidates[best].turn, virtualTime + 1)
        virtualTime = now
        candidates[best].turn = now + Self.round / Int64(candidates[best].share)
        siftDown(Int(candidates[best].place))
        if now > Self.timeMax { rewind() }
        return best
    }

    private func search(_ place: Int, _ closed: Closed, _ best: inout Int) {
        let index = Int(heap[place])
        if best >= 0, !precedes(index, best) { return }
        if isOpen(index, closed) {
            best = index
            return
        }
        let child = 2 * place + 1
        if child < heap.count { search(child, closed, &best) }
        if child + 1 < heap.count { search(child + 1, closed, &best) }
    }

    private mutating func rewind() {
        for index in candidates.indices { candidates[index].turn = max(candidates[index].turn - virtualTime, 0) }
        virtualTime = 0
        rebuildHeap()
    }

    /// Its place follows what changed of it.
    mutating func reorder(_ index: Int) {
        let place = Int(candidates[index].place)
        guard place >= 0 else { return }
        if place > 0, precedes(index, Int(heap[(place - 1) / 2])) { siftUp(place) } else { siftDown(place) }
    }

    private mutating func siftUp(_ start: Int) {
        let moving = heap[start]
        var place = start
        while place > 0 {
            let parent = (place - 1) / 2
            guard precedes(Int(moving), Int(heap[parent])) else { break }
            put(heap[parent], at: place)
            place = parent
        }
        put(moving, at: place)
    }

    private mutating func siftDown(_ start: Int) {
        let moving = heap[start]
        var place = start
        while true {
            var child = 2 * place + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, precedes(Int(heap[child + 1]), Int(heap[child])) { child += 1 }
            guard precedes(Int(heap[child]), Int(moving)) else { break }
            put(heap[child], at: place)
            place = child
        }
        put(moving, at: place)
    }

    @inline(__always) private mutating func put(_ index: Int32, at place: Int) {
        heap[place] = index
        candidates[Int(index)].place = Int32(place)
    }
}
