// Envelope: the signed outside of every gossip datagram, and the decision which datagrams count.
//
// It never looks into the payload, keeps no time and allocates nothing per peer at run time. One per process (the
// control thread's, and the fence's own); a value.
//
//   offset  bytes
//        0      4  "TRIA"
//        4      1  version, 1
//        5      1  sender's index
//        6      1  receiver's index
//        7      8  cluster tag: name, members and the timing that safety rests on
//       15      8  sender's boot
//       23      8  receiver's boot as the sender knows it, 0 for not yet
//       31      8  sequence; the top bit marks the sender's fence, which counts for itself
//       39      n  payload, may be empty (a hello)
//     39+n     16  HMAC-SHA256 over everything before it, its first half
//
// Freshness without clocks: a datagram is acted on only when it names our present boot, so nothing recorded before
// we started counts. A boot of the sender above the one known replaces it, also only when our boot is named; a lower
// one is of an earlier life. Within a boot, each sequence counts once, at most 63 behind the highest seen.
//
// How two nodes get to know each other's boot (a table of what `open` makes of an authentic datagram):
//
//   names our boot | payload | result
//   no             | any     | hello: answer with `hello(to:boot:)`, which names the sender's boot; change nothing
//   yes            | none    | introduced: the sender's boot is known now; no answer, so hellos never circle
//   yes            | some    | message

/// Why a datagram was not acted on. The cases stand in the order they are tested.
public enum DropReason: Int, CaseIterable, Sendable {
    /// Shorter than the header and the authentication tag.
    case tooShort
    /// Longer than a datagram may be (`Limits.datagramBytesMax`).
    case tooLong
    /// Doesn't start like gossip: another protocol's or a scanner's.
    case badMagic
    /// A version of the wire format that this one doesn't speak.
    case otherVersion
    /// Of a cluster with another name, other members, or other lease and election timeout.
    case otherCluster
    /// The sender's index is not a member's.
    case unknownSender
    /// Claims to come from this node: a reflected datagram, or two nodes run with the same id.
    case fromOurselves
    /// Addressed to another member: reflected, or the configured addresses are mixed up.
    case notForMe
    /// The sender's boot is lower than the one known of it: recorded in, or late from, an earlier life.
    case oldBoot
    /// This sequence was seen before in this boot: duplicated by the network, or replayed.
    case replayed
    /// Too far behind the highest sequence to tell whether it was seen.
    case tooLate
    /// No key of ours made the authentication tag: forged, damaged, or the keys differ.
    case badMAC
}

/// What a datagram turned out to be.
public enum Opened: Equatable, Sendable {
    /// Authentic, fresh, once only. `payload` is not empty.
    case message(from: MemberID, boot: UInt64, payload: [UInt8], fromFence: Bool)
    /// Authentic, but it doesn't name our boot, so it may be old: send `hello(to:boot:)` back and change nothing.
    case hello(from: MemberID, boot: UInt64)
    /// A fresh hello: the sender's boot is known from now on. Nothing to do.
    case introduced(from: MemberID, boot: UInt64)
    /// Nothing changed but the count.
    case dropped(DropReason)
}

public struct Envelope: Sendable {
    static let magic: [UInt8] = Array("TRIA".utf8)
    static let version: UInt8 = 1
    static let headerBytes = 39
    static let macBytes = 16
    /// Sequences one datagram may overtake another by.
    static let windowWidth: UInt64 = 64
    public static let payloadBytesMax = Limits.datagramBytesMax - headerBytes - macBytes
    /// Set in every sequence of a fence, so that it and its main process can sign with one boot.
    public static let fenceSequenceBit: UInt64 = 1 << 63

    private let clusterTag: UInt64
    private let me: MemberID
    private let boot: UInt64
    private var keys: [HMAC]
    private var sequence: UInt64
    private var peers: [Acquaintance]
    private var dropCounts: [UInt64]

    /// - Parameters:
    ///   - clusterTag: what `clusterTag(name:members:lease:electionTimeoutMin:)` gives.
    ///   - memberCount: indices from 0 up to this are members; `me` is one of them.
    ///   - boot: this process's life; greater than 0 and than those of earlier lives.
    ///   - keys: the first signs, each verifies; empty only for a member that is alone.
    ///   - sequenceStart: the first datagram's sequence. A fence passes `fenceSequenceBit` or-ed with something that
    ///     no earlier fence of the same boot has reached, such as its clock's nanoseconds.
    ///   - knownBoots: the members' boots by index, 0 for unknown; what a fence gets from its main process.
    public init(
        clusterTag: UInt64, me: MemberID, memberCount: Int, boot: UInt64, keys: [[UInt8]],
        sequenceStart: UInt64 = 1, knownBoots: [UInt64] = []
    ) {
        precondition((1...Limits.membersMax).contains(memberCount) && me.index >= 0 && me.index < memberCount)
        precondition(boot > 0, "0 means unknown")
        self.clusterTag = clusterTag
        self.me = me
        self.boot = boot
        self.keys = []
        sequence = sequenceStart
        peers = Array(repeating: Acquaintance(), count: memberCount)
        dropCounts = Array(repeating: 0, count: DropReason.allCases.count)
        use(keys: keys)
        learn(boots: knownBoots)
    }

