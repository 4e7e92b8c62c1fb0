// Runtime+Start: from a checked configuration to a running node, or the reason why not.
//
// The order: what needs no undoing first (checks of the machine), then whatever another process might hold (data
// directory, ports), then the fence, then threads. The control thread raises its own priority last, so that no thread
// or child inherits it.

import CLinux
import Glibc
import Gossip
import Proxy

/// What a node is put together from.
struct RuntimeParts: ~Copyable {
    let configuration: Configuration
    let me: MemberID
    let boot: UInt64
    let now: Instant
    let core: Member
    let gossip: GossipSocket
    let storage: Storage
    let fence: FenceLink?
    let status: StatusServer
    let dataPlane: DataPlane
    let signals: Int32
    let loader: ConfigurationLoader
    let log: EventLog
    let reactor: Reactor
}

extension Runtime {
    /// - Throws: everything that keeps this node from starting, with remedies.
    static func start(_ configuration: Configuration, node: String) throws(RuntimeProblem) -> Runtime {
        let place: Int
        do {
            place = try configuration.requirePlace(of: node)
        } catch {
            throw RuntimeProblem(description: error.description)
        }
        let problems = FencePreflight.check(
            vips: configuration.fenceAddresses, gate: configuration.gateUse)
        for problem in problems where !problem.isFatal { Console.error("warning: \(problem.text)") }
        let fatal = problems.filter(\.isFatal).map(\.text)
        if !fatal.isEmpty { throw RuntimeProblem(description: fatal.joined(separator: "\n")) }
        do {
            return try assemble(configuration, me: MemberID(place), now: Runtime.now())
        } catch let problem as RuntimeProblem {
            throw problem
        } catch {
            throw RuntimeProblem(description: "\(error)")
        }
    }

