// StatusURL: where a command finds a node's status port. Pure; names are not looked up, save localhost.

import Proxy

struct StatusURL: Sendable, Equatable {
    /// As given, without user and password: for messages.
    var text: String
    /// Tried in order: localhost is 127.0.0.1, and ::1 where nothing listens there.
    var addresses: [SocketAddress]
    /// For the Host field.
    var authority: String
    /// Put before every path; empty unless the port stands behind something that adds one.
    var prefix: String
    /// Basic credentials, for a node that wants a user and password for reading.
    var authorization: String?

    static let standard = "http://127.0.0.1:8084"
    static let standardPort: UInt16 = 8084

    /// Reads `[http://][USER:PASSWORD@]ADDRESS[:PORT][/PREFIX]`.
    init(_ given: String) throws(UsageProblem) {
        var rest = Substring(given)
        if let end = rest.firstRange(of: "://") {
            guard rest[..<end.lowerBound].lowercased() == "http" else {
                throw UsageProblem("--url \(given): only http:// is spoken here")
            }
            rest = rest[end.upperBound...]
        }
        let host = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var path = rest.dropFirst(host.count).prefix { $0 != "?" && $0 != "#" }
        while path.hasSuffix("/") { path.removeLast() }
        prefix = path.hasSuffix("/status") ? String(path.dropLast("/status".count)) : String(path)
        let parts = host.split(separator: "@", omittingEmptySubsequences: false)
        authority = String(parts.last ?? "")
        if parts.count > 1 {
            authorization = "Basic " + Base64.encode(Array(parts.dropLast().joined(separator: "@").utf8))
        }
        addresses = Self.addresses(authority)
        text = "http://\(authority)\(prefix)"
        let isPlain = prefix.utf8.allSatisfy { $0 > 32 && $0 < 127 }
        guard !addresses.isEmpty, isPlain else {
            throw UsageProblem(
                "--url \(given): http://ADDRESS[:PORT] with an IP address or localhost is needed, as in \(Self.standard)"
            )
        }
    }

    private static func addresses(_ authority: String) -> [SocketAddress] {
        let name = "localhost"
        if authority == name || authority.hasPrefix(name + ":") {
            let port = authority == name ? standardPort : UInt16(authority.dropFirst(name.count + 1)) ?? 0
            guard port > 0 else { return [] }
            return ["127.0.0.1", "::1"].compactMap { SocketAddress(address: $0, port: port) }
        }
        let isBracketed = authority.hasPrefix("[") && authority.hasSuffix("]")
        let bare = isBracketed ? String(authority.dropFirst().dropLast()) : authority
        let address = SocketAddress(address: bare, port: standardPort) ?? SocketAddress(authority)
        // Without brackets nobody can tell ::1 with port 80 from ::1:80.
        if address?.isIPv6 == true, !authority.hasPrefix("[") { return [] }
        return address.map { $0.port > 0 ? [$0] : [] } ?? []
    }
}
