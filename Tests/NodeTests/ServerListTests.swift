// ServerListTests: the list changed in place, one server at a time, is the list made anew.

import Testing

@testable import Gossip
@testable import Node

@Suite struct ServerListTests {
    private func read(_ text: String) throws -> Configuration {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: "triad.json5", environment: { environment[$0] })
        return try reader.read(Array(text.utf8)).get()
    }

    @Test func aChangeInPlaceIsAsGoodAsAFreshList() throws {
        let configuration = try read(
            Examples.full.replacing(
                "backends: [ {\n    name: \"api\"", with: "backends: [ { panicThreshold: \"50%\", name: \"api\""))
        var table = BackendTable()
        var index: UInt64 = 0
        func apply(_ command: Command) {
            index += 1
            #expect(table.apply(Entry(index: index, term: 1, request: nil, command: command)) == .done)
        }
        let added = ServerID(backend: "api", server: "late")
        apply(.add(added, address: "10.0.0.77:8080"))
        var list = ServerList(configuration: configuration, table: table)
        let ids = configuration.serverIDs + [added]
        var commands: [(ServerID, Command)] = []
        for (number, id) in ids.enumerated() {
            commands += [
                (id, .verdict(id, number % 2 == 0 ? .up : .down, reason: "as told", atMs: 1_000 + Int64(number))),
                (id, .setWeight(id, weight: 10 * number)), (id, .setAdmin(id, .drain)),
                (id, .verdict(id, .drain, reason: "", atMs: 5_000)), (id, .setAdmin(id, .ready)),
                (id, .verdict(id, .up, reason: "connected", atMs: 6_000)),
            ]
        }
        for (id, command) in commands {
            apply(command)
            let updated = list.update(id, table[id])
            let place = try #require(updated)
            #expect(list == ServerList(configuration: configuration, table: table), "\(command)")
            #expect(list.backends[place.backend][place.number].id == id)
            let route = list.routes(version: 1) { _ in false }.backends[place.backend].servers[place.number]
            #expect(list.route(at: place) { _ in false } == route)
        }
        for stranger in [ServerID(backend: "api", server: "nobody"), ServerID(backend: "nothing", server: "late")] {
            #expect(list.place(of: stranger) == nil)
            let updated = list.update(stranger, nil)
            #expect(updated == nil)
        }
    }

    @Test func theSetOfServersIsMergedInOrder() {
        func ids(_ names: [String]) -> [ServerID] { names.map { ServerID(backend: "api", server: $0) } }
        var table = BackendTable()
        let file = ids(["b", "d", "f"])
        for (number, id) in ids(["e", "a", "d"]).enumerated() {
            _ = table.apply(
                Entry(index: UInt64(number + 1), term: 1, request: nil, command: .add(id, address: "10.0.0.1:80")))
        }
        #expect(table.servers(configured: file) == ids(["a", "b", "d", "e", "f"]))
        for (number, id) in ids(["f", "a", "d"]).enumerated() {
            _ = table.apply(Entry(index: UInt64(number + 4), term: 1, request: nil, command: .remove(id)))
        }
        #expect(table.servers(configured: file) == ids(["b", "d", "e"]))
    }

    @Test func verdictsAreDueForOneServerForSomeOrForAll() {
        let servers = (10..<99).map { ServerID(backend: "api", server: "s\($0)") }
        var due = DueVerdicts()
        #expect(due.isEmpty)
        for server in [servers[5], servers[2], servers[5], ServerID(backend: "api", server: "gone")] {
            due.insert(server)
        }
        #expect(due.take(of: servers) == [servers[2], servers[5]])
        #expect(due.isEmpty)
        for server in servers { due.insert(server) }
        #expect(due.take(of: servers) == servers)
        due.insertAll()
        due.insert(servers[0])
        #expect(due.take(of: servers) == servers)
        due.insert(servers[1])
        due.removeAll()
        #expect(due.take(of: servers) == [])
    }
}
