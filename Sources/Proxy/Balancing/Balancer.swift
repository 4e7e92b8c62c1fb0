// Balancer: chooses the server for a request. Pure: no clock of its own, no allocation per choice; the generator for
// `random` starts from a seed.
//
//   roundRobin        weighted fair queuing: a server's next turn is 1/weight after its last one, the earliest turn is next.
//                     Over as many choices as the weights' sum each server has exactly its weight, spread evenly
//   leastConnections  the fewest requests in flight per weight; among equals as roundRobin
//   random            two are drawn by weight, the one with fewer requests in flight per weight gets it
//   hash              the key's place on a ring (`HashRing`), with a bound on each server's load; without a key roundRobin
//   first             the first in order
//
// The first two keep a heap of the servers in use (Balancer+Heap), so that a choice takes as many steps as the number of
// servers has bits; the others are in Balancer+Choices. Backups are in use only while no other server is usable; and a
// request that failed on all others may try them.
//
// A server whose connection just failed is avoided for a while, as long as another one is left: so a dead server costs
// a handful of retries a second until the checks agree that it is down, whatever the load.
//
// Slow start: a server that came up has a tenth of its weight at first, and the whole of it when the span is over.

struct Balancer {
    /// What the routing table says of a server.
    struct Server: BitwiseCopyable {
        var slot: Int
        /// The hash of its id.
        var key: UInt64 = 0
        /// 0 ... 256; 0: not to be used.
        var weight = 1
        var isUsable = true
        var isBackup = false
        /// This worker's requests that it has now.
        var inFlight: Int32 = 0
        /// When it came up, milliseconds since 1970; 0: not known.
        var upSinceMs: Int64 = 0

        var isReady: Bool { isUsable && weight > 0 }
    }

    /// A server that may get requests.
    struct Candidate: BitwiseCopyable {
        let slot: Int32
        let isBackup: Bool
        let key: UInt64
        let weight: Int32
        /// Its weight as slow start has it, times 100.
        var share: Int32
        /// Its next turn in virtual time, as of when the heap was made.
        var turn: Int64 = 0
        /// Requests in flight from this worker.
        var inFlight: Int32
        /// Milliseconds; 0 when it isn't avoided.
        var avoidUntilMs: UInt64 = 0
        /// Failed connections in a row.
        var failures: UInt8 = 0
        /// When it came up, and when it has its whole weight; 0 when it has.
        var upSinceMs: Int64
        var rampEndMs: UInt64 = 0
    }

    static let avoidMs: UInt64 = 250
    static let avoidMsMax: UInt64 = 4_000

    let balance: Balance
    /// Servers that can be used, in the table's order.
    var candidates: ContiguousArray<Candidate> = []
    /// Their slots, for themselves: with many servers most candidates aren't in the processor's cache when they are chosen.
    private var slots: ContiguousArray<Int32> = []
    /// Those in use; empty for a balance that has no need of it.
    var heap: ContiguousArray<Turn> = []
    /// By candidate: its place in the heap when that was made, and with `leastConnections` now; -1: it isn't there.
    var places: ContiguousArray<Int32> = []
    /// No other server is usable, so backups are.
    private(set) var usesBackups = false
    /// Whether the last `choose` found a server that had no place left, and none that had.
    private(set) var isFull = false
    private var hasReserve = false
    /// By slot, from `firstSlot` on: where the candidate is; -1: it is none.
    private var indices: ContiguousArray<Int32> = []
    private var firstSlot = 0
    /// The turn of the last choice.
    var virtualTime: Int64 = 0
    var avoided = 0
    /// Until then nobody's avoidance ends, and nobody's weight grows.
    private var dueMs = UInt64.max
    /// 0: servers have their whole weight at once.
    private(set) var slowStartMs: UInt64 = 0

    var ring = HashRing()
    /// Of those in use.
    var inFlightSum = 0
    var shareSum = 0
    /// Of `random`: the sums of the shares up to each candidate; made when they are needed.
    var sums: ContiguousArray<Int64> = []
    var areSumsStale = true
    var generator: UInt64

