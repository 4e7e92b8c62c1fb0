// LabNetwork: network namespaces joined by a bridge, as a small switched network in one machine.
//
//   n1 ─┐        ┌─ client    n1 .11  n2 .12  n3 .13 … of 10.77.0.0/24, all on eth0
//   n2 ─┼─ switch ─ cold      client .200, cold .201 (it forgets its neighbours); apis .21 to .29
//   n3 ─┘   │    └─ apis      observer: no address, it only listens and asks
//        observer             over IPv6 the same of fd77::/64
//
// The namespaces have no names: they live while this object or a process in them does, so that nothing is left
// behind however the process ends. Links go down on the switch's side, as if a cable were pulled. Traffic between two
// members is cut at the receiver, one way at a time, by a policy rule: iproute2 alone is needed for it.

import Glibc
import Proxy

/// One host of the network.
final class LabHost {
    let name: String
    /// Addresses without prefix; the first is the one that others know it by.
    let addresses: [String]
    /// The namespace, open.
    let descriptor: Int32

    init(name: String, addresses: [String]) throws(LabProblem) {
        self.name = name
        self.addresses = addresses
        descriptor = try LabSystem.makeNetworkNamespace()
    }

    deinit { System.close(descriptor) }

    /// A path by which other processes can name the namespace while this one lives.
    var path: String { "/proc/\(getpid())/fd/\(descriptor)" }
}

final class LabNetwork {
    static let vip = "10.77.0.100"
    static let clientName = "client"
    static let apisName = "apis"
    static let coldName = "cold"
    static let observerName = "observer"

    let isIPv6: Bool
    let hosts: [LabHost]
    let bridge: LabHost
    private let directory: String
    private var cuts: [(from: String, to: String)] = []
    private var hasRules: [String] = []

    static func apiAddress(_ number: Int) -> String { "10.77.0.\(20 + number)" }

    /// Addresses of this network by their last byte.
    func address(_ last: Int) -> String { Self.address(last, isIPv6) }

    private static func address(_ last: Int, _ isIPv6: Bool) -> String {
        isIPv6 ? "fd77::\(last)" : "10.77.0.\(last)"
    }

    var vip: String { address(100) }
    /// The VIP's prefix is that of a single address.
    var vipPrefix: Int { isIPv6 ? 128 : 32 }
    func api(_ number: Int) -> String { address(20 + number) }
    /// `ADDRESS:PORT`, with brackets where they are needed.
    func endpoint(_ address: String, _ port: Int) -> String {
        address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
    }

    /// - Parameter directory: for scratch files.
    init(nodes: [String], directory: String, isIPv6: Bool = false) throws(LabProblem) {
        self.directory = directory
        self.isIPv6 = isIPv6
        bridge = try LabHost(name: "switch", addresses: [])
        var hosts: [LabHost] = []
        for (index, node) in nodes.enumerated() {
            hosts.append(try LabHost(name: node, addresses: [Self.address(11 + index, isIPv6)]))
        }
        hosts.append(try LabHost(name: Self.clientName, addresses: [Self.address(200, isIPv6)]))
        hosts.append(try LabHost(name: Self.coldName, addresses: [Self.address(201, isIPv6)]))
        let apis = (1...9).map { Self.address(20 + $0, isIPv6) }
        hosts.append(try LabHost(name: Self.apisName, addresses: apis))
        hosts.append(try LabHost(name: Self.observerName, addresses: []))
        self.hosts = hosts
        try wire()
    }

    func host(_ name: String) throws(LabProblem) -> LabHost {
        guard let host = hosts.first(where: { $0.name == name }) else { throw LabProblem("no host \(name)") }
        return host
    }

    private func wire() throws(LabProblem) {
        var lines = ["link add br0 type bridge", "link set lo up", "link set br0 up"]
        for (index, host) in hosts.enumerated() {
            let peer = "peer name eth0 address \(Self.station(index)) netns \(host.path)"
            lines.append("link add \(Self.port(host.name)) type veth \(peer)")
            lines.append("link set \(Self.port(host.name)) master br0 up")
        }
        try ip(lines, in: bridge)
        for host in hosts {
            let addresses = host.addresses.map {
                "addr add \($0)/\(isIPv6 ? "64" : "24") dev eth0\(isIPv6 ? " nodad" : "")"
            }
            try ip(["link set lo up", "link set eth0 up"] + addresses, in: host)
        }
    }

