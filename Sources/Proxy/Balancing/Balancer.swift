// Balancer: chooses the server for a request. Pure: no clock of its own, no randomness, no allocation per choice.
//
// Round robin is nginx's smooth weighted kind: in each round every server gains its weight, the richest is chosen and
// pays the sum of the weights, so that choices are spread evenly (a a b a rather than a a a b). Least connections
// compares requests in flight per weight without division; equals take turns.
//
// A server whose connection just failed is avoided for a while, as long as another one is left: so a dead server costs
// a handful of retries a second until the checks agree that it is down, whatever the load.

struct Balancer {
    /// A server that may get requests.
    struct Candidate: BitwiseCopyable, Equatable {
        let slot: Int32
        /// 1 ... 256.
        let weight: Int32
        /// Round robin's wealth.
        var credit: Int32 = 0
        /// Requests in flight from this worker.
        var inFlight: Int32 = 0
        /// Milliseconds; 0 when it isn't avoided.
        var avoidUntilMs: UInt64 = 0
        /// Failed connections in a row.
        var failures: UInt8 = 0
    }

    static let avoidMs: UInt64 = 250
    static let avoidMsMax: UInt64 = 4_000

    let balance: Balance
    private(set) var candidates: ContiguousArray<Candidate> = []
    /// Every weight is the same, so taking turns is round robin.
    private var isEven = true
    private var turn = 0
    private var avoided = 0
    /// Whether the last `choose` found a server that had no place left, and none that had.
    private(set) var isFull = false

    init(_ balance: Balance) { self.balance = balance }

    /// Replaces the servers. Those that stay keep their standing.
    /// - Parameter servers: each usable server: slot, weight (above 0) and this worker's requests in flight to it.
    mutating func update(_ servers: [(slot: Int, weight: Int, inFlight: Int)]) {
        var updated: ContiguousArray<Candidate> = []
        for server in servers {
            var candidate = Candidate(
                slot: Int32(server.slot), weight: Int32(server.weight), inFlight: Int32(server.inFlight))
            if let old = candidates.first(where: { $0.slot == candidate.slot }) {
                candidate.avoidUntilMs = old.avoidUntilMs
                candidate.failures = old.failures
                if old.weight == candidate.weight { candidate.credit = old.credit }
            }
            updated.append(candidate)
        }
        candidates = updated
        isEven = updated.allSatisfy { $0.weight == updated[0].weight }
        avoided = updated.count { $0.avoidUntilMs != 0 }
        turn = updated.isEmpty ? 0 : turn % updated.count
    }

    /// The slot of the server for the next request; nil when every one is in `tried`, or full (then `isFull`).
    /// - Parameter places: says which servers have no place left; nil: all have.
    mutating func choose(nowMs: UInt64, tried: TriedServers, places: Places? = nil) -> Int? {
        isFull = false
        if avoided == 0 && tried.isEmpty && isEven && balance == .roundRobin && places == nil {
            return takeTurn()
        }
        if avoided > 0 { endAvoidance(nowMs) }
        if let chosen = choose(tried, avoiding: true, places) { return chosen }
        // A full one will have a place sooner than one that fails answers.
        return avoided > 0 && !isFull ? choose(tried, avoiding: false, places) : nil
    }

    private mutating func takeTurn() -> Int? {
        if candidates.isEmpty { return nil }
        turn = turn + 1 >= candidates.count ? 0 : turn + 1
        return Int(candidates[turn].slot)
    }

    private mutating func choose(_ tried: TriedServers, avoiding: Bool, _ places: Places?) -> Int? {
        var best = -1
        var sum: Int32 = 0
        // Start after the last choice, so that equals take turns.
        var index = turn
        for _ in candidates.indices {
            index += 1
            if index >= candidates.count { index = 0 }
            if avoiding && candidates[index].avoidUntilMs != 0 { continue }
            if !tried.isEmpty && tried.contains(candidates[index].slot) { continue }
            if let places, places.isFull(.server(Int(candidates[index].slot))) {
                isFull = true
                continue
            }
            if balance == .roundRobin {
                sum += candidates[index].weight
                candidates[index].credit += candidates[index].weight
            }
            if best < 0 || isBetter(candidates[index], than: candidates[best]) { best = index }
        }
        guard best >= 0 else { return nil }
        isFull = false
        if balance == .roundRobin { candidates[best].credit -= sum }
        turn = best
        return Int(candidates[best].slot)
    }

    private func isBetter(_ left: Candidate, than right: Candidate) -> Bool {
        switch balance {
        case .roundRobin: left.credit > right.credit
        // left.inFlight / left.weight < right.inFlight / right.weight
        case .leastConnections: Int(left.inFlight) * Int(right.weight) < Int(right.inFlight) * Int(left.weight)
        }
    }

    private mutating func endAvoidance(_ nowMs: UInt64) {
        for index in candidates.indices where candidates[index].avoidUntilMs != 0 {
            if candidates[index].avoidUntilMs <= nowMs {
                candidates[index].avoidUntilMs = 0
                avoided -= 1
            }
        }
    }

    // MARK: what became of a choice

    /// A request to this server started (+1) or ended (-1).
    mutating func count(_ slot: Int, _ change: Int32) {
        if balance == .leastConnections, let index = index(of: slot) { candidates[index].inFlight += change }
    }

    /// A connection to this server failed. All that fail while it is avoided anyway are one failure.
    mutating func failed(_ slot: Int, nowMs: UInt64) {
        guard let index = index(of: slot), candidates[index].avoidUntilMs <= nowMs else { return }
        if candidates[index].avoidUntilMs == 0 { avoided += 1 }
        let span = min(Self.avoidMs << UInt64(min(candidates[index].failures, 8)), Self.avoidMsMax)
        candidates[index].avoidUntilMs = nowMs + span
        if candidates[index].failures < .max { candidates[index].failures += 1 }
    }

    /// This server accepted a connection.
    mutating func connected(_ slot: Int) {
        guard let index = index(of: slot), candidates[index].failures > 0 else { return }
        candidates[index].failures = 0
        if candidates[index].avoidUntilMs != 0 { avoided -= 1 }
        candidates[index].avoidUntilMs = 0
    }

    private func index(of slot: Int) -> Int? { candidates.firstIndex { $0.slot == Int32(slot) } }
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
