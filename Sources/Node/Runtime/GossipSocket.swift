// GossipSocket: the UDP socket that the members talk through, with the envelope around each message.
// Control thread only; never blocks. A datagram that can't be sent is counted and forgotten: the protocol repeats.
//
// Against floods: the kernel drops what isn't from a member's address (GossipFilter); a turn of the loop takes a bounded
// number of datagrams for a bounded time; replays cost no hashing (Envelope) and few answers (`isWorthAnAnswer`).

import CLinux
import Glibc
import Gossip
import Proxy

struct GossipSocket {
    /// Datagrams taken in one turn of the loop, so that a flood can't keep heartbeats waiting.
    static let datagramsPerTurn = 64
    /// And how long a turn takes them: a heartbeat must not wait for what is slow to refuse.
    static let nanosecondsPerTurn: UInt64 = 4_000_000
    /// Between two hellos to a member that all say the same. A recorded datagram replayed would otherwise make us send one.
    static let helloPauseNanoseconds: UInt64 = 5_000_000
    private static let bufferBytes: Int32 = 1 << 20

    let descriptor: Int32
    private var addresses: [SocketAddress]
    private var envelope: Envelope
    private(set) var datagramsSent: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0
    private(set) var datagramsReceived: UInt64 = 0
    private(set) var bytesReceived: UInt64 = 0
    private(set) var sendErrors: UInt64 = 0
    /// Datagrams sent to each member, and authentic ones received.
    private(set) var sent: [UInt64]
    private(set) var received: [UInt64]
    /// The last datagram from a node's address that was refused for how it or this node is set up, and when (boot clock).
    private(set) var refusal: (reason: DropReason, atNanoseconds: UInt64)?
    /// Authentic, but not a message: a sender with other code.
    private(set) var undecodable: UInt64 = 0
    /// What came beside the messages, for `takeBulletins`; bounded by what one turn takes.
    private var bulletins: [(bulletin: Bulletin, from: MemberID, boot: UInt64)] = []
    /// The last hello to each member: which boot it named, and when.
    private var hellos: [(boot: UInt64, at: UInt64)]
    /// What the kernel counted when it was last asked, which is too narrow for a long flood.
    private var kernelDrops: (last: UInt32, sum: UInt64) = (0, 0)

    /// - Parameter addresses: where each member hears gossip, by index.
    init(binding own: SocketAddress, addresses: [SocketAddress], envelope: Envelope) throws(SystemError) {
        descriptor = try System.socket(own.family, SOCK_DGRAM.rawValue)
        do throws(SystemError) {
            try Self.filter(descriptor, addresses)
            // Room for a burst while the control thread is busy for a moment; without the privilege the system's limit,
            // a fifth of that by default, is what we get.
            do throws(SystemError) {
                try System.setOption(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, Self.bufferBytes)
            } catch {
                try System.setOption(descriptor, SOL_SOCKET, SO_RCVBUF, Self.bufferBytes)
            }
            // Ahead of bulk traffic where the network looks at it: DSCP CS6, network control (RFC 4594).
            if !own.isIPv6 { try System.setOption(descriptor, Int32(IPPROTO_IP), IP_TOS, 0xc0) }
            try System.bind(descriptor, own)
        } catch {
            System.close(descriptor)
            throw error
        }
        self.addresses = addresses
        self.envelope = envelope
        hellos = Array(repeating: (0, 0), count: addresses.count)
        sent = Array(repeating: 0, count: addresses.count)
        received = sent
    }

    private static func filter(_ descriptor: Int32, _ addresses: [SocketAddress]) throws(SystemError) {
        let program = GossipFilter.program(accepting: addresses)
        if clinux_attach_filter(descriptor, program, UInt16(program.count)) < 0 {
            throw SystemError(call: "setsockopt", code: clinux_errno())
        }
    }

    var knownBoots: [UInt64] { envelope.knownBoots }

    /// The members' addresses changed; which one is which, and this socket's own, didn't.
    mutating func readdress(_ addresses: [SocketAddress]) throws(SystemError) {
        precondition(addresses.count == self.addresses.count)
        try Self.filter(descriptor, addresses)
        self.addresses = addresses
    }

