// HAProxyServer: one `server` or `default-server` line: its options, and what each of them becomes.

import Proxy

/// What `server` and `default-server` may say.
struct HAProxyServerOptions: Sendable, Equatable {
    var weight: Int?
    /// Milliseconds.
    var interval: Int?
    var rise: Int?
    var fall: Int?
    var isChecked = false
    var isDisabled = false
    var isBackup = false
    var maxConnections: Int?
    /// Milliseconds.
    var slowStart: Int?
    var sendProxy: String?

    /// Options that take no value.
    private static let flags: Set<String> = [
        "check", "no-check", "backup", "no-backup", "disabled", "enabled", "non-stick", "stick", "send-proxy",
        "no-send-proxy", "send-proxy-v2", "no-send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn",
        "check-send-proxy", "no-check-send-proxy", "ssl", "no-ssl", "check-ssl", "no-check-ssl", "agent-check",
        "no-agent-check", "allow-0rtt", "tfo", "no-tfo", "no-verifyhost", "tls-tickets", "no-tls-tickets", "no-sslv3",
        "no-tlsv10", "no-tlsv11", "no-tlsv12", "no-tlsv13", "force-sslv3", "force-tlsv10", "force-tlsv11",
        "force-tlsv12", "force-tlsv13", "check-via-socks4", "ssl-reuse", "no-ssl-reuse", "strict-maxconn",
        "renegotiate",
        "no-renegotiate", "check-reuse-pool", "no-check-reuse-pool",
    ]
    private static let tls: Set<String> = [
        "ssl", "check-ssl", "verify", "ca-file", "crt", "sni", "alpn", "npn", "ciphers", "ciphersuites", "crl-file",
        "check-sni", "check-alpn", "verifyhost", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn", "ssl-min-ver",
        "ssl-max-ver",
    ]
    private static let notNeeded: [String: String] = [
        "fastinter": "a server that fails is checked by all nodes at once",
        "downinter": "servers that are down are checked like others",
        "enabled": "it is", "no-check": "every server is checked", "minconn": "limits don't move with load",
        "id": "ids are names",
        "guid": "ids are names", "init-addr": "names aren't looked up", "resolvers": "names aren't looked up",
        "resolve-prefer": "names aren't looked up", "resolve-opts": "names aren't looked up",
        "resolve-net": "names aren't looked up",
        "observe": "a failed connection makes all nodes check at once",
        "on-error": "a failed connection makes all nodes check at once",
        "error-limit": "a failed connection makes all nodes check at once", "pool-max-conn": "pools need no tuning",
        "pool-purge-delay": "pools need no tuning", "pool-low-conn": "pools need no tuning",
        "max-reuse": "pools need no tuning",
        "check-send-proxy": "checks begin with the same PROXY header", "tfo": "the kernel's defaults are used",
        "no-backup": "it isn't",
        "cookie": "the values of a stickCookie come from the servers' ids, and say nothing to clients",
        "tcp-ut": "timeouts.server and timeouts.tunnel end it", "stick": "there are no tables to stick by",
        "non-stick": "there are no tables to stick by",
        "on-marked-up": "sessions stay where they are", "agent-inter": "there are no agents",
        "agent-port": "there are no agents",
        "agent-addr": "there are no agents", "agent-send": "there are no agents",
    ]
    private static let notConverted: [String: String] = [
        "port": "a check goes to the server's own port", "addr": "a check goes to the server's own address",
        "agent-check": "servers ask for a drain in their answer to the check (X-Triad-State: drain)",
        "track": "every backend has its own check", "source": "the kernel chooses the source address",
        "on-marked-down": "sessions of a server that is down end by themselves",
        "proto": "servers speak HTTP/1.1", "redir": "requests aren't redirected",
        "socks4": "servers are connected to directly",
        "maxqueue": "a request waits until timeouts end it", "namespace": "servers are in this network",
    ]

