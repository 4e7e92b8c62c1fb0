// ClusterChecks: what must hold after every step of a simulated cluster. Kept apart from the members, so that it
// believes nothing they say about themselves that can be seen from outside.

import Gossip

struct ClusterChecks {
    /// The first broken promise; nothing runs after it.
    private(set) var violation: String?

    fileprivate var leaders: [UInt64: Int] = [:]
    fileprivate var votes: [UInt64: [Int?]] = [:]
    /// Entry by index - 1; nil where it was only ever seen in a snapshot.
    fileprivate(set) var committed: [Entry?] = []
    fileprivate var digests: [UInt64: UInt64] = [:]
    /// Answered as done in this step.
    fileprivate var acknowledged: [RequestID] = []
    /// How far each node's commit and terms were seen, in its present life.
    fileprivate var commitSeen: [UInt64]
    fileprivate var termSeen: [UInt64]
    private let members: Int

    init(members: Int) {
        self.members = members
        commitSeen = Array(repeating: 0, count: members)
        termSeen = Array(repeating: 0, count: members)
    }

    mutating func fail(_ text: String) {
        if violation == nil { violation = text }
    }

    /// A node's memory is that of its disk again; its term may not have gone back, though.
    mutating func started(_ node: Int) { commitSeen[node] = 0 }

    mutating func acknowledge(_ request: RequestID) { acknowledged.append(request) }

    /// Where a request was committed; nil when it wasn't, or only snapshots tell.
    func index(of request: RequestID) -> UInt64? {
        committed.first { $0?.request == request }.flatMap { $0?.index }
    }

    fileprivate mutating func note(vote node: Int, term: UInt64, for candidate: Int) {
        var given = votes[term] ?? Array(repeating: nil, count: members)
        if let earlier = given[node], earlier != candidate {
            fail("n\(node) votes for n\(candidate) in term \(term), where it had voted for n\(earlier)")
        }
        given[node] = candidate
        votes[term] = given
    }

    fileprivate mutating func note(leader node: Int, term: UInt64) {
        if let other = leaders[term], other != node { fail("n\(node) and n\(other) both lead in term \(term)") }
        leaders[term] = node
    }

    fileprivate mutating func note(digest: UInt64, at index: UInt64, node: Int) {
        if let other = digests[index], other != digest {
            fail("n\(node)'s table at index \(index) is not what others have there")
        }
        digests[index] = digest
    }

    fileprivate mutating func note(committed index: UInt64, _ entry: Entry?, node: Int) {
        let place = Int(index - 1)
        while committed.count <= place { committed.append(nil) }
        guard let entry else { return }
        if let known = committed[place], known != entry {
            fail("n\(node) commits another entry at \(index): \(entry), not \(known)")
        }
        committed[place] = entry
    }
}

extension ClusterWorld {
    func checkOwners() {
        let owners = owners
        if owners.count > 1 { checks.fail("two owners: \(owners.map { "n\($0)" })") }
    }

    func checkSent(_ message: Message, from: Int, to: Int) {
        guard case .voteReply(let reply) = message, reply.granted, !reply.isPreVote else { return }
        checks.note(vote: from, term: reply.term, for: to)
        let durable = nodes[from].disk.durable
        if durable.term < reply.term || (durable.term == reply.term && durable.votedFor != "n\(to)") {
            checks.fail("n\(from) tells n\(to) of a vote in term \(reply.term) that its disk doesn't hold")
        }
    }

    func checkStep(_ node: Int) {
        guard let member = nodes[node].member else { return }
        if member.term < checks.termSeen[node], nodes[node].disk.durable.term > member.term {
            checks.fail("n\(node) goes back from term \(checks.termSeen[node]) to \(member.term)")
        }
        checks.termSeen[node] = member.term
        if member.role == .leader {
            checks.note(leader: node, term: member.term)
            checks.note(vote: node, term: member.term, for: node)
            if nodes[node].disk.durable.term < member.term {
                checks.fail("n\(node) leads in term \(member.term) without its own vote on disk")
            }
        }
        if member.appliedIndex > member.commitIndex {
            checks.fail("n\(node) applied \(member.appliedIndex), but \(member.commitIndex) are committed")
        }
        let seen = checks.commitSeen[node]
        if member.commitIndex < seen { checks.fail("n\(node) takes back a commit") }
        if member.commitIndex > seen {
            for index in seen + 1...member.commitIndex {
                checks.note(committed: index, member.log[index], node: node)
            }
            checks.commitSeen[node] = member.commitIndex
        }
        checks.note(digest: member.table.digest, at: member.appliedIndex, node: node)
        let acknowledged = checks.acknowledged
        checks.acknowledged = []
        for request in acknowledged { checkAcknowledged(request) }
    }

    /// Told to the operator as done: then it is committed, and on a majority's disks at this very moment.
    private func checkAcknowledged(_ request: RequestID) {
        guard let index = checks.index(of: request), let entry = checks.committed[Int(index - 1)] else {
            // It may be one of those that were in a snapshot before anyone looked.
            if checks.committed.contains(nil) { return }
            return checks.fail("\(request) is acknowledged, but nobody has committed it")
        }
        let holders = nodes.filter { $0.disk.holds(entry) }.count
        if holders <= settings.members / 2 {
            checks.fail("\(request) is acknowledged at index \(index), but only \(holders) disks hold it")
        }
    }

    /// Once all is settled: the table is what the committed requests make of it, each counted once, in log order.
    func checkTableAgainstLog() {
        guard let leader, let member = nodes[leader].member else { return checks.fail("nobody leads") }
        guard !checks.committed.contains(nil) else { return }
        var expected: [ServerID: Int] = [:]
        var counted: Set<RequestID> = []
        for case let entry? in checks.committed {
            if let request = entry.request, !counted.insert(request).inserted { continue }
            if case .setWeight(let server, let weight) = entry.command { expected[server] = weight }
        }
        for server in settings.servers where member.table[server]?.weight != expected[server] {
            checks.fail(
                "\(server) weighs \(String(describing: member.table[server]?.weight)), but the log makes it "
                    + "\(String(describing: expected[server]))")
        }
    }
}
