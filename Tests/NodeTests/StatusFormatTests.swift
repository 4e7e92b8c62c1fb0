// StatusFormatTests: what is made from a report: JSON, metrics, the page, the table, and the reading of it back.

import Testing

@testable import Node

@Suite struct StatusFormatTests {
    // MARK: JSON

    @Test(arguments: [
        ("plain", #""plain""#), ("a \"quote\" and \\", #""a \"quote\" and \\""#),
        ("line\nreturn\rtab\t", #""line\nreturn\rtab\t""#), ("\u{0}\u{1}\u{1f}\u{7f}", #""\u0000\u0001\u001f\u007f""#),
        ("grün 日本 🚀", "\"grün 日本 🚀\""), ("</script>", "\"</script>\""),
    ])
    func stringsAreEscapedAndReadBack(_ text: String, _ expected: String) {
        var writer = JSONWriter()
        writer.array { $0.element(text) }
        #expect(String(decoding: writer.bytes, as: UTF8.self) == "[\(expected)]")
        #expect(JSONValue(JSON5.parse(writer.bytes).value).elements.first?.text == text)
    }

    @Test func commasAndNesting() {
        var writer = JSONWriter()
        writer.object { writer in
            writer.array("empty") { _ in }
            writer.object("inner") { writer in
                writer.field("a", 1)
                writer.field("b", -2)
            }
            writer.array("list") { writer in
                writer.object { _ in }
                writer.element("x")
            }
            writer.field("flag", false)
            writer.null("nothing")
            writer.field("text", nil)
            writer.field("big", UInt64.max)
        }
        let expected =
            #"{"empty":[],"inner":{"a":1,"b":-2},"list":[{},"x"],"flag":false,"nothing":null,"text":null,"#
            + #""big":18446744073709551615}"#
        #expect(String(decoding: writer.bytes, as: UTF8.self) == expected)
    }

    @Test(arguments: [
        (12.3004, 3, "12.3"), (0.0, 3, "0"), (-0.0001, 3, "0"), (-1.5, 1, "-1.5"), (0.05, 1, "0.1"), (1.005, 0, "1"),
        (0.000_001, 6, "0.000001"), (1e15, 3, "1000000000000000"), (1e300, 2, "9200000000000000000"),
        (.infinity, 1, "null"), (.nan, 1, "null"), (99.999, 2, "100"),
    ])
    func numbers(_ number: Double, _ decimals: Int, _ expected: String) {
        #expect(JSONWriter.text(number, decimals: decimals) == expected)
    }

    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_799_999, "2000-02-29T23:59:59.999Z"), (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
        (1_767_225_600_000, "2026-01-01T00:00:00.000Z"), (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ])
    func wallTime(_ ms: Int64, _ text: String) {
        #expect(WallTime.text(ms: ms) == text)
        #expect(WallTime.ms(text) == ms)
    }

    @Test func theReportHasThePromisedNames() throws {
        let root = try #require(JSON5.parse(StatusReport.sample().json()).value)
        func names(_ value: JSONValue) -> [String] { value.members.map(\.key) }
        let promised = [
            "node", "cluster", "version", "uptimeSeconds", "role", "term", "leader", "quorum", "vips",
            "leaseRemainingMs", "state", "nodes", "backends", "events",
        ]
        #expect(Array(names(JSONValue(root)).prefix(promised.count)) == promised)
        #expect(names(root["state"]) == ["index", "digest", "configDigest", "wireVersion"])
        #expect(root["vips"].elements.map(names) == [["address", "interface", "owner", "heldHere"]])
        let node = try #require(root["nodes"].elements.last)
        #expect(
            names(node) == [
                "id", "alive", "lastHeardMs", "rttMs", "role", "index", "configDigest", "configDiffers", "draining",
                "gate", "unfit", "figures", "loss", "disagrees", "version",
                "wireVersion",
            ])
        #expect(root["nodes"].elements[1]["configDiffers"].elements.map(\.text) == ["backends", "limits"])
        #expect(node["lastHeardMs"].isMissing)
        let server = try #require(root["backends"].elements.first?["servers"].elements.first)
        let serverNames = [
            "id", "address", "health", "admin", "weight", "reason", "sinceSeconds", "views", "sessions", "requests",
            "retries", "errors",
        ]
        #expect(Array(names(server).prefix(serverNames.count)) == serverNames)
        #expect(names(server["views"]) == ["n1", "n2"])
        let event = try #require(root["events"].elements.first)
        #expect(names(event) == ["at", "node", "kind", "text"])
        #expect(event["at"].text == "2026-01-01T00:00:00.000Z")
        #expect(root["uptimeSeconds"].number == 12.3)
        #expect(root["leaseRemainingMs"].count == 120)
    }

