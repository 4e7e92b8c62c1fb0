// FenceLink: the main process's end of its fence: starts it, tells it what to do, hears what it did, and starts another
// one when it ends.
//
// Control thread only; nothing here waits, except the fraction of a millisecond that starting a process takes. What
// the fence can't take at the moment (it is stopped, so its queue is full) is left out if it is a `hold`, since the next
// one says the same and more, and repeated until it is taken if it is anything else.

import Gossip
import Proxy

struct FenceLink: ~Copyable {
    /// Between two starts of a fence that keeps ending.
    static let restartPause: Duration = .milliseconds(100)

    /// Between two tries to tell something to a fence that has no room for it.
    static let retryPause: Duration = .milliseconds(20)

    private var settings: FenceSettings
    private let program: String
    private let token: Token
    private var child: FenceChild?
    private var startAt = Instant(nanoseconds: 0)
    private var retryAt = Instant(nanoseconds: 0)
    private var endedProcesses: [Int32] = []
    private var boots: [UInt64] = []
    private var forwardTo: FlowRoute?
    /// The main process has heard what this fence can do.
    private var isReady = false
    /// Not taken yet, oldest first; whoever says a `hold` again and again says everything else once.
    private var waiting: [FenceCommand] = []
    private var answers: [FenceAnswer] = []
    /// The term of a hold that the present or the last fence may act on.
    private var heldTerm: UInt64?
    private var finishing = false
    /// The last order given, and the last one that the fence gets: a hold it had no room for never reaches it.
    private var lastOrder: UInt64 = 0
    private var lastSentOrder: UInt64 = 0

    /// - Parameters:
    ///   - token: what the reactor reports the fence's descriptor with.
    ///   - program: this program itself, unless a test says otherwise.
    init(settings: FenceSettings, token: Token, program: String = "/proc/self/exe") {
        self.settings = settings
        self.token = token
        self.program = program
    }

    deinit { if let child { System.close(child.descriptor) } }

    /// Starts the fence, or a new one when the last has ended; retries by `deadline` if it can't.
    mutating func start(on reactor: borrowing Reactor, now: Instant) {
        guard child == nil, !finishing else { return }
        startAt = now.advanced(by: Self.restartPause)
        do throws(SystemError) {
            let made = try FenceSystem.spawnFence(program: program, environment: [FenceSystem.pathEntry])
            child = made
            try reactor.registerForReading(made.descriptor, token)
        } catch {
            answers.append(.died("the fence can't be started: \(error)"))
            return end()
        }
        isReady = false
        waiting = [.hello(settings), .peers(boots: boots)]
        if forwardTo != nil { waiting.append(.forward(to: forwardTo)) }
        flush()
    }

    /// The process id of the fence that runs.
    var process: Int32? { child?.process }

    /// Own the VIPs until `until`. Call it with every renewed lease.
    /// - Parameters:
    ///   - order: numbers the orders to hold or drop; grows by one.
    ///   - release: the payload by which the fence tells the peers that `term`'s lease is released, if this
    ///     process is killed.
    mutating func hold(until: Instant, term: UInt64, order: UInt64, release: [UInt8]) {
        lastOrder = order
        yields = false
        // Lost; the next fence's `ready` ends it. Before that nobody knows whether this fence has a gate, and a lease that was
        // granted to one behind a gate must not be held by one without.
        guard child != nil, isReady else { return lostOrder = order }
        heldTerm = term
        guard waiting.isEmpty else { return flush() }
        // Not queued: what can't be said now is out of date when it can.
        if send(.hold(until: until, term: term, order: order, release: release)) { lastSentOrder = order }
    }

    /// Let go; answered with `dropped`.
    mutating func drop(order: UInt64) {
        lastOrder = order
        yields = false
        guard child != nil else { return lostOrder = order }
        lastSentOrder = order
        put(.drop(order: order))
    }

    /// Stop answering for the VIP, but go on with what still comes for it; answered with `dropped`. Without a usable gate
    /// the same as `drop`. It outlives the fence: a new one is told again.
    mutating func yield(order: UInt64) {
        lastOrder = order
        yields = true
        guard child != nil else { return lostOrder = order }
        lastSentOrder = order
        put(.yield(order: order))
    }

    /// From now on packets of connections that didn't begin here go this way; nil: no more. To be said before the
    /// `hold` that it belongs to. It outlives the fence: a new one is told again.
    mutating func forward(to route: FlowRoute?) {
        if route == forwardTo { return }
        forwardTo = route
        put(.forward(to: route))
    }

