// ConfigurationKeys: every key of the file, with what it means: the reader knows these and no others, and the manual page
// triad.json5(5) is made from them. Defaults are written as in a file; a test reads them back.

/// A key, and what may stand behind it.
struct ConfigurationKey: Sendable {
    let name: String
    /// What its value looks like: `DURATION`, `"http" | "tcp"`.
    let form: String
    let meaning: String
    var standard: String?
    var isRequired = false
}

/// The keys of one object of the file.
struct ConfigurationSection: Sendable {
    /// Where it stands: `backends[].check`; empty for the file itself.
    let path: String
    let about: String
    let keys: [ConfigurationKey]

    var names: [String] { keys.map(\.name) }

    init(_ path: String, _ about: String, _ keys: [ConfigurationKey]) {
        (self.path, self.about, self.keys) = (path, about, keys)
    }
}

extension ConfigurationKey {
    fileprivate static func required(_ name: String, _ form: String, _ meaning: String) -> Self {
        Self(name: name, form: form, meaning: meaning, isRequired: true)
    }

    /// - Parameter standard: its default; nil: nothing is done without it, or `meaning` says what.
    fileprivate static func optional(
        _ name: String, _ form: String, _ standard: String? = nil, _ meaning: String
    ) -> Self {
        Self(name: name, form: form, meaning: meaning, standard: standard)
    }
}

extension ConfigurationSection {
    /// In the manual's order.
    static let all = [
        root, node, vip, gossip, status, leadership, frontend, route, perSource, backend, check, server, stickCookie,
        retries, outlier, autoscale, timeouts, limits, log, accessLog, notify,
    ]

    // MARK: The cluster

    static let root = ConfigurationSection(
        "", "The file is one object with these keys.",
        [
            .required("cluster", "NAME", "What the cluster is called. Nodes of another name are not heard."),
            .required("nodes", "[ NODE… ]", "The machines: 1, 3, 5 or 7."),
            .optional("vip", "VIP | [ VIP… ]", nil, "What the leader owns. Without it nobody owns an address."),
            .optional("gossip", "{ … }", nil, "How the nodes talk to each other. More than one need a key."),
            .optional("status", "{ … }", nil, "Where the status, the page and admin commands are answered."),
            .optional(
                "data", "PATH", "\"/var/lib/triad\"",
                "The directory of what the node promised and what was agreed. `TRIAD_DATA` overrides it."),
            .required("frontends", "[ FRONTEND… ]", "What clients connect to."),
            .required("backends", "[ BACKEND… ]", "The servers, in groups."),
            .optional("leadership", "{ … }", nil, "When a leader gives up the lead although nothing forces it to."),
            .optional(
                "workers", "NUMBER", nil, "Threads that move data; one per core. `TRIAD_WORKERS` overrides it."),
            .optional("timeouts", "{ … }", nil, "How long is waited for what."),
            .optional("limits", "{ … }", nil, "How much is taken on."),
            .optional("log", "{ … }", nil, "The node's own log, and one of requests."),
            .optional("notify", "{ … }", nil, "A command that is run when something happens."),
        ])

    static let node = ConfigurationSection(
        "nodes[]", "One machine of the cluster.",
        [
            .required("id", "NAME", "What the node is called: `triad run --node`."),
            .required("address", "IP", "Where gossip and status are answered, and where the others send theirs."),
            .optional(
                "priority", "NUMBER", "0",
                "0 to 1000. A node of higher priority is given the lead when it is as fit as the leader."),
            .optional("gossipPort", "PORT", nil, "In place of `gossip.port`."),
            .optional("statusPort", "PORT", nil, "In place of `status.port`."),
        ])

    static let vip = ConfigurationSection(
        "vip", "An address that the leader alone owns. All of a list move together.",
        [
            .required("address", "IP/PREFIX", "A spare address of the nodes' network."),
            .required("interface", "NAME", "The interface that gets it, on every node."),
            .optional(
                "fencing", "\"auto\" | \"gate\" | \"wait\" | \"trust\"", "\"auto\"",
                """
                How a new leader knows that the old one has let go: by the kernel's gate, by waiting for the address's end, or not at
                all. `auto` is the gate where nftables works on every node, and waiting otherwise.
                """),
        ])

