// StatusSharesTests: servers that get less than their share for a while, in status, page, table and metrics.

import Proxy
import Testing

@testable import Node

@Suite struct StatusSharesTests {
    @Test(arguments: [(0.0, 10, 30_000), (15, 55, 15_000), (29.6, 99, 400)])
    func theShareGrows(upSeconds: Double, percent: Int, remainingMs: Int) throws {
        let slow = try #require(StatusReport.SlowStart(upSeconds: upSeconds, spanMs: 30_000))
        #expect(slow.percent == percent && abs(slow.remainingMs - remainingMs) <= 1)
    }

    @Test func andThenItIsWhole() {
        #expect(StatusReport.SlowStart(upSeconds: 30, spanMs: 30_000) == nil)
        #expect(StatusReport.SlowStart(upSeconds: 1e12, spanMs: 30_000) == nil)
    }

    @Test func whoSetsAServerAside() {
        func word(_ node: String, _ errors: Int, ageMs: Int = 100) -> StatusReport.ServerWord {
            .init(
                node: node, ageMs: ageMs, sessions: 0, requests: 0, retries: 0, errors: 0, errorsInRow: errors,
                requestsPerSecond: 0)
        }
        let rule = StatusReport.Outlier(errors: 5, statusErrors: false)
        #expect(rule.nodesAside([word("n1", 5), word("n2", 4), word("n3", 9, ageMs: 5000)]) == ["n1"])
    }

    @Test func everybodyIsToldOfErrorsInARow() {
        var figures = ServerFigures()
        figures.errorsInRow = 7
        figures.requests = 3
        #expect(ServerFigures(FigureRow(server: "api/a", figures)) == figures)
    }

    private var report: StatusReport {
        var report = StatusReport.sample()
        report.backends[0].slowStartMs = 30_000
        report.backends[0].outlier = StatusReport.Outlier(errors: 5, statusErrors: true)
        report.backends[0].servers = (1...3).map { StatusReport.server("api_\($0)", "up") }
        for index in 0..<3 { report.backends[0].servers[index].setAsideBy = [] }
        report.backends[0].servers[1].slowStart = StatusReport.SlowStart(upSeconds: 12, spanMs: 30_000)
        report.backends[0].servers[2].setAsideBy = ["n1", "n3"]
        return report
    }

    @Test func theStatusTells() throws {
        let json = JSONValue(JSON5.parse(report.json()).value)["backends"].elements[0]
        #expect(json["slowStartMs"].count == 30_000 && json["outlier"]["errors"].count == 5)
        let servers = json["servers"].elements
        #expect(servers[0]["slowStart"].isMissing && servers[0]["setAsideBy"].elements.isEmpty)
        #expect(
            servers[1]["slowStart"]["percent"].count == 46 && servers[1]["slowStart"]["remainingMs"].count == 18_000)
        #expect(servers[2]["setAsideBy"].elements.map(\.text) == ["n1", "n3"])
        let read = try #require(StatusReport(json: report.json())).backends[0]
        #expect(read.servers.map(\.slowStart) == report.backends[0].servers.map(\.slowStart))
        #expect(read.servers.map(\.setAsideBy) == report.backends[0].servers.map(\.setAsideBy))
    }

    @Test func pageAndTableSayWhyItGetsLess() {
        let html = StatusPage.main(report)
        #expect(html.contains("slow start: at 46 %, whole in 18 s") && html.contains("set aside by n1, n3"))
        #expect(html.contains("slow start 30 s, set aside after 5 errors in a row"))
        let lines = StatusTable(width: 200).lines(report)
        #expect(lines.contains { $0.hasPrefix("api/api_3") && $0.contains("set aside by n1, n3; HTTP 200 in 1 ms") })
        // What gets nothing at all has other worries.
        var down = report
        down.backends[0].servers[2].health = "down"
        #expect(!StatusPage.main(down).contains("set aside by"))
    }

    @Test func metricsTellOfThisNodeAndOnlyWhatIsConfigured() {
        let metrics = String(decoding: StatusMetrics.text(report), as: UTF8.self)
        #expect(metrics.contains("triad_server_slow_start_ratio{backend=\"api\",server=\"api_2\"} 0.46\n"))
        #expect(metrics.contains("triad_server_slow_start_ratio{backend=\"api\",server=\"api_1\"} 1\n"))
        #expect(metrics.contains("triad_server_set_aside{backend=\"api\",server=\"api_3\"} 1\n"))
        let plain = String(decoding: StatusMetrics.text(.sample()), as: UTF8.self)
        #expect(!plain.contains("slow_start_ratio{") && !plain.contains("set_aside{"))
    }
}
