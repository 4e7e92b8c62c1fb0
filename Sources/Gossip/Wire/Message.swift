// Message: what members say to each other, and its bytes.
//
// One datagram carries one message (Envelope.swift seals it). Fields are varints; every list has a limit, and a
// message that isn't read to its last byte without fault is refused whole. Raft's messages keep Raft's names
// (Ongaro's dissertation, figures 3.1, 3.10 and 5.3).

/// AppendEntries and heartbeat in one: a numbered round of the leader.
public struct Append: Equatable, Sendable {
    public var term: UInt64
    /// Grows with every append this leader sends; answered to renew the lease (2.2 of the design).
    public var round: UInt64
    public var previousIndex: UInt64
    public var previousTerm: UInt64
    public var commit: UInt64
    /// The leader's node has the VIP.
    public var ownsVIP: Bool
    /// The kernel's gate enforces its ownership.
    public var isGated: Bool
    public var entries: [Entry]
}

public struct AppendReply: Equatable, Sendable {
    public var term: UInt64
    /// The round answered: a promise not to vote or campaign for electionTimeoutMin. 0 answers none.
    public var round: UInt64
    /// The log matched at `previousIndex`.
    public var accepted: Bool
    /// Accepted: durable and equal to the leader's log up to here. Refused: committed there up to here.
    public var match: UInt64
    /// The latest term up to which the sender has let go of the VIP it owned as leader; 0 for none.
    public var released: UInt64
}

public struct VoteRequest: Equatable, Sendable {
    /// The term campaigned for; with `isPreVote` nobody moves to it yet (dissertation, 9.6).
    public var term: UInt64
    public var lastIndex: UInt64
    public var lastTerm: UInt64
    public var isPreVote: Bool
    /// The old leader asked for this (3.10): promises to it don't count, its lease does.
    public var isTransfer: Bool
    /// For each member, up to which term the candidate knows it to have let go of the VIP.
    public var released: [UInt64]
}

/// A leader whose heartbeats a voter answered, in which term, and how long ago it last did.
public struct RecentAnswer: Equatable, Sendable {
    /// nil: the voter started then and may have forgotten an answer to any leader.
    public var leader: MemberID?
    public var term: UInt64
    /// That leader's ownership is enforced by a gate.
    public var isGated: Bool
    public var age: Duration
}

public struct VoteReply: Equatable, Sendable {
    public var term: UInt64
    public var isPreVote: Bool
    public var granted: Bool
    /// Leaders whose ownership may not be over yet; what the new leader must wait for.
    public var answers: [RecentAnswer]
}

/// What a member knows, in summary, so that a peer can send what is missing.
public struct Digest: Equatable, Sendable {
    public struct Known: Equatable, Sendable {
        /// Boot of that member, 0 when it was never heard of.
        public var boot: UInt64
        /// Its view up to this version is known.
        public var version: UInt64
        /// Time since that member was last heard of, directly or through a peer; nil when never.
        public var age: Duration?
    }

    /// How fit a member is to lead; ordered from the least to the fittest.
    public struct Condition: Equatable, Comparable, Sendable {
        /// `ip` and `nft` work, workers and listeners too.
        public var answersClients: Bool
        public var reachesGateway: Bool
        /// Servers that it reaches: 0 none, 1 fewer than half of those somebody reaches, 2 at least half.
        public var reach: Int
        /// Its fence has a gate. Says nothing about fitness.
        public var hasGate: Bool

        /// Clients get an answer from a server here.
        public var serves: Bool { answersClients && reach > 0 }

        public static func < (left: Condition, right: Condition) -> Bool { left.rank < right.rank }

        private var rank: Int {
            (answersClients ? 16 : 0) + (reach > 0 ? 8 : 0) + (reachesGateway ? 4 : 0) + reach
        }
    }

    public var term: UInt64
    public var role: Role
    /// The leader that the sender hears itself.
    public var leader: MemberID?
    /// The member that the sender believes to have the VIP.
    public var owner: MemberID?
    public var applied: UInt64
    public var configuration: UInt64
    /// Digests of the configuration's sections.
    public var sections: [UInt32]
    public var condition: Condition
    /// It started with an empty disk and hasn't been brought up to date since.
    public var isForgetful: Bool
    /// The sender serves connections of a VIP that it gave away in a planned move, after this term; 0: it doesn't.
    public var drainedTerm: UInt64
    public var released: UInt64
    /// The sender's clock in µs, to be echoed; the peer's last stamp and how long ago it came: a round trip.
    public var stamp: UInt64
    public var echo: UInt64
    public var echoAge: Duration
    /// One for each member, in order.
    public var known: [Known]
}

