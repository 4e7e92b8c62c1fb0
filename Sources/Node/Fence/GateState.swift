// GateState: decides what is written to the gate's `nft`, and when: the part of FenceState that knows the gate. Pure:
// events, wishes and `now` in, effects out. GateTable has the lines, Gate the process and the kernel's word.
//
//   deciding ─ first install in force ─▶ usable:   not installed ──▶ closed ⇄ open (until) ⇄ serving
//      │  │                               ▲             ▲              │ every change is one line; the next is written
//      │  │ a second passes               │             └── disturbed ─┘ when the kernel has confirmed the last
//      │  └──▶ retrying, another `nft` each time: it may have hung behind somebody else's work
//      │ refused, no nft   │ refused
//      ▼                   ▼
//   sweeping (an earlier life's table) ──▶ unusable
//
// Rules that safety rests on:
//  - One line is with `nft` at any time. It counts as with `nft` until the kernel has said that it is in force, `nft` has
//    refused it, or the `nft` that had it is dead and all it did has been heard.
//  - A line that opens names a timeout that ends before the lease does. It may be executed late; so from before it is
//    written until it is confirmed the kernel's timer stands (`killBy`), which ends every process that could.
//  - The gate counts as closed when the kernel has confirmed a line that closes it, or when every timeout that was
//    written has passed.
//  - Whoever fails is killed, and a new `nft` installs the table anew, closed.
//
// Whoever serves without owning may own again soon, so it remembers its flows all the while (`Forwarding.to(nil)`).

import Gossip

/// A line for `nft`.
enum GateLine: Equatable, Sendable {
    /// The whole table, closed.
    case install
    case open(until: Instant)
    case serve
    case close
    /// Remember which connections begin here. What isn't known waits to be sent again, or is taken.
    case learn(dropsUnknown: Bool)
    /// One line's worth of the flows that were found.
    case remember(part: Int)
    case forward(to: FlowRoute?)
    /// No more forwarding, and nothing is remembered.
    case keep
    case remove

    var opens: Bool { if case .open = self { true } else { false } }
}

struct GateState: Sendable {
    enum Event: Equatable, Sendable {
        /// A line is in force.
        case committed(line: UInt64)
        /// Somebody else changed or removed the table.
        case disturbed
        /// An interface was replaced, and perhaps what hung on it is gone; or not all that happened was heard.
        case unsure
        case refused(line: UInt64, reason: String)
        /// The shell didn't write a line, since it was too late for it.
        case withheld(line: UInt64)
        /// `nft` ended or could not be started.
        case ended(reason: String)
        /// The answer to `stop`: it is dead, and all that it did has been told.
        case stopped
        /// The answer to `findFlows`: how many lines they make.
        case found(parts: Int)
        /// A line that forwards lacks a neighbour's address, which is sought; to be written again.
        case seeking
    }

    enum Effect: Equatable, Sendable {
        case start
        case stop
        case write(GateLine, id: UInt64)
        /// Look for connections that are under way here.
        case findFlows
        case report(FenceAnswer)
    }

    enum Wish: Equatable, Sendable {
        case closed
        case open(until: Instant)
        /// Take packets, but answer no question for the VIP.
        case serving
        case gone
    }

    enum Timing {
        static let decision: Duration = .seconds(1)
        /// Between two tries after that.
        static let decisionRetry: Duration = .seconds(1)
        static let decisionRetryMax: Duration = .seconds(30)
        /// The element's lifetime ends this long before the lease: a tick of the kernel's clock (CONFIG_HZ=250).
        static let tick: Duration = .milliseconds(4)
        static let serving: Duration = .seconds(1)
        static let servingRenewal: Duration = .milliseconds(300)
        static let retry: Duration = .milliseconds(20)
        static let retryMax: Duration = .milliseconds(500)
        /// A line other than one that opens is late.
        static let late: Duration = .milliseconds(250)
        /// For a neighbour's answer.
        static let seeking: Duration = .milliseconds(5)
        static let lateAtLeast: Duration = .milliseconds(3)
        /// Flows not written by then don't keep the gate from opening: what isn't known then waits for its repetition.
        static let remembering: Duration = .milliseconds(5)
    }

    /// `nft -i` keeps every line in its memory, half a kilobyte each; it is replaced before that adds up.
    static let linesPerTool = 20_000

    enum Phase: Sendable { case deciding, retrying, sweeping, usable, unusable }

    private enum Forwarding: Equatable, Sendable {
        case none
        /// `parts` nil: not found yet. `drops`: packets that belong nowhere wait meanwhile.
        case learning(parts: Int?, next: Int, since: Instant, drops: Bool)
        /// Every flow is remembered; nil: what isn't stays here.
        case to(FlowRoute?)
    }

