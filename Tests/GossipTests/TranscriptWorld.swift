// TranscriptWorld: the few nodes of a story, driven by its commands; the product's own members with a clock, a network,
// disks and fences that do only what they are told.
//
// Two ways for time to pass. *Step by step*: messages wait until they are delivered, writes until they are synced,
// fences until they act; every happening is told. *Running*: a message or an order to a fence takes 1 ms, a write
// 1 ms, and only what matters is told, with the time. Nothing is drawn but election timeouts, from seeds the story sets.

@testable import Gossip

struct TranscriptDisk {
    private(set) var durable = RecoveredState()
    private(set) var pending: [(ticket: UInt64, operations: [StorageOperation], askedAt: Instant)] = []
    /// Writes end only when the story says so.
    var isSlow = false

    mutating func ask(_ operations: [StorageOperation], ticket: UInt64, now: Instant) {
        pending.append((ticket, operations, now))
    }

    /// Makes everything durable; the last ticket.
    mutating func sync() -> UInt64? {
        for operation in pending.flatMap(\.operations) { apply(operation) }
        defer { pending = [] }
        return pending.last?.ticket
    }

    mutating func crash() { pending = [] }

    private mutating func apply(_ operation: StorageOperation) {
        switch operation {
        case .vote(let term, let votedFor): (durable.term, durable.votedFor) = (term, votedFor)
        case .append(let entries):
            durable.entries.removeAll { $0.index >= entries.first?.index ?? .max }
            durable.entries += entries.filter { $0.index > durable.snapshot?.lastIndex ?? 0 }
        case .snapshot(let snapshot, let discardsLog):
            durable.snapshot = snapshot
            durable.entries.removeAll { discardsLog || $0.index <= snapshot.lastIndex }
        case .joined(let votesFromTerm): durable.votesFromTerm = votesFromTerm
        }
    }
}

/// A node's fence and its kernel in one: whether the address is there.
struct TranscriptFence {
    var isPresent = false
    var until: Instant?
    var term: UInt64 = 0
    var order: UInt64 = 0
    /// The last order was to stop answering for the VIP and to keep its connections.
    var yields = false
    /// An order is waiting to be carried out since then.
    var orderedAt: Instant?
}

struct TranscriptNode {
    let name: String
    var member: Member?
    var boot: UInt64 = 0
    var disk = TranscriptDisk()
    var fence = TranscriptFence()
    var lastRequest: UInt64 = 0
    /// The portrait last told.
    var portrait = ""
}

/// A message on its way.
struct TranscriptMail {
    let from: Int
    let to: Int
    let message: Message
    let boot: UInt64
    let sentAt: Instant
}

/// What a command came out as, or why it makes no sense.
struct TranscriptFailure: Error, CustomStringConvertible {
    let description: String
}

struct TranscriptWorld {
    private struct Line {
        var at: Instant?
        var actor: String
        var targets: [String] = []
        var text: String
    }

    static let epoch = Instant(nanoseconds: 10_000_000_000)
    static let hop = Duration.milliseconds(1)

    var nodes: [TranscriptNode] = []
    var now = epoch
    var mail: [TranscriptMail] = []
    /// `cut[from][to]`: what is sent there is lost.
    var cut: [[Bool]] = []
    var seed: UInt64 = 1
    var fencing = Fencing.wait
    var hasVIP = true
    /// Each fence finds at its start that the kernel's gate works.
    var hasGate = false
    var leadership = LeadershipRules()
    var servers: [ServerID] = []
    var hidden: Set<String> = ["digest"]
    var watched: Set<String> = []
    /// Time passes by itself, so lines say when.
    var isTimed = false
    /// Messages, disks and fences go by themselves.
    var isRunning = false
    private var lines: [Line] = []

    var text: TranscriptText { TranscriptText(names: nodes.map(\.name)) }

    // MARK: Telling

    mutating func say(_ actor: String, _ text: String) {
        lines.append(Line(at: isTimed ? now : nil, actor: actor, text: text))
    }

    mutating func say(_ node: Int, _ text: String) { say(nodes[node].name, text) }

