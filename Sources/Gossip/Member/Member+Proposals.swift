// Member+Proposals: an operator's change, asked of any node, on its way into the log and back.
//
// The node that was asked keeps the change until it sees it applied, and asks the leader again (through a peer if
// need be) until then. One change of a node is under way at a time, so they can't overtake each other, and the
// table remembers each node's last one, so that a repeated one changes nothing (dissertation, 6.3).

struct Proposal: Sendable {
    let request: RequestID
    let command: Command
    let deadline: Instant
    var sentAt: Instant?
}

extension Member {
    /// How long an operator waits for the cluster's word.
    private static var patience: Duration { .seconds(5) }
    private static var repeatInterval: Duration { .milliseconds(100) }

    var proposalDeadline: Instant? {
        guard let head = proposals.first else { return nil }
        let again = head.sentAt?.advanced(by: Self.repeatInterval) ?? head.deadline
        return proposals.reduce(again) { min($0, $1.deadline) }
    }

    mutating func propose(_ command: Command, _ request: RequestID, now: Instant) {
        if let problem = refusal(of: command) { return emit(.answer(request, .refused(problem))) }
        guard proposals.count < Limits.proposalsMax else {
            return emit(.answer(request, .refused("\(proposals.count) changes are waiting already; try again")))
        }
        let deadline = now.advanced(by: Self.patience)
        proposals.append(Proposal(request: request, command: command, deadline: deadline))
        if proposals.count == 1 { dispatchProposal(now: now) }
    }

    /// Why an operator's change makes no sense here; nil when it does.
    private func refusal(of command: Command) -> String? {
        switch command {
        case .establish, .verdict, .scale: "only the leader decides this"
        case .setAdmin(let id, _), .remove(let id): isServer(id) ? nil : unknown(id)
        case .setWeight(let id, let weight):
            (0...Limits.weightMax).contains(weight)
                ? (isServer(id) ? nil : unknown(id)) : "weight \(weight) is not within 0…\(Limits.weightMax)"
        case .add(let id, _):
            isServer(id)
                ? "\(id) exists already"
                : servers.count < Limits.serversMax ? nil : "there are \(servers.count) servers already"
        }
    }

    private func isServer(_ id: ServerID) -> Bool { servers.hasSorted(id) }

    private func unknown(_ id: ServerID) -> String {
        let names = servers.prefix(20).map(\.description).joined(separator: ", ")
        return "there is no server \(id); there are \(names)\(servers.count > 20 ? ", …" : "")"
    }

    private mutating func dispatchProposal(now: Instant) {
        guard let head = proposals.first else { return }
        proposals[0].sentAt = now
        if role == .leader {
            appendRequest(head.request, head.command, now: now)
        } else if let leader = currentLeader, isHeard(leader, now: now) {
            send(.request(head.request, head.command, hops: 2), to: leader)
        } else {
            // Someone who hears the leader passes it on; it is applied once however often it arrives.
            for peer in configuration.peers where isHeard(peer, now: now) {
                send(.request(head.request, head.command, hops: 2), to: peer)
            }
        }
    }

    mutating func resendProposals(now: Instant) {
        guard !proposals.isEmpty else { return }
        for proposal in proposals where now >= proposal.deadline {
            let reason =
                "not acknowledged by a majority within \(Self.patience.components.seconds) s; it may still happen"
            emit(.answer(proposal.request, .unacknowledged(reason)))
        }
        proposals.removeAll { now >= $0.deadline }
        if let head = proposals.first, head.sentAt.map({ $0.duration(to: now) >= Self.repeatInterval }) ?? true {
            dispatchProposal(now: now)
        }
    }

    /// As a new leader, or one whose hand-over failed: what waits here goes into the log.
    mutating func adoptProposals(now: Instant) { dispatchProposal(now: now) }

    mutating func receiveRequest(
        _ request: RequestID, _ command: Command, hops: Int, from sender: MemberID, now: Instant
    ) {
        guard peers.indices.contains(request.origin.index), request.origin != me else { return }
        if role == .leader {
            appendRequest(request, command, now: now)
        } else if hops > 0, let leader = currentLeader, leader != sender, leader != request.origin {
            send(.request(request, command, hops: hops - 1), to: leader)
        }
    }

    private mutating func appendRequest(_ request: RequestID, _ command: Command, now: Instant) {
        switch command {
        case .establish, .verdict, .scale: return
        default: break
        }
        let unapplied = log.entries.suffix(Int(log.lastIndex - appliedIndex))
        guard handover == nil, storageFault == nil, unapplied.count < Limits.uncommittedMax,
            !table.hasApplied(request), !unapplied.contains(where: { $0.request == request })
        else { return }
        appendAsLeader(command, request: request)
        if breaks(.doneBeforeCommit), proposals.first?.request == request {
            proposals.removeFirst()
            emit(.answer(request, .done))
        }
        sendAppends(now: now)
    }

    /// An entry was applied: perhaps the one an operator here waits for.
    mutating func applied(_ entry: Entry, _ outcome: Outcome, now: Instant) {
        guard let head = proposals.first, entry.request == head.request else { return }
        proposals.removeFirst()
        emit(.answer(head.request, outcome))
        dispatchProposal(now: now)
    }

    /// A snapshot took the place of entries: the change that an operator here waits for may have been among them.
    mutating func snapshotApplied(now: Instant) {
        guard let head = proposals.first, table.hasApplied(head.request) else { return }
        proposals.removeFirst()
        emit(.answer(head.request, snapshotOutcome(of: head.command)))
        dispatchProposal(now: now)
    }

    /// A snapshot tells that a command was applied, not how that ended; only `add` can end badly then.
    private func snapshotOutcome(of command: Command) -> Outcome {
        if case .add(let id, let address) = command, table[id]?.address != address {
            return .unacknowledged(
                "the change reached the cluster, but what came of it is not known here; look at \(id)")
        }
        return .done
    }
}
