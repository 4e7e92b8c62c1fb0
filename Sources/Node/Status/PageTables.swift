// PageTables: the status page's tables of nodes and servers, and its time line.

enum PageTables {
    // MARK: - Nodes

    static func writeNodes(_ report: StatusReport, to page: inout HTMLWriter) {
        page.raw("<h2>Nodes</h2>")
        let titles = [
            ("node", ""), ("state", ""), ("heard", "n"), ("round trip", "n"), ("gossip lost", "n"),
            ("state index", "n"),
            ("digest", ""), ("version", ""), ("configuration", ""), ("requests/s", "n"), ("clients", "n"),
            ("its figures", "n"),
            ("", "acts"),
        ]
        page.table("Nodes", titles) { page in
            for node in report.nodes { writeNode(node, report, to: &page) }
        }
    }

    private static func writeNode(_ node: StatusReport.Peer, _ report: StatusReport, to page: inout HTMLWriter) {
        let isSelf = node.id == report.node
        page.open("tr", ["id": "node-\(node.id)", "role": "row", "class": node.alive ? "" : "bad"])
        page.element("th", isSelf ? "\(node.id) (this one)" : node.id, ["role": "rowheader", "scope": "row"])
        page.cell("state") { page in
            page.mark(node.alive ? "alive" : "silent", node.alive ? "up" : "down")
            if node.alive, node.role != "follower" { page.mark(node.role, "") }
            if node.draining { page.mark("draining", "odd") }
            if node.gate == false { page.mark("no gate", "odd") }
            for fault in node.unfit { page.mark("unfit: \(fault)", "down") }
        }
        page.cell("heard", isSelf ? "–" : node.lastHeardMs.map { "\($0) ms ago" } ?? "never", "n")
        page.cell("round trip", isSelf ? "–" : node.rttMs.map { JSONWriter.text($0, decimals: 2) + " ms" } ?? "–", "n")
        let loss = node.loss.map { JSONWriter.text(100 * $0, decimals: 1) + " %" } ?? "–"
        page.cell("gossip lost", loss, (node.loss ?? 0) > 0.02 ? "n odd" : "n")
        page.cell("state index", String(node.index), node.alive && node.index != report.state.index ? "n odd" : "n")
        writeDigest(node, report, to: &page)
        // Worth a word only while it is not what all speak.
        let wire = node.wireVersion.flatMap { $0 == report.state.wireVersion ? nil : ", wire \($0)" } ?? ""
        page.cell("version", (node.version ?? "–") + wire, node.version == report.version ? "" : "odd")
        writeConfiguration(node, report, to: &page)
        let word = (node.word?.ageMs ?? .max) > 3000 ? nil : node.word
        page.cell("requests/s", word.map { StatusPage.rate($0.requestsPerSecond) } ?? "–", "n")
        page.cell("clients", word.map { String($0.figures.connections) } ?? "–", "n")
        let age = node.word.map { StatusText.span(Double($0.ageMs) / 1000) + " old" } ?? "none yet"
        page.cell("its figures", age, (node.word?.ageMs ?? .max) > 3000 ? "n bad" : "n")
        page.cell("", "acts") { page in
            guard node.alive, node.id != report.leader else { return }
            page.raw("<span class=\"act\">")
            page.button("Hand over to it", ["data-act": "handover", "data-to": node.id])
            page.raw("</span>")
        }
        page.close("tr")
    }

    private static func writeDigest(_ node: StatusReport.Peer, _ report: StatusReport, to page: inout HTMLWriter) {
        guard let word = node.word, word.figures.stateDigest > 0 else { return page.cell("digest", "–") }
        let digits = String(word.figures.stateDigest, radix: 16)
        let text = String(repeating: "0", count: 16 - digits.count) + digits
        page.cell("digest", "\(text.prefix(8))", node.disagrees ? "bad" : "")
    }

    private static func writeConfiguration(_ node: StatusReport.Peer, _ report: StatusReport, to page: inout HTMLWriter)
    {
        if node.configDigest.isEmpty { return page.cell("configuration", "–") }
        if node.configDigest == report.state.configDigest { return page.cell("configuration", "same") }
        let what = node.configDiffers.isEmpty ? "" : ": \(node.configDiffers.joined(separator: ", "))"
        page.cell("configuration", "differs\(what)", "bad")
    }

    // MARK: - Frontends

