// FenceState: decides what the fence does to the VIPs, and when. Pure: events and `now` in, effects out; no I/O, no
// clock. FenceProcess owns the one there is.
//
//                 hold(until)                     every VIP confirmed
//      ┌────────┐ ─────────────▶ ┌─────────────┐ ─────────────────────▶ ┌──────┐ ⟲ renew every 300 ms,
//      │  idle  │                │ present     │                        │ held │   put back when it vanishes,
//      └────────┘ ◀────────────┐ │ (adding)    │                        └──────┘   announce
//       ⟲ sweep what    every  │ └─────────────┘                           │
//         appears       VIP    │        │ drop · until passes · closed · bye │
//                       gone   │        ▼                                  ▼
//                 (dropped)    └── ┌───────────────────────────────────────────┐    closed: release ×3, exit
//                                  │ letting go: a hold waits until it is done │ ─▶ bye: exit
//                                  └───────────────────────────────────────────┘
//
// With a usable gate (GateState) the addresses stay as they are above, and the gate is opened with a hold, when what
// is to be forwarded is, and closed first of all that lets go. `held` then needs the open gate, and whoever lets
// go is silent as soon as it is closed:
//
//      ┌──────┐ ─────────────── yield ──────────────▶ ┌──────────┐  gate closed (dropped), packets taken, ⟲ renew
//      │ held │ ◀── hold(until), gate closed before ── │ yielding │ ── drop · closed · bye ──▶ letting go
//      └──────┘                                       └──────────┘
//                  idle, letting go ── yield ─────────────▲     the addresses come back when the gate is closed
//
// Rules that safety rests on (DESIGN.md 2.3):
//  - A VIP is added or renewed only while now < until. The shell looks at the clock again right before it writes.
//  - At most one line that adds is with `ip` at any time, and it counts as with `ip` until the kernel has said that it
//    took effect, `ip` has said that it failed, or that `ip` is dead.
//  - From before the first such line until the kernel has confirmed that every VIP is gone, a timer of the kernel
//    stands that kills this process, and with it `ip`, shortly after `until`. So a line that was written and not yet
//    executed when everything was stopped is never executed later than that, whoever wakes first.
//  - `dropped` and the release are said only when nothing here can answer for a VIP: the kernel shows none and no adding
//    line can be left, or the gate is closed and no opening line can be left.

import Gossip

struct FenceState: Sendable {
    private struct Slot: Sendable {
        let text: String
        var present = false
        /// Present by a line of ours since the last hold began.
        var confirmed = false
        /// Not before this: renewal when present, another try when not.
        var dueAt = Instant(nanoseconds: 0)
        var announceAt: Instant?
        var announcements = 0
        /// Vanished although we hold it.
        var lost = false
        /// Present although nobody asked for it.
        var unwanted = false
        /// Why the last line failed; told when the next look shows that it matters.
        var refusal: String?
    }

    private struct Sent: Sendable {
        let id: UInt64
        let line: FenceLine
        let at: Instant
    }

    private enum Leaving: Sendable { case closed, bye }

    private var gate: GateState
    private var wasOpen = false
    /// Keeps the addresses without holding: a planned move.
    private var yielding = false

    private var slots: [Slot]
    private var strays: [FenceStray] = []
    /// The next try at strays.
    private var clearAt = Instant(nanoseconds: 0)
    private var until: Instant?
    private var term: UInt64 = 0
    /// The last order taken in, and the one that the present holding began with.
    private var lastOrder: UInt64 = 0
    private var beganWith: UInt64 = 0
    private var everHeld = false
    private var toldHeld: UInt64?
    /// A drop to be reported when it is done. No VIP is added meanwhile.
    private var owed: FenceDropCause?
    private var toldReady = false
    private var leaving: Leaving?
    private var leaveBy = Instant(nanoseconds: .max)
    private var releaseAt: Instant?
    /// Leaving, and all was gone: nothing is swept any more, since it may be the next fence's.
    private var isEmptied = false
    private var releasesSent = 0
    private var exited = false

