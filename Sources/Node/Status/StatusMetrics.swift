// StatusMetrics: a report in Prometheus' text format (version 0.0.4): HELP and TYPE for each family, names with the
// prefix `triad_`, base units, `_total` for counters.

import Proxy

enum StatusMetrics {
    static func text(_ report: StatusReport) -> [UInt8] {
        var writer = MetricsWriter()
        writeNode(report, to: &writer)
        writeMembers(report, to: &writer)
        writeServers(report, to: &writer)
        writeShares(report, to: &writer)
        writeQueues(report, to: &writer)
        writeScaling(report, to: &writer)
        writeTraffic(report.traffic, to: &writer)
        writeElections(report.elections, to: &writer)
        writeGossip(report.gossip, to: &writer)
        writeProcess(report, to: &writer)
        return Array(writer.text.utf8)
    }

    private static func writeNode(_ report: StatusReport, to writer: inout MetricsWriter) {
        writer.family("info", .gauge, "Constant 1, labelled with what runs here.")
        writer.sample(1, ["cluster": report.cluster, "node": report.node, "version": report.version])
        writer.family("uptime_seconds", .gauge, "Time since this process started.")
        writer.sample(report.uptimeSeconds)
        writer.family("ready", .gauge, "1 when there is a quorum and a server is up.")
        writer.sample(report.unready == nil)
        writer.family("quorum", .gauge, "1 when this node is in touch with a majority.")
        writer.sample(report.quorum)
        writer.family("leader", .gauge, "1 on the node that leads.")
        writer.sample(report.role == "leader")
        writer.family(
            "leader_forced", .gauge, "1 while this node owns the VIP by an operator's order, without a majority.")
        writer.sample(report.forced)
        writer.family("term", .gauge, "The election term.")
        writer.sample(report.term)
        writer.family("lease_remaining_seconds", .gauge, "Time left of this node's lease, 0 without one.")
        writer.sample(Double(report.leaseRemainingMs) / 1000)
        writer.family("lease_seconds", .gauge, "The whole lease, as configured.")
        writer.sample(Double(report.leaseMs) / 1000)
        writer.family(
            "lease_low_seconds", .gauge,
            "The least that was left of this node's lease before it was renewed, in the last second; 0 without one.")
        let own = report.nodes.first { $0.id == report.node }?.word
        writer.sample(Double(own?.figures.leaseLowMs ?? 0) / 1000)
        writer.family("problems", .gauge, "Things that are wrong right now, as /status lists them.")
        writer.sample(report.problems.count)
        writer.family("vip_held", .gauge, "1 while the address is on this node's interface.")
        for vip in report.vips { writer.sample(vip.heldHere, ["address": vip.address, "interface": vip.interface]) }
        writer.family("state_index", .gauge, "Index of the last change applied to the agreed state.")
        writer.sample(report.state.index)
        writer.family("wire_version", .gauge, "The wire version of what goes into the log: what every node reads.")
        writer.sample(report.state.wireVersion)
    }

    private static func writeMembers(_ report: StatusReport, to writer: inout MetricsWriter) {
        let nodes = report.nodes
        writer.family("node_alive", .gauge, "1 when this node hears that one.")
        for node in nodes { writer.sample(node.alive, ["peer": node.id]) }
        writer.family("node_last_heard_seconds", .gauge, "Time since this node last heard that one.")
        for node in nodes {
            if let ms = node.lastHeardMs { writer.sample(Double(ms) / 1000, ["peer": node.id]) }
        }
        writer.family("node_round_trip_seconds", .gauge, "Last measured round trip to that node.")
        for node in nodes { if let ms = node.rttMs { writer.sample(ms / 1000, ["peer": node.id]) } }
        writer.family("node_state_index", .gauge, "Index of the agreed state that that node last told.")
        for node in nodes { writer.sample(node.index, ["peer": node.id]) }
        writer.family("node_config_agrees", .gauge, "1 when that node runs the same configuration as this one.")
        for node in nodes { writer.sample(node.configDigest == report.state.configDigest, ["peer": node.id]) }
        writer.family("node_state_disagrees", .gauge, "1 when that node has another state at the same index.")
        for node in nodes { writer.sample(node.disagrees, ["peer": node.id]) }
        writer.family("node_gossip_loss_ratio", .gauge, "Part of that node's gossip that doesn't get here, 0 to 1.")
        for node in nodes { if let loss = node.loss { writer.sample(loss, ["peer": node.id]) } }
        writer.family("node_figures_age_seconds", .gauge, "Age of what that node last said of its work.")
        for node in nodes {
            if let word = node.word { writer.sample(Double(word.ageMs) / 1000, ["peer": node.id]) }
        }
        writer.family("node_gate", .gauge, "1 when the kernel's gate stands before the VIP on that node.")
        for node in nodes { if let gate = node.gate { writer.sample(gate, ["peer": node.id]) } }
        writer.family("node_unfit", .gauge, "1 while something keeps that node from being fit to lead, by what.")
        for node in nodes where node.alive {
            for what in StatusReport.Peer.faults {
                writer.sample(node.unfit.contains(what), ["peer": node.id, "what": what])
            }
        }
        writer.family("node_wire_version", .gauge, "The wire version that that node said it speaks.")
        for node in nodes { if let version = node.wireVersion { writer.sample(version, ["peer": node.id]) } }
        writer.family("node_draining", .gauge, "1 while that node serves connections of a VIP that it gave away.")
        for node in nodes { writer.sample(node.draining, ["peer": node.id]) }
    }

