// GateBench: nodes with real fences and real gates on one link, and a client beside them that asks who has the VIP.
//
// Each node is a network namespace with a fence and a TCP server; the client's namespace has the switch. All of it is
// driven by the test's one thread: sockets stay in the namespace that they were made in. An owner is whoever answers an
// ARP request or a neighbour solicitation: the client's own packet socket sends them and hears the answers, past
// any cache. A test's body may not suspend, since it would come back on another thread.

import CLinux
import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

final class GateBench {
    static let vip = "10.88.0.100"
    static let vip6 = "fd88::100"
    static let grace: Duration = .milliseconds(40)

    final class Node {
        let space: Int32
        let hardware: [UInt8]
        var link: FenceLink?
        var answers: [FenceAnswer] = []
        var leads = false
        /// False: the main process hears nothing and starts nothing, as when it is stopped.
        var attends = true
        var until = Instant(nanoseconds: 0)
        var lastHold = Instant(nanoseconds: 0)
        var order: UInt64 = 0
        var listeners: [Int32] = []
        var accepted: [Int32] = []

        init(space: Int32, hardware: [UInt8]) {
            self.space = space
            self.hardware = hardware
        }

        func has(_ answer: FenceAnswer) -> Bool { answers.contains(answer) }
        var isExpired: Bool {
            answers.contains { if case .dropped(_, _, .expired) = $0 { true } else { false } }
        }
        var isDropped: Bool {
            answers.contains { if case .dropped(order, _, _) = $0 { true } else { false } }
        }
    }

    /// An answer to the question who has a VIP.
    struct Claim {
        /// When it was asked for. Not when we came to hear it: a busy machine may have kept us from that.
        let atMs: Double
        let hardware: [UInt8]
        let isIPv6: Bool
    }

    let name: String
    private let vips: Int
    private(set) var nodes: [Node] = []
    private(set) var claims: [Claim] = []
    /// Between two questions; nil: none are asked.
    var askEveryMs: Double? = 3
    var leaseMs: Int
    private let home: Int32
    private let client: Int32
    private let observer: Int32
    private let clientIndex: Int32
    private let clientHardware: [UInt8]
    private let reactor: Reactor
    private var lastAsk = Instant(nanoseconds: 0)
    private let startedAt = Instant(nanoseconds: System.bootNanoseconds())

