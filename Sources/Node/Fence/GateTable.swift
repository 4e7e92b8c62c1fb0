// GateTable: the nftables table that stands before the VIPs, as text for `nft`: one line for each thing the gate does.
//
// Family netdev, since it sees ARP, IP and IPv6 of an interface in one place, in (ingress) and out (egress, since Linux
// 5.16). A node *owns* the VIPs, that is, it answers ARP requests and neighbour solicitations for them, while the set
// `owns` has the elements `arp` and `ip6`; it *serves* them, that is, it takes packets for them, while `serves` has `ip`
// and `ip6`. The elements have timeouts, by which the kernel closes the gate with no process alive. The chain `move`
// sends packets of connections that began elsewhere to where they began; the chain `over` notes what this node has ended.
//
// One line is one transaction. Each puts its number into the set `said`, by which GateWatch confirms it. Pure text;
// whoever writes it is Gate.

import Proxy

struct GateTable: Sendable {
    /// A VIP, and what its rules have to know of its interface.
    struct Place: Equatable, Sendable {
        var vip: FenceAddress
        /// The interface's own IPv6 address on the link (fe80::…), if it has one.
        var linkLocal: SocketAddress?
    }

    /// Where packets of connections begun elsewhere go, for one VIP.
    enum Target: Equatable, Sendable {
        /// The next hop; of the VIP's family.
        case address(SocketAddress)
        /// Ethernet addresses of the next hop and of our interface.
        case hardware([UInt8], own: [UInt8])
    }

    /// The way for one VIP.
    struct Way: Equatable, Sendable {
        /// nil: there is none, or it isn't known yet.
        var target: Target?
        /// It will be known in a moment, and packets have to be sent again until then.
        var isSought = false
        /// What came from these Ethernet addresses goes elsewhere, or (nil) stays here.
        var detours: [(from: [UInt8], to: Target?)] = []

        static func == (left: Way, right: Way) -> Bool {
            left.target == right.target && left.isSought == right.isSought
                && left.detours.elementsEqual(right.detours) { $0.from == $1.from && $0.to == $1.to }
        }
    }

    static let said = "said"
    /// Flows remembered in each family, and for how long after they began.
    static let flowsMax = 262_144
    static let flowsHours = 1
    /// How long a flow is remembered after its client ended it, and after each packet that comes even then.
    static let closingSeconds = 5
    /// How long it is remembered that this node has said its last on a flow: as long as the kernel itself waits for the
    /// client's last word (`tcp_fin_timeout`).
    static let endedSeconds = 60
    /// How long a flow is remembered that both sides have ended, or that this node has reset: its client may use the port
    /// again at once, for a connection to whoever owns the VIP then. Long enough for a last word that is sent again.
    static let overMilliseconds = 300
    /// As many as there may be members, once past each.
    static let hopsMax = 7
    /// Flows named in one line: about 1.5 ms, for which a line that opens may have to wait.
    static let flowsPerLine = 32

    let name: String
    var places: [Place]

    // MARK: the name

    /// `triad_` and the two names, readable, and a hash of them, since not every character may stand in a table's name.
    static func name(cluster: String, node: String) -> String {
        var hash: UInt32 = 0x811c_9dc5
        // FNV-1a.
        for byte in Array("\(cluster)/\(node)".utf8) { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
        let readable = "\(cluster)_\(node)".utf8.prefix(40).map { isPlain($0) ? $0 : UInt8(ascii: "_") }
        return "triad_" + String(decoding: readable, as: UTF8.self) + "_" + String(hash, radix: 16)
    }

    /// Whether it can stand in a command of `nft` as it is.
    static func isName(_ text: String) -> Bool {
        text.hasPrefix("triad_") && text.utf8.count <= FenceLimits.gateTableBytesMax && text.utf8.allSatisfy(isPlain)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
        default: false
        }
    }

    // MARK: lines

