// ClusterConfiguration: what a member must know of its cluster, and the relations between its times.

/// How long things take, the same on every member (Ongaro's dissertation, ch. 3 and 6.4.1).
public struct Timing: Equatable, Sendable {
    /// Between two heartbeat rounds of the leader.
    public var heartbeat: Duration
    /// How long a round answered by a majority lets the leader own the VIP, from when it was *sent*.
    public var lease: Duration
    /// How long a member that answered a round neither votes nor campaigns.
    public var electionTimeoutMin: Duration
    /// Silence after which a member campaigns at the latest; drawn between min and max each time.
    public var electionTimeoutMax: Duration

    public init(heartbeat: Duration, lease: Duration, electionTimeoutMin: Duration, electionTimeoutMax: Duration) {
        self.heartbeat = heartbeat
        self.lease = lease
        self.electionTimeoutMin = electionTimeoutMin
        self.electionTimeoutMax = electionTimeoutMax
    }

    public static let standard = Timing(
        heartbeat: .milliseconds(30), lease: .milliseconds(150),
        electionTimeoutMin: .milliseconds(200), electionTimeoutMax: .milliseconds(300))

    /// Between two digests to the same peer.
    var digest: Duration { max(.milliseconds(100), heartbeat * 3) }
    /// A member not heard of for this long has no say in verdicts and counts as dead.
    public var silence: Duration { max(.seconds(1), electionTimeoutMax * 2) }
    /// How long an address may outlive the lease of a node that stopped whole. `valid_lft 1` was measured to last 1.00
    /// to 1.25 s (the kernel rounds its check up to a whole second when that is near), and a line in `ip`'s hands may
    /// renew it up to 31 ms after the lease.
    public static let addressLifetime: Duration = .milliseconds(1300)
    /// How late after its writing the kernel may still take in a line that opens the gate: the fence is killed then. Such a
    /// line's timeout counts from its execution, so a gate may be open this much longer than the lease.
    public var lineGrace: Duration { electionTimeoutMin / 5 }
    /// How long after the lease a new leader waits for an old owner behind a gate: `lineGrace`, the kernel's clock ticks,
    /// and clocks that run at different rates. `lease ≤ ¾ electionTimeoutMin` makes it free: nobody votes sooner.
    var gateTail: Duration { electionTimeoutMin / 4 }
}

/// What keeps a VIP from having two owners when a node stops whole, and how much a new leader waits for it.
public enum Fencing: String, Sendable, CaseIterable {
    /// `gate` on nodes that can, `wait` on the others.
    case auto
    /// The kernel stops answering for the VIP at the lease's end; a node that can't do that never owns it.
    case gate
    /// Until the old address's kernel lifetime has run out, unless the old owner released it.
    case wait
    /// Not at all beyond the old lease: accepts an overlap of up to a second when a node freezes whole.
    case trust

    /// A fence may use the gate.
    public var allowsGate: Bool { self == .auto || self == .gate }
}

/// When a leader gives up the lead although nothing forces it to.
public struct LeadershipRules: Equatable, Sendable {
    /// A follower must have been strictly fitter for this long.
    public var fitnessHold: Duration
    /// An equally fit follower of higher priority must have been there for this long.
    public var preemptHold: Duration
    /// By member; equal ones (the default) never preempt.
    public var priorities: [Int]

    public init(
        fitnessHold: Duration = .milliseconds(1500), preemptHold: Duration = .seconds(10), priorities: [Int] = []
    ) {
        self.fitnessHold = fitnessHold
        self.preemptHold = preemptHold
        self.priorities = priorities
    }

    func priority(_ member: MemberID) -> Int {
        priorities.indices.contains(member.index) ? priorities[member.index] : 0
    }
}

public struct ClusterConfiguration: Sendable {
    /// Ids of all members, sorted; 1, 3, 5 or 7 of them.
    public let members: [String]
    public let me: MemberID
    public let timing: Timing
    public let fencing: Fencing
    /// Without a VIP there is a leader, but nothing to own.
    public let hasVIP: Bool
    /// Digest of the node's configuration file, told to peers so that drift shows.
    public var digest: UInt64
    /// The same for each section of the file, in an order that all nodes share; tells what differs.
    public var sections: [UInt32]
    public var leadership: LeadershipRules
    /// The servers that the file names.
    public var servers: [ServerID]
    /// What this member speaks; simulations have members of an earlier version.
    package var wireVersion = WireVersion.current
    #if TRIAD_BREAKAGES
        package var breakage: Breakage?
    #endif

    public init(
        members: [String], me: MemberID, timing: Timing, fencing: Fencing, hasVIP: Bool, digest: UInt64,
        sections: [UInt32] = [], leadership: LeadershipRules = LeadershipRules(), servers: [ServerID]
    ) {
        precondition(members == members.sorted() && members.count % 2 == 1 && members.count <= Limits.membersMax)
        precondition(members.indices.contains(me.index))
        precondition(timing.heartbeat < timing.lease && timing.lease < timing.electionTimeoutMin)
        precondition(timing.electionTimeoutMin <= timing.electionTimeoutMax)
        self.members = members
        self.me = me
        self.timing = timing
        self.fencing = fencing
        self.hasVIP = hasVIP
        self.digest = digest
        self.sections = sections
        self.leadership = leadership
        self.servers = servers.sorted()
    }

    public var majority: Int { members.count / 2 + 1 }
    /// Everyone but this member.
    public var peers: [MemberID] { members.indices.map { MemberID($0) }.filter { $0 != me } }

    /// The member with this id.
    public func member(named id: String) -> MemberID? { members.firstIndex(of: id).map { MemberID($0) } }

    public func name(_ member: MemberID) -> String { members[member.index] }
}
