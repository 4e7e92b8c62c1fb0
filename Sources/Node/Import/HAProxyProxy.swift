// HAProxyProxy: what one `defaults`, `frontend`, `backend` or `listen` says: its directives one by one, as values.
// A section begins as a copy of its defaults.

import Glibc
import Proxy

struct HAProxyProxy: Sendable {
    struct Bind: Sendable {
        /// nil: every address.
        var address: String?
        var port: UInt16
        var acceptsProxy: Bool
        var line: Int
        var text: String
    }

    struct Server: Sendable {
        var name: String
        var address: HAProxyAddress?
        var options: HAProxyServerOptions
        var line: HAProxyLine
    }

    /// A value that triad has once for all frontends and backends; which of several counts is known at the end.
    struct Shared: Sendable {
        enum Key: Hashable, Sendable {
            case timeout(ImportDraft.Timeout)
            case retries
        }

        var key: Key
        var value: Int
        var line: HAProxyLine
    }

    var kind: String
    var name: String
    var line: HAProxyLine
    /// haproxy's default mode.
    var isTCP = true
    var isDisabled = false
    var balance = "roundrobin"
    var hashOn: String?
    var stickCookie: ImportDraft.StickCookie?
    var httpCheck: ImportDraft.Check.HTTP?
    /// Milliseconds.
    var checkTimeout: Int?
    var defaultServer = HAProxyServerOptions()
    var servers: [Server] = []
    var binds: [Bind] = []
    var defaultBackend: String?
    /// `acl` and `use_backend … if`, which are read when all backends are known.
    var acls: [HAProxyLine] = []
    var rules: [HAProxyLine] = []
    var maxConnections: Int?
    var shared: [Shared] = []
    var hasStats = false
    var statsUser: String?
    var logsAccess = false

    /// Whether it only shows haproxy's statistics.
    var isStatsOnly: Bool {
        hasStats && servers.isEmpty && defaultBackend == nil && rules.isEmpty && kind != "backend"
    }

    /// Takes one line; adds at least one note, now or (`shared`, `binds`, `servers`, `acls`, `rules`) when the section is finished.
    mutating func read(_ line: HAProxyLine, _ notes: inout ImportNotes) {
        if line.keyword == "no" {
            if line.words.contains("httplog") || line.words.contains("tcplog") || line.words == ["no", "log"] {
                logsAccess = false
            }
            if line.words.contains("httpchk") { httpCheck = nil }
            notes.add(line.number, line.text, .notNeeded("it is off unless something turns it on"))
            return
        }
        if readRouting(line, &notes) || readBackend(line, &notes) || readShared(line) || readStats(line, &notes) {
            return
        }
        let unknown = "not known here; see whether CONFIGURATION.md has something like it"
        notes.add(line.number, line.text, HAProxyKnown.outcome(line) ?? .notConverted(unknown))
    }

    // MARK: Frontends

    private mutating func readRouting(_ line: HAProxyLine, _ notes: inout ImportNotes) -> Bool {
        let first = line.words.count > 1 ? line.words[1] : ""
        switch line.keyword {
        case "mode":
            isTCP = first == "tcp"
            notes.add(
                line.number, line.text,
                ["tcp", "http"].contains(first)
                    ? .converted("frontends[].mode") : .notConverted("modes are \"http\" and \"tcp\""))
        case "bind":
            bind(first, line, options: line.words.dropFirst(2), &notes)
        case "default_backend":
            defaultBackend = first
            notes.add(line.number, line.text, .converted("frontends[].backend"))
        case "use_backend":
            if line.words.count == 2 {
                defaultBackend = defaultBackend ?? first
                notes.add(line.number, line.text, .converted("frontends[].backend"))
                break
            }
            guard line.words.count > 2 else { return false }
            rules.append(line)
        case "acl": acls.append(line)
        case "disabled":
            isDisabled = true
            notes.add(line.number, line.text, .notConverted("this section is left out, since it is disabled"))
        case "option" where first == "forwardfor":
            let isPlain = line.words.allSatisfy { $0 != "header" && $0 != "except" }
            notes.add(
                line.number, line.text,
                isPlain
                    ? .notNeeded("X-Forwarded-For is always written (frontends[].forwarded)")
                    : .notConverted(
                        "X-Forwarded-For is always written; proxies whose word counts are frontends[].trustedProxies"))
        case "option" where first == "httplog" || first == "tcplog":
            logsAccess = true
            notes.add(line.number, line.text, .converted("log.access, in haproxy's format, to stderr (the journal)"))
        case "log" where line.words == ["log", "global"]:
            notes.add(line.number, line.text, .notNeeded("one log for all frontends: log.access"))
        case "maxconn":
            guard let number = Int(first), (1...1_000_000).contains(number) else { return false }
            maxConnections = number
            notes.add(line.number, line.text, .converted("frontends[].maxConnections"))
        case "errorfile":
            let page = "put what follows the empty line of that file into \(first).html beside triad.json5, and add "
            notes.add(
                line.number, line.text,
                .notConverted(page + "errorPages: { \"\(first)\": \"\(first).html\" } to its frontends"))
        default: return false
        }
        return true
    }