    static let gossip = ConfigurationSection(
        "gossip", "UDP between the nodes.",
        [
            .optional("port", "PORT", "7946", "UDP."),
            .optional(
                "keyFile", "PATH", nil,
                """
                Keys as `triad keygen` prints them, one a line: the first signs, all verify. `TRIAD_GOSSIP_KEY` stands in for it.
                """),
            .optional("heartbeat", "DURATION", "\"30ms\"", "Between two rounds of the leader."),
            .optional(
                "lease", "DURATION", "\"150ms\"",
                "How long the leader owns the VIP after a round that a majority answered."),
            .optional(
                "electionTimeout", "[ DURATION, DURATION ]", "[\"200ms\", \"300ms\"]",
                "After how long without a leader a node campaigns: a random time between the two."),
        ])

    static let status = ConfigurationSection(
        "status", "The status port, HTTP.",
        [
            .optional("port", "PORT", "8084", "TCP."),
            .optional("address", "IP", nil, "The one address to listen on; the node's own and 127.0.0.1."),
            .optional(
                "tokenFile", "PATH", nil,
                "The token that admin commands must carry; without one they are refused. `TRIAD_TOKEN` stands in for it."
            ),
            .optional("user", "NAME", nil, "Who may read the status, with `passwordFile`; anybody without."),
            .optional("passwordFile", "PATH", nil, "That user's password."),
        ])

    static let leadership = ConfigurationSection(
        "leadership", "Moves of the lead that nothing forces.",
        [
            .optional("fitnessHold", "DURATION", "\"1500ms\"", "How long another node must have been fitter."),
            .optional("preemptHold", "DURATION", "\"10s\"", "How long a node of higher priority must have been there."),
            .optional("gateway", "IP", nil, "An address that a fit node reaches by ICMP echo, such as the router's."),
        ])

    // MARK: Frontends

    static let frontend = ConfigurationSection(
        "frontends[]", "A port that clients connect to.",
        [
            .required("name", "NAME", "What it is called in status and log."),
            .optional("address", "IP", nil, "The one address to listen on; every address of the machine."),
            .required("port", "PORT", "TCP."),
            .optional("mode", "\"http\" | \"tcp\"", "\"http\"", "`tcp` forwards bytes as they come."),
            .required("backend", "NAME", "Whose servers answer what fits no route."),
            .optional("routes", "[ ROUTE… ]", nil, "Requests that go to another backend; the first that fits decides."),
            .optional(
                "acceptProxy", "[ NETWORK… ]", nil,
                "From where connections must begin with a PROXY header, version 1 or 2."),
            .optional("perSource", "{ … }", nil, "What one client may do."),
            .optional(
                "maxConnections", "NUMBER", nil, "Clients, all workers of a node together; others wait. Any number."),
            .optional(
                "forwarded", "\"x-forwarded\" | \"forwarded\" | \"both\" | \"off\"", "\"x-forwarded\"",
                "Which fields name the client to servers."),
            .optional(
                "trustedProxies", "[ NETWORK… ]", "[]", "The HTTP proxies in front whose word on the client counts."),
            .optional(
                "hideHeaders", "[ \"Server\" | \"X-Powered-By\" | \"Via\" … ]",
                "[\"Server\", \"X-Powered-By\", \"Via\"]",
                "Response headers that clients don't get."),
            .optional("errorPages", "{ \"STATUS\": PATH … }", "{}", "Pages of your own: `.html`, `.json` or `.txt`."),
        ])

    static let route = ConfigurationSection(
        "frontends[].routes[]", "Needs a host, a path or both.",
        [
            .optional("host", "NAME", nil, "`*.` at the front: every name below."),
            .optional("path", "PATH", nil, "The beginning of a path, by whole segments."),
            .required("backend", "NAME", "Whose servers answer."),
        ])

    static let perSource = ConfigurationSection(
        "frontends[].perSource", "Limits of one client address, counted by each node. Needs one of the first three.",
        [
            .optional("connections", "NUMBER", nil, "Open at one time; others are closed."),
            .optional("connectionRate", "RATE", nil, "New ones; others are closed."),
            .optional("requestRate", "RATE", nil, "Requests; others get 429."),
            .optional("prefixV6", "NUMBER", "64", "Bits of an IPv6 address that are one client."),
            .optional("exemptSources", "[ NETWORK… ]", "[]", "Under no limit."),
        ])

