// LoadFigures: what the load client counts: answers by server, failures by cause, latencies, outages. Pure.
//
// Outages are judged in the order in which requests *started*, whatever the order of their ends: an outage goes from the
// start of the first failed request to the start of the first one after it that succeeded. Memory is bounded,
// however long a run lasts.

/// How one request ended.
enum LoadOutcome: Equatable, Sendable {
    case answered
    /// Answered on a second connection, since the peer had closed the first before it got the request.
    case reconnected
    case refused
    case unreachable
    /// No connection within the timeout.
    case connectTimeout
    /// Connected, but no complete answer within the timeout.
    case answerTimeout
    case reset
    /// The connection ended before the response was complete.
    case closed
    /// Not an HTTP/1.1 response.
    case malformed
    /// A response, but not a 2xx or 3xx.
    case status(Int)
    /// No request: the peer ended an idle connection without having said so in its last answer.
    case dropped
    /// The client's own machine could not start it: no port or descriptor left.
    case local

    var isSuccess: Bool { self == .answered || self == .reconnected }

    /// The word for it in summaries and logs.
    var word: String {
        switch self {
        case .answered: "ok"
        case .reconnected: "reconnected"
        case .refused: "refused"
        case .unreachable: "unreachable"
        case .connectTimeout: "connect-timeout"
        case .answerTimeout: "answer-timeout"
        case .reset: "reset"
        case .closed: "closed"
        case .malformed: "malformed"
        case .status(let code): "http-\(code)"
        case .dropped: "dropped"
        case .local: "local"
        }
    }
}

/// A request that ended. Times are CLOCK_BOOTTIME nanoseconds.
struct LoadResult: Equatable, Sendable {
    var start: UInt64
    var end: UInt64
    var outcome: LoadOutcome
    var who: String?

    /// `START END OUTCOME WHO`, as `--log` writes it.
    var line: String { "\(start) \(end) \(outcome.word) \(who ?? "-")\n" }

    /// Reads a line of a log; only success or failure of the outcome is kept apart.
    init?(line: Substring) {
        let words = line.split(separator: " ", maxSplits: 3)
        guard words.count == 4, let start = UInt64(words[0]), let end = UInt64(words[1]) else { return nil }
        self.start = start
        self.end = end
        let word = String(words[2])
        let plain: [LoadOutcome] = [
            .answered, .reconnected, .refused, .unreachable, .connectTimeout, .answerTimeout, .reset, .closed,
            .malformed, .dropped, .local,
        ]
        if let outcome = plain.first(where: { $0.word == word }) {
            self.outcome = outcome
        } else {
            guard word.hasPrefix("http-"), let code = Int(word.dropFirst(5)) else { return nil }
            outcome = .status(code)
        }
        who = words[3] == "-" ? nil : String(words[3])
    }

    init(start: UInt64, end: UInt64, outcome: LoadOutcome, who: String?) {
        self.start = start
        self.end = end
        self.outcome = outcome
        self.who = who
    }
}

/// Latencies in microseconds, to within 2 % each, in a fixed table.
struct LatencyHistogram: Sendable {
    private var counts = [Int](repeating: 0, count: 64 * 32)
    private(set) var count = 0
    private(set) var maximum: UInt64 = 0

    mutating func add(_ microseconds: UInt64) {
        counts[Self.index(microseconds)] += 1
        count += 1
        maximum = max(maximum, microseconds)
    }

    /// - Parameter fraction: 0.5 for the median.
    func percentile(_ fraction: Double) -> UInt64 {
        var left = Int((Double(count) * fraction).rounded(.up))
        for (index, counted) in counts.enumerated() where counted > 0 {
            left -= counted
            if left <= 0 { return min(Self.value(index), maximum) }
        }
        return maximum
    }

    // Below 64 each value has its own bucket; above, every power of two is divided into 64.
    private static func index(_ value: UInt64) -> Int {
        if value < 64 { return Int(value) }
        let shift = 57 - value.leadingZeroBitCount
        return min((shift + 1) * 64 + Int(value >> UInt64(shift)) - 64, 64 * 32 - 1)
    }

    private static func value(_ index: Int) -> UInt64 {
        if index < 64 { return UInt64(index) }
        let shift = UInt64(index / 64 - 1)
        return (UInt64(index % 64 + 64) << shift) + (1 << shift) - 1
    }
}

/// A span in which requests failed. Times are CLOCK_BOOTTIME nanoseconds.
struct LoadOutage: Equatable, Sendable {
    var start: UInt64
    /// nil while no request has succeeded since.
    var end: UInt64?
    var failed: Int

    func milliseconds(until now: UInt64) -> Double { Double((end ?? now) - start) / 1e6 }
}

/// Finds outages in results given in the order of their starts.
struct LoadOutages: Sendable {
    /// More than that are only counted: whoever has that many needs no list.
    static let kept = 1000

    private(set) var all: [LoadOutage] = []
    private(set) var count = 0
    private var isOut = false

    init() {}

    /// Those of a whole log, in any order.
    init(_ results: [LoadResult]) {
        for result in results.sorted(by: { ($0.start, $0.end) < ($1.start, $1.end) }) { add(result) }
    }

