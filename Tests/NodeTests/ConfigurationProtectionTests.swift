// ConfigurationProtectionTests: limits per source, slow clients and the access log, as the file says them.

import Testing

@testable import Node
@testable import Proxy

@Suite struct ConfigurationProtectionTests {
    private static let frontend = "{ name: \"http\", port: 80, mode: \"http\", backend: \"api\" }"
    private static let limits =
        "perSource: { connections: 50, connectionRate: \"600/m\", requestRate: \"100/s\", prefixV6: 56, "
        + "exemptSources: [\"10.0.0.0/8\", \"2001:db8::1\"] }"

    private func read(_ text: String, file: String = "triad.json5") -> Result<Configuration, ConfigurationProblems> {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: file, environment: { environment[$0] })
        return reader.read(Array(text.utf8))
    }

    private func frontend(_ more: String) -> String {
        Examples.full.replacing(Self.frontend, with: Self.frontend.dropLast(2) + ", " + more + " }")
    }

    @Test func limitsPerSourceReachTheDataPlane() throws {
        let configuration = try read(frontend(Self.limits)).get()
        let sources = try #require(configuration.proxySettings(workers: 1).frontends[0].sources)
        #expect(sources.connections == 50 && sources.prefixV6 == 56)
        #expect(sources.connectionRate == SourceRate(events: 600, seconds: 60, burst: 600))
        #expect(sources.requestRate == SourceRate(events: 100, seconds: 1, burst: 100))
        let inside = try #require(SocketAddress("10.1.2.3:1"))
        #expect(sources.exempt.count == 2 && sources.exempt[0].contains(inside) && !sources.exempt[1].contains(inside))
        #expect(try read(Examples.full).get().proxySettings(workers: 1).frontends[0].sources == nil)
    }

    @Test func theLogAndTheRestReachTheDataPlane() throws {
        let text = Examples.full.replacing("{ level: \"info\" }", with: "{ access: { to: \"a.log\", query: false } }")
            .replacing("headers: 100,", with: "headers: 100, minimumRate: \"1KiB\", requestBody: \"10MiB\",")
        let settings = try read(text, file: "/etc/triad/triad.json5").get().proxySettings(workers: 1)
        #expect(
            settings.accessLog == .init(target: .file("/etc/triad/a.log"), style: .json, keepsQuery: false))
        #expect(settings.limits.minimumRate == 1_024 && settings.limits.requestBodyBytesMax == 10 << 20)
        let stderr = Examples.full.replacing(
            "{ level: \"info\" }", with: "{ access: { to: \"stderr\", format: \"haproxy\" } }")
        #expect(
            try read(stderr).get().proxySettings(workers: 1).accessLog == .init(target: .stderr, style: .haproxy))
        let plain = try read(Examples.full).get().proxySettings(workers: 1)
        #expect(plain.accessLog == nil && plain.limits.minimumRate == 250)
        #expect(plain.limits.requestBodyBytesMax == .max)
    }

    @Test func nodesAgreeOnLimitsButNotOnLogs() throws {
        let plain = try read(Examples.full).get()
        let limited = try read(frontend(Self.limits)).get()
        #expect(plain.sectionsDiffering(from: limited.sectionDigests) == [.frontends])
        for (old, new) in [
            ("50,", "51,"), ("600/m", "600/h"), ("100/s", "99/s"), ("56", "64"), ("10.0.0.0/8", "11.0.0.0/8"),
        ] {
            let other = try read(frontend(Self.limits.replacing(old, with: new))).get()
            #expect(limited.sectionsDiffering(from: other.sectionDigests) == [.frontends], "\(new)")
        }
        for more in ["minimumRate: \"0B\"", "requestBody: \"1MiB\""] {
            let other = try read(Examples.full.replacing("headers: 100", with: "headers: 100, \(more)")).get()
            #expect(plain.sectionsDiffering(from: other.sectionDigests) == [.limits], "\(more)")
        }
        let logged = try read(Examples.full.replacing("\"info\"", with: "\"info\", access: { to: \"stdout\" }")).get()
        #expect(plain.digest == logged.digest && plain.changes(to: logged) == "log")
    }

    @Test(arguments: [
        (
            "perSource: { connections: 0 }",
            "frontends[0].perSource.connections: expected a limit: a whole number from 1 to 1000000, found 0"
        ),
        (
            "perSource: { requestRate: 100 }",
            "frontends[0].perSource.requestRate: 100 is not a rate; write how many in a second, minute or hour: "
                + "\"100/s\", \"600/m\" or \"1000/h\", at most 1000000"
        ),
        (
            "perSource: { requestRate: \"0/s\" }",
            "frontends[0].perSource.requestRate: \"0/s\" is not a rate; write how many in a second, minute or hour: "
                + "\"100/s\", \"600/m\" or \"1000/h\", at most 1000000"
        ),
        (
            "perSource: { prefixV6: 48 }",
            "frontends[0].perSource: limits nothing; add connections: 100, connectionRate: \"50/s\" or "
                + "requestRate: \"100/s\""
        ),
        (
            "perSource: { conections: 5 }",
            "frontends[0].perSource.conections: unknown key; did you mean \"connections\"?"
        ),
        (
            "perSource: { connections: 5, exemptSources: [\"10.0.0.1/8\"] }",
            "frontends[0].perSource.exemptSources[0]: 10.0.0.1 isn't the first address of a /8 network; did you mean "
                + "\"10.0.0.0/8\"?"
        ),
    ]) func saysWhatIsWrong(_ more: String, _ message: String) {
        guard case .failure(let problems) = read(frontend(more)) else {
            Issue.record("\(more) was accepted")
            return
        }
        #expect(problems.all.contains { $0.description.hasSuffix(" " + message) }, "\(problems)")
    }

    @Test func aRateOfRequestsNeedsRequests() {
        let text = frontend("perSource: { requestRate: \"5/s\" }").replacing("mode: \"http\"", with: "mode: \"tcp\"")
        guard case .failure(let problems) = read(text) else {
            Issue.record("accepted")
            return
        }
        #expect(problems.description.contains("needs requests to count"))
    }

    @Test(arguments: [
        ("{}", "log.access.to: is missing; add where lines go, \"stderr\", \"stdout\" or a file"),
        ("{ to: 7 }", "log.access.to: expected \"stderr\", \"stdout\" or a file: to: \"/var/log/triad/access.log\""),
        ("{ to: \"a\", format: \"jsonn\" }", "log.access.format: unknown format \"jsonn\"; did you mean \"json\"?"),
        ("{ to: \"a\", query: 1 }", "log.access.query: expected true or false, found 1"),
    ]) func saysWhatIsWrongWithALog(_ log: String, _ message: String) {
        guard case .failure(let problems) = read(Examples.full.replacing("\"info\"", with: "\"info\", access: \(log)"))
        else {
            Issue.record("\(log) was accepted")
            return
        }
        #expect(problems.description.contains(message), "\(problems)")
    }

    @Test func shortagesAreToldOnceAndWhenTheyAreOver() {
        var shortages = Shortages()
        var accepting = AcceptFigures()
        #expect(shortages.news(accepting, logProblem: nil).isEmpty)
        accepting.pausesSystem = 3
        accepting.paused = 1
        #expect(shortages.news(accepting, logProblem: nil).map(\.isOver) == [false])
        accepting.pausesSystem = 9
        #expect(shortages.news(accepting, logProblem: nil).isEmpty)
        accepting.paused = 0
        for _ in 1..<Shortages.calmSeconds { #expect(shortages.news(accepting, logProblem: nil).isEmpty) }
        #expect(shortages.news(accepting, logProblem: nil).map(\.isOver) == [true])
        accepting.pausesFull = 1
        let full = shortages.news(accepting, logProblem: "a.log isn't read")
        #expect(full.map(\.isOver) == [false, false] && full[0].text.contains("limits.connections"))
        #expect(shortages.news(accepting, logProblem: "a.log isn't read").isEmpty)
        #expect(shortages.news(accepting, logProblem: nil).map(\.text) == ["lines are written again"])
    }
}
