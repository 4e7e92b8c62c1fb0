// Member+Gossip: digests, views, who is alive, verdicts, suspicion.
//
// A digest goes to each peer every 100 ms (more with slow heartbeats) and says what is known here: each view's
// version, how long ago each member gave a sign of life, how far the log is applied. Whoever knows more sends it.
// Changes of the own view are pushed at once; the digests repair what got lost and reach around broken links.

extension Member {
    // MARK: Who is there

    mutating func heard(from peer: MemberID, boot: UInt64, now: Instant) {
        peers[peer.index].heardAt = now
        if boot > peers[peer.index].boot {
            // It may have come back with less than it had: its disk was replaced, or damaged and moved away.
            peers[peer.index].matchIndex = 0
            peers[peer.index].nextIndex = log.lastIndex + 1
            peers[peer.index].transfer = nil
            peers[peer.index].wireVersion = nil
        }
        peers[peer.index].boot = boot
        noteAlive(peer, at: now)
        if boot > views[peer.index].boot {
            // What it saw before its restart is no view any more: it has no say until it looked again.
            views[peer.index] = View(boot: boot)
            dueVerdicts.insertAll()
            isReachStale = true
        }
    }

    private mutating func noteAlive(_ peer: MemberID, at: Instant) {
        if at > peers[peer.index].aliveAt ?? Instant(nanoseconds: 0) { peers[peer.index].aliveAt = at }
    }

    /// False for an index that this cluster doesn't have; a message may name up to `Limits.membersMax`.
    func isMember(_ member: MemberID?) -> Bool { member.map { peers.indices.contains($0.index) } ?? true }

    /// Heard from directly, lately.
    func isHeard(_ member: MemberID, now: Instant) -> Bool {
        member == me || isFresh(peers[member.index].heardAt, now: now)
    }

    /// Heard from lately, directly or through a peer.
    public func isAlive(_ member: MemberID, now: Instant) -> Bool {
        member == me || isFresh(peers[member.index].aliveAt, now: now)
    }

    private func isFresh(_ instant: Instant?, now: Instant) -> Bool {
        instant.map { $0.duration(to: now) < timing.silence } ?? false
    }

    func freshDigests(now: Instant) -> [Digest] {
        peers.compactMap { isFresh($0.digestAt, now: now) ? $0.digest : nil }
    }

    /// The leader that this member hears itself.
    private func heardLeader(now: Instant) -> MemberID? {
        if role == .leader { return me }
        guard role == .follower, let leader = currentLeader, let leaderHeardAt else { return nil }
        return leaderHeardAt.duration(to: now) < timing.electionTimeoutMax ? leader : nil
    }

    private mutating func noteLiveness(now: Instant) {
        for peer in configuration.peers {
            let isAlive = isAlive(peer, now: now)
            guard isAlive != peers[peer.index].wasAlive else { continue }
            peers[peer.index].wasAlive = isAlive
            dueVerdicts.insertAll()
            isReachStale = true
            note(isAlive ? .peerUp : .peerDown, "\(configuration.name(peer)) is \(isAlive ? "there" : "silent")")
        }
    }

    // MARK: Digests

    mutating func sendDigests(now: Instant) {
        nextDigest = now.advanced(by: timing.digest)
        noteLiveness(now: now)
        countReach()
        if role == .leader { moveOn(now: now) }
        let known = views.indices.map { index in
            Digest.Known(
                boot: views[index].boot, version: views[index].version,
                age: index == me.index ? .zero : peers[index].aliveAt?.duration(to: now))
        }
        for peer in configuration.peers {
            let last = peers[peer.index]
            let digest = Digest(
                term: term, role: role, leader: heardLeader(now: now), owner: owner(now: now), applied: appliedIndex,
                configuration: configuration.digest, sections: configuration.sections, condition: condition,
                isForgetful: isForgetful,
                drainedTerm: role == .leader ? 0 : max(drainedTerm, yieldingTerm), released: released.terms[me.index],
                stamp: now.nanoseconds / 1000, echo: last.digest?.stamp ?? 0,
                echoAge: last.digestAt?.duration(to: now) ?? .zero, known: known)
            send(.digest(digest), to: peer)
        }
    }

    mutating func receive(_ digest: Digest, from peer: MemberID, now: Instant) {
        guard digest.known.count == peers.count, isMember(digest.leader), isMember(digest.owner) else { return }
        peers[peer.index].digest = digest
        peers[peer.index].digestAt = now
        if digest.echo > 0 {
            let roundTrip = Int64(bitPattern: now.nanoseconds / 1000 &- digest.echo) - digest.echoAge.nanoseconds / 1000
            peers[peer.index].roundTrip = .microseconds(max(0, roundTrip))
        }
        learnReleased(peer, upTo: digest.released, now: now)
        learnDrained(peer, digest)
        for (index, known) in digest.known.enumerated() {
            if let age = known.age, index != me.index { noteAlive(MemberID(index), at: now.advanced(by: .zero - age)) }
            sendMissing(of: MemberID(index), known: known, to: peer)
        }
        if digest.leader == nil, role != .leader { catchUp(peer, from: digest.applied, now: now) }
    }

    // MARK: Views

    private static var viewBytesMax: Int { Limits.datagramBytesMax - 160 }

