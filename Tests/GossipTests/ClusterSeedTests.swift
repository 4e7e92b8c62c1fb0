// ClusterSeedTests: many short lives of a cluster, each from one seed. A failure names the seed; the command it prints
// runs that one alone.

import Glibc
import Testing

@testable import Gossip
@testable import Simulation

@Suite("Cluster by seeds") struct ClusterSeedTests {
    /// How many lives, from seed 0 on; TRIAD_LIVES asks for more. Each is about 0.1 s of a core in a debug build.
    static let lives = number("TRIAD_LIVES") ?? 160
    /// Lives per test case: enough cases for all cores.
    static let batch = 8

    @Test("promises hold in every life", arguments: 0..<((lives + batch - 1) / batch))
    func promisesHold(_ number: Int) {
        for seed in (number * Self.batch)..<((number + 1) * Self.batch) { Self.live(seed: UInt64(seed)) }
    }

    @Test("the life of the seed in TRIAD_SEED, told in full") func oneLife() {
        guard let seed = Self.number("TRIAD_SEED") else { return }
        Self.live(seed: UInt64(seed), tellsAll: true)
    }

    private static func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }

    @Test("the same seed gives the same trace, another one another") func deterministic() {
        func trace(_ seed: UInt64) -> UInt64 {
            let world = ClusterWorld(seed: seed, ClusterSettings.drawn(seed))
            _ = ClusterFate.drawn(seed).run(world)
            return world.trace
        }
        let first = trace(5)
        #expect(trace(5) == first)
        #expect(trace(6) != first)
    }

    static func live(seed: UInt64, tellsAll: Bool = false) {
        let world = ClusterWorld(seed: seed, ClusterSettings.drawn(seed))
        let failure = ClusterFate.drawn(seed).run(world)
        if tellsAll { print(world.story.joined(separator: "\n")) }
        guard let failure else { return }
        Issue.record(
            """
            seed \(seed), at \(world.now / 1_000_000) ms: \(failure)
            \(world.story.suffix(40).joined(separator: "\n"))
            again: TRIAD_SEED=\(seed) swift test --filter ClusterSeedTests.oneLife
            """)
    }
}
