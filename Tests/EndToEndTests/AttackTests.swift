// AttackTests: what somebody on the same link, without the key, can do to a running cluster: nothing but be counted.

import Glibc
import Gossip
import Proxy
import Testing

@testable import Node

/// What an attack must leave as it was.
private struct Standing: Equatable, CustomStringConvertible {
    var owner: String?
    var views: [String]

    var description: String { "owner \(owner ?? "-"); \(views.joined(separator: "; "))" }
}

extension LabCluster {
    fileprivate func standing() throws -> Standing {
        let views = try lab.nodes.map { node in
            let view = try view(node)
            return "\(view.node) \(view.role) term \(view.term) index \(view.index) digest \(view.digest)"
        }
        return Standing(owner: try owner(), views: views)
    }

    /// A counter of `/metrics`, by what its line begins with.
    func metric(_ name: String, of node: String) throws -> Int {
        let host = try lab.network.host(node)
        let client = try lab.network.host(LabNetwork.clientName)
        let address = try #require(SocketAddress(address: host.addresses[0], port: Self.statusPort))
        let answer = try lab.answer("metrics of \(node)") {
            LabHTTP.get("/metrics", of: address, from: client, timeoutMs: 3000)
        }
        let lines = String(decoding: answer.body, as: UTF8.self).split(separator: "\n")
        guard let line = lines.first(where: { $0.hasPrefix(name + " ") }), let value = line.split(separator: " ").last,
            let number = Double(value)
        else { throw LabProblem("\(node) has no metric \(name)") }
        return Int(number)
    }

    func drops(_ reason: String, at node: String) throws -> Int {
        try metric("triad_gossip_dropped_datagrams_total{reason=\"\(reason)\"}", of: node)
    }

    fileprivate func drops(_ reasons: [String], at node: String) throws -> Int {
        try reasons.reduce(0) { $0 + (try drops($1, at: node)) }
    }

    fileprivate func cpuSeconds(of node: String) throws -> Double {
        let pid = nodes[node]?.pid ?? 0
        let fields = (LabSystem.readText("/proc/\(pid)/stat") ?? "").split(separator: " ")
        guard fields.count > 15, let user = Double(fields[13]), let system = Double(fields[14]) else {
            throw LabProblem("\(node) doesn't run")
        }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}

/// Makes datagrams as members do, with keys of its own.
private struct Forger {
    let attacker: Attacker
    let lab: Lab
    /// Of the cluster that it claims to be in.
    var tag: UInt64
    var key = [UInt8](repeating: 7, count: 32)

    init(_ attacker: Attacker, _ cluster: LabCluster) throws {
        self.attacker = attacker
        lab = cluster.lab
        switch Configuration.load("\(cluster.directory(lab.nodes[0]))/triad.json5") {
        case .success(let configuration): tag = configuration.clusterTag
        case .failure(let problems): throw LabProblem("\(problems)")
        }
    }

    /// What a member would say that wants to be leader, with a boot that is newer than any.
    func datagrams(from source: String, to target: String, boot: UInt64, count: Int = 1) throws -> [Datagram] {
        guard let me = lab.nodes.firstIndex(of: source), let other = lab.nodes.firstIndex(of: target) else { return [] }
        var envelope = Envelope(
            clusterTag: tag, me: MemberID(me), memberCount: lab.nodes.count, boot: .max - 1, keys: [key],
            sequenceStart: 1 << 40, knownBoots: lab.nodes.indices.map { $0 == other ? boot : 0 })
        return try (0..<count).map { number in
            let message = Message.released(term: UInt64(1_000_000 + number))
            return Datagram(
                from: try attacker.gossip(source), to: try attacker.gossip(target),
                payload: envelope.seal(message.encode(), to: MemberID(other)))
        }
    }
}

extension Datagram {
    /// The boot of the sender and of the receiver that a real datagram names.
    fileprivate var boots: (sender: UInt64, receiver: UInt64) {
        var reader = ByteReader(payload[15..<31])
        return (reader.fixed64(), reader.fixed64())
    }

