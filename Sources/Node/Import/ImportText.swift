// ImportText: a draft as the text of triad.json5. What the files didn't tell becomes a placeholder that can't work by
// chance (addresses of RFC 5737 and RFC 2544, which no machine has) with a comment that begins with DECIDE.

import Proxy

struct ImportText {
    private var lines: [String] = []
    private var placeholders = 0
    private let draft: ImportDraft

    /// - Parameter sources: the files it was made from, for the first line.
    static func render(_ draft: ImportDraft, sources: [String]) -> String {
        var text = ImportText(draft: draft)
        text.write(sources)
        return text.lines.joined(separator: "\n")
    }

    private init(draft: ImportDraft) { self.draft = draft }

    private mutating func write(_ sources: [String]) {
        lines = [
            "// Made by `triad import \(sources.joined(separator: " "))`. Look at every DECIDE, then `triad check` it.",
            "{",
            "  cluster: \(Self.quoted(draft.cluster)),",
        ]
        nodes()
        vips()
        if draft.nodes.count > 1 || draft.backends.contains(where: { $0.stickCookie != nil }) {
            lines.append("  gossip: { keyFile: \"gossip.key\" },  // triad keygen > gossip.key")
        }
        status()
        if let hold = draft.preemptHold { lines.append("  leadership: { preemptHold: \"\(hold)s\" },") }
        if let workers = draft.workers { lines.append("  workers: \(workers),") }
        timeouts()
        let limits = [
            draft.connections.map { "connections: \($0)" }, draft.retries.map { "retries: \($0)" },
        ].compactMap { $0 }
        if !limits.isEmpty { lines.append("  limits: { \(limits.joined(separator: ", ")) },") }
        if draft.logsAccess { lines.append("  log: { access: { to: \"stderr\", format: \"haproxy\" } },") }
        frontends()
        lines.append("  backends: [")
        for backend in draft.backends { write(backend) }
        lines += ["  ],", "}"]
    }

    private mutating func nodes() {
        lines.append("  nodes: [")
        for (index, node) in draft.nodes.enumerated() {
            var members = [
                "id: \(Self.quoted(node.id))", "address: \(Self.quoted(node.address ?? "192.0.2.\(11 + index)"))",
            ]
            if let priority = node.priority { members.append("priority: \(priority)") }
            let decide = node.address == nil ? "DECIDE: the address of node \(node.id)" : nil
            lines.append("    { \(members.joined(separator: ", ")) }," + Self.comment(decide, node.comment))
        }
        lines.append("  ],")
    }

    private mutating func vips() {
        if draft.vips.isEmpty {
            lines.append("  // DECIDE: the address that moves, if there is one.")
            lines.append("  // vip: { address: \"10.0.0.100/24\", interface: \"eth0\" },")
            return
        }
        lines.append("  vip: [")
        for vip in draft.vips {
            let decide = vip.interface == nil ? "DECIDE: the interface" : nil
            lines.append(
                "    { address: \(Self.quoted(vip.address)), interface: \(Self.quoted(vip.interface ?? "eth0")) },"
                    + Self.comment(decide))
        }
        lines.append("  ],")
    }

    private mutating func status() {
        var members = ["port: \(draft.status.port ?? 8084)"]
        if let address = draft.status.address { members.append("address: \(Self.quoted(address))") }
        if let user = draft.status.user {
            members += ["user: \(Self.quoted(user))", "passwordFile: \"status.password\""]
        }
        lines.append("  status: { \(members.joined(separator: ", ")) },")
    }

    private mutating func timeouts() {
        let members = ImportDraft.Timeout.allCases.compactMap { timeout in
            draft.timeouts[timeout].map { "\(timeout.rawValue): \(Self.span($0))" }
        }
        if !members.isEmpty { lines.append("  timeouts: { \(members.joined(separator: ", ")) },") }
    }