    init(_ balance: Balance, seed: UInt64 = 0) {
        self.balance = balance
        generator = seed
    }

    // MARK: the table

    /// Servers that come up take this long to get their whole weight; those on their way start anew with the next update.
    mutating func setSlowStart(ms: UInt64) {
        guard ms != slowStartMs else { return }
        slowStartMs = ms
        for index in candidates.indices { candidates[index].upSinceMs = -1 }
    }

    /// Replaces the servers. Those that stay keep their standing. In the same order on every node.
    /// - Parameter wallMs: the time of day, milliseconds since 1970, which tells how long a server has been up.
    mutating func update(_ servers: ContiguousArray<Server>, nowMs: UInt64, wallMs: Int64) {
        collectTurns()
        usesBackups = !servers.contains { $0.isReady && !$0.isBackup }
        var updated: ContiguousArray<Candidate> = []
        updated.reserveCapacity(servers.count)
        for server in servers where server.isReady {
            updated.append(candidate(server, number: updated.count, nowMs: nowMs, wallMs: wallMs))
        }
        candidates = updated
        slots.removeAll(keepingCapacity: true)
        for candidate in candidates { slots.append(candidate.slot) }
        hasReserve = candidates.contains { $0.isBackup != usesBackups }
        indexSlots()
        recount(nowMs)
        rebuildHeap()
        areSumsStale = true
        guard balance == .hash else { return }
        var members: ContiguousArray<HashRing.Member> = []
        members.reserveCapacity(servers.count)
        for server in servers where server.weight > 0 && server.isBackup == usesBackups {
            members.append(
                HashRing.Member(slot: Int32(server.slot), key: server.key, weight: Int32(server.weight)))
        }
        ring.update(members)
    }

    /// Takes over what is new of one server that stays as ready as it was, such as its weight, without a look at the others.
    /// - Returns: false, with nothing changed, when others have to be looked at: then `update` is for it.
    mutating func reweigh(_ server: Server, nowMs: UInt64, wallMs: Int64) -> Bool {
        guard balance != .hash, server.isReady, let index = index(of: server.slot),
            candidates[index].key == server.key, candidates[index].isBackup == server.isBackup
        else { return false }
        let place = placeInHeap(index)
        if let place { candidates[index].turn = heap[place].turn }
        let old = candidates[index]
        candidates[index] = candidate(server, number: index, nowMs: nowMs, wallMs: wallMs)
        candidates[index].inFlight = old.inFlight
        if isInUse(index) { shareSum += Int(candidates[index].share) - Int(old.share) }
        if candidates[index].rampEndMs != 0 { dueMs = min(dueMs, nowMs + rampStepMs) }
        areSumsStale = true
        if let place { replace(at: place, by: index) }
        return true
    }

    private func candidate(_ server: Server, number: Int, nowMs: UInt64, wallMs: Int64) -> Candidate {
        var fresh = Candidate(
            slot: Int32(server.slot), isBackup: server.isBackup, key: server.key, weight: Int32(server.weight),
            share: 0, inFlight: server.inFlight, upSinceMs: server.upSinceMs)
        let known = index(of: server.slot).flatMap { candidates[$0].key == server.key ? candidates[$0] : nil }
        if let known, known.upSinceMs == server.upSinceMs {
            fresh.rampEndMs = known.rampEndMs
        } else if slowStartMs > 0, server.upSinceMs > 0 {
            let upMs = UInt64(max(wallMs - server.upSinceMs, 0))
            if upMs < slowStartMs { fresh.rampEndMs = nowMs + slowStartMs - upMs }
        }
        fresh.share = share(fresh, nowMs)
        let stride = Self.round / Int64(fresh.share)
        if let known {
            fresh.avoidUntilMs = known.avoidUntilMs
            fresh.failures = known.failures
            fresh.turn = known.turn
            if known.share != fresh.share { fresh.turn = moved(known.turn, from: known.share, to: fresh.share) }
        } else {
            // Its first turn is anywhere within its stride: servers of one weight don't all have theirs at once.
            let part = Int64((StableHash.step &* UInt64(number + 1)) >> 44)
            fresh.turn = virtualTime + 1 + ((stride - 1) * part) >> 20
        }
        return fresh
    }

