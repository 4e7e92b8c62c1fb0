// StatusShares: servers that get less than their share for a while, in a report: those that came up a moment ago
// (`slowStart`), and those that fail clients (`outlier`).

import Proxy

extension StatusReport {
    /// A server's slow start, while it lasts.
    struct SlowStart: Sendable, Equatable {
        /// Of its weight, 10 to 100.
        var percent: Int
        /// Until it has the whole.
        var remainingMs: Int

        /// nil when it is over.
        /// - Parameter spanMs: the backend's `slowStart`.
        init?(upSeconds: Double, spanMs: Int) {
            let leftMs = spanMs - Int(min(upSeconds * 1000, Double(spanMs)))
            guard leftMs > 0 else { return nil }
            percent = Int(Proxy.SlowStart.percent(leftMs: UInt64(leftMs), of: UInt64(spanMs)))
            remainingMs = leftMs
        }

        init?(_ json: JSONValue) {
            guard !json.isMissing else { return nil }
            percent = Int(clamping: json["percent"].count)
            remainingMs = Int(clamping: json["remainingMs"].count)
        }

        func write(to writer: inout JSONWriter) {
            writer.object("slowStart") { writer in
                writer.field("percent", percent)
                writer.field("remainingMs", remainingMs)
            }
        }

        /// For people: `at 37 %, whole in 18 s`.
        var text: String { "at \(percent) %, whole in \(StatusText.span(Double(remainingMs) / 1000))" }
    }

    /// When a node sets a server aside.
    struct Outlier: Sendable, Equatable {
        /// In a row.
        var errors: Int
        /// Statuses of 500 and above are errors.
        var statusErrors: Bool

        func write(to writer: inout JSONWriter) {
            writer.object("outlier") { writer in
                writer.field("errors", errors)
                writer.field("statusErrors", statusErrors)
            }
        }

        /// The nodes that set a server aside now, by what they said lately.
        func nodesAside(_ words: [ServerWord]) -> [String] {
            let freshMs = Int(ClusterFigures.freshFor.milliseconds)
            return words.filter { $0.errorsInRow >= errors && $0.ageMs <= freshMs }.map(\.node)
        }
    }
}

extension StatusReport.Server {
    /// It would get requests, and nodes set it aside for its errors.
    var isAside: Bool { health == "up" && admin == "ready" && !(setAsideBy ?? []).isEmpty }

    /// For people: why it gets less than its share now; nil when it gets all of it, or nothing.
    var shareText: String? {
        guard health == "up", admin == "ready" else { return nil }
        if isAside, let setAsideBy { return "set aside by \(setAsideBy.joined(separator: ", "))" }
        return slowStart.map { "slow start: \($0.text)" }
    }
}

extension StatusMetrics {
    static func writeShares(_ report: StatusReport, to writer: inout MetricsWriter) {
        writer.family("server_slow_start_ratio", .gauge, "With slowStart: the part of its weight that it has, 0 to 1.")
        for backend in report.backends where backend.slowStartMs != nil {
            for server in backend.servers {
                let ratio = Double(server.slowStart?.percent ?? 100) / 100
                writer.sample(ratio, ["backend": backend.name, "server": server.id])
            }
        }
        writer.family("server_set_aside", .gauge, "With outlier: 1 while this node sets it aside for its errors.")
        for backend in report.backends where backend.outlier != nil {
            for server in backend.servers {
                let isAside = server.setAsideBy?.contains(report.node) ?? false
                writer.sample(isAside, ["backend": backend.name, "server": server.id])
            }
        }
    }
}