    private mutating func frontends() {
        lines.append("  frontends: [")
        for frontend in draft.frontends {
            var members = ["name: \(Self.quoted(frontend.name))"]
            if let address = frontend.address { members.append("address: \(Self.quoted(address))") }
            members += [
                "port: \(frontend.port)", "mode: \"\(frontend.isHTTP ? "http" : "tcp")\"",
                "backend: \(Self.quoted(frontend.backend))",
            ]
            if let limit = frontend.maxConnections { members.append("maxConnections: \(limit)") }
            if !frontend.acceptProxy.isEmpty {
                members.append("acceptProxy: [\(frontend.acceptProxy.map(Self.quoted).joined(separator: ", "))]")
            }
            let guess =
                frontend.isBackendGuessed ? "DECIDE: the backend; the first of its use_backend rules stands here" : nil
            let proxies = frontend.acceptProxy.isEmpty ? nil : "DECIDE: the networks of the proxies in front"
            if frontend.routes.isEmpty {
                lines.append("    { \(members.joined(separator: ", ")) }," + Self.comment(guess, proxies))
                continue
            }
            lines += [
                "    {", "      \(members.joined(separator: ", "))," + Self.comment(guess, proxies), "      routes: [",
            ]
            for route in frontend.routes {
                let asked = [
                    route.host.map { "host: \(Self.quoted($0))" }, route.path.map { "path: \(Self.quoted($0))" },
                ].compactMap { $0 }
                lines.append("        { \(asked.joined(separator: ", ")), backend: \(Self.quoted(route.backend)) },")
            }
            lines += ["      ],", "    },"]
        }
        lines.append("  ],")
    }

    private mutating func write(_ backend: ImportDraft.Backend) {
        lines.append("    {")
        lines.append("      name: \(Self.quoted(backend.name)), balance: \"\(backend.balance)\",")
        if let key = backend.hashOn { lines.append("      hashOn: \(Self.quoted(key)),") }
        if let span = backend.slowStart { lines.append("      slowStart: \(Self.span(span)),") }
        if let cookie = backend.stickCookie {
            let name = Self.quoted(cookie.name)
            lines.append("      stickCookie: \(cookie.isSecure ? "{ name: \(name), secure: true }" : name),")
        }
        if let version = backend.sendProxy { lines.append("      sendProxy: \"\(version)\",") }
        lines.append("      check: { \(check(backend.check)) },")
        lines.append("      servers: [")
        for server in backend.servers {
            var members = ["id: \(Self.quoted(server.id))", "address: \(Self.quoted(address(server)))"]
            if let weight = server.weight { members.append("weight: \(weight)") }
            if server.isBackup { members.append("backup: true") }
            if let limit = server.maxConnections { members.append("maxConnections: \(limit)") }
            lines.append("        { \(members.joined(separator: ", ")) }," + Self.comment(server.comment))
        }
        lines += ["      ],", "    },"]
    }

    private func check(_ check: ImportDraft.Check) -> String {
        var members = ["type: \"\(check.http == nil ? "tcp" : "http")\""]
        if let http = check.http {
            members += ["method: \(Self.quoted(http.method))", "path: \(Self.quoted(http.path))"]
            if let host = http.host { members.append("host: \(Self.quoted(host))") }
            let expect = http.expect.count == 1 ? http.expect[0] : "[\(http.expect.joined(separator: ", "))]"
            members.append("expect: \(expect)")
            if let text = http.expectBody { members.append("expectBody: \(Self.quoted(text))") }
        }
        // Without `timeout check` an answer has as long as the interval.
        members += [
            "interval: \(Self.span(check.interval))", "timeout: \(Self.span(check.timeout ?? check.interval))",
            "rise: \(check.rise)", "fall: \(check.fall)",
        ]
        return members.joined(separator: ", ")
    }

    private mutating func address(_ server: ImportDraft.Server) -> String {
        if let address = server.address { return address.description }
        placeholders += 1
        return "198.18.\(placeholders / 250).\(placeholders % 250 + 1):\(server.port ?? 80)"
    }

    // MARK: Values

    private static func comment(_ parts: String?...) -> String {
        let parts = parts.compactMap { $0 }
        return parts.isEmpty ? "" : "  // " + parts.joined(separator: "; ").printable
    }

    static func span(_ milliseconds: Int) -> String { "\"\(Quantity.text(.milliseconds(milliseconds)))\"" }

    /// A JSON5 string.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\" + String(scalar)
            case "\n": result += "\\n"
            case _ where scalar.value < 32 || scalar.value == 127 || scalar.value == 0x2028 || scalar.value == 0x2029:
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
