// StatusPage: the page at `/` and `/stats`: one self-contained HTML document without scripts or outside assets, which
// reloads itself. Everything that comes from a configuration, a server or a peer is escaped.

enum StatusPage {
    static func html(_ report: StatusReport) -> [UInt8] {
        var page = Page()
        page.raw(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">"
                + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>")
        page.text("\(report.cluster): \(report.node) (\(report.role))")
        page.raw("</title><style>\(style)</style></head><body>\n")
        writeHead(report, to: &page)
        writeNodes(report, to: &page)
        for backend in report.backends { writeBackend(backend, report, to: &page) }
        writeEvents(report, to: &page)
        page.raw("<footer>triad ")
        page.text("\(report.version), up \(StatusText.span(report.uptimeSeconds))")
        page.raw(
            "; <a href=\"status\">JSON</a>, <a href=\"metrics\">metrics</a>, <a href=\"events\">events</a></footer>\n"
                + "</body></html>\n")
        return Array(page.html.utf8)
    }

    private static func writeHead(_ report: StatusReport, to page: inout Page) {
        page.raw("<header><h1>")
        page.text(report.cluster)
        page.raw("</h1><p>seen from <b>")
        page.text(report.node)
        page.raw("</b></p></header>\n<section class=\"facts\">")
        page.fact("leader", report.leader ?? "none", bad: report.leader == nil)
        page.fact("quorum", report.quorum ? "yes" : "NO", bad: !report.quorum)
        for vip in report.vips {
            page.fact("VIP \(vip.address)", vip.owner ?? "nobody", bad: vip.owner == nil)
        }
        if let fencing = report.fencing { page.fact("fencing", fencing) }
        if report.forced { page.fact("FORCED", "owner without a majority", bad: true) }
        page.fact("term", String(report.term))
        if report.role == "leader", !report.vips.isEmpty { page.fact("lease", "\(report.leaseRemainingMs) ms") }
        page.fact("state", "\(report.state.index) · \(report.state.digest.prefix(8))")
        page.fact("requests", String(report.traffic.requests))
        page.fact("in flight", String(report.traffic.requestsInFlight))
        page.raw("</section>\n")
        guard !report.problems.isEmpty else { return }
        page.raw("<ul class=\"problems\" role=\"alert\">")
        for problem in report.problems {
            page.raw("<li>")
            page.text(problem)
            page.raw("</li>")
        }
        page.raw("</ul>\n")
    }

    private static func writeNodes(_ report: StatusReport, to page: inout Page) {
        page.raw("<h2>Nodes</h2>\n")
        page.table(["node", "state", "role", "heard", "round trip", "index", "configuration"]) { page in
            for node in report.nodes {
                let isSelf = node.id == report.node
                page.row {
                    $0.cell(isSelf ? "\(node.id) (this one)" : node.id, heading: true)
                    let state = !node.alive ? "silent" : node.draining ? "draining" : "alive"
                    $0.cell(state, mark: !node.alive ? "down" : node.draining ? "held" : "up")
                    $0.cell(node.role)
                    $0.cell(isSelf ? "–" : node.lastHeardMs.map { "\($0) ms ago" } ?? "never")
                    $0.cell(node.rttMs.map { JSONWriter.text($0, decimals: 2) + " ms" } ?? "–")
                    $0.cell(String(node.index))
                    let agrees = node.configDigest == report.state.configDigest
                    let known = !node.configDigest.isEmpty
                    let what = node.configDiffers.isEmpty ? "" : ": \(node.configDiffers.joined(separator: ", "))"
                    $0.cell(agrees ? "same" : known ? "differs\(what)" : "–", mark: agrees || !known ? "" : "down")
                }
            }
        }
    }

    private static func writeBackend(
        _ backend: StatusReport.Backend, _ report: StatusReport, to page: inout Page
    ) {
        page.raw("<h2>Backend ")
        page.text("\(backend.name) (\(backend.balance))")
        page.raw("</h2>\n")
        let titles = [
            "server", "address", "health", "since", "admin", "weight", "last check", "views", "sessions", "requests",
            "retries", "errors",
        ]
        page.table(titles) { page in
            for server in backend.servers {
                page.row {
                    $0.cell(server.id, heading: true)
                    $0.cell(server.address)
                    $0.cell(server.health, mark: server.health)
                    $0.cell(StatusText.span(server.sinceSeconds))
                    $0.cell(server.admin, mark: server.admin == "ready" ? "" : "held")
                    $0.cell(String(server.weight))
                    $0.cell(server.reason)
                    $0.views(server.views)
                    $0.cell(String(server.sessions))
                    $0.cell(String(server.requests))
                    $0.cell(String(server.retries))
                    $0.cell(String(server.errors), mark: server.errors > 0 ? "held" : "")
                }
            }
        }
    }

    private static func writeEvents(_ report: StatusReport, to page: inout Page) {
        page.raw("<h2>Events</h2>\n")
        page.table(["time (UTC)", "node", "event", ""]) { page in
            for event in report.events.suffix(30).reversed() {
                page.row {
                    $0.cell(StatusText.time(event.atMs))
                    $0.cell(event.node)
                    $0.cell(event.kind)
                    $0.cell(event.text)
                }
            }
        }
    }

    private static let style = """
        :root{color-scheme:light dark;--line:#8884;--up:#0a7d33;--down:#c62828;--held:#a15c00}
        @media(prefers-color-scheme:dark){:root{--up:#4cc26f;--down:#ff7b72;--held:#e3a948}}
        body{font:14px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:1200px}
        header{display:flex;gap:1rem;align-items:baseline}h1{font-size:1.4rem;margin:0}h2{font-size:1rem;margin:1.4rem 0 .3rem}
        .facts{display:flex;flex-wrap:wrap;gap:.6rem 1.6rem;margin:.6rem 0}.facts div{display:flex;flex-direction:column}
        .facts dt,th{font-weight:600;font-size:.78rem;opacity:.75}.facts dd{margin:0;font-size:1.05rem}
        .scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
        th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
        tbody th{font-size:inherit;opacity:1}.up{color:var(--up)}.down{color:var(--down);font-weight:600}
        .held,.unknown{color:var(--held)}.problems{border:2px solid var(--down);padding:.6rem 2rem;border-radius:.4rem}
        footer{margin-top:1.5rem;opacity:.75;font-size:.85rem}
        """
}

/// An HTML document under way.
private struct Page {
    private(set) var html = ""

