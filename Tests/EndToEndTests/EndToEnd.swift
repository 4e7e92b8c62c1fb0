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

    /// Runs a story on a cluster that has settled, with clients, then checks what must hold in every story: never two
    /// owners, from before the first start to the end.
    static func withCluster(
        _ options: LabClusterOptions = LabClusterOptions(), _ story: (Story) throws -> Void
    ) throws {
        let lab = try Lab()
        defer { lab.tearDown() }
        let start = System.bootNanoseconds()
        let cluster = try LabCluster(lab, options)
        do {
            try cluster.startAll()
            try cluster.waitUntilSettled()
            let told = try Story(cluster)
            try story(told)
            if options.fencing == "wait" { try #require(try lab.ownership().overlaps == []) }
        } catch {
            lab.keepDirectory()
            let timeline = (try? lab.ownership().timeline(from: start)) ?? "  no record\n"
            LabSystem.say("\n\(error)\n\(cluster.logTails())\nownership:\n\(timeline)kept: \(lab.directory)\n")
            throw error
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

    /// Does something, waits until the condition that it leads to, and gives what was seen meanwhile and for a second
    /// more.
    /// - Parameter goOn: how long the clients go on after that, seconds.
    func window(goOn: Double = 0.5, act: () throws -> Void, until: () throws -> Void) throws -> DemoWindow {
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
    func require(_ what: String, _ allowance: Allowance, sourceLocation: SourceLocation = #_sourceLocation) throws {
        LabSystem.say(
            "  \(what): VIP \(moves); client \(Self.describe(fresh, until: to)); kept \(Self.describe(kept, until: to))\n"
        )
        let broken = broken(allowance)
        try #require(broken == [], "\(what)", sourceLocation: sourceLocation)
    }
}
