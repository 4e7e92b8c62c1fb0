// Balancer+Choices: the choices that need no order of the servers: random, hash, first; and backups in reserve.
//
// random is the power of two choices (Mitzenmacher, 2001): nearly as even as leastConnections, and many nodes that don't
// know of each other's requests don't all go for the same server.
// hash has bounded loads (Mirrokni, Thorup & Zadimoghaddam, 2018): a key whose server is full goes to the next one on the
// ring, and comes back when there is room.

extension Balancer {
    // MARK: random

    /// The better of two that are drawn by share.
    mutating func drawTwo(_ closed: Closed) -> Int? {
        if areSumsStale { sumShares() }
        let total = sums.last ?? 0
        guard total > 0 else { return nil }
        // A few times, then the best of all: most may be closed.
        for _ in 0..<4 {
            let one = drawn(below(total))
            let share = Int64(candidates[one].share)
            var other = one
            if total > share {
                // Past the first one's own part.
                var ticket = below(total - share)
                if ticket >= sums[one] - share { ticket += share }
                other = drawn(ticket)
            }
            let isOpen = isOpen(one, closed)
            if self.isOpen(other, closed) {
                return isOpen && !isLessLoaded(other, than: one) ? one : other
            }
            if isOpen { return one }
        }
        return leastLoaded(closed, inUse: true)
    }

    private mutating func sumShares() {
        areSumsStale = false
        sums.removeAll(keepingCapacity: true)
        var sum: Int64 = 0
        for index in candidates.indices {
            if isInUse(index) { sum += Int64(candidates[index].share) }
            sums.append(sum)
        }
    }

    /// The candidate whose part a ticket is in: the first whose sum is above it.
    private func drawn(_ ticket: Int64) -> Int {
        var (low, high) = (0, sums.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if sums[middle] > ticket { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// 0 ..< `bound`, by SplitMix64.
    private mutating func below(_ bound: Int64) -> Int64 {
        let drawn = StableHash.mix(generator)
        generator &+= StableHash.step
        return Int64(drawn.multipliedFullWidth(by: UInt64(bound)).high)
    }

    // MARK: hash

    /// A server's requests in flight may be 5/4 of its share of them all.
    static let boundFactor = (numerator: 5, denominator: 4)
    /// Until it has so many from one worker the bound doesn't count: a key stays where it is under little load.
    static let boundFloor = 16

    /// The server on the ring at or behind the key that is open and has room.
    func ownerOf(_ key: UInt64, _ closed: Closed) -> Int? {
        guard ring.count > 0 else { return nil }
        var place = ring.place(of: key)
        var open: Int?
        for _ in 0..<ring.count {
            if let index = index(of: Int(ring.slot(place))), isOpen(index, closed) {
                if hasRoom(index) { return index }
                if open == nil { open = index }
            }
            place += 1
            if place == ring.count { place = 0 }
        }
        return open
    }

    private func hasRoom(_ index: Int) -> Bool {
        let candidate = candidates[index]
        // In slow start the floor grows as the weight does.
        let floor = Self.boundFloor * Int(candidate.share)
        if Int(candidate.inFlight) * Int(candidate.weight) * 100 < floor { return true }
        return Int(candidate.inFlight) * Self.boundFactor.denominator * shareSum
            < (inFlightSum + 1) * Self.boundFactor.numerator * Int(candidate.share)
    }

    // MARK: first, and the rest

    func firstInOrder(_ closed: Closed) -> Int? {
        for index in candidates.indices where isInUse(index) && isOpen(index, closed) {
            return index
        }
        return nil
    }

    /// For a request that failed everywhere else.
    func reserve(_ closed: Closed) -> Int? {
        leastLoaded(closed, inUse: false)
    }

    private func leastLoaded(_ closed: Closed, inUse: Bool) -> Int? {
        var best: Int?
        for index in candidates.indices
        where isInUse(index) == inUse && isOpen(index, closed) {
            if let found = best, !isLessLoaded(index, than: found) { continue }
            best = index
        }
        return best
    }
}
