// Event and Effect: everything that goes into a member and comes out of it.
//
// The contract with the shell: after each `step`, take effects with `nextEffect` until nil and carry them out in
// order; then step again no later than `deadline`. Effects that must follow a disk write aren't handed out before
// `.persisted` says that it is durable, so a shell never has to think about order between disk and network.

/// What a member is in the election (dissertation, ch. 3 and 9.6).
public enum Role: String, Sendable, CaseIterable {
    case follower
    case preCandidate = "pre-candidate"
    case candidate
    case leader

    var code: UInt8 { UInt8(Role.allCases.firstIndex(of: self) ?? 0) }

    init?(code: UInt8) {
        guard Int(code) < Role.allCases.count else { return nil }
        self = Role.allCases[Int(code)]
    }
}

/// One result of this node's own checks.
public struct Observation: Equatable, Sendable {
    public let server: ServerID
    public let health: Health
    public let reason: String

    public init(server: ServerID, health: Health, reason: String) {
        self.server = server
        self.health = health
        self.reason = reason
    }
}

/// What the fence process says about the VIP on this node.
public enum FenceReport: Equatable, Sendable {
    /// The address is on the interface.
    case held
    /// The address is gone, by order, by expiry or because the fence itself ended; and every order up to this one
    /// had been taken in before. (A report that crosses a newer `hold` on its way says nothing about that one.)
    case dropped(order: UInt64)
    /// `ip` or `nft` failed; the fence goes on trying.
    case failed(String)
    /// They work again.
    case recovered
    /// Whether the kernel's gate enforces every hold of this fence. Said once by each fence, before it holds anything.
    case gate(isUsable: Bool)
}

public enum Event: Sendable {
    /// Time passed; `deadline` asked for it.
    case tick
    /// An authentic, fresh message of a peer.
    case message(Message, from: MemberID, boot: UInt64)
    /// All operations up to this ticket are on disk.
    case persisted(ticket: UInt64)
    /// The disk refused; this member stops voting and leading.
    case storageFailed(reason: String)
    /// An operator's change, asked of this node.
    case propose(Command, RequestID)
    /// Results of this node's own checks that changed.
    case observed([Observation])
    /// A connection to this server failed while forwarding.
    case suspect(ServerID)
    case fence(FenceReport)
    /// What this node can do for clients, besides reaching servers (which its views tell).
    case fitness(answersClients: Bool, reachesGateway: Bool)
    /// These members aren't neighbours on the VIP's interface: no packets can be passed on to them or by them.
    case offLink([MemberID])
    /// The connections that were kept after `.yield` are over, or out of time.
    case drained
    /// An operator makes this last survivor own the VIP without a majority; see `forceProblem`.
    case forceLeader
    /// An operator wants a planned move. Reaches the leader from any node; may be repeated.
    case requestHandover(to: MemberID?)
    /// As leader, ready for it: give leadership to this member, or to the fittest.
    case handover(to: MemberID?)
    /// Give up leadership and VIP although nobody can take over; never campaign again.
    case resign
    /// The time of day, for what people read. Milliseconds since 1970.
    case wallClock(Int64)
    /// Which wire version a member said that it speaks, in that life.
    case speaks(MemberID, boot: UInt64, version: Int)
    /// As leader: how many servers a backend should have; nil: that isn't decided any more. What can't be appended now
    /// is dropped: whoever wants it says it again.
    case scale(backend: String, Scaling?)
    /// The configuration file was read again.
    case reconfigured(servers: [ServerID], digest: UInt64, sections: [UInt32], leadership: LeadershipRules)
}

/// How an operator's change ended.
public enum Outcome: Equatable, Sendable {
    /// Committed and applied.
    case done
    /// Nothing was changed, for this reason.
    case refused(String)
    /// Not committed in time; it may still be.
    case unacknowledged(String)
}

/// Something worth telling people, in the cluster's one vocabulary of event kinds.
public struct Note: Equatable, Sendable {
    public enum Kind: String, Sendable {
        case leaderElected = "leader-elected"
        case leaderLost = "leader-lost"
        case termStarted = "election"
        case vipAcquired = "vip-acquired"
        case vipReleased = "vip-released"
        case vipFailed = "vip-failed"
        case serverUp = "server-up"
        case serverDown = "server-down"
        case adminChange = "admin"
        case peerUp = "node-up"
        case peerDown = "node-down"
        case handover = "handover"
        case forced = "leader-forced"
        case scaling = "scaling"
        case storage = "storage"
    }

    public let kind: Kind
    public let text: String
}

/// Where packets go that belong to no connection of this member (Member+Flows).
public struct FlowRoute: Equatable, Sendable {
    /// For what one member sent.
    public struct Detour: Equatable, Sendable {
        public var from: MemberID
        /// nil: there is nobody left to ask, so they stay here.
        public var to: MemberID?

        public init(from: MemberID, to: MemberID?) {
            self.from = from
            self.to = to
        }
    }

    public var next: MemberID
    public var detours: [Detour]

    public init(_ next: MemberID, detours: [Detour] = []) {
        self.next = next
        self.detours = detours
    }

    /// Where a packet goes that `sender` (nil: a client) sent; nil: it stays here.
    public func next(from sender: MemberID?) -> MemberID? {
        guard let detour = detours.first(where: { $0.from == sender }) else { return next }
        return detour.to
    }
}

public enum Effect: Equatable, Sendable {
    case send(Message, to: MemberID)
    case persist([StorageOperation], ticket: UInt64)
    /// The fence may keep the VIP until then. Sent with every renewed lease. Orders to the fence are numbered.
    case hold(until: Instant, term: UInt64, order: UInt64)
    /// The fence must let go of the VIP now.
    case drop(order: UInt64)
    /// In a planned move: the fence must stop answering for the VIP now, and goes on serving the connections it has until
    /// `.drop` or a new `.hold`. The shell drains them, then steps `.drained`.
    case yield(order: UInt64)
    /// TCP packets for the VIP of no connection that began on this node go on to members that drain; nil: none do.
    case forward(to: FlowRoute?)
    /// Servers came or went, or more changed of them than can be told one by one.
    case tableChanged
    /// The admin state, weight or verdict of this one changed.
    case serverChanged(ServerID)
    case answer(RequestID, Outcome)
    case note(Note)
    /// Probe this server at once: someone's connection to it failed.
    case probeNow(ServerID)
    /// This member leads and somebody wants it to hand over: drain, then step `.handover`.
    case handoverWanted(to: MemberID?)
}