    private var inFlight: [Sent] = []
    private var lineID: UInt64 = 0
    private var looking = false
    /// When the kernel is to kill this process for the addresses' sake, and when it will.
    private var killForAddress: Instant?
    private var killSet: Instant?
    private var toolRuns = false
    private var toolStartAt = Instant(nanoseconds: 0)
    private var toolBackoff = Timing.retry
    private var failing: String?
    /// A line had its effect since the last failure.
    private var proven = true

    private var effects: [Effect] = []
    private var nextIndex = 0

    /// - Parameter vips: their text, for reports.
    init(vips: [String], gate use: GateUse = .never, lineGrace: Duration = .milliseconds(40), now: Instant) {
        slots = vips.map { Slot(text: $0) }
        gate = GateState(use, lineGrace: lineGrace, now: now)
        look()
        advance(now)
    }

    // MARK: public steps

    mutating func step(_ event: Event, now: Instant) {
        if exited { return }
        // A lease that is over is over before anything else is looked at; only a newer hold goes on from it.
        if case .hold = event {} else { expire(now) }
        switch event {
        case .tick: break
        case .hold(let until, let term, let order):
            lastOrder = order
            hold(until, term, now)
        case .drop(let order):
            lastOrder = order
            letGo(.commanded, now)
        case .yield(let order):
            lastOrder = order
            yield(now)
        case .forward(let route): gate.forwardTo = route
        case .closed: leave(.closed, now)
        case .bye: leave(.bye, now)
        case .appeared(let vip): appeared(vip, now)
        case .vanished(let vip): vanished(vip, now)
        case .strayAppeared(let stray): if !strays.contains(stray) { strays.append(stray) }
        case .strayVanished(let stray): strayVanished(stray)
        case .looked(let present, let strays): looked(present, strays, now)
        case .overrun: look()
        case .refused(let line, let reason): refused(line, reason, now)
        case .withheld(let line): inFlight.removeAll { $0.id == line }
        case .toolEnded(let reason): toolEnded(reason, now)
        case .gate(let event): gate.step(event, now: now)
        }
        advance(now)
    }

    mutating func nextEffect() -> Effect? {
        guard nextIndex < effects.count else {
            effects.removeAll(keepingCapacity: true)
            nextIndex = 0
            return nil
        }
        defer { nextIndex += 1 }
        return effects[nextIndex]
    }

    /// When `tick` is due; nil: not before something happens.
    var deadline: Instant? {
        if exited { return nil }
        var times: [Instant] = []
        if let until { times.append(until.advanced(by: .zero - Timing.lead)) }
        if let releaseAt { times.append(releaseAt) }
        if leaving != nil { times.append(leaveBy) }
        if let oldest = inFlight.first {
            times.append(oldest.at.advanced(by: stuckAfter))
        } else if !toolRuns {
            times.append(toolStartAt)
        } else if !isEmptied {
            for slot in slots where keeping && !isBare ? mayPut : slot.present {
                times.append(slot.dueAt)
            }
            if !strays.isEmpty { times.append(clearAt) }
            if failing != nil, !holding || wasOpen { times.append(toolStartAt.advanced(by: Timing.provenAfter)) }
        }
        if wasOpen { for slot in slots { if let at = slot.announceAt { times.append(at) } } }
        if let at = gate.deadline { times.append(at) }
        return times.min()
    }

    // MARK: commands

    private var holding: Bool { until != nil && owed == nil && leaving == nil }
    /// The addresses are to be here.
    private var keeping: Bool { holding || yielding }

    private mutating func hold(_ newUntil: Instant, _ newTerm: UInt64, _ now: Instant) {
        guard leaving == nil else { return }
        // Too late to begin: taken in all the same, and answered, so that nobody waits for the end of it.
        guard now < newUntil.advanced(by: .zero - Timing.lead), !gate.forbids else { return letGo(.expired, now) }
        if until == nil {
            beganWith = lastOrder
            for index in slots.indices {
                slots[index].confirmed = false
                slots[index].dueAt = now
            }
        }
        until = newUntil
        term = newTerm
        everHeld = true
        killForAddress = newUntil.advanced(by: Timing.killGrace)
        armKill()
    }