/// What a member (`origin`) sees of servers, from after one version up to another.
public struct ViewDelta: Equatable, Sendable {
    public var origin: MemberID
    public var boot: UInt64
    public var after: UInt64
    public var upTo: UInt64
    public var entries: [ViewEntry]
}

/// Committed entries from a peer that is no leader, for one that can't hear the leader.
public struct Committed: Equatable, Sendable {
    public var entries: [Entry]
}

/// Uncommitted entries for a candidate whose log is behind, from one that would vote for it otherwise.
public struct Offer: Equatable, Sendable {
    public var previousIndex: UInt64
    public var previousTerm: UInt64
    /// Contiguous, from right after `previousIndex`.
    public var entries: [Entry]
}

public struct SnapshotChunk: Equatable, Sendable {
    public var term: UInt64
    public var lastIndex: UInt64
    public var lastTerm: UInt64
    public var offset: Int
    public var total: Int
    public var bytes: [UInt8]
}

public enum Message: Equatable, Sendable {
    case append(Append)
    case appendReply(AppendReply)
    case voteRequest(VoteRequest)
    case voteReply(VoteReply)
    /// Campaign at once: the leader hands over (3.10).
    /// - Parameters:
    ///   - keepsFlows: it goes on serving the connections it has, and the successor forwards what belongs to them.
    ///   - isAutomatic: no operator asked for it.
    ///   - drained: by member, the term whose connections it keeps, 0 for none, as far as the sender knows; or empty.
    case timeoutNow(term: UInt64, keepsFlows: Bool, isAutomatic: Bool, drained: [UInt64])
    /// The sender let go of the VIP and will not own it again in this term or an earlier one. Sent by an old leader,
    /// or by its fence when its main process died.
    case released(term: UInt64)
    case digest(Digest)
    case views(ViewDelta)
    /// A connection to this server failed while forwarding: probe it now.
    case suspect(ServerID)
    /// An operator's change on its way to the leader.
    case request(RequestID, Command, hops: Int)
    case committed(Committed)
    case snapshot(SnapshotChunk)
    /// That many bytes of the snapshot up to `lastIndex` have arrived; all of them when `received == total`.
    case snapshotReply(term: UInt64, lastIndex: UInt64, received: Int)
    /// An operator wants the leader to hand over, to this member or to the fittest.
    case handoverRequest(to: MemberID?)
    case offer(Offer)
    /// What was offered up to there is here, or kept: what follows?
    case offerWanted(after: UInt64)

    /// Bytes for Envelope.seal. Fits `Limits.datagramBytesMax` because senders cut lists to `payloadBytesMax`.
    public func encode() -> [UInt8] {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.bytes
    }

    /// nil when the bytes aren't exactly one well-formed message.
    public static func decode(_ bytes: [UInt8]) -> Message? {
        var reader = ByteReader(bytes)
        let message = Message(from: &reader)
        return reader.finished ? message : nil
    }
}

extension Message {
    private func write(to writer: inout ByteWriter) {
        switch self {
        case .append(let body):
            writer.byte(1)
            body.write(to: &writer)
        case .appendReply(let body):
            writer.byte(2)
            body.write(to: &writer)
        case .voteRequest(let body):
            writer.byte(3)
            body.write(to: &writer)
        case .voteReply(let body):
            writer.byte(4)
            body.write(to: &writer)
        case .timeoutNow(let term, let keepsFlows, let isAutomatic, let drained):
            writer.byte(5)
            writer.varint(term)
            writer.flag(keepsFlows)
            writer.flag(isAutomatic)
            writer.list(drained) { $0.varint($1) }
        case .released(let term):
            writer.byte(6)
            writer.varint(term)
        case .digest(let body):
            writer.byte(7)
            body.write(to: &writer)
        case .views(let body):
            writer.byte(8)
            body.write(to: &writer)
        case .suspect(let id):
            writer.byte(9)
            id.write(to: &writer)
        case .request(let request, let command, let hops):
            writer.byte(10)
            request.write(to: &writer)
            command.write(to: &writer)
            writer.varint(hops)
        case .committed(let body):
            writer.byte(11)
            writer.list(body.entries) { $1.write(to: &$0) }
        case .snapshot(let body):
            writer.byte(12)
            body.write(to: &writer)
        case .snapshotReply(let term, let lastIndex, let received):
            writer.byte(13)
            writer.varint(term)
            writer.varint(lastIndex)
            writer.varint(received)
        case .handoverRequest(let target):
            writer.byte(14)
            writer.member(target)
        case .offer(let body):
            writer.byte(15)
            body.write(to: &writer)
        case .offerWanted(let index):
            writer.byte(16)
            writer.varint(index)
        }
    }