    /// Where clients come in, and where their requests go: one row for each route, the last for whatever fits none.
    static func writeFrontends(_ report: StatusReport, to page: inout HTMLWriter) {
        let frontends = report.traffic.frontends
        guard !frontends.isEmpty else { return }
        page.raw("<h2>Frontends</h2>")
        let titles = [("frontend", ""), ("listens at", ""), ("requests for", ""), ("go to", ""), ("clients here", "n")]
        var room = StatusPage.routesMax
        page.table("Frontends", titles) { page in
            for frontend in frontends {
                for route in frontend.routes.prefix(room) {
                    writeRoute(frontend, (route.host ?? "") + (route.path ?? ""), route.backend, to: &page)
                }
                writeRoute(
                    frontend, frontend.routes.isEmpty ? "anything" : "anything else", frontend.backend, to: &page)
                room = max(0, room - frontend.routes.count)
            }
        }
        let rows = frontends.reduce(0) { $0 + $1.routes.count }
        guard rows > StatusPage.routesMax else { return }
        page.element("p", "… and \(rows - StatusPage.routesMax) more routes: see JSON.", ["class": "soft"])
    }

    private static func writeRoute(
        _ frontend: StatusReport.Frontend, _ asked: String, _ backend: String, to page: inout HTMLWriter
    ) {
        page.raw("<tr role=\"row\">")
        page.element("th", frontend.name, ["role": "rowheader", "scope": "row"])
        page.cell("listens at", frontend.address)
        page.cell("requests for", asked)
        page.cell("go to", backend)
        let isFull = frontend.maxConnections > 0 && frontend.connections >= frontend.maxConnections
        page.cell("clients here", isFull ? "n odd" : "n") { page in
            page.text(String(frontend.connections))
            if frontend.maxConnections > 0 { page.element("small", "of \(frontend.maxConnections)") }
        }
        page.close("tr")
    }

    // MARK: - Servers

    static func writeBackend(
        _ backend: StatusReport.Backend, _ report: StatusReport, rows: Int, to page: inout HTMLWriter
    ) {
        page.raw("<h2>Backend ")
        page.text(backend.name)
        let cookie = backend.stickCookie.map { ", cookie \($0)" } ?? ""
        page.element(
            "small", " \(backend.balance)\(cookie), \(backend.servers.count) servers\(Self.rules(backend))")
        if backend.panic { page.mark("panic: verdicts are ignored", "down") }
        page.raw("</h2>")
        if let scaling = backend.autoscale {
            page.element("p", scaling.text, ["class": scaling.problem == nil ? "soft" : "odd"])
        }
        if let waiting = backend.queue.text { page.element("p", waiting, ["class": "odd"]) }
        let titles = [
            ("server", ""), ("verdict", ""), ("seen by", ""), ("state", "acts"), ("weight", ""), ("requests/s", "n"),
            ("last 2 min", ""), ("p50", "n"), ("p99", "n"), ("sessions", "n"), ("requests", "n"), ("errors", "n"),
            ("last check", ""),
        ]
        page.table("Servers of \(backend.name)", titles) { page in
            for server in backend.servers.prefix(rows) { writeServer(server, of: backend.name, to: &page) }
        }
        guard backend.servers.count > rows else { return }
        page.element("p", "… and \(backend.servers.count - rows) more: see JSON.", ["class": "soft"])
    }

    /// What else is configured, as far as it changes who gets requests.
    private static func rules(_ backend: StatusReport.Backend) -> String {
        let slow = backend.slowStartMs.map { ", slow start \(StatusText.span(Double($0) / 1000))" }
        let outlier = backend.outlier.map { ", set aside after \($0.errors) errors in a row" }
        return (slow ?? "") + (outlier ?? "")
    }

    private static func writeServer(_ server: StatusReport.Server, of backend: String, to page: inout HTMLWriter) {
        let disagree = Set(server.views.map(\.health)).count > 1
        let isOdd = server.health != "up" || disagree || server.admin != "ready" || server.isAside
        let kind = server.health == "down" ? "bad" : isOdd ? "odd" : ""
        page.open("tr", ["id": "server-\(backend)/\(server.id)", "role": "row", "class": kind])
        page.open("th", ["role": "rowheader", "scope": "row"])
        page.text(server.id)
        page.raw("<br>")
        page.element("small", server.address, ["class": "soft"])
        page.close("th")
        page.cell("verdict") { page in
            page.mark(server.health, ["up", "down"].contains(server.health) ? server.health : "odd")
            page.element("small", "for \(StatusText.span(server.sinceSeconds))")
            if let share = server.shareText { page.element("small", share, ["class": server.isAside ? "odd" : ""]) }
        }
        page.cell("seen by") { page in
            for view in server.views {
                let sign = view.health == "up" ? "✓" : view.health == "down" ? "✗" : "?"
                page.open(
                    "span",
                    [
                        "class": "mark \(["up", "down"].contains(view.health) ? view.health : "odd")",
                        "title": "\(view.node): \(view.health)", "aria-label": "\(view.node) sees it \(view.health)",
                    ])
                page.text("\(view.node) \(sign)")
                page.close("span")
            }
        }
        writeActions(server, "\(backend)/\(server.id)", to: &page)
        let work = server.work
        page.cell("requests/s", StatusPage.rate(work.requestsPerSecond), "n")
        page.cell("last 2 min", "wide") { $0.spark(work.trace, "Requests per second") }
        page.cell("p50", span(work.p50Seconds), "n")
        page.cell("p99", span(work.p99Seconds), "n")
        let isFull = server.maxConnections > 0 && server.sessions >= server.maxConnections
        page.cell("sessions", isFull ? "n odd" : "n") { page in
            page.text(String(work.sessions))
            if server.maxConnections > 0 {
                page.element("small", "here \(server.sessions) of \(server.maxConnections)")
            }
        }
        page.cell("requests", "n") { page in
            page.text(StatusText.short(work.requests))
            if work.retries > 0 { page.element("small", "\(StatusText.short(work.retries)) retried") }
        }
        page.cell("errors", "n \(work.errorsPerSecond > 0 ? "bad" : work.errors > 0 ? "odd" : "")") { page in
            page.text(StatusText.short(work.errors))
            if work.errorsPerSecond > 0 { page.element("small", "\(StatusPage.rate(work.errorsPerSecond))/s") }
        }
        page.cell("last check", server.reason, "why wide")
        page.close("tr")
    }