    @Test func theReportReadsBack() throws {
        let report = StatusReport.sample()
        let read = try #require(StatusReport(json: report.json()))
        #expect(read.nodes == report.nodes)
        #expect(read.vips == report.vips)
        #expect(read.events == report.events)
        #expect(read.state == report.state)
        #expect(read.problems == report.problems)
        #expect(read.forced == report.forced && read.fencing == report.fencing)
        #expect(read.backends.flatMap(\.servers).map(\.views) == report.backends.flatMap(\.servers).map(\.views))
        #expect(read.backends.flatMap(\.servers).map(\.requests) == [1234, 1234])
        // Another version's answer may lack anything but who it is.
        #expect(StatusReport(json: Array(#"{"node":"n1","role":"follower"}"#.utf8))?.nodes == [])
        for other in ["", "[]", "{}", "<html>", #"{"node":1,"role":2}"#] {
            #expect(StatusReport(json: Array(other.utf8)) == nil)
        }
    }

    // MARK: Metrics

    @Test func metricsAreWellFormed() throws {
        var report = StatusReport.sample()
        report.cluster = "we\"b\\\n"
        report.backends[0].servers[0].latency.counts[1] = 3
        report.backends[0].servers[0].latency.counts[16] = 1
        report.backends[0].servers[0].latency.sumUs = 20_000_400
        let text = String(decoding: StatusMetrics.text(report), as: UTF8.self)
        let families = try MetricsReading(text).families
        #expect(families["triad_requests_total"]?.kind == "counter")
        #expect(families["triad_requests_total"]?.samples == ["": "1234"])
        #expect(families["triad_responses_total"]?.samples[#"class="2xx""#] == "1200")
        #expect(families["triad_leader"]?.samples == ["": "1"])
        #expect(families["triad_leader_forced"]?.samples == ["": "1"])
        #expect(families["triad_node_config_agrees"]?.samples[#"peer="n2""#] == "0")
        #expect(families["triad_node_gate"]?.samples == [#"peer="n1""#: "1", #"peer="n2""#: "0"])
        #expect(families["triad_node_draining"]?.samples[#"peer="n2""#] == "1")
        #expect(families["triad_lease_remaining_seconds"]?.samples == ["": "0.12"])
        #expect(families["triad_node_alive"]?.samples[#"peer="n3""#] == "0")
        #expect(families["triad_node_round_trip_seconds"]?.samples[#"peer="n2""#] == "0.0002")
        #expect(families["triad_server_up"]?.samples[#"backend="api",server="api_1""#] == "1")
        #expect(families["triad_server_up"]?.samples[#"backend="api",server="api_2""#] == "0")
        let times = try #require(families["triad_server_response_seconds"])
        #expect(times.kind == "histogram")
        #expect(times.samples[#"_bucketbackend="api",server="api_1",le="0.00025""#] == "3")
        #expect(times.samples[#"_bucketbackend="api",server="api_1",le="10""#] == "3")
        #expect(times.samples[#"_bucketbackend="api",server="api_1",le="+Inf""#] == "4")
        #expect(times.samples[#"_countbackend="api",server="api_1""#] == "4")
        #expect(times.samples[#"_sumbackend="api",server="api_1""#] == "20.0004")
        #expect(families["triad_gossip_dropped_datagrams_total"]?.samples[#"reason="badMAC""#] == "2")
        #expect(text.contains(#"triad_info{cluster="we\"b\\\n",node="n1",version="0.1.0"} 1"#))
        for (name, family) in families {
            #expect(name.hasPrefix("triad_"))
            #expect(name.hasSuffix("_total") == (family.kind == "counter"), "\(name)")
            #expect(!name.contains("_ms") && !name.contains("milli"), "\(name): base units")
        }
    }