    private static func writeServers(_ report: StatusReport, to writer: inout MetricsWriter) {
        writer.family("backend_servers", .gauge, "Servers of a backend.")
        for backend in report.backends { writer.sample(backend.servers.count, ["backend": backend.name]) }
        writer.family("backend_servers_up", .gauge, "Servers of a backend that are agreed to be up.")
        for backend in report.backends {
            writer.sample(backend.servers.count { $0.health == "up" }, ["backend": backend.name])
        }
        typealias Server = StatusReport.Server
        func each(_ body: (Server, [KeyValuePairs<String, String>.Element]) -> Void) {
            for backend in report.backends {
                for server in backend.servers { body(server, [("backend", backend.name), ("server", server.id)]) }
            }
        }
        writer.family("server_up", .gauge, "1 when the server is agreed to be up.")
        each { writer.sample($0.health == "up", labels: $1) }
        writer.family("server_view_up", .gauge, "1 when that node itself sees the server up.")
        each { server, labels in
            for view in server.views { writer.sample(view.health == "up", labels: labels + [("view", view.node)]) }
        }
        writer.family("server_admin_state", .gauge, "1 for the state an operator put the server in.")
        each { writer.sample(1, labels: $1 + [("state", $0.admin)]) }
        writer.family("server_weight", .gauge, "The server's weight, 0 to 256.")
        each { writer.sample($0.weight, labels: $1) }
        writer.family("server_check_duration_seconds", .gauge, "Duration of this node's last check of the server.")
        each { if let seconds = $0.checkSeconds { writer.sample(seconds, labels: $1) } }
        writer.family("server_sessions", .gauge, "Requests of this node under way at the server.")
        each { writer.sample($0.sessions, labels: $1) }
        writer.family("server_requests_total", .counter, "Requests this node sent to the server.")
        each { writer.sample($0.requests, labels: $1) }
        writer.family("server_retries_total", .counter, "Requests that failed here and were sent to another server.")
        each { writer.sample($0.retries, labels: $1) }
        writer.family("server_errors_total", .counter, "Requests that failed at the server.")
        each { writer.sample($0.errors, labels: $1) }
        writer.family("server_outliers_total", .counter, "Times this node set the server aside for errors in a row.")
        each { writer.sample($0.outliers, labels: $1) }
        writer.family(
            "server_response_seconds", .histogram,
            "Time from this node's choice of the server to the head of its response, connecting included.")
        each { writer.histogram($0.latency, labels: $1) }
    }

