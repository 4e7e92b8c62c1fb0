// GossipFuzz: datagrams, without the key and with it. Without it nothing changes, whatever they hold; with it a message
// is read whole or not at all, and no message, however odd, brings a member down.
//
// The first byte says which: `r` the rest is a datagram as it is, `x` it is laid over a genuine one, `m` it is a message
// that a peer with the key sends, which may be followed by others: each begins with its length.

@testable import Gossip

enum GossipFuzz {
    private static let key = [UInt8](repeating: 7, count: 32)
    private static let tag: UInt64 = 0x0102_0304_0506_0708
    private static let (me, peer) = (MemberID(0), MemberID(1))
    private static let (myBoot, peerBoot): (UInt64, UInt64) = (41, 42)

    static func run(_ input: [UInt8]) throws {
        guard let mode = input.first else { return }
        switch mode {
        case UInt8(ascii: "r"): try forged(Array(input.dropFirst()))
        case UInt8(ascii: "x"): try forged(damaged(by: input.dropFirst()))
        case UInt8(ascii: "m"): try spoken(input.dropFirst())
        default: break
        }
    }

    private static func envelope(_ me: MemberID, _ boot: UInt64) -> Envelope {
        Envelope(clusterTag: tag, me: me, memberCount: 3, boot: boot, keys: [key], knownBoots: [myBoot, peerBoot, 0])
    }

    private static let genuine: [UInt8] = {
        var sender = envelope(peer, peerBoot)
        return sender.seal(Message.suspect(ServerID(backend: "a", server: "b")).encode(), to: me)
    }()

    private static func damaged(by mask: ArraySlice<UInt8>) -> [UInt8] {
        var bytes = genuine
        for (index, byte) in mask.enumerated() {
            if index < bytes.count { bytes[index] ^= byte } else { bytes.append(byte) }
        }
        return bytes
    }

    /// Nothing that the key didn't make counts, or changes what counts afterwards.
    private static func forged(_ datagram: [UInt8]) throws {
        if datagram == genuine { return }
        var receiver = envelope(me, myBoot)
        let drops = DropReason.allCases.map { receiver.drops($0) }
        for _ in 0..<2 {
            guard case .dropped = receiver.open(datagram) else {
                throw FuzzFinding(description: "a datagram without the key counts")
            }
        }
        let now = DropReason.allCases.map { receiver.drops($0) }
        try require(zip(now, drops).reduce(0) { $0 + $1.0 - $1.1 } == 2, "dropped and not counted")
        try require(receiver.knownBoots == [myBoot, peerBoot, 0], "a boot was learnt from it")
        guard case .message(let sender, peerBoot, _, false) = receiver.open(genuine), sender == peer else {
            throw FuzzFinding(description: "a genuine datagram doesn't count any more")
        }
    }

    // MARK: With the key

    private static func spoken(_ bytes: ArraySlice<UInt8>) throws {
        var rest = bytes
        var member = member()
        var now = Instant(nanoseconds: 1_000_000_000)
        while let length = rest.popFirst() {
            let payload = Array(rest.prefix(Int(length)))
            rest = rest.dropFirst(payload.count)
            guard let message = Message.decode(payload) else { continue }
            let encoded = message.encode()
            try require(Message.decode(encoded) == message, "written and read again it is another message")
            // Who speaks and when it comes is drawn from the message as well.
            let sender = MemberID(payload.count % 2 + 1)
            now = now.advanced(by: .milliseconds(Int(payload.last ?? 0)))
            try step(&member, .message(message, from: sender, boot: peerBoot), now: now)
            try step(&member, .tick, now: now)
        }
        try require(member.appliedIndex <= member.commitIndex, "applied beyond what is committed")
    }

    private static func member() -> Member {
        let configuration = ClusterConfiguration(
            members: ["a", "b", "c"], me: me, timing: .standard, fencing: .wait, hasVIP: true, digest: 1,
            servers: [ServerID(backend: "a", server: "b")])
        return Member(
            configuration, recovered: RecoveredState(votesFromTerm: 0), boot: myBoot, seed: 9,
            now: Instant(nanoseconds: 0))
    }

    private static func step(_ member: inout Member, _ event: Event, now: Instant) throws {
        member.step(event, now: now)
        var taken = 0
        while let effect = member.nextEffect() {
            taken += 1
            try require(taken < 10_000, "effects without end")
            switch effect {
            case .send(let message, _):
                try require(message.encode().count <= Envelope.payloadBytesMax, "a message that no datagram holds")
            case .persist(_, let ticket): member.step(.persisted(ticket: ticket), now: now)
            case .hold(_, let term, _): try require(term == member.term, "holds in term \(term)")
            default: break
            }
        }
    }
}
