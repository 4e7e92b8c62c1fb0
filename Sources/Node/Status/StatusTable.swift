// StatusTable: a report as lines of text for a terminal or a pipe. Pure: width, height and colour are told.

struct StatusTable {
    /// Cells beyond are cut; nil: as wide as it gets (a pipe).
    var width: Int?
    /// Lines at most: events give way first, then servers that are well, and a line says so. nil: no limit.
    var height: Int?
    var usesColour = false
    /// Events shown when the height doesn't decide.
    var eventsMax = 10

    /// One piece of a line.
    private struct Cell {
        var text: String
        var mark = Mark.none

        init(_ text: String, _ mark: Mark = .none) {
            self.text = Self.printable(text)
            self.mark = mark
        }

        /// What comes from a server or a peer must not steer the terminal.
        private static func printable(_ text: String) -> String {
            String(
                String.UnicodeScalarView(
                    text.unicodeScalars.map { $0.value < 32 || (127..<160).contains($0.value) ? "?" : $0 }))
        }
    }

    private enum Mark {
        case none, good, bad, odd, faint, strong
    }

    /// - Parameter notice: a line about the report itself, above it.
    func lines(_ report: StatusReport, notice: String? = nil) -> [String] {
        var rows: [[Cell]] = (notice.map { [[Cell($0, .bad)]] } ?? []) + heading(report)
        rows.append([])
        rows += aligned(
            [titles("NODE", "STATE", "ROLE", "HEARD", "RTT", "INDEX", "VERSION", "CONFIG")]
                + report.nodes.map { node($0, report) })
        rows.append([])
        rows += fitting(aligned(servers(report)), report, after: rows.count)
        var events = report.events.suffix(eventsMax).map(event)
        if let height { events = report.events.suffix(max(0, height - rows.count - 1)).map(event) }
        if !events.isEmpty { rows += [[]] + events }
        if let height, rows.count > height {
            let kept = max(1, height) - 1
            rows = rows.prefix(kept) + [[Cell("… \(rows.count - kept) more lines need a taller window", .odd)]]
        }
        return rows.map(line)
    }

    /// The rows of the servers that there is room for: when not for all, first those that something is the matter with.
    private func fitting(_ table: [[Cell]], _ report: StatusReport, after used: Int) -> [[Cell]] {
        guard let height, used + table.count > height, let titles = table.first else { return table }
        let room = max(0, height - used - 2)
        let all = report.backends.flatMap(\.servers)
        let isWell = all.map {
            $0.health == "up" && $0.admin == "ready" && Set($0.views.map(\.health)).count < 2 && !$0.isAside
        }
        let shown = (all.indices.filter { !isWell[$0] } + all.indices.filter { isWell[$0] }).prefix(room)
        let hidden = all.indices.filter { !shown.contains($0) }
        let ill = hidden.count { !isWell[$0] }
        let what = ill == 0 ? "all up and ready" : "\(ill) not up and ready"
        let note = Cell("… \(hidden.count) more servers (\(what)) need a taller window", ill == 0 ? .faint : .bad)
        return [titles] + shown.sorted().map { table[$0 + 1] } + [[note]]
    }

    // MARK: - What is shown

    private func heading(_ report: StatusReport) -> [[Cell]] {
        var first = [Cell(report.cluster, .strong), Cell("seen from \(report.node):")]
        if let leader = report.leader {
            first.append(Cell("\(leader) leads,"))
        } else {
            first.append(Cell("no leader,", .bad))
        }
        first.append(report.quorum ? Cell("quorum,", .good) : Cell("NO QUORUM,", .bad))
        first += [Cell("term \(report.term), state \(report.state.index) \(report.state.digest.prefix(8)),")]
        first += [Cell("up \(StatusText.span(report.uptimeSeconds))"), Cell("(triad \(report.version))", .faint)]
        var rows = [first]
        for vip in report.vips {
            let owner = vip.owner.map { Cell($0, .good) } ?? Cell("nobody", .bad)
            var row = [Cell("VIP \(vip.address) on \(vip.interface):"), owner]
            if vip.heldHere { row.append(Cell("(held here)", vip.owner == report.node ? .none : .odd)) }
            if report.leaseRemainingMs > 0 { row.append(Cell("lease \(report.leaseRemainingMs) ms", .faint)) }
            if report.forced, vip.heldHere { row.append(Cell("FORCED, without a majority", .bad)) }
            if let fencing = report.fencing { row.append(Cell("fencing \(fencing)", .faint)) }
            rows.append(row)
        }
        let traffic = report.traffic
        rows.append([
            Cell("requests \(traffic.requests), in flight \(traffic.requestsInFlight), clients \(traffic.connections)")
        ])
        for backend in report.backends {
            if let scaling = backend.autoscale {
                rows.append([Cell("\(backend.name): \(scaling.text)", scaling.problem == nil ? .none : .odd)])
            }
            if let text = backend.queue.text { rows.append([Cell("\(backend.name): \(text)", .odd)]) }
        }
        return rows + report.problems.map { [Cell("! \($0)", .bad)] }
    }

