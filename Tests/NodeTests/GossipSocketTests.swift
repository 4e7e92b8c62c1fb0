// GossipSocketTests: what reaches a member's socket, from whom, and what it answers; over the loopback interface.

import CLinux
import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct GossipSocketTests {
    private static let key = [UInt8](repeating: 1, count: 32)
    private static let members = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    private func address(_ text: String, _ port: UInt16 = 0) throws -> SocketAddress {
        try #require(SocketAddress(address: text, port: port))
    }

    private func envelope(_ me: Int, boot: UInt64, knownBoots: [UInt64] = []) -> Envelope {
        Envelope(
            clusterTag: 1, me: MemberID(me), memberCount: 3, boot: boot, keys: [Self.key], knownBoots: knownBoots)
    }

    private func open(_ members: [String] = members) throws -> (socket: GossipSocket, at: SocketAddress) {
        let addresses = try members.map { try address($0) }
        let socket = try GossipSocket(
            binding: addresses[0], addresses: addresses, envelope: envelope(0, boot: 100))
        return (socket, try address(members[0], System.localPort(socket.descriptor)))
    }

    private func send(_ datagrams: [[UInt8]], from source: String, to target: SocketAddress) throws {
        let descriptor = try System.socket(target.family, SOCK_DGRAM.rawValue)
        defer { System.close(descriptor) }
        try System.bind(descriptor, address(source))
        for datagram in datagrams { #expect(System.send(descriptor, datagram, to: target) == .moved(datagram.count)) }
    }

    /// Everything that is there; it is at once, over the loopback interface.
    private func take(_ socket: inout GossipSocket) -> [Message] {
        var all: [Message] = []
        var budget = 10_000
        while let (message, _, _) = socket.receive(budget: &budget, until: .max) { all.append(message) }
        return all
    }

    @Test func onlyMembersAddressesAreHeard() throws {
        var (socket, target) = try open()
        defer { System.close(socket.descriptor) }
        var peer = envelope(1, boot: 200, knownBoots: [100])
        let message = Message.released(term: 7)
        let datagrams = (0..<5).map { _ in peer.seal(message.encode(), to: MemberID(0)) }
        try send(datagrams, from: "127.0.0.9", to: target)
        #expect(take(&socket) == [])
        #expect(socket.datagramsReceived == 0)
        #expect(socket.dropsOfKernel() == 5)
        // Who it is from is for the authentication to say.
        try send([datagrams[0]], from: "127.0.0.3", to: target)
        try send(Array(datagrams[1...]), from: "127.0.0.2", to: target)
        #expect(take(&socket) == Array(repeating: message, count: 5))
        #expect(socket.dropsOfKernel() == 5)
    }

    @Test(arguments: [
        (["::1", "fd00::2"], true), (["::1", "fd00::2", "fd00::3"], true), (["fd00::1", "fd00::2"], false),
    ])
    func membersOfSixAreToldApartByTheWholeAddress(_ members: [String], _ isHeard: Bool) throws {
        let descriptor = try System.socket(AF_INET6, SOCK_DGRAM.rawValue)
        defer { System.close(descriptor) }
        let program = GossipFilter.program(accepting: try members.map { try address($0) })
        #expect(clinux_attach_filter(descriptor, program, UInt16(program.count)) == 0)
        try System.bind(descriptor, address("::1"))
        try send([[1, 2, 3]], from: "::1", to: address("::1", System.localPort(descriptor)))
        var bytes: [UInt8] = []
        #expect((System.receive(descriptor, into: &bytes, atMost: 10) == .moved(3)) == isHeard)
        #expect(clinux_socket_drops(descriptor) == (isHeard ? 0 : 1))
    }

    @Test func aMemberThatMovedIsHeardAtItsNewAddressOnly() throws {
        var (socket, target) = try open()
        defer { System.close(socket.descriptor) }
        var peer = envelope(1, boot: 200, knownBoots: [100])
        func say(from source: String) throws -> Int {
            try send([peer.seal(Message.released(term: 7).encode(), to: MemberID(0))], from: source, to: target)
            return take(&socket).count
        }
        #expect(try say(from: "127.0.0.2") == 1)
        #expect(try say(from: "127.0.0.5") == 0)
        try socket.readdress(["127.0.0.1", "127.0.0.5", "127.0.0.3"].map { try address($0) })
        #expect(try say(from: "127.0.0.2") == 0)
        #expect(try say(from: "127.0.0.5") == 1)
    }

    /// What a first start gets wrong is remembered by name; what any network does isn't.
    @Test func aMistakeInTheSetupIsRemembered() throws {
        var (socket, target) = try open()
        defer { System.close(socket.descriptor) }
        func stranger(tag: UInt64, me: Int, key: UInt8) -> [UInt8] {
            var envelope = Envelope(
                clusterTag: tag, me: MemberID(me), memberCount: 3, boot: 200,
                keys: [[UInt8](repeating: key, count: 32)], knownBoots: [100])
            return envelope.seal([1], to: MemberID(me == 0 ? 1 : 0))
        }
        #expect(socket.refusal == nil)
        let mistakes: [(DropReason, [UInt8])] = [
            (.badMAC, stranger(tag: 1, me: 1, key: 2)), (.otherCluster, stranger(tag: 2, me: 1, key: 1)),
            (.fromOurselves, stranger(tag: 1, me: 0, key: 1)), (.badMagic, [UInt8](repeating: 0x47, count: 200)),
        ]
        for (reason, datagram) in mistakes {
            try send([datagram, [1, 2, 3]], from: "127.0.0.2", to: target)
            #expect(take(&socket) == [])
            #expect(socket.refusal?.reason == reason)
        }
    }

    /// Recorded before this member started, replayed as fast as one likes.
    @Test func replaysAreAnsweredNowAndThen() throws {
        var (socket, target) = try open()
        defer { System.close(socket.descriptor) }
        var peer = envelope(1, boot: 200, knownBoots: [99])
        let recorded = (0..<100).map { _ in peer.seal(Message.released(term: 7).encode(), to: MemberID(0)) }
        let start = System.bootNanoseconds()
        try send(recorded, from: "127.0.0.2", to: target)
        #expect(take(&socket) == [])
        let pauses = (System.bootNanoseconds() - start) / GossipSocket.helloPauseNanoseconds
        let answers = socket.datagramsSent + socket.sendErrors
        #expect(answers >= 1 && answers <= 2 + pauses)
        // Of an earlier life of the peer: not at all. Of a later one: at once.
        var earlier = envelope(1, boot: 150, knownBoots: [99])
        try send([earlier.seal([1], to: MemberID(0))], from: "127.0.0.2", to: target)
        #expect(take(&socket) == [] && socket.datagramsSent + socket.sendErrors == answers)
        var later = envelope(1, boot: 201, knownBoots: [99])
        try send([later.seal([1], to: MemberID(0))], from: "127.0.0.2", to: target)
        #expect(take(&socket) == [] && socket.datagramsSent + socket.sendErrors == answers + 1)
    }

    @Test func aTurnEnds() throws {
        var (socket, target) = try open()
        defer { System.close(socket.descriptor) }
        try send(Array(repeating: [1, 2, 3], count: 20), from: "127.0.0.2", to: target)
        var budget = 7
        #expect(socket.receive(budget: &budget, until: .max)?.message == nil)
        #expect(socket.drops(.tooShort) == 7)
        budget = 1000
        #expect(socket.receive(budget: &budget, until: System.bootNanoseconds())?.message == nil)
        #expect(socket.drops(.tooShort) == 7)
        #expect(take(&socket) == [] && socket.drops(.tooShort) == 20)
    }
}