    /// Reads the options in `words`; adds a note for each that doesn't become a key.
    mutating func read(_ words: ArraySlice<String>, line: HAProxyLine, shown: String, _ notes: inout ImportNotes) {
        var rest = words
        while let option = rest.popFirst() {
            let value = Self.flags.contains(option) ? nil : rest.popFirst()
            guard !take(option, value) else { continue }
            let directive = "\(shown) … \(option)" + (value.map { " \($0)" } ?? "")
            if let why = Self.notNeeded[option] {
                notes.add(line.number, directive, .notNeeded(why))
            } else if Self.tls.contains(option) {
                notes.add(line.number, directive, .notConverted("servers are spoken to in clear text"))
            } else {
                let remedy =
                    Self.notConverted[option] ?? "servers have no such key here; see CONFIGURATION.md"
                notes.add(line.number, directive, .notConverted(remedy))
            }
        }
    }

    private mutating func take(_ option: String, _ value: String?) -> Bool {
        switch option {
        case "check": isChecked = true
        case "disabled": isDisabled = true
        case "backup": isBackup = true
        case "send-proxy": sendProxy = "v1"
        case "send-proxy-v2": sendProxy = "v2"
        case "weight":
            guard let number = value.flatMap({ Int($0) }), (0...256).contains(number) else { return false }
            weight = number
        case "maxconn":
            guard let number = value.flatMap({ Int($0) }), (1...1_000_000).contains(number) else { return false }
            maxConnections = number
        case "slowstart":
            guard let span = value.flatMap({ HAProxyTime.milliseconds($0) }), (1...3_600_000).contains(span) else {
                return false
            }
            slowStart = max(span, 100)
        case "inter":
            guard let span = value.flatMap({ HAProxyTime.milliseconds($0) }) else { return false }
            interval = span
        case "rise":
            guard let count = value.flatMap({ Int($0) }) else { return false }
            rise = min(max(count, 1), 100)
        case "fall":
            guard let count = value.flatMap({ Int($0) }) else { return false }
            fall = min(max(count, 1), 100)
        default: return false
        }
        return true
    }
}

/// haproxy's times: milliseconds unless a unit stands behind the number (2.5, "Time format").
enum HAProxyTime {
    static func milliseconds(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int(digits), number < 1_000_000_000 else { return nil }
        switch text[digits.endIndex...] {
        case "us": return (number + 999) / 1000
        case "", "ms": return number
        case "s": return number * 1000
        case "m": return number * 60_000
        case "h": return number * 3_600_000
        case "d": return number * 86_400_000
        default: return nil
        }
    }
}

/// haproxy's addresses: `10.0.0.1:80`, `*:80`, `:80`, `[::1]:80`, `:::80`, `ipv4@10.0.0.1:80`, `web:80`.
struct HAProxyAddress: Sendable, Equatable {
    /// Empty for every address; else an IP address or a name.
    var host: String
    var port: UInt16?

    /// nil for what is no TCP address: Unix sockets, descriptors, ranges of ports.
    init?(_ text: String) {
        var text = text[...]
        for family in ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"] where text.hasPrefix(family) {
            text = text.dropFirst(family.count)
        }
        if text.contains("@") || text.contains("/") { return nil }
        var hostPart = text
        if let colon = text.lastIndex(of: ":"), !text.hasSuffix("]") {
            let portPart = text[text.index(after: colon)...]
            hostPart = text[..<colon]
            if portPart.isEmpty || portPart.contains("$") {
                port = nil
            } else if portPart.first?.isNumber == true, let number = UInt16(portPart), number > 0 {
                port = number
            } else {
                return nil
            }
        }
        if hostPart.hasPrefix("["), hostPart.hasSuffix("]") { hostPart = hostPart.dropFirst().dropLast() }
        host = ["*", "::", "0.0.0.0"].contains(String(hostPart)) ? "" : String(hostPart)
    }

    /// The address when the host is one.
    func socketAddress(defaultPort: UInt16? = nil) -> SocketAddress? {
        guard let port = port ?? defaultPort else { return nil }
        return SocketAddress(address: host, port: port)
    }
}
