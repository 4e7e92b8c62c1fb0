// HAProxyCookie: haproxy's `cookie`, which keeps clients with their servers, as `stickCookie`.

extension ImportDraft {
    struct StickCookie: Sendable, Equatable {
        var name: String
        var isSecure = false
    }
}

extension HAProxyProxy {
    /// What `stickCookie` does without being told.
    private static let cookieDefaults: Set<String> = ["insert", "indirect", "nocache", "httponly", "dynamic"]
    private static let cookieValues: Set<String> = ["domain", "maxidle", "maxlife", "attr"]

    /// `cookie NAME insert indirect nocache`.
    mutating func readCookie(_ line: HAProxyLine, _ notes: inout ImportNotes) {
        var rest = line.words.dropFirst(2)
        let name = line.words.count > 1 ? line.words[1] : ""
        stickCookie = nil
        guard !rest.contains("rewrite"), !rest.contains("prefix") else {
            let remedy = "a stickCookie is one of its own: the servers' cookies pass as they are"
            return notes.add(line.number, line.text, .notConverted(remedy))
        }
        let isSecure = rest.contains("secure")
        guard token(Substring(name)) != nil, isSecure || !name.hasPrefix("__") else {
            let remedy =
                "stickCookie takes letters, digits and !#$%&'*+-.^_`|~; browsers want secure with __Host- and __Secure-"
            return notes.add(line.number, line.text, .notConverted(remedy))
        }
        stickCookie = ImportDraft.StickCookie(name: name, isSecure: isSecure)
        let change = rest.contains("indirect") ? "" : "; servers don't see it"
        notes.add(line.number, line.text, .converted("backends[].stickCookie" + change))
        while let option = rest.popFirst() {
            let value = Self.cookieValues.contains(option) ? rest.popFirst() : nil
            if Self.cookieDefaults.contains(option) || option == "secure" { continue }
            let shown = "cookie \(name) … \(option)" + (value.map { " \($0)" } ?? "")
            let remedy =
                "a stickCookie has no option but secure: it ends with the browser's session and is this host's own"
            notes.add(line.number, shown, .notConverted(remedy))
        }
    }
}