    fileprivate func with(_ payload: [UInt8]) -> Datagram { Datagram(from: from, to: to, payload: payload) }
}

/// An attack, and how its victim must count it.
private struct Attack {
    var what: String
    var datagrams: [Datagram]
    /// The sum of each of these groups grows by at least so many.
    var reasons: [(names: [String], count: Int)]

    init(_ what: String, _ datagrams: [Datagram], _ reasons: [(names: [String], count: Int)]) {
        self.what = what
        self.datagrams = datagrams
        self.reasons = reasons
    }

    init(_ what: String, _ datagrams: [Datagram], _ reason: String) {
        self.init(what, datagrams, [([reason], datagrams.count)])
    }
}

extension ClusterTests {
    /// From a member's address, where it matters: from anywhere else nothing is even received.
    private func attacks(
        _ attacker: Attacker, _ cluster: LabCluster, from source: String, on victim: String, _ recorded: [Datagram]
    ) throws -> [Attack] {
        let (from, to) = (try attacker.gossip(source), try attacker.gossip(victim))
        let real = recorded.filter { $0.from == from && $0.to == to }
        let one = try #require(real.last { $0.payload.count > 100 })
        let bytes = one.payload
        let forger = try Forger(attacker, cluster)
        var stranger = forger
        stranger.tag ^= 1
        let forged = try forger.datagrams(from: source, to: victim, boot: one.boots.receiver, count: 50)
        let flipped = bytes.indices.flatMap { index in
            (0..<8).map { bit -> Datagram in
                var changed = bytes
                changed[index] ^= 1 << UInt8(bit)
                return one.with(changed)
            }
        }
        let newer = try #require(forged.first)
        return [
            Attack("truncated", (0..<55).map { one.with(Array(bytes.prefix($0))) }, "tooShort"),
            // Not seen before, or they would be taken for what they were cut from.
            Attack(
                "truncated, with a whole header",
                (55..<newer.payload.count).map {
                    newer.with(Array(newer.payload.prefix($0)))
                }, "badMAC"),
            Attack(
                "oversized", (1201...1300).map { one.with(bytes + [UInt8](repeating: 0, count: $0 - bytes.count)) },
                "tooLong"),
            Attack(
                "a bit flipped", flipped,
                [
                    (["badMagic"], 32), (["otherVersion"], 8), (["otherCluster"], 64), (["notForMe"], 7),
                    (["badMAC"], 8),
                ]),
            Attack("replayed", real, [(["replayed", "tooLate"], real.count)]),
            Attack("a peer with the wrong key", forged, "badMAC"),
            Attack(
                "a peer of the wrong cluster",
                try stranger.datagrams(from: source, to: victim, boot: one.boots.receiver, count: 50), "otherCluster"),
            Attack(
                "from another address",
                try (real + forged).map {
                    Datagram(from: try attacker.own, to: to, payload: $0.payload)
                }, "byKernel"),
        ]
    }

    @Test func attackersAreCountedAndChangeNothing() throws {
        try EndToEnd.withCluster(LabClusterOptions(fencing: "auto"), isPatient: true) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let attacker = try Attacker(lab)
            let leader = try cluster.waitForOwner()
            let other = try #require(lab.nodes.first { $0 != leader })
            let before = try cluster.standing()
            let recorded = try attacker.record(seconds: 1)
            try story.window {
                for (source, victim) in [(other, leader), (leader, other)] {
                    for attack in try attacks(attacker, cluster, from: source, on: victim, recorded) {
                        try carryOut(attack, attacker, on: victim, story)
                    }
                }
            } until: {
                try story.holds(try cluster.standing() == before, "\(before) is \(try cluster.standing())")
            }.require("forged, cut, changed and replayed", .init())
        }
    }

