// Member: one member of the cluster as a pure state machine. Events and the time in, effects out.
//
// It never reads a clock, a file, a socket or a random source; the shell in Node and the tests' simulated world
// drive the same code. This file holds the state and the three calls; each concern has a file of its own:
//
//   Member+Election.swift     follower → pre-candidate → candidate → leader, votes, stickiness, transfer
//   Member+Offer.swift        entries for a candidate whose log is behind
//   Member+Replication.swift  appends, commit, apply, snapshots, catching up a peer that can't hear the leader
//   Member+Ownership.swift    the lease, the fence, released terms, forced ownership
//   Member+Flows.swift        connections that outlive a planned move
//   Member+Fitness.swift      a leader that should not lead
//   Member+Gossip.swift       digests, views, liveness, verdicts, suspicion
//   Member+Proposals.swift    operators' changes from any node to the leader and back
//
// Raft as in Ongaro's dissertation (2014): ch. 3 with pre-vote (9.6), check-quorum and stickiness (6.2, 6.4.1),
// leadership transfer (3.10). Deviations: membership is fixed by configuration; votes carry recent answers
// (Ownership.swift); committed entries may come from any peer; health travels beside the log as views.

/// What is known of a peer.
struct Peer: Sendable {
    /// Last message straight from it.
    var heardAt: Instant?
    /// Last sign of life, also through another member.
    var aliveAt: Instant?
    var boot: UInt64 = 0
    /// The latest digest it sent.
    var digest: Digest?
    var digestAt: Instant?
    /// What was last told about it in a note.
    var wasAlive = false
    /// It still serves connections of a VIP that it gave away or lost, after this term; 0: it doesn't.
    var drainedTerm: UInt64 = 0
    /// It hasn't said so, and gets until then to say it.
    var expectedUntil: Instant?
    /// The last term that it was seen to lead.
    var ledTerm: UInt64 = 0
    /// What it speaks, by its own word in this life.
    var wireVersion: Int?
    /// Round trip of the last digest exchange.
    var roundTrip: Duration?
    /// As pre-candidate: a part of its log that isn't newer than this member's yet.
    var offered: OfferedTail?

    // As leader (Raft's nextIndex and matchIndex).
    var nextIndex: UInt64 = 1
    var matchIndex: UInt64 = 0
    /// A snapshot on its way to it, and how much has arrived.
    var transfer: (snapshot: Snapshot, received: Int, sentAt: Instant)?
}

public struct Member: Sendable {
    public internal(set) var configuration: ClusterConfiguration
    let boot: UInt64
    let startedAt: Instant
    var random: SplitMix64

    // Election
    public internal(set) var role = Role.follower
    public internal(set) var term: UInt64
    var votedFor: MemberID?
    /// The leader of this term, if it is known.
    var currentLeader: MemberID?
    /// When a heartbeat of the current leader last came.
    var leaderHeardAt: Instant?
    var electionDeadline: Instant
    /// It has waited a little longer than drawn, for another one's campaign.
    var hasMadeWay = false
    var ballot: Ballot
    /// This candidate campaigns because the leader asked it to (dissertation, 3.10).
    var isTransferCampaign = false
    var nextVoteRequest: Instant
    /// The term or vote changed and isn't handed to storage yet.
    var isVoteDirty = false
    var voteTicket: UInt64 = 0
    var leaderSince: Instant
    /// It was given more time once since it last heard from its leader or, as leader, from a majority.
    var hadGrace = false
    var graceUntil = Instant(nanoseconds: 0)
    var handover: Handover?
    /// Whom the last hand-over was meant for, if it failed.
    var lastFailedTarget: MemberID?
    /// The term in which this member, as leader, last asked another to take over and keeps its connections; 0: none.
    var movedTerm: UInt64 = 0
    /// The move that is being prepared or under way was nobody's wish but the leader's own.
    var isMoveAutomatic = false
    /// What `timeoutNow` said to this candidate.
    var transfer: Transfer?
    var hasResigned = false
    /// It began with nothing on disk, a new cluster's member or one whose disk was lost and with it what it promised, and
    /// hasn't been brought up to date since, perhaps not in several lives.
    public internal(set) var isForgetful: Bool
    /// After that it votes in no term before this one: somebody it has forgotten may hold its vote for the next term.
    package var votesFromTerm: UInt64 = 0
    var storageFault: String?

