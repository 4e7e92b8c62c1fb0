// EndToEnd: what the end-to-end suites share: a cluster with clients that is taken down whatever happens, windows in which
// something is done to it, and what is shown when an expectation fails.

import Glibc
import Proxy
import Testing

@testable import Node

enum EndToEnd {
    static let canRun = getuid() == 0
    static let reason: Comment = "network namespaces need root: run `swift test` as root for these"

    /// How much longer than promised something may take here: a debug build, on a machine that may be compiling.
    /// `triad demo` in a release build judges by the promised numbers.
    static let slack = 4.0

    /// How often a story is told when the machine itself stood still meanwhile.
    private static let attempts = 3

    /// Runs a story on a cluster that has settled, with clients, then checks what must hold in every story: never two
    /// owners, from before the first start to the end.
    ///
    /// A story that fails while the machine did not run even the clients for a tenth of a second proves nothing about time,
    /// and is told again; what is required with `#require` (who may own the VIP, what may not get lost) is never excused.
    static func withCluster(
        _ options: LabClusterOptions = LabClusterOptions(), _ body: (Story) throws -> Void
    ) throws {
        for attempt in 1... {
            let lab = try Lab(inMemory: true)
            defer { lab.tearDown() }
            let start = System.bootNanoseconds()
            let cluster = try LabCluster(lab, options)
            var story: Story?
            do {
                try cluster.startAll()
                try cluster.waitUntilSettled()
                let told = try Story(cluster)
                story = told
                try body(told)
                if options.fencing != "trust" { try #require(try lab.ownership().overlaps == []) }
                return
            } catch {
                let record = try? lab.ownership()
                let isSafe = options.fencing == "trust" || record?.overlaps.isEmpty == true
                let stall = story?.longestStallMs ?? 0
                if error is LabProblem, isSafe, stall > 100, attempt < attempts {
                    LabSystem.say("  the machine stood still for \(DemoWindow.ms(stall)): told again (\(error))\n")
                    continue
                }
                lab.keepDirectory()
                let timeline = record?.timeline(from: start) ?? "  no record\n"
                LabSystem.say("\n\(error)\n\(cluster.logTails())\nownership:\n\(timeline)kept: \(lab.directory)\n")
                throw error
            }
        }
    }
}

/// A cluster under load while something happens to it.
final class Story {
    let cluster: LabCluster
    private let fresh: LabLoad
    private let kept: LabLoad

    var lab: Lab { cluster.lab }

    init(_ cluster: LabCluster) throws {
        self.cluster = cluster
        fresh = try cluster.startLoad("new", rate: 200, newConnections: true)
        kept = try cluster.startLoad("kept", rate: 50, newConnections: false)
        let loads = [fresh, kept]
        try cluster.lab.wait("the clients' first answers") {
            loads.allSatisfy { $0.results().contains { $0.outcome.isSuccess } }
        }
    }

    /// The requests on new connections that ended so far.
    var requests: [LoadResult] { fresh.results() }

    /// The longest time in which the client, which starts a request each 5 ms whatever happens to the others, started none.
    var longestStallMs: Double { DemoWindow.longestStallMs(fresh.results()) }

    /// What was promised about time or service; see `withCluster`.
    func holds(_ condition: Bool, _ what: String, line: Int = #line) throws {
        if !condition { throw LabProblem("line \(line): does not hold: \(what)") }
    }

    /// Does something, waits until the condition that it leads to, and gives what was seen meanwhile and for a second
    /// more.
    /// - Parameter goOn: how long the clients go on after that, seconds.
    func window(goOn: Double = 0.3, act: () throws -> Void, until: () throws -> Void) throws -> DemoWindow {
        let from = System.bootNanoseconds()
        try act()
        try until()
        let to = System.bootNanoseconds() + UInt64(goOn * 1e9)
        try lab.wait("every request of the window has ended", seconds: goOn + 30) {
            // The clients' own timeout is 250 ms: a request that began later proves that all of the window ended.
            System.bootNanoseconds() >= to + 300_000_000
                && [fresh, kept].allSatisfy { ($0.results().last?.end ?? 0) > to }
        }
        return DemoWindow(
            from: from, to: to, ownership: try lab.ownership(), fresh: fresh.results(), kept: kept.results())
    }

    /// A leader other than `old` has the VIP, and the nodes that run agree.
    func waitForTakeOver(from old: String, among nodes: [String]? = nil) throws {
        try cluster.waitForOwner(besides: old)
        try cluster.waitForAgreement("a leader after \(old)", among: nodes ?? lab.nodes.filter { $0 != old })
    }
}

extension DemoWindow {
    /// Requires what was promised, and says what was measured.
    func require(_ what: String, _ allowance: Allowance, line: Int = #line) throws {
        LabSystem.say(
            "  \(what): VIP \(moves); client \(Self.describe(fresh, until: to)); kept \(Self.describe(kept, until: to))\n"
        )
        let broken = broken(allowance)
        if !broken.isEmpty { throw LabProblem("line \(line): \(what): \(broken.joined(separator: "; "))") }
    }
}
