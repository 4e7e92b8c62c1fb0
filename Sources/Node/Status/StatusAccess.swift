// StatusAccess: who may read the status port and who may change things through it.
//
// Changes need the bearer token; without one configured they are refused altogether. Reading is free unless a user and
// password are configured, then it needs those (RFC 7617) or the token. `/health` and `/ready` are always free: load
// balancers and container runtimes ask for them, and they say little.

struct StatusAccess: Sendable, Equatable {
    /// What admin requests must carry; nil refuses them all.
    var token: String?
    /// Both or neither.
    var user: String?
    var password: String?

    enum Decision: Equatable, Sendable {
        case allowed
        /// 401, with what to ask for.
        case unauthorized(challenge: String, text: String)
        /// 403.
        case forbidden(String)
    }

    func toRead(_ authorization: String?) -> Decision {
        guard let user, let password else { return .allowed }
        if let given = Self.credentials(authorization, scheme: "basic"),
            Self.equal(given, Base64.encode(Array("\(user):\(password)".utf8)))
        {
            return .allowed
        }
        if isToken(authorization) { return .allowed }
        return .unauthorized(
            challenge: "Basic realm=\"triad\", charset=\"UTF-8\"", text: "a user and password are needed to read this")
    }

    func toChange(_ authorization: String?) -> Decision {
        guard token != nil else {
            return .forbidden(
                "this node has no admin token: set status.tokenFile in its configuration, or TRIAD_TOKEN, and start it"
                    + " again")
        }
        if isToken(authorization) { return .allowed }
        let text =
            authorization == nil
            ? "an admin token is needed: send \"Authorization: Bearer TOKEN\"" : "this isn't the admin token"
        return .unauthorized(challenge: "Bearer realm=\"triad\"", text: text)
    }

    private func isToken(_ authorization: String?) -> Bool {
        guard let token, !token.isEmpty, let given = Self.credentials(authorization, scheme: "bearer") else {
            return false
        }
        return Self.equal(given, token)
    }

    /// What follows the scheme, whose case doesn't matter (RFC 9110, 11.1).
    private static func credentials(_ authorization: String?, scheme: String) -> String? {
        guard let authorization, let space = authorization.firstIndex(of: " "),
            authorization[..<space].lowercased() == scheme
        else { return nil }
        return String(authorization[space...].drop { $0 == " " })
    }

    /// Takes the same time wherever the first difference is; only the length of `given` shows.
    static func equal(_ given: String, _ secret: String) -> Bool {
        let given = Array(given.utf8)
        let secret = Array(secret.utf8)
        guard !secret.isEmpty else { return given.isEmpty }
        var difference = given.count ^ secret.count
        for index in given.indices { difference |= Int(given[index] ^ secret[index % secret.count]) }
        return difference == 0
    }
}