    /// Signs with the first of these from now on, and accepts what any of them signed.
    mutating func use(keys: [[UInt8]]) { envelope.use(keys: keys) }

    /// Which of the keys a member signed with lately, from 0.
    func key(of member: MemberID) -> Int? { envelope.key(of: member) }

    func drops(_ reason: DropReason) -> UInt64 { envelope.drops(reason) }

    /// What the kernel dropped: not from a member's address, or there was no room. Ask once a day at least.
    mutating func dropsOfKernel() -> UInt64 {
        let count = clinux_socket_drops(descriptor)
        kernelDrops = (count, kernelDrops.sum + UInt64(count &- kernelDrops.last))
        return kernelDrops.sum
    }

    mutating func send(_ payload: [UInt8], to member: MemberID) {
        transmit(envelope.seal(payload, to: member), to: member)
    }

    private mutating func transmit(_ datagram: [UInt8], to member: MemberID) {
        if case .moved = System.send(descriptor, datagram, to: addresses[member.index]) {
            datagramsSent += 1
            sent[member.index] += 1
            bytesSent += UInt64(datagram.count)
        } else {
            sendErrors += 1
        }
    }

    /// The next message that counts; nil when there is none now. Hellos are answered on the way.
    /// - Parameter end: when to leave the rest for the next turn.
    mutating func receive(
        budget: inout Int, until end: UInt64
    ) -> (message: Message, from: MemberID, boot: UInt64)? {
        while budget > 0, System.bootNanoseconds() < end {
            budget -= 1
            guard let datagram = nextDatagram() else { return nil }
            switch envelope.open(datagram) {
            case .message(let sender, let boot, let payload, let isFromFence):
                received[sender.index] += 1
                guard let message = Message.decode(payload), !isFromFence || message.isFenceWord else {
                    keepBulletin(isFromFence ? [] : payload, sender, boot)
                    continue
                }
                return (message, sender, boot)
            case .hello(let sender, let boot):
                received[sender.index] += 1
                if isWorthAnAnswer(sender, boot) { transmit(envelope.hello(to: sender, boot: boot), to: sender) }
            case .dropped(let reason):
                if reason.remedy != nil { refusal = (reason, System.bootNanoseconds()) }
            case .introduced: continue
            }
        }
        return nil
    }

    private mutating func keepBulletin(_ payload: [UInt8], _ sender: MemberID, _ boot: UInt64) {
        if let bulletin = Bulletin.decode(payload) {
            bulletins.append((bulletin, sender, boot))
        } else {
            undecodable += 1
        }
    }

    /// The bulletins that `receive` came across since the last call.
    mutating func takeBulletins() -> [(bulletin: Bulletin, from: MemberID, boot: UInt64)] {
        defer { bulletins.removeAll(keepingCapacity: true) }
        return bulletins
    }

    /// A boot lower than one answered before is of an earlier life: nobody is there to be told.
    private mutating func isWorthAnAnswer(_ sender: MemberID, _ boot: UInt64) -> Bool {
        let (last, now) = (hellos[sender.index], System.bootNanoseconds())
        guard boot > last.boot || boot == last.boot && now >= last.at + Self.helloPauseNanoseconds else { return false }
        hellos[sender.index] = (boot, now)
        return true
    }

    private mutating func nextDatagram() -> [UInt8]? {
        var datagram: [UInt8] = []
        // An ICMP error of an earlier datagram (a peer is down) is told instead of one: ask again.
        for _ in 0...addresses.count {
            // One byte more than allowed, so that a longer datagram shows as one.
            switch System.receive(descriptor, into: &datagram, atMost: Limits.datagramBytesMax + 1) {
            case .moved:
                datagramsReceived += 1
                bytesReceived += UInt64(datagram.count)
                return datagram
            case .failed: continue
            case .wouldBlock, .ended: return nil
            }
        }
        return nil
    }
}

extension Message {
    /// The one thing a fence may say for its dead main process.
    fileprivate var isFenceWord: Bool {
        if case .released = self { return true }
        return false
    }
}
