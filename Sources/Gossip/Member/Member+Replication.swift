// Member+Replication: the log from the leader to everyone, commit, apply, snapshots.
//
// A follower answers a round at once with what is durable, and again when more became durable, so that a slow disk
// delays commits but never heartbeats. A member that can't hear the leader is brought up to date by any peer that
// knows more: what is committed is the same everywhere.

extension Member {
    /// Bytes of entries in one datagram, with room for the message around them.
    static var entriesBytesMax: Int { Limits.datagramBytesMax - 160 }
    private static var chunkBytes: Int { 1000 }
    /// Entries kept behind the last snapshot for followers that lag a little.
    private static var trailingEntries: UInt64 { 64 }

    // MARK: Leader

    mutating func appendAsLeader(_ command: Command, request: RequestID?) {
        let entry = Entry(index: log.lastIndex + 1, term: term, request: request, command: command)
        log.append(entry)
        log.writing(ticket: persist([.append([entry])]))
    }

    /// One round to everyone: heartbeat, entries and commit index in one.
    mutating func sendAppends(now: Instant) {
        // A round went unanswered: the next ones come faster, since each may be the one that saves the lease.
        let isThin = lease.majorityAnswered.map { $0.duration(to: now) > timing.heartbeat * 3 / 2 } ?? false
        nextHeartbeat = now.advanced(by: isThin ? timing.heartbeat / 3 : timing.heartbeat)
        let round = lease.begin(now: now)
        noteAnswer(to: me, isGated: hasGate, now: now)
        for peer in configuration.peers { sendAppend(to: peer, round: round, now: now) }
    }

    private mutating func sendAppend(to peer: MemberID, round: UInt64, now: Instant) {
        var next = peers[peer.index].nextIndex
        if next <= log.baseIndex {
            continueSnapshot(to: peer, now: now)
            // The heartbeat still goes out, at a place the peer can't refuse for lack of entries.
            next = log.lastIndex + 1
        }
        let previous = next - 1
        guard let previousTerm = log.term(at: previous) else { return }
        let entries = readable(
            log.slice(from: next, upTo: log.lastIndex, bytesMax: Self.entriesBytesMax), by: peer)
        let append = Append(
            term: term, round: round, previousIndex: previous, previousTerm: previousTerm, commit: commitIndex,
            ownsVIP: holdsAddress, isGated: hasGate, entries: entries)
        send(.append(append), to: peer)
        if peers[peer.index].transfer == nil { peers[peer.index].nextIndex = next + UInt64(entries.count) }
    }

    mutating func receive(_ reply: AppendReply, from peer: MemberID, now: Instant) {
        learnReleased(peer, upTo: reply.released, now: now)
        // A late answer to what it sent as a leader must not take a follower away from the leader it made a promise to.
        if reply.term > term, role != .follower { return becomeFollower(term: reply.term, leader: nil, now: now) }
        guard role == .leader, reply.term == term else { return }
        if reply.round > 0 {
            let before = lease.majorityAnswered
            lease.answer(round: reply.round, from: peer)
            if lease.majorityAnswered != before { hadGrace = false }
        }
        if reply.accepted {
            // A peer can't hold more of this term's log than there is.
            let match = min(reply.match, log.lastIndex)
            if match > peers[peer.index].matchIndex {
                peers[peer.index].matchIndex = match
                advanceCommit(now: now)
                if handover?.target == peer { pushHandover() }
            }
            peers[peer.index].nextIndex = max(peers[peer.index].nextIndex, match + 1)
        } else if peers[peer.index].transfer == nil {
            // What is committed there is in this log too, so the next append from there on can't be refused. What it held
            // beyond that it may have given up since for what another one offered (`Member+Offer`).
            peers[peer.index].nextIndex = min(reply.match, log.lastIndex) + 1
        }
    }