    private struct Sent: Sendable {
        let id: UInt64
        let line: GateLine
        let at: Instant
    }

    var wish = Wish.closed {
        didSet {
            if case .open = wish { return }
            if openUntil != nil || inFlight?.line.opens == true { isStale = true }
        }
    }
    var forwardTo: FlowRoute?

    private let use: GateUse
    private let lineGrace: Duration
    private(set) var phase: Phase
    private var decideBy: Instant
    private var decisionPause = Timing.decisionRetry
    /// It has been said whether there is a gate; that there is none may change.
    private(set) var isDecided = false
    private(set) var isInstalled = false
    /// By then every timeout in force has passed; 0: nothing is open. A line under way isn't counted.
    private var openBy = Instant(nanoseconds: 0)
    /// What the last line in force named.
    private var openUntil: Instant?
    private var withheldUntil: Instant?
    /// What is open, if anything, is left from before the gate was to close.
    private var isStale = false
    /// The sets may have elements.
    private var isFilled = false
    private var serveDue: Instant?
    private var forwarding = Forwarding.none
    private var seekAt: Instant?
    /// The table is gone for good, or as good as it gets.
    private(set) var isGone = false

    private var inFlight: Sent?
    private var lineID: UInt64 = 0
    private var runs = false
    private var stopping = false
    private var startAt: Instant
    private var backoff = Timing.retry
    private var linesWritten = 0
    private(set) var failing: String?
    private var effects: [Effect] = []

    init(_ use: GateUse, lineGrace: Duration, now: Instant) {
        self.use = use
        self.lineGrace = lineGrace
        phase = use == .never ? .sweeping : .deciding
        startAt = now
        decideBy = now.advanced(by: Timing.decision)
    }

    // MARK: what FenceState asks

    var isUsable: Bool { phase == .usable }
    /// Nothing may be held here.
    var forbids: Bool { isDecided && phase != .usable && use == .required }
    /// An address may be added: whatever stands before it stands.
    var allowsAddress: Bool { phase == .usable ? isInstalled : isDecided }
    /// There should be a table, and there is none, or not the one that was installed.
    var isLost: Bool { phase == .usable && !isInstalled }

    /// Whoever asks is answered; no gate hinders nobody.
    func isOpen(_ now: Instant) -> Bool {
        if phase != .usable { return isDecided }
        guard case .open = wish, isInstalled, !isStale, let openUntil else { return false }
        return now < openUntil.advanced(by: .zero - Timing.tick)
    }

    /// The gate keeps everybody from being answered.
    var isSilent: Bool {
        guard phase == .usable, isInstalled else { return false }
        return inFlight?.line.opens != true && openBy.nanoseconds == 0
    }

    /// When the kernel has to kill this process if a line isn't confirmed before.
    var killBy: Instant? {
        guard let inFlight, inFlight.line.opens, !stopping else { return nil }
        return inFlight.at.advanced(by: lineGrace)
    }

    var deadline: Instant? {
        var times: [Instant] = []
        if phase == .unusable || stopping { return nil }
        if phase != .usable, runs || !isDecided { times.append(decideBy) }
        if let inFlight {
            if phase == .usable { times.append(inFlight.at.advanced(by: lateAfter(inFlight.line))) }
        } else if !runs, needsTool {
            times.append(startAt)
        } else {
            if let serveDue, wish == .serving { times.append(serveDue) }
            if let seekAt { times.append(seekAt) }
        }
        if openBy.nanoseconds > 0 { times.append(openBy) }
        return times.min()
    }

    mutating func takeEffects() -> [Effect] {
        defer { effects = [] }
        return effects
    }

    // MARK: events

    mutating func step(_ event: Event, now: Instant) {
        switch event {
        case .committed(let line): committed(line, now)
        case .disturbed:
            if phase == .usable, isInstalled, wish != .gone {
                effects.append(.report(.warning("somebody else changed the gate's table: it is installed anew")))
            }
            isInstalled = false
        case .unsure: isInstalled = false
        case .refused(let line, let reason):
            guard inFlight?.id == line else { return }
            inFlight = nil
            failed(reason, now)
        case .withheld(let line):
            guard let sent = inFlight, sent.id == line else { return }
            if case .open(let until) = sent.line { withheldUntil = until }
            inFlight = nil
        case .ended(let reason):
            guard runs else { return }
            runs = false
            inFlight = nil
            failed(reason, now)
        case .stopped:
            stopping = false
            inFlight = nil
        case .found(let parts):
            if case .learning(nil, _, let since, let drops) = forwarding {
                forwarding = .learning(parts: parts, next: 0, since: since, drops: drops)
            }
        case .seeking: seekAt = now.advanced(by: Timing.seeking)
        }
    }