    /// Without a gate that could keep the address silent this is letting go. An address that went with the lease comes
    /// back behind the closed gate.
    private mutating func yield(_ now: Instant) {
        guard leaving == nil, gate.isUsable else { return letGo(.commanded, now) }
        if !yielding, !holding {
            for index in slots.indices {
                slots[index].confirmed = false
                slots[index].dueAt = now
            }
        }
        until = nil
        toldHeld = nil
        owed = owed ?? .commanded
        yielding = true
        for index in slots.indices { slots[index].announceAt = nil }
    }

    private mutating func letGo(_ cause: FenceDropCause, _ now: Instant) {
        until = nil
        toldHeld = nil
        yielding = false
        owed = owed ?? cause
        for index in slots.indices {
            slots[index].confirmed = false
            slots[index].lost = false
            slots[index].announceAt = nil
            slots[index].dueAt = now
        }
    }

    private mutating func expire(_ now: Instant) {
        if let until, now >= until.advanced(by: .zero - Timing.lead) { letGo(.expired, now) }
    }

    private mutating func leave(_ how: Leaving, _ now: Instant) {
        if leaving != nil { return }
        leaving = how
        leaveBy = now.advanced(by: Timing.leaving)
        letGo(.commanded, now)
    }

    // MARK: what the kernel and `ip` say

    private mutating func appeared(_ vip: Int, _ now: Instant) {
        let ours = inFlight.firstIndex { $0.line == .put(vip: vip) }
        if let ours { inFlight.removeFirst(ours + 1) }
        slots[vip].present = true
        guard ours != nil else {
            if !keeping { slots[vip].unwanted = owed == nil }
            return
        }
        worked()
        slots[vip].refusal = nil
        guard keeping else { return }
        slots[vip].dueAt = now.advanced(by: Timing.renewal)
        slots[vip].confirmed = true
        slots[vip].unwanted = false
        if slots[vip].announceAt == nil, holding {
            slots[vip].announceAt = now
            slots[vip].announcements = 0
        }
        announce(now)
        if slots[vip].lost {
            slots[vip].lost = false
            effects.append(.report(.restored(slots[vip].text)))
        }
    }

    private mutating func vanished(_ vip: Int, _ now: Instant) {
        if let removal = inFlight.firstIndex(where: { $0.line == .remove(vip: vip) }),
            !inFlight[..<removal].contains(where: { $0.line == .put(vip: vip) })
        {
            inFlight.removeFirst(removal + 1)
            worked()
            // Not somebody else's doing.
            slots[vip].confirmed = false
            slots[vip].dueAt = now
        }
        gone(vip, now)
    }

    private mutating func gone(_ vip: Int, _ now: Instant) {
        slots[vip].present = false
        if keeping, slots[vip].confirmed {
            slots[vip].lost = true
            slots[vip].confirmed = false
            slots[vip].announceAt = nil
            // At once, but not faster than this if somebody keeps removing it.
            let lastPut = slots[vip].dueAt.advanced(by: .zero - Timing.renewal)
            slots[vip].dueAt = max(now, lastPut.advanced(by: Timing.retry))
        }
        if slots[vip].unwanted {
            slots[vip].unwanted = false
            if !keeping { effects.append(.report(.swept(slots[vip].text))) }
        }
    }

    private mutating func strayVanished(_ stray: FenceStray) {
        if let removal = inFlight.firstIndex(where: { $0.line == .clear(stray) }) { inFlight.removeFirst(removal + 1) }
        guard let index = strays.firstIndex(of: stray) else { return }
        strays.remove(at: index)
        effects.append(.report(.swept(describe(stray))))
    }

    private func describe(_ stray: FenceStray) -> String {
        let address = slots[stray.vip].text.prefix { $0 != "/" }
        return "\(address)/\(stray.prefix) on \(stray.interface)"
    }

    private mutating func looked(_ present: [Bool], _ found: [FenceStray], _ now: Instant) {
        looking = false
        for stray in strays where !found.contains(stray) { strayVanished(stray) }
        strays = found
        for vip in slots.indices {
            if present[vip], !slots[vip].present {
                slots[vip].present = true
                if !keeping, owed == nil { slots[vip].unwanted = true }
            } else if !present[vip], slots[vip].present {
                gone(vip, now)
            }
            if let reason = slots[vip].refusal {
                slots[vip].refusal = nil
                // A removal that finds nothing to remove is no failure.
                if keeping || present[vip] { failed(reason, now) }
            }
        }
    }

