// ClusterWorld: a whole cluster in memory, driven by one seed: N members, virtual time, a bad network, disks and fences.
//
// Everything that happens is an action in one queue, ordered by time and then by when it was planned; every choice is
// drawn from one generator. So the same seed gives the same run to the last byte, which `trace` lets a test check.
// Members run the product's own core; the disk (ClusterDisk), the fence (ClusterFence), the network (ClusterNetwork)
// and the operators are modelled. After every step ClusterChecks looks for a broken promise.

import Gossip

/// What a world is made of.
struct ClusterSettings {
    var members = 3
    var timing = Timing.standard
    var fencing = Fencing.wait
    /// Nodes whose fence has a working `nft`, where `fencing` allows its use.
    var gated: [Bool] = []
    var hasVIP = true
    var leadership = LeadershipRules()
    /// How long the connections last that a node keeps in a planned move.
    var drainNs: ClosedRange<UInt64> = 1_000_000...900_000_000
    /// Datagrams are sealed and opened with the product's envelope instead of a model of it. Slower.
    var sealed = false
    /// The cluster is being upgraded (ClusterVersions).
    var isMixed = false
    var delayNs: ClosedRange<UInt64> = 50_000...400_000
    /// In thousandths.
    var loss: UInt64 = 0
    var duplication: UInt64 = 0
    /// How many datagrams in a thousand take up to 40 ms.
    var slowDatagrams: UInt64 = 0
    /// How many in a thousand lose a bit on the way.
    var corruption: UInt64 = 0
    var diskNs: ClosedRange<UInt64> = 150_000...600_000
    /// From an order's saying to its arrival at the fence, and a report's way back.
    var fenceNs: ClosedRange<UInt64> = 50_000...400_000
    /// From a line's writing to its execution by `nft` or `ip`.
    var lineNs: ClosedRange<UInt64> = 50_000...400_000
    /// Clocks run off by up to this much, in millionths, and begin anywhere. What the kernel corrects a clock by at most.
    var clockDriftPpm: Int64 = 500
    var servers = (1...5).map { ServerID(backend: "api", server: "api_\($0)") }
    #if TRIAD_BREAKAGES
        /// A deliberate fault of every member, or of the model where it says so.
        var breakage: Breakage?
    #endif

    var noise: Noise {
        get { Noise(loss: loss, duplication: duplication, slow: slowDatagrams, corruption: corruption) }
        set {
            (loss, duplication, slowDatagrams, corruption) =
                (newValue.loss, newValue.duplication, newValue.slow, newValue.corruption)
        }
    }
}

enum ClusterAction {
    case wake(node: Int, incarnation: Int)
    case deliver(Datagram)
    case stored(node: Int, incarnation: Int, ticket: UInt64)
    /// The disk tries again what it refused.
    case retry(node: Int, incarnation: Int)
    case fence(node: Int, life: Int, FenceCommand)
    case kernel(node: Int, life: Int, KernelCommand)
    case event(node: Int, incarnation: Int, Event)
    case call(Int)
}

/// What becomes of the story.
enum Teller {
    case silent
    /// Its latest part is kept, for a failure's message.
    case remembers
    case speaks((String) -> Void)
}

/// One machine: a member or none, and what outlives it.
final class ClusterNode {
    var member: Member?
    /// Grows with every start and stop, so that what was planned for an earlier life is recognised.
    var incarnation = 0
    var boot: UInt64
    var disk = ClusterDisk()
    var fence = FenceModel()
    var envelope: Envelope?
    /// The boots this process knows of its peers; 0 for none. Unused when sealed.
    var knownBoots: [UInt64]
    let clockOffset: UInt64
    let clockPpm: Int64
    /// The main process doesn't run; what arrives waits.
    var isFrozen = false
    var backlog: [ClusterAction] = []
    /// Its process was told to end.
    var isStopping = false
    /// The whole machine stands still, kernel included.
    var isStalled = false
    /// Its kernel's timers run late, before it answers anyone.
    var isWaking = false
    var stalledKernel: [(life: Int, command: KernelCommand)] = []
    var wakeAt: UInt64 = .max
    var ticksInPlace = 0
    var lastRequest: UInt64 = 0
    /// Requests that wait for their answer, with the time of asking.
    var asked: [(request: RequestID, at: UInt64)] = []
    var notes: [Note] = []
    /// What the binary on it speaks.
    var wireVersion = WireVersion.current
    var probes: [ServerID] = []

    init(boot: UInt64, members: Int, clockOffset: UInt64, clockPpm: Int64) {
        self.boot = boot
        knownBoots = Array(repeating: 0, count: members)
        self.clockOffset = clockOffset
        self.clockPpm = clockPpm
    }
}