    private mutating func say(sent message: Message, from: Int, to: Int) {
        let told = text.tell(message)
        let matters = isRunning ? watched.contains(told.kind) : !hidden.contains(told.kind)
        guard matters else { return }
        let target = nodes[to].name + (cut[from][to] ? " (cut)" : "")
        let at = isTimed ? now : nil
        // The same to several at once is one line.
        if let last = lines.last, !last.targets.isEmpty, last.actor == nodes[from].name, last.text == told.text,
            last.at == at
        {
            lines[lines.count - 1].targets.append(target)
        } else {
            lines.append(Line(at: at, actor: nodes[from].name, targets: [target], text: told.text))
        }
    }

    /// What happened since the last call, then who has become what.
    mutating func takeLines() -> [String] {
        var told = lines.map { line in
            let time = line.at.map { "\(TranscriptText.milliseconds(Self.epoch.duration(to: $0)))  " } ?? ""
            let targets = line.targets.isEmpty ? "" : " -> \(line.targets.joined(separator: " "))"
            return "\(time)\(line.actor)\(targets): \(line.text)"
        }
        lines = []
        for node in nodes.indices {
            let portrait = nodes[node].member.map { text.portrait($0) } ?? nodes[node].portrait
            guard portrait != nodes[node].portrait else { continue }
            nodes[node].portrait = portrait
            told.append("= \(nodes[node].name) \(portrait)")
        }
        return told
    }

    // MARK: Stepping

    mutating func step(_ node: Int, _ event: Event) {
        nodes[node].member?.step(event, now: now)
        while let effect = nodes[node].member?.nextEffect() { carryOut(effect, node) }
    }

    private mutating func carryOut(_ effect: Effect, _ node: Int) {
        switch effect {
        case .send(let message, let to): send(message, from: node, to: to.index)
        case .persist(let operations, let ticket):
            nodes[node].disk.ask(operations, ticket: ticket, now: now)
            if !isRunning { say(node, "writes \(operations.map { text.tell($0) }.joined(separator: "; "))") }
        case .hold(let until, let term, let order):
            // A renewal matters only where every step is told.
            if !isRunning || !nodes[node].fence.isPresent && nodes[node].fence.orderedAt == nil {
                let end = TranscriptText.milliseconds(Self.epoch.duration(to: until))
                say(node, "tells its fence: hold the VIP until \(end)")
            }
            tellFence(node, until: until, term: term, order: order)
        case .drop(let order):
            say(node, "tells its fence: drop the VIP")
            tellFence(node, until: nil, term: nodes[node].fence.term, order: order)
        case .yield(let order):
            say(node, "tells its fence: yield the VIP, keep its connections")
            tellFence(node, until: nil, term: nodes[node].fence.term, order: order)
            nodes[node].fence.yields = true
        case .forward(let route):
            var words = route.map { text.name($0.next) } ?? "nobody"
            for detour in route?.detours ?? [] {
                words += "; from \(text.name(detour.from)) \(detour.to.map { "to \(text.name($0))" } ?? "nowhere")"
            }
            say(node, "forwards unknown connections to \(words)")
        case .tableChanged, .serverChanged: break
        case .answer(let request, let outcome): say(node, "answers change \(request.number): \(text.tell(outcome))")
        case .note(let note): say(node, "\(note.kind.rawValue): \(note.text)")
        case .probeNow(let server): say(node, "probes \(server) at once")
        case .handoverWanted(let target):
            say(node, "is to hand over\(target.map { " to \(text.name($0))" } ?? ""): drains, then goes on")
            step(node, .handover(to: target))
        }
    }

    mutating func send(_ message: Message, from: Int, to: Int) {
        say(sent: message, from: from, to: to)
        guard !cut[from][to] else { return }
        mail.append(TranscriptMail(from: from, to: to, message: message, boot: nodes[from].boot, sentAt: now))
    }

    mutating func deliver(_ item: TranscriptMail) {
        step(item.to, .message(item.message, from: MemberID(item.from), boot: item.boot))
    }

    mutating func sync(_ node: Int) {
        if let ticket = nodes[node].disk.sync() { step(node, .persisted(ticket: ticket)) }
    }

    // MARK: Fences