    /// Commits what a majority has durable, if it is of this term (dissertation, 3.6.2).
    private mutating func advanceCommit(now: Instant) {
        guard role == .leader else { return }
        var matches = configuration.peers.map { peers[$0.index].matchIndex }
        matches.append(breaks(.countsUnsynced) ? log.lastIndex : log.durableIndex)
        matches.sort(by: >)
        let agreed = matches[configuration.majority - 1]
        guard agreed > commitIndex, log.term(at: agreed) == term || breaks(.commitOldTerm) else { return }
        commitIndex = agreed
        applyCommitted(now: now)
        sendAppends(now: now)
    }

    // MARK: Follower

    mutating func receive(_ append: Append, from sender: MemberID, now: Instant) {
        if append.term < term {
            let reply = AppendReply(
                term: term, round: 0, accepted: false, match: 0, released: released.terms[me.index])
            return send(.appendReply(reply), to: sender)
        }
        guard append.term > term || role != .leader else { return }
        if append.term > term || role != .follower || currentLeader != sender {
            becomeFollower(term: append.term, leader: sender, now: now)
        }
        leaderHeardAt = now
        hadGrace = false
        leaderOwnsVIP = append.ownsVIP
        electionDeadline = now.advanced(by: drawElectionTimeout())
        // The new leader is there: whatever is left of an own lease ends.
        letGo()
        noteAnswer(to: sender, isGated: append.isGated, now: now)
        let accepted = store(append)
        if accepted {
            commitIndex = max(commitIndex, min(append.commit, verifiedIndex))
            applyCommitted(now: now)
            // What the leader says is committed may be old news until it has committed something of its own term.
            let isCurrent = append.commit > 0 && log.term(at: append.commit) == append.term
            if isForgetful, isCurrent, min(verifiedIndex, log.durableIndex) >= append.commit { join() }
        }
        let reply = AppendReply(
            term: term, round: isAnswering(now: now) ? append.round : 0, accepted: accepted,
            match: accepted ? min(verifiedIndex, log.durableIndex) : commitIndex,
            released: released.terms[me.index])
        send(.appendReply(reply), to: sender)
    }

    /// All that was ever committed is on this disk again.
    mutating func join() {
        isForgetful = false
        // In the first term of a new cluster there is nothing to have forgotten, and its first failover should be quick.
        votesFromTerm = term > 1 && role != .leader ? term + 2 : 0
        persist([.joined(votesFromTerm: votesFromTerm)])
        if role == .leader { return }
        note(.storage, "this node started with an empty disk and is up to date: it takes part in elections")
    }

    /// A member that has forgotten whom it voted for must not renew the lease of a leader that its vote deposed: that one
    /// has stepped down by the end of `silence`.
    private func isAnswering(now: Instant) -> Bool {
        !isForgetful || isNewCluster || now >= startedAt.advanced(by: timing.silence)
    }

    /// Takes over the leader's entries; false when the log doesn't match before them.
    private mutating func store(_ append: Append) -> Bool {
        guard storageFault == nil else { return false }
        // What is committed here is in every later leader's log, so it matches without looking.
        let isKnown = append.previousIndex <= commitIndex
        guard isKnown || log.term(at: append.previousIndex) == append.previousTerm else { return false }
        insert(append.entries.filter { $0.index > commitIndex })
        verifiedIndex = max(verifiedIndex, append.previousIndex + UInt64(append.entries.count))
        verifiedIndex = min(verifiedIndex, log.lastIndex)
        return true
    }

    /// Puts entries into the log where they are missing or differ, and has them written.
    mutating func insert(_ entries: [Entry]) {
        let fresh = entries.drop {
            log.term(at: $0.index) == $0.term || (breaks(.keepsConflicts) && $0.index <= log.lastIndex)
        }
        guard let first = fresh.first else { return }
        log.truncate(from: first.index)
        verifiedIndex = min(verifiedIndex, log.lastIndex)
        for entry in fresh { log.append(entry) }
        log.writing(ticket: persist([.append(Array(fresh))]))
    }

    /// More of the log is durable: as leader that may commit, as follower it is worth an answer.
    mutating func durableIndexMoved(now: Instant) {
        if role == .leader { return advanceCommit(now: now) }
        guard role == .follower, let currentLeader else { return }
        let match = min(verifiedIndex, log.durableIndex)
        guard match > commitIndex else { return }
        let reply = AppendReply(
            term: term, round: 0, accepted: true, match: match, released: released.terms[me.index])
        send(.appendReply(reply), to: currentLeader)
    }