    // MARK: The page

    @Test func thePageEscapesWhatOthersWrote() {
        var report = StatusReport.sample()
        let attack = #"<script>alert("x" + 'y' & z)</script>"#
        report.cluster = attack
        report.problems = [attack]
        report.events[0].text = attack
        report.backends[0].servers[0].reason = attack
        report.backends[0].servers[0].views[0].health = "up\" onclick=\"x"
        let html = String(decoding: StatusPage.html(report), as: UTF8.self)
        // Our own script and nobody else's, and the browser is told so.
        #expect(html.components(of: "<script") == 1 && html.contains("<script>\(PageScript.text)</script>"))
        #expect(!html.contains("onclick=\""))
        #expect(StatusPage.policy.contains("default-src 'none'; script-src 'sha256-"))
        #expect(!StatusPage.policy.contains("unsafe"))
        // A line of an event stream must not end where somebody else wants it to.
        report.problems = ["a\n\ndata: <main>"]
        let frame = StatusView.frame(report)
        #expect(frame.count { $0 == 10 } == 3 && !frame.contains(13))
        #expect(html.contains("&lt;script&gt;alert(&quot;x&quot; + &#39;y&#39; &amp; z)&lt;/script&gt;"))
        #expect(html.contains("http-equiv=\"refresh\""))
        #expect(html.contains("prefers-color-scheme:dark"))
        for tag in [
            "table", "tr", "td", "th", "div", "main", "tbody", "thead", "span", "ul", "ol", "li", "dl", "dd", "svg",
            "button", "small",
        ] {
            let opened = html.components(of: "<\(tag)>") + html.components(of: "<\(tag) ")
            #expect(opened == html.components(of: "</\(tag)>"), "\(tag)")
        }
    }