    /// The whole table anew, closed, whatever there was of it. What forwarding needs is tried and taken back, so that a
    /// kernel that can't do it says so now.
    func install(line: UInt32) -> String {
        let interfaces = Array(Set(places.map(\.vip.interface))).sorted().map { "\"\($0)\"" }.joined(separator: ", ")
        var parts = [
            "add table netdev \(name)", "delete table netdev \(name)", "add table netdev \(name)",
            "add set netdev \(name) owns { type ether_type; flags timeout; }",
            "add set netdev \(name) serves { type ether_type; flags timeout; }",
            "add set netdev \(name) \(Self.said) { type mark; }",
            "add chain netdev \(name) move", "add chain netdev \(name) over",
        ]
        parts += families.flatMap(addFlows)
        for (chain, hook) in [("in", "ingress"), ("out", "egress")] {
            parts.append(
                "add chain netdev \(name) \(chain) { type filter hook \(hook) devices = { \(interfaces) } "
                    + "priority -10; policy accept; }")
        }
        for place in places {
            parts += rulesIn(place).map { "add rule netdev \(name) in \($0)" }
            parts += rulesOut(place).map { "add rule netdev \(name) out \($0)" }
        }
        parts += moveRules(places.map { Way(target: .address($0.vip.address)) })
        parts.append(flushChain("move"))
        parts += overRules
        return (parts + [say(line)]).joined(separator: "; ")
    }

    private func rulesIn(_ place: Place) -> [String] {
        let host = place.vip.address.host
        if place.vip.address.isIPv6 {
            return [
                // The target of a solicitation.
                "icmpv6 type nd-neighbor-solicit @th,64,128 \(hex(place.vip.address)) meta protocol != @owns drop",
                "ip6 daddr \(host) meta protocol != @serves drop",
                "ip6 daddr \(host) jump move",
            ]
        }
        return [
            // Not the owner's own announcement: this node's programs may be clients of the VIP, too.
            "arp saddr ip != \(host) arp daddr ip \(host) meta protocol != @owns drop",
            "ip daddr \(host) meta protocol != @serves drop",
            "ip daddr \(host) jump move",
        ]
    }

    /// A node that serves and doesn't own must be able to find its clients without teaching them where it is: it asks
    /// in the name of nobody (IPv4: as a probe, RFC 5227) or of its interface (IPv6).
    private func rulesOut(_ place: Place) -> [String] {
        let host = place.vip.address.host
        if place.vip.address.isIPv6 {
            let way = place.linkLocal.map { "ip6 saddr set \($0.host) accept" } ?? "drop"
            return [
                "ip6 saddr \(host) tcp flags & (fin | rst) != 0 jump over",
                "ip6 saddr \(host) icmpv6 type nd-neighbor-solicit meta protocol != @owns \(way)",
                "icmpv6 type nd-neighbor-advert @th,64,128 \(hex(place.vip.address)) meta protocol != @owns drop",
            ]
        }
        return [
            "ip saddr \(host) tcp flags & (fin | rst) != 0 jump over",
            "arp saddr ip \(host) meta protocol != @owns arp operation request arp daddr ip != \(host) "
                + "arp saddr ip set 0.0.0.0 accept",
            "arp saddr ip \(host) meta protocol != @owns drop",
        ]
    }

    /// Own and serve for that long.
    func open(milliseconds: Int, line: UInt32) -> String {
        let time = "timeout \(milliseconds)ms"
        return [
            flush, add("owns", "arp \(time), ip6 \(time)"), add("serves", "ip \(time), ip6 \(time)"), say(line),
        ].joined(separator: "; ")
    }

    /// Serve for that long and own no more.
    func serve(milliseconds: Int, line: UInt32) -> String {
        let time = "timeout \(milliseconds)ms"
        return [flush, add("serves", "ip \(time), ip6 \(time)"), say(line)].joined(separator: "; ")
    }

    func close(line: UInt32) -> String { "\(flush); \(say(line))" }