    // Log and table
    package internal(set) var log: ReplicatedLog
    public internal(set) var table: BackendTable
    public internal(set) var commitIndex: UInt64
    public internal(set) var appliedIndex: UInt64
    /// The log equals the current leader's up to here.
    var verifiedIndex: UInt64 = 0
    var incoming: (snapshot: SnapshotChunk, bytes: [UInt8])?
    /// The servers in use, sorted: the file's and the run-time ones.
    public internal(set) var servers: [ServerID]

    // Ownership
    var lease: LeaderLease
    var nextHeartbeat: Instant
    var answers: AnswerRecord
    var released: ReleasedTerms
    /// As leader: what each voter says has to be over or released before this member may own the VIP (nil: it hasn't
    /// voted). Empty once nothing is left to wait for.
    var barrier: [[AnswerRecord.Answer]?] = []
    /// The last hold the fence was told, until it says that the address is gone.
    var heldUntil: Instant?
    /// The fence was told to drop and hasn't said yet that it did.
    var isLettingGo = false
    /// The number of the last order to the fence.
    var fenceOrder: UInt64 = 0
    /// As leader: since when the fence has been told to hold and the address hasn't been there.
    var vipMissingSince: Instant?
    /// The fence says that the address is on this node.
    public internal(set) var holdsAddress = false
    /// The last term this member led; 0 for none.
    var lastLedTerm: UInt64 = 0
    /// As follower: the leader says that it has the VIP.
    var leaderOwnsVIP = false
    /// The fence has said that the kernel's gate enforces its holds.
    public internal(set) var hasGate = false
    /// An operator made this member own the VIP without a majority.
    public internal(set) var isForced = false
    var nextForcedHold = Instant(nanoseconds: 0)

    // Connections that outlive a move of the VIP
    /// The term after which this member gave the VIP away and went on serving its connections; 0: it has none of those.
    var drainedTerm: UInt64 = 0
    /// The same term, when they are over, and until when others may still send packets here.
    var drainEnd: (term: UInt64, at: Instant)?
    /// As leader: the end of the last lease with which it held the VIP.
    var ownedUntil: Instant?
    /// It lost the lead without a move, and hasn't heard a successor: until when its connections are worth keeping.
    var strandedUntil: Instant?
    /// They can't be neighbours: a move to them keeps no connections.
    var offLink: [MemberID] = []
    /// What the fence was told of it last.
    var flowsGo: FlowRoute?

    // Fitness
    var answersClients = true
    var isFenceFailing = false
    var reachesGateway = true
    /// Servers that this member reaches, as `Digest.Condition.reach`, and whether that has to be counted again.
    var reach = 0
    var isReachStale = true
    /// As leader: since when a follower has been fitter, or as fit and of higher priority.
    var fitterSince: Instant?
    var preferredSince: Instant?
    /// As leader: fitness doesn't move the lead on before this.
    var holdDownUntil = Instant(nanoseconds: 0)

    // Gossip
    var peers: [Peer]
    var views: [View]
    var nextDigest: Instant
    var wallClockMs: Int64 = 0
    var suspected: [(server: ServerID, at: Instant)] = []
    var dueVerdicts = DueVerdicts()

    // Proposals
    var proposals: [Proposal] = []

    // Effects
    private var effects: [Effect] = []
    private var effectsTaken = 0
    var lastTicket: UInt64 = 0
    var persistedTicket: UInt64 = 0
    /// Messages that speak of something not yet durable.
    var withheld: [(ticket: UInt64, message: Message, to: MemberID)] = []

