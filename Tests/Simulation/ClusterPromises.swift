// ClusterPromises: what members and fences promise each other about votes, leases and the VIP, checked from what passes
// between them: messages, writes to disk, orders to fences, and what kernels answer for.

import Gossip

struct ClusterPromises {
    /// A leader's rounds as the network saw them.
    struct Lead {
        var term: UInt64 = 0
        /// By the leader's clock; the latest 64.
        var rounds: [(round: UInt64, sentAt: Instant)] = []
        /// For each member, when the latest round was sent of which the leader has got its answer.
        var answered: [Instant?]
    }

    var leads: [Lead]
    /// For each node and leader, the last round answered and when by the node's own clock; it outlives restarts.
    var answers: [[(term: UInt64, at: Instant)?]]
    /// By term: whom each node voted for.
    var votes: [UInt64: [Int?]] = [:]
    /// For each node, up to which term it (or its fence) said that it lets go.
    var released: [UInt64]
    /// For each node, the last term in which it was asked to take over.
    var offers: [UInt64]
    /// For each node, the latest end of its lease that its fence was told, by its own clock.
    var heldUntil: [Instant?]
    /// Since when forwarding has gone in circles.
    var loopSince: UInt64?
    private let members: Int

    init(members: Int) {
        self.members = members
        leads = Array(repeating: Lead(answered: Array(repeating: nil, count: members)), count: members)
        answers = Array(repeating: Array(repeating: nil, count: members), count: members)
        released = Array(repeating: 0, count: members)
        offers = Array(repeating: 0, count: members)
        heldUntil = Array(repeating: nil, count: members)
    }

    mutating func started(_ node: Int) {
        leads[node] = Lead(answered: Array(repeating: nil, count: members))
    }

    mutating func noteRound(_ node: Int, term: UInt64, round: UInt64, at now: Instant) {
        if leads[node].term != term {
            leads[node] = Lead(term: term, answered: Array(repeating: nil, count: members))
        }
        guard leads[node].rounds.last?.round != round else { return }
        leads[node].rounds.append((round, now))
        if leads[node].rounds.count > 64 { leads[node].rounds.removeFirst() }
        leads[node].answered[node] = now
    }

    mutating func noteAnswerArrived(_ node: Int, from: Int, term: UInt64, round: UInt64) {
        guard leads[node].term == term, round > 0,
            let sentAt = leads[node].rounds.last(where: { $0.round == round })?.sentAt
        else { return }
        leads[node].answered[from] = max(leads[node].answered[from] ?? sentAt, sentAt)
    }

    /// When the latest round was sent that a majority has answered.
    func majorityAnswered(_ node: Int) -> Instant? {
        let times = leads[node].answered.compactMap { $0 }.sorted(by: >)
        return times.count > members / 2 ? times[members / 2] : nil
    }
}

extension ClusterChecks {
    mutating func noteReleased(_ node: Int, _ term: UInt64) {
        promises.released[node] = max(promises.released[node], term)
    }
}

extension ClusterWorld {
    // MARK: messages

    func checkSent(_ message: Message, from: Int, to: Int) {
        switch message {
        case .append(let append):
            checks.promises.noteRound(from, term: append.term, round: append.round, at: local(from))
        case .appendReply(let reply):
            if reply.round > 0 { checks.promises.answers[from][to] = (reply.term, local(from)) }
            checks.noteReleased(from, reply.released)
        case .digest(let digest): checks.noteReleased(from, digest.released)
        case .released(let term):
            checks.noteReleased(from, term)
            tell("n\(from) tells n\(to) that it let go, up to term \(term)")
        case .timeoutNow(let term, _, _, _):
            checks.promises.offers[to] = max(checks.promises.offers[to], term)
            tell("n\(from) asks n\(to) to take over from term \(term)")
        case .voteReply(let reply) where reply.granted && !reply.isPreVote: checkVoteSent(reply, from: from, to: to)
        case .voteRequest(let request):
            tell("n\(from) asks n\(to) for a \(request.isPreVote ? "pre-vote" : "vote") in term \(request.term)")
        default: break
        }
    }

    func noteArrived(_ message: Message, from: Int, at node: Int) {
        guard case .appendReply(let reply) = message else { return }
        checks.promises.noteAnswerArrived(node, from: from, term: reply.term, round: reply.round)
    }

    // MARK: votes

    private func checkVoteSent(_ reply: VoteReply, from: Int, to: Int) {
        tell("n\(from) votes for n\(to) in term \(reply.term)")
        let durable = nodes[from].disk.durable
        if durable.term < reply.term || (durable.term == reply.term && durable.votedFor != "n\(to)") {
            checks.fail("n\(from) tells n\(to) of a vote in term \(reply.term) that its disk doesn't hold")
        }
        noteGiven(from, term: reply.term, for: to)
    }

    private func noteGiven(_ node: Int, term: UInt64, for candidate: Int) {
        var given = checks.promises.votes[term] ?? Array(repeating: nil, count: settings.members)
        if let earlier = given[node], earlier != candidate {
            checks.fail("n\(node) votes for n\(candidate) in term \(term), where it had voted for n\(earlier)")
        }
        given[node] = candidate
        checks.promises.votes[term] = given
    }