    /// Signs with the first of these from now on, and verifies with all of them. What was heard before stays heard.
    public mutating func use(keys: [[UInt8]]) {
        precondition(!keys.isEmpty || peers.count == 1, "members can't talk without a key")
        self.keys = keys.map { HMAC(key: $0) }
        for index in peers.indices { peers[index].key = nil }
    }

    /// Which of our keys, from 0, a member signed its last authentic datagram with; nil before there was one.
    public func key(of member: MemberID) -> Int? { peers[member.index].key }

    /// Boots of all members by index, 0 for unknown, our own included: what a main process tells its fence.
    public var knownBoots: [UInt64] {
        peers.indices.map { $0 == me.index ? boot : peers[$0].boot }
    }

    /// Takes over what the main process knows of the members' boots; lower ones and our own place are ignored.
    public mutating func learn(boots: [UInt64]) {
        for (index, known) in boots.prefix(peers.count).enumerated() where known > peers[index].boot {
            peers[index] = Acquaintance(boot: known, key: peers[index].key)
        }
    }

    /// Datagrams dropped for `reason` so far.
    public func drops(_ reason: DropReason) -> UInt64 { dropCounts[reason.rawValue] }

    // MARK: sending

    /// The datagram that carries `payload` (1…`payloadBytesMax` bytes) to `receiver`. While the receiver's boot isn't
    /// known it gets there as a hello only; the receiver's answer makes it known.
    public mutating func seal(_ payload: [UInt8], to receiver: MemberID) -> [UInt8] {
        sign(payload, to: receiver, naming: peers[receiver.index].boot)
    }

    /// The answer to `.hello(from:boot:)`: names the boot that the hello came from, which need not be the sender's
    /// present one, and so says nothing that a replayed hello could abuse.
    public mutating func hello(to receiver: MemberID, boot: UInt64) -> [UInt8] {
        sign([], to: receiver, naming: boot)
    }

    private mutating func sign(_ payload: [UInt8], to receiver: MemberID, naming receiverBoot: UInt64) -> [UInt8] {
        precondition(payload.count <= Self.payloadBytesMax, "the caller cuts its messages to fit")
        precondition(receiver != me && receiver.index < peers.count)
        var writer = ByteWriter(reserving: Self.headerBytes + payload.count + Self.macBytes)
        writer.raw(Self.magic)
        writer.byte(Self.version)
        writer.byte(UInt8(me.index))
        writer.byte(UInt8(receiver.index))
        writer.fixed64(clusterTag)
        writer.fixed64(boot)
        writer.fixed64(receiverBoot)
        writer.fixed64(sequence)
        writer.raw(payload)
        writer.raw(keys[0].tag(writer.bytes.span).prefix(Self.macBytes))
        sequence += 1
        return writer.bytes
    }

    // MARK: receiving

    /// Decides what `datagram` is, remembers its sequence, and counts it when it is dropped. Never traps.
    public mutating func open(_ datagram: [UInt8]) -> Opened {
        let opened = decide(datagram)
        if case .dropped(let reason) = opened { dropCounts[reason.rawValue] += 1 }
        return opened
    }

    private mutating func decide(_ datagram: [UInt8]) -> Opened {
        let header: Header
        switch Header.parse(datagram) {
        case .success(let parsed): header = parsed
        case .failure(let reason): return .dropped(reason)
        }
        // The cheap tests come first: a flood of anything else costs no hashing.
        if header.clusterTag != clusterTag { return .dropped(.otherCluster) }
        if header.sender >= peers.count { return .dropped(.unknownSender) }
        if header.sender == me.index { return .dropped(.fromOurselves) }
        if header.receiver != me.index { return .dropped(.notForMe) }
        // Stale whoever made it, so a flood of recorded datagrams costs none either.
        if let reason = staleness(header) { return .dropped(reason) }
        guard let key = verifyingKey(datagram) else { return .dropped(.badMAC) }
        peers[header.sender].key = key
        return judge(header, payload: datagram[Self.headerBytes..<datagram.count - Self.macBytes])
    }

