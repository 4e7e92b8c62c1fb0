// HAProxyReader: haproxy's whole configuration to a draft: the sections in order, each from its defaults, then what is
// decided only when all is known: values that triad has once, ports, names.

import Proxy

struct HAProxyReader {
    /// Looks up a host name; nil when names stay names.
    typealias Resolver = (String) -> String?

    private(set) var draft = ImportDraft()
    private(set) var notes: ImportNotes
    private let resolve: Resolver?
    private var latestDefaults: HAProxyProxy?
    private var namedDefaults: [String: HAProxyProxy] = [:]
    private var proxies: [HAProxyProxy] = []
    /// By the line of their section.
    private var backendNames: [Int: String] = [:]
    /// Every line with a shared value, and those that a section of the result goes by.
    private var sharedLines: [HAProxyProxy.Shared] = []
    private var sharedUsed: Set<Int> = []
    /// The client timeout of TCP sections without a timeout for tunnels, milliseconds.
    private var tunnelImplied: Int?

    /// Reads all of `text`.
    init(_ text: String, file: String, resolve: Resolver? = nil) throws(ImportProblem) {
        notes = ImportNotes(file: file)
        self.resolve = resolve
        let (sections, preprocessor) = try HAProxyLines.sections(text, file: file)
        for line in preprocessor {
            let isCondition = [".if", ".elif", ".else", ".endif"].contains(line.keyword)
            let remedy = "conditions aren't read: what stands in each of their branches is taken"
            notes.add(
                line.number, line.text, isCondition ? .notConverted(remedy) : .notNeeded("it only says something"))
        }
        for section in sections {
            switch section.kind {
            case "global": global(section)
            case "defaults", "frontend", "backend", "listen": proxy(section)
            default: other(section)
            }
        }
        finish()
    }

    // MARK: Sections

    private mutating func global(_ section: HAProxySection) {
        for line in section.lines {
            let number = line.words.count > 1 ? Int(line.words[1]) : nil
            switch line.keyword {
            case "maxconn":
                guard let number else { fallthrough }
                draft.connections = min(max(number, 1), 1_000_000)
                let text = "limits.connections, which counts for each worker: so many, or more, as before"
                notes.add(line.number, line.text, .converted(text))
            case "nbthread":
                guard let number, (1...256).contains(number) else { fallthrough }
                draft.workers = number
                notes.add(line.number, line.text, .converted("workers"))
            default:
                let unknown = "not known here; see whether CONFIGURATION.md has something like it"
                notes.add(line.number, line.text, HAProxyKnown.outcome(line) ?? .notConverted(unknown))
            }
        }
    }

    private mutating func proxy(_ section: HAProxySection) {
        let named = section.head.value(of: "from").flatMap { namedDefaults[$0] }
        // Each `defaults` begins anew; the others go by the latest.
        let parent = named ?? (section.kind == "defaults" ? nil : latestDefaults)
        var proxy = parent ?? HAProxyProxy(kind: section.kind, name: section.name, line: section.head)
        (proxy.kind, proxy.name, proxy.line) = (section.kind, section.name, section.head)
        // The old form: `listen web 0.0.0.0:80`.
        if ["frontend", "listen"].contains(section.kind), section.head.words.count > 2, section.head.words[2] != "from"
        {
            proxy.bind(section.head.words[2], section.head, options: [], &notes)
        }
        let inherited = Set(proxy.shared.map(\.line.number))
        for line in section.lines { proxy.read(line, &notes) }
        if section.kind == "defaults" {
            for line in proxy.acls + proxy.rules {
                notes.add(line.number, line.text, .notConverted(HAProxyRoutes.unread))
            }
            (proxy.acls, proxy.rules) = ([], [])
        }
        sharedLines += proxy.shared.filter { !inherited.contains($0.line.number) }
        if section.kind == "defaults" {
            if !section.name.isEmpty { namedDefaults[section.name] = proxy }
            latestDefaults = proxy
        } else {
            proxies.append(proxy)
        }
    }

    private mutating func other(_ section: HAProxySection) {
        let outcome = HAProxyKnown.sections[section.kind] ?? .notConverted("not known here")
        notes.add(section.head.number, "\(section.head.text) (all of it)", outcome)
        guard section.kind == "peers", draft.nodes.isEmpty else { return }
        for line in section.lines where ["peer", "server"].contains(line.keyword) && line.words.count > 2 {
            guard let host = HAProxyAddress(line.words[2])?.host, SocketAddress(address: host, port: 0) != nil else {
                continue
            }
            let id = ImportDraft.unique(line.words[1], among: draft.nodes.map(\.id))
            draft.nodes.append(ImportDraft.Machine(id: id, address: host))
        }
    }

    // MARK: What is decided at the end

