// GatewayProbe: whether this node reaches the network's gateway (`leadership.gateway`): one ICMP echo a second.
//
// Part of a node's fitness to lead: a node whose uplink is dead may still hear its peers. It decides nothing itself.
// Control thread only; never blocks, starts no process, and is never in the way: a node that may not send echoes knows
// nothing about the gateway, which counts for nothing.
//
//   unknown --an answer--> reachable --three echoes unanswered--> unreachable --an answer--> reachable
//      └----------------------three echoes unanswered-----------------▲
//
// The echoes themselves: `Echo` and `EchoSocket`, as for checks.

import Gossip
import Proxy

/// Which answers count, and what losses come to.
struct GatewayEchoes: Equatable, Sendable {
    static let lossesMax = 3

    private let form: EchoForm
    private var sequence: UInt16 = 0
    private var isWaiting = false
    private var losses = 0
    /// The last ones sent, the newest last: a late answer to one of them counts as well.
    private var recent: [Echo] = []
    /// nil: nothing is known yet.
    private(set) var isReachable: Bool?

    init(_ form: EchoForm) { self.form = form }

    /// The next echo to send. What the one before came to is decided now.
    mutating func next(token: UInt64) -> Echo {
        if isWaiting { losses += 1 }
        if losses >= Self.lossesMax { isReachable = false }
        isWaiting = true
        sequence &+= 1
        let echo = Echo(form, sequence: sequence, token: token)
        recent = recent.suffix(Self.lossesMax - 1) + [echo]
        return echo
    }

    /// A datagram came from the gateway.
    mutating func take(_ datagram: [UInt8]) {
        guard let echo = recent.first(where: { $0.isAnswered(by: datagram) }) else { return }
        isReachable = true
        losses = 0
        if echo.sequence == sequence { isWaiting = false }
    }
}

struct GatewayProbe {
    static let interval = Duration.seconds(1)
    private static let datagramsPerTurn = 32

    /// When to `tick`.
    private(set) var deadline: Instant
    private let gateway: SocketAddress
    private let socket: EchoSocket
    private var isConnected = false
    private var echoes: GatewayEchoes

    /// - Parameters:
    ///   - source: the node's own address; used when it is of the gateway's family, so that no echo carries the VIP.
    /// - Throws: when this process may send no echo (`EchoSocket.remedy`).
    init(gateway: SocketAddress, source: SocketAddress?, now: Instant) throws(SystemError) {
        socket = try EchoSocket(isIPv6: gateway.isIPv6, source: source)
        self.gateway = gateway
        deadline = now
        echoes = GatewayEchoes(socket.form)
    }

    /// Readable when answers have come; for the reactor.
    var descriptor: Int32 { socket.descriptor }

    func close() { socket.close() }

    /// nil: nothing is known yet.
    var isReachable: Bool? { echoes.isReachable }

    /// Sends the next echo when it is due.
    mutating func tick(now: Instant) {
        guard now >= deadline else { return }
        deadline = now.advanced(by: Self.interval)
        // Connected, it hears the gateway only. Without a route that fails, and is tried again; it counts as unanswered.
        if !isConnected { isConnected = socket.connect(gateway) == 0 }
        let echo = echoes.next(token: .random(in: 0...(.max)))
        if isConnected { _ = socket.send(echo) }
    }

    /// Takes in what came.
    mutating func handle() {
        var datagram: [UInt8] = []
        for _ in 0..<Self.datagramsPerTurn {
            switch socket.receive(into: &datagram) {
            case .moved: echoes.take(datagram)
            // The network's word that an earlier echo didn't arrive: it will show as unanswered.
            case .failed: continue
            case .wouldBlock, .ended: return
            }
        }
    }
}