    /// The key that made the authentication tag.
    private func verifyingKey(_ datagram: [UInt8]) -> Int? {
        let bytes = datagram.span
        let signed = bytes.extracting(droppingLast: Self.macBytes)
        let mac = bytes.extracting(last: Self.macBytes)
        for (index, key) in keys.enumerated() where key.verifies(signed, tag: mac) { return index }
        return nil
    }

    /// What the header says of an earlier life or of a sequence that was seen, true or forged.
    private func staleness(_ header: Header) -> DropReason? {
        let peer = peers[header.sender]
        // Nobody has boot 0: it stands for "unknown" in a receiver field.
        if header.boot == 0 || header.boot < peer.boot { return .oldBoot }
        guard header.receiverBoot == boot, header.boot == peer.boot else { return nil }
        return (header.isFence ? peer.fence : peer.main).refusal(of: header.sequence)
    }

    /// Acts on an authentic datagram that isn't stale.
    private mutating func judge(_ header: Header, payload: ArraySlice<UInt8>) -> Opened {
        let sender = MemberID(header.sender)
        if header.receiverBoot != boot { return .hello(from: sender, boot: header.boot) }
        if header.boot > peers[header.sender].boot {
            peers[header.sender] = Acquaintance(boot: header.boot, key: peers[header.sender].key)
        }
        if header.isFence {
            peers[header.sender].fence.note(header.sequence)
        } else {
            peers[header.sender].main.note(header.sequence)
        }
        if payload.isEmpty { return .introduced(from: sender, boot: header.boot) }
        return .message(from: sender, boot: header.boot, payload: Array(payload), fromFence: header.isFence)
    }
}

/// What every datagram begins with.
private struct Header {
    var sender = 0
    var receiver = 0
    var clusterTag: UInt64 = 0
    var boot: UInt64 = 0
    var receiverBoot: UInt64 = 0
    var sequence: UInt64 = 0

    var isFence: Bool { sequence & Envelope.fenceSequenceBit != 0 }

    enum Parsed {
        case success(Header)
        case failure(DropReason)
    }

    static func parse(_ datagram: [UInt8]) -> Parsed {
        if datagram.count < Envelope.headerBytes + Envelope.macBytes { return .failure(.tooShort) }
        if datagram.count > Limits.datagramBytesMax { return .failure(.tooLong) }
        var reader = ByteReader(datagram[..<Envelope.headerBytes])
        if reader.raw(Envelope.magic.count) != Envelope.magic { return .failure(.badMagic) }
        if reader.byte() != Envelope.version { return .failure(.otherVersion) }
        var header = Header()
        header.sender = Int(reader.byte())
        header.receiver = Int(reader.byte())
        header.clusterTag = reader.fixed64()
        header.boot = reader.fixed64()
        header.receiverBoot = reader.fixed64()
        header.sequence = reader.fixed64()
        return .success(header)
    }
}

/// What is remembered of another member, for its present boot only.
private struct Acquaintance: Sendable {
    /// 0 for unknown.
    var boot: UInt64 = 0
    /// The key that verified last.
    var key: Int?
    var main = ReplayWindow()
    /// Apart from `main`, since the top bit would otherwise push everything else out of the window.
    var fence = ReplayWindow()
}

/// Which of the last 64 sequences were seen (as in RFC 4303, appendix A2, with whole sequence numbers).
private struct ReplayWindow: Sendable {
    private var highest: UInt64 = 0
    /// Bit n stands for `highest - n`.
    private var seen: UInt64 = 0

    /// Why `sequence` can't be accepted; nil when it can.
    func refusal(of sequence: UInt64) -> DropReason? {
        if sequence > highest { return nil }
        let behind = highest - sequence
        if behind >= Envelope.windowWidth { return .tooLate }
        return seen & (1 &<< behind) != 0 ? .replayed : nil
    }

    /// Marks `sequence` as seen, which `refusal` had nothing against.
    mutating func note(_ sequence: UInt64) {
        if sequence > highest {
            let ahead = sequence - highest
            seen = ahead < Envelope.windowWidth ? seen &<< ahead | 1 : 1
            highest = sequence
        } else {
            seen |= 1 &<< (highest - sequence)
        }
    }
}

/// Names a cluster's generation: nodes whose name, members or safety timing differ must not understand each other,
/// since majorities and leases mean nothing between them.
public func clusterTag(name: String, members: [String], lease: Duration, electionTimeoutMin: Duration) -> UInt64 {
    var writer = ByteWriter()
    writer.string(name)
    writer.varint(members.count)
    for member in members.sorted() { writer.string(member) }
    writer.varint(UInt64(max(0, lease.nanoseconds)))
    writer.varint(UInt64(max(0, electionTimeoutMin.nanoseconds)))
    var reader = ByteReader(SHA256.digest(writer.bytes))
    return reader.fixed64()
}