    /// The switch's side of a host's link.
    private static func port(_ host: String) -> String { "p-\(host)" }

    /// A host's Ethernet address, by its place in `hosts`.
    private static func station(_ index: Int) -> String { ProbeFrames.text([0x02, 0x77, 0, 0, 0, UInt8(index + 11)]) }

    /// Who is behind an Ethernet address.
    var stations: [String: String] {
        Dictionary(uniqueKeysWithValues: hosts.enumerated().map { (Self.station($0), $1.name) })
    }

    /// Runs `ip` lines in a host, all or an error. Of an IPv6 network they are about IPv6 unless they say otherwise.
    func ip(_ lines: [String], in host: LabHost) throws(LabProblem) {
        let script = "\(directory)/ip.batch"
        let errors = "\(directory)/ip.errors"
        try LabSystem.write(script, lines.joined(separator: "\n") + "\n")
        try LabSystem.write(errors, "")
        let pid = try LabSystem.inside(host.descriptor) { () throws(LabProblem) in
            try LabSystem.spawn(.init(command: ["ip", isIPv6 ? "-6" : "-4", "-batch", script], errors: errors))
        }
        guard LabSystem.exitCode(pid, wait: true) == 0 else {
            throw LabProblem("ip in \(host.name): \(LabSystem.readText(errors) ?? "failed")")
        }
    }

    /// Runs an `nft` script in a host, all of it or an error.
    func nft(_ script: String, in host: LabHost) throws(LabProblem) {
        let path = "\(directory)/nft.batch"
        let errors = "\(directory)/nft.errors"
        try LabSystem.write(path, script)
        try LabSystem.write(errors, "")
        let pid = try LabSystem.inside(host.descriptor) { () throws(LabProblem) in
            try LabSystem.spawn(.init(command: ["nft", "-f", path], errors: errors))
        }
        guard LabSystem.exitCode(pid, wait: true) == 0 else {
            throw LabProblem("nft in \(host.name): \(LabSystem.readText(errors) ?? "failed")")
        }
    }

    // MARK: faults

    /// Pulls or plugs the cable between a host and the switch.
    func setLink(_ name: String, up: Bool) throws(LabProblem) {
        try ip(["link set \(Self.port(name)) \(up ? "up" : "down")"], in: bridge)
    }

    /// Drops everything that `from` sends to `to`, silently and in that direction only.
    func cut(from: String, to: String) throws(LabProblem) {
        let (source, receiver) = (try host(from), try host(to))
        try cut(addresses: source.addresses, at: receiver)
        cuts.append((from, to))
    }

    /// Drops what a host receives from some addresses.
    func cut(addresses: [String], at receiver: LabHost) throws(LabProblem) {
        if !hasRules.contains(receiver.name) {
            // The table of local addresses comes first by default; the drops must come before it.
            try ip(["rule add pref 10 lookup local", "rule del pref 0"], in: receiver)
            hasRules.append(receiver.name)
        }
        try ip(addresses.map { "rule add pref 1 iif eth0 from \($0)/\(vipPrefix) blackhole" }, in: receiver)
    }

    /// Undoes `cut(addresses:at:)`.
    func heal(addresses: [String], at receiver: LabHost) throws(LabProblem) {
        try ip(addresses.map { "rule del pref 1 iif eth0 from \($0)/\(vipPrefix) blackhole" }, in: receiver)
    }

    /// Loses part of the gossip that a host receives, at random; 0 loses none. In a table of its own, which the fence
    /// must leave alone. Needs `nft`.
    func lose(percent: Int, at name: String) throws(LabProblem) {
        let chain =
            "chain in { type filter hook input priority -300; udp dport 7946 numgen random mod 100 < \(percent) drop; }"
        // Declared before it is deleted, so that it may or may not be there.
        let rest = percent > 0 ? "table inet lab_loss { \(chain)\n}\n" : ""
        try nft("table inet lab_loss {}\ndelete table inet lab_loss\n\(rest)", in: try host(name))
    }

    /// Cuts both directions between every host of one group and every host of the other.
    func partition(_ group: [String], from others: [String]) throws(LabProblem) {
        for one in group {
            for other in others {
                try cut(from: one, to: other)
                try cut(from: other, to: one)
            }
        }
    }

    /// Undoes every cut between hosts.
    func heal() throws(LabProblem) {
        while let cut = cuts.popLast() {
            try heal(addresses: try host(cut.from).addresses, at: try host(cut.to))
        }
    }
}
