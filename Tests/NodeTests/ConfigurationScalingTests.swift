// ConfigurationScalingTests: `autoscale` as the file says it, and what the status says of it.

import Gossip
import Testing

@testable import Node

@Suite struct ConfigurationScalingTests {
    private static let keys =
        "autoscale: { min: 2, max: 9, requestsPerServer: 100, window: \"6s\", upCoolDown: \"4s\", coolDown: \"90s\" },"
    private static let full = Examples.full.replacing(
        "backends: [ {\n    name: \"api\"", with: "backends: [ { \(keys) name: \"api\"")

    private func read(_ text: String) -> Result<Configuration, ConfigurationProblems> {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: "triad.json5", environment: { environment[$0] })
        return reader.read(Array(text.utf8))
    }

    private func problems(_ keys: String) -> [String] {
        switch read(Self.full.replacing(Self.keys, with: keys)) {
        case .success: []
        case .failure(let problems): problems.all.map { "\($0)" }
        }
    }

    @Test func theFileSaysIt() throws {
        let rules = try read(Self.full).get().backends[0].autoscale
        #expect(
            rules
                == ScalingRules(
                    min: 2, max: 9, share: .requests(100), window: .seconds(6), upCoolDown: .seconds(4),
                    coolDown: .seconds(90)))
        let short = Self.full.replacing(Self.keys, with: "autoscale: { min: 1, max: 3, sessionsPerServer: 20 },")
        #expect(try read(short).get().backends[0].autoscale == ScalingRules(min: 1, max: 3, share: .sessions(20)))
        #expect(try read(Examples.full).get().backends[0].autoscale == nil)
    }

    @Test(arguments: [
        ("autoscale: { max: 3, requestsPerServer: 1 },", "min: is missing"),
        ("autoscale: { min: 1, requestsPerServer: 1 },", "max: is missing"),
        ("autoscale: { min: 4, max: 3, requestsPerServer: 1 },", "3 is less than min, which is 4"),
        ("autoscale: { min: 1, max: 3 },", "requestsPerServer: 100"),
        ("autoscale: { min: 1, max: 3, requestsPerServer: 1, sessionsPerServer: 1 },", "counted one way"),
        ("autoscale: { min: 1, max: 3, requestsPerServer: 0 },", "requests a second"),
        ("autoscale: { min: 1, max: 3, requestsPerServer: 1, coolDown: \"1s\" },", "out of range"),
        ("autoscale: { min: 1, max: 3, requestPerServer: 1 },", "requestsPerServer"),
    ])
    func whatIsWrongIsSaid(_ keys: String, _ text: String) {
        #expect(problems(keys).contains { $0.contains("autoscale") && $0.contains(text) }, "\(problems(keys))")
    }

    @Test(arguments: [
        ("min: 2", "min: 3"), ("max: 9", "max: 8"), ("requestsPerServer: 100", "requestsPerServer: 99"),
        ("requestsPerServer: 100", "sessionsPerServer: 100"), ("window: \"6s\"", "window: \"7s\""),
        ("upCoolDown: \"4s\"", "upCoolDown: \"5s\""), ("coolDown: \"90s\"", "coolDown: \"80s\""), (Self.keys, ""),
    ])
    func nodesAgreeOnItAndReloadsNameIt(_ old: String, _ new: String) throws {
        let before = try read(Self.full).get()
        let after = try read(Self.full.replacing(old, with: new)).get()
        #expect(before.digest != after.digest && before.sectionsDiffering(from: after.sectionDigests) == [.backends])
        #expect(before.changes(to: after) == "backend api: autoscale")
    }

    @Test func theStatusSaysIt() throws {
        var report = StatusReport.sample()
        #expect(!String(decoding: report.json(), as: UTF8.self).contains("autoscale"))
        report.backends[0].autoscale = StatusReport.Autoscale(
            min: 2, max: 9, perServer: 100, unit: "requests/s", serving: 4, desired: 5,
            reason: "412 requests/s, 100 a server",
            sinceSeconds: 130, load: 412.5, problem: nil)
        let read = try #require(StatusReport(json: report.json()))
        #expect(read.backends[0].autoscale == report.backends[0].autoscale)
        let text = try #require(report.backends[0].autoscale?.text)
        #expect(text == "5 servers wanted for 2 min 10 s (2 to 9), 4 serve; 412 requests/s, 100 a server")
        #expect(StatusTable(width: 120).lines(report).contains { $0.contains("api: 5 servers wanted") })
        let metrics = String(decoding: StatusMetrics.text(report), as: UTF8.self)
        #expect(metrics.contains("triad_backend_desired_servers{backend=\"api\"} 5\n"))
        #expect(metrics.contains("triad_backend_serving_servers{backend=\"api\"} 4\n"))
        #expect(metrics.contains("triad_backend_scaling_servers_max{backend=\"api\"} 9\n"))
        #expect(metrics.contains("triad_backend_scaling_decided{backend=\"api\"} 1\n"))
        #expect(String(decoding: StatusPage.html(report), as: UTF8.self).contains("5 servers wanted"))

        report.backends[0].autoscale?.desired = nil
        report.backends[0].autoscale?.sinceSeconds = nil
        report.backends[0].autoscale?.problem = "no quorum"
        #expect(report.backends[0].autoscale?.text == "undecided (2 to 9), 4 serve; not decided now: no quorum")
        #expect(!String(decoding: StatusMetrics.text(report), as: UTF8.self).contains("desired_servers{"))
    }
}
