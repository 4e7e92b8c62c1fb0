// StatusScaling: how many servers a backend should have, in a report.

extension StatusReport {
    /// A backend's `autoscale`: what is configured, what the cluster agreed on, and what this node sees.
    struct Autoscale: Sendable, Equatable {
        var min: Int
        var max: Int
        /// What one server is meant to take, of `unit`: `requests/s` or `sessions`.
        var perServer: Int
        var unit: String
        /// Servers that are up, ready and no backups: what there is now.
        var serving = 0
        /// nil while nothing is decided.
        var desired: Int?
        var reason: String
        var sinceSeconds: Double?
        /// The mean of the window; nil while it isn't full.
        var load: Double?
        /// Why nothing is decided now; nil when nothing stands against it.
        var problem: String?
    }
}

extension StatusReport.Autoscale {
    func write(to writer: inout JSONWriter) {
        writer.object("autoscale") { writer in
            writer.field("min", min)
            writer.field("max", max)
            writer.field("perServer", perServer)
            writer.field("unit", unit)
            writer.field("serving", serving)
            writer.field("desired", desired)
            writer.field("reason", reason)
            writer.field("sinceSeconds", sinceSeconds, decimals: 1)
            writer.field("load", load, decimals: 1)
            writer.field("problem", problem)
        }
    }

    init?(_ json: JSONValue) {
        guard !json.isMissing else { return nil }
        self.init(
            min: Int(clamping: json["min"].count), max: Int(clamping: json["max"].count),
            perServer: Int(clamping: json["perServer"].count), unit: json["unit"].text ?? "",
            serving: Int(clamping: json["serving"].count),
            desired: json["desired"].isMissing ? nil : Int(clamping: json["desired"].count),
            reason: json["reason"].text ?? "",
            sinceSeconds: json["sinceSeconds"].isMissing ? nil : json["sinceSeconds"].number,
            load: json["load"].isMissing ? nil : json["load"].number, problem: json["problem"].text)
    }

    /// For people: `5 servers wanted for 2 min 5 s (2 to 9), 4 serve; 412 requests/s, 100 a server`.
    var text: String {
        let wanted = desired.map { "\($0) server\($0 == 1 ? "" : "s") wanted" } ?? "undecided"
        let span = sinceSeconds.map { " for \(StatusText.span($0))" } ?? ""
        let why = problem.map { "not decided now: \($0)" } ?? reason
        let have = "\(serving) serve\(serving == 1 ? "s" : "")"
        return "\(wanted)\(span) (\(min) to \(max)), \(have)\(why.isEmpty ? "" : "; \(why)")"
    }
}

extension StatusMetrics {
    static func writeScaling(_ report: StatusReport, to writer: inout MetricsWriter) {
        let scaled = report.backends.filter { $0.autoscale != nil }
        writer.family("backend_desired_servers", .gauge, "Servers the cluster wants a backend to have for its load.")
        for backend in scaled {
            if let desired = backend.autoscale?.desired { writer.sample(desired, ["backend": backend.name]) }
        }
        writer.family("backend_serving_servers", .gauge, "With autoscale: servers that are up, ready and no backups.")
        for backend in scaled { writer.sample(backend.autoscale?.serving ?? 0, ["backend": backend.name]) }
        writer.family("backend_scaling_servers_max", .gauge, "With autoscale: servers it may want at most.")
        for backend in scaled { writer.sample(backend.autoscale?.max ?? 0, ["backend": backend.name]) }
        writer.family("backend_scaling_load", .gauge, "What that is decided by: requests a second, or sessions.")
        for backend in scaled {
            if let load = backend.autoscale?.load { writer.sample(load, ["backend": backend.name]) }
        }
        writer.family("backend_scaling_decided", .gauge, "1 while it is decided, 0 while something stands against it.")
        for backend in scaled { writer.sample(backend.autoscale?.problem == nil, ["backend": backend.name]) }
    }
}