    private mutating func tellFence(_ node: Int, until: Instant?, term: UInt64, order: UInt64) {
        nodes[node].fence.until = until
        nodes[node].fence.yields = false
        nodes[node].fence.term = term
        nodes[node].fence.order = order
        let isRenewal = until != nil && nodes[node].fence.isPresent
        if !isRenewal { nodes[node].fence.orderedAt = nodes[node].fence.orderedAt ?? now }
    }

    /// The fence carries out its last order, or lets go because the hold is over.
    mutating func actFence(_ node: Int) {
        let fence = nodes[node].fence
        nodes[node].fence.orderedAt = nil
        if let until = fence.until, now < until {
            guard !fence.isPresent else { return }
            nodes[node].fence.isPresent = true
            say("\(nodes[node].name)'s fence", "the VIP is here")
            return step(node, .fence(.held))
        }
        if fence.isPresent {
            say(
                "\(nodes[node].name)'s fence",
                fence.yields ? "nobody hears of the VIP here any more" : "the VIP is gone")
        }
        nodes[node].fence.isPresent = false
        nodes[node].fence.until = nil
        step(node, .fence(.dropped(order: fence.order)))
    }

    /// When the fence acts by itself: at the end of a hold, and while running soon after an order.
    private func fenceDue(_ node: Int) -> Instant? {
        let fence = nodes[node].fence
        let ordered = isRunning ? fence.orderedAt?.advanced(by: Self.hop) : nil
        let expiry = fence.isPresent ? fence.until : nil
        return [ordered, expiry].compactMap { $0 }.min()
    }

    // MARK: Time

    private enum Due: Int {
        case mail, disk, fence, tick
    }

    /// Lets time pass up to `end`, or until the condition holds; false when it never did.
    @discardableResult
    mutating func pass(to end: Instant, until condition: (TranscriptWorld) -> Bool = { _ in false }) throws -> Bool {
        isTimed = true
        defer { isTimed = false }
        var inPlace = 0
        while !condition(self) {
            guard let (at, due, place) = earliest(), at <= end else {
                now = end
                return condition(self)
            }
            inPlace = at > now ? 0 : inPlace + 1
            guard inPlace < 10_000 else { throw TranscriptFailure(description: "time stands still") }
            now = max(now, at)
            switch due {
            case .mail: deliver(mail.remove(at: place))
            case .disk: sync(place)
            case .fence: actFence(place)
            case .tick: step(place, .tick)
            }
        }
        return true
    }

    private func earliest() -> (Instant, Due, Int)? {
        var dues: [(Instant, Due, Int)] = []
        if isRunning {
            if let first = mail.first { dues.append((first.sentAt.advanced(by: Self.hop), .mail, 0)) }
            for node in nodes.indices where !nodes[node].disk.isSlow {
                if let first = nodes[node].disk.pending.first {
                    dues.append((first.askedAt.advanced(by: Self.hop), .disk, node))
                }
            }
        }
        for node in nodes.indices where nodes[node].member != nil {
            if let due = fenceDue(node) { dues.append((due, .fence, node)) }
            if let deadline = nodes[node].member?.deadline { dues.append((deadline, .tick, node)) }
        }
        return dues.min { ($0.0, $0.1.rawValue, $0.2) < ($1.0, $1.1.rawValue, $1.2) }
    }

    // MARK: Starting and stopping

    mutating func start(_ node: Int) {
        let configuration = ClusterConfiguration(
            members: nodes.map(\.name), me: MemberID(node), timing: .standard, fencing: fencing, hasVIP: hasVIP,
            digest: 7, leadership: leadership, servers: servers)
        nodes[node].boot += 1
        nodes[node].lastRequest = 0
        nodes[node].portrait = ""
        nodes[node].member = Member(
            configuration, recovered: nodes[node].disk.durable, boot: nodes[node].boot,
            seed: seed &* 100 &+ UInt64(node), now: now)
        step(node, .wallClock(1_000_000))
        if hasGate { step(node, .fence(.gate(isUsable: true))) }
    }

    /// The main process ends; what it hadn't synced is lost, and so is what is on its way from it or to it.
    mutating func stop(_ node: Int) {
        nodes[node].member = nil
        nodes[node].disk.crash()
        nodes[node].portrait = "is gone"
        mail.removeAll { $0.from == node || $0.to == node }
    }
}
