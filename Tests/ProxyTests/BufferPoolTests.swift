// Buffers: a peak's memory goes back to the system bit by bit, and what is used all the time stays.

import Testing

@testable import Proxy

@Suite struct BufferPoolTests {
    /// Takes so many buffers at once and gives them back.
    private func use(_ count: Int, of pool: borrowing BufferPool) {
        let taken = (0..<count).map { _ in pool.take() }
        #expect(Set(taken).count == count)
        for buffer in taken { pool.store(7, buffer, pool.smallBytes - 1) }
        for buffer in taken { pool.give(buffer) }
    }

    @Test func whatIsUsedStays() {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1_000)
        use(1_000, of: pool)
        #expect(pool.withMemory == 1_000)
        for _ in 0..<10 {
            pool.trim()
            use(1_000, of: pool)
            #expect(pool.withMemory == 1_000)
        }
    }

    @Test func aPeakGoesBackWithinSeconds() {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1_000)
        use(1_000, of: pool)
        // The peak was within the first of these seconds.
        for _ in 0..<12 {
            use(10, of: pool)
            pool.trim()
        }
        #expect(pool.withMemory == 74)
        // It can come again.
        use(1_000, of: pool)
        #expect(pool.withMemory == 1_000)
    }

    @Test func buffersInUseAreLeftAlone() {
        let pool = BufferPool(smallBytes: 4_096, smallMax: 1_000)
        let held = (0..<500).map { _ in pool.take() }
        for buffer in held { pool.store(9, buffer, 0) }
        use(500, of: pool)
        for _ in 0..<12 { pool.trim() }
        #expect(pool.withMemory == 500 + 64)
        #expect(held.allSatisfy { pool.byte($0, 0) == 9 })
    }
}