    /// `addresses` is a list with commas.
    mutating func bind(
        _ addresses: String, _ line: HAProxyLine, options: ArraySlice<String>, _ notes: inout ImportNotes
    ) {
        if options.contains("ssl") {
            notes.add(line.number, line.text, .notConverted(HAProxyKnown.tls))
            return
        }
        for text in addresses.split(separator: ",").map(String.init) {
            let host = HAProxyAddress(text)?.host == "localhost" ? "127.0.0.1" : HAProxyAddress(text)?.host
            guard let address = HAProxyAddress(text), let port = address.port, let host,
                host.isEmpty || SocketAddress(address: host, port: port) != nil
            else {
                let remedy = "a frontend has one port and an IP address or none: write frontends for it by hand"
                notes.add(line.number, "bind \(text)", .notConverted(remedy))
                continue
            }
            binds.append(
                Bind(
                    address: host.isEmpty ? nil : SocketAddress(address: host, port: port)?.host, port: port,
                    acceptsProxy: options.contains("accept-proxy"), line: line.number, text: line.text))
        }
        for option in ["interface", "proto", "accept-netscaler-cip"] where options.contains(option) {
            let remedy =
                option == "interface" ? "an address binds a frontend to an interface" : "frontends speak HTTP/1.1"
            notes.add(line.number, "bind … \(option)", .notConverted(remedy))
        }
    }

    // MARK: Backends

    private mutating func readBackend(_ line: HAProxyLine, _ notes: inout ImportNotes) -> Bool {
        switch line.keyword {
        case "balance": readBalance(line, &notes)
        case "server":
            guard line.words.count > 2 else { return false }
            var options = defaultServer
            options.read(line.words.dropFirst(3), line: line, shown: "server \(line.words[1])", &notes)
            servers.append(
                Server(name: line.words[1], address: HAProxyAddress(line.words[2]), options: options, line: line))
        case "default-server":
            notes.add(line.number, line.text, .converted("backends[].servers and backends[].check"))
            defaultServer.read(line.arguments, line: line, shown: "default-server", &notes)
        case "option" where line.words.count > 1 && line.words[1] == "httpchk":
            var check = ImportDraft.Check.HTTP()
            if line.words.count == 3 { check.path = line.words[2] }
            if line.words.count > 3 { (check.method, check.path) = (line.words[2], line.words[3]) }
            // The version may carry the Host field: `HTTP/1.1\r\nHost:\ www`.
            let rest = line.words.dropFirst(4).joined(separator: " ")
            if let field = rest.split(whereSeparator: \.isNewline).first(where: { $0.lowercased().hasPrefix("host:") })
            {
                check.host = String(field.dropFirst(5).trimmed)
            }
            httpCheck = check
            let differs = check.usable == check ? "" : "; the request is \(check.usable.method) \(check.usable.path)"
            notes.add(line.number, line.text, .converted("backends[].check of type \"http\"" + differs))
        case "http-check":
            return readHTTPCheck(line, &notes)
        case "timeout" where line.words.count > 2 && line.words[1] == "check":
            checkTimeout = HAProxyTime.milliseconds(line.words[2])
            notes.add(line.number, line.text, .converted("backends[].check.timeout"))
        case "cookie": readCookie(line, &notes)
        default: return false
        }
        return true
    }

