// AnswerTracker: who answers for an address, from numbered probes and the answers to them. Pure.
//
// Every host hears every probe, so that two owners at one moment are two answers to one probe. A *run* is a span of
// probes that one station answered; it is over when none was answered for `graceNs`. Two runs that share a probe, or of
// which one begins within the other, are two owners; a gap lies between the last probe of one and the first of the next.
//
// A line of its log (times are CLOCK_BOOTTIME nanoseconds):
//   + STATION PROBE SENT AT    a run begins: the first probe it answered, when that was sent, when the answer came
//   - STATION PROBE SENT AT    it is over: the last probe it answered
//   ~ STATION FROM TO MISSED   within a run: probes without an answer, between two answers
//   g STATION AT KIND          it announced the address unasked: request, reply or advertisement
//   s FROM TO                  the observer itself was not scheduled
//   t AT PROBES                everything up to here is in the log

/// Turns probes and answers into the lines of a log.
struct AnswerTracker {
    /// How long a station must be silent until its run is over.
    static let graceNs: UInt64 = 20_000_000

    private struct Run {
        var station: String
        var lastProbe: Int
        var lastSent: UInt64
        var lastAt: UInt64
    }

    private var runs: [Run] = []
    private(set) var lines: [String] = []

    /// - Parameters:
    ///   - sent: when the probe that this answers was sent.
    ///   - at: when the answer came.
    mutating func answered(_ station: String, probe: Int, sent: UInt64, at: UInt64) {
        guard let index = runs.firstIndex(where: { $0.station == station }) else {
            runs.append(Run(station: station, lastProbe: probe, lastSent: sent, lastAt: at))
            lines.append("+ \(station) \(probe) \(sent) \(at)")
            return
        }
        // A second answer to one probe, or one that was overtaken.
        if probe <= runs[index].lastProbe { return }
        let missed = probe - runs[index].lastProbe - 1
        if missed > 0 { lines.append("~ \(station) \(runs[index].lastAt) \(at) \(missed)") }
        runs[index].lastProbe = probe
        runs[index].lastSent = sent
        runs[index].lastAt = at
    }

    mutating func announced(_ station: String, at: UInt64, kind: String) {
        lines.append("g \(station) \(at) \(kind)")
    }

    /// Ends the runs of stations that have been silent for long enough.
    /// - Parameter sent: when the latest probe was sent: a station is silent only while it is asked.
    mutating func elapse(sent: UInt64) {
        runs.removeAll { run in
            guard sent >= run.lastSent + Self.graceNs else { return false }
            lines.append("- \(run.station) \(run.lastProbe) \(run.lastSent) \(run.lastAt)")
            return true
        }
    }

    mutating func stalled(from: UInt64, to: UInt64) { lines.append("s \(from) \(to)") }

    mutating func complete(at: UInt64, probes: Int) { lines.append("t \(at) \(probes)") }

    mutating func takeLines() -> [String] {
        defer { lines.removeAll(keepingCapacity: true) }
        return lines
    }
}

/// What an observer's log says.
struct AnswerLog: Sendable {
    struct Run: Equatable, Sendable {
        var station: String
        var firstProbe: Int
        var firstAt: UInt64
        /// nil while it lasts.
        var lastProbe: Int?
        var lastAt: UInt64?
    }

    struct Announcement: Equatable, Sendable {
        var station: String
        var at: UInt64
        var kind: String
    }

    private(set) var runs: [Run] = []
    /// The owner's own silences, each shorter than the grace.
    private(set) var lapses: [(station: String, from: UInt64, to: UInt64, missed: Int)] = []
    private(set) var announcements: [Announcement] = []
    private(set) var stalls: [(from: UInt64, to: UInt64)] = []
    /// Everything up to this moment is known.
    private(set) var completeTo: UInt64 = 0

    init(_ text: String) {
        // A line that is still being written has no end yet.
        let whole = text[..<(text.lastIndex(of: "\n") ?? text.startIndex)]
        for line in whole.split(separator: "\n") { read(line.split(separator: " ").map(String.init)) }
    }

    private mutating func read(_ words: [String]) {
        let number = { (index: Int) in words.indices.contains(index) ? UInt64(words[index]) ?? 0 : 0 }
        guard words.count >= 3 else { return }
        switch words[0] {
        case "+":
            runs.append(Run(station: words[1], firstProbe: Int(number(2)), firstAt: number(4)))
        case "-":
            guard let index = runs.lastIndex(where: { $0.station == words[1] && $0.lastProbe == nil }) else { return }
            runs[index].lastProbe = Int(number(2))
            runs[index].lastAt = number(4)
        case "~": lapses.append((words[1], number(2), number(3), Int(number(4))))
        case "g": announcements.append(Announcement(station: words[1], at: number(2), kind: words.last ?? ""))
        case "s": stalls.append((number(1), number(2)))
        case "t": completeTo = number(1)
        default: break
        }
    }

    /// As a record of ownership. The order is that of the probes: a run that ended with an earlier probe than another began
    /// with was over before; one that shares a probe with it was not.
    /// - Parameter names: what stations are called; others go by their Ethernet address.
    func ownership(_ names: [String: String]) -> OwnershipRecord {
        typealias Step = (probe: Int, isEnd: Bool, change: OwnershipRecord.Change)
        var steps: [Step] = []
        for run in runs {
            let name = names[run.station] ?? run.station
            steps.append((run.firstProbe, false, .init(at: run.firstAt, node: name, owns: true)))
            guard let last = run.lastProbe, let at = run.lastAt else { continue }
            steps.append((last, true, .init(at: at, node: name, owns: false)))
        }
        steps.sort { ($0.probe, $0.isEnd ? 1 : 0) < ($1.probe, $1.isEnd ? 1 : 0) }
        var record = OwnershipRecord(changes: steps.map(\.change))
        record.lapses = lapses.map { lapse in
            let name = names[lapse.station] ?? lapse.station
            return .init(after: name, from: lapse.from, before: name, to: lapse.to)
        }
        return record
    }
}
