// DeadlineQueue: numbers in the order of their deadlines. Pure.
//
// A binary heap that knows where each number stands, so that a deadline moves in as many steps as the queue has doublings.
// The timer wheel of the workers isn't for checks: it is coarse, and it wakes its owner early now and then.

struct DeadlineQueue {
    private struct Entry {
        var deadlineNs: UInt64
        var number: Int32
    }

    private var heap: ContiguousArray<Entry> = []
    /// By number; -1: not in the queue.
    private var places: ContiguousArray<Int32> = []

    var count: Int { heap.count }

    /// The number that is due first, and when.
    var first: (deadlineNs: UInt64, number: Int)? { heap.first.map { ($0.deadlineNs, Int($0.number)) } }

    /// Puts a number into the queue, or moves it.
    mutating func set(_ number: Int, deadlineNs: UInt64) {
        while places.count <= number { places.append(-1) }
        let entry = Entry(deadlineNs: deadlineNs, number: Int32(number))
        let place = Int(places[number])
        if place >= 0 { return move(entry, at: place) }
        heap.append(entry)
        siftUp(entry, from: heap.count - 1)
    }

    /// Takes a number out, if it is there.
    mutating func remove(_ number: Int) {
        guard number < places.count, places[number] >= 0, let last = heap.popLast() else { return }
        let place = Int(places[number])
        places[number] = -1
        if place < heap.count { move(last, at: place) }
    }

    mutating func removeAll() {
        heap.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
    }

    /// Puts an entry where it belongs, as seen from a place that is free for it.
    private mutating func move(_ entry: Entry, at place: Int) {
        if place > 0, entry.deadlineNs < heap[(place - 1) / 2].deadlineNs {
            siftUp(entry, from: place)
        } else {
            siftDown(entry, from: place)
        }
    }

    private mutating func siftUp(_ entry: Entry, from start: Int) {
        var place = start
        while place > 0, entry.deadlineNs < heap[(place - 1) / 2].deadlineNs {
            put(heap[(place - 1) / 2], at: place)
            place = (place - 1) / 2
        }
        put(entry, at: place)
    }

    private mutating func siftDown(_ entry: Entry, from start: Int) {
        var place = start
        while true {
            var child = 2 * place + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].deadlineNs < heap[child].deadlineNs { child += 1 }
            guard heap[child].deadlineNs < entry.deadlineNs else { break }
            put(heap[child], at: place)
            place = child
        }
        put(entry, at: place)
    }

    private mutating func put(_ entry: Entry, at place: Int) {
        heap[place] = entry
        places[Int(entry.number)] = Int32(place)
    }
}