    /// A member decides on a vote: not within the time it promised to any leader of an earlier term, unless one asked for
    /// it or that one let go. What it promised itself as a leader doesn't count: a leader that is deposed owes itself
    /// nothing, since its vote tells of its own rounds, and the new leader waits for them.
    func noteVote(_ node: Int, term: UInt64, for candidate: Int) {
        if nodes[node].disk.wasReplaced, nodes[node].member?.isForgetful == true {
            checks.fail(
                "n\(node) votes in term \(term) although its disk is empty and nobody has brought it up to date")
        }
        // A candidate that lost its disk in this leader's term leaves one term out.
        let next = max(checks.promises.offers[candidate] + 1, nodes[candidate].member?.votesFromTerm ?? 0)
        if checks.promises.offers[candidate] > 0, next >= term { return }
        for leader in nodes.indices where leader != node {
            guard let answer = checks.promises.answers[node][leader], answer.term < term,
                checks.promises.released[leader] < answer.term
            else { continue }
            let since = answer.at.duration(to: local(node))
            guard since < settings.timing.electionTimeoutMin else { continue }
            checks.fail(
                "n\(node) votes for n\(candidate) in term \(term), \(since) after it answered n\(leader) of term "
                    + "\(answer.term)")
        }
    }

    // MARK: leases

    /// A member tells its fence to hold: no longer than a majority's answers allow.
    func checkHold(_ node: Int, until: Instant) {
        checks.promises.heldUntil[node] = until
        // Who is alone has a majority in itself, and nothing passes that could be looked at. Who is forced needs none.
        if settings.members == 1 || nodes[node].member?.isForced == true { return }
        guard let answered = checks.promises.majorityAnswered(node) else {
            return checks.fail("n\(node) takes the VIP although no majority has answered a round of it")
        }
        let end = answered.advanced(by: settings.timing.lease)
        if until > end {
            checks.fail("n\(node) takes the VIP \(end.duration(to: until)) beyond what a majority answered")
        }
    }

    // MARK: the VIP

    func checkOwners() {
        var owner: Int?
        if nodes.contains(where: \.isWaking) { return }
        for node in nodes.indices where isOwner(node) {
            if let owner { checks.fail("two owners: n\(owner) and n\(node)") }
            owner = node
        }
    }

    /// A kernel begins or ends to answer: not before there was a lease, and not longer after it than the others wait.
    func checkOwnership(_ node: Int) {
        guard let until = checks.promises.heldUntil[node] else {
            return checks.fail("n\(node) answers for the VIP without ever having had a lease")
        }
        let clock = local(node)
        guard clock > until, !nodes[node].isWaking else { return }
        let late = until.duration(to: clock)
        let hasGate = nodes[node].fence.hasGate
        let tail: Duration =
            hasGate
            ? settings.timing.lineGrace + .milliseconds(5)
            : settings.fencing == .trust ? .milliseconds(40) : Timing.addressLifetime
        if late > tail, !isEnding(node) { checks.fail("n\(node) answers for the VIP \(late) after its lease") }
    }

    /// A node that was without power or stood still as a whole answered nobody meanwhile.
    private func isEnding(_ node: Int) -> Bool { nodes[node].member == nil || nodes[node].fence.isDead }

    /// Packets are passed on along `route`: never to the node itself, and in a circle (each hop costs a packet a
    /// life) only until digests tell.
    func checkForwarding(_ node: Int) {
        if let route = nodes[node].fence.route,
            route.next.index == node || route.detours.contains(where: { $0.to?.index == node })
        {
            return checks.fail("n\(node) forwards to itself")
        }
        guard hasForwardingLoop else { return checks.promises.loopSince = nil }
        guard checks.promises.loopSince == nil else { return }
        watchLoop()
    }

    /// Where nobody owns the VIP no packets come; a circle counts while somebody does.
    private func watchLoop() {
        let since = now
        checks.promises.loopSince = since
        after(settings.timing.silence * 2) { world in
            guard world.checks.promises.loopSince == since, world.hasForwardingLoop else { return }
            let owned = world.ownership.last { $0.isPresent }?.at ?? 0
            if world.owners.isEmpty || owned > since { return world.watchLoop() }
            world.checks.fail("packets that no node knows go in circles for \(world.settings.timing.silence * 2)")
        }
    }

    private var hasForwardingLoop: Bool { nodes.indices.contains { packetWay(from: $0).isCircle } }

    /// Where a packet of no connection there passes that a client sends to a node: every node that gets it, in order.
    package func packetWay(from start: Int) -> (nodes: [Int], isCircle: Bool) {
        var way = [start]
        var hops: Set<[Int]> = []
        // Without a gate nothing is forwarded; one that stands still can't be told otherwise.
        while let place = way.last, let route = nodes[place].fence.route, nodes[place].fence.hasGate,
            !nodes[place].fence.isDead, !nodes[place].fence.isFrozen
        {
            let sender = way.dropLast().last
            guard let next = route.next(from: sender.map { MemberID($0) }) else { break }
            if !hops.insert([place, next.index, sender ?? -1]).inserted { return (way, true) }
            way.append(next.index)
        }
        return (way, false)
    }
}