    /// A turn that is still to come stays as near as it was, as seen from the new weight.
    private func moved(_ turn: Int64, from old: Int32, to new: Int32) -> Int64 {
        turn <= virtualTime ? turn : virtualTime + max((turn - virtualTime) * Int64(old) / Int64(new), 1)
    }

    private mutating func indexSlots() {
        let low = candidates.reduce(Int32.max) { min($0, $1.slot) }
        let high = candidates.reduce(-1) { max($0, $1.slot) }
        firstSlot = candidates.isEmpty ? 0 : Int(low)
        let count = Int(high) - firstSlot + 1
        if indices.count != count {
            indices = ContiguousArray(repeating: -1, count: count)
        } else {
            for place in 0..<count { indices[place] = -1 }
        }
        for index in candidates.indices { indices[Int(candidates[index].slot) - firstSlot] = Int32(index) }
    }

    /// What is counted over all candidates.
    private mutating func recount(_ nowMs: UInt64) {
        avoided = 0
        inFlightSum = 0
        shareSum = 0
        dueMs = .max
        for index in candidates.indices {
            let candidate = candidates[index]
            if candidate.avoidUntilMs != 0 {
                avoided += 1
                dueMs = min(dueMs, candidate.avoidUntilMs)
            }
            if candidate.rampEndMs != 0 { dueMs = min(dueMs, nowMs + rampStepMs) }
            if isInUse(index) {
                inFlightSum += Int(candidate.inFlight)
                shareSum += Int(candidate.share)
            }
        }
    }

    // MARK: choosing

    /// The slot of the server for the next request; nil when every one is in `tried`, or full (then `isFull`).
    /// - Parameters:
    ///   - key: what `hash` goes by; 0: there is none.
    ///   - preferred: the slot of the server that gets it if that can be chosen at all; -1: none.
    ///   - places: says which servers have no place left; nil: all have.
    mutating func choose(
        nowMs: UInt64, tried: TriedServers, key: UInt64 = 0, preferred: Int32 = -1, places: Places? = nil
    ) -> Int? {
        if nowMs >= dueMs { catchUp(nowMs) }
        isFull = false
        var closed = Closed(tried: tried, avoids: avoided > 0 && avoided < candidates.count, places: places)
        if preferred >= 0, let index = index(of: Int(preferred)), isInUse(index), isOpen(index, closed) {
            return Int(preferred)
        }
        if let found = choose(key, closed) { return Int(slots[found]) }
        // A full one will have a place sooner than one that fails answers, and than a backup is wanted.
        if places != nil, hasFull(closed) {
            isFull = true
            return nil
        }
        if closed.avoids {
            closed.avoids = false
            if let found = choose(key, closed) { return Int(slots[found]) }
            if places != nil, hasFull(closed) { isFull = true }
        }
        guard !isFull, hasReserve, !tried.isEmpty else { return nil }
        return reserve(closed).map { Int(slots[$0]) }
    }

    private mutating func choose(_ key: UInt64, _ closed: Closed) -> Int? {
        switch balance {
        case .roundRobin, .leastConnections: return takeTurn(closed)
        case .random: return drawTwo(closed)
        case .first: return firstInOrder(closed)
        case .hash: return key == 0 ? takeTurn(closed) : ownerOf(key, closed)
        }
    }

    /// Who can't be chosen for a request.
    struct Closed {
        let tried: TriedServers
        /// Those whose connection just failed.
        var avoids: Bool
        /// Those that are full.
        let places: Places?
    }

    /// Whether a server, by its slot, is one that gets requests now.
    func serves(_ slot: Int32) -> Bool { index(of: Int(slot)).map { isInUse($0) } ?? false }

    @inline(__always) func isInUse(_ index: Int) -> Bool { candidates[index].isBackup == usesBackups }

    @inline(__always) func isOpen(_ index: Int, _ closed: Closed) -> Bool {
        if closed.avoids && candidates[index].avoidUntilMs != 0 { return false }
        if !closed.tried.isEmpty, closed.tried.contains(candidates[index].slot) { return false }
        guard let places = closed.places else { return true }
        return !places.isFull(.server(Int(candidates[index].slot)))
    }