    private mutating func finish() {
        let kept = proxies.filter { !$0.isDisabled }
        for proxy in kept where proxy.hasStats { status(proxy) }
        for proxy in kept where !proxy.isStatsOnly && proxy.kind != "frontend" { backend(proxy) }
        for proxy in kept where !proxy.isStatsOnly && proxy.kind != "backend" { frontends(proxy) }
        for proxy in proxies where proxy.isDisabled || proxy.isStatsOnly || proxy.kind == "backend" {
            for line in proxy.acls + proxy.rules {
                notes.add(line.number, line.text, .notConverted(HAProxyRoutes.unread))
            }
        }
        for proxy in kept where !proxy.isStatsOnly { use(proxy) }
        shareValues()
        for proxy in kept where proxy.logsAccess && !proxy.isStatsOnly { draft.logsAccess = true }
        // The status port is one of the machine's like the others.
        let taken = draft.frontends.map(\.port)
        if taken.contains(draft.status.port ?? 8084) {
            draft.status.port = (8084...).first { !taken.contains($0) }
        }
    }

    private mutating func status(_ proxy: HAProxyProxy) {
        draft.status.user = draft.status.user ?? proxy.statsUser
        guard proxy.isStatsOnly, let bind = proxy.binds.first else { return }
        for other in proxy.binds {
            let isFirst = draft.status.port == nil && other.line == bind.line
            if isFirst {
                draft.status.port = Int(bind.port)
                // Any other address belongs to one machine, and the file is that of all.
                draft.status.address = bind.address == "127.0.0.1" || bind.address == "::1" ? bind.address : nil
            }
            notes.add(
                other.line, other.text,
                isFirst
                    ? .converted("status.port, on which each node listens at its own address and 127.0.0.1")
                    : .notConverted("there is one status port"))
        }
    }

    private mutating func backend(_ proxy: HAProxyProxy) {
        // A `listen` without servers names another backend, or does what has no counterpart.
        if proxy.kind == "listen", proxy.servers.isEmpty { return }
        let name = ImportDraft.unique(proxy.name, among: draft.backends.map(\.name))
        backendNames[proxy.line.number] = name
        var backend = ImportDraft.Backend(name: name, balance: proxy.balance, hashOn: proxy.hashOn)
        // haproxy itself goes back to roundrobin where there are no requests to look into.
        if proxy.isTCP, let key = proxy.hashOn, key != "source" {
            (backend.balance, backend.hashOn) = ("roundrobin", nil)
        }
        let isChecked = proxy.servers.contains { $0.options.isChecked }
        if isChecked { backend.check.http = proxy.httpCheck?.usable }
        let first =
            (proxy.servers.first { $0.options.isChecked } ?? proxy.servers.first)?.options ?? proxy.defaultServer
        backend.check.interval = min(max(first.interval ?? 2000, 50), 3_600_000)
        backend.check.rise = first.rise ?? 2
        backend.check.fall = first.fall ?? 3
        backend.check.timeout = proxy.checkTimeout.map { min(max($0, 10), backend.check.interval) }
        backend.sendProxy = first.sendProxy
        // Without requests haproxy ignores it.
        backend.stickCookie = proxy.isTCP ? nil : proxy.stickCookie
        backend.slowStart = proxy.servers.lazy.compactMap(\.options.slowStart).first
        for server in proxy.servers { add(server, to: &backend, first: first) }
        draft.backends.append(backend)
    }

    private mutating func add(
        _ server: HAProxyProxy.Server, to backend: inout ImportDraft.Backend, first: HAProxyServerOptions
    ) {
        let (line, options) = (server.line, server.options)
        let shown = "server \(server.name) \(line.words[2])"
        guard let address = server.address else {
            notes.add(line.number, shown, .notConverted("a server has an IP address and a TCP port"))
            return
        }
        let id = ImportDraft.unique(server.name, among: backend.servers.map(\.id))
        var added = ImportDraft.Server(
            id: id, port: address.port, weight: options.weight, maxConnections: options.maxConnections)
        var outcome = ImportNote.Outcome.converted(
            options.isChecked ? "backends[].servers" : "backends[].servers; it had no check, and has one here")
        let host = address.host == "localhost" ? "127.0.0.1" : address.host
        let numeric = SocketAddress(address: host, port: 1) != nil ? host : resolve?(host)
        if let numeric, let port = address.port {
            added.address = SocketAddress(address: numeric, port: port)
            if numeric != host {
                added.comment = "\(host) when this was made"
                outcome = .converted("backends[].servers; \(host) was looked up now, and is not while running")
            }
        } else {
            let what = numeric == nil ? "the address of \(address.host)" : "the port: haproxy used the client's"
            added.comment = "DECIDE: \(what)"
            outcome = .converted(
                "backends[].servers, with a placeholder: write \(what)"
                    + (numeric == nil ? "; names aren't looked up while running (--resolve does it now)" : ""))
        }
        if let address = added.address, backend.servers.contains(where: { $0.address == address }) {
            notes.add(
                line.number, shown, .notConverted("another server of this backend has this address: raise its weight"))
            return
        }
        notes.add(line.number, shown, outcome)
        added.isBackup = options.isBackup
        if options.isDisabled {
            added.weight = 0
            added.comment =
                (added.comment.map { $0 + "; " } ?? "") + "disabled in haproxy.cfg: weight 0 gets no requests"
            notes.add(line.number, "\(shown) … disabled", .converted("weight: 0; `triad weight` brings it back"))
        }
        if (options.interval, options.rise, options.fall) != (first.interval, first.rise, first.fall) {
            notes.add(
                line.number, "\(shown) … inter, rise, fall",
                .notConverted("a backend has one check: that of its first server"))
        }
        if options.sendProxy != first.sendProxy {
            notes.add(
                line.number, "\(shown) … send-proxy", .notConverted("a backend has one sendProxy for all servers"))
        }
        backend.servers.append(added)
    }