    // MARK: Apply

    private mutating func applyCommitted(now: Instant) {
        var changed: [ServerID] = []
        var hasNewSet = false
        var hadLater = false
        while appliedIndex < commitIndex, let entry = log[appliedIndex + 1] {
            let before = table.digest
            let outcome = applyToTable(entry)
            appliedIndex = entry.index
            if entry.command.wireVersion > WireVersion.oldest { hadLater = true }
            if table.digest != before {
                if let server = entry.command.changedServer { changed.append(server) } else { hasNewSet = true }
                describe(entry.command)
            }
            applied(entry, outcome, now: now)
        }
        if hasNewSet { tableChanged() } else { for server in changed { serverChanged(server) } }
        // Once nothing of a later version is in the table, nothing of it stays on disk either: that is the way back.
        if hadLater, table.wireVersion == WireVersion.oldest { return takeSnapshot(trailing: 0) }
        if appliedIndex > log.baseIndex + UInt64(Limits.logEntriesMax) { takeSnapshot(trailing: Self.trailingEntries) }
    }

    private mutating func applyToTable(_ entry: Entry) -> Outcome {
        if breaks(.localApply), views[me.index].version % 8 == 7 { return .done }
        if breaks(.requestTwice) {
            return table.apply(Entry(index: entry.index, term: entry.term, request: nil, command: entry.command))
        }
        return table.apply(entry)
    }

    mutating func tableChanged() {
        servers = table.servers(configured: configuration.servers)
        for index in views.indices { views[index].keep(only: servers) }
        dueVerdicts.insertAll()
        isReachStale = true
        emit(.tableChanged)
    }

    /// The same for one server, whose record isn't new: what comes of it doesn't grow with the number of servers.
    private mutating func serverChanged(_ server: ServerID) {
        dueVerdicts.insert(server)
        isReachStale = true
        emit(.serverChanged(server))
    }

    private mutating func describe(_ command: Command) {
        switch command {
        case .establish: break
        case .setAdmin(let id, let state): note(.adminChange, "\(id) set to \(state.rawValue)")
        case .setWeight(let id, let weight): note(.adminChange, "\(id) has weight \(weight)")
        case .add(let id, let address): note(.adminChange, "\(id) added at \(address)")
        case .remove(let id): note(.adminChange, "\(id) removed")
        case .verdict(let id, let health, let reason, _):
            note(health == .up ? .serverUp : .serverDown, "\(id) is \(health.rawValue): \(reason)")
        case .scale(let backend, let scaling?):
            note(.scaling, "\(backend) should have \(scaling.desired) servers: \(scaling.reason)")
        case .scale(let backend, nil):
            note(.scaling, "\(backend): how many servers it should have isn't decided any more")
        }
    }

    /// - Parameter trailing: entries that stay behind it.
    private mutating func takeSnapshot(trailing: UInt64) {
        guard let snapshot = currentSnapshot() else { return }
        persist([.snapshot(snapshot, discardsLog: false)])
        log.compact(to: appliedIndex - trailing)
    }

    private func currentSnapshot() -> Snapshot? {
        guard let term = log.term(at: appliedIndex) else { return nil }
        return Snapshot(lastIndex: appliedIndex, lastTerm: term, bytes: table.encode())
    }

    // MARK: Catching up by snapshot

    /// Sends the next chunk to a peer whose next entry is gone from the log. Leaders and followers alike.
    private mutating func continueSnapshot(to peer: MemberID, now: Instant) {
        if let version = peers[peer.index].wireVersion, version < table.wireVersion { return }
        if peers[peer.index].transfer == nil {
            guard let snapshot = currentSnapshot() else { return }
            peers[peer.index].transfer = (snapshot, 0, now)
        }
        guard let transfer = peers[peer.index].transfer else { return }
        let bytes = transfer.snapshot.bytes
        let end = min(bytes.count, transfer.received + Self.chunkBytes)
        let chunk = SnapshotChunk(
            term: term, lastIndex: transfer.snapshot.lastIndex, lastTerm: transfer.snapshot.lastTerm,
            offset: transfer.received, total: bytes.count, bytes: Array(bytes[transfer.received..<end]))
        peers[peer.index].transfer?.sentAt = now
        send(.snapshot(chunk), to: peer)
    }