    mutating func add(_ result: LoadResult) {
        if result.outcome.isSuccess {
            if isOut, count <= Self.kept { all[all.count - 1].end = result.start }
            isOut = false
            return
        }
        if !isOut {
            isOut = true
            count += 1
            if count <= Self.kept { all.append(LoadOutage(start: result.start, end: nil, failed: 0)) }
        }
        if count <= Self.kept { all[all.count - 1].failed += 1 }
    }
}

/// Everything the client knows at the end.
struct LoadFigures: Sendable {
    private(set) var requests = 0
    private(set) var failed = 0
    private(set) var reconnected = 0
    /// Idle connections that the peer ended unannounced.
    var dropped = 0
    /// Failures by cause and answers by server, in order of first appearance.
    private(set) var causes: [(name: String, count: Int)] = []
    private(set) var servers: [(name: String, count: Int)] = []
    private(set) var latencies = LatencyHistogram()
    private(set) var outages = LoadOutages()
    /// The longest time between the ends of two successes that followed each other.
    private(set) var longestWithoutSuccess: UInt64 = 0
    private var lastSuccess: UInt64?
    /// By how much a request started later than planned, because this client was not scheduled in time.
    var lagMax: UInt64 = 0

    // Results wait here until those of all earlier requests are in.
    private var pending: [LoadResult?] = []
    private var pendingFirst = 0

    /// - Parameter number: of the request, from 0, in the order of starts.
    mutating func add(_ result: LoadResult, number: Int) {
        requests += 1
        if result.outcome.isSuccess {
            latencies.add((result.end - result.start) / 1000)
            Self.count(result.who ?? "?", in: &servers)
            if result.outcome == .reconnected { reconnected += 1 }
            if let last = lastSuccess, result.end > last {
                longestWithoutSuccess = max(longestWithoutSuccess, result.end - last)
            }
            lastSuccess = max(lastSuccess ?? 0, result.end)
        } else {
            failed += 1
            Self.count(result.outcome.word, in: &causes)
        }
        while pending.count <= number - pendingFirst { pending.append(nil) }
        pending[number - pendingFirst] = result
        var settled = 0
        while settled < pending.count, let next = pending[settled] {
            outages.add(next)
            settled += 1
        }
        pending.removeFirst(settled)
        pendingFirst += settled
    }

    static func count(_ name: String, in list: inout [(name: String, count: Int)]) {
        if let index = list.firstIndex(where: { $0.name == name }) {
            list[index].count += 1
        } else {
            list.append((name, 1))
        }
    }

    /// The summary, several lines.
    /// - Parameter intervalNs: the nominal time between two requests.
    func summary(intervalNs: UInt64, endedAt now: UInt64) -> String {
        var text = "\(requests) requests, \(failed) failed"
        if failed > 0 { text += " (" + causes.map { "\($0.name) \($0.count)" }.joined(separator: ", ") + ")" }
        if reconnected > 0 { text += ", \(reconnected) answered on a second connection" }
        if dropped > 0 { text += ", \(dropped) idle connections ended by the peer" }
        text += "\n"
        if !servers.isEmpty { text += "answered: \(Self.list(servers))\n" }
        let latency = { (fraction: Double) in Self.milliseconds(latencies.percentile(fraction) * 1000) }
        text +=
            "latency: p50 \(latency(0.5)), p99 \(latency(0.99)), max \(Self.milliseconds(latencies.maximum * 1000))\n"
        for outage in outages.all {
            let length = Self.milliseconds((outage.end ?? now) - outage.start)
            text += "outage: \(length)\(outage.end == nil ? " and not over" : ""), \(outage.failed) failed\n"
        }
        if outages.count > outages.all.count { text += "and \(outages.count - outages.all.count) outages more\n" }
        let atEnd = lastSuccess.map { now - $0 } ?? 0
        let longest = max(longestWithoutSuccess, atEnd)
        let silence = longest > intervalNs ? longest - intervalNs : 0
        text += "longest without an answer: \(Self.milliseconds(silence))"
        if lagMax > 20_000_000 { text += "; this client itself was late by up to \(Self.milliseconds(lagMax))" }
        return text + "\n"
    }

    /// `API #1: 40, API #2: 39`, sorted so that #2 comes before #10.
    static func list(_ servers: [(name: String, count: Int)]) -> String {
        servers.sorted { ($0.name.utf8.count, $0.name) < ($1.name.utf8.count, $1.name) }
            .map { "\($0.name): \($0.count)" }.joined(separator: ", ")
    }

    /// `0.42 ms`, `12.3 ms`, `250 ms`, from nanoseconds.
    static func milliseconds(_ nanoseconds: UInt64) -> String {
        let digits = nanoseconds < 10_000_000 ? 100 : nanoseconds < 100_000_000 ? 10 : 1
        let rounded = (Double(nanoseconds) / 1e6 * Double(digits)).rounded() / Double(digits)
        return digits == 1 ? "\(Int(rounded)) ms" : "\(rounded) ms"
    }
}
