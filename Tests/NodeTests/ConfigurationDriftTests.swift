// ConfigurationDriftTests: nodes with different files find out in which sections they differ.

import Testing

@testable import Node

@Suite struct ConfigurationDriftTests {
    private func load(_ text: String) throws -> Configuration {
        var reader = ConfigurationReader(
            file: "triad.json5",
            environment: { ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"][$0] })
        return try reader.read(Array(text.utf8)).get()
    }

    struct Change: Sendable, CustomTestStringConvertible {
        let old: String
        let new: String
        let section: Configuration.Section
        init(_ old: String, _ new: String, _ section: Configuration.Section) {
            (self.old, self.new, self.section) = (old, new, section)
        }
        var testDescription: String { "\(section): \(new)" }
    }

    @Test(arguments: [
        Change("\"web\"", "\"web2\"", .cluster),
        Change("10.0.0.13", "10.0.0.14", .nodes), Change("priority: 10", "priority: 11", .nodes),
        Change("7950", "7951", .nodes), Change("8090", "8091", .nodes),
        Change("\"wait\"", "\"trust\"", .vip), Change("eth0", "eth1", .vip), Change("100/32", "100/24", .vip),
        Change("lease: \"150ms\"", "lease: \"140ms\"", .gossip), Change("\"30ms\"", "\"31ms\"", .gossip),
        Change("[\"200ms\"", "[\"201ms\"", .gossip), Change("\"300ms\"]", "\"301ms\"]", .gossip),
        Change("tokenFile", "address: \"0.0.0.0\", tokenFile", .status),
        Change("port: 80,", "port: 81,", .frontends), Change("name: \"http\"", "name: \"web\"", .frontends),
        Change("roundrobin", "leastconn", .backends), Change("/health", "/healthz", .backends),
        Change("expect: 200", "expect: 204", .backends), Change("rise: 2", "rise: 3", .backends),
        Change("weight: 3", "weight: 4", .backends), Change("api_2", "api_3", .backends),
        Change("22:8080", "23:8080", .backends), Change("interval: \"1s\"", "interval: \"2s\"", .backends),
        Change("fitnessHold: \"2s\"", "fitnessHold: \"3s\"", .leadership),
        Change("preemptHold: \"10s\"", "preemptHold: \"11s\"", .leadership),
        Change("gateway: \"10.0.0.1\"", "gateway: \"10.0.0.2\"", .leadership),
        Change("keepAlive: \"1m\"", "keepAlive: \"2m\"", .timeouts),
        Change("drain: \"5s\"", "drain: \"6s\"", .timeouts),
        Change("retries: 2", "retries: 1", .limits), Change("headers: 100", "headers: 101", .limits),
    ])
    func aChangeShowsInItsSectionAndInTheWhole(_ change: Change) throws {
        #expect(Examples.full.contains(change.old))
        let (one, other) = (try load(Examples.full), try load(Examples.full.replacing(change.old, with: change.new)))
        #expect(one.sectionsDiffering(from: other.sectionDigests) == [change.section])
        #expect(other.sectionsDiffering(from: one.sectionDigests) == [change.section])
        #expect(one.digest != other.digest)
    }

    @Test func severalAreNamedInTheOrderOfTheFile() throws {
        let other = Examples.full.replacing("retries: 2", with: "retries: 1").replacing("\"wait\"", with: "\"auto\"")
            .replacing("weight: 3", with: "weight: 4")
        let differing = try load(Examples.full).sectionsDiffering(from: load(other).sectionDigests)
        #expect(differing.map(\.rawValue) == ["vip", "backends", "limits"])
    }

    @Test func whatBelongsToOneMachineMakesNoDifference() throws {
        let other = Examples.full.replacing("workers: 2", with: "workers: 3").replacing("\"info\"", with: "\"debug\"")
            .replacing("/var/lib/triad", with: "/elsewhere")
        let (one, two) = (try load(Examples.full), try load(other))
        #expect(one.sectionsDiffering(from: two.sectionDigests).isEmpty && one.digest == two.digest)
    }

    @Test func aNodeThatSaidNothingOrKnowsFewerSectionsIsComparedAsFarAsItGoes() throws {
        let one = try load(Examples.full)
        let two = try load(
            Examples.full.replacing("\"web\"", with: "\"web2\"").replacing("retries: 2", with: "retries: 1"))
        #expect(one.sectionsDiffering(from: []).isEmpty)
        #expect(one.sectionsDiffering(from: Array(two.sectionDigests.prefix(3))) == [.cluster])
        #expect(one.sectionsDiffering(from: two.sectionDigests + [7]) == [.cluster, .limits])
    }

    @Test func whatWaitsForARestartStillDiffers() throws {
        var running = try load(Examples.full)
        let before = running.digest
        let file = try load(Examples.full.replacing("retries: 2", with: "retries: 1").replacing("api_2", with: "api_3"))
        running.adoptDigests(of: file, without: [.limits])
        #expect(running.sectionsDiffering(from: file.sectionDigests) == [.limits])
        #expect(running.sectionsDiffering(from: try load(Examples.full).sectionDigests) == [.backends])
        #expect(running.digest != before && running.digest != file.digest)
        running.adoptDigests(of: file, without: [])
        #expect(running.digest == file.digest)
        running.adoptDigests(of: try load(Examples.full), without: [])
        #expect(running.digest == before)
    }

    /// What nodes send each other is short, and fits what the rest of a digest leaves of a datagram.
    @Test func aSectionCostsFourBytes() throws {
        #expect(try load(Examples.full).sectionDigests.count == Configuration.Section.allCases.count)
        #expect(Configuration.Section.allCases.count <= 16)
    }
}