    private mutating func readBalance(_ line: HAProxyLine, _ notes: inout ImportNotes) {
        let algorithm = line.words.count > 1 ? line.words[1] : ""
        (balance, hashOn) = Self.balance(algorithm) ?? ("roundrobin", nil)
        if Self.balance(algorithm) == nil {
            notes.add(
                line.number, line.text,
                .notConverted("\"roundrobin\" is taken; \"hash\" can look at the source, the URI, a header or a cookie")
            )
        } else {
            let key = hashOn.map { ", hashOn: \"\($0)\"" } ?? ""
            notes.add(line.number, line.text, .converted("backends[].balance: \"\(balance)\"\(key)"))
        }
    }

    /// nil: there is nothing like it here.
    private static func balance(_ algorithm: String) -> (balance: String, hashOn: String?)? {
        let parts = algorithm.split(separator: "(", maxSplits: 1)
        let argument = parts.count == 2 && parts[1].hasSuffix(")") ? parts[1].dropLast() : nil
        switch (parts.first ?? "", argument) {
        case ("roundrobin", nil), ("static-rr", nil): return ("roundrobin", nil)
        case ("leastconn", nil), ("first", nil): return (String(parts[0]), nil)
        case ("random", _): return ("random", nil)
        case ("source", nil), ("uri", nil): return ("hash", String(parts[0]))
        case ("hdr", let name?) where !name.isEmpty && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }:
            return ("hash", "header:\(name)")
        default: return nil
        }
    }

    private mutating func readHTTPCheck(_ line: HAProxyLine, _ notes: inout ImportNotes) -> Bool {
        guard line.words.count > 2 else { return false }
        switch line.words[1] {
        case "send":
            var check = httpCheck ?? ImportDraft.Check.HTTP()
            check.method = line.value(of: "meth") ?? check.method
            check.path = line.value(of: "uri") ?? check.path
            if let index = line.words.firstIndex(where: { $0.lowercased() == "host" }), index + 1 < line.words.count {
                check.host = line.words[index + 1]
            }
            httpCheck = check
            notes.add(line.number, line.text, .converted("backends[].check: method, path, host"))
            if line.words.contains("body") {
                notes.add(line.number, "http-check send … body", .notConverted("a check's request has no body"))
            }
        case "expect":
            if let words = Self.expectation(line.words.dropFirst(2)), expect(words) {
                notes.add(line.number, line.text, .converted("backends[].check: expect, expectBody"))
            } else {
                let remedy =
                    "a check passes by statuses (expect: [200, \"300-399\"]) and by text in the body (expectBody)"
                notes.add(line.number, line.text, .notConverted(remedy))
            }
        default: return false
        }
        return true
    }

    /// What is expected, without options before it; nil when it is more than kind and pattern.
    private static func expectation(_ words: ArraySlice<String>) -> (kind: String, pattern: String)? {
        var words = words
        let options: Set<String> = [
            "min-recv", "comment", "ok-status", "error-status", "tout-status", "on-success", "on-error", "status-code",
        ]
        while let first = words.first, options.contains(first) { words = words.dropFirst(2) }
        guard words.count == 2, let kind = words.first, let pattern = words.last else { return nil }
        return (kind, pattern)
    }

    private mutating func expect(_ expected: (kind: String, pattern: String)) -> Bool {
        var check = httpCheck ?? ImportDraft.Check.HTTP()
        switch expected.kind {
        case "status":
            let parts = expected.pattern.split(separator: ",").map(String.init)
            guard let ranges = parts.map({ Self.statusRange($0) }) as? [String], !ranges.isEmpty else { return false }
            check.expect = ranges
        case "rstatus":
            let ranges = HAProxyStatusPattern.ranges(expected.pattern)
            guard (1...32).contains(ranges.count) else { return false }
            check.expect = ranges
        case "string":
            check.expectBody = expected.pattern
            // haproxy then looks at the text alone.
            check.expect = ["\"200-599\""]
        default: return false
        }
        httpCheck = check
        return true
    }

    private static func statusRange(_ text: String) -> String? {
        let ends = text.split(separator: "-").compactMap { Int($0) }
        guard (1...2).contains(ends.count), ends.allSatisfy({ (200...599).contains($0) }) else { return nil }
        return ends.count == 1 ? "\(ends[0])" : "\"\(ends[0])-\(ends[1])\""
    }

    // MARK: Values that triad has once

    private static let timeouts: [String: ImportDraft.Timeout] = [
        "connect": .connect, "client": .client, "server": .server, "http-request": .request,
        "http-keep-alive": .keepAlive, "tunnel": .tunnel, "client-fin": .halfClosed, "server-fin": .halfClosed,
        "queue": .queue,
    ]

    private mutating func readShared(_ line: HAProxyLine) -> Bool {
        let old = ["contimeout": "connect", "clitimeout": "client", "srvtimeout": "server"]
        var key: Shared.Key?
        var value: Int?
        switch line.keyword {
        case "timeout" where line.words.count > 2:
            key = Self.timeouts[line.words[1]].map { .timeout($0) }
            value = HAProxyTime.milliseconds(line.words[2])
        case let keyword where old[keyword] != nil:
            key = old[keyword].flatMap { Self.timeouts[$0] }.map { .timeout($0) }
            value = line.words.count > 1 ? HAProxyTime.milliseconds(line.words[1]) : nil
        case "retries":
            key = .retries
            value = line.words.count > 1 ? Int(line.words[1]) : nil
        default: return false
        }
        guard let key, let value, value >= 0 else { return false }
        shared.removeAll {
            $0.key == key && $0.line.keyword == line.keyword && $0.line.words.dropLast() == line.words.dropLast()
        }
        shared.append(Shared(key: key, value: value, line: line))
        return true
    }

    // MARK: Statistics

    private mutating func readStats(_ line: HAProxyLine, _ notes: inout ImportNotes) -> Bool {
        guard line.keyword == "stats", line.words.count > 1 else { return false }
        hasStats = true
        switch line.words[1] {
        case "uri":
            let path = line.words.count > 2 ? line.words[2] : ""
            notes.add(
                line.number, line.text,
                path == "/stats" || path == "/"
                    ? .converted("the status port has the page at / and /stats")
                    : .notConverted("the status port has the page at / and /stats, and haproxy's columns at /stats;csv")
            )
        case "auth":
            let user = line.words.count > 2 ? line.words[2].split(separator: ":").first.map(String.init) : nil
            guard let user, statsUser == nil || statsUser == user else { return false }
            statsUser = user
            notes.add(
                line.number, "stats auth \(user):…",
                .converted(
                    "status.user and status.passwordFile; the password isn't copied: "
                        + "write one of 8 or more characters into status.password"))
        default: return false
        }
        return true
    }
}

/// The statuses that a pattern of `http-check expect rstatus` matches.
enum HAProxyStatusPattern {
    /// As elements of `expect`; empty when it is no extended regular expression (POSIX) or matches nothing.
    static func ranges(_ pattern: String) -> [String] {
        var expression = regex_t()
        guard regcomp(&expression, pattern, REG_EXTENDED | REG_NOSUB) == 0 else { return [] }
        defer { regfree(&expression) }
        let statuses = (200...599).filter { regexec(&expression, String($0), 0, nil, 0) == 0 }
        var ranges: [ClosedRange<Int>] = []
        for status in statuses {
            if let last = ranges.last, last.upperBound + 1 == status {
                ranges[ranges.count - 1] = last.lowerBound...status
            } else {
                ranges.append(status...status)
            }
        }
        return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\"\($0.lowerBound)-\($0.upperBound)\"" }
    }
}