    /// Markup of our own.
    mutating func raw(_ markup: String) { html += markup }

    /// Anybody's text.
    mutating func text(_ text: String) {
        for character in text.unicodeScalars {
            switch character {
            case "<": html += "&lt;"
            case ">": html += "&gt;"
            case "&": html += "&amp;"
            case "\"": html += "&quot;"
            case "'": html += "&#39;"
            default: html.unicodeScalars.append(character)
            }
        }
    }

    mutating func fact(_ name: String, _ value: String, bad: Bool = false) {
        raw("<div><dt>")
        text(name)
        raw(bad ? "</dt><dd class=\"down\">" : "</dt><dd>")
        text(value)
        raw("</dd></div>")
    }

    mutating func table(_ titles: [String], _ body: (inout Page) -> Void) {
        raw("<div class=\"scroll\"><table><thead><tr>")
        for title in titles {
            raw("<th scope=\"col\">")
            text(title)
            raw("</th>")
        }
        raw("</tr></thead><tbody>\n")
        body(&self)
        raw("</tbody></table></div>\n")
    }

    mutating func row(_ body: (inout Page) -> Void) {
        raw("<tr>")
        body(&self)
        raw("</tr>\n")
    }

    /// - Parameter mark: one of the style's classes, or empty.
    mutating func cell(_ value: String, heading: Bool = false, mark: String = "") {
        raw(heading ? "<th scope=\"row\">" : mark.isEmpty ? "<td>" : "<td class=\"\(mark)\">")
        text(value)
        raw(heading ? "</th>" : "</td>")
    }

    mutating func views(_ views: [StatusReport.View]) {
        raw("<td>")
        for view in views {
            raw("<span class=\"")
            text(view.health)
            raw("\">")
            text("\(view.node) \(view.health)")
            raw("</span> ")
        }
        raw("</td>")
    }
}