    /// - Parameters:
    ///   - recovered: what storage held.
    ///   - boot: higher than that of any earlier start of this member.
    ///   - seed: for election timeouts.
    public init(
        _ configuration: ClusterConfiguration, recovered: RecoveredState, boot: UInt64, seed: UInt64, now: Instant
    ) {
        self.configuration = configuration
        self.boot = boot
        startedAt = now
        random = SplitMix64(state: seed)
        // An entry's term may be on disk when the term itself isn't yet.
        term = max(recovered.term, recovered.entries.last?.term ?? 0, recovered.snapshot?.lastTerm ?? 0)
        isForgetful = recovered.votesFromTerm == nil
        votesFromTerm = recovered.votesFromTerm ?? 0
        votedFor = recovered.term == term ? recovered.votedFor.flatMap { configuration.member(named: $0) } : nil
        log = ReplicatedLog(recovered: recovered)
        if let snapshot = recovered.snapshot {
            guard let recoveredTable = BackendTable.decode(snapshot.bytes) else {
                preconditionFailure("the shell asks BackendTable.isReadable first")
            }
            table = recoveredTable
        } else {
            table = BackendTable()
        }
        commitIndex = log.baseIndex
        appliedIndex = log.baseIndex
        servers = table.servers(configured: configuration.servers)
        let count = configuration.members.count
        lease = LeaderLease(memberCount: count, me: configuration.me)
        ballot = Ballot(memberCount: count)
        released = ReleasedTerms(memberCount: count)
        peers = Array(repeating: Peer(), count: count)
        views = (0..<count).map { View(boot: $0 == configuration.me.index ? boot : 0) }
        answers = AnswerRecord(start: now)
        electionDeadline = now
        nextHeartbeat = now
        nextVoteRequest = now
        leaderSince = now
        nextDigest = now
        electionDeadline = now.advanced(by: drawElectionTimeout())
    }

    var me: MemberID { configuration.me }
    var timing: Timing { configuration.timing }

    /// Takes in one event. Afterwards take all effects.
    /// - Parameter now: never earlier than in the call before.
    public mutating func step(_ event: Event, now: Instant) {
        switch event {
        case .tick: break
        case .message(let message, let sender, let boot): receive(message, from: sender, boot: boot, now: now)
        case .persisted(let ticket): persisted(ticket: ticket, now: now)
        case .storageFailed(let reason): storageFailed(reason, now: now)
        case .propose(let command, let request): propose(command, request, now: now)
        case .observed(let observations): observe(observations, now: now)
        case .suspect(let server): suspect(server, isOwn: true, now: now)
        case .fence(let report): fenceReported(report, now: now)
        case .fitness(let answersClients, let reachesGateway):
            self.answersClients = answersClients
            self.reachesGateway = reachesGateway
        case .offLink(let members): offLink = members
        case .drained: drained(now: now)
        case .forceLeader: forceLeader(now: now)
        case .requestHandover(let target): requestHandover(to: target, now: now)
        case .handover(let target): beginHandover(to: target, now: now)
        case .resign: resign(now: now)
        case .wallClock(let milliseconds): wallClockMs = milliseconds
        case .speaks(let member, let boot, let version): learnWireVersion(of: member, boot: boot, version)
        case .scale(let backend, let scaling): scale(backend, scaling, now: now)
        case .reconfigured(let servers, let digest, let sections, let leadership):
            configuration.servers = servers.sorted()
            configuration.digest = digest
            configuration.sections = sections
            configuration.leadership = leadership
            tableChanged()
        }
        elapse(now: now)
    }

    /// The next effect to carry out, in order; nil when there is none.
    public mutating func nextEffect() -> Effect? {
        guard effectsTaken < effects.count else {
            effects.removeAll(keepingCapacity: true)
            effectsTaken = 0
            return nil
        }
        defer { effectsTaken += 1 }
        return effects[effectsTaken]
    }

    /// When to step with `.tick` at the latest.
    public var deadline: Instant? {
        var earliest = min(nextDigest, proposalDeadline ?? nextDigest)
        if role == .leader {
            earliest = min(earliest, nextHeartbeat, quorumDeadline)
            if let handover { earliest = min(earliest, handover.deadline) }
            if let barrierEnd { earliest = min(earliest, barrierEnd) }
            if let vipGivenUpAt { earliest = min(earliest, vipGivenUpAt) }
        } else if mayCampaign {
            earliest = min(earliest, max(electionDeadline, promisedUntil))
            if role != .follower { earliest = min(earliest, nextVoteRequest) }
        }
        if isForced { earliest = min(earliest, nextForcedHold) }
        if let drainEnd { earliest = min(earliest, drainEnd.at) }
        return earliest
    }

