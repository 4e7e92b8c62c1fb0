// CheckState: when to probe one server, and what its results come to. Pure: no socket, no clock.
//
//   event                          state            effect
//   tick, start time reached       waiting→running  start
//   finished(passed), drains       running→waiting  decided, when the verdict changes
//   tick, timeout passed           running→waiting  abandon; counts as a failure
//   gaveUp                         running→waiting  nothing counts: the probe failed on this node, not at the server
//   suspect                        waiting          the next start comes at once (but see `suspicionGap`)
//
// The first result decides. After that `rise` passes or `fall` failures in a row change the verdict. That a server asks to be
// drained, or no longer does, is its own word: once is enough. Starts stand on a
// fixed grid of `interval`, moved by `phase`, so that the probes of many servers, and those of several nodes, spread.
// Off the grid: a result that contradicts the verdict is followed up after a quarter of the interval, and one under
// suspicion (a connection failed while forwarding) after `suspicionPace`, so that a dead server is known to be so in a
// fraction of the time that patient polling would take.
// Times are nanoseconds of CLOCK_BOOTTIME.

/// What a check has decided about a server.
public enum CheckVerdict: String, Sendable {
    case unknown, up, down
    /// It works, and asks for no new requests.
    case drain
}

/// How often a server is probed and how many results in a row change the verdict.
public struct CheckPacing: Sendable, Equatable {
    public let intervalNs: UInt64
    public let timeoutNs: UInt64
    public let rise: Int
    public let fall: Int

    /// Values below the smallest sensible (1 ms, 1 result) are raised to it.
    public init(interval: Duration, timeout: Duration, rise: Int, fall: Int) {
        intervalNs = max(1_000_000, interval.wholeNanoseconds)
        timeoutNs = max(1_000_000, timeout.wholeNanoseconds)
        self.rise = max(1, rise)
        self.fall = max(1, fall)
    }
}

public struct CheckState: Sendable {
    public enum Event: Equatable, Sendable {
        case tick
        case finished(passed: Bool)
        /// The server answered that it wants no new requests.
        case drains
        /// The probe could not be made for want of something here.
        case gaveUp
        case suspect
    }

    public enum Effect: Equatable, Sendable {
        /// Begin a probe.
        case start
        /// The probe under way took too long: close it. It has been counted as failed.
        case abandon
        /// The verdict changed to this.
        case decided(CheckVerdict)
    }

    private enum Phase: Sendable {
        case waiting(untilNs: UInt64)
        case running(sinceNs: UInt64)
    }

    /// Shortest time between the starts of two probes when the second is due to suspicion: failures that come by the
    /// thousand must not become probes by the thousand.
    static let suspicionGapNs: UInt64 = 100_000_000
    /// Between the starts of probes while a suspicion is being cleared up.
    static let suspicionPaceNs: UInt64 = 200_000_000

    public private(set) var verdict = CheckVerdict.unknown
    public var pacing: CheckPacing
    private let phaseNs: UInt64
    private var phase: Phase
    private var lastStartNs: UInt64 = 0
    /// Results in a row that say `streakOf` and contradict the verdict.
    private var streak = 0
    private var streakOf = CheckVerdict.unknown
    private var suspected = false
    private var effects: [Effect] = []

    /// - Parameters:
    ///   - phaseNs: moves the grid of starts; its remainder by the interval counts.
    ///   - firstNs: when the first probe starts, off the grid.
    public init(pacing: CheckPacing, phaseNs: UInt64, firstNs: UInt64) {
        self.pacing = pacing
        self.phaseNs = phaseNs
        phase = .waiting(untilNs: firstNs)
    }

    public var isRunning: Bool {
        if case .running = phase { true } else { false }
    }

    /// When `tick` is next due.
    public var deadlineNs: UInt64 {
        switch phase {
        case .waiting(let untilNs): untilNs
        case .running(let sinceNs): sinceNs + pacing.timeoutNs
        }
    }

    public mutating func step(_ event: Event, nowNs: UInt64) {
        switch (event, phase) {
        case (.tick, .waiting(let untilNs)):
            guard nowNs >= untilNs else { return }
            phase = .running(sinceNs: nowNs)
            lastStartNs = nowNs
            effects.append(.start)
        case (.tick, .running(let sinceNs)):
            guard nowNs >= sinceNs + pacing.timeoutNs else { return }
            effects.append(.abandon)
            conclude(.down, nowNs: nowNs)
        case (.finished(let passed), .running):
            conclude(passed ? .up : .down, nowNs: nowNs)
        case (.drains, .running):
            conclude(.drain, nowNs: nowNs)
        case (.gaveUp, .running):
            phase = .waiting(untilNs: max(nowNs + Self.suspicionGapNs, nextStart(nowNs: nowNs)))
        case (.finished, .waiting), (.drains, .waiting), (.gaveUp, .waiting):
            break
        case (.suspect, .waiting(let untilNs)):
            suspected = verdict != .down
            let soonest = lastStartNs == 0 ? nowNs : max(nowNs, lastStartNs + Self.suspicionGapNs)
            phase = .waiting(untilNs: min(untilNs, soonest))
        case (.suspect, .running):
            // The probe under way answers it; if it fails, the follow-up is quick.
            suspected = verdict != .down
        }
    }

    public mutating func nextEffect() -> Effect? {
        effects.isEmpty ? nil : effects.removeFirst()
    }

    private mutating func conclude(_ result: CheckVerdict, nowNs: UInt64) {
        let agrees = verdict == result
        streak = agrees ? 0 : result == streakOf ? streak + 1 : 1
        streakOf = result
        if !agrees, verdict == .unknown || streak >= resultsNeeded(for: result) {
            verdict = result
            streak = 0
            effects.append(.decided(result))
        }
        if result != .down || verdict == .down { suspected = false }
        phase = .waiting(untilNs: nextStart(nowNs: nowNs))
    }

    private func resultsNeeded(for result: CheckVerdict) -> Int {
        switch result {
        case .down: pacing.fall
        case .up where verdict == .down: pacing.rise
        default: 1
        }
    }

    private func nextStart(nowNs: UInt64) -> UInt64 {
        if suspected {
            return max(nowNs, lastStartNs + min(pacing.intervalNs, Self.suspicionPaceNs))
        }
        if streak > 0 {
            return max(nowNs, lastStartNs + pacing.intervalNs / 4)
        }
        // The grid's first point that is at least half an interval after the last start, and not past.
        let earliest = max(nowNs, lastStartNs + pacing.intervalNs / 2)
        let offset = (earliest + pacing.intervalNs - phaseNs % pacing.intervalNs) % pacing.intervalNs
        return offset == 0 ? earliest : earliest + pacing.intervalNs - offset
    }
}

extension Duration {
    /// Nanoseconds, 0 for a negative span.
    var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return seconds < 0
            ? 0 : UInt64(clamping: seconds) * 1_000_000_000 + UInt64(clamping: attoseconds) / 1_000_000_000
    }
}
