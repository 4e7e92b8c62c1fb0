// ConfigurationResilienceTests: what a backend does about servers that fail, as the file says it; and panic.

import Gossip
import Testing

@testable import Node
@testable import Proxy

@Suite struct ConfigurationResilienceTests {
    private static let keys =
        "retries: { max: 3, budget: \"10%\", perSecondMin: 5 }, replayBody: \"64KiB\", "
        + "outlier: { errors: 7, statusErrors: true }, panicThreshold: \"50%\","
    private static let full = Examples.full.replacing(
        "backends: [ {\n    name: \"api\"", with: "backends: [ { \(keys) name: \"api\"")

    private func read(_ text: String) -> Result<Configuration, ConfigurationProblems> {
        let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]
        var reader = ConfigurationReader(file: "triad.json5", environment: { environment[$0] })
        return reader.read(Array(text.utf8))
    }

    @Test func theyReachTheDataPlane() throws {
        let settings = try read(Self.full).get().proxySettings(workers: 1).backends[0]
        #expect(settings.retries.max == 3 && settings.retries.budgetPercent == 10 && settings.retries.perSecondMin == 5)
        #expect(settings.outlier == OutlierSettings(errors: 7, countsStatus: true))
        #expect(settings.replayBytesMax == 64 << 10)
        let plain = try read(Examples.full).get().proxySettings(workers: 1).backends[0]
        #expect(plain.retries == RetrySettings() && plain.outlier == nil && plain.replayBytesMax == 0)
        let short = try read(Self.full.replacing("{ errors: 7, statusErrors: true }", with: "{}")).get()
        #expect(short.proxySettings(workers: 1).backends[0].outlier == OutlierSettings(errors: 5))
    }

    @Test(arguments: [
        ("max: 3", "max: 4", "retries"), ("10%", "0%", "retries"), ("perSecondMin: 5", "perSecondMin: 6", "retries"),
        ("64KiB", "32KiB", "replayBody"), ("errors: 7", "errors: 8", "outlier"),
        ("statusErrors: true", "statusErrors: false", "outlier"), ("50%", "51%", "panicThreshold"),
    ])
    func nodesAgreeOnThemAndReloadsNameThem(_ old: String, _ new: String, _ text: String) throws {
        let before = try read(Self.full).get()
        let after = try read(Self.full.replacing(old, with: new)).get()
        #expect(before.changes(to: after) == "backend api: \(text)")
        #expect(before.sectionsDiffering(from: after.sectionDigests) == [.backends])
        // Nothing said isn't 0.
        let without = try read(Self.full.replacing("max: 3,", with: "")).get()
        let none = try read(Self.full.replacing("max: 3", with: "max: 0")).get()
        #expect(without.digest != none.digest)
    }

    @Test(arguments: [
        (
            "10%", "10",
            "backends[0].retries.budget: \"10\" is no share; write a whole percentage from \"0%\" to \"100%\""
        ),
        (
            "\"50%\"", "0.5",
            "backends[0].panicThreshold: 0.5 is no share; write a whole percentage from \"1%\" to \"100%\""
        ),
        (
            "\"50%\"", "\"0%\"",
            "backends[0].panicThreshold: \"0%\" is no share; write a whole percentage from \"1%\" to \"100%\""
        ),
        (
            "max: 3", "max: 8", "backends[0].retries.max: expected a limit: a whole number from 0 to 7, found 8"
        ),
        (
            "errors: 7", "errors: 0",
            "backends[0].outlier.errors: expected errors in a row: a whole number from 1 to 1000, found 0"
        ),
        ("64KiB", "1MiB", "backends[0].replayBody: \"1MiB\" is out of range; from \"0B\" to \"192KiB\""),
        (
            "statusErrors", "statusError",
            "backends[0].outlier.statusError: unknown key; did you mean \"statusErrors\"?"
        ),
    ])
    func mistakesAreNamed(_ old: String, _ new: String, _ text: String) throws {
        guard case .failure(let problems) = read(Self.full.replacing(old, with: new)) else {
            Issue.record("\(new) was accepted")
            return
        }
        #expect(
            problems.all.count == 1 && problems.all.map { "\($0.path): \($0.text)" }[0].hasPrefix(text), "\(problems)")
    }

    // MARK: panic

    private static let four = Self.full.replacing(
        "{ id: \"api_2\"",
        with:
            "{ id: \"api_3\", address: \"10.0.0.23:80\" }, { id: \"api_4\", address: \"10.0.0.24:80\" }, { id: \"api_2\""
    )

    /// Servers 1 to 4 with these verdicts and admin states.
    private func servers(_ states: [(Health, AdminState)], _ text: String = four) throws -> ServerList {
        var table = BackendTable()
        var index: UInt64 = 0
        for (number, state) in states.enumerated() {
            let id = try #require(ServerID("api/api_\(number + 1)"))
            for command in [Command.verdict(id, state.0, reason: "", atMs: 1), .setAdmin(id, state.1)] {
                index += 1
                _ = table.apply(Entry(index: index, term: 1, request: nil, command: command))
            }
        }
        return ServerList(configuration: try read(text).get(), table: table)
    }

    private func usable(_ list: ServerList, outHere: Set<String> = []) -> Set<String> {
        Set(
            list.routes(version: 1) { outHere.contains($0) }.backends[0].servers.filter(\.usable)
                .map { String($0.id.dropFirst(4)) })
    }

    @Test func inAPanicAllReadyServersGetRequests() throws {
        let calm = try servers([(.up, .ready), (.up, .ready), (.down, .ready), (.down, .ready)])
        #expect(calm.panics == [nil] && usable(calm) == ["api_1", "api_2"])
        #expect(usable(calm, outHere: ["api/api_1"]) == ["api_2"])
        let panic = try servers([(.up, .ready), (.down, .ready), (.down, .ready), (.down, .ready)])
        #expect(panic.panics[0]?.text == "1 of 4 ready servers is up, less than 50%")
        #expect(usable(panic, outHere: ["api/api_2"]) == ["api_1", "api_2", "api_3", "api_4"])
        // Who isn't ready, or asks to be drained, counts for nothing and gets nothing.
        let drained = try servers([(.down, .ready), (.down, .ready), (.up, .drain), (.drain, .ready)])
        #expect(drained.panics[0]?.text == "0 of 2 ready servers are up, less than 50%")
        #expect(usable(drained) == ["api_1", "api_2"])
        // A start is no panic, and who was never checked waits.
        let start = try servers([(.down, .ready), (.down, .ready)])
        #expect(start.panics == [nil] && usable(start) == [])
        let late = try servers([(.down, .ready), (.down, .ready), (.down, .ready)])
        #expect(late.panics[0] != nil && usable(late) == ["api_1", "api_2", "api_3"])
        let none = try servers([(.up, .maint), (.up, .drain), (.up, .maint), (.up, .maint)])
        #expect(none.panics == [nil] && usable(none) == [])
        let off = try servers(
            [(.down, .ready), (.down, .ready)], Examples.full)
        #expect(off.panics == [nil] && usable(off) == [])
    }

    @Test func theStatusSaysSo() throws {
        var report = StatusReport.sample()
        report.backends[0].panic = true
        report.backends[0].queue.length = 3
        report.backends[0].queue.longestWaitMs = 1500
        report.backends[0].servers[0].maxConnections = 10
        report.backends[0].servers[0].outliers = 2
        let metrics = String(decoding: StatusMetrics.text(report), as: UTF8.self)
        for line in [
            "triad_backend_panic{backend=\"api\"} 1", "triad_backend_queue_length{backend=\"api\"} 3",
            "triad_backend_queue_wait_seconds{backend=\"api\"} 1.5",
            "triad_server_sessions_max{backend=\"api\",server=\"api_1\"} 10",
            "triad_server_outliers_total{backend=\"api\",server=\"api_1\"} 2",
        ] {
            #expect(metrics.contains(line + "\n"), "\(line)")
        }
        let read = try #require(StatusReport(json: report.json()))
        #expect(read.backends[0].panic && read.backends[0].queue.length == 3)
        let table = StatusTable().lines(read).joined(separator: "\n")
        #expect(table.contains("api: 3 waiting for a place, the first for 1500 ms"))
        let page = String(decoding: StatusPage.html(report), as: UTF8.self)
        #expect(page.contains("panic: verdicts are ignored") && page.contains("0 of 10"))
        #expect(String(decoding: StatusCSV.text(report), as: UTF8.self).contains("api,api_1,,,0,,10,"))
    }
}