    /// Remember from now on which connections begin here.
    /// - Parameter dropsUnknown: packets of others wait for their repetition until it is known where they belong.
    func learn(dropsUnknown: Bool, line: UInt32) -> String {
        var parts = [flushChain("move")] + moveRules([])
        if dropsUnknown { parts += places.map { "add rule netdev \(name) move \(packets($0)) drop" } }
        return (parts + [say(line)]).joined(separator: "; ")
    }

    /// These began here.
    func remember(_ flows: ArraySlice<Flow>, line: UInt32) -> String {
        let parts = families.compactMap { isIPv6 -> String? in
            let elements = flows.filter { $0.local.isIPv6 == isIPv6 }.map {
                "\($0.remote.host) . \($0.remote.port) . \($0.local.host) . \($0.local.port)"
            }
            return elements.isEmpty ? nil : add(flowSet(isIPv6), elements.joined(separator: ", "))
        }
        return (parts + [say(line)]).joined(separator: "; ")
    }

    /// - Parameter ways: one for each VIP; none: what isn't known stays here, and what begins here is still remembered.
    func forward(_ ways: [Way], line: UInt32) -> String {
        ([flushChain("move")] + moveRules(ways) + [say(line)]).joined(separator: "; ")
    }

    /// Forward no more, and forget the flows. The sets are made anew: the kernel announces each element that is flushed.
    func keep(line: UInt32) -> String {
        var parts = [flushChain("move"), flushChain("over")]
        for isIPv6 in families {
            parts += [flowSet(isIPv6), closingSet(isIPv6), endedSet(isIPv6)].map { "delete set netdev \(name) \($0)" }
            parts += addFlows(isIPv6)
        }
        parts += overRules
        return (parts + [say(line)]).joined(separator: "; ")
    }

    /// Whatever there is of the table goes.
    func remove(line: UInt32) -> String {
        [
            "add table netdev \(name)", "add set netdev \(name) \(Self.said) { type mark; }", say(line),
            "delete table netdev \(name)",
        ].joined(separator: "; ")
    }

    // MARK: parts

    /// False for IPv4, true for IPv6; those there are VIPs of.
    private var families: [Bool] {
        [false, true].filter { isIPv6 in places.contains { $0.vip.address.isIPv6 == isIPv6 } }
    }

    private func flowSet(_ isIPv6: Bool) -> String { isIPv6 ? "flows6" : "flows4" }

    private func closingSet(_ isIPv6: Bool) -> String { isIPv6 ? "closing6" : "closing4" }

    private func endedSet(_ isIPv6: Bool) -> String { isIPv6 ? "ended6" : "ended4" }

    private func flushChain(_ chain: String) -> String { "flush chain netdev \(name) \(chain)" }

    private func addFlows(_ isIPv6: Bool) -> [String] {
        let address = isIPv6 ? "ipv6_addr" : "ipv4_addr"
        let sets = [
            (flowSet(isIPv6), "\(Self.flowsHours)h"), (closingSet(isIPv6), "\(Self.closingSeconds)s"),
            (endedSet(isIPv6), "\(Self.endedSeconds)s"),
        ]
        return sets.map {
            "add set netdev \(name) \($0) { type \(address) . inet_service . \(address) . inet_service; "
                + "flags dynamic,timeout; timeout \($1); size \(Self.flowsMax); }"
        }
    }