    private func carryOut(_ attack: Attack, _ attacker: Attacker, on victim: String, _ story: Story) throws {
        let cluster = story.cluster
        func counts() throws -> [Int] { try attack.reasons.map { try cluster.drops($0.names, at: victim) } }
        let all = [
            "tooShort", "tooLong", "badMagic", "otherVersion", "otherCluster", "unknownSender", "fromOurselves",
            "notForMe", "oldBoot", "replayed", "tooLate", "badMAC", "byKernel",
        ]
        func sum() throws -> Int { try cluster.drops(all, at: victim) }
        let (before, sumBefore) = (try counts(), try sum())
        try attacker.send(attack.datagrams)
        var after: [Int] = []
        try story.lab.wait("\(victim) counts: \(attack.what)") {
            after = try counts()
            return zip(zip(after, before), attack.reasons).allSatisfy { $0.0 - $0.1 >= $1.count }
        }
        try story.lab.wait("\(victim) refuses all: \(attack.what)") {
            try sum() - sumBefore >= attack.datagrams.count
        }
        let text = zip(zip(after, before), attack.reasons).map { "\($1.names.joined(separator: "+")) \($0.0 - $0.1)" }
            .joined(separator: ", ")
        LabSystem.say("  \(attack.what), at \(victim): \(attack.datagrams.count) sent, counted \(text)\n")
    }

