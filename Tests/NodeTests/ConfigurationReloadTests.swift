// ConfigurationReloadTests: what of a changed file a running node takes over, how it says so, and which servers stand in
// until new ones have a verdict.

import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationReloadTests {
    private func load(_ text: String) throws -> Configuration {
        var reader = ConfigurationReader(
            file: "triad.json5",
            environment: { ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"][$0] })
        return try reader.read(Array(text.utf8)).get()
    }

    struct Change: Sendable, CustomTestStringConvertible {
        let old: String
        let new: String
        /// What the event says.
        let text: String
        /// Paths that need a restart.
        let fixed: [String]
        init(_ old: String, _ new: String, _ text: String, fixed: [String] = []) {
            (self.old, self.new, self.text, self.fixed) = (old, new, text, fixed)
        }
        var testDescription: String { new }
    }

    private static let second = """
        { name: "b", servers: [{ id: "b_1", address: "10.0.0.31:80" }] }, { name: "api"
        """

    @Test(arguments: [
        Change("port: 80,", "port: 81,", "frontend http: at *:81"),
        Change("{ name: \"http\"", "{ name: \"web\"", "frontend web added; frontend http removed"),
        Change("backends: [ {\n    name: \"api\"", "backends: [ \(second)", "backend b added"),
        Change("weight: 3", "weight: 4", "backend api: servers api_2"),
        Change("\"api_2\"", "\"api_3\"", "backend api: servers +api_3 -api_2"),
        Change("roundrobin", "leastconn", "backend api: balance leastconn"),
        Change("rise: 2", "rise: 3", "backend api: check"),
        Change("client: \"30s\"", "client: \"31s\"", "timeouts"),
        Change("retries: 2", "retries: 1", "limits"), Change("\"info\"", "\"debug\"", "log"),
        Change("fitnessHold: \"2s\"", "fitnessHold: \"3s\"", "leadership"),
        Change("connections: 20000", "connections: 65536", "limits"),
        Change(
            "connections: 20000", "connections: 65537", "limits", fixed: ["limits.connections (above 65536)"]),
        Change(
            "buffer: \"16KiB\"", "buffer: \"32KiB\"", "nothing that this node goes by has changed",
            fixed: ["limits.buffer"]),
        Change("workers: 2", "workers: 3", "nothing that this node goes by has changed", fixed: ["workers"]),
        Change("\"web\"", "\"web2\"", "nothing that this node goes by has changed", fixed: ["cluster"]),
        Change("\"wait\"", "\"trust\"", "nothing that this node goes by has changed", fixed: ["vip.fencing"]),
        Change(
            "lease: \"150ms\"", "lease: \"140ms\"", "nothing that this node goes by has changed",
            fixed: ["gossip.lease"]),
        Change(
            "heartbeat: \"30ms\", lease: \"150ms\", electionTimeout: [\"200ms\"",
            "heartbeat: \"20ms\", lease: \"150ms\", electionTimeout: [\"210ms\"",
            "nothing that this node goes by has changed", fixed: ["gossip.heartbeat", "gossip.electionTimeout"]),
        Change("priority: 10", "priority: 11", "nothing that this node goes by has changed", fixed: ["nodes[n1]"]),
        Change(
            "{ id: \"n3\"", "{ id: \"n4\"", "nothing that this node goes by has changed",
            fixed: ["nodes (+n4 -n3)"]),
        Change("eth0", "eth1", "nothing that this node goes by has changed", fixed: ["vip"]),
        Change(
            "port: 8084", "port: 8085", "nothing that this node goes by has changed",
            fixed: ["nodes[n1]", "nodes[n2]", "status.port"]),
        Change("retries: 2", "retries: 2", "nothing that this node goes by has changed"),
    ])
    func aChangeIsTakenOverOrWaits(_ change: Change) throws {
        let text = Examples.full
        try #require(text.contains(change.old))
        let (before, fresh) = (try load(text), try load(text.replacing(change.old, with: change.new)))
        var after = before
        after.takeOver(fresh, connectionsMax: 65_536)
        let fixed = after.whatNeedsRestart(comparedTo: fresh)
        #expect(fixed == change.fixed)
        after.adoptDigests(of: fresh, without: Configuration.sections(named: fixed))
        // A section of which something waits counts as different, so its name is left out with the rest of it.
        let isLimits = fixed.first?.hasPrefix("limits.connections") == true
        #expect(before.changes(to: after) == (isLimits ? "nothing that this node goes by has changed" : change.text))
        #expect(
            (after.digest == fresh.digest) == (fixed.isEmpty || fixed == ["workers"]), "\(after.digest) \(fresh.digest)"
        )
    }

    // MARK: servers that stand in

    private func table(_ routes: [(String, [ServerRoute])]) -> RoutingTable {
        RoutingTable(version: 1, backends: routes.map { BackendRoutes(name: $0.0, servers: $0.1) })
    }

    private func route(_ id: String, usable: Bool = true) throws -> ServerRoute {
        ServerRoute(id: id, address: try #require(SocketAddress("10.0.0.9:80")), usable: usable)
    }

    /// The servers of a configuration, with verdicts on some.
    private func servers(_ configuration: Configuration, _ verdicts: [String: Health]) throws -> ServerList {
        var table = BackendTable()
        var index: UInt64 = 0
        for (name, health) in verdicts.sorted(by: { $0.key < $1.key }) {
            index += 1
            let id = try #require(ServerID(name))
            let verdict = Command.verdict(id, health, reason: "", atMs: 1)
            _ = table.apply(Entry(index: index, term: 1, request: nil, command: verdict))
        }
        return ServerList(configuration: configuration, table: table)
    }

    @Test func formerServersStandInUntilThereIsAVerdict() throws {
        let (before, after) = (
            try load(Examples.full),
            try load(Examples.full.replacing("api_1", with: "new_1").replacing("api_2", with: "new_2"))
        )
        var held = HeldServers()
        held.begin(
            from: before, to: after,
            routes: table([("api", [try route("api/api_1"), try route("api/api_2", usable: false)])]))
        func routes(_ verdicts: [String: Health]) throws -> [String] {
            let list = try servers(after, verdicts)
            let table = list.routes(version: 2) { _ in false }
            return held.complete(table, of: list).backends[0].servers.filter(\.usable).map(\.id)
        }
        #expect(try routes([:]) == ["api/api_1"])
        #expect(try routes(["api/new_1": .down]) == ["api/api_1"])
        #expect(try routes(["api/new_1": .down, "api/new_2": .up]) == ["api/new_2"])
        // Once is enough: from here on they are as any other servers.
        #expect(try routes(["api/new_1": .down, "api/new_2": .down]) == [])
        #expect(held == HeldServers())
    }

    @Test func serversThatAreAllDownAreDown() throws {
        let configuration = try load(Examples.full)
        var held = HeldServers()
        held.begin(from: configuration, to: configuration, routes: table([("api", [try route("api/old")])]))
        let list = try servers(configuration, ["api/api_1": .down, "api/api_2": .down])
        #expect(
            held.complete(list.routes(version: 2) { _ in false }, of: list).backends[0].servers.count { $0.usable } == 0
        )
        #expect(held.byBackend.isEmpty)
    }

    @Test func aFrontendsNewBackendBeginsWithTheServersOfTheFormer() throws {
        let text = Examples.full.replacing("backends: [ {\n    name: \"api\"", with: "backends: [ \(Self.second)")
        let (before, after) = (
            try load(Examples.full), try load(text.replacing("backend: \"api\"", with: "backend: \"b\""))
        )
        var held = HeldServers()
        held.begin(from: before, to: after, routes: table([("api", [try route("api/api_1")])]))
        let list = try servers(after, ["api/api_1": .up, "api/api_2": .up])
        let completed = held.complete(list.routes(version: 2) { _ in false }, of: list)
        #expect(completed.backends.map(\.name) == ["b", "api"])
        #expect(completed.backends[0].servers.filter(\.usable).map(\.id) == ["api/api_1"])
        #expect(Set(held.byBackend.keys) == ["b"])
    }
}