    private static func assemble(_ configuration: Configuration, me: MemberID, now: Instant) throws -> Runtime {
        let signals = try SignalDescriptor.open([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
        let reactor = try Reactor()
        try reactor.registerForReading(signals, Token(kind: ControlToken.signals, slot: 0))
        let loader = try ConfigurationLoader()
        try reactor.registerForReading(loader.descriptor, Token(kind: ControlToken.loader, slot: 0))

        let storage = try Storage(
            directory: configuration.data,
            identity: "\(configuration.cluster)/\(configuration.nodes[me.index].id)")
        try reactor.registerForReading(storage.eventDescriptor, Token(kind: ControlToken.storage, slot: 0))

        if let snapshot = storage.recovered.snapshot, !BackendTable.isReadable(snapshot.bytes) {
            throw RuntimeProblem(
                description: "\(configuration.data): the snapshot was written by another version of triad and can't be "
                    + "read by \(Version.text): run that version, or move the directory away, and the node rejoins empty "
                    + "and gets everything from its peers")
        }

        let gossip = try openGossip(configuration, me: me, boot: storage.boot)
        try reactor.registerForReading(gossip.descriptor, Token(kind: ControlToken.gossip, slot: 0))

        var status = StatusServer(
            listenerKind: ControlToken.statusListener, connectionKind: ControlToken.statusConnection,
            access: StatusAccess(
                token: configuration.status.token, user: configuration.status.user,
                password: configuration.status.password))
        try status.listen(configuration.statusAddresses(of: me), reactor: reactor)

        let workers = configuration.workers ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let dataPlane = try DataPlane(configuration.proxySettings(workers: workers))
        try reactor.registerForReading(dataPlane.suspicionDescriptor, Token(kind: ControlToken.suspicions, slot: 0))

        let fence = startFence(configuration, me: me, boot: storage.boot, reactor: reactor, now: now)
        try dataPlane.start()
        _ = clinux_raise_priority()

        let core = Member(
            configuration.clusterConfiguration(me: me), recovered: storage.recovered, boot: storage.boot,
            seed: storage.boot ^ UInt64(me.index) << 56, now: now)
        var log = EventLog(
            node: configuration.nodes[me.index].id, level: configuration.log.level, format: configuration.log.format)
        for note in storage.notes { log.log(.warning, note) }
        return Runtime(
            parts: RuntimeParts(
                configuration: configuration, me: me, boot: storage.boot, now: now, core: core, gossip: gossip,
                storage: storage, fence: fence, status: status, dataPlane: dataPlane, signals: signals,
                loader: loader, log: log, reactor: reactor))
    }

    private static func openGossip(
        _ configuration: Configuration, me: MemberID, boot: UInt64
    ) throws(RuntimeProblem) -> GossipSocket {
        let addresses = configuration.gossipAddresses
        let own = addresses[me.index]
        let envelope = Envelope(
            clusterTag: configuration.clusterTag, me: me, memberCount: addresses.count, boot: boot,
            keys: configuration.gossip.keys)
        do {
            return try GossipSocket(binding: own, addresses: addresses, envelope: envelope)
        } catch {
            let id = configuration.nodes[me.index].id
            let text =
                switch error.code {
                case EADDRINUSE:
                    "another process uses it, perhaps another triad; stop that one or set gossip.port"
                case EADDRNOTAVAIL:
                    "this machine doesn't have the address of node \(id); is --node right, and the address in the file?"
                default: "\(error)"
                }
            throw RuntimeProblem(description: "gossip (UDP) \(own): \(text)")
        }
    }

    private static func startFence(
        _ configuration: Configuration, me: MemberID, boot: UInt64, reactor: borrowing Reactor, now: Instant
    ) -> FenceLink? {
        guard !configuration.vips.isEmpty else { return nil }
        let settings = FenceSettings(
            vips: configuration.fenceAddresses, members: configuration.gossipAddresses, me: me,
            clusterTag: configuration.clusterTag, boot: boot, keys: configuration.gossip.keys,
            gate: configuration.gateUse,
            gateTable: GateTable.name(cluster: configuration.cluster, node: configuration.nodes[me.index].id),
            lineGrace: configuration.gossip.electionTimeoutMin / 5)
        var fence = FenceLink(settings: settings, token: Token(kind: ControlToken.fence, slot: 0))
        fence.start(on: reactor, now: now)
        return fence
    }
}

extension Configuration {
    var gossipAddresses: [SocketAddress] { nodes.compactMap(\.gossipAddress) }

    var fenceAddresses: [FenceAddress] {
        vips.compactMap { vip in
            SocketAddress(address: vip.host, port: 0).map {
                FenceAddress(address: $0, prefix: vip.prefix, interface: vip.interface)
            }
        }
    }

    var gateUse: GateUse {
        switch fencing {
        case .auto: .ifUsable
        case .gate: .required
        case .wait, .trust: .never
        }
    }

    var clusterTag: UInt64 {
        Gossip.clusterTag(
            name: cluster, members: nodes.map(\.id), lease: gossip.lease,
            electionTimeoutMin: gossip.electionTimeoutMin)
    }

    /// Where the status port listens: `status.address`, or the node's own address and 127.0.0.1.
    func statusAddresses(of me: MemberID) -> [SocketAddress] {
        let port = nodes[me.index].statusPort
        let hosts = status.address.map { [$0] } ?? [nodes[me.index].address, "127.0.0.1"]
        return hosts.compactMap { SocketAddress(address: $0, port: port) }
    }

    /// What the core needs to know of the file.
    func clusterConfiguration(me: MemberID) -> ClusterConfiguration {
        ClusterConfiguration(
            members: nodes.map(\.id), me: me,
            timing: Timing(
                heartbeat: gossip.heartbeat, lease: gossip.lease, electionTimeoutMin: gossip.electionTimeoutMin,
                electionTimeoutMax: gossip.electionTimeoutMax),
            fencing: Gossip.Fencing(rawValue: fencing.rawValue) ?? .auto, hasVIP: !vips.isEmpty,
            digest: UInt64(digest, radix: 16) ?? 0,
            sections: sectionDigests, leadership: leadershipRules, servers: serverIDs)
    }

    var leadershipRules: LeadershipRules {
        LeadershipRules(
            fitnessHold: leadership.fitnessHold, preemptHold: leadership.preemptHold, priorities: nodes.map(\.priority))
    }
}