    private init(from reader: inout ByteReader) {
        switch reader.byte() {
        case 1: self = .append(Append(from: &reader))
        case 2: self = .appendReply(AppendReply(from: &reader))
        case 3: self = .voteRequest(VoteRequest(from: &reader))
        case 4: self = .voteReply(VoteReply(from: &reader))
        case 5:
            self = .timeoutNow(
                term: reader.ordinal(), keepsFlows: reader.flag(), isAutomatic: reader.flag(),
                drained: reader.list { $0.ordinal() })
        case 6: self = .released(term: reader.ordinal())
        case 7: self = .digest(Digest(from: &reader))
        case 8: self = .views(ViewDelta(from: &reader))
        case 9: self = .suspect(ServerID(from: &reader))
        case 10:
            let request = RequestID(from: &reader)
            let command = Command(from: &reader)
            self = .request(request, command, hops: reader.count(limit: 3))
        case 11: self = .committed(Committed(entries: reader.list { Entry(from: &$0) }))
        case 12: self = .snapshot(SnapshotChunk(from: &reader))
        case 13:
            let (term, lastIndex) = (reader.ordinal(), reader.ordinal())
            self = .snapshotReply(
                term: term, lastIndex: lastIndex, received: reader.count(limit: Limits.snapshotBytesMax))
        case 14: self = .handoverRequest(to: reader.member())
        case 15: self = .offer(Offer(from: &reader))
        case 16: self = .offerWanted(after: reader.ordinal())
        default:
            reader.fail()
            self = .released(term: 0)
        }
    }
}

extension ByteWriter {
    mutating func list<Element>(_ elements: [Element], _ write: (inout ByteWriter, Element) -> Void) {
        varint(elements.count)
        for element in elements { write(&self, element) }
    }

    mutating func member(_ member: MemberID?) { varint(member.map { $0.index + 1 } ?? 0) }

    /// Microseconds; negative spans count as none.
    mutating func span(_ value: Duration) { varint(UInt64(max(0, value.nanoseconds / 1000))) }
}

extension ByteReader {
    /// At most as many elements as bytes are left: each takes at least one.
    mutating func list<Element>(_ read: (inout ByteReader) -> Element) -> [Element] {
        let count = count(limit: remaining)
        var elements: [Element] = []
        while elements.count < count, !failed { elements.append(read(&self)) }
        return elements
    }

    mutating func member() -> MemberID? {
        let number = count(limit: Limits.membersMax)
        return number == 0 ? nil : MemberID(number - 1)
    }

    mutating func span() -> Duration { .microseconds(Int64(min(varint(), 1 << 50))) }
}

extension Append {
    fileprivate func write(to writer: inout ByteWriter) {
        for value in [term, round, previousIndex, previousTerm, commit] { writer.varint(value) }
        writer.flag(ownsVIP)
        writer.flag(isGated)
        writer.list(entries) { $1.write(to: &$0) }
    }

    fileprivate init(from reader: inout ByteReader) {
        term = reader.ordinal()
        round = reader.ordinal()
        previousIndex = reader.ordinal()
        previousTerm = reader.ordinal()
        commit = reader.ordinal()
        ownsVIP = reader.flag()
        isGated = reader.flag()
        entries = reader.list { Entry(from: &$0) }
        if !entries.follow(previousIndex) { reader.fail() }
    }
}

extension Offer {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.varint(previousIndex)
        writer.varint(previousTerm)
        writer.list(entries) { $1.write(to: &$0) }
    }

    fileprivate init(from reader: inout ByteReader) {
        previousIndex = reader.ordinal()
        previousTerm = reader.ordinal()
        entries = reader.list { Entry(from: &$0) }
        if !entries.follow(previousIndex) { reader.fail() }
    }
}

extension [Entry] {
    /// Contiguous, from right after that index.
    fileprivate func follow(_ index: UInt64) -> Bool {
        enumerated().allSatisfy { $1.index == index &+ UInt64($0) &+ 1 }
    }
}

