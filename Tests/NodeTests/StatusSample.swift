// StatusSample: a report with something in every field, for the tests of what is made from reports.

@testable import Node

extension StatusReport {
    static func sample() -> StatusReport {
        StatusReport(
            node: "n1", cluster: "web", version: "0.1.0", uptimeSeconds: 12.34, role: "leader", term: 3, leader: "n1",
            quorum: true,
            vips: [VIP(address: "10.0.0.100/32", interface: "eth0", owner: "n1", heldHere: true)],
            leaseRemainingMs: 120, state: State(index: 42, digest: "d1", configDigest: "c1"),
            nodes: [
                Peer(
                    id: "n1", alive: true, lastHeardMs: 0, rttMs: 0, role: "leader", index: 42, configDigest: "c1",
                    gate: true),
                Peer(
                    id: "n2", alive: true, lastHeardMs: 12, rttMs: 0.2, role: "follower", index: 42, configDigest: "c2",
                    configDiffers: ["backends", "limits"], draining: true, gate: false, unfit: ["gateway"]),
                Peer(
                    id: "n3", alive: false, lastHeardMs: nil, rttMs: nil, role: "unknown", index: 0, configDigest: ""),
            ],
            backends: [
                Backend(
                    name: "api", balance: "roundrobin",
                    servers: [server("api_1", "up"), server("api_2", "down", admin: "drain")])
            ],
            events: [
                StatusEvent(
                    atMs: 1_767_225_600_000, node: "n1", kind: "vip-acquired", text: "took 10.0.0.100/32")
            ],
            fencing: "wait", forced: true, problems: ["node n3 is silent"],
            gossip: Gossip(datagramsSent: 7, drops: [Drop(reason: "badMAC", count: 2)]),
            traffic: Traffic(requests: 1234, responses: [0, 1200, 0, 30, 4]))
    }

    static func server(_ id: String, _ health: String, admin: String = "ready") -> Server {
        Server(
            id: id, address: "10.0.0.21:8080", health: health, admin: admin, weight: 1,
            reason: health == "up" ? "HTTP 200 in 1 ms" : "connection refused", sinceSeconds: 10.1,
            views: [View(node: "n1", health: health), View(node: "n2", health: health)], requests: 1234,
            checkSeconds: 0.0012)
    }
}