    private static func writeTraffic(_ traffic: StatusReport.Traffic, to writer: inout MetricsWriter) {
        writer.family("client_connections", .gauge, "Open client connections.")
        writer.sample(traffic.connections)
        writer.family("client_connections_idle", .gauge, "Open client connections without a request.")
        writer.sample(traffic.idleConnections)
        writer.family("client_connections_accepted_total", .counter, "Client connections accepted.")
        writer.sample(traffic.connectionsAccepted)
        writer.family("requests_in_flight", .gauge, "Client requests under way.")
        writer.sample(traffic.requestsInFlight)
        writer.family("requests_total", .counter, "Client requests.")
        writer.sample(traffic.requests)
        writer.family("responses_total", .counter, "Responses to clients by class.")
        for (index, count) in traffic.responses.enumerated() { writer.sample(count, ["class": "\(index + 1)xx"]) }
        let counters: [(String, UInt64, String)] = [
            ("retries_total", traffic.retries, "Requests sent to another server after one failed."),
            ("retries_denied_total", traffic.retriesDenied, "Retries not made because the budget was used up."),
            ("errors_total", traffic.errors, "Requests that no server could answer."),
            ("refused_requests_total", traffic.refused, "Requests refused as malformed or beyond a limit."),
            ("aborted_requests_total", traffic.aborted, "Requests whose client went away before the response."),
            ("client_received_bytes_total", traffic.bytesReceived, "Bytes from clients."),
            ("client_sent_bytes_total", traffic.bytesSent, "Bytes to clients."),
        ]
        for (name, value, help) in counters {
            writer.family(name, .counter, help)
            writer.sample(value)
        }
        writeProtection(traffic, to: &writer)
    }

    private static func writeProtection(_ traffic: StatusReport.Traffic, to writer: inout MetricsWriter) {
        writer.family("slow_clients_total", .counter, "Clients cut off as too slow, by what they were slow at.")
        writer.sample(traffic.slowHeads, ["at": "head"])
        writer.sample(traffic.slowBodies, ["at": "body"])
        writer.sample(traffic.slowReaders, ["at": "response"])
        writer.family("source_limits_total", .counter, "Refused because the source was at a limit.")
        writer.sample(traffic.sourceConnections, ["limit": "connections"])
        writer.sample(traffic.sourceConnectionRate, ["limit": "connectionRate"])
        writer.sample(traffic.sourceRequestRate, ["limit": "requestRate"])
        writer.family("accept_paused_workers", .gauge, "Workers that accept no connections now.")
        writer.sample(traffic.acceptPaused)
        writer.family("accept_pauses_total", .counter, "Pauses in accepting connections, by what was missing.")
        writer.sample(traffic.acceptPausesSystem, ["reason": "system"])
        writer.sample(traffic.acceptPausesFull, ["reason": "full"])
        writer.family("access_log_lines_total", .counter, "Lines of the access log that were written.")
        writer.sample(traffic.logged)
        writer.family("access_log_dropped_total", .counter, "Lines of the access log that were lost.")
        writer.sample(traffic.logDropped)
    }

    private static func writeElections(_ elections: StatusReport.Elections, to writer: inout MetricsWriter) {
        let counters: [(String, UInt64, String)] = [
            ("campaigns_total", elections.campaigns, "Campaigns this node began."),
            ("elections_won_total", elections.won, "Times this node became leader."),
            ("leader_changes_total", elections.leaderChanges, "Changes of leader this node saw."),
            ("lease_lapses_total", elections.leaseLapses, "Times this node led and its lease ran out."),
            ("handovers_total", elections.handovers, "Planned moves of leadership that this node began."),
            ("vip_acquisitions_total", elections.vipAcquisitions, "Times this node took the VIP."),
            ("vip_losses_total", elections.vipLosses, "Times this node let the VIP go."),
            ("fence_failures_total", elections.fenceFailures, "Failures to change or confirm the VIP."),
        ]
        for (name, value, help) in counters {
            writer.family(name, .counter, help)
            writer.sample(value)
        }
    }

    private static func writeGossip(_ gossip: StatusReport.Gossip, to writer: inout MetricsWriter) {
        let counters: [(String, UInt64, String)] = [
            ("gossip_sent_datagrams_total", gossip.datagramsSent, "Datagrams sent."),
            ("gossip_sent_bytes_total", gossip.bytesSent, "Bytes of datagrams sent."),
            ("gossip_received_datagrams_total", gossip.datagramsReceived, "Datagrams received."),
            ("gossip_received_bytes_total", gossip.bytesReceived, "Bytes of datagrams received."),
            ("gossip_send_errors_total", gossip.sendErrors, "Datagrams the kernel would not send."),
        ]
        for (name, value, help) in counters {
            writer.family(name, .counter, help)
            writer.sample(value)
        }
        writer.family("gossip_dropped_datagrams_total", .counter, "Datagrams refused, by reason.")
        for drop in gossip.drops { writer.sample(drop.count, ["reason": drop.reason]) }
    }

