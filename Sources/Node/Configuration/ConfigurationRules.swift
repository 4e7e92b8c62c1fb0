// ConfigurationRules: what must hold between values of a configuration.

import Gossip
import Proxy

extension ConfigurationReader {
    /// Count, ids, addresses and families of the nodes.
    mutating func checkNodes(_ nodes: [PlacedNode], _ place: Placed) {
        if nodes.isEmpty {
            report.add(place, "is empty; one node alone is the smallest cluster, three the smallest that survives one")
        } else if nodes.count > Limits.membersMax {
            report.add(place, "\(nodes.count) nodes; at most \(Limits.membersMax) (use 3, 5 or 7)")
        } else if nodes.count % 2 == 0 {
            let fewer = nodes.count - 1
            report.add(
                place,
                "\(nodes.count) nodes is an even number: a majority of \(nodes.count) is \(nodes.count / 2 + 1), "
                    + "so it survives no more failures than \(fewer) would, and a split in half leaves no majority; "
                    + "use \(fewer) or \(nodes.count + 1)")
        }
        for (index, node) in nodes.enumerated() {
            for other in nodes[..<index] {
                if !node.entry.id.isEmpty, node.entry.id == other.entry.id {
                    report.add(node.place, "another node has the id \"\(node.entry.id)\"; ids must differ")
                }
                guard let address = node.address, address == other.address else { continue }
                if node.entry.gossipPort == other.entry.gossipPort || node.entry.statusPort == other.entry.statusPort {
                    report.add(
                        node.place,
                        "node \(other.entry.id) has the address \(address.host) too; "
                            + "nodes on one address need a gossipPort and a statusPort each")
                }
            }
        }
        let addressed = nodes.filter { $0.address != nil }
        if let first = addressed.first?.address {
            for node in addressed.dropFirst() where node.address?.isIPv6 != first.isIPv6 {
                report.add(
                    node.place,
                    "\(node.entry.address) is \(first.isIPv6 ? "IPv4" : "IPv6") and \(first.host) is not; "
                        + "nodes talk to each other over one family")
            }
            for node in addressed.dropFirst() where node.address?.isLoopback != first.isLoopback {
                report.add(
                    node.place,
                    "\(node.entry.address) and \(first.host) can't reach each other: one is a loopback address")
            }
        }
    }

    /// The relations that make the lease safe (DESIGN.md, 2.2).
    mutating func checkTiming(
        _ section: Configuration.GossipSection, heartbeat: Placed?, lease: Placed?, timeout: Placed?, _ place: Placed
    ) {
        let shortest = section.electionTimeoutMin
        if section.lease * 4 > shortest * 3 {
            report.add(
                lease ?? timeout ?? place,
                "lease (\(Quantity.text(section.lease))) must be at most three quarters of the shortest electionTimeout "
                    + "(\(Quantity.text(shortest))): a new leader may be elected after that timeout, and the old one must "
                    + "have let go of the VIP by then, with room for clocks that differ and for the fence to act; "
                    + "lower lease to \"\(Quantity.text(shortest * 3 / 4))\" or raise electionTimeout")
        }
        if section.heartbeat * 2 > section.lease {
            report.add(
                heartbeat ?? lease ?? place,
                "heartbeat (\(Quantity.text(section.heartbeat))) must be at most half of lease "
                    + "(\(Quantity.text(section.lease))): one lost datagram must not end the lease; "
                    + "lower heartbeat to \"\(Quantity.text(section.lease / 5))\" or raise lease")
        }
        if section.electionTimeoutMax < section.electionTimeoutMin + section.heartbeat {
            report.add(
                timeout ?? place,
                "the two times of electionTimeout must be at least one heartbeat (\(Quantity.text(section.heartbeat))) "
                    + "apart, or candidates collide again and again")
        }
    }

    /// No two listeners on one TCP port of one address. (Gossip is UDP and can't clash with them.)
    mutating func checkPorts(
        _ frontends: [PlacedFrontend], nodes: [PlacedNode], status: Configuration.StatusSection,
        vips: [Configuration.VIP]
    ) {
        for (index, frontend) in frontends.enumerated() {
            let own = frontend.frontend
            for other in frontends[..<index].map(\.frontend)
            where own.port == other.port && overlap(own.address, other.address) {
                report.add(
                    frontend.place,
                    "frontend \"\(other.name)\" listens on port \(own.port) too; "
                        + "use another port, or give both an address of their own")
            }
            let clash = nodes.first { node in
                let listens = status.address.map { [$0] } ?? [node.entry.address, "127.0.0.1"]
                return node.entry.statusPort == own.port && listens.contains { overlap(own.address, $0) }
            }
            if clash != nil {
                report.add(
                    frontend.place, "\(own.port) is the status port; use another port here, or set status.port")
            }
        }
    }

    /// Whether two listeners' addresses share one; nil and the unspecified address are all of them.
    private func overlap(_ left: String?, _ right: String?) -> Bool {
        let all: [String?] = [nil, "0.0.0.0", "::"]
        return left == right || all.contains(left) || all.contains(right)
    }

    /// A server that is one of this cluster's own frontends would send requests round and round.
    mutating func checkLoops(
        _ backends: [PlacedBackend], frontends: [PlacedFrontend], nodes: [PlacedNode], vips: [Configuration.VIP]
    ) {
        let own = vips.map(\.host) + nodes.map(\.entry.address)
        for backend in backends {
            for (server, place) in zip(backend.backend.servers, backend.places) {
                let host = server.address.host
                let loop = frontends.first { placed in
                    placed.frontend.port == server.address.port && own.contains(host)
                        && overlap(placed.frontend.address, host)
                }
                if let loop {
                    report.add(
                        place,
                        "\(server.address) is this cluster's own frontend \"\(loop.frontend.name)\": "
                            + "requests would go in circles; write the address of the server itself")
                }
            }
        }
    }
}
