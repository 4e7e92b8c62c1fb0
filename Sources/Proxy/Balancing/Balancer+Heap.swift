// Balancer+Heap: the order in which servers are next, for roundRobin, leastConnections and hash without a key.
//
// Virtual time: a server with a weight of 1 has a turn every `round`, one with a weight of w has w of them (weighted fair
// queuing: Demers, Keshav & Shenker, 1989; here each request is as long as any other). A heap has the next server
// at its root. Those that can't be chosen now stay where they are: a search goes past them, no deeper than there are such.
//
// With many servers a choice costs what it has to fetch from memory. So an entry holds what the order goes by, and each
// has four below it, in one cache line or two: a thousand servers are five levels in 16 KiB.

extension Balancer {
    /// A server in the heap.
    struct Turn: BitwiseCopyable {
        /// Its next turn in virtual time.
        var turn: Int64
        /// Of the candidate, and the candidate's share.
        let index: Int32
        let share: Int32
    }

    /// In virtual time, for a share of 1.
    static let round: Int64 = 1 << 40
    /// Then time begins anew.
    private static let timeMax: Int64 = 1 << 61
    /// Entries below each one.
    private static let width = 4

    private var hasHeap: Bool { balance != .random && balance != .first }

    @inline(__always) private func precedes(_ left: Turn, _ right: Turn) -> Bool {
        if balance == .leastConnections {
            let leftLoad = Int(candidates[Int(left.index)].inFlight) * Int(right.share)
            let rightLoad = Int(candidates[Int(right.index)].inFlight) * Int(left.share)
            if leftLoad != rightLoad { return leftLoad < rightLoad }
        }
        return left.turn == right.turn ? left.index < right.index : left.turn < right.turn
    }

    /// Makes the heap of the candidates as they are.
    mutating func rebuildHeap() {
        guard hasHeap else { return }
        heap.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
        for index in candidates.indices {
            places.append(isInUse(index) ? Int32(heap.count) : -1)
            guard isInUse(index) else { continue }
            heap.append(Turn(turn: candidates[index].turn, index: Int32(index), share: candidates[index].share))
        }
        for place in (0..<(heap.count + Self.width - 2) / Self.width).reversed() { siftDown(heap[place], from: place) }
    }

    /// Candidates learn their turns, which only the heap knows while it is in use: before something is made of them.
    mutating func collectTurns() {
        for entry in heap { candidates[Int(entry.index)].turn = entry.turn }
    }

    /// The next one that is open, which then has had its turn.
    mutating func takeTurn(_ closed: Closed) -> Int? {
        guard !heap.isEmpty else { return nil }
        var best = -1
        search(0, closed, &best)
        guard best >= 0 else { return nil }
        var entry = heap[best]
        // One that wasn't open for a while gets no turns for that time.
        let now = max(entry.turn, virtualTime + 1)
        virtualTime = now
        entry.turn = now + Self.round / Int64(entry.share)
        siftDown(entry, from: best)
        if now > Self.timeMax { rewind() }
        return Int(entry.index)
    }

    /// Looks below a place, itself included, for one that is open and before `best`, both by their place in the heap.
    private func search(_ place: Int, _ closed: Closed, _ best: inout Int) {
        if best >= 0, !precedes(heap[place], heap[best]) { return }
        if isOpen(Int(heap[place].index), closed) {
            best = place
            return
        }
        let first = Self.width * place + 1
        for child in first..<max(min(first + Self.width, heap.count), first) { search(child, closed, &best) }
    }

    private mutating func rewind() {
        collectTurns()
        for index in candidates.indices { candidates[index].turn = max(candidates[index].turn - virtualTime, 0) }
        virtualTime = 0
        rebuildHeap()
    }

    /// Its place follows what changed of its load.
    mutating func reorder(_ index: Int) {
        let place = Int(places[index])
        if place >= 0 { move(heap[place], from: place) }
    }

    /// Where a candidate is in the heap; nil when it isn't there.
    func placeInHeap(_ index: Int) -> Int? {
        if balance == .leastConnections { return places[index] < 0 ? nil : Int(places[index]) }
        return heap.firstIndex { $0.index == index }
    }

    /// Puts a candidate as it is now where it was before.
    mutating func replace(at place: Int, by index: Int) {
        let candidate = candidates[index]
        move(Turn(turn: candidate.turn, index: Int32(index), share: candidate.share), from: place)
    }

    private mutating func move(_ entry: Turn, from place: Int) {
        if place > 0, precedes(entry, heap[(place - 1) / Self.width]) {
            siftUp(entry, from: place)
        } else {
            siftDown(entry, from: place)
        }
    }

    private mutating func siftUp(_ entry: Turn, from start: Int) {
        var place = start
        while place > 0 {
            let parent = (place - 1) / Self.width
            guard precedes(entry, heap[parent]) else { break }
            put(heap[parent], at: place)
            place = parent
        }
        put(entry, at: place)
    }

    private mutating func siftDown(_ entry: Turn, from start: Int) {
        var place = start
        while true {
            let first = Self.width * place + 1
            guard first < heap.count else { break }
            var child = first
            for other in first + 1..<max(min(first + Self.width, heap.count), first + 1)
            where precedes(heap[other], heap[child]) {
                child = other
            }
            guard precedes(heap[child], entry) else { break }
            put(heap[child], at: place)
            place = child
        }
        put(entry, at: place)
    }

    @inline(__always) private mutating func put(_ entry: Turn, at place: Int) {
        heap[place] = entry
        // Only a load that changes moves a server from where it is.
        if balance == .leastConnections { places[Int(entry.index)] = Int32(place) }
    }
}