    // MARK: Backends

    static let backend = ConfigurationSection(
        "backends[]", "Servers that answer the same requests.",
        [
            .required("name", "NAME", "What it is called: `BACKEND/SERVER`."),
            .optional("check", "{ … }", nil, "How each server is checked; a connection that opens, without it."),
            .required("servers", "[ SERVER… ]", "`[]` when all are added at run time."),
            .optional("sendProxy", "\"v1\" | \"v2\"", nil, "The PROXY header that its servers get. None."),
            .optional("stickCookie", "NAME | { … }", nil, "A cookie that keeps a client with its server. None."),
            .optional(
                "balance", "\"roundrobin\" | \"leastconn\" | \"random\" | \"hash\" | \"first\"", "\"roundrobin\"",
                "How a request's server is chosen."),
            .optional(
                "hashOn", "\"source\" | \"uri\" | \"header:NAME\" | \"cookie:NAME\"", nil,
                "With `hash`: what the same server is for; the source."),
            .optional(
                "slowStart", "DURATION", nil, "How long a server that came up takes to get its whole weight. None."),
            .optional(
                "maxConnections", "NUMBER", nil,
                "From one node to each server that doesn't say otherwise; others wait. Any number."),
            .optional("queue", "NUMBER", "1024", "Requests per worker that may wait while every server is full."),
            .optional("retries", "{ … }", nil, "How often a failed request is tried elsewhere."),
            .optional(
                "replayBody", "SIZE", "\"0B\"", "The largest body, beyond one buffer, that is kept to be sent again."),
            .optional("outlier", "{ … }", nil, "Sets servers aside that fail their clients. None."),
            .optional(
                "panicThreshold", "PERCENT", nil,
                "With fewer servers up than this share the verdicts are ignored. Never."),
            .optional("autoscale", "{ … }", nil, "How many servers it should have for its load. As many as it has."),
        ])

    static let check = ConfigurationSection(
        "backends[].check", "Every node makes it; a majority decides.",
        [
            .required("type", "\"http\" | \"tcp\" | \"icmp\"", "A request, a connection, or an echo."),
            .optional("method", "\"GET\" | \"HEAD\" | \"OPTIONS\"", "\"GET\"", "Of an `http` check, as the next five."),
            .optional("path", "PATH", "\"/\"", "What is asked for."),
            .optional("host", "NAME", nil, "The Host field; the server's address."),
            .optional("expect", "STATUS | \"LOW-HIGH\" | [ … ]", "200", "The statuses that pass."),
            .optional("expectBody", "TEXT", nil, "What the body must hold, in its first 256 KiB."),
            .optional(
                "sameContent", "true | false", "false", "The body must be what more than half of the servers answer."),
            .optional("interval", "DURATION", "\"1s\"", "Between two checks."),
            .optional("timeout", "DURATION", "\"500ms\"", "For the whole check, its answer included."),
            .optional("rise", "NUMBER", "2", "Passes in a row that take a server up."),
            .optional("fall", "NUMBER", "2", "Failures in a row that take it down."),
        ])

    static let server = ConfigurationSection(
        "backends[].servers[]", "One server.",
        [
            .required("id", "NAME", "What it is called: `BACKEND/SERVER`."),
            .required("address", "IP:PORT", "Where it listens."),
            .optional("weight", "NUMBER", "1", "Its share of the requests, 0 to 256."),
            .optional("backup", "true | false", "false", "It gets requests only while no other server can."),
            .optional("maxConnections", "NUMBER", nil, "In place of the backend's."),
        ])

    static let stickCookie = ConfigurationSection(
        "backends[].stickCookie", "The cookie's name alone will do.",
        [
            .required("name", "NAME", "The cookie's."),
            .optional("secure", "true | false", "false", "Browsers send it over TLS only."),
        ])

    static let retries = ConfigurationSection(
        "backends[].retries", "Requests that failed and can be tried elsewhere.",
        [
            .optional("max", "NUMBER", nil, "Further servers for one request; `limits.retries`."),
            .optional("budget", "PERCENT", "\"20%\"", "Retries are at most this share of the requests,"),
            .optional("perSecondMin", "NUMBER", "3", "or so many a second if that is more, for each worker."),
        ])

