// ScalingPlanTests: what `triad autoscale` does, against servers that start, drain and fail, in virtual time; alone, in two
// at once, and killed in the middle.

import Gossip
import Testing

@testable import Node

private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: 1_000_000_000_000 + UInt64(seconds * 1e9)) }

/// Nine servers, their instances, and any number of executors that look once a second.
private struct World {
    var servers = (1...9).map { ScalingPlan.Server(id: "api_\($0)", isUp: $0 <= 3, admin: .ready) }
    /// Seconds until a started instance is agreed to be up.
    var startSeconds = 2.0
    var failing: Set<String> = []
    var plans = [ScalingPlan()]
    var wanted = 3
    var second = 0.0
    var log: [ScalingPlan.Step] = []
    private var coming: [(id: String, at: Double)] = []
    /// The fewest that served at any time.
    var fewest = 9

    var serving: [String] { servers.filter { $0.isUp && $0.admin == .ready }.map(\.id) }

    subscript(id: String) -> ScalingPlan.Server {
        get { servers[servers.firstIndex { $0.id == id } ?? 0] }
        set { servers[servers.firstIndex { $0.id == id } ?? 0] = newValue }
    }

    mutating func run(_ seconds: Int) {
        for _ in 0..<seconds {
            for started in coming where started.at <= second { self[started.id].isUp = true }
            coming.removeAll { $0.at <= second }
            // All look at the same moment, and act on it one after the other.
            let seen = servers
            for place in plans.indices {
                for step in plans[place].steps(wanted: wanted, servers: seen, now: at(second)) {
                    perform(step)
                    plans[place].ended(step, succeeded: !failing.contains(step.server), now: at(second))
                }
            }
            fewest = min(fewest, serving.count)
            second += 1
        }
    }

    private mutating func perform(_ step: ScalingPlan.Step) {
        log.append(step)
        guard !failing.contains(step.server) else { return }
        switch step {
        case .start(let id):
            if !self[id].isUp, !coming.contains(where: { $0.id == id }) { coming.append((id, second + startSeconds)) }
        case .stop(let id): self[id].isUp = false
        case .drain(let id): self[id].admin = .drain
        case .ready(let id): self[id].admin = .ready
        }
    }
}

@Suite("Scaling plan") struct ScalingPlanTests {
    @Test func nothingIsDoneWhereEnoughServe() {
        var world = World()
        world.run(20)
        #expect(world.log.isEmpty && world.plans[0].isDone(wanted: 3, servers: world.servers))
    }

    @Test func theFirstOnesThatAreDownAreStartedAllAtOnce() {
        var world = World()
        world.wanted = 5
        world.run(1)
        #expect(world.log == [.start("api_4"), .start("api_5")])
        #expect(!world.plans[0].isDone(wanted: 5, servers: world.servers))
        world.run(10)
        #expect(world.serving.count == 5 && world.log.count == 2)
        #expect(world.plans[0].isDone(wanted: 5, servers: world.servers))
    }

    @Test func theLastOnesAreDrainedThenStoppedThenMadeReady() {
        var world = World()
        world.wanted = 2
        world["api_3"].sessions = 4
        world.run(20)
        #expect(world.log == [.drain("api_3")], "requests are under way there")
        world["api_3"].sessions = 0
        world.run(5)
        #expect(world.log == [.drain("api_3"), .stop("api_3"), .ready("api_3")])
        #expect(world.fewest == 2 && world.plans[0].isDone(wanted: 2, servers: world.servers))
        // They have their time, and no more.
        world = World()
        world.wanted = 2
        world["api_3"].sessions = 4
        world.run(29)
        #expect(world.log.count == 1)
        world.run(5)
        #expect(world.log.count == 3)
    }

    @Test func aDrainIsTakenBackBeforeAnythingIsStarted() {
        var world = World()
        world.wanted = 2
        world["api_3"].sessions = 1
        world.run(3)
        world.wanted = 4
        world.run(10)
        #expect(world.log == [.drain("api_3"), .ready("api_3"), .start("api_4")])
        #expect(world.serving.count == 4)
    }

    @Test func aServerThatDiesIsReplacedAndNothingGoesBelowWhatServes() {
        var world = World()
        world["api_2"].isUp = false
        world.run(10)
        #expect(world.log == [.start("api_2")])
        // Two too many, one of which is down: only the other is drained.
        world = World()
        world.servers[3].isUp = true
        world.wanted = 2
        world["api_1"].isUp = false
        world.run(20)
        #expect(world.serving.count == 2 && world.log.first == .drain("api_4"))
        // It dies while the drained one could still serve: that comes back.
        world = World()
        world.wanted = 2
        world["api_3"].sessions = 1
        world.run(4)
        world["api_1"].isUp = false
        world.run(1)
        #expect(world.log.last == .ready("api_3"))
    }

    @Test func whatFailsIsTriedAgainAfterGrowingPausesAndAnotherOneMeanwhile() {
        var world = World()
        world.wanted = 4
        world.failing = ["api_4"]
        world.run(8)
        #expect(world.serving == ["api_1", "api_2", "api_3", "api_5"])
        world = World()
        world.servers.removeLast(5)
        world.wanted = 4
        world.failing = ["api_4"]
        world.run(130)
        // After 1, 2, 4, … 32 s.
        #expect((6...9).contains(world.log.count))
        world.failing = []
        world.run(80)
        #expect(world.serving.count == 4)
    }

    @Test func oneThatNeverComesUpCountsAsFailed() {
        var world = World()
        world.wanted = 4
        world.startSeconds = 1000
        world.run(70)
        #expect(world.log.prefix(2) == [.start("api_4"), .start("api_5")])
    }

    @Test func maintenanceAndBackupsAreLeftAlone() {
        var world = World()
        world["api_2"].admin = .maint
        world.servers[3].isBackup = true
        world.run(10)
        #expect(world.log == [.start("api_5")])
        world.wanted = 2
        world.run(30)
        #expect(world["api_2"].admin == .maint && world["api_2"].isUp && !world.log.contains { $0.server == "api_2" })
    }

    @Test func unknownOnesAreWaitedFor() {
        var world = World()
        for place in 3..<9 { world.servers[place].isUnknown = true }
        world.wanted = 5
        world.run(5)
        #expect(world.log.isEmpty)
    }

    @Test func twoAtOnceAgree() {
        var world = World()
        world.plans = [ScalingPlan(), ScalingPlan()]
        for (wanted, seconds) in [(6, 20), (3, 20), (9, 1), (2, 30), (4, 15)] {
            world.wanted = wanted
            world.fewest = 9
            let before = world.serving.count
            world.run(seconds)
            #expect(world.fewest >= min(before, wanted))
        }
        #expect(world.serving.count == 4)
        #expect(world.plans.allSatisfy { $0.isDone(wanted: 4, servers: world.servers) })
    }

    @Test func anotherOneGoesOnWhereTheFirstWasKilled() {
        for moment in 1...8 {
            var world = World()
            world.wanted = 1
            world.run(moment)
            world.plans = [ScalingPlan()]
            world.run(20)
            #expect(world.serving == ["api_1"], "killed after \(moment) s")
            #expect(world.servers.allSatisfy { $0.admin == .ready })
        }
    }
}
