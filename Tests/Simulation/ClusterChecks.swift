// ClusterChecks: what must hold after every step of a simulated cluster, as far as terms, log and table go.
//
// Kept apart from the members, so that it believes nothing they say about themselves that can be seen from outside.
// Each check looks only at what the step touched. Leases, votes and who answers for the VIP: ClusterPromises; verdicts:
// ClusterVerdicts. Raft's names for these properties: election safety, leader append-only, log matching, leader
// completeness, state machine safety (dissertation, figure 3.2).

import Gossip

struct ClusterChecks {
    /// An entry someone had written, with the term of the one before it.
    struct Written {
        let entry: Entry
        let previousTerm: UInt64
    }

    /// A node as it was seen last, in its present life.
    struct Seen {
        var role = Role.follower
        var term: UInt64 = 0
        var commit: UInt64 = 0
        var applied: UInt64 = 0
    }

    /// The first broken promise; nothing runs after it.
    private(set) var violation: String?

    /// By term - 1.
    var leaders: [Int?] = []
    /// By index - 1: every entry that was ever in a log there, one for each term.
    var written: [[Written]] = []
    /// By index - 1; nil where an entry was only ever seen in a snapshot.
    var committed: [Entry?] = []
    /// In which term each was, by the first node to know; a leader of an earlier one, woken late, need not have it.
    fileprivate var committedIn: [UInt64] = []
    /// Where requests were committed.
    private var places: [RequestID: UInt64] = [:]
    /// The table made of the committed entries, and its digest after each; by index.
    private var reference = BackendTable()
    private var digests: [UInt64] = [0]
    /// Answered as done in this step.
    var acknowledged: [RequestID] = []
    var seen: [Seen]
    var promises: ClusterPromises
    var verdicts = ClusterVerdicts()
    let members: Int

    init(members: Int) {
        self.members = members
        seen = Array(repeating: Seen(), count: members)
        promises = ClusterPromises(members: members)
    }

    mutating func fail(_ text: String) {
        if violation == nil { violation = text }
    }

    /// A node's memory is that of its disk again.
    mutating func started(_ node: Int) {
        seen[node] = Seen()
        promises.started(node)
    }

    mutating func acknowledge(_ request: RequestID) { acknowledged.append(request) }

    /// Where a request was committed; nil when it wasn't, or only snapshots tell.
    func index(of request: RequestID) -> UInt64? { places[request] }

    mutating func note(leader node: Int, term: UInt64) {
        while leaders.count < Int(term) { leaders.append(nil) }
        if let other = leaders[Int(term) - 1], other != node {
            fail("n\(node) and n\(other) both lead in term \(term)")
        }
        leaders[Int(term) - 1] = node
    }

    /// Log matching: what has the same index and term is the same, and so is all before it.
    mutating func note(written entry: Entry, after previousTerm: UInt64, node: Int) {
        let place = Int(entry.index) - 1
        while written.count <= place { written.append([]) }
        if let known = written[place].first(where: { $0.entry.term == entry.term }) {
            if known.entry != entry {
                fail("n\(node) writes \(entry), but another has \(known.entry) with the same index and term")
            } else if known.previousTerm != previousTerm {
                fail(
                    "n\(node) writes entry \(entry.index) of term \(entry.term) after one of term \(previousTerm), "
                        + "another after one of term \(known.previousTerm)")
            }
        } else {
            written[place].append(Written(entry: entry, previousTerm: previousTerm))
        }
    }

    /// Returns true when nobody has committed there before.
    mutating func note(committed index: UInt64, _ entry: Entry?, node: Int, term: UInt64) -> Bool {
        let place = Int(index - 1)
        if place < committed.count {
            if let known = committed[place], let entry, known != entry {
                fail("n\(node) commits another entry at \(index): \(entry), not \(known)")
            }
            return false
        }
        // Gone into a snapshot in the same step: there is only one that it can be, unless terms fought over the place.
        let entry = entry ?? (written.count > place && written[place].count == 1 ? written[place][0].entry : nil)
        while committed.count < place {
            committed.append(nil)
            committedIn.append(.max)
        }
        committed.append(entry)
        committedIn.append(term)
        if let last = committed.dropLast().last, let last, let entry, last.term > entry.term {
            fail("the entry at \(index) is of term \(entry.term), older than the one before it")
        }
        if let request = entry?.request, places[request] == nil { places[request] = index }
        guard let entry, digests.count == place + 1 else { return true }
        _ = reference.apply(entry)
        digests.append(reference.digest)
        return true
    }

    mutating func note(digest: UInt64, at index: UInt64, node: Int) {
        guard index < digests.count, digests[Int(index)] != digest else { return }
        fail("n\(node)'s table at index \(index) is not what the committed entries make")
    }

    /// What the log makes of a server; nil while that isn't known.
    func expected(_ server: ServerID) -> ServerRecord? { reference[server] }
    var expectedDigest: UInt64? { digests.count == committed.count + 1 ? reference.digest : nil }
}