    /// - Parameters:
    ///   - before: shell commands to run in each node's namespace before its fence starts.
    ///   - program: what is started as the fence.
    init(
        nodes count: Int = 1, vips: [String] = [GateBench.vip], gate: GateUse = .ifUsable, membersIPv6: Bool = false,
        leaseMs: Int = FenceBench.leaseMs, before: String = ":", program: String = FenceBench.program
    ) throws {
        FenceBench.shell(
            """
            for left in $(ip netns list 2>/dev/null | grep -o '^gate-[0-9]*-[0-9]*-[a-z0-9]*'); do
                run=${left#gate-}; [ -d /proc/${run%%-*} ] || ip netns del $left
            done
            """)
        self.vips = vips.count
        self.leaseMs = leaseMs
        name = "gate-\(getpid())-\(UInt32.random(in: 0..<1_000_000))"
        var script = """
            set -e; c=\(name)-c; ip netns add $c; ip -n $c link set lo up
            ip -n $c link add br0 address 02:88:00:00:00:cc type bridge forward_delay 0 mcast_snooping 0
            ip -n $c link set br0 up; ip -n $c addr add 10.88.0.50/24 dev br0
            ip -n $c addr add fd88::50/64 dev br0 nodad

            """
        for index in 0..<count {
            script += """
                n=\(name)-\(index); ip netns add $n; ip -n $n link set lo up
                echo 0 | ip netns exec $n tee /proc/sys/net/ipv6/conf/default/dad_transmits >/dev/null
                ip -n $n link add eth0 address 02:88:00:00:00:0\(index + 1) type veth peer name p\(index) netns $c
                ip -n $c link set p\(index) master br0 up; ip -n $n link set eth0 up
                ip -n $n addr add 10.88.0.1\(index + 1)/24 dev eth0
                ip -n $n addr add fd88::1\(index + 1)/64 dev eth0 nodad
                ip netns exec $n sh -c '\(before)'

                """
        }
        guard FenceBench.shell("( \(script) )") == 0 else { throw SystemError(call: "namespaces", code: EPERM) }
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        client = Self.space("\(name)-c")
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -10)
        reactor = try Reactor()
        guard clinux_enter_network_namespace(client) == 0 else {
            throw SystemError(call: "setns", code: clinux_errno())
        }
        // AF_PACKET and ETH_P_ALL.
        observer = socket(17, Int32(SOCK_RAW.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0x0300)
        guard observer >= 0, let bridge = FenceSystem.interface("br0") else {
            throw SystemError(call: "packet socket", code: clinux_errno())
        }
        clientIndex = bridge.index
        clientHardware = [0x02, 0x88, 0, 0, 0, 0xcc]
        for index in 0..<count {
            let space = Self.space("\(name)-\(index)")
            let node = Node(space: space, hardware: [0x02, 0x88, 0, 0, 0, UInt8(index + 1)])
            guard clinux_enter_network_namespace(space) == 0 else {
                throw SystemError(call: "setns", code: clinux_errno())
            }
            var link = FenceLink(
                settings: FenceSettings(
                    vips: vips.compactMap { SocketAddress(address: $0, port: 0) }.map {
                        FenceAddress(address: $0, prefix: $0.isIPv6 ? 128 : 32, interface: "eth0")
                    },
                    members: (1...3).compactMap {
                        SocketAddress(address: (membersIPv6 ? "fd88::1" : "10.88.0.1") + "\($0)", port: 7946)
                    },
                    me: MemberID(index), clusterTag: 99, boot: 1000, keys: [FenceBench.key], gate: gate,
                    gateTable: GateTable.name(cluster: "bench", node: "\(index)"), lineGrace: Self.grace),
                token: Token(kind: 1, slot: index), program: program)
            link.start(on: reactor, now: startedAt)
            node.link = consume link
            nodes.append(node)
        }
    }

    private static func space(_ name: String) -> Int32 { open("/run/netns/\(name)", O_RDONLY | O_CLOEXEC) }

