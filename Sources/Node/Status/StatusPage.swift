// StatusPage: the page at `/` and `/stats`: one self-contained HTML document, made here as a whole. Without JavaScript it
// loads itself again every two seconds; with it, a stream at `/live` brings a new <main> (see PageScript). Everything
// that comes from a configuration, a server or a peer is escaped, and the browser is told to run no other script.

import Gossip

enum StatusPage {
    /// Rows of servers that a page shows; `/status` has all.
    static let serversMax = 200
    static let eventsMax = 60
    static let routesMax = 100

    /// The header field that lets exactly our script and style in.
    static let policy: String = {
        func hash(_ text: String) -> String { "'sha256-\(Base64.encode(SHA256.digest(Array(text.utf8))))'" }
        return "Content-Security-Policy: default-src 'none'; script-src \(hash(PageScript.text)); "
            + "style-src \(hash(PageStyle.text)); connect-src 'self'; img-src data:; base-uri 'none'; "
            + "form-action 'none'; frame-ancestors 'none'"
    }()

    static func html(_ report: StatusReport) -> [UInt8] {
        var page = HTMLWriter()
        page.raw(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                + "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>"
                + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
                + "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
                + "%3Cpath d='M4 0l4 7H0z' fill='%232458d3'/%3E%3C/svg%3E\">")
        page.element("title", title(report))
        page.raw("<style>\(PageStyle.text)</style></head><body>\n")
        page.raw(
            "<a class=\"skip\" href=\"#servers\">Skip to the servers</a><p id=\"stale\" role=\"alert\" hidden></p>")
        page.raw(main(report))
        page.raw(ask)
        page.raw("<p id=\"done\" role=\"status\"></p>\n<script>\(PageScript.text)</script>\n</body></html>\n")
        return Array(page.html.utf8)
    }

    /// What changes, on one line.
    static func main(_ report: StatusReport) -> String {
        var page = HTMLWriter()
        page.open("main", ["data-title": title(report)])
        writeHead(report, to: &page)
        writeFacts(report, to: &page)
        PageTables.writeNodes(report, to: &page)
        page.raw("<div id=\"servers\" tabindex=\"-1\">")
        var room = serversMax
        for backend in report.backends {
            PageTables.writeBackend(backend, report, rows: room, to: &page)
            room = max(0, room - backend.servers.count)
        }
        page.raw("</div>")
        PageTables.writeFrontends(report, to: &page)
        PageTables.writeEvents(report, to: &page)
        page.raw("<footer>")
        page.text("triad \(report.version), this node up \(StatusText.span(report.uptimeSeconds)); ")
        page.raw("<a href=\"status\">JSON</a>, <a href=\"metrics\">metrics</a>, <a href=\"stats;csv\">CSV</a>")
        page.raw("</footer></main>")
        return page.html
    }

    /// Asked before anything is changed.
    private static let ask = """
        <dialog id="ask" aria-labelledby="ask-title"><form method="dialog"><h2 id="ask-title"></h2><p id="ask-what"></p>
        <label id="ask-weight">Weight, 0 to 256<input name="weight" type="number" min="0" max="256" required></label>
        <label>Admin token<input name="token" type="password" autocomplete="current-password" required></label>
        <p id="ask-problem" role="alert"></p><p class="go"><button value="cancel" formnovalidate>Cancel</button>
        <button name="go" value="go">Do it</button></p></form></dialog>
        """

    private static func title(_ report: StatusReport) -> String {
        let state = report.problems.isEmpty && report.quorum ? "✓" : "⚠"
        return "\(state) \(report.cluster): \(report.leader.map { "\($0) leads" } ?? "no leader")"
    }

    // MARK: - What is to be seen in five seconds

