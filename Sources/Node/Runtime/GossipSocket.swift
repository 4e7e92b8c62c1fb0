// GossipSocket: the UDP socket that the members talk through, with the envelope around each message.
// Control thread only; never blocks. A datagram that can't be sent is counted and forgotten: the protocol repeats.

import CLinux
import Glibc
import Gossip
import Proxy

struct GossipSocket {
    /// Datagrams taken in one turn of the loop, so that a flood can't keep heartbeats waiting.
    static let datagramsPerTurn = 64

    let descriptor: Int32
    private var addresses: [SocketAddress]
    private var envelope: Envelope
    private(set) var datagramsSent: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0
    private(set) var datagramsReceived: UInt64 = 0
    private(set) var bytesReceived: UInt64 = 0
    private(set) var sendErrors: UInt64 = 0
    /// Authentic, but not a message: a sender with other code.
    private(set) var undecodable: UInt64 = 0

    /// - Parameter addresses: where each member hears gossip, by index.
    init(binding own: SocketAddress, addresses: [SocketAddress], envelope: Envelope) throws(SystemError) {
        descriptor = try System.socket(own.family, SOCK_DGRAM.rawValue)
        do throws(SystemError) {
            // Room for a burst while the control thread is busy for a moment.
            try System.setOption(descriptor, SOL_SOCKET, SO_RCVBUF, 1 << 20)
            // Ahead of bulk traffic where the network looks at it: DSCP CS6, network control (RFC 4594).
            if !own.isIPv6 { try System.setOption(descriptor, Int32(IPPROTO_IP), IP_TOS, 0xc0) }
            try System.bind(descriptor, own)
        } catch {
            System.close(descriptor)
            throw error
        }
        self.addresses = addresses
        self.envelope = envelope
    }

    var knownBoots: [UInt64] { envelope.knownBoots }

    /// The members' addresses changed; which one is which, and this socket's own, didn't.
    mutating func readdress(_ addresses: [SocketAddress]) {
        precondition(addresses.count == self.addresses.count)
        self.addresses = addresses
    }

    func drops(_ reason: DropReason) -> UInt64 { envelope.drops(reason) }

    mutating func send(_ payload: [UInt8], to member: MemberID) {
        transmit(envelope.seal(payload, to: member), to: member)
    }

    private mutating func transmit(_ datagram: [UInt8], to member: MemberID) {
        if case .moved = System.send(descriptor, datagram, to: addresses[member.index]) {
            datagramsSent += 1
            bytesSent += UInt64(datagram.count)
        } else {
            sendErrors += 1
        }
    }

    /// The next message that counts; nil when there is none now. Hellos are answered on the way.
    mutating func receive(budget: inout Int) -> (message: Message, from: MemberID, boot: UInt64)? {
        while budget > 0 {
            budget -= 1
            guard let datagram = nextDatagram() else { return nil }
            switch envelope.open(datagram) {
            case .message(let sender, let boot, let payload, let isFromFence):
                guard let message = Message.decode(payload), !isFromFence || message.isFenceWord else {
                    undecodable += 1
                    continue
                }
                return (message, sender, boot)
            case .hello(let sender, let boot):
                transmit(envelope.hello(to: sender, boot: boot), to: sender)
            case .introduced, .dropped: continue
            }
        }
        return nil
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
