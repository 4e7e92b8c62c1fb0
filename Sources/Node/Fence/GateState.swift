// GateState: decides what is written to the gate's `nft`, and when: the part of FenceState that knows the gate. Pure:
// events, wishes and `now` in, effects out. GateTable has the lines, Gate the process and the kernel's word.
//
//   deciding ─ first install in force ─▶ usable:   not installed ──▶ closed ⇄ open (until) ⇄ serving
//      │                                                ▲              │ every change is one line; the next is written
//      │ refused, no nft, a second passes               └── disturbed ─┘ when the kernel has confirmed the last
//      ▼
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

import Gossip

/// A line for `nft`.
enum GateLine: Equatable, Sendable {
    /// The whole table, closed.
    case install
    case open(until: Instant)
    case serve
    case close
    /// Remember which connections begin here.
    case learn
    /// One line's worth of the flows that were found.
    case remember(part: Int)
    case forward(to: MemberID)
    /// No more forwarding.
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
        /// The element's lifetime ends this long before the lease: a tick of the kernel's clock (CONFIG_HZ=250).
        static let tick: Duration = .milliseconds(4)
        static let serving: Duration = .seconds(1)
        static let servingRenewal: Duration = .milliseconds(300)
        static let retry: Duration = .milliseconds(20)
        static let retryMax: Duration = .milliseconds(500)
        /// A line other than one that opens is late.
        static let late: Duration = .milliseconds(250)
        static let lateAtLeast: Duration = .milliseconds(3)
        /// Flows not written by then are left out: the address has been without an owner for long enough.
        static let remembering: Duration = .milliseconds(100)
    }

    /// `nft -i` keeps every line in its memory, half a kilobyte each; it is replaced before that adds up.
    static let linesPerTool = 20_000

    enum Phase: Sendable { case deciding, sweeping, usable, unusable }

    private enum Forwarding: Equatable, Sendable {
        case none
        /// `parts` nil: not found yet.
        case learning(parts: Int?, next: Int, since: Instant)
        case to(MemberID)
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
    var forwardTo: MemberID?

    private let use: GateUse
    private let lineGrace: Duration
    private(set) var phase: Phase
    private var decideBy: Instant
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
    var isDecided: Bool { phase == .usable || phase == .unusable }
    /// Nothing may be held here.
    var forbids: Bool { phase == .unusable && use == .required }
    /// An address may be added: whatever stands before it stands.
    var allowsAddress: Bool { phase == .unusable || (phase == .usable && isInstalled) }

    /// Whoever asks is answered; no gate hinders nobody.
    func isOpen(_ now: Instant) -> Bool {
        if phase != .usable { return phase == .unusable }
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
        if phase == .deciding || phase == .sweeping { times.append(decideBy) }
        if phase == .unusable || stopping { return times.min() }
        if let inFlight {
            if phase == .usable { times.append(inFlight.at.advanced(by: lateAfter(inFlight.line))) }
        } else if !runs, needsTool {
            times.append(startAt)
        } else if let serveDue, wish == .serving {
            times.append(serveDue)
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
            if case .learning(nil, _, let since) = forwarding {
                forwarding = .learning(parts: parts, next: 0, since: since)
            }
        }
    }

    private mutating func committed(_ id: UInt64, _ now: Instant) {
        guard let sent = inFlight, sent.id == id else {
            // From a line that was given up, or of another process that takes itself for this node's fence.
            isInstalled = false
            if phase == .unusable { sweepAgain(now) }
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
        case .learn: learn(now)
        case .remember(let part):
            if case .learning(let parts, _, let since) = forwarding {
                forwarding = .learning(parts: parts, next: part + 1, since: since)
            }
        case .forward(let member): forwarding = .to(member)
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

    private mutating func learn(_ now: Instant) {
        forwarding = .learning(parts: nil, next: 0, since: now)
        effects.append(.findFlows)
    }

    private mutating func decide() {
        guard phase == .deciding else { return }
        phase = .usable
        effects.append(.report(.gate(isUsable: true, reason: "")))
    }

    private mutating func failed(_ reason: String, _ now: Instant) {
        isInstalled = false
        if wish == .gone { isGone = true }
        switch phase {
        case .deciding:
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
        if phase != .usable, now >= decideBy { return undecided() }
        if let sent = inFlight, !stopping, now >= sent.at.advanced(by: lateAfter(sent.line)) { giveUp(sent, now) }
        if !runs, !stopping, needsTool, now >= startAt {
            runs = true
            linesWritten = 0
            effects.append(.start)
        }
        // A start that fails is told with `ended`, after this.
        guard runs, !stopping, inFlight == nil, let line = next(now) else { return }
        lineID += 1
        linesWritten += 1
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

    private mutating func undecided() {
        if phase == .deciding {
            effects.append(.report(.gate(isUsable: false, reason: "nft gave no answer within a second")))
        }
        finishSweeping()
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
        case .serving where openUntil != nil || serveDue == nil: return .serve
        case .open where openUntil != nil && isStale: return .close
        // What is open stays open while forwarding changes.
        case .open(let until) where openUntil.map { now < $0.advanced(by: .zero - Timing.tick * 2) } ?? false:
            if until != openUntil, until != withheldUntil { return .open(until: until) }
        default: break
        }
        if forwarding != (forwardTo.map { .to($0) } ?? .none) { return nextForForwarding(now) }
        switch wish {
        case .open(let until) where until != openUntil && until != withheldUntil: return .open(until: until)
        case .serving: return serveDue.map { now >= $0 } ?? true ? .serve : nil
        default: return nil
        }
    }

    /// While the gate is closed nothing can begin here, so what is under way can be looked for at once. Otherwise what
    /// begins is remembered first.
    private mutating func nextForForwarding(_ now: Instant) -> GateLine? {
        guard let member = forwardTo else { return .keep }
        switch forwarding {
        case .to: return .forward(to: member)
        case .none:
            if isFilled { return .learn }
            learn(now)
            return nil
        case .learning(let parts, let next, let since):
            guard let parts else { return nil }
            if next < parts, now < since.advanced(by: Timing.remembering) { return .remember(part: next) }
            return .forward(to: member)
        }
    }
}