    private static func writeHead(_ report: StatusReport, to page: inout HTMLWriter) {
        page.raw("<header>")
        page.element("h1", report.cluster)
        page.raw("<p class=\"soft\">seen from <b>")
        page.text(report.node)
        page.raw("</b> (")
        page.text(report.role)
        page.raw(")</p></header>")
        let owners = report.vips.map(\.owner)
        let isOwned = owners.allSatisfy { $0 != nil }
        let kind = !report.quorum || report.leader == nil || !isOwned ? "bad" : report.problems.isEmpty ? "" : "odd"
        page.open("p", ["class": "lead \(kind)"])
        page.open("span", ["aria-live": "polite"])
        if let leader = report.leader, report.quorum {
            page.element("strong", leader)
            let owned = report.vips.filter { $0.owner == leader }.map(\.address)
            page.text(owned.isEmpty ? " leads" : " leads and owns \(owned.joined(separator: ", "))")
        } else {
            page.element("strong", report.quorum ? "No leader" : "NO QUORUM")
            page.text(report.quorum ? "" : ": this node isn't in touch with a majority")
        }
        for vip in report.vips where vip.owner == nil || vip.owner != report.leader {
            page.text("; \(vip.owner ?? "nobody") has \(vip.address)")
        }
        page.close("span")
        if let seconds = report.leaderSinceSeconds, report.leader != nil {
            page.element("span", " for \(StatusText.span(seconds))", ["class": "soft"])
        }
        page.close("p")
        guard !report.problems.isEmpty else { return }
        page.raw("<ul class=\"problems\" role=\"alert\">")
        for problem in report.problems { page.element("li", problem) }
        page.raw("</ul>")
    }

    private static func writeFacts(_ report: StatusReport, to page: inout HTMLWriter) {
        page.raw("<dl class=\"facts\">")
        for vip in report.vips {
            fact("VIP \(vip.address)", vip.owner ?? "nobody", bad: vip.owner == nil, to: &page) {
                if let seconds = vip.sinceSeconds { $0.element("small", "for \(StatusText.span(seconds))") }
            }
        }
        if report.forced { fact("FORCED", "owner without a majority", bad: true, to: &page) }
        writeLease(report, to: &page)
        let work = report.work
        fact("requests/s, all nodes", rate(work.requestsPerSecond), to: &page) {
            $0.spark(work.trace, "Requests per second")
        }
        fact("errors/s", rate(work.errorsPerSecond), bad: work.errorsPerSecond > 0, to: &page) {
            $0.element("small", "\(StatusText.short(work.errors)) in all, \(StatusText.short(work.retries)) retries")
        }
        fact("clients", String(work.connections), to: &page) {
            $0.element("small", "\(work.requestsInFlight) requests under way")
        }
        let servers = report.backends.flatMap(\.servers)
        let up = servers.count { $0.health == "up" }
        fact("servers up", "\(up) of \(servers.count)", bad: up < servers.count, to: &page)
        fact("agreed state", String(report.state.index), to: &page) {
            $0.element("small", "digest \(report.state.digest.prefix(8)), term \(report.term)")
        }
        if let fencing = report.fencing { fact("fencing", fencing, to: &page) }
        page.raw("</dl>")
    }

    /// As the leader says it: how close the lease came to its end in the last second.
    private static func writeLease(_ report: StatusReport, to page: inout HTMLWriter) {
        guard let word = report.nodes.first(where: { $0.id == report.leader })?.word, word.figures.leaseLowMs > 0
        else { return }
        let (low, whole) = (word.figures.leaseLowMs, max(report.leaseMs, 1))
        fact("lease", "≥ \(low) ms", bad: low * 4 < UInt64(whole), to: &page) {
            $0.bar(Double(low) / Double(whole), isLow: low * 4 < UInt64(whole))
            $0.element("small", "left of \(whole) ms before each renewal")
        }
    }

    static func rate(_ value: Double) -> String { JSONWriter.text(value, decimals: value < 10 ? 1 : 0) }

    private static func fact(
        _ name: String, _ value: String, bad: Bool = false, to page: inout HTMLWriter,
        _ more: (inout HTMLWriter) -> Void = { _ in }
    ) {
        page.raw("<div>")
        page.element("dt", name)
        page.open("dd", ["class": bad ? "bad" : ""])
        page.text(value)
        more(&page)
        page.raw("</dd></div>")
    }
}