    private mutating func frontends(_ proxy: HAProxyProxy) {
        let own = backendNames[proxy.line.number]
        let backends = draft.backends.map(\.name)
        let other =
            proxy.defaultBackend ?? proxy.rules.first { backends.contains(ImportDraft.name($0.words[1])) }?.words[1]
        let target = own ?? other.map { ImportDraft.name($0) }
        let isConverted = target.map { backends.contains($0) } ?? false
        let routes = HAProxyRoutes(
            acls: proxy.acls, rules: proxy.rules, backends: isConverted ? backends : [], isTCP: proxy.isTCP)
        for (line, outcome) in routes.outcomes { notes.add(line.number, line.text, outcome) }
        guard let target, isConverted else {
            for bind in proxy.binds {
                notes.add(
                    bind.line, bind.text,
                    .notConverted("no backend of this file answers it: write the frontend by hand"))
            }
            return
        }
        for bind in proxy.binds {
            if bind.address == nil,
                draft.frontends.contains(where: { $0.port == Int(bind.port) && $0.address == nil })
            {
                notes.add(bind.line, bind.text, .notNeeded("a frontend without an address has every address, IPv6 too"))
                continue
            }
            let name = ImportDraft.unique(proxy.name, among: draft.frontends.map(\.name))
            var frontend = ImportDraft.Frontend(
                name: name, address: bind.address, port: Int(bind.port), isHTTP: !proxy.isTCP,
                backend: target)
            frontend.isBackendGuessed = own == nil && proxy.defaultBackend == nil
            frontend.maxConnections = proxy.maxConnections
            frontend.routes = routes.routes
            if bind.acceptsProxy { frontend.acceptProxy = ["0.0.0.0/0", "::/0"] }
            draft.frontends.append(frontend)
            notes.add(bind.line, bind.text, .converted("frontends[]: \(name)"))
        }
    }

    // MARK: Values that triad has once

    /// Notes which of the shared lines `proxy` goes by.
    private mutating func use(_ proxy: HAProxyProxy) {
        for shared in proxy.shared { sharedUsed.insert(shared.line.number) }
        func timeout(_ key: ImportDraft.Timeout) -> Int? { proxy.shared.last { $0.key == .timeout(key) }?.value }
        guard proxy.isTCP, proxy.kind != "backend", timeout(.tunnel) == nil, let client = timeout(.client) else {
            return
        }
        tunnelImplied = max(tunnelImplied ?? 0, client)
    }

    private mutating func shareValues() {
        var values: [HAProxyProxy.Shared.Key: Int] = [:]
        for shared in sharedLines where sharedUsed.contains(shared.line.number) {
            // 0 is no limit.
            let value = shared.value == 0 ? Int.max : shared.value
            values[shared.key] = max(values[shared.key] ?? 0, value)
        }
        for shared in sharedLines { note(shared, counts: values[shared.key]) }
        for (key, value) in values {
            switch key {
            case .timeout(let timeout):
                draft.timeouts[timeout] = min(max(value, 10), ImportDraft.Timeout.millisecondsMax)
            case .retries: draft.retries = min(value, 7)
            }
        }
        if draft.timeouts[.tunnel] == nil, let tunnelImplied {
            draft.timeouts[.tunnel] = min(max(tunnelImplied, 10), ImportDraft.Timeout.millisecondsMax)
        }
    }

    /// - Parameter counts: the value that is taken.
    private mutating func note(_ shared: HAProxyProxy.Shared, counts: Int?) {
        let (number, text) = (shared.line.number, shared.line.text)
        guard sharedUsed.contains(number) else {
            notes.add(number, text, .notNeeded("no frontend or backend of the result goes by it"))
            return
        }
        switch shared.key {
        case .timeout(let timeout):
            let key = "timeouts.\(timeout.rawValue)"
            let isTunnel = timeout == .client && tunnelImplied == shared.value
            if shared.value == counts || shared.value == 0 {
                let limit = shared.value == 0 ? "; without end it can't be: 1d" : ""
                notes.add(number, text, .converted(key + (isTunnel ? ", and timeouts.tunnel for TCP" : "") + limit))
            } else {
                notes.add(number, text, .notConverted("\(key) is one for all: the longest in the file was taken"))
            }
        case .retries:
            notes.add(number, text, .converted("limits.retries: other servers tried for one request, at most 7"))
        }
    }
}
