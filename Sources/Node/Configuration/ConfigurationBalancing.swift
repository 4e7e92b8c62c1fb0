// ConfigurationBalancing: how a backend's server is chosen for a request, beyond the name of the method.

import Gossip
import Proxy

extension Configuration {
    enum Balance: String, Sendable, Equatable, CaseIterable { case roundrobin, leastconn, random, hash, first }

    struct Balancing: Sendable, Equatable {
        /// Only for `hash`.
        var hashOn = HashOn.source
        /// How long a server that came up takes to get its whole weight; nil: it has it at once.
        var slowStart: Duration?
    }
}

extension ConfigurationReader {
    /// Of a backend.
    mutating func balancing(_ fields: Fields) -> (balance: Configuration.Balance, rest: Configuration.Balancing) {
        let balance = fields.optional("balance")?.choice(Configuration.Balance.self, "balance", &report)
        var rest = Configuration.Balancing()
        if let place = fields.optional("hashOn") {
            rest.hashOn = hashOn(place) ?? rest.hashOn
            if balance != .hash {
                report.add(place, "means nothing without balance: \"hash\"; add that, or leave hashOn out")
            }
        }
        if let place = fields.optional("slowStart") {
            rest.slowStart = place.duration(.milliseconds(100)...Duration.seconds(3600), &report)
        }
        return (balance ?? .roundrobin, rest)
    }

    private mutating func hashOn(_ place: Placed) -> HashOn? {
        let expected = "\"source\", \"uri\", \"header:NAME\" or \"cookie:NAME\""
        guard let text = place.string("what a request's server is chosen by: \(expected)", &report) else { return nil }
        switch text {
        case "source": return .source
        case "uri": return .uri
        default: break
        }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, ["header", "cookie"].contains(parts[0]) else {
            report.add(place, "\(place.shown) isn't part of a request; write \(expected)")
            return nil
        }
        guard let name = token(parts[1]) else {
            report.add(
                place,
                "\(place.shown) names no \(parts[0] == "header" ? "header" : "cookie"): a name has 1 to "
                    + "\(Configuration.tokenBytesMax) letters, digits or any of !#$%&'*+-.^_`|~")
            return nil
        }
        return parts[0] == "header" ? .header(name) : .cookie(name)
    }

    /// A TCP frontend sees no request and no response, so there is nothing to choose by but the client's address.
    mutating func checkBalancing(_ backend: Configuration.Backend, isTCP: Bool, at place: Placed) {
        guard isTCP else { return }
        if backend.balance == .hash, backend.balancing.hashOn != .source {
            report.add(
                place,
                "the frontend's mode is \"tcp\", and hashOn: \"\(backend.balancing.hashOn)\" of backend "
                    + "\"\(backend.name)\" needs requests to look into; use hashOn: \"source\", or a backend of its own"
            )
        }
        if let cookie = backend.stickCookie {
            report.add(
                place,
                "the frontend's mode is \"tcp\", and stickCookie: \"\(cookie.name)\" of backend \"\(backend.name)\" needs "
                    + "responses to set a cookie in; use balance: \"hash\" in its place, or a backend of its own")
        }
    }
}

extension Configuration {
    static let tokenBytesMax = 64
}

/// A field's or cookie's name (RFC 9110, 5.6.2); nil for something else.
func token(_ text: Substring) -> String? {
    let marks = "!#$%&'*+-.^_`|~".utf8
    let isToken = text.utf8.allSatisfy { byte in
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte & 0xdf) || marks.contains(byte)
    }
    return isToken && (1...Configuration.tokenBytesMax).contains(text.utf8.count) ? String(text) : nil
}

extension Configuration.Balancing {
    /// What nodes must agree on.
    func write(to writer: inout ByteWriter) {
        writer.string(hashOn.description)
        writer.varint(slowStart?.wholeMilliseconds ?? 0)
    }

    /// The keys that changed.
    func differences(_ after: Self) -> [String] {
        [(hashOn != after.hashOn, "hashOn"), (slowStart != after.slowStart, "slowStart")].filter(\.0).map(\.1)
    }

    func apply(to settings: inout BackendSettings) {
        settings.hashOn = hashOn
        settings.slowStartMs = slowStart?.wholeMilliseconds ?? 0
    }
}

extension Configuration.Balance {
    var proxy: Balance {
        switch self {
        case .roundrobin: .roundRobin
        case .leastconn: .leastConnections
        case .random: .random
        case .hash: .hash
        case .first: .first
        }
    }
}
