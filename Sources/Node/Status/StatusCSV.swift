// StatusCSV: this node's figures in the columns of haproxy's `/stats;csv`, for the checks and exporters that read those.
//
// Columns are found by name or place, so all of them are there, in haproxy's order; those that mean nothing here stay
// empty. As with haproxy the figures are this process's own. RFC 4180 quoting.

enum StatusCSV {
    static let columns = [
        "pxname", "svname", "qcur", "qmax", "scur", "smax", "slim", "stot", "bin", "bout", "dreq", "dresp", "ereq",
        "econ", "eresp", "wretr", "wredis", "status", "weight", "act", "bck", "chkfail", "chkdown", "lastchg",
        "downtime", "qlimit", "pid", "iid", "sid", "throttle", "lbtot", "tracked", "type", "rate", "rate_lim",
        "rate_max", "check_status", "check_code", "check_duration", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx",
        "hrsp_5xx", "hrsp_other", "hanafail", "req_rate", "req_rate_max", "req_tot", "cli_abrt", "srv_abrt",
        "comp_in", "comp_out", "comp_byp", "comp_rsp", "lastsess", "last_chk", "last_agt", "qtime", "ctime", "rtime",
        "ttime",
    ]

    /// What a row is about, in haproxy's numbers.
    private enum Kind: Int { case frontend, backend, server }

    static func text(_ report: StatusReport) -> [UInt8] {
        var text = "# " + columns.joined(separator: ",") + ",\n"
        let frontends = report.traffic.frontends
        for (index, frontend) in frontends.enumerated() {
            // What is counted for all frontends together is that of a frontend only when there is just one.
            var values = frontends.count == 1 ? figures(report) : [:]
            values["scur"] = String(frontend.connections)
            if frontend.maxConnections > 0 { values["slim"] = String(frontend.maxConnections) }
            text += row(.frontend, frontend.name, "FRONTEND", index, values)
        }
        for (index, backend) in report.backends.enumerated() {
            let place = frontends.count + index
            for (number, server) in backend.servers.enumerated() {
                var values = figures(server)
                values["sid"] = String(number + 1)
                text += row(.server, backend.name, server.id, place, values)
            }
            text += row(.backend, backend.name, "BACKEND", place, figures(backend))
        }
        return Array(text.utf8)
    }

    private static func row(
        _ kind: Kind, _ group: String, _ name: String, _ place: Int, _ values: [String: String]
    ) -> String {
        var values = values
        values["pxname"] = group
        values["svname"] = name
        values["pid"] = "1"
        values["iid"] = String(place + 1)
        values["type"] = String(kind.rawValue)
        if kind != .server { values["sid"] = "0" }
        if kind == .frontend { values["status"] = "OPEN" }
        return columns.map { quote(values[$0] ?? "") }.joined(separator: ",") + ",\n"
    }

    private static func figures(_ report: StatusReport) -> [String: String] {
        let traffic = report.traffic
        var values = [
            "scur": String(traffic.connections), "stot": String(traffic.connectionsAccepted),
            "bin": String(traffic.bytesReceived), "bout": String(traffic.bytesSent), "ereq": String(traffic.refused),
            "req_tot": String(traffic.requests), "cli_abrt": String(traffic.aborted),
        ]
        for (index, count) in traffic.responses.enumerated() { values["hrsp_\(index + 1)xx"] = String(count) }
        return values
    }

    private static func figures(_ server: StatusReport.Server) -> [String: String] {
        var values = [
            "scur": String(server.sessions), "stot": String(server.requests), "lbtot": String(server.requests),
            "eresp": String(server.errors), "wretr": String(server.retries), "weight": String(server.weight),
            "status": status(server), "act": server.isBackup ? "0" : "1", "bck": server.isBackup ? "1" : "0",
            "lastchg": String(Int(max(0, min(server.sinceSeconds, 1e9)))), "last_chk": server.reason,
        ]
        if server.maxConnections > 0 { values["slim"] = String(server.maxConnections) }
        if let seconds = server.checkSeconds { values["check_duration"] = JSONWriter.text(seconds * 1000, decimals: 0) }
        return values
    }

    private static func figures(_ backend: StatusReport.Backend) -> [String: String] {
        func sum(_ part: (StatusReport.Server) -> UInt64) -> String { String(backend.servers.map(part).reduce(0, +)) }
        let up = backend.servers.filter { $0.health == "up" && $0.admin == "ready" }
        return [
            "qcur": String(backend.queue.length), "scur": String(backend.servers.map(\.sessions).reduce(0, +)),
            "stot": sum(\.requests),
            "lbtot": sum(\.requests), "eresp": sum(\.errors), "wretr": sum(\.retries),
            "status": up.isEmpty ? "DOWN" : "UP", "act": String(up.count { !$0.isBackup }),
            "bck": String(up.count(where: \.isBackup)),
            "weight": String(up.map(\.weight).reduce(0, +)),
        ]
    }

    private static func status(_ server: StatusReport.Server) -> String {
        switch (server.admin, server.health) {
        case ("maint", _): "MAINT"
        case ("drain", "up"): "DRAIN"
        case (_, "up"): "UP"
        case (_, "down"): "DOWN"
        default: "no check"
        }
    }

    private static func quote(_ text: String) -> String {
        guard text.contains(where: { ",\"\r\n".contains($0) }) else { return text }
        return "\"" + text.replacing("\"", with: "\"\"").replacing("\n", with: " ").replacing("\r", with: " ") + "\""
    }
}
