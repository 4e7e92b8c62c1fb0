// ConfigurationSticking: the cookie that keeps a client with its server (`backends[].stickCookie`).

import Gossip
import Proxy

extension Configuration {
    struct StickCookie: Sendable, Equatable {
        var name: String
        /// Browsers send it over TLS only.
        var isSecure = false

        func write(to writer: inout ByteWriter) {
            // Its own name first: nothing else that a backend may write or leave out looks like it.
            writer.string("stickCookie")
            writer.string(name)
            writer.flag(isSecure)
        }
    }

    /// What cookies are made and read with: from the gossip keys, so that all nodes have the same, and a change of the key
    /// goes its three rounds without a cookie that some node can't read.
    var stickKeys: [StickKey] {
        gossip.keys.map { StickKey(secret: HMAC(key: $0).tag(Array("triad stickCookie 1".utf8))) }
    }
}

extension ConfigurationReader {
    /// - Parameters:
    ///   - hasKey: there is a gossip key, or it has been reported that there is none.
    ///   - hashOn: of the same backend.
    mutating func stickCookie(_ place: Placed?, hasKey: Bool, hashOn: HashOn) -> Configuration.StickCookie? {
        guard let place else { return nil }
        var (namePlace, isSecure) = (place, false)
        if case .object = place.value.content {
            guard let fields = Fields(place, .stickCookie, &report),
                let name = fields.required("name", "the cookie's name: name: \"server\"", &report)
            else { return nil }
            namePlace = name
            isSecure = fields.optional("secure")?.flag(&report) ?? false
        }
        let expected = "a cookie's name, such as \"server\", or { name: \"server\", secure: true }"
        guard let text = namePlace.string(expected, &report) else { return nil }
        guard let name = token(Substring(text)) else {
            report.add(
                namePlace,
                "\(namePlace.shown) can't name a cookie: use 1 to \(Configuration.tokenBytesMax) letters, digits or any of "
                    + "!#$%&'*+-.^_`|~")
            return nil
        }
        let isPrefixed = ["__secure-", "__host-"].contains { name.lowercased().hasPrefix($0) }
        if isPrefixed, !isSecure {
            report.add(
                namePlace,
                "browsers refuse a cookie of this name without Secure; write { name: \"\(name)\", secure: true }, or "
                    + "another name")
        }
        if hashOn == .cookie(name) {
            report.add(namePlace, "is the cookie of hashOn, too, which the servers set; use another name")
        }
        if !hasKey {
            report.add(
                place,
                "needs a gossip key, with which cookies are made: run `triad keygen > gossip.key` and add "
                    + "gossip: { keyFile: \"gossip.key\" } (or set TRIAD_GOSSIP_KEY)")
        }
        return Configuration.StickCookie(name: name, isSecure: isSecure)
    }
}
