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
    static let attempts = 3

    /// A promise about time alone that did not hold, and for how long a processor stood still meanwhile.
    struct Late: Error, CustomStringConvertible {
        let what: String
        let stallMs: Double

        init(_ what: String, stallMs: Double) {
            self.what = what
            self.stallMs = stallMs
        }

        var description: String { "\(what) (a processor stood still for \(DemoWindow.ms(stallMs)) at most)" }
    }

    /// For how long the machine stood still, where that may have been the cause: the clients for a tenth of a second, or, where
    /// only a time was too long, a processor for the half of what the narrowest limit allows.
    static func excuse(_ error: any Error, clientStallMs: Double) -> Double? {
        if let late = error as? Late, late.stallMs > 10 { return late.stallMs }
        return (error is LabProblem || error is Late) && clientStallMs > 100 ? clientStallMs : nil
    }

    /// Runs a story on a cluster that has settled, with clients, then checks what must hold in every story: never two
    /// owners, from before the first start to the end.
    ///
    /// A story that fails while the machine did not run even the clients for a tenth of a second proves nothing about time,
    /// and is told again, as is one that only takes too long while a processor stood still; what is required with `#require` (who may own the VIP, what may not get lost) is never excused.
    /// - Parameter isPatient: where no request may fail, whatever happens: a machine that is slow to answer then breaks nothing;
    ///   what is lost is lost, since a second is over when TCP sends a SYN again.
    static func withCluster(
        _ options: LabClusterOptions = LabClusterOptions(), isPatient: Bool = false, _ body: (Story) throws -> Void
    ) throws {
        for attempt in 1... {
            let lab = try Lab(inMemory: true)
            defer { lab.tearDown() }
            let start = System.bootNanoseconds()
            _ = Witness.shared
            let cluster = try LabCluster(lab, options)
            var story: Story?
            do {
                try cluster.startAll()
                try cluster.waitUntilSettled()
                let told = try Story(cluster, timeoutMs: isPatient ? 1000 : 250)
                story = told
                try body(told)
                if options.fencing != "trust" { try #require(try lab.ownership().overlaps == []) }
                return
            } catch {
                let record = try? lab.ownership()
                let isSafe = options.fencing == "trust" || record?.overlaps.isEmpty == true
                let stall = story?.longestStallMs ?? 0
                if isSafe, attempt < attempts, let stood = excuse(error, clientStallMs: stall) {
                    LabSystem.say("  the machine stood still for \(DemoWindow.ms(stood)): told again (\(error))\n")
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

extension Lab {
    /// The answer to a question that is asked once: what gives none in time is asked again, since a busy machine may be late.
    func answer<Value>(_ what: String, _ ask: () throws -> Value?) throws -> Value {
        var found: Value?
        try wait("an answer: \(what)", seconds: 30) {
            found = try ask()
            return found != nil
        }
        return try #require(found)
    }
}

extension LabCluster {
    /// What a node that runs says of itself. In a wait `status` will do, which asks once.
    func view(_ node: String) throws -> LabStatus { try lab.answer("status of \(node)") { status(node) } }
}

/// A cluster under load while something happens to it.
final class Story {
    let cluster: LabCluster
    private let fresh: LabLoad
    private let kept: LabLoad
    private let timeoutMs: Int

    var lab: Lab { cluster.lab }

    /// - Parameter timeoutMs: a request that takes longer has failed.
    init(_ cluster: LabCluster, timeoutMs: Int) throws {
        self.cluster = cluster
        self.timeoutMs = timeoutMs
        let timeout = ["--timeout", "\(timeoutMs)"]
        fresh = try cluster.startLoad("new", rate: 200, newConnections: true, more: timeout)
        kept = try cluster.startLoad("kept", rate: 50, newConnections: false, more: timeout)
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
            // A request that ended later than any of the window can proves that all of them are in the log.
            System.bootNanoseconds() >= to + UInt64(timeoutMs + 50) * 1_000_000
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
        if broken.isEmpty { return }
        let problem = "line \(line): \(what): \(broken.joined(separator: "; "))"
        var unhurried = allowance
        unhurried.outageMs = allowance.outageMs.map { _ in .infinity }
        unhurried.withoutOwnerMs = nil
        // That an answer didn't come in a client's quarter of a second is about time, too.
        let inTime = DemoWindow(
            from: from, to: to, ownership: ownership, fresh: fresh.filter { $0.outcome != .answerTimeout },
            kept: kept.filter { $0.outcome != .answerTimeout })
        if inTime.broken(unhurried).isEmpty {
            throw EndToEnd.Late(problem, stallMs: Witness.shared.longestStallMs(since: from))
        }
        throw LabProblem(problem)
    }
}