    private mutating func committed(_ id: UInt64, _ now: Instant) {
        guard let sent = inFlight, sent.id == id else {
            // From a line that was given up, or of another process that takes itself for this node's fence.
            isInstalled = false
            if phase == .unusable { sweepAgain(now) }
            // A table that nobody tends, and an `nft` that works.
            if phase == .retrying || phase == .sweeping, !runs { startAt = now }
            return
        }
        inFlight = nil
        if phase == .sweeping { return finishSweeping() }
        switch sent.line {
        case .install:
            isInstalled = true
            forwarding = .none
            closed()
            decide()
        case .open(let until):
            openUntil = until
            openBy = now.advanced(by: sent.at.duration(to: until))
            isFilled = true
            serveDue = nil
        case .serve:
            closed()
            isFilled = true
            serveDue = now.advanced(by: Timing.servingRenewal)
        case .close: closed()
        case .learn(let drops):
            if case .learning(let parts, let next, let since, _) = forwarding {
                forwarding = .learning(parts: parts, next: next, since: since, drops: drops)
            } else {
                learn(now, drops: drops)
            }
        case .remember(let part):
            if case .learning(let parts, _, let since, let drops) = forwarding {
                forwarding = .learning(parts: parts, next: part + 1, since: since, drops: drops)
            }
        case .forward(let route): forwarding = .to(route)
        case .keep: forwarding = .none
        case .remove:
            isInstalled = false
            isGone = true
        }
        backoff = Timing.retry
        if failing != nil, isInstalled {
            failing = nil
            effects.append(.report(.recovered))
        }
    }

    private mutating func closed() {
        isStale = false
        openUntil = nil
        openBy = Instant(nanoseconds: 0)
        withheldUntil = nil
        isFilled = false
        serveDue = nil
    }

    private mutating func learn(_ now: Instant, drops: Bool) {
        forwarding = .learning(parts: nil, next: 0, since: now, drops: drops)
        effects.append(.findFlows)
    }

    private mutating func decide() {
        guard phase != .usable else { return }
        phase = .usable
        isDecided = true
        effects.append(.report(.gate(isUsable: true, reason: "")))
    }

    private mutating func failed(_ reason: String, _ now: Instant) {
        isInstalled = false
        if wish == .gone { isGone = true }
        switch phase {
        case .retrying where !runs:
            // It ended without a word, as one does that somebody kills.
            pauseDecision(now)
        case .deciding, .retrying:
            effects.append(.report(.gate(isUsable: false, reason: reason)))
            // An earlier life may have had one. The reason may also be one that `nft` can't do anything against.
            if runs { phase = .sweeping } else { finishSweeping() }
        case .sweeping: finishSweeping()
        case .usable:
            if failing != reason { effects.append(.report(.failed(reason))) }
            failing = reason
            stop()
            pause(now)
        case .unusable: break
        }
    }

    private mutating func finishSweeping() {
        phase = .unusable
        isDecided = true
        isGone = true
        inFlight = nil
        stop()
    }

    /// A table that nobody tends would keep the VIP silent for good.
    private mutating func sweepAgain(_ now: Instant) {
        phase = .sweeping
        isGone = false
        startAt = now
        decideBy = now.advanced(by: Timing.decision)
    }

    private mutating func stop() {
        if runs {
            effects.append(.stop)
            stopping = true
        }
        runs = false
    }

    private mutating func pause(_ now: Instant) {
        startAt = now.advanced(by: backoff)
        backoff = min(backoff + backoff, Timing.retryMax)
    }

    // MARK: what follows

    mutating func advance(_ now: Instant) {
        if phase == .unusable { return }
        if now >= openBy { openBy = Instant(nanoseconds: 0) }
        if phase != .usable, !stopping, runs || !isDecided, now >= decideBy { undecided(now) }
        if let sent = inFlight, !stopping, now >= sent.at.advanced(by: lateAfter(sent.line)) { giveUp(sent, now) }
        if !runs, !stopping, needsTool, now >= startAt {
            runs = true
            linesWritten = 0
            if isDecided, phase != .usable { decideBy = now.advanced(by: Timing.decision) }
            effects.append(.start)
        }
        // A start that fails is told with `ended`, after this.
        guard runs, !stopping, inFlight == nil, let line = next(now) else { return }
        lineID += 1
        linesWritten += 1
        switch line {
        case .install, .forward, .keep, .remove: seekAt = nil
        case .open, .serve, .close, .learn, .remember: break
        }
        inFlight = Sent(id: lineID, line: line, at: now)
        effects.append(.write(line, id: lineID))
    }