    @Test func whatDiffersIsNamedEverywhere() {
        let report = StatusReport.sample()
        let html = String(decoding: StatusPage.html(report), as: UTF8.self)
        #expect(html.contains("differs: backends, limits") && html.contains(">draining<") && html.contains("FORCED"))
        #expect(html.contains("<dt>fencing</dt><dd>wait</dd>"))
        #expect(html.contains("data-act=\"handover\" data-to=\"n2\"") && !html.contains("data-to=\"n1\""))
        let lines = StatusTable(width: nil).lines(report)
        #expect(
            lines.contains {
                $0.hasPrefix("n2") && $0.contains("draining") && $0.hasSuffix("differs: backends, limits")
            })
        #expect(lines.contains { $0.hasPrefix("VIP") && $0.contains("FORCED") && $0.contains("fencing wait") })
        var calm = report
        calm.forced = false
        calm.nodes[1].configDiffers = []
        #expect(!StatusTable(width: nil).lines(calm).joined().contains("FORCED"))
        #expect(StatusTable(width: nil).lines(calm).contains { $0.hasPrefix("n2") && $0.hasSuffix("differs") })
    }

    @Test func whatAllNodesNotedIsOneMoment() {
        var report = StatusReport.sample()
        func event(_ node: String, _ atMs: Int64, _ text: String = "api/api_1 is down") -> StatusEvent {
            StatusEvent(atMs: atMs, node: node, kind: "server-down", text: text)
        }
        report.events = [event("n1", 1000), event("n1", 9000)]
        report.eventsElsewhere = [event("n2", 1012), event("n3", 990), event("n2", 1500, "another"), event("n3", 9001)]
        let moments = PageTables.moments(report)
        #expect(moments.map(\.nodes) == [["n3", "n1"], ["n2"], ["n2", "n1", "n3"]])
        #expect(moments.map(\.event.atMs) == [9000, 1500, 990])
    }

    @Test func thePageSaysWhereRequestsGo() {
        var report = StatusReport.sample()
        #expect(!String(decoding: StatusPage.html(report), as: UTF8.self).contains("Frontends"))
        let routes = (1...101).map { StatusReport.Route(host: "a.example", path: "/<\($0)>", backend: "static") }
        report.traffic.frontends = [
            .init(name: "web", address: "*:80", backend: "api", routes: routes, connections: 7, maxConnections: 7),
            .init(name: "db", address: "*:5432", backend: "postgres"),
        ]
        let html = String(decoding: StatusPage.html(report), as: UTF8.self)
        #expect(
            html.contains(">a.example/&lt;100&gt;<") && !html.contains("/&lt;101&gt;")
                && html.contains("… and 1 more routes"))
        #expect(html.contains(">anything else<") && html.contains(">anything<") && html.contains(">*:5432<"))
        #expect(html.contains("of 7") && html.contains(">postgres<"))
    }

    @Test func aPageOfManyServersIsCutAndSaysSo() {
        var report = StatusReport.sample()
        report.backends[0].servers = (1...500).map { StatusReport.server("api_\($0)", "up") }
        let html = String(decoding: StatusPage.html(report), as: UTF8.self)
        #expect(html.contains("… and 300 more") && html.contains("api_200") && !html.contains("api_201"))
    }

    // MARK: CSV

    @Test func theColumnsAreThoseOfHaproxy() throws {
        var report = StatusReport.sample()
        report.traffic.frontends = [.init(name: "http", address: "*:80", backend: "api")]
        report.backends[0].servers[0].reason = "a \"b\", c\nd"
        let lines = String(decoding: StatusCSV.text(report), as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 1 + 1 + 2 + 1)
        #expect(lines[0].hasPrefix("# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,"))
        let titles = lines[0].dropFirst(2).split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        func value(_ line: Int, _ column: String) -> String? {
            let cells = lines[line].split(separator: ",", omittingEmptySubsequences: false)
            return titles.firstIndex(of: column).map { String(cells[$0]) }
        }
        #expect(value(1, "svname") == "FRONTEND" && value(1, "hrsp_2xx") == "1200" && value(1, "status") == "OPEN")
        #expect(value(2, "svname") == "api_1" && value(2, "status") == "UP" && value(2, "stot") == "1234")
        #expect(value(3, "status") == "DOWN" && value(3, "type") == "2" && value(3, "lastchg") == "10")
        #expect(value(4, "svname") == "BACKEND" && value(4, "status") == "UP" && value(4, "stot") == "2468")
        #expect(lines[2].contains(",\"a \"\"b\"\", c d\","))
        #expect(lines.allSatisfy { $0.hasSuffix(",") })
    }

    // MARK: The table

    @Test func theTableFitsATerminal() {
        var report = StatusReport.sample()
        report.backends[0].servers = (1...9).map { StatusReport.server("api_\($0)", "up") }
        report.events = (0..<40).map {
            StatusEvent(
                atMs: Int64($0) * 1000, node: "n1", kind: "server-up", text: String(repeating: "long ", count: 30))
        }
        let lines = StatusTable(width: 80, height: 24).lines(report)
        #expect(lines.count == 24)
        #expect(lines.allSatisfy { $0.count <= 80 })
        let text = lines.joined(separator: "\n")
        for wanted in ["n1 leads", "10.0.0.100/32", "n3", "api/api_9", "HTTP 200 in 1 ms", "00:00:39"] {
            #expect(text.contains(wanted))
        }
        // The reason goes before the address.
        #expect(
            !text.contains("10.0.0.21:8080")
                && StatusTable(width: 120).lines(report).contains { $0.contains("10.0.0.21:8080") })
        #expect(!text.contains("\u{1b}"))
        #expect(StatusTable(width: 20, height: 5).lines(report).count == 5)
        #expect(StatusTable(width: 1, height: 1).lines(report).allSatisfy { $0.count <= 1 })
    }

    @Test func whatHasNoRoomIsSaidAndWhatIsWrongComesFirst() throws {
        var report = StatusReport.sample()
        report.backends = [report.backends[0]]
        report.backends[0].servers = (1...40).map { StatusReport.server("api_\($0)", $0 == 33 ? "down" : "up") }
        var table = StatusTable(width: 80, height: 24)
        var lines = table.lines(report, notice: "!! gone")
        #expect(lines.count == 24 && lines[0] == "!! gone")
        #expect(lines.contains { $0.hasPrefix("api/api_33 ") } && lines.contains { $0.hasPrefix("api/api_2 ") })
        let shown = lines.count { $0.hasPrefix("api/") }
        #expect(try #require(lines.last).hasPrefix("… \(40 - shown) more servers (all up and ready)"))
        report.backends[0].servers = (1...40).map { StatusReport.server("api_\($0)", "down") }
        lines = table.lines(report)
        #expect(try #require(lines.last).contains(" not up and ready)"))
        // No room even for the nodes.
        table.height = 5
        lines = table.lines(report)
        #expect(lines.count == 5 && lines[4].hasPrefix("… ") && lines[4].contains("more lines"))
        table.height = nil
        #expect(table.lines(report).count { $0.hasPrefix("api/") } == 40)
    }

    @Test func aPipeGetsEverythingAndATerminalNothingThatSteersIt() {
        var report = StatusReport.sample()
        report.backends[0].servers[0].reason = "\u{1b}[2Jgone\r\u{9b}31m " + String(repeating: "x", count: 200)
        let lines = StatusTable(width: nil).lines(report)
        #expect(lines.contains { $0.hasSuffix("xxx") })
        #expect(!lines.joined().contains("\u{1b}"))
        #expect(!lines.joined().contains("\u{9b}"))
        let coloured = StatusTable(width: nil, usesColour: true).lines(report).joined()
        #expect(coloured.contains("\u{1b}[32m"))
        #expect(!coloured.contains("\u{1b}[2J"))
        // Half of the nodes see it otherwise: said in the column of views.
        report.backends[0].servers[0].views[1].health = "down"
        #expect(StatusTable(width: nil).lines(report).contains { $0.contains(" +- ") })
    }

    @Test func spans() {
        let cases: [(Double, String)] = [
            (0.04, "0 s"), (4.25, "4.3 s"), (12.9, "12 s"), (200, "3 min 20 s"), (18_720, "5 h 12 min"),
            (273_600, "3 d 4 h"), (.nan, "–"),
        ]
        for (seconds, text) in cases { #expect(StatusText.span(seconds) == text) }
    }
}