    private mutating func refused(_ line: UInt64, _ reason: String, _ now: Instant) {
        guard let index = inFlight.firstIndex(where: { $0.id == line }) else { return }
        let refused = inFlight[index].line
        inFlight.removeFirst(index + 1)
        switch refused {
        case .put(let vip), .remove(let vip):
            slots[vip].refusal = reason
            slots[vip].dueAt = now.advanced(by: toolBackoff)
        case .clear: clearAt = now.advanced(by: Timing.retryMax)
        }
        look()
    }

    private mutating func toolEnded(_ reason: String, _ now: Instant) {
        if !toolRuns { return }
        toolRuns = false
        inFlight = []
        failed(reason, now)
        look()
    }

    /// `ip` can't do what it must. A new one is started: it may have cached an interface that was replaced since.
    private mutating func failed(_ reason: String, _ now: Instant) {
        if failing != reason { effects.append(.report(.failed(reason))) }
        failing = reason
        proven = false
        if toolRuns { effects.append(.stopTool) }
        toolRuns = false
        inFlight = []
        toolStartAt = now.advanced(by: toolBackoff)
        toolBackoff = min(toolBackoff + toolBackoff, Timing.retryMax)
    }

    private mutating func worked() {
        proven = true
        toolBackoff = Timing.retry
    }

    private mutating func look() {
        if looking { return }
        looking = true
        effects.append(.look)
    }

    // MARK: what follows

    /// Whoever yields must stay silent, also if his address comes back.
    private var mayPut: Bool { holding ? gate.allowsAddress : gate.isSilent }
    /// Yields, and somebody took the gate away: the address would answer beside its new owner. It is back behind the next
    /// gate, a moment later for the connections that it has.
    private var isBare: Bool { yielding && gate.isLost }

    private var stuckAfter: Duration { keeping ? Timing.stuckHolding : Timing.stuckLettingGo }

    private mutating func advance(_ now: Instant) {
        expire(now)
        if let oldest = inFlight.first, now >= oldest.at.advanced(by: stuckAfter) { unstick(now) }
        if !toolRuns, now >= toolStartAt {
            toolRuns = true
            effects.append(.startTool)
        }
        tendGate(now)
        if toolRuns, !looking, !isEmptied {
            if !keeping || isBare { remove(now) } else if mayPut { put(now) }
            clear(now)
        }
        announce(now)
        settle(now)
        release(now)
        if isDone || (leaving != nil && now >= leaveBy) { exit() }
    }

    private mutating func tendGate(_ now: Instant) {
        if holding { yielding = false }
        if leaving != nil {
            gate.wish = isEmptied ? .gone : .closed
        } else if holding, let until {
            gate.wish = .open(until: until)
        } else {
            gate.wish = yielding ? .serving : .closed
        }
        gate.advance(now)
        // The timer stands before the line that it stands for is written, and until whoever has it is killed.
        let kill = killTime
        if let kill, killSet.map({ kill < $0 }) ?? true { armKill() }
        for effect in gate.takeEffects() {
            switch effect {
            case .report(.recovered) where failing != nil: break
            case .report(let answer): effects.append(.report(answer))
            default: effects.append(.gate(effect))
            }
        }
        armKill()
        let isOpen = holding && gate.isOpen(now)
        if isOpen, !wasOpen {
            // What was announced to a closed gate has reached nobody.
            for index in slots.indices where slots[index].announceAt != nil {
                slots[index].announceAt = now
                slots[index].announcements = 0
            }
        }
        wasOpen = isOpen
    }

    private var killTime: Instant? { [killForAddress, gate.killBy].compactMap { $0 }.min() }

    private mutating func armKill() {
        let at = killTime
        if at == killSet { return }
        killSet = at
        effects.append(.killAt(at))
    }

    /// A line that `ip` may hold on to must never be executed later: the `ip` that has it dies first.
    private mutating func unstick(_ now: Instant) {
        effects.append(.stopTool)
        effects.append(.report(.warning("ip gave no answer within \(Int(stuckAfter.milliseconds)) ms: restarted")))
        inFlight = []
        toolRuns = false
        // The first time at once; one that keeps hanging is not restarted without end.
        toolStartAt = toolBackoff == Timing.retry ? now : now.advanced(by: toolBackoff)
        toolBackoff = min(toolBackoff + toolBackoff, Timing.retryMax)
        look()
    }