    private mutating func sendMissing(of origin: MemberID, known: Digest.Known, to peer: MemberID) {
        let view = views[origin.index]
        guard origin != peer, view.boot > 0, known.boot <= view.boot else { return }
        let after = known.boot == view.boot ? known.version : 0
        // A few at a time; the next digest asks for more.
        for delta in view.deltas(origin: origin, after: after, bytesMax: Self.viewBytesMax).prefix(4) {
            send(.views(delta), to: peer)
        }
    }

    mutating func observe(_ observations: [Observation], now: Instant) {
        let before = views[me.index].version
        for observation in observations where views[me.index].observe(observation) {
            viewChanged(of: observation.server)
        }
        for delta in views[me.index].deltas(origin: me, after: before, bytesMax: Self.viewBytesMax) {
            broadcast(.views(delta))
        }
    }

    mutating func receive(_ delta: ViewDelta, now: Instant) {
        guard delta.origin != me, views.indices.contains(delta.origin.index) else { return }
        let boot = views[delta.origin.index].boot
        guard views[delta.origin.index].merge(delta) else { return }
        if delta.boot != boot { dueVerdicts.insertAll() }
        for entry in delta.entries { viewChanged(of: entry.server) }
    }

    private mutating func viewChanged(of server: ServerID) {
        dueVerdicts.insert(server)
        isReachStale = true
    }

    /// What a member sees of a server, as far as this one has heard.
    public func view(of server: ServerID, by member: MemberID) -> ViewEntry? { views[member.index][server] }

    // MARK: Verdicts

    /// As leader: where a majority of the members heard from says otherwise than the table, the table follows.
    mutating func decideVerdicts(now: Instant) {
        guard role == .leader, storageFault == nil else {
            dueVerdicts.removeAll()
            return
        }
        guard mayDecide else { return }
        let due = dueVerdicts.take(of: servers)
        let uncommitted = Int(log.lastIndex - appliedIndex)
        let live = peers.indices.map { MemberID($0) }.filter { isAlive($0, now: now) }
        let pending = log.entries.suffix(uncommitted).compactMap(\.command.verdict)
        var proposed = 0
        for server in due {
            guard let (health, reason) = majorityView(of: server, live: live),
                pending.last(where: { $0.server == server })?.health ?? table[server]?.health ?? .unknown != health
            else { continue }
            appendAsLeader(.verdict(server, health, reason: reason, atMs: wallClockMs), request: nil)
            proposed += 1
            if proposed == 64 {
                dueVerdicts.insertAll()
                break
            }
        }
        if proposed > 0 { sendAppends(now: now) }
    }

    /// As leader: not before all that earlier leaders decided is applied, and not while the log must stand still for a
    /// hand-over. Nor while followers can't write what there is already.
    private var mayDecide: Bool {
        log.term(at: appliedIndex) == term && handover == nil
            && Int(log.lastIndex - appliedIndex) < Limits.uncommittedMax
    }

    /// Up, down or to be drained when a majority of the live members says so. A server without a verdict yet is judged by those
    /// who have looked; later on, live members that haven't yet (just started) count as not agreeing.
    private func majorityView(of server: ServerID, live: [MemberID]) -> (Health, String)? {
        let record = table[server]
        if record?.admin == .maint { return nil }
        let seen = live.compactMap { member -> ViewEntry? in
            guard let entry = views[member.index][server], entry.health != .unknown else { return nil }
            return entry
        }
        let voters = (record?.health ?? .unknown) == .unknown ? seen.count : live.count
        for health in [Health.up, .down, .drain] {
            let agreeing = seen.filter { $0.health == health }
            let isMajority = agreeing.count * 2 > voters || breaks(.verdictOfOne)
            if isMajority, let first = agreeing.first { return (health, first.reason) }
        }
        return nil
    }

    // MARK: Scaling

    /// Puts a decision into the log that says otherwise than the last one, where all members can read it.
    mutating func scale(_ backend: String, _ scaling: Scaling?, now: Instant) {
        guard role == .leader, storageFault == nil, hasQuorum(now: now), mayDecide, Limits.isName(backend) else {
            return
        }
        let command = Command.scale(backend: backend, scaling)
        guard command.wireVersion <= wireVersion else { return }
        let pending = log.entries.suffix(Int(log.lastIndex - appliedIndex)).compactMap(\.command.scaling)
        let last = pending.last { $0.backend == backend }?.scaling ?? table.scaling(of: backend)
        guard last?.desired != scaling?.desired else { return }
        appendAsLeader(command, request: nil)
        sendAppends(now: now)
    }

    // MARK: Suspicion

    private static var suspicionsMax: Int { 64 }

    mutating func suspect(_ server: ServerID, isOwn: Bool, now: Instant) {
        suspected.removeAll { $0.at.duration(to: now) > .milliseconds(200) }
        guard suspected.count < Self.suspicionsMax, !suspected.contains(where: { $0.server == server }) else { return }
        suspected.append((server, now))
        emit(.probeNow(server))
        if isOwn { broadcast(.suspect(server)) }
    }
}

extension Command {
    fileprivate var scaling: (backend: String, scaling: Scaling?)? {
        if case .scale(let backend, let scaling) = self { return (backend, scaling) }
        return nil
    }

    var verdict: (server: ServerID, health: Health)? {
        if case .verdict(let server, let health, _, _) = self { return (server, health) }
        return nil
    }

    /// The one server that it changes; nil when it makes one come or go, or is about a backend.
    var changedServer: ServerID? {
        switch self {
        case .setAdmin(let server, _), .setWeight(let server, _), .verdict(let server, _, _, _): server
        case .establish, .add, .remove, .scale: nil
        }
    }
}