    private func node(_ node: StatusReport.Peer, _ report: StatusReport) -> [Cell] {
        let isSelf = node.id == report.node
        let agrees = node.configDigest == report.state.configDigest
        let differs = node.configDiffers.isEmpty ? "differs" : "differs: \(node.configDiffers.joined(separator: ", "))"
        return [
            Cell(isSelf ? "\(node.id) *" : node.id),
            !node.alive ? Cell("silent", .bad) : node.draining ? Cell("draining", .odd) : Cell("alive", .good),
            Cell(node.role, node.role == "leader" ? .strong : .none),
            Cell(isSelf ? "-" : node.lastHeardMs.map { "\($0) ms" } ?? "never"),
            Cell(isSelf ? "-" : node.rttMs.map { JSONWriter.text($0, decimals: 2) + " ms" } ?? "-"),
            Cell(String(node.index), node.alive && node.index != report.state.index ? .odd : .none),
            Cell(node.version ?? "-", node.version == report.version ? .none : .odd),
            node.configDigest.isEmpty ? Cell("-") : agrees ? Cell("same") : Cell(differs, .bad),
        ]
    }

    private func servers(_ report: StatusReport) -> [[Cell]] {
        var rows = [
            titles("SERVER", "ADDRESS", "HEALTH", "FOR", "ADMIN", "WT", "VIEWS", "SESS", "REQS", "ERRS", "LAST CHECK")
        ]
        for backend in report.backends {
            for server in backend.servers {
                let mark: Mark = server.health == "up" ? .good : server.health == "down" ? .bad : .odd
                rows.append([
                    Cell("\(backend.name)/\(server.id)"), Cell(server.address), Cell(server.health, mark),
                    Cell(StatusText.shortSpan(server.sinceSeconds)),
                    Cell(
                        server.isBackup ? "\(server.admin), backup" : server.admin,
                        server.admin == "ready" ? .none : .odd), Cell(String(server.weight)),
                    views(server), Cell(String(server.sessions)), Cell(StatusText.short(server.requests)),
                    Cell(StatusText.short(server.errors), server.errors > 0 ? .odd : .none),
                    Cell(lastCheck(server), server.isAside ? .odd : .faint),
                ])
            }
        }
        // On a narrow terminal the reason is worth more than the address, which would leave it no room.
        if let width, width < 100 { for row in rows.indices { rows[row].remove(at: 1) } }
        return rows
    }

    private func lastCheck(_ server: StatusReport.Server) -> String {
        guard let share = server.shareText else { return server.reason }
        return server.isAside ? "\(share); \(server.reason)" : "\(server.reason); \(share)"
    }

    /// A sign per node, `+` up, `-` down, `~` to be drained, `?` unknown, in the order of the nodes.
    private func views(_ server: StatusReport.Server) -> Cell {
        let signs = server.views.map { ["up": "+", "down": "-", "drain": "~"][$0.health] ?? "?" }
        return Cell(signs.joined(), Set(signs).count > 1 ? .odd : .none)
    }

    private func event(_ event: StatusEvent) -> [Cell] {
        [Cell(StatusText.time(event.atMs), .faint), Cell(event.node), Cell(event.kind, .strong), Cell(event.text)]
    }

    private func titles(_ names: String...) -> [Cell] { names.map { Cell($0, .faint) } }

    // MARK: - Laying out

    /// Pads each column to its widest cell, and by one more where there is room.
    private func aligned(_ rows: [[Cell]]) -> [[Cell]] {
        var rows = rows
        let extra = (width ?? .max) >= 100 ? 1 : 0
        for column in rows.first?.indices.dropLast() ?? 0..<0 {
            let widest = rows.map { $0[column].text.count }.max() ?? 0
            for row in rows.indices {
                let missing = widest + extra - rows[row][column].text.count
                rows[row][column].text += String(repeating: " ", count: missing)
            }
        }
        return rows
    }

    private func line(_ cells: [Cell]) -> String {
        var line = ""
        var used = 0
        for (index, cell) in cells.enumerated() {
            let gap = index == 0 ? 0 : 1
            let room = width.map { $0 - used - gap } ?? .max
            guard room > 0 else { break }
            let text = cell.text.count > room ? String(cell.text.prefix(max(0, room - 1))) + "…" : cell.text
            line += String(repeating: " ", count: gap) + coloured(text, cell.mark)
            used += gap + text.count
        }
        // Nobody wants to select trailing blanks; with colour they are inside the codes and harmless.
        while line.hasSuffix(" ") { line.removeLast() }
        return line
    }

    private func coloured(_ text: String, _ mark: Mark) -> String {
        guard usesColour else { return text }
        let code =
            switch mark {
            case .none: ""
            case .good: "32"
            case .bad: "1;31"
            case .odd: "33"
            case .faint: "2"
            case .strong: "1"
            }
        return code.isEmpty ? text : "\u{1b}[\(code)m\(text)\u{1b}[0m"
    }
}