    private static func writeProcess(_ report: StatusReport, to writer: inout MetricsWriter) {
        writer.family("storage_writes_total", .counter, "Durable writes of term, vote and log.")
        writer.sample(report.storage.writes)
        writer.family("storage_failures_total", .counter, "Durable writes that failed.")
        writer.sample(report.storage.failures)
        if let seconds = report.storage.syncSeconds {
            writer.family("storage_sync_seconds", .gauge, "Duration of the last durable write.")
            writer.sample(seconds)
        }
        writer.family("events_total", .counter, "What happened on this node, by kind.")
        for event in report.eventCounts { writer.sample(event.count, ["kind": event.kind.rawValue]) }
        writer.family("log_dropped_total", .counter, "Lines of this node's log that standard error had no room for.")
        writer.sample(report.logLinesDropped)
        writer.family("notify_commands_total", .counter, "Runs of the operator's command, by how they ended.")
        writer.sample(report.commands.done, ["result": "done"])
        writer.sample(report.commands.failed, ["result": "failed"])
        writer.sample(report.commands.killed, ["result": "killed"])
        writer.family(
            "notify_dropped_events_total", .counter, "Events that the command didn't hear of: too many waited.")
        writer.sample(report.commands.dropped)
        writer.family("process_cpu_seconds_total", .counter, "User and system time of all threads.")
        writer.sample(report.process.cpuSeconds)
        writer.family("process_resident_memory_max_bytes", .gauge, "Largest resident set so far.")
        writer.sample(report.process.residentBytesMax)
    }
}

/// Writes the text format line by line.
struct MetricsWriter {
    enum Kind: String { case counter, gauge, histogram }

    private(set) var text = ""
    private var name = ""

    /// Begins a family: its samples follow, in one group as the format demands.
    mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        self.name = "triad_\(name)"
        text += "# HELP \(self.name) \(Self.escape(help, quotes: false))\n# TYPE \(self.name) \(kind.rawValue)\n"
    }

    mutating func sample(_ value: some BinaryInteger, _ labels: KeyValuePairs<String, String> = [:]) {
        line(String(value), Array(labels))
    }

    mutating func sample(_ value: some BinaryInteger, labels: [KeyValuePairs<String, String>.Element]) {
        line(String(value), labels)
    }

    mutating func sample(_ value: Double, _ labels: KeyValuePairs<String, String> = [:]) {
        sample(value, labels: Array(labels))
    }

    mutating func sample(_ value: Double, labels: [KeyValuePairs<String, String>.Element]) {
        line(value.isFinite ? JSONWriter.text(value, decimals: 9) : "NaN", labels)
    }

    mutating func sample(_ flag: Bool, _ labels: KeyValuePairs<String, String> = [:]) {
        line(flag ? "1" : "0", Array(labels))
    }

    mutating func sample(_ flag: Bool, labels: [KeyValuePairs<String, String>.Element]) {
        line(flag ? "1" : "0", labels)
    }

    mutating func histogram(_ figures: LatencyFigures, labels: [KeyValuePairs<String, String>.Element]) {
        var count: UInt64 = 0
        for (index, bucket) in figures.counts.enumerated() {
            count += bucket
            let bounds = LatencyFigures.boundsUs
            let bound = index < bounds.count ? JSONWriter.text(Double(bounds[index]) / 1e6, decimals: 6) : "+Inf"
            line(String(count), labels + [("le", bound)], suffix: "_bucket")
        }
        line(JSONWriter.text(Double(figures.sumUs) / 1e6, decimals: 6), labels, suffix: "_sum")
        line(String(count), labels, suffix: "_count")
    }

    private mutating func line(
        _ value: String, _ labels: [KeyValuePairs<String, String>.Element], suffix: String = ""
    ) {
        text += name + suffix
        if !labels.isEmpty {
            let pairs = labels.map { "\($0.key)=\"\(Self.escape($0.value, quotes: true))\"" }
            text += "{" + pairs.joined(separator: ",") + "}"
        }
        text += " \(value)\n"
    }

    private static func escape(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(character)
            }
        }
        return escaped
    }
}
