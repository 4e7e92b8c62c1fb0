// Slab: a table of fixed capacity whose places are named by slot and generation. One thread only.
//
// Memory is reserved for the whole capacity and touched place by place, so an unused place costs nothing. Removing an
// element raises its place's generation, by which an event for the former element is known as stale.
// Unsafe code is allowed in this file (see TidyTests).

struct Slab<Element: BitwiseCopyable>: ~Copyable {
    let capacity: Int
    /// Places used at some time: slots are below it.
    private(set) var highWater = 0
    private(set) var count = 0
    private let elements: UnsafeMutablePointer<Element>
    /// Even: free. Odd: taken.
    private let generations: UnsafeMutablePointer<UInt32>
    private let nextFree: UnsafeMutablePointer<Int32>
    private var firstFree: Int32 = -1

    init(capacity: Int) {
        self.capacity = capacity
        elements = .allocate(capacity: capacity)
        generations = .allocate(capacity: capacity)
        nextFree = .allocate(capacity: capacity)
    }

    deinit {
        elements.deallocate()
        generations.deallocate()
        nextFree.deallocate()
    }

    var isFull: Bool { count == capacity }

    /// - Precondition: not full.
    mutating func insert(_ element: Element) -> Int {
        let slot: Int
        if firstFree >= 0 {
            slot = Int(firstFree)
            firstFree = nextFree[slot]
        } else {
            precondition(highWater < capacity)
            slot = highWater
            highWater += 1
            (generations + slot).initialize(to: 0)
            (nextFree + slot).initialize(to: -1)
        }
        generations[slot] &+= 1
        (elements + slot).initialize(to: element)
        count += 1
        return slot
    }

    /// - Precondition: the slot is taken.
    mutating func remove(_ slot: Int) {
        precondition(isTaken(slot))
        generations[slot] &+= 1
        nextFree[slot] = firstFree
        firstFree = Int32(slot)
        count -= 1
    }

    func isTaken(_ slot: Int) -> Bool { slot >= 0 && slot < highWater && generations[slot] & 1 == 1 }

    func generation(_ slot: Int) -> UInt32 {
        precondition(slot >= 0 && slot < highWater)
        return generations[slot]
    }

    /// Whether the slot still holds the element that had this generation.
    func isCurrent(_ slot: Int, _ generation: UInt32) -> Bool { slot < highWater && generations[slot] == generation }

    subscript(slot: Int) -> Element {
        @inline(__always) unsafeAddress {
            precondition(slot >= 0 && slot < highWater)
            return UnsafePointer(elements + slot)
        }
        @inline(__always) nonmutating unsafeMutableAddress {
            precondition(slot >= 0 && slot < highWater)
            return elements + slot
        }
    }
}
