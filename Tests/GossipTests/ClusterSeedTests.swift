// ClusterSeedTests: many short lives of a cluster, each from one seed, and proof that the simulator finds what is broken.
// A failure names the seed and the command that tells that life in full.

import Gossip
import Testing

@testable import Simulation

@Suite("Cluster by seeds") struct ClusterSeedTests {
    /// Each life is about 0.2 s of a core in a debug build.
    static let lives = 192
    /// Lives per test case: enough cases for all cores.
    static let batch = 12
    static let seconds = 4

    @Test("promises hold in every life", arguments: 0..<(lives / batch))
    func promisesHold(_ number: Int) {
        for seed in (number * Self.batch)..<((number + 1) * Self.batch) {
            live(seed: UInt64(seed), members: [3, 3, 3, 3, 1, 5, 3, 3][seed % 8], seconds: Self.seconds)
        }
    }

    /// Found among thousands: a vote within a promise; a fence that started again and was not told to forward.
    @Test("lives that failed once", arguments: [(seed: 2651, seconds: 10), (1661, 20)])
    func holdsNow(_ seed: UInt64, _ seconds: Int) { live(seed: seed, members: 5, seconds: seconds) }

    @Test("promises hold while nodes of two wire versions work side by side", arguments: 0..<4)
    func mixedVersions(_ number: Int) {
        for seed in (number * 8)..<((number + 1) * 8) {
            live(seed: UInt64(seed), members: 3, seconds: Self.seconds, isMixed: true)
        }
    }

    private func live(seed: UInt64, members: Int, seconds: Int, isMixed: Bool = false) {
        var life = ClusterLife(seed: seed, members: members, seconds: seconds)
        life.settings.isMixed = isMixed
        let end = life.run(teller: .remembers)
        guard let violation = end.violation else { return }
        Issue.record(
            """
            seed \(seed), step \(end.steps), at \(end.nanoseconds / 1_000_000) ms: \(violation)
            \(end.story.suffix(40).joined(separator: "\n"))
            again: swift run simulator --seed \(seed) --nodes \(members) --seconds \(seconds)\(isMixed ? " --mixed" : "") --trace
            """)
    }

    @Test("the same seed gives the same trace, another one another") func deterministic() {
        func trace(_ seed: UInt64) -> UInt64 { ClusterLife(seed: seed, seconds: Self.seconds).run().trace }
        let first = trace(5)
        #expect(trace(5) == first)
        #expect(trace(6) != first)
        #expect(
            ClusterLife(seed: 5, seconds: Self.seconds).run(teller: .remembers).trace == first, "telling changes it")
    }

    @Test(
        "what is broken on purpose is found",
        arguments: [
            Breakage.leaseBeyondElection, .voteBeforeSync, .countsUnsynced, .barrierIgnored, .answersForgotten,
            .releaseWithoutDrop, .doneBeforeCommit, .keepsConflicts, .localApply, .verdictOfOne, .gateOutlivesLease,
            .voteUnstickyInTerm,
        ])
    func breakagesAreFound(_ breakage: Breakage) {
        #expect(BreakageSearch(breakage).run(livesMax: 20) != nil)
    }

    @Test("of a life that fails, the shrinker leaves what is needed") func shrinks() {
        var life = ClusterLife(seed: 3, seconds: Self.seconds)
        life.settings.breakage = .gateOutlivesLease
        life.settings.fencing = .gate
        life.settings.gated = [true, true, true]
        let crash = Fault(episode: 0, at: 900_000_000, deed: .killAll(.leader, down: 500_000_000))
        let work = (0..<30).map { number in
            Fault(episode: 0, at: UInt64(number) * 20_000_000, deed: .suspect(.node(0), server: number % 5))
        }
        life = ClusterLife(seed: 3, settings: life.settings, schedule: life.schedule.with(work + [crash] + work))
        #expect(life.run().violation?.hasPrefix("two owners") ?? false)
        #expect(ClusterShrinker(life).shrink(from: nil) == [work.count])
    }
}