extension ClusterWorld {
    func checkStep(_ node: Int) {
        guard let role = nodes[node].member?.role, let term = nodes[node].member?.term,
            let commit = nodes[node].member?.commitIndex, let applied = nodes[node].member?.appliedIndex
        else { return }
        let seen = checks.seen[node]
        if term != seen.term || role != seen.role { checkRole(node, role, term: term) }
        if commit != seen.commit { checkCommit(node, from: seen.commit, to: commit) }
        if applied != seen.applied { checkApplied(node, applied, commit: commit) }
        checks.seen[node] = ClusterChecks.Seen(role: role, term: term, commit: commit, applied: applied)
        guard !checks.acknowledged.isEmpty else { return }
        let acknowledged = checks.acknowledged
        checks.acknowledged = []
        for request in acknowledged { checkAcknowledged(request) }
    }

    private func checkRole(_ node: Int, _ role: Role, term: UInt64) {
        if term < checks.seen[node].term {
            checks.fail("n\(node) goes back from term \(checks.seen[node].term) to \(term)")
        }
        if role == .leader, checks.seen[node].role != .leader || checks.seen[node].term != term {
            checks.note(leader: node, term: term)
            if nodes[node].disk.durable.term < term {
                checks.fail("n\(node) leads in term \(term) without its own vote on disk")
            }
            checkCompleteness(node, term: term)
            tell("n\(node) leads in term \(term)")
        }
    }

    /// A new leader has everything that was committed in earlier terms.
    private func checkCompleteness(_ node: Int, term: UInt64) {
        guard
            let last = checks.committed.indices.last(where: {
                checks.committed[$0] != nil && checks.committedIn[$0] < term
            }),
            let entry = checks.committed[last]
        else { return }
        let base = nodes[node].member?.log.baseIndex ?? 0
        if entry.index <= base { return }
        if nodes[node].member?.log.term(at: entry.index) != entry.term {
            checks.fail(
                "n\(node) leads in term \(term) without the committed entry \(entry.index) of term \(entry.term)")
        }
    }

    private func checkCommit(_ node: Int, from seen: UInt64, to commit: UInt64) {
        if commit < seen { checks.fail("n\(node) takes back a commit") }
        guard commit > seen else { return }
        for index in seen + 1...commit {
            let entry = nodes[node].member?.log[index]
            let term = nodes[node].member?.term ?? 0
            guard checks.note(committed: index, entry, node: node, term: term), let entry else { continue }
            if index == commit, entry.term != nodes[node].member?.term, nodes[node].member?.role == .leader {
                checks.fail("n\(node) commits entry \(index) of term \(entry.term) by counting, in a later term")
            }
            let holders = nodes.count { $0.disk.holds(entry) }
            if holders <= settings.members / 2 {
                checks.fail("n\(node) commits entry \(index) that only \(holders) disks hold")
            }
        }
    }

    private func checkApplied(_ node: Int, _ applied: UInt64, commit: UInt64) {
        if applied > commit { checks.fail("n\(node) applied \(applied), but \(commit) are committed") }
        if let digest = nodes[node].member?.table.digest { checks.note(digest: digest, at: applied, node: node) }
    }

    /// Told to the operator as done: then it is committed. (That a majority's disks hold it was checked when it was.)
    private func checkAcknowledged(_ request: RequestID) {
        guard checks.index(of: request) == nil, !checks.committed.contains(nil) else { return }
        checks.fail("\(request) is acknowledged, but nobody has committed it")
    }

    /// What a member asks its disk for.
    func notePersist(_ node: Int, _ operations: [StorageOperation]) {
        for operation in operations {
            switch operation {
            case .append(let entries):
                for entry in entries {
                    let previous = nodes[node].member?.log.term(at: entry.index - 1)
                    guard let previous, nodes[node].member?.log.term(at: entry.index) == entry.term else { continue }
                    checks.note(written: entry, after: previous, node: node)
                    if case .verdict(let server, let health, _, _) = entry.command,
                        nodes[node].member?.role == .leader
                    {
                        checkVerdict(node, server, health)
                    }
                }
            case .vote(let term, let votedFor):
                if let votedFor, let candidate = Int(votedFor.dropFirst()) {
                    noteVote(node, term: term, for: candidate)
                }
            case .snapshot, .joined: break
            }
        }
    }

    /// Once all is settled: every table is what the committed entries make, each request counted once, in log order.
    func checkTableAgainstLog() {
        guard let leader else { return checks.fail("nobody leads") }
        guard let expected = checks.expectedDigest, let member = nodes[leader].member else { return }
        if member.appliedIndex == UInt64(checks.committed.count), member.table.digest != expected {
            checks.fail("n\(leader)'s table is not what the log makes")
        }
        for server in settings.servers where member.table[server] != checks.expected(server) {
            checks.fail(
                "n\(leader) has \(String(describing: member.table[server])) for \(server), not what the log makes")
        }
    }
}
