// LabClients: everybody who uses the VIP of a lab at once: new connections, kept ones, clients whose kernel knows no
// neighbour, slow downloads and a WebSocket; and what became of them in a window of time.
//
// It belongs to the lab's thread, and blocks.

import Proxy

/// How many of each.
struct LabClientsOptions {
    /// A second.
    var newConnections = 200
    var keptConnections = 50
    /// Requests a second over all of the kept connections.
    var keptRate = 200
    var coldConnections = 20
    var downloads = 5
    var downloadSeconds = 10.0
    var downloadBytes = 2 << 20
    var webSockets = 1
    /// A request that takes longer has failed, milliseconds.
    var timeoutMs = 250
}

final class LabClients {
    private let cluster: LabCluster
    private let timeoutMs: Int
    private let fresh: LabLoad
    private let kept: LabLoad
    private let cold: LabLoad
    private let streams: LabLoad

    /// Starts them, and waits until each kind has been answered.
    init(_ cluster: LabCluster, _ options: LabClientsOptions = LabClientsOptions()) throws {
        self.cluster = cluster
        timeoutMs = options.timeoutMs
        let timeout = ["--timeout", "\(options.timeoutMs)"]
        fresh = try cluster.startLoad("new", rate: options.newConnections, newConnections: true, more: timeout)
        kept = try cluster.startLoad(
            "kept", rate: options.keptRate, newConnections: false, connections: options.keptConnections,
            more: timeout)
        cold = try cluster.startLoad(
            "cold", rate: options.coldConnections, newConnections: true, on: LabNetwork.coldName,
            more: timeout + ["--forget-neighbour", "eth0"])
        streams = try cluster.startStreams(
            ["--downloads", "\(options.downloads)", "--seconds", "\(options.downloadSeconds)"]
                + ["--websockets", "\(options.webSockets)", "--bytes", "\(options.downloadBytes)"])
        let all = self.all
        try cluster.lab.wait("every kind of client is answered") {
            all.allSatisfy { $0.results().contains { $0.outcome.isSuccess } }
        }
    }

    private var all: [LabLoad] { [fresh, kept, cold, streams] }

    func stop() throws {
        for load in all { _ = try cluster.stop(load) }
    }

    /// What happened from one moment to another, when every request of that time has ended.
    func window(from: UInt64, to: UInt64) throws -> LabWindow {
        let loads = [fresh, kept, cold]
        try cluster.lab.wait("every request of the window has ended", seconds: 30) {
            // A request that ended later than any of the window can proves that all of them are in the log.
            System.bootNanoseconds() >= to + UInt64(timeoutMs + 50) * 1_000_000
                && loads.allSatisfy { ($0.lastEnd ?? 0) > to }
        }
        return LabWindow(
            base: DemoWindow(
                from: from, to: to, ownership: try cluster.lab.ownership(), fresh: fresh.results(), kept: kept.results()
            ),
            cold: LabWindow.inside(cold.results(), from, to), streams: LabWindow.inside(streams.results(), from, to))
    }
}

/// A window with all kinds of clients. Pure.
struct LabWindow {
    var base: DemoWindow
    var cold: [LoadResult]
    var streams: [LoadResult]

    /// As in DemoWindow: what began in it, and what failed in it.
    static func inside(_ results: [LoadResult], _ from: UInt64, _ to: UInt64) -> [LoadResult] {
        results.filter { $0.start < to && ($0.start >= from || ($0.end >= from && !$0.outcome.isSuccess)) }
    }

    /// What went wrong for a client, by who and why: `new reset 2, websocket-1 closed 1`. A kept connection that had to be
    /// made again is broken, also when the request was answered on the second one.
    var causes: [(name: String, count: Int)] {
        var causes: [(name: String, count: Int)] = []
        let count = { (who: String, results: [LoadResult]) in
            for result in results where !result.outcome.isSuccess || result.outcome == .reconnected {
                LoadFigures.count("\(who) \(result.outcome.word)", in: &causes)
            }
        }
        count("new", base.fresh)
        count("kept", base.kept + base.dropped)
        count("cold", cold)
        for name in Set(streams.compactMap(\.who)).sorted() { count(name, streams.filter { $0.who == name }) }
        return causes
    }

    var broken: Int { causes.reduce(0) { $0 + $1.count } }

    var requests: Int { base.fresh.count + base.kept.count + cold.count + streams.count }

    /// The longest outages, milliseconds: of clients that know their neighbours, and of those that don't.
    var outageMs: Double { base.longestOutageMs }
    var coldOutageMs: Double { LoadOutages(cold).all.map { $0.milliseconds(until: base.to) }.max() ?? 0 }

    /// The longest time in which nobody answered for the VIP, moves and lapses alike, milliseconds.
    var gapMs: Double {
        let spans = base.changes.gaps + base.changes.lapses.filter { $0.from < base.to }
        return spans.map { gap in Double(min(gap.to ?? base.to, base.to) - min(gap.from, base.to)) / 1e6 }.max() ?? 0
    }

    /// Moves of the VIP from one node to another.
    var moves: Int {
        var (owner, count) = (base.ownerBefore, 0)
        for change in base.changes.changes where change.owns && change.at <= base.to {
            if let owner, owner != change.node { count += 1 }
            owner = change.node
        }
        return count
    }

    /// Pairs that owned it at once.
    var overlaps: [OwnershipRecord.Overlap] {
        base.ownership.overlaps.filter { ($0.to ?? base.to) > base.from && $0.from < base.to }
    }
}