final class ClusterWorld {
    var settings: ClusterSettings
    let seed: UInt64
    var random: SplitMix64
    /// The key of the cluster.
    static let keys = [[UInt8](repeating: 9, count: 32)]
    /// Nanoseconds since the world began.
    private(set) var now: UInt64 = 0
    var nodes: [ClusterNode] = []
    /// `cut[from][to]`: nothing gets through that way.
    var cut: [[Bool]]
    var checks: ClusterChecks
    /// `blocked[from][to]`: how many faults of a schedule keep everything from getting through that way.
    var blocked: [[Int]]
    /// Grows when everything is mended at once.
    var era = 0
    /// What the network is like when no fault makes it worse.
    let usualNoise: Noise
    /// Nodes whose next fence has no gate although they had one.
    var losesGate: [Bool]
    /// Draws for an upgrade under way (ClusterVersions); nil: all nodes are of the present version.
    var mixed: SplitMix64?
    /// What arrives must be something that the node's version reads.
    var checksVersions = false
    /// Nothing is wrong now, and nobody asks for anything that a check would find under way.
    var isMended = false
    /// A node may come back with an empty disk.
    var mayWipe = true
    /// How often someone began a term.
    private(set) var campaigns = 0
    /// Everything that happened, as one number.
    private(set) var trace: UInt64 = 0xcbf2_9ce4_8422_2325
    /// How many actions were carried out.
    private(set) var steps = 0
    /// What happens in words: the latest of it, or all when it is told as it happens. Costs time, so only on demand.
    private(set) var story: [String] = []
    var teller: Teller
    /// Every message that arrives is told, too.
    var tellsMessages = false
    var answers: [(request: RequestID, outcome: Outcome)] = []
    /// When which node got or lost the address.
    var ownership: [(at: UInt64, node: Int, isPresent: Bool)] = []
    var callbacks: [(ClusterWorld) -> Void] = []
    /// Lets a test lose particular messages: true drops this one.
    var sieve: ((Message, _ from: Int, _ to: Int) -> Bool)?
    /// Every message sent, when a test asks for them.
    var sent: [(message: Message, from: Int, to: Int)]?

    private var queue = ActionQueue()

    init(seed: UInt64, _ settings: ClusterSettings = ClusterSettings(), teller: Teller = .remembers) {
        self.settings = settings
        self.teller = teller
        usualNoise = settings.noise
        losesGate = Array(repeating: false, count: settings.members)
        self.seed = seed
        random = SplitMix64(state: seed)
        let count = settings.members
        cut = Array(repeating: Array(repeating: false, count: count), count: count)
        blocked = Array(repeating: Array(repeating: 0, count: count), count: count)
        checks = ClusterChecks(members: count)
        for _ in 0..<count {
            let ppm = Int64(random.below(UInt64(2 * settings.clockDriftPpm + 1))) - settings.clockDriftPpm
            nodes.append(
                ClusterNode(
                    boot: 1000 + random.below(1000), members: count,
                    clockOffset: 10_000_000_000 + random.below(1_000_000_000_000), clockPpm: ppm))
        }
        if settings.isMixed { beginMixed() }
        for node in 0..<count { start(node) }
    }

    var violation: String? { checks.violation }

    func local(_ node: Int) -> Instant { local(node, at: now) }

    func local(_ node: Int, at time: UInt64) -> Instant {
        let drift = Int64(time) * nodes[node].clockPpm / 1_000_000
        return Instant(nanoseconds: nodes[node].clockOffset &+ time &+ UInt64(bitPattern: drift))
    }

    /// The earliest world time at which the node's clock shows at least `instant`.
    func world(_ node: Int, _ instant: Instant) -> UInt64 {
        let shown = local(node).nanoseconds
        if instant.nanoseconds <= shown { return now }
        // Drift is far below a thousandth: a few rounds of correction get there.
        var time = now + (instant.nanoseconds - shown)
        while local(node, at: time) < instant { time += 1 + (instant.nanoseconds - local(node, at: time).nanoseconds) }
        return time
    }

    // MARK: running

    func plan(_ action: ClusterAction, at time: UInt64) { queue.push(action, at: max(time, now)) }

    /// Plans something to be done to the world itself.
    func after(_ span: Duration, _ call: @escaping (ClusterWorld) -> Void) {
        callbacks.append(call)
        plan(.call(callbacks.count - 1), at: now + UInt64(span.nanoseconds))
    }