    private static func span(_ seconds: Double?) -> String {
        guard let seconds else { return "–" }
        let ms = seconds * 1000
        return JSONWriter.text(ms, decimals: ms < 1 ? 2 : ms < 10 ? 1 : 0) + " ms"
    }

    private static func writeActions(_ server: StatusReport.Server, _ name: String, to page: inout HTMLWriter) {
        page.cell("state", "acts-state") { page in
            if server.admin != "ready" { page.mark(server.admin, "odd") }
            if server.isBackup { page.element("small", "backup") }
            // The script finds it again by its id when a mark comes to stand before it.
            page.open(
                "span", ["id": "act-\(name)", "class": "act", "role": "group", "aria-label": "Admin state of \(name)"])
            for (label, verb) in [("Ready", "ready"), ("Drain", "drain"), ("Maint", "maint")] {
                let isOn = server.admin == verb
                page.button(
                    label, ["data-act": verb, "data-server": name, "aria-pressed": isOn ? "true" : "false"])
            }
            page.close("span")
        }
        page.cell("weight", "n") { page in
            page.raw("<span class=\"act\">")
            page.button(
                "\(server.weight)",
                [
                    "data-act": "weight", "data-server": name, "data-weight": "\(server.weight)",
                    "aria-label": "Weight of \(name): \(server.weight), change",
                ])
            page.raw("</span><noscript>\(server.weight)</noscript>")
        }
    }

    // MARK: - The time line

    /// What several nodes noted alike within a moment is one line.
    struct Moment {
        var event: StatusEvent
        var nodes: [String]
    }

    static func moments(_ report: StatusReport) -> [Moment] {
        var moments: [Moment] = []
        for event in (report.events + report.eventsElsewhere).sorted(by: { $0.atMs > $1.atMs }) {
            let near = moments.suffix(24).lastIndex {
                $0.event.kind == event.kind && $0.event.text == event.text && !$0.nodes.contains(event.node)
                    && $0.event.atMs - event.atMs < 2000
            }
            if let near {
                moments[near].nodes.append(event.node)
                moments[near].event.atMs = event.atMs
            } else {
                moments.append(Moment(event: event, nodes: [event.node]))
            }
        }
        return moments
    }

    static func writeEvents(_ report: StatusReport, to page: inout HTMLWriter) {
        page.raw("<h2>What happened <small>latest first, UTC</small></h2><ol class=\"events\">")
        // The script finds a line again by its id, and several of a kind may share their millisecond.
        var alike: [String: Int] = [:]
        for moment in moments(report).prefix(StatusPage.eventsMax) {
            let event = moment.event
            let id = "event-\(event.atMs)-\(event.kind)-\(moment.nodes[0])"
            let number = alike[id, default: 0]
            alike[id] = number + 1
            page.open("li", ["id": number == 0 ? id : "\(id)-\(number)"])
            page.element("time", StatusText.time(event.atMs), ["datetime": WallTime.text(ms: event.atMs)])
            page.element("b", moment.nodes.sorted().joined(separator: " "))
            page.raw("<span>")
            page.mark(event.kind, tone(event.kind))
            page.raw("</span>")
            page.element("span", event.text)
            page.close("li")
        }
        page.raw("</ol>")
    }

    private static func tone(_ kind: String) -> String {
        switch EventKind(rawValue: kind)?.tone {
        case .bad: "down"
        case .good: "up"
        case .odd: "odd"
        case .plain, nil: ""
        }
    }
}
