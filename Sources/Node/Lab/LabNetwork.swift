// LabNetwork: network namespaces joined by a bridge, as a small switched network in one machine.
//
//   n1 ─┐                    n1 .11  n2 .12  n3 .13 … of 10.77.0.0/24, all on eth0
//   n2 ─┼─ switch ─ client   client .200; apis .21 to .29
//   n3 ─┘     └──── apis
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

    let hosts: [LabHost]
    let bridge: LabHost
    private let directory: String
    private var cuts: [(from: String, to: String)] = []
    private var hasRules: [String] = []

    static func apiAddress(_ number: Int) -> String { "10.77.0.\(20 + number)" }

    /// - Parameter directory: for scratch files.
    init(nodes: [String], directory: String) throws(LabProblem) {
        self.directory = directory
        bridge = try LabHost(name: "switch", addresses: [])
        var hosts: [LabHost] = []
        for (index, node) in nodes.enumerated() {
            hosts.append(try LabHost(name: node, addresses: ["10.77.0.\(11 + index)"]))
        }
        hosts.append(try LabHost(name: Self.clientName, addresses: ["10.77.0.200"]))
        hosts.append(try LabHost(name: Self.apisName, addresses: (1...9).map(Self.apiAddress)))
        self.hosts = hosts
        try wire()
    }

    func host(_ name: String) throws(LabProblem) -> LabHost {
        guard let host = hosts.first(where: { $0.name == name }) else { throw LabProblem("no host \(name)") }
        return host
    }

    private func wire() throws(LabProblem) {
        var lines = ["link add br0 type bridge", "link set lo up", "link set br0 up"]
        for host in hosts {
            lines.append("link add \(Self.port(host.name)) type veth peer name eth0 netns \(host.path)")
            lines.append("link set \(Self.port(host.name)) master br0 up")
        }
        try ip(lines, in: bridge)
        for host in hosts {
            let addresses = host.addresses.map { "addr add \($0)/24 dev eth0" }
            try ip(["link set lo up", "link set eth0 up"] + addresses, in: host)
        }
    }

    /// The switch's side of a host's link.
    private static func port(_ host: String) -> String { "p-\(host)" }

    /// Runs `ip` lines in a host, all or an error.
    func ip(_ lines: [String], in host: LabHost) throws(LabProblem) {
        let script = "\(directory)/ip.batch"
        let errors = "\(directory)/ip.errors"
        try LabSystem.write(script, lines.joined(separator: "\n") + "\n")
        try LabSystem.write(errors, "")
        let pid = try LabSystem.inside(host.descriptor) { () throws(LabProblem) in
            try LabSystem.spawn(.init(command: ["ip", "-batch", script], errors: errors))
        }
        guard LabSystem.exitCode(pid, wait: true) == 0 else {
            throw LabProblem("ip in \(host.name): \(LabSystem.readText(errors) ?? "failed")")
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
        try ip(addresses.map { "rule add pref 1 iif eth0 from \($0)/32 blackhole" }, in: receiver)
    }

    /// Undoes `cut(addresses:at:)`.
    func heal(addresses: [String], at receiver: LabHost) throws(LabProblem) {
        try ip(addresses.map { "rule del pref 1 iif eth0 from \($0)/32 blackhole" }, in: receiver)
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