    /// Runs for a span of virtual time, or until a promise breaks.
    func run(_ span: Duration) {
        let end = now + UInt64(span.nanoseconds)
        run(until: { _ in false }, end: end)
    }

    /// Runs until the condition holds, at most for `limit`; false when it never did.
    @discardableResult
    func run(atMost limit: Duration, until condition: (ClusterWorld) -> Bool) -> Bool {
        run(until: condition, end: now + UInt64(limit.nanoseconds))
    }

    @discardableResult
    private func run(until condition: (ClusterWorld) -> Bool, end: UInt64) -> Bool {
        while violation == nil {
            if condition(self) { return true }
            guard let (time, action) = queue.pop(before: end) else { break }
            now = time
            steps += 1
            perform(action)
        }
        if violation == nil { now = end }
        return condition(self)
    }

    private func perform(_ action: ClusterAction) {
        switch action {
        case .wake(let node, let incarnation): wake(node, incarnation)
        case .deliver(let datagram): deliver(datagram)
        case .stored(let node, let incarnation, let ticket):
            guard nodes[node].incarnation == incarnation else { return }
            written(node, ticket: ticket)
        case .retry(let node, let incarnation):
            guard nodes[node].incarnation == incarnation else { return }
            retryDisk(node)
        case .fence(let node, let life, let command):
            guard nodes[node].fence.life == life else { return }
            performFence(node, command)
        case .kernel(let node, let life, let command): performKernel(node, life: life, command)
        case .event(let node, let incarnation, let event):
            guard nodes[node].incarnation == incarnation else { return }
            if case .fence(.gate) = event { noteFenceSpoke(node) }
            step(node, event)
        case .call(let index): callbacks[index](self)
        }
    }

    private func wake(_ node: Int, _ incarnation: Int) {
        // A wake that an earlier one overtook is stale.
        guard nodes[node].incarnation == incarnation, !nodes[node].isFrozen, nodes[node].wakeAt == now else { return }
        nodes[node].wakeAt = .max
        guard let deadline = nodes[node].member?.deadlineInPlace() else { return }
        if local(node) < deadline { return planWake(node) }
        nodes[node].ticksInPlace += 1
        if nodes[node].ticksInPlace > 50, let member = nodes[node].member {
            let clock = local(node)
            checks.fail(
                "n\(node) (\(member.role)) asks for one tick after another: its deadline was "
                    + "\(deadline.duration(to: clock)) ago")
        }
        step(node, .tick)
    }

    private func planWake(_ node: Int) {
        guard let deadline = nodes[node].member?.deadlineInPlace() else { return }
        let at = world(node, deadline)
        if at > now { nodes[node].ticksInPlace = 0 }
        guard at < nodes[node].wakeAt else { return }
        nodes[node].wakeAt = at
        plan(.wake(node: node, incarnation: nodes[node].incarnation), at: at)
    }

    /// Steps a member and carries out its effects.
    func step(_ node: Int, _ event: Event) {
        if nodes[node].isFrozen {
            nodes[node].backlog.append(.event(node: node, incarnation: nodes[node].incarnation, event))
            return
        }
        guard nodes[node].member != nil, violation == nil else { return }
        let clock = local(node)
        nodes[node].member?.step(event, now: clock)
        while let effect = nodes[node].member?.nextEffect() { carryOut(effect, node) }
        checkStep(node)
        planWake(node)
    }

    private func carryOut(_ effect: Effect, _ node: Int) {
        switch effect {
        case .send(let message, let to): send(message, from: node, to: to.index)
        case .persist(let operations, let ticket):
            let takes = random.within(nodes[node].disk.slowness ?? settings.diskNs)
            let done = nodes[node].disk.submit(operations, ticket: ticket, now: now, takes: takes)
            mark(node, 3, ticket)
            notePersist(node, operations)
            plan(.stored(node: node, incarnation: nodes[node].incarnation, ticket: ticket), at: done)
        case .hold(let until, let term, let order):
            commandFence(node, .hold(until: until, term: term, order: order))
        case .drop(let order): commandFence(node, .drop(order: order))
        case .yield(let order): commandFence(node, .yield(order: order))
        case .forward(let route): commandFence(node, .forward(to: route))
        case .tableChanged, .serverChanged: break
        case .answer(let request, let outcome): answered(request, outcome, node)
        case .note(let note):
            if note.kind == .termStarted { campaigns += 1 }
            nodes[node].notes.append(note)
            tell("n\(node): \(note.kind.rawValue): \(note.text)")
        case .probeNow(let server): nodes[node].probes.append(server)
        case .handoverWanted(let target):
            // Without a gate on both sides the shell drains first.
            let keepsFlows = nodes[node].member?.movesKeepFlows(to: target, now: local(node)) ?? false
            let wait = keepsFlows ? 100_000 : 2_000_000
            plan(
                .event(node: node, incarnation: nodes[node].incarnation, .handover(to: target)),
                at: now + UInt64(wait))
        }
    }