extension String {
    /// How often `piece` occurs.
    fileprivate func components(of piece: String) -> Int { ranges(of: piece).count }
}

/// A strict reader of Prometheus' text format, as far as it is used here.
private struct MetricsReading {
    struct Family {
        var kind: String
        var samples: [String: String] = [:]
    }

    struct Malformed: Error { let line: String }

    private(set) var families: [String: Family] = [:]

    init(_ text: String) throws {
        guard text.hasSuffix("\n") else { throw Malformed(line: "the end") }
        var current = ""
        var helped = ""
        let sample =
            /([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (NaN|-?[0-9]+(?:\.[0-9]+)?)/
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            let words = line.split(separator: " ", maxSplits: 3)
            if line.hasPrefix("# HELP ") {
                guard words.count == 4, families[String(words[2])] == nil else { throw Malformed(line: String(line)) }
                helped = String(words[2])
            } else if line.hasPrefix("# TYPE ") {
                guard words.count == 4, words[2] == helped, ["counter", "gauge", "histogram"].contains(words[3]) else {
                    throw Malformed(line: String(line))
                }
                current = helped
                families[current] = Family(kind: String(words[3]))
            } else {
                // A histogram's samples have a word more in their name.
                let isHistogram = families[current]?.kind == "histogram"
                guard let match = line.wholeMatch(of: sample), match.1.hasPrefix(current),
                    (isHistogram ? ["_bucket", "_sum", "_count"] : [""]).contains(
                        String(match.1.dropFirst(current.count))),
                    families[current]?.samples.updateValue(
                        String(match.3), forKey: match.1.dropFirst(current.count) + String(match.2 ?? "")) == nil
                else { throw Malformed(line: String(line)) }
            }
        }
    }
}