    static let outlier = ConfigurationSection(
        "backends[].outlier", "Servers that pass their checks and fail their clients.",
        [
            .optional("errors", "NUMBER", "5", "In a row, after which a node sets a server aside and all check it."),
            .optional("statusErrors", "true | false", "false", "Statuses of 500 and above are errors."),
        ])

    static let autoscale = ConfigurationSection(
        "backends[].autoscale",
        "The leader decides how many servers there should be; `triad autoscale` carries it out.",
        [
            .required("min", "NUMBER", "Never fewer."),
            .required("max", "NUMBER", "Never more."),
            .optional("requestsPerServer", "NUMBER", nil, "What one server takes, a second; or"),
            .optional("sessionsPerServer", "NUMBER", nil, "requests (TCP: connections) under way. One of the two."),
            .optional("window", "DURATION", "\"5s\"", "The load is its mean over this span."),
            .optional("upCoolDown", "DURATION", "\"5s\"", "At least between two changes."),
            .optional("coolDown", "DURATION", "\"60s\"", "Fewer servers must have been enough for this long."),
        ])

    // MARK: The rest

    static let timeouts = ConfigurationSection(
        "timeouts", "Durations, each for one thing to happen.",
        [
            .optional("connect", "DURATION", "\"1s\"", "A connection to a server opens; else another one is tried."),
            .optional("queue", "DURATION", "\"5s\"", "A server has a place for a request."),
            .optional("request", "DURATION", "\"10s\"", "A client sends a whole request head."),
            .optional("client", "DURATION", "\"30s\"", "A client goes on within a body, or takes its response."),
            .optional("server", "DURATION", "\"30s\"", "A server goes on."),
            .optional("keepAlive", "DURATION", "\"60s\"", "A client's idle connection is kept."),
            .optional("tunnel", "DURATION", "\"1h\"", "Something moves on a TCP or upgraded connection."),
            .optional("halfClosed", "DURATION", "\"60s\"", "The same once one side has ended its stream."),
            .optional("drain", "DURATION", "\"5s\"", "What is in flight finishes when a node stops or hands over."),
        ])

    static let limits = ConfigurationSection(
        "limits", "What a node takes on.",
        [
            .optional("requestHead", "SIZE", "\"16KiB\"", "The largest request head; it must fit a buffer."),
            .optional("headers", "NUMBER", "100", "Header lines of a head."),
            .optional("requestBody", "SIZE", nil, "The largest request body; any."),
            .optional("connections", "NUMBER", "20000", "Client connections of each worker."),
            .optional("retries", "NUMBER", "2", "Further servers tried for one request."),
            .optional("buffer", "SIZE", "\"16KiB\"", "One I/O buffer."),
            .optional("minimumRate", "SIZE", "\"250B\"", "A second, that a client must move while it is waited for."),
        ])

    static let log = ConfigurationSection(
        "log", "What happens, on standard error.",
        [
            .optional("level", "\"debug\" | \"info\" | \"warning\" | \"error\"", "\"info\"", "What is written."),
            .optional("format", "\"text\" | \"json\"", "\"text\"", "A line of text or a JSON object for each event."),
            .optional("access", "{ … }", nil, "A line for each request. None."),
        ])

    static let accessLog = ConfigurationSection(
        "log.access", "A line for each request, or TCP connection.",
        [
            .required("to", "\"stderr\" | \"stdout\" | PATH", "SIGUSR1 opens a file again by its name."),
            .optional(
                "format", "\"json\" | \"haproxy\"", "\"json\"", "`haproxy`: the fields of its `httplog` and `tcplog`."),
            .optional("query", "true | false", "true", "Targets are written with their query."),
        ])

    static let notify = ConfigurationSection(
        "notify", "It runs beside the node, on each node on which the event happens.",
        [
            .required("command", "[ PATH, ARGUMENT… ]", "The program, and its arguments; no shell."),
            .optional(
                "events", "[ EVENT… ]",
                "[" + Configuration.NotifySection.usual.map { "\"\($0.rawValue)\"" }.joined(separator: ", ") + "]",
                "Of `" + EventKind.allCases.map(\.rawValue).joined(separator: "`, `") + "`."),
            .optional("timeout", "DURATION", "\"10s\"", "After it the command is killed, with all that it started."),
        ])
}