    /// Whatever is due at `now`, after any event.
    private mutating func elapse(now: Instant) {
        if role == .leader {
            leaderElapsed(now: now)
        } else if mayCampaign {
            campaignElapsed(now: now)
        }
        if now >= nextDigest { sendDigests(now: now) }
        resendProposals(now: now)
        if !dueVerdicts.isEmpty { decideVerdicts(now: now) }
        endDrain(now: now)
        forwardFlows(now: now)
        renewHold(now: now)
        renewForcedHold(now: now)
        persistVoteIfDirty()
    }

    // MARK: Effects

    mutating func emit(_ effect: Effect) { effects.append(effect) }

    mutating func send(_ message: Message, to member: MemberID) { emit(.send(message, to: member)) }

    mutating func broadcast(_ message: Message) {
        for peer in configuration.peers { send(message, to: peer) }
    }

    mutating func note(_ kind: Note.Kind, _ text: String) { emit(.note(Note(kind: kind, text: text))) }

    /// Asks for durable writes; the ticket tells when they are done.
    @discardableResult
    mutating func persist(_ operations: [StorageOperation]) -> UInt64 {
        lastTicket += 1
        emit(.persist(operations, ticket: lastTicket))
        return lastTicket
    }

    private mutating func persisted(ticket: UInt64, now: Instant) {
        persistedTicket = max(persistedTicket, ticket)
        if storageFault != nil {
            // Storage says `persisted` only after it has written everything that failed before, too.
            storageFault = nil
            note(.storage, "this node can write its state again")
        }
        log.persisted(ticket: ticket)
        while let first = withheld.first, first.ticket <= ticket {
            withheld.removeFirst()
            send(first.message, to: first.to)
        }
        ballotPersisted(now: now)
        durableIndexMoved(now: now)
    }

    private mutating func storageFailed(_ reason: String, now: Instant) {
        if storageFault == nil {
            note(.storage, "this node can't write its state (\(reason)): it neither votes nor leads")
        }
        storageFault = reason
        withheld = []
        if role != .follower { becomeFollower(term: term, leader: nil, now: now) }
    }

    private mutating func receive(_ message: Message, from sender: MemberID, boot: UInt64, now: Instant) {
        guard sender != me, peers.indices.contains(sender.index) else { return }
        heard(from: sender, boot: boot, now: now)
        switch message {
        case .append(let body): receive(body, from: sender, now: now)
        case .appendReply(let body): receive(body, from: sender, now: now)
        case .voteRequest(let body): receive(body, from: sender, now: now)
        case .voteReply(let body): receive(body, from: sender, now: now)
        case .timeoutNow(let term, let keepsFlows, let isAutomatic, let drained):
            let transfer = Transfer(
                from: sender, term: term, keepsFlows: keepsFlows, isAutomatic: isAutomatic, drained: drained)
            receiveTimeoutNow(transfer, now: now)
        case .handoverRequest(let target):
            if isMember(target) { receiveHandoverRequest(to: target, from: sender, now: now) }
        case .released(let term): learnReleased(sender, upTo: term, now: now)
        case .digest(let body): receive(body, from: sender, now: now)
        case .views(let body): receive(body, now: now)
        case .suspect(let server): suspect(server, isOwn: false, now: now)
        case .request(let request, let command, let hops):
            receiveRequest(request, command, hops: hops, from: sender, now: now)
        case .committed(let body): receive(body, now: now)
        case .offer(let body): receive(body, from: sender, now: now)
        case .offerWanted(let index): receiveOfferWanted(after: index, from: sender)
        case .snapshot(let body): receive(body, from: sender, now: now)
        case .snapshotReply(let term, let lastIndex, let received):
            receiveSnapshotReply(term: term, lastIndex: lastIndex, received: received, from: sender, now: now)
        }
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014): a small generator whose whole state is its seed.
package struct SplitMix64: Sendable {
    package var state: UInt64

    package init(state: UInt64) { self.state = state }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// A span of at least `min`, below `max` (or `min` when they are equal).
    mutating func duration(_ min: Duration, _ max: Duration) -> Duration {
        let width = UInt64(Swift.max(0, (max - min).nanoseconds))
        return min + .nanoseconds(Int64(width == 0 ? 0 : next() % width))
    }
}
