// ConfigurationCapacityTests: how much servers and frontends take on, as the file says it.

import Gossip
import Testing

@testable import Node
@testable import Proxy

@Suite struct ConfigurationCapacityTests {
    private static let more =
        "backends: [ { maxConnections: 100, queue: 50, name: \"api\""
    private static let limited = Examples.full
        .replacing("backends: [ {\n    name: \"api\"", with: more)
        .replacing("weight: 3", with: "weight: 3, maxConnections: 7")
        .replacing("port: 80,", with: "port: 80, maxConnections: 5000,")
        .replacing("timeouts: {", with: "timeouts: { queue: \"2s\",")

    private func read(_ text: String) -> Result<Configuration, ConfigurationProblems> {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: "triad.json5", environment: { environment[$0] })
        return reader.read(Array(text.utf8))
    }

    @Test func limitsReachTheDataPlane() throws {
        let configuration = try read(Self.limited).get()
        let settings = configuration.proxySettings(workers: 1)
        #expect(settings.frontends[0].connectionsMax == 5000 && settings.timeouts.queueMs == 2_000)
        #expect(settings.backends[0].queueMax == 50)
        // A server that was added at run time has its backend's limit.
        var table = BackendTable()
        let id = try #require(ServerID("api/added"))
        _ = table.apply(
            Entry(index: 1, term: 1, request: nil, command: .add(id, address: "10.0.0.30:8080")))
        func limits(_ configuration: Configuration) -> [Int] {
            ServerList(configuration: configuration, table: table).routes(version: 1) { _ in false }
                .backends[0].servers.map(\.connectionsMax)
        }
        #expect(limits(configuration) == [100, 7, 100])
        let plain = try read(Examples.full).get()
        #expect(limits(plain) == [0, 0, 0])
        let unlimited = plain.proxySettings(workers: 1)
        #expect(unlimited.frontends[0].connectionsMax == nil && unlimited.timeouts.queueMs == 5_000)
        #expect(unlimited.backends[0].queueMax == 1_024)
    }

    @Test(arguments: [
        ("maxConnections: 100", "maxConnections: 101", "backend api: maxConnections"),
        ("queue: 50", "queue: 51", "backend api: queue"),
        ("maxConnections: 7", "maxConnections: 8", "backend api: servers api_2"),
        ("maxConnections: 5000", "maxConnections: 5001", "frontend http: maxConnections"),
        ("queue: \"2s\"", "queue: \"3s\"", "timeouts"),
    ])
    func nodesAgreeOnThemAndReloadsNameThem(_ old: String, _ new: String, _ text: String) throws {
        let before = try read(Self.limited).get()
        let after = try read(Self.limited.replacing(old, with: new)).get()
        #expect(before.changes(to: after) == text && before.sectionsDiffering(from: after.sectionDigests).count == 1)
        var taken = before
        taken.takeOver(after, connectionsMax: 65_536)
        #expect(taken.whatNeedsRestart(comparedTo: after).isEmpty)
        #expect(taken.proxySettings(workers: 1) == after.proxySettings(workers: 1))
    }

    @Test(arguments: [
        (
            "maxConnections: 100", "maxConnections: 0",
            "backends[0].maxConnections: expected a limit: a whole number from 1 to 1000000, found 0"
        ),
        (
            "maxConnections: 7", "maxConnections: \"7\"",
            "backends[0].servers[1].maxConnections: expected a limit: a whole number from 1 to 1000000, without quotes, found \"7\""
        ),
        (
            "queue: 50", "queue: -1",
            "backends[0].queue: expected how many requests of a worker may wait, 0 for none: a whole number from 0 to 65536, "
                + "found -1"
        ),
        (
            "queue: \"2s\"", "queue: 2",
            "timeouts.queue: expected a duration, found 2; a duration is a string with a unit, such as \"250ms\""
        ),
    ])
    func mistakesAreNamed(_ old: String, _ new: String, _ text: String) throws {
        guard case .failure(let problems) = read(Self.limited.replacing(old, with: new)) else {
            Issue.record("\(new) was accepted")
            return
        }
        #expect(problems.all.map { "\($0.path): \($0.text)" } == [text])
    }
}