    private var needsTool: Bool { !isGone }

    /// Long enough for a busy machine, and over before the kernel's timer ends everything.
    private func lateAfter(_ line: GateLine) -> Duration {
        switch line {
        case .open, .serve, .close: max(Timing.lateAtLeast, lineGrace / 2)
        default: Timing.late
        }
    }

    /// An `nft` that hangs says nothing against the next one. What it was told may still be executed, or have been, so
    /// there may be a closed table that nobody else takes away.
    private mutating func undecided(_ now: Instant) {
        if phase == .deciding {
            phase = .retrying
            effects.append(.report(.gate(isUsable: false, reason: "nft gave no answer within a second")))
        }
        isDecided = true
        if wish == .gone { isGone = true }
        stop()
        pauseDecision(now)
    }

    private mutating func pauseDecision(_ now: Instant) {
        startAt = now.advanced(by: decisionPause)
        decisionPause = min(decisionPause + decisionPause, Timing.decisionRetryMax)
    }

    /// A line that `nft` may hold on to must never be executed later: the `nft` that has it dies first.
    private mutating func giveUp(_ sent: Sent, _ now: Instant) {
        if phase != .usable { return }
        let milliseconds = Int(lateAfter(sent.line).milliseconds)
        effects.append(.report(.warning("nft gave no answer within \(milliseconds) ms: restarted")))
        if wish == .gone { isGone = true }
        let isFirst = backoff == Timing.retry
        stop()
        pause(now)
        // The first time at once; one that keeps hanging is not restarted without end.
        if isFirst { startAt = now }
    }

    private mutating func next(_ now: Instant) -> GateLine? {
        if phase == .sweeping { return .remove }
        if wish == .gone { return isGone ? nil : .remove }
        if !isInstalled { return .install }
        if linesWritten >= Self.linesPerTool {
            stop()
            startAt = now
            return nil
        }
        switch wish {
        case .closed where isFilled: return .close
        case .serving where openUntil != nil || serveDue.map { now >= $0 } ?? sendsOn: return .serve
        case .open where openUntil != nil && isStale: return .close
        // What is open stays open while forwarding changes.
        case .open(let until) where openUntil.map { now < $0.advanced(by: .zero - Timing.tick * 2) } ?? false:
            if until != openUntil, until != withheldUntil { return .open(until: until) }
        // Where nothing is to be forwarded any more, that can wait.
        case .open(let until) where until != withheldUntil && (forwardTo == nil || hasLearnedLongEnough(now)):
            if forwardTo != nil, case .learning(_, _, _, drops: false) = forwarding {
                return .learn(dropsUnknown: true)
            }
            return .open(until: until)
        default: break
        }
        if forwarding != wantedForwarding || isSeekingDue(now) { return nextForForwarding(now) }
        switch wish {
        case .open(let until) where until != openUntil && until != withheldUntil: return .open(until: until)
        default: return nil
        }
    }

    // MARK: forwarding

    private var wantedForwarding: Forwarding {
        if let forwardTo { return .to(forwardTo) }
        return wish == .serving ? .to(nil) : .none
    }

    /// What belongs to others goes on to them: it would be reset here.
    private var sendsOn: Bool { forwardTo == nil || forwarding == wantedForwarding }

    private func isSeekingDue(_ now: Instant) -> Bool {
        guard let seekAt, now >= seekAt, case .to = forwarding else { return false }
        return true
    }

    /// The flows of this node are so many that it takes its time.
    private func hasLearnedLongEnough(_ now: Instant) -> Bool {
        guard case .learning(_?, _, let since, _) = forwarding else { return false }
        return now >= since.advanced(by: Timing.remembering)
    }

    /// While the gate is closed nothing can begin here, so what is under way can be looked for at once. Otherwise what
    /// begins is remembered first.
    private mutating func nextForForwarding(_ now: Instant) -> GateLine? {
        if wantedForwarding == .none { return .keep }
        switch forwarding {
        case .to: return .forward(to: forwardTo)
        case .none:
            if isFilled { return .learn(dropsUnknown: forwardTo != nil) }
            learn(now, drops: false)
            return nil
        case .learning(let parts, let next, _, _):
            guard let parts else { return nil }
            return next < parts ? .remember(part: next) : .forward(to: forwardTo)
        }
    }
}