    func close() {
        for node in nodes {
            if let process = node.link?.process { kill(process, SIGKILL) }
            for descriptor in node.listeners + node.accepted { Glibc.close(descriptor) }
            Glibc.close(node.space)
        }
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 0)
        _ = clinux_enter_network_namespace(home)
        for descriptor in [home, client, observer] { Glibc.close(descriptor) }
        FenceBench.shell(
            "for n in $(ip netns list 2>/dev/null | grep -o '^\(name)-[a-z0-9]*'); do ip netns del $n; done")
    }

    // MARK: time

    var now: Instant { Instant(nanoseconds: System.bootNanoseconds()) }
    func ms(_ instant: Instant) -> Double { startedAt.duration(to: instant).milliseconds }
    var nowMs: Double { ms(now) }

    @discardableResult
    func live(_ milliseconds: Int, until condition: (GateBench) -> Bool = { _ in false }) -> Bool {
        let end = now.advanced(by: .milliseconds(milliseconds))
        while true {
            turn()
            if condition(self) { return true }
            if now >= end { return false }
            usleep(300)
        }
    }

    /// Lives until something that must come is there; false when it never was.
    func awaits(_ condition: (GateBench) -> Bool) -> Bool { live(waitMsMax, until: condition) }

    private var entered: Int32 = -1

    private func enter(_ space: Int32) {
        if entered == space { return }
        entered = space
        precondition(clinux_enter_network_namespace(space) == 0)
    }

    private func turn() {
        hear()
        if let askEveryMs, lastAsk.duration(to: now).milliseconds >= askEveryMs {
            lastAsk = now
            ask()
        }
        for node in nodes where node.attends {
            // A fence that is started anew must be where the last one was.
            enter(node.space)
            node.link?.tick(on: reactor, now: now)
            node.link?.ready(on: reactor, now: now)
            while let answer = node.link?.nextAnswer() { node.answers.append(answer) }
            if node.leads, node.lastHold.duration(to: now) >= .milliseconds(30) { hold(node) }
        }
        for node in nodes { serve(node) }
    }

    func hold(_ node: Node) {
        node.lastHold = now
        node.until = now.advanced(by: .milliseconds(leaseMs))
        node.order += 1
        node.link?.hold(until: node.until, term: 7, order: node.order, release: [1])
    }

    func drop(_ node: Node) {
        node.leads = false
        node.order += 1
        node.link?.drop(order: node.order)
    }

    func yield(_ node: Node) {
        node.leads = false
        node.order += 1
        node.link?.yield(order: node.order)
    }

    /// Until it holds.
    func lead(_ node: Node, withinMs: Int = waitMsMax) -> Bool {
        node.answers = []
        node.leads = true
        hold(node)
        return live(withinMs) { _ in node.has(.held(term: 7)) }
    }

    /// Everything on a node stops at once, with a lease that has just begun, if it leads.
    func freeze(_ node: Node) {
        // Finding them may take longer than a lease.
        freeze(processes(node), of: node)
    }

    private func freeze(_ processes: [Int32], of node: Node) {
        if node.leads { hold(node) }
        node.leads = false
        node.attends = false
        for process in processes { kill(process, SIGSTOP) }
    }

    /// The same just after its addresses were renewed, so that they outlive its lease by most of their second: nearly always, since
    /// the kernel may say so late.
    func freezeWhenRenewed(_ node: Node) throws {
        let processes = processes(node)
        enter(node.space)
        var watch = try AddressWatch()
        var renewed: Set<UInt64> = []
        live(1000) { _ in
            for case .appeared(let entry) in watch.takeChanges() where Self.isVIP(entry) {
                renewed.insert(entry.address.low)
            }
            return renewed.count == vips
        }
        freeze(processes, of: node)
    }

    /// How many VIPs the kernel has on a node's interfaces.
    func addresses(of node: Node) throws -> Int {
        enter(node.space)
        var watch = try AddressWatch()
        return try watch.look().count(where: Self.isVIP)
    }

    private static func isVIP(_ entry: AddressEntry) -> Bool { [vip, vip6].contains(entry.address.host) }

    func thaw(_ node: Node) {
        for process in processes(node) { kill(process, SIGCONT) }
        node.attends = true
    }

    // MARK: who has the VIP

    private func ask() {
        let own: [UInt8] = clientHardware
        let source: [UInt8] = [10, 88, 0, 50]
        let target: [UInt8] = [10, 88, 0, 100]
        send(
            [UInt8](repeating: 0xff, count: 6) + own + [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1] + own + source
                + [0, 0, 0, 0, 0, 0] + target)
        let source6: [UInt8] = [0xfd, 0x88] + [UInt8](repeating: 0, count: 13) + [0x50]
        let target6: [UInt8] = [0xfd, 0x88] + [UInt8](repeating: 0, count: 12) + [1, 0]
        let group: [UInt8] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 1, 0]
        var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0] + target6 + [1, 1] + own
        let sum = InternetChecksum.of(source6 + group + [0, 0, 0, 32, 0, 0, 0, 58] + message)
        message[2] = UInt8(sum >> 8)
        message[3] = UInt8(sum & 0xff)
        send(
            [0x33, 0x33, 0xff, 0, 1, 0] + own + [0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255] + source6 + group + message)
    }

    private func send(_ frame: [UInt8]) { _ = clinux_send_frame(observer, clientIndex, frame, frame.count) }

    private func hear() {
        while case .bytes(let frame) = FenceSystem.read(observer, max: 2048) {
            guard frame.count >= 42, frame[0..<6].elementsEqual(clientHardware) else { continue }
            let from = Array(frame[6..<12])
            let isARP =
                frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && frame[28..<32].elementsEqual([10, 88, 0, 100])
            let isND =
                frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == 58 && frame[54] == 136 && frame[77] == 0
                && frame[76] == 1
            // The bridge's ports see a frame before the bridge does.
            guard isARP || isND else { continue }
            claims.append(Claim(atMs: ms(lastAsk), hardware: from, isIPv6: isND))
        }
    }

    func forget() { claims = [] }

    /// When a node last answered.
    func lastClaim(of node: Node, isIPv6: Bool = false) -> Double? {
        claims.last { $0.hardware == node.hardware && $0.isIPv6 == isIPv6 }?.atMs
    }

    func firstClaim(of node: Node, isIPv6: Bool = false) -> Double? {
        claims.first { $0.hardware == node.hardware && $0.isIPv6 == isIPv6 }?.atMs
    }

    // MARK: connections

    /// Listens for both families and says its name, then what it is told after its name.
    func listen(_ node: Node, port: UInt16 = 9000) throws {
        enter(node.space)
        for host in ["0.0.0.0", "::"] {
            guard let address = SocketAddress(address: host, port: port) else { continue }
            let descriptor = try System.socket(address.family, SOCK_STREAM.rawValue)
            var yes: Int32 = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
            setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &yes, 4)
            try System.bind(descriptor, address)
            Glibc.listen(descriptor, 64)
            node.listeners.append(descriptor)
        }
    }

    private func serve(_ node: Node) {
        for listener in node.listeners {
            while true {
                let accepted = clinux_accept_nonblocking(listener, nil, nil)
                if accepted < 0 { break }
                node.accepted.append(accepted)
            }
        }
        let mark = node.hardware.last ?? 0
        for descriptor in node.accepted {
            if case .bytes(let bytes) = FenceSystem.read(descriptor, max: 65536) {
                _ = FenceSystem.write(descriptor, [mark] + bytes)
            }
        }
    }

    /// A client's connection, under way.
    /// - Parameter from: the client's port; 0: any.
    func connect(_ host: String, port: UInt16 = 9000, from: UInt16 = 0) throws -> Int32 {
        enter(client)
        guard let address = SocketAddress(address: host, port: port) else {
            throw SystemError(call: "address", code: EINVAL)
        }
        let descriptor = try System.socket(address.family, SOCK_STREAM.rawValue)
        if from > 0, let own = SocketAddress(address: address.isIPv6 ? "::" : "0.0.0.0", port: from) {
            var yes: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &yes, 4)
            try System.bind(descriptor, own)
        }
        _ = address.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        return descriptor
    }

    /// Which node answers on a connection (1 for the first), if any.
    func talk(_ descriptor: Int32, withinMs: Int = waitMsMax) -> Int? {
        let word: [UInt8] = [42]
        var sent = false
        var answer: Int?
        live(withinMs) { _ in
            if !sent { sent = FenceSystem.write(descriptor, word) == .moved(1) }
            switch FenceSystem.read(descriptor, max: 100) {
            case .bytes(let bytes):
                answer = Int(bytes[0])
                return true
            case .nothing: return false
            case .failed(let code): return code != ENOTCONN
            case .ended: return true
            }
        }
        return answer
    }

    // MARK: the operating system

    func inside(_ node: Node, _ command: String) -> String {
        let index = nodes.firstIndex { $0 === node } ?? 0
        return Self.text("ip netns exec \(name)-\(index) sh -c '\(command)' 2>&1")
    }

    func asClient(_ command: String) -> String { Self.text("ip netns exec \(name)-c sh -c '\(command)' 2>&1") }

    /// What a command prints.
    static func text(_ command: String) -> String {
        guard let stream = popen(command, "r") else { return "" }
        defer { pclose(stream) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = fread(&part, 1, part.count, stream)
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += part[..<count]
        }
    }

    /// The processes of a node: the fence first, then its tools.
    func processes(_ node: Node) -> [Int32] {
        guard let fence = node.link?.process else { return [] }
        return [fence] + FenceBench.output("pgrep -P \(fence)")
    }

    func tool(_ node: Node, _ name: String) -> Int32? {
        FenceBench.tool(name, of: { node.link?.process }, live: { live(50) })
    }

    /// A fence that finds `ip` and, if there is any text for it, an `nft` of ours.
    static func withNft(_ nft: String, _ body: (String) throws -> Void) throws {
        let scratch = Scratch()
        if !nft.isEmpty { scratch.program("nft", nft) }
        try #require(FenceBench.shell("ln -s $(command -v ip) \(scratch.file("ip"))") == 0)
        let path = scratch.path
        try body(scratch.program("fence", "#!/bin/sh\nPATH=\(path) exec \(FenceBench.program) fence\n"))
        _ = scratch
    }
}