    /// The members' boots by index, as `Envelope.knownBoots` gives them; only changes are passed on.
    mutating func peers(boots: [UInt64]) {
        if boots == self.boots { return }
        self.boots = boots
        put(.peers(boots: boots))
    }

    /// Where the members are and which keys they know, for this fence and for those to come; only changes are passed on.
    mutating func reconfigure(members: [SocketAddress], keys: [[UInt8]]) {
        if members == settings.members, keys == settings.keys { return }
        settings.members = members
        settings.keys = keys
        put(.reconfigured(members: members, keys: keys))
    }

    /// The fence lets go and ends, and none is started again: for an orderly stop, after `dropped`.
    mutating func finish() {
        finishing = true
        put(.bye)
    }

    /// Call when the reactor reports `token`.
    mutating func ready(on reactor: borrowing Reactor, now: Instant) {
        flush()
        while let descriptor = child?.descriptor {
            switch FenceSystem.read(descriptor, max: FenceAnswer.bytesMax) {
            case .bytes(let bytes):
                if let answer = FenceAnswer.decoded(bytes) { note(answer) }
            case .nothing: return
            case .ended, .failed: return died(on: reactor, now)
            }
        }
    }

    /// Call at `deadline`, and as often as it suits.
    mutating func tick(on reactor: borrowing Reactor, now: Instant) {
        endedProcesses.removeAll { FenceSystem.reap($0) }
        if child == nil, now >= startAt { start(on: reactor, now: now) }
        flush()
        retryAt = now.advanced(by: Self.retryPause)
    }

    /// nil: nothing to do before the fence speaks.
    var deadline: Instant? {
        if child == nil { return finishing ? nil : startAt }
        // Soon: whatever isn't a hold must reach the fence.
        return waiting.isEmpty ? nil : retryAt
    }

    /// What the fence said, oldest first.
    ///
    /// A `ready` after `died` says also that nothing is held; so that nobody has to remember, it is preceded by a
    /// `dropped` for every order that the fence which ended was given.
    mutating func nextAnswer() -> FenceAnswer? {
        guard !answers.isEmpty else { return nil }
        let answer = answers.removeFirst()
        if answer == .ready { isReady = child != nil }
        return answer
    }

    // MARK: private

    private mutating func note(_ answer: FenceAnswer) {
        switch answer {
        case .ready:
            // Not `lastOrder`: later ones have been said to the fence that has just become ready.
            if let order = lostOrder {
                answers.append(.dropped(order: order, term: lostTerm ?? 0, cause: .expired))
            }
            lostOrder = nil
            lostTerm = nil
            if yields {
                answers.append(answer)
                lastSentOrder = lastOrder
                return put(.yield(order: lastOrder))
            }
        case .dropped(lastSentOrder, let term, let cause):
            heldTerm = nil
            return answers.append(.dropped(order: lastOrder, term: term, cause: cause))
        default: break
        }
        answers.append(answer)
    }

    /// The last order was to yield.
    private var yields = false
    /// The term that a fence which ended may have held, and the last order that ended with it.
    private var lostTerm: UInt64?
    private var lostOrder: UInt64?

    private mutating func died(on reactor: borrowing Reactor, _ now: Instant) {
        end()
        if finishing { return }
        lostTerm = heldTerm ?? lostTerm
        lostOrder = lastOrder
        heldTerm = nil
        answers.append(.died("the fence ended; a new one is started"))
        // The first time at once, then with a pause: what it left has to be swept.
        if now >= startAt { start(on: reactor, now: now) }
    }

    private mutating func end() {
        guard let child else { return }
        FenceSystem.destroy(child)
        if !FenceSystem.reap(child.process) { endedProcesses.append(child.process) }
        self.child = nil
        waiting = []
    }

    private mutating func put(_ command: FenceCommand) {
        guard child != nil else { return }
        waiting.append(command)
        flush()
    }

    private mutating func flush() {
        while let command = waiting.first, send(command) { waiting.removeFirst() }
    }

    /// False when the fence can't take it now. A fence that ended is noticed by reading.
    @discardableResult
    private func send(_ command: FenceCommand) -> Bool {
        guard let child else { return true }
        return FenceSystem.write(child.descriptor, command.encoded()) != .wouldBlock
    }
}