    private func answered(_ request: RequestID, _ outcome: Outcome, _ node: Int) {
        mark(node, 5, request.number)
        guard let place = nodes[node].asked.firstIndex(where: { $0.request == request }) else {
            return checks.fail("n\(node) answers \(request), which nobody waits for")
        }
        nodes[node].asked.remove(at: place)
        answers.append((request, outcome))
        if outcome == .done { checks.acknowledge(request) }
    }

    /// Adds a happening to the trace.
    func mark(_ values: Int..., more: UInt64 = 0) {
        for value in values { trace = (trace ^ UInt64(bitPattern: Int64(value))) &* 0x100_0000_01b3 }
        trace = (trace ^ more ^ now) &* 0x100_0000_01b3
    }

    private func mark(_ node: Int, _ kind: Int, _ more: UInt64) { mark(node, kind, more: more) }

    func tell(_ line: @autoclosure () -> String) {
        switch teller {
        case .silent: return
        case .remembers:
            story.append(told(line()))
            if story.count > 200 { story.removeFirst(100) }
        case .speaks(let say): say(told(line()))
        }
    }

    private func told(_ line: String) -> String {
        let micros = String(now / 1000 % 1_000_000)
        return "\(now / 1_000_000_000).\(String(repeating: "0", count: 6 - micros.count))\(micros) s  \(line)"
    }

    // MARK: what operators and fate do

    func configuration(_ node: Int) -> ClusterConfiguration {
        var made = ClusterConfiguration(
            members: (0..<settings.members).map { "n\($0)" }, me: MemberID(node), timing: settings.timing,
            fencing: settings.fencing, hasVIP: settings.hasVIP, digest: 7,
            leadership: settings.leadership, servers: settings.servers)
        made.wireVersion = nodes[node].wireVersion
        #if TRIAD_BREAKAGES
            made.breakage = settings.breakage
        #endif
        return made
    }

    #if TRIAD_BREAKAGES
        func isBroken(_ breakage: Breakage) -> Bool { settings.breakage == breakage }
    #endif

    /// Starts the processes of a node. Its new fence sweeps what an earlier life left.
    func start(_ node: Int) {
        guard nodes[node].member == nil else { return }
        upgradePerhaps(node)
        nodes[node].incarnation += 1
        nodes[node].boot += 1 + random.below(5)
        nodes[node].knownBoots = Array(repeating: 0, count: settings.members)
        nodes[node].lastRequest = 0
        nodes[node].wakeAt = .max
        if settings.sealed {
            nodes[node].envelope = Envelope(
                clusterTag: 1, me: MemberID(node), memberCount: settings.members, boot: nodes[node].boot,
                keys: Self.keys)
        }
        tell("n\(node) starts, boot \(nodes[node].boot)")
        nodes[node].member = Member(
            configuration(node), recovered: nodes[node].disk.durable, boot: nodes[node].boot, seed: random.next(),
            now: local(node))
        checks.started(node)
        forgetFence(node)
        startFence(node)
        step(node, .wallClock(1_000_000 + Int64(now / 1_000_000)))
    }

    /// Ends the main process without warning; unsynced writes are lost, in part or whole.
    func killMain(_ node: Int) {
        // Nothing gets at the processes of a machine that stands still.
        guard nodes[node].member != nil, !nodes[node].isStalled else { return }
        tell("n\(node)'s main process is killed")
        endMain(node)
        fenceLosesMain(node)
    }

    /// Ends main process and fence; the kernel lives and keeps the address for its lifetime.
    func killAll(_ node: Int) {
        // Nothing gets at the processes of a machine that stands still.
        guard nodes[node].member != nil, !nodes[node].isStalled else { return }
        tell("n\(node)'s processes are killed")
        endMain(node)
        loseFence(node)
    }

    /// Power is gone: no process, no address.
    func crash(_ node: Int) {
        guard nodes[node].member != nil else { return }
        tell("n\(node) crashes")
        endMain(node)
        cutPower(node)
    }

    private func endMain(_ node: Int) {
        nodes[node].member = nil
        nodes[node].incarnation += 1
        nodes[node].isFrozen = false
        nodes[node].isStopping = false
        nodes[node].isStalled = false
        nodes[node].stalledKernel = []
        nodes[node].backlog = []
        nodes[node].asked = []
        let pending = nodes[node].disk.pendingOperations
        nodes[node].disk.crash(keeping: Int(random.below(UInt64(pending + 1))), torn: random.next())
    }

