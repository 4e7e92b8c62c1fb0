// ConfigurationRoutes: which requests of a frontend go to another backend (`frontends[].routes`), by host and path.

import Proxy

extension Configuration {
    /// Requests for this host and path go to this backend.
    struct Route: Sendable, Equatable {
        /// In lower case; `*.example.com` stands for every name below. nil: any.
        var host: String?
        /// A prefix of whole segments. nil: any.
        var path: String?
        /// Index into `backends`.
        var backend: Int

        var rule: RouteRule { RouteRule(host: host, path: path, backend: backend) }

        /// Whether every request that fits `other` fits this one.
        func covers(_ other: Route) -> Bool {
            coversHost(other.host) && coversPath(other.path)
        }

        /// Whether it is a name in lower case, or `*.` before one.
        static func isHost(_ text: String) -> Bool {
            let name = text.hasPrefix("*.") ? text.dropFirst(2) : text[...]
            let isName = name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
                case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
                default: false
                }
            }
            return isName && !name.isEmpty && name.utf8.count <= 253 && !name.hasPrefix(".") && !name.hasSuffix(".")
        }

        /// Whether it may stand at the beginning of a request's path (RFC 3986, 3.3).
        static func isPath(_ text: String) -> Bool {
            let isPath = text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && !"?#\"<>\\^`{|}".utf8.contains($0) }
            return text.hasPrefix("/") && isPath && text.utf8.count <= 1_024
        }

        private func coversHost(_ other: String?) -> Bool {
            guard let host else { return true }
            guard let other else { return false }
            if host == other { return true }
            guard host.hasPrefix("*") else { return false }
            let names = other.hasPrefix("*") ? other.dropFirst() : other[...]
            return names.hasSuffix(host.dropFirst()) && names.count >= host.count
        }

        private func coversPath(_ other: String?) -> Bool {
            guard let path, path != "/" else { return true }
            guard let other else { return false }
            return other == path || other.hasPrefix(path.hasSuffix("/") ? path : path + "/")
        }
    }
}

extension ConfigurationReader {
    mutating func routes(_ place: Placed?, isTCP: Bool, _ backends: [PlacedBackend]) -> [Configuration.Route] {
        guard let place else { return [] }
        if isTCP {
            report.add(place, "belongs to a frontend of mode \"http\"; mode \"tcp\" doesn't look into what it forwards")
            return []
        }
        let example = "a list of routes: routes: [{ host: \"api.example.com\", path: \"/v1\", backend: \"api\" }]"
        guard let elements = place.elements(example, &report) else { return [] }
        if elements.count > Bound.routes {
            report.add(place, "\(elements.count) routes; at most \(Bound.routes)")
            return []
        }
        var routes: [(route: Configuration.Route, place: Placed)] = []
        for element in elements {
            guard let route = route(element, backends) else { continue }
            if let earlier = routes.first(where: { $0.route.covers(route) }) {
                report.add(
                    element,
                    "never gets a request: \(earlier.place.path) comes first and fits all that this one does; "
                        + "put the narrower one first")
            }
            routes.append((route, element))
        }
        return routes.map(\.route)
    }

    private mutating func route(_ element: Placed, _ backends: [PlacedBackend]) -> Configuration.Route? {
        guard let fields = Fields(element, .route, &report) else { return nil }
        let (hostPlace, pathPlace) = (fields.optional("host"), fields.optional("path"))
        if hostPlace == nil, pathPlace == nil {
            report.add(
                element, "names neither a host nor a path; add one, or make its backend the frontend's own `backend`")
        }
        let host = hostPlace.flatMap { routeHost($0) }
        let path = pathPlace.flatMap { routePath($0) }
        let backend = fields.required("backend", "the name of the backend that answers: backend: \"api\"", &report)
        guard let backend, let index = self.backend(backend, backends) else { return nil }
        if hostPlace != nil && host == nil || pathPlace != nil && path == nil || host == nil && path == nil {
            return nil
        }
        return Configuration.Route(host: host, path: path, backend: index)
    }

    private mutating func routeHost(_ place: Placed) -> String? {
        let expected = "a host's name, such as \"api.example.com\" or \"*.example.com\""
        guard let text = place.string(expected, &report) else { return nil }
        let lower = text.lowercased()
        let bare = lower.filter { $0 != "[" && $0 != "]" }
        if bare.contains(":"), SocketAddress(address: bare, port: 0) != nil { return "[\(bare)]" }
        guard Configuration.Route.isHost(lower) else {
            report.add(place, "\(place.shown) isn't \(expected); write it without scheme, port and final dot")
            return nil
        }
        return lower
    }

    private mutating func routePath(_ place: Placed) -> String? {
        guard let text = place.string("the beginning of a path, such as \"/v1\"", &report) else { return nil }
        guard Configuration.Route.isPath(text) else {
            report.add(
                place,
                "\(place.shown) isn't the beginning of a path: write it as it stands in requests, from its \"/\" "
                    + "on, encoded, without a query, in at most 1024 bytes")
            return nil
        }
        return text
    }
}
