// ConfigurationBackends: the parts of the file that requests go through: frontends, backends, checks and servers.

import Gossip
import Proxy

extension ConfigurationReader {
    /// - Parameter hasKey: there is a gossip key, or it has been reported that there is none.
    mutating func backends(_ root: Fields, hasKey: Bool) -> [PlacedBackend] {
        let example =
            "the servers: backends: [{ name: \"api\", servers: [{ id: \"api_1\", address: \"10.0.0.21:8080\" }] }]"
        guard let place = root.required("backends", example, &report),
            let elements = place.elements("a list of backends", &report)
        else { return [] }
        if elements.isEmpty { report.add(place, "is empty; add \(example)") }
        if elements.count > Bound.backends {
            report.add(place, "\(elements.count) backends; at most \(Bound.backends)")
        }
        var backends: [PlacedBackend] = []
        for element in elements {
            guard let fields = Fields(element, .backend, &report)
            else {
                continue
            }
            let namePlace = fields.required("name", "a name for this backend: name: \"api\"", &report)
            let name = namePlace?.name("a backend", &report)
            if let namePlace, let name, backends.contains(where: { $0.backend.name == name }) {
                report.add(namePlace, "another backend is called \"\(name)\"; names must differ")
            }
            let (balance, balancing) = balancing(fields)
            let check = check(fields.optional("check"))
            let servers = servers(fields)
            let backend = Configuration.Backend(
                name: name ?? "", balance: balance, balancing: balancing, check: check, servers: servers.map(\.server),
                sendProxy: sendProxy(fields.optional("sendProxy")), capacity: capacity(fields),
                resilience: resilience(fields), autoscale: scaling(fields.optional("autoscale")),
                stickCookie: stickCookie(
                    fields.optional("stickCookie"), hasKey: hasKey, hashOn: balancing.hashOn))
            backends.append(PlacedBackend(backend: backend, places: servers.map(\.place)))
        }
        let total = backends.reduce(0) { $0 + $1.backend.servers.count }
        if total > Limits.serversMax { report.add(place, "\(total) servers; at most \(Limits.serversMax)") }
        return backends
    }

    private mutating func servers(_ fields: Fields) -> [(server: Configuration.Server, place: Placed)] {
        let example =
            "the servers, or [] when all are added at run time: servers: [{ id: \"api_1\", address: \"10.0.0.21:8080\" }]"
        guard let place = fields.required("servers", example, &report),
            let elements = place.elements("a list of servers", &report)
        else { return [] }
        var servers: [(server: Configuration.Server, place: Placed)] = []
        var ids: Set<String> = []
        var addresses: Set<SocketAddress> = []
        for element in elements {
            guard let fields = Fields(element, .server, &report) else { continue }
            let idPlace = fields.required("id", "a name for this server: id: \"api_1\"", &report)
            let addressPlace = fields.required("address", "where it listens: address: \"10.0.0.21:8080\"", &report)
            let id = idPlace?.name("a server", &report)
            let address = addressPlace?.socketAddress(&report)
            let weight = fields.optional("weight")?.integer(0...Limits.weightMax, "a weight", &report) ?? 1
            if let idPlace, let id, !ids.insert(id).inserted {
                report.add(idPlace, "another server of this backend has the id \"\(id)\"; ids must differ")
            }
            guard let addressPlace, let address else { continue }
            if !addresses.insert(address).inserted {
                report.add(
                    addressPlace,
                    "another server of this backend has the address \(address); "
                        + "for a larger share use one server with a larger weight")
            }
            let server = Configuration.Server(
                id: id ?? "", address: address, weight: weight,
                maxConnections: maxConnections(fields.optional("maxConnections")),
                isBackup: fields.optional("backup")?.flag(&report) ?? false)
            servers.append((server, addressPlace))
        }
        return servers
    }

    // MARK: Frontends

    /// - Parameter bufferBytes: `limits.buffer`.
    mutating func frontends(
        _ root: Fields, backends: [PlacedBackend], bufferBytes: Int
    ) -> [PlacedFrontend] {
        let example = "what clients connect to: frontends: [{ name: \"http\", port: 80, backend: \"api\" }]"
        guard let place = root.required("frontends", example, &report),
            let elements = place.elements("a list of frontends", &report)
        else { return [] }
        if elements.isEmpty { report.add(place, "is empty; add \(example)") }
        if elements.count > Bound.frontends {
            report.add(place, "\(elements.count) frontends; at most \(Bound.frontends)")
        }
        var frontends: [PlacedFrontend] = []
        for element in elements {
            guard let fields = Fields(element, .frontend, &report) else { continue }
            let namePlace = fields.required("name", "a name for this frontend: name: \"http\"", &report)
            let name = namePlace?.name("a frontend", &report)
            if let namePlace, let name, frontends.contains(where: { $0.frontend.name == name }) {
                report.add(namePlace, "another frontend is called \"\(name)\"; names must differ")
            }
            let mode = fields.optional("mode")?.choice(Configuration.Frontend.Mode.self, "mode", &report) ?? .http
            let acceptProxy = acceptProxy(fields.optional("acceptProxy"))
            let perSource = perSource(fields.optional("perSource"), isTCP: mode == .tcp)
            let clients = clients(fields, mode: mode, pageBytesMax: bufferBytes - ProxyLimits.errorPageRoom)
            let backend = fields.required("backend", "the name of the backend that answers: backend: \"api\"", &report)
            let index = backend.flatMap { self.backend($0, backends) }
            let routes = routes(fields.optional("routes"), isTCP: mode == .tcp, backends)
            if let backend, let index {
                checkBalancing(backends[index].backend, isTCP: mode == .tcp, at: backend)
            }
            let address = fields.optional("address").flatMap { listenAddress($0) }
            let portPlace = fields.required("port", "the port to listen on: port: 80", &report)
            guard let portPlace, let port = portPlace.port(&report) else { continue }
            let frontend = Configuration.Frontend(
                name: name ?? "", address: address, port: port, mode: mode, backend: index ?? 0, routes: routes,
                acceptProxy: acceptProxy, perSource: perSource, clients: clients,
                maxConnections: maxConnections(fields.optional("maxConnections")))
            frontends.append(PlacedFrontend(frontend: frontend, place: portPlace))
        }
        return frontends
    }

    mutating func backend(_ place: Placed, _ backends: [PlacedBackend]) -> Int? {
        guard let name = place.name("a backend", &report) else { return nil }
        let names = backends.map(\.backend.name)
        if let index = names.firstIndex(of: name) { return index }
        let known = names.filter { !$0.isEmpty }
        let advice = known.isEmpty ? "there are none" : Nearest.suggestion(name, in: known)
        report.add(place, "no backend is called \"\(name)\"; \(advice)")
        return nil
    }
}