    /// Stops the main process from running, and with `whole` the fence too.
    func freeze(_ node: Int, whole: Bool) {
        guard nodes[node].member != nil, !nodes[node].isFrozen else { return }
        tell("n\(node) freezes" + (whole ? " whole" : ""))
        nodes[node].isFrozen = true
        if whole { freezeFence(node) }
    }

    /// Stops the whole machine, its kernel too: it answers nothing meanwhile, and its clock goes on.
    func stall(_ node: Int) {
        guard nodes[node].member != nil, !nodes[node].isFrozen else { return }
        // When it wakes its address is there until the fence runs, which `trust` doesn't wait for.
        if settings.fencing == .trust { return freeze(node, whole: false) }
        tell("n\(node) stalls")
        nodes[node].isFrozen = true
        freezeFence(node)
        nodes[node].isStalled = true
    }

    func thaw(_ node: Int) {
        guard nodes[node].isFrozen else { return }
        tell("n\(node) thaws")
        nodes[node].isFrozen = false
        // The kernel's timers run before any process, and before any packet is answered.
        let kernel = nodes[node].stalledKernel
        nodes[node].stalledKernel = []
        if nodes[node].isStalled {
            nodes[node].isStalled = false
            nodes[node].isWaking = true
            for (life, command) in kernel { performKernel(node, life: life, command) }
            nodes[node].isWaking = false
            checkOwners()
        }
        thawFence(node)
        let backlog = nodes[node].backlog
        nodes[node].backlog = []
        for action in backlog { plan(action, at: now) }
        nodes[node].wakeAt = .max
        planWake(node)
    }

    /// Asks a node for a change, as an operator would. Returns the request's name.
    @discardableResult
    func propose(_ command: Command, at node: Int) -> RequestID? {
        guard nodes[node].member != nil, !nodes[node].isFrozen else { return nil }
        nodes[node].lastRequest += 1
        let request = RequestID(origin: MemberID(node), boot: nodes[node].boot, number: nodes[node].lastRequest)
        nodes[node].asked.append((request, now))
        step(node, .propose(command, request))
        return request
    }

    func observe(_ server: ServerID, _ health: Health, at node: Int, reason: String = "seen") {
        checks.noteObserved(server, health, node)
        step(node, .observed([Observation(server: server, health: health, reason: reason)]))
    }

    /// Cuts or heals both ways between two nodes.
    func setLink(_ one: Int, _ other: Int, up: Bool) {
        cut[one][other] = !up
        cut[other][one] = !up
    }

    func isolate(_ node: Int) {
        for other in nodes.indices where other != node { setLink(node, other, up: false) }
    }

    func isCut(from: Int, to: Int) -> Bool { cut[from][to] || blocked[from][to] > 0 }

    func heal() {
        for from in nodes.indices {
            for to in nodes.indices { cut[from][to] = false }
        }
    }

    // MARK: what can be seen from outside

    /// Nodes that answer for the VIP.
    var owners: [Int] { nodes.indices.filter { isOwner($0) } }

    func isOwner(_ node: Int) -> Bool { nodes[node].fence.isPresent && !nodes[node].isStalled }

    /// The leader of the highest term among the nodes that run.
    var leader: Int? {
        nodes.indices.filter { nodes[$0].member?.role == .leader }.max {
            (nodes[$0].member?.term ?? 0) < (nodes[$1].member?.term ?? 0)
        }
    }

    var followers: [Int] { nodes.indices.filter { nodes[$0].member != nil && $0 != leader } }

    /// A leader known to all running nodes, an owner (with a VIP), and the same table everywhere.
    var isSettled: Bool {
        guard let leader else { return false }
        let term = nodes[leader].member?.term
        let applied = nodes[leader].member?.appliedIndex
        let digest = nodes[leader].member?.table.digest
        if settings.hasVIP, owners != [leader] || nodes[leader].member?.holdsAddress != true { return false }
        return nodes.allSatisfy { node in
            node.member == nil
                || (node.member?.term == term && node.member?.appliedIndex == applied
                    && node.member?.commitIndex == applied && node.member?.table.digest == digest)
        }
    }

    func health(_ server: ServerID, at node: Int) -> Health? { nodes[node].member?.table[server]?.health }
}

extension Member {
    // WHY: reading a property through the world would copy the whole member first, with every reference in it, at each step.
    fileprivate mutating func deadlineInPlace() -> Instant? { deadline }
}
