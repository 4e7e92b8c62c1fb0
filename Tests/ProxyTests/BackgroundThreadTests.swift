// BackgroundThreadTests: threads that are waited for, and threads that nobody waits for.

import Glibc
import Synchronization
import Testing

@testable import Proxy

@Suite struct BackgroundThreadTests {
    @Test func joinWaitsForTheEnd() throws {
        let box = Box()
        let thread = try BackgroundThread(name: "one") {
            usleep(20_000)
            box.set()
        }
        thread.join()
        #expect(box.isSet)
        thread.join()
    }

    /// Each that was left behind would keep its stack: eight megabytes of addresses.
    @Test func whatNobodyWaitsForLeavesNothingBehind() throws {
        let before = try addressSpaceKiB()
        for _ in 0..<1000 {
            let box = Box()
            _ = try BackgroundThread(name: "left") { box.set() }
            while !box.isSet { usleep(100) }
        }
        let grown = try addressSpaceKiB() - before
        #expect(grown < 4 << 20, "\(grown) KiB more")
    }

    private func addressSpaceKiB() throws -> Int {
        let descriptor = open("/proc/self/statm", O_RDONLY)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 200)
        let count = read(descriptor, &bytes, bytes.count)
        let words = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(separator: " ")
        return try #require(words.first.flatMap { Int($0) }) * Int(getpagesize()) / 1024
    }

    private final class Box: Sendable {
        private let isDone = Atomic<Bool>(false)
        var isSet: Bool { isDone.load(ordering: .acquiring) }
        func set() { isDone.store(true, ordering: .releasing) }
    }
}