    /// What can't be remembered, since the set is full, is forwarded from its first packet on: so it is served
    /// elsewhere, and nothing breaks.
    ///
    /// A flow that its client ended is soon forgotten: the client may use the port again for a connection to another node,
    /// whose packets would stay here. Packets may follow the end (acknowledgements of what the server still sends),
    /// so it stays as long as they come. Where this node had said its last before, nothing follows: then a client that doesn't
    /// wait (TIME_WAIT is with the side that ends first) may use the port again within the second.
    private func moveRules(_ ways: [Way]) -> [String] {
        var rules: [String] = []
        for isIPv6 in families {
            let ip = isIPv6 ? "ip6" : "ip"
            let key = "\(ip) saddr . tcp sport . \(ip) daddr . tcp dport"
            let (flows, closing) = ("@\(flowSet(isIPv6))", "@\(closingSet(isIPv6))")
            let ended = "@\(endedSet(isIPv6))"
            let over = "timeout \(Self.overMilliseconds)ms"
            rules += [
                "tcp flags & (syn | ack) == syn \(key) \(ended) update \(ended) { \(key) timeout 1ms }",
                "tcp flags & (syn | ack) == syn update \(flows) { \(key) } accept",
                "tcp flags & fin != 0 \(key) \(ended) \(key) \(flows) update \(flows) { \(key) \(over) } accept",
                "tcp flags & (fin | rst) != 0 \(key) \(flows) update \(closing) { \(key) } "
                    + "update \(flows) { \(key) timeout 1s } accept",
                "\(key) \(flows) accept",
                "\(key) \(closing) update \(closing) { \(key) } accept",
            ]
        }
        for (place, way) in zip(places, ways) {
            guard let target = way.target else {
                if way.isSought { rules.append("\(packets(place)) drop") }
                continue
            }
            for detour in way.detours {
                let sent = "ether saddr \(text(detour.from)) \(packets(place))"
                rules += detour.to.map { forwardRules(sent, place, $0) } ?? ["\(sent) accept"]
            }
            rules += forwardRules(packets(place), place, target)
        }
        return rules.map { "add rule netdev \(name) move \($0)" }
    }

    /// What this node sends, of flows that are remembered. They stand for good, since a line for a move must be short: each
    /// rule in it is time in which nobody owns the VIP. An update prolongs and shortens alike; deleting from a rule leaks memory in kernels before 6.6.
    private var overRules: [String] {
        families.flatMap { isIPv6 in
            let ip = isIPv6 ? "ip6" : "ip"
            let key = "\(ip) daddr . tcp dport . \(ip) saddr . tcp sport"
            let flows = "@\(flowSet(isIPv6))"
            return [
                "tcp flags & rst != 0 \(key) \(flows) update \(flows) { \(key) timeout \(Self.overMilliseconds)ms } accept",
                "tcp flags & fin != 0 \(key) \(flows) update @\(endedSet(isIPv6)) { \(key) }",
            ]
        }.map { "add rule netdev \(name) over \($0)" }
    }

    private func packets(_ place: Place) -> String {
        "\(place.vip.address.isIPv6 ? "ip6" : "ip") daddr \(place.vip.address.host) meta l4proto tcp"
    }

    private func forwardRules(_ packets: String, _ place: Place, _ target: Target) -> [String] {
        switch target {
        case .address(let hop):
            let ip = place.vip.address.isIPv6 ? "ip6" : "ip"
            return ["\(packets) fwd \(ip) to \(hop.host) device \"\(place.vip.interface)\""]
        case .hardware(let hop, let own):
            // The kernel counts hops only where it looks for the next one itself. Two nodes that send each other
            // what neither knows would never stop, so hops are counted here.
            let hops = place.vip.address.isIPv6 ? "ip6 hoplimit" : "ip ttl"
            let counts = [("> \(Self.hopsMax)", Self.hopsMax)] + (2...Self.hopsMax).reversed().map { ("\($0)", $0 - 1) }
            return counts.map { found, left in
                // Our own as the source: switches would take the client to be here.
                "\(packets) \(hops) \(found) \(hops) set \(left) ether daddr set \(text(hop)) "
                    + "ether saddr set \(text(own)) fwd to \"\(place.vip.interface)\""
            }
        }
    }

    private var flush: String { "flush set netdev \(name) owns; flush set netdev \(name) serves" }

    private func add(_ set: String, _ elements: String) -> String {
        "add element netdev \(name) \(set) { \(elements) }"
    }

    private func say(_ line: UInt32) -> String { "flush set netdev \(name) \(Self.said); " + add(Self.said, "\(line)") }

    private func hex(_ address: SocketAddress) -> String {
        "0x" + address.hostBytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private func text(_ hardware: [UInt8]) -> String {
        hardware.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}