extension AppendReply {
    fileprivate func write(to writer: inout ByteWriter) {
        for value in [term, round, match, released] { writer.varint(value) }
        writer.flag(accepted)
    }

    fileprivate init(from reader: inout ByteReader) {
        term = reader.ordinal()
        round = reader.ordinal()
        match = reader.ordinal()
        released = reader.ordinal()
        accepted = reader.flag()
    }
}

extension VoteRequest {
    fileprivate func write(to writer: inout ByteWriter) {
        for value in [term, lastIndex, lastTerm] { writer.varint(value) }
        writer.flag(isPreVote)
        writer.flag(isTransfer)
        writer.list(released) { $0.varint($1) }
    }

    fileprivate init(from reader: inout ByteReader) {
        term = reader.ordinal()
        lastIndex = reader.ordinal()
        lastTerm = reader.ordinal()
        isPreVote = reader.flag()
        isTransfer = reader.flag()
        released = reader.list { $0.ordinal() }
    }
}

extension VoteReply {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.varint(term)
        writer.flag(isPreVote)
        writer.flag(granted)
        writer.list(answers) {
            $0.member($1.leader)
            $0.varint($1.term)
            $0.flag($1.isGated)
            $0.span($1.age)
        }
    }

    fileprivate init(from reader: inout ByteReader) {
        term = reader.ordinal()
        isPreVote = reader.flag()
        granted = reader.flag()
        answers = reader.list {
            RecentAnswer(leader: $0.member(), term: $0.ordinal(), isGated: $0.flag(), age: $0.span())
        }
    }
}

extension Digest {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.varint(term)
        writer.byte(role.code)
        writer.member(leader)
        writer.member(owner)
        writer.varint(applied)
        writer.fixed64(configuration)
        writer.list(sections) { $0.varint(UInt64($1)) }
        condition.write(to: &writer)
        writer.flag(isForgetful)
        writer.varint(drainedTerm)
        for value in [released, stamp, echo] { writer.varint(value) }
        writer.span(echoAge)
        writer.list(known) {
            $0.varint($1.boot)
            $0.varint($1.version)
            $0.flag($1.age != nil)
            if let age = $1.age { $0.span(age) }
        }
    }

    fileprivate init(from reader: inout ByteReader) {
        term = reader.ordinal()
        role = Role(code: reader.byte()) ?? .follower
        leader = reader.member()
        owner = reader.member()
        applied = reader.ordinal()
        configuration = reader.fixed64()
        sections = reader.list { UInt32(truncatingIfNeeded: $0.varint()) }
        condition = Condition(from: &reader)
        isForgetful = reader.flag()
        drainedTerm = reader.ordinal()
        released = reader.ordinal()
        stamp = reader.ordinal()
        echo = reader.ordinal()
        echoAge = reader.span()
        known = reader.list {
            let (boot, version) = ($0.ordinal(), $0.ordinal())
            return Known(boot: boot, version: version, age: $0.flag() ? $0.span() : nil)
        }
    }
}

extension Digest.Condition {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.flag(answersClients)
        writer.flag(reachesGateway)
        writer.varint(reach)
        writer.flag(hasGate)
    }

    fileprivate init(from reader: inout ByteReader) {
        answersClients = reader.flag()
        reachesGateway = reader.flag()
        reach = reader.count(limit: 2)
        hasGate = reader.flag()
    }
}

extension ViewDelta {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.varint(origin.index)
        for value in [boot, after, upTo] { writer.varint(value) }
        writer.list(entries) { $1.write(to: &$0) }
    }

    fileprivate init(from reader: inout ByteReader) {
        origin = MemberID(from: &reader)
        boot = reader.ordinal()
        after = reader.ordinal()
        upTo = reader.ordinal()
        entries = reader.list { ViewEntry(from: &$0) }
        if upTo < after { reader.fail() }
    }
}

extension SnapshotChunk {
    fileprivate func write(to writer: inout ByteWriter) {
        for value in [term, lastIndex, lastTerm] { writer.varint(value) }
        writer.varint(offset)
        writer.varint(total)
        writer.block(bytes)
    }

    fileprivate init(from reader: inout ByteReader) {
        term = reader.ordinal()
        lastIndex = reader.ordinal()
        lastTerm = reader.ordinal()
        offset = reader.count(limit: Limits.snapshotBytesMax)
        total = reader.count(limit: Limits.snapshotBytesMax)
        bytes = reader.block(limit: Limits.datagramBytesMax)
        if offset + bytes.count > total { reader.fail() }
    }
}
