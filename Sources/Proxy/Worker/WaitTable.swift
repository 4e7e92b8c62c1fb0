// WaitTable: sessions that wait for a server's place, in the order in which they came: a list for each backend, linked
// through one table, so that who goes away leaves at once. Pure; one worker's.

/// A backend's waiting sessions.
struct WaitQueue: BitwiseCopyable {
    /// Slots of sessions, -1 when nobody waits.
    fileprivate(set) var first: Int32 = -1
    fileprivate(set) var last: Int32 = -1
    fileprivate(set) var count = 0
}

struct WaitTable {
    private struct Place: BitwiseCopyable {
        var next: Int32 = -1
        var previous: Int32 = -1
        var sinceUs: UInt64 = 0
    }

    /// By session. As many as ever waited at one time, about.
    private var places: ContiguousArray<Place> = []
    /// Sessions that wait, in all queues.
    private(set) var count = 0

    mutating func append(_ slot: Int, to queue: inout WaitQueue, nowUs: UInt64) {
        while places.count <= slot { places.append(Place()) }
        places[slot] = Place(previous: queue.last, sinceUs: nowUs)
        if queue.last >= 0 { places[Int(queue.last)].next = Int32(slot) } else { queue.first = Int32(slot) }
        queue.last = Int32(slot)
        queue.count += 1
        count += 1
    }

    /// - Precondition: the session is in this queue.
    mutating func remove(_ slot: Int, from queue: inout WaitQueue) {
        let place = places[slot]
        if place.previous >= 0 { places[Int(place.previous)].next = place.next } else { queue.first = place.next }
        if place.next >= 0 { places[Int(place.next)].previous = place.previous } else { queue.last = place.previous }
        queue.count -= 1
        count -= 1
    }

    /// Who came after this one; -1 for the last.
    func next(after slot: Int) -> Int { Int(places[slot].next) }

    /// Since when a queue's first waits, in microseconds; 0 when nobody does.
    func since(_ queue: WaitQueue) -> UInt64 { queue.first < 0 ? 0 : places[Int(queue.first)].sinceUs }
}