    mutating func receive(_ chunk: SnapshotChunk, from sender: MemberID, now: Instant) {
        guard chunk.lastIndex > commitIndex, storageFault == nil else {
            let reply = Message.snapshotReply(term: term, lastIndex: chunk.lastIndex, received: chunk.total)
            return send(reply, to: sender)
        }
        let isSame = incoming.map { $0.snapshot.lastIndex == chunk.lastIndex && $0.snapshot.total == chunk.total }
        if isSame != true { incoming = (chunk, []) }
        if incoming?.bytes.count == chunk.offset { incoming?.bytes += chunk.bytes }
        let received = incoming?.bytes.count ?? 0
        if received == chunk.total, let bytes = incoming?.bytes {
            incoming = nil
            install(Snapshot(lastIndex: chunk.lastIndex, lastTerm: chunk.lastTerm, bytes: bytes), now: now)
        }
        send(.snapshotReply(term: term, lastIndex: chunk.lastIndex, received: received), to: sender)
    }

    private mutating func install(_ snapshot: Snapshot, now: Instant) {
        guard let restored = BackendTable.decode(snapshot.bytes) else { return }
        let keepsLog = log.term(at: snapshot.lastIndex) == snapshot.lastTerm
        if keepsLog {
            log.compact(to: snapshot.lastIndex)
            log.writing(ticket: persist([.snapshot(snapshot, discardsLog: false)]))
        } else {
            log.reset(to: snapshot)
            verifiedIndex = snapshot.lastIndex
            log.writing(ticket: persist([.snapshot(snapshot, discardsLog: true)]))
        }
        table = restored
        commitIndex = snapshot.lastIndex
        appliedIndex = snapshot.lastIndex
        verifiedIndex = max(verifiedIndex, commitIndex)
        tableChanged()
        snapshotApplied(now: now)
    }

    mutating func receiveSnapshotReply(
        term: UInt64, lastIndex: UInt64, received: Int, from peer: MemberID, now: Instant
    ) {
        guard let transfer = peers[peer.index].transfer, transfer.snapshot.lastIndex == lastIndex else { return }
        if received >= transfer.snapshot.bytes.count {
            peers[peer.index].transfer = nil
            peers[peer.index].nextIndex = max(peers[peer.index].nextIndex, lastIndex + 1)
        } else {
            // Less than it had: the peer lost it in a restart. The next round goes on from there.
            peers[peer.index].transfer?.received = received
            if received > transfer.received { continueSnapshot(to: peer, now: now) }
        }
    }

    // MARK: Catching up without the leader

    /// Sends what is committed here to a peer that lags and doesn't hear the leader.
    mutating func catchUp(_ peer: MemberID, from applied: UInt64, now: Instant) {
        guard applied < appliedIndex else { return }
        if applied < log.baseIndex { return continueSnapshot(to: peer, now: now) }
        peers[peer.index].transfer = nil
        let entries = readable(
            log.slice(from: applied + 1, upTo: commitIndex, bytesMax: Self.entriesBytesMax), by: peer)
        if !entries.isEmpty { send(.committed(Committed(entries: entries)), to: peer) }
    }

    mutating func receive(_ committed: Committed, now: Instant) {
        // Only what follows directly on what is committed here; a leader has no need of it.
        let fresh = committed.entries.filter { $0.index > commitIndex }
        guard role != .leader, storageFault == nil, let first = fresh.first, first.index == commitIndex + 1 else {
            return
        }
        for (offset, entry) in fresh.enumerated() where entry.index != first.index + UInt64(offset) { return }
        insert(fresh)
        commitIndex = first.index + UInt64(fresh.count) - 1
        verifiedIndex = max(verifiedIndex, commitIndex)
        applyCommitted(now: now)
    }
}
