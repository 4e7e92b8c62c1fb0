// ActionQueue: what is to happen in a simulated world, by time; equal times in the order planned.
//
// A binary heap of small keys. The actions lie in a table of slots beside it, since moving them about would cost more
// than all else the world does.

import Gossip

struct ActionQueue {
    private struct Key {
        let at: UInt64
        let order: UInt64
        let slot: Int

        func isBefore(_ other: Key) -> Bool { at != other.at ? at < other.at : order < other.order }
    }

    private var keys: [Key] = []
    private var actions: [ClusterAction?] = []
    private var freeSlots: [Int] = []
    private var planned: UInt64 = 0

    mutating func push(_ action: ClusterAction, at time: UInt64) {
        planned += 1
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            actions[slot] = action
        } else {
            slot = actions.count
            actions.append(action)
        }
        let key = Key(at: time, order: planned, slot: slot)
        keys.append(key)
        var place = keys.count - 1
        while place > 0, key.isBefore(keys[(place - 1) / 2]) {
            keys[place] = keys[(place - 1) / 2]
            place = (place - 1) / 2
        }
        keys[place] = key
    }

    /// The next action, unless it is planned for later than `end`.
    mutating func pop(before end: UInt64) -> (UInt64, ClusterAction)? {
        guard let first = keys.first, first.at <= end, let last = keys.popLast() else { return nil }
        if !keys.isEmpty { sink(last) }
        freeSlots.append(first.slot)
        guard let action = actions[first.slot] else { preconditionFailure("a key without an action") }
        actions[first.slot] = nil
        return (first.at, action)
    }

    /// Puts a key in from the top.
    private mutating func sink(_ key: Key) {
        var place = 0
        while true {
            var child = 2 * place + 1
            guard child < keys.count else { break }
            if child + 1 < keys.count, keys[child + 1].isBefore(keys[child]) { child += 1 }
            guard keys[child].isBefore(key) else { break }
            keys[place] = keys[child]
            place = child
        }
        keys[place] = key
    }
}

extension SplitMix64 {
    /// A number below `bound` (0 when that is 0).
    mutating func below(_ bound: UInt64) -> UInt64 { bound == 0 ? 0 : next() % bound }

    mutating func within(_ range: ClosedRange<UInt64>) -> UInt64 {
        range.lowerBound + below(range.upperBound - range.lowerBound + 1)
    }

    /// True this many times in a thousand.
    mutating func happens(_ thousandths: UInt64) -> Bool { thousandths > 0 && below(1000) < thousandths }

    mutating func pick<Element>(_ elements: [Element]) -> Element? {
        elements.isEmpty ? nil : elements[Int(below(UInt64(elements.count)))]
    }
}