    /// Everything that the switch carried is sent again, after either side has started again and after leaders have changed:
    /// also what an old leader said when it let go.
    @Test func recordingsChangeNothingLater() throws {
        try EndToEnd.withCluster(LabClusterOptions(fencing: "auto")) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let attacker = try Attacker(lab)
            let first = try cluster.waitForOwner()
            let others = lab.nodes.filter { $0 != first }
            var recorded = try attacker.record(seconds: 0.7)
            // A move to and fro: what was released then is held again.
            let moves = try Recording(attacker)
            try story.window {
                for target in [others[0], first] {
                    let from = try cluster.waitForOwner()
                    let answer = try cluster.operate(["handover", "--to", target], at: from)
                    try story.holds(answer.code == 0, "to \(target): \(answer.errors)")
                    try lab.wait("\(target) owns the VIP") { try cluster.owner() == target }
                }
            } until: {
                try cluster.waitForAgreement("\(first) leads again")
            }.require("two moves", .init(outageMs: 50 * EndToEnd.slack, keptMayFail: true))
            recorded += try moves.take()
            try replay(recorded, "the leader has changed twice", attacker, story)

            try cluster.killMain(others[1])
            try cluster.bringBack(others[1])
            try cluster.waitUntilSettled()
            let received = try cluster.metric("triad_gossip_received_datagrams_total", of: others[1])
            let sent = try cluster.metric("triad_gossip_sent_datagrams_total", of: others[1])
            try replay(recorded, "\(others[1]) has started again", attacker, story)
            let taken = try cluster.metric("triad_gossip_received_datagrams_total", of: others[1]) - received
            let answered = try cluster.metric("triad_gossip_sent_datagrams_total", of: others[1]) - sent
            LabSystem.say("  \(others[1]) received \(taken), sent \(answered)\n")

            try story.window {
                try cluster.killAll(first)
            } until: {
                try story.waitForTakeOver(from: first)
            }.require("kill -9 of \(first)", .init(outageMs: 1500 * EndToEnd.slack, keptMayFail: true))
            try cluster.bringBack(first)
            try cluster.waitUntilSettled()
            try replay(recorded, "\(first) was killed and is back", attacker, story)
            for node in lab.nodes {
                let counted = try ["oldBoot", "replayed", "tooLate"].map { try cluster.drops($0, at: node) }
                LabSystem.say("  \(node): of an earlier life \(counted[0]), replayed \(counted[1] + counted[2])\n")
                try #require(counted[0] > 0 || node == others[0])
            }
        }
    }

    private func replay(_ recorded: [Datagram], _ when: String, _ attacker: Attacker, _ story: Story) throws {
        let before = try story.cluster.standing()
        try story.window {
            try attacker.send(recorded)
        } until: {
            let now = try story.cluster.standing()
            try story.holds(now == before, "\(when): \(before) is \(now)")
        }.require("\(recorded.count) datagrams replayed when \(when)", .init())
    }

    /// A debug build hashes twenty times slower than what is deployed.
    private static let slowRate: Int = {
        #if DEBUG
            5000
        #else
            50_000
        #endif
    }()

    @Test func floodsChangeNothing() throws {
        try EndToEnd.withCluster(LabClusterOptions(fencing: "auto")) { story in
            let (cluster, lab) = (story.cluster, story.lab)
            let attacker = try Attacker(lab)
            let leader = try cluster.waitForOwner()
            let other = try #require(lab.nodes.first { $0 != leader })
            let recorded = try attacker.record(seconds: 1)
            for (source, victim) in [(other, leader), (leader, other)] {
                let (from, to) = (try attacker.gossip(source), try attacker.gossip(victim))
                let real = recorded.filter { $0.from == from && $0.to == to }
                let boot = try #require(real.last).boots.receiver
                let garbage = Datagram(from: try attacker.own, to: to, payload: [UInt8](repeating: 0x55, count: 100))
                // Names the right boot and a sequence that is still to come, so only hashing tells.
                let worst = try Forger(attacker, cluster).datagrams(from: source, to: victim, boot: boot, count: 100)
                let long = worst.map { $0.with($0.payload + [UInt8](repeating: 1, count: 1200 - $0.payload.count)) }
                let floods: [(what: String, datagrams: [Datagram], rate: Int)] = [
                    ("garbage of a stranger", [garbage], 50_000),
                    (
                        "garbage from \(source)'s address", [Datagram(from: from, to: to, payload: garbage.payload)],
                        50_000
                    ),
                    ("recorded", real, 50_000), ("right but for the key", worst, 50_000),
                    ("the same, of 1200 bytes", long, Self.slowRate),
                ]
                for flood in victim == leader ? floods : [floods[3]] {
                    try self.flood(flood.what, flood.datagrams, rate: flood.rate, attacker, at: victim, story)
                }
            }
        }
    }

    private func flood(
        _ what: String, _ datagrams: [Datagram], rate: Int, _ attacker: Attacker, at victim: String, _ story: Story
    ) throws {
        let (cluster, lab) = (story.cluster, story.lab)
        let before = try cluster.standing()
        let cpu = try cluster.cpuSeconds(of: victim)
        let kernel = try cluster.drops("byKernel", at: victim)
        let received = try cluster.metric("triad_gossip_received_datagrams_total", of: victim)
        let start = System.bootNanoseconds()
        let claimed = try lab.nodes.filter { try attacker.gossip($0) == datagrams[0].from }
        let flood = try attacker.flood(datagrams, rate: rate)
        defer { flood.stop() }
        var lapses = 0
        // How long the victim went without hearing whom the flood claims to be: what that one says itself must get through.
        var silences: [Int] = []
        try lab.wait("one and a half seconds of: \(what)") {
            LabSystem.pause(milliseconds: 90)
            if let view = cluster.status(try #require(before.owner)), view.leaseRemainingMs == 0 { lapses += 1 }
            for node in cluster.status(victim)?.nodes ?? [] where claimed.contains(node.id) {
                silences.append(node.lastHeardMs ?? .max)
            }
            return System.bootNanoseconds() > start + 1_500_000_000
        }
        let (count, perSecond) = flood.stop()
        let seconds = Double(System.bootNanoseconds() - start) / 1e9
        let share = Int((try cluster.cpuSeconds(of: victim) - cpu) / seconds * 100)
        var (got, lost) = (0, 0)
        // A busy machine may lose some on the way already.
        try lab.wait("\(victim) counts half of: \(what)") {
            got = try cluster.metric("triad_gossip_received_datagrams_total", of: victim) - received
            lost = try cluster.drops("byKernel", at: victim) - kernel
            return got + lost >= count / 2
        }
        LabSystem.say(
            "  \(what), at \(victim): \(perSecond)/s; of \(count) it received \(got), the kernel dropped \(lost); "
                + "\(share) % of a core\n")
        if let longest = silences.max() {
            LabSystem.say("  \(victim) heard \(claimed[0]) itself no longer than \(longest) ms ago\n")
            try story.holds(longest < 1000, "\(what): \(victim) heard \(claimed[0]) \(longest) ms ago")
        }
        // Two busy cores may cost it a lease, which nobody is elected for; leadership and ownership are what may not change.
        if lapses > 0 { LabSystem.say("  the lease was seen to lapse \(lapses) times\n") }
        let after = try cluster.standing()
        try story.holds(after == before, "\(what): \(before) is \(after)")
        let changes = try lab.ownership().since(start).changes.filter { $0.at > start }
        try story.holds(changes.allSatisfy { $0.node == before.owner }, "\(what): \(changes)")
    }
}
