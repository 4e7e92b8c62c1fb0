// TimerWheel: one deadline per session slot, kept for the price of a store. Pure; one thread only.
//
// Slots stand in doubly linked lists, one per tick of 8 ms, on a wheel of 4,096 ticks (32 s). A deadline that moves
// later only changes a number: the slot stays where it is, and when the wheel gets there it is put where it belongs now.
// Keep-alive traffic moves its deadline with every event and is relinked about once in 30 s. A deadline beyond the
// wheel's horizon waits at the horizon the same way. (Varghese & Lauck, "Hashed and Hierarchical Timing Wheels", 1987,
// scheme 6, with lazy re-arming.)

struct TimerWheel: ~Copyable {
    static let tickMs: UInt64 = 8
    private static let ticks = 4_096
    private static let none: Int32 = -1

    private struct Entry: BitwiseCopyable {
        /// Milliseconds; 0 when the slot has no deadline.
        var deadlineMs: UInt64 = 0
        /// The tick it stands at; 0 when it is in no list.
        var tick: UInt64 = 0
        var next: Int32 = -1
        var previous: Int32 = -1
    }

    private var entries: ContiguousArray<Entry> = []
    private var heads: ContiguousArray<Int32>
    /// A bit per tick of the wheel: its list isn't empty.
    private var occupied: ContiguousArray<UInt64>
    /// Every tick up to this one has been looked at.
    private var current: UInt64

    /// - Parameter capacity: slots that memory is reserved for; touched as far as they are used.
    init(nowMs: UInt64, capacity: Int = 0) {
        entries.reserveCapacity(capacity)
        heads = ContiguousArray(repeating: Self.none, count: Self.ticks)
        occupied = ContiguousArray(repeating: 0, count: Self.ticks / 64)
        current = nowMs / Self.tickMs
    }

    /// Sets or moves a slot's deadline.
    mutating func set(_ slot: Int, deadlineMs: UInt64) {
        while slot >= entries.count { entries.append(Entry()) }
        entries[slot].deadlineMs = deadlineMs
        let tick = Self.tick(deadlineMs)
        let standing = entries[slot].tick
        // Standing at an earlier tick is fine: it moves on when its turn comes.
        if standing != 0 && standing <= tick { return }
        if standing != 0 { unlink(slot) }
        link(slot, tick)
    }

    /// Takes a slot's deadline away.
    mutating func clear(_ slot: Int) {
        guard slot < entries.count else { return }
        entries[slot].deadlineMs = 0
        if entries[slot].tick != 0 { unlink(slot) }
    }

    /// The next slot whose deadline has passed; nil when there is none left. The slot has no deadline afterwards.
    mutating func next(nowMs: UInt64) -> Int? {
        let nowTick = nowMs / Self.tickMs
        while current <= nowTick {
            while let slot = first(at: current) {
                unlink(slot)
                let deadline = entries[slot].deadlineMs
                if Self.tick(deadline) <= nowTick {
                    entries[slot].deadlineMs = 0
                    return slot
                }
                link(slot, Self.tick(deadline))
            }
            // Never past the present: a deadline set next may come before the list that is next now.
            current = min(nextOccupied(after: current) ?? .max, nowTick + 1)
        }
        return nil
    }

    /// How long the reactor may wait; nil for ever. Never too long; it may be too short.
    func waitMs(nowMs: UInt64) -> Int? {
        let tick = first(at: current) != nil ? current : nextOccupied(after: current)
        guard let tick else { return nil }
        let at = tick * Self.tickMs
        return at <= nowMs ? 0 : Int(at - nowMs)
    }

    /// Rounded up, so that nothing fires early.
    private static func tick(_ deadlineMs: UInt64) -> UInt64 { (deadlineMs + tickMs - 1) / tickMs }

    private func first(at tick: UInt64) -> Int? {
        let head = heads[Int(tick % UInt64(Self.ticks))]
        return head == Self.none ? nil : Int(head)
    }

    private mutating func link(_ slot: Int, _ wanted: UInt64) {
        let tick = min(max(wanted, current), current + UInt64(Self.ticks) - 1)
        let place = Int(tick % UInt64(Self.ticks))
        let head = heads[place]
        entries[slot].tick = max(tick, 1)
        entries[slot].previous = Self.none
        entries[slot].next = head
        if head != Self.none { entries[Int(head)].previous = Int32(slot) }
        heads[place] = Int32(slot)
        occupied[place / 64] |= 1 << UInt64(place % 64)
    }

    private mutating func unlink(_ slot: Int) {
        let entry = entries[slot]
        let place = Int(entry.tick % UInt64(Self.ticks))
        if entry.previous == Self.none {
            heads[place] = entry.next
            if entry.next == Self.none { occupied[place / 64] &= ~(1 << UInt64(place % 64)) }
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next != Self.none { entries[Int(entry.next)].previous = entry.previous }
        entries[slot].tick = 0
    }

    /// The first tick after `tick`, within one turn of the wheel, with a list.
    private func nextOccupied(after tick: UInt64) -> UInt64? {
        var offset: UInt64 = 1
        while offset < UInt64(Self.ticks) {
            let place = Int((tick + offset) % UInt64(Self.ticks))
            let word = occupied[place / 64] >> UInt64(place % 64)
            if word != 0 {
                let found = offset + UInt64(word.trailingZeroBitCount)
                return found < UInt64(Self.ticks) ? tick + found : nil
            }
            offset += UInt64(64 - place % 64)
        }
        return nil
    }
}