    /// Whether one isn't open only because it is full, where none is open.
    private func hasFull(_ closed: Closed) -> Bool {
        let others = Closed(tried: closed.tried, avoids: closed.avoids, places: nil)
        return candidates.indices.contains { isInUse($0) && isOpen($0, others) }
    }

    /// Whether one has fewer requests in flight per share than another: left/share < right/share without a division.
    @inline(__always) func isLessLoaded(_ left: Int, than right: Int) -> Bool {
        Int(candidates[left].inFlight) * Int(candidates[right].share)
            < Int(candidates[right].inFlight) * Int(candidates[left].share)
    }

    // MARK: time

    /// Ends avoidances, and lets weights grow.
    private mutating func catchUp(_ nowMs: UInt64) {
        var hasGrown = false
        collectTurns()
        for index in candidates.indices {
            let until = candidates[index].avoidUntilMs
            if until != 0, until <= nowMs { candidates[index].avoidUntilMs = 0 }
            guard candidates[index].rampEndMs != 0 else { continue }
            if candidates[index].rampEndMs <= nowMs { candidates[index].rampEndMs = 0 }
            let (old, new) = (candidates[index].share, share(candidates[index], nowMs))
            candidates[index].turn = moved(candidates[index].turn, from: old, to: new)
            candidates[index].share = new
            hasGrown = true
        }
        recount(nowMs)
        if hasGrown {
            rebuildHeap()
            areSumsStale = true
        }
    }

    private var rampStepMs: UInt64 { max(slowStartMs / 90, 20) }

    private func share(_ candidate: Candidate, _ nowMs: UInt64) -> Int32 {
        guard candidate.rampEndMs > nowMs, slowStartMs > 0 else { return candidate.weight * 100 }
        let left = min(candidate.rampEndMs - nowMs, slowStartMs)
        return candidate.weight * Int32(SlowStart.percent(leftMs: left, of: slowStartMs))
    }

    // MARK: what became of a choice

    /// A request to this server started (+1) or ended (-1).
    mutating func count(_ slot: Int, _ change: Int32) {
        guard balance != .roundRobin, balance != .first, let index = index(of: slot) else { return }
        candidates[index].inFlight += change
        if isInUse(index) { inFlightSum += Int(change) }
        if balance == .leastConnections { reorder(index) }
    }

    /// A connection to this server failed. All that fail while it is avoided anyway are one failure.
    mutating func failed(_ slot: Int, nowMs: UInt64) {
        guard let index = index(of: slot), candidates[index].avoidUntilMs <= nowMs else { return }
        if candidates[index].avoidUntilMs == 0 { avoided += 1 }
        let span = min(Self.avoidMs << UInt64(min(candidates[index].failures, 8)), Self.avoidMsMax)
        candidates[index].avoidUntilMs = nowMs + span
        dueMs = min(dueMs, nowMs + span)
        if candidates[index].failures < .max { candidates[index].failures += 1 }
    }

    /// This server accepted a connection.
    mutating func connected(_ slot: Int) {
        guard let index = index(of: slot), candidates[index].failures > 0 else { return }
        candidates[index].failures = 0
        if candidates[index].avoidUntilMs != 0 { avoided -= 1 }
        candidates[index].avoidUntilMs = 0
    }

    @inline(__always) func index(of slot: Int) -> Int? {
        let place = slot - firstSlot
        guard place >= 0, place < indices.count, indices[place] >= 0 else { return nil }
        return Int(indices[place])
    }
}

/// The servers that one request was tried on.
struct TriedServers: BitwiseCopyable, Equatable {
    // WHY: a vector is compared with a slot in one instruction, and copied as a plain value.
    private var low: SIMD8<Int32> = SIMD8(repeating: -1)
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    func contains(_ slot: Int32) -> Bool { any(low .== slot) }

    /// - Precondition: fewer than `ProxyLimits.attemptsMax` so far.
    mutating func insert(_ slot: Int32) {
        low[count] = slot
        count += 1
    }
}