    private mutating func write(_ line: FenceLine, before: Instant?, _ now: Instant) {
        lineID += 1
        inFlight.append(Sent(id: lineID, line: line, at: now))
        effects.append(.write(line, id: lineID, before: before))
    }

    private mutating func put(_ now: Instant) {
        guard inFlight.isEmpty else { return }
        guard let vip = slots.indices.first(where: { now >= slots[$0].dueAt }) else { return }
        // Behind a closed gate it can't be too late.
        write(.put(vip: vip), before: until?.advanced(by: .zero - Timing.lead), now)
    }

    private mutating func remove(_ now: Instant) {
        for vip in slots.indices where now >= slots[vip].dueAt || isBare {
            let adding = inFlight.contains { $0.line == .put(vip: vip) }
            let removing = inFlight.contains { $0.line == .remove(vip: vip) }
            if slots[vip].present || adding, !removing { write(.remove(vip: vip), before: nil, now) }
        }
    }

    private mutating func clear(_ now: Instant) {
        if now < clearAt { return }
        for stray in strays {
            if !inFlight.contains(where: { $0.line == .clear(stray) }) { write(.clear(stray), before: nil, now) }
        }
    }

    private mutating func announce(_ now: Instant) {
        guard wasOpen else { return }
        for vip in slots.indices {
            guard let at = slots[vip].announceAt, now >= at, slots[vip].present else { continue }
            slots[vip].announcements += 1
            let sent = slots[vip].announcements
            let pause = sent < Timing.burst.count ? Timing.burst[sent] : Timing.announceEvery
            slots[vip].announceAt = now.advanced(by: pause)
            effects.append(.announce(vip: vip, isSettled: sent > Timing.burst.count))
        }
    }

    /// Says what has become true.
    private mutating func settle(_ now: Instant) {
        if holding {
            guard slots.allSatisfy({ $0.present && $0.confirmed }), wasOpen else { return }
            recovered(now)
            if toldHeld != term {
                toldHeld = term
                effects.append(.report(.held(term: term)))
            }
            return
        }
        let adding = inFlight.contains { if case .put = $0.line { true } else { false } }
        let isEmpty = !looking && !adding && strays.isEmpty && slots.allSatisfy { !$0.present }
        guard isEmpty || (gate.isSilent && strays.isEmpty), !isEmptied else { return }
        if until == nil {
            killForAddress = nil
            armKill()
        }
        if isEmpty, gate.isDecided {
            if !toldReady { effects.append(.report(.ready)) }
            toldReady = true
            recovered(now)
        }
        if let cause = owed {
            owed = nil
            // A hold that waits for this drop is not over.
            let order = until == nil ? lastOrder : max(1, beganWith) - 1
            if leaving == nil { effects.append(.report(.dropped(order: order, term: term, cause: cause))) }
        }
        if leaving == .closed, everHeld, releaseAt == nil, releasesSent == 0 { releaseAt = now }
        if leaving != nil, isEmpty {
            isEmptied = true
            tendGate(now)
        }
        // A hold that came while letting go: begin with it now.
        if holding { advance(now) }
    }

    private mutating func recovered(_ now: Instant) {
        guard failing != nil, proven || (toolRuns && now >= toolStartAt.advanced(by: Timing.provenAfter)) else {
            return
        }
        failing = nil
        if gate.failing == nil { effects.append(.report(.recovered)) }
    }

    private mutating func release(_ now: Instant) {
        guard let at = releaseAt, now >= at else { return }
        effects.append(.release)
        releasesSent += 1
        releaseAt = releasesSent < Timing.releases.count ? now.advanced(by: Timing.releases[releasesSent]) : nil
    }

    /// All is gone, or as good as it gets, and the peers have been told.
    private var isDone: Bool {
        if leaving == nil || !isEmptied || !gate.isGone { return false }
        return leaving == .bye || !everHeld || releasesSent == Timing.releases.count
    }

    private mutating func exit() {
        if exited { return }
        exited = true
        effects.append(.exit)
    }
}
