// ImportDraft: what an import has understood, in the terms of triad.json5, before it is written as text. Whatever the
// files don't tell is nil, and becomes a placeholder with a comment that asks the operator (ImportText.swift).

import Proxy

struct ImportDraft: Sendable, Equatable {
    var cluster = "web"
    var nodes: [Machine] = []
    var vips: [VIP] = []
    /// Seconds.
    var preemptHold: Int?
    var status = Status()
    var workers: Int?
    /// By key of `timeouts`, milliseconds.
    var timeouts: [Timeout: Int] = [:]
    /// `limits.connections`
    var connections: Int?
    /// `limits.retries`
    var retries: Int?
    var logsAccess = false
    var frontends: [Frontend] = []
    var backends: [Backend] = []

    struct Machine: Sendable, Equatable {
        var id: String
        var address: String?
        var priority: Int?
        var comment: String?
    }

    struct VIP: Sendable, Equatable {
        /// With its prefix.
        var address: String
        var interface: String?
    }

    struct Status: Sendable, Equatable {
        var port: Int?
        var address: String?
        var user: String?
    }

    /// In the order in which they are written.
    enum Timeout: String, Sendable, CaseIterable {
        case connect, queue, request, client, server, keepAlive, tunnel, halfClosed

        /// The longest that triad takes.
        static let millisecondsMax = 86_400_000
    }

    struct Frontend: Sendable, Equatable {
        var name: String
        /// nil: every address.
        var address: String?
        var port: Int
        var isHTTP: Bool
        var backend: String
        /// The file doesn't say that `backend` gets everything.
        var isBackendGuessed = false
        var routes: [Route] = []
        var acceptProxy: [String] = []
        var maxConnections: Int?
    }

    struct Route: Sendable, Equatable {
        var host: String?
        var path: String?
        var backend: String
    }

    struct Backend: Sendable, Equatable {
        var name: String
        var balance = "roundrobin"
        /// What `balance: "hash"` looks at.
        var hashOn: String?
        /// Milliseconds.
        var slowStart: Int?
        var check = Check()
        var servers: [Server] = []
        var sendProxy: String?
        var stickCookie: StickCookie?
    }

    struct Check: Sendable, Equatable {
        var http: HTTP?
        /// Milliseconds; haproxy's defaults.
        var interval = 2000
        var timeout: Int?
        var rise = 2
        var fall = 3

        struct HTTP: Sendable, Equatable {
            var method = "OPTIONS"
            var path = "/"
            var host: String?
            /// As elements of `expect`: `200` or `"200-399"`.
            var expect = ["\"200-399\""]
            var expectBody: String?

            /// With what a check can't have replaced: other methods, text in answers without a body.
            var usable: HTTP {
                var usable = self
                let isVisible = { (text: String) in text.utf8.allSatisfy { (33...126).contains($0) } }
                if !["GET", "HEAD", "OPTIONS"].contains(method) || method == "HEAD" && expectBody != nil {
                    usable.method = "GET"
                }
                if !path.hasPrefix("/") || !isVisible(path) { usable.path = "/" }
                if let host, host.isEmpty || !isVisible(host) { usable.host = nil }
                if let expectBody, expectBody.isEmpty || expectBody.utf8.count > 1024 { usable.expectBody = nil }
                return usable
            }
        }
    }

    struct Server: Sendable, Equatable {
        var id: String
        /// nil: what the file says is no address.
        var address: SocketAddress?
        /// The port alone, when only that is known.
        var port: UInt16?
        var weight: Int?
        var isBackup = false
        var maxConnections: Int?
        var comment: String?
    }

    /// `name`, or what of it can be a name here.
    static func name(_ text: String) -> String {
        let kept = String(text.map { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) ? $0 : "-" })
        return kept.isEmpty ? "unnamed" : String(kept.prefix(60))
    }

    /// `name`, or with a number behind it where `taken` has it.
    static func unique(_ text: String, among taken: [String]) -> String {
        let name = name(text)
        if !taken.contains(name) { return name }
        var number = 2
        while taken.contains("\(name)-\(number)") { number += 1 }
        return "\(name)-\(number)"
    }
}
