// HAProxyKnown: haproxy's directives that lead to no key: those whose work is done anyway, and those that have no
// counterpart, with what to do instead. Keyed by the first word, or by the first two where the second decides.

enum HAProxyKnown {
    /// What becomes of a directive that no code converts; nil when it isn't known.
    static func outcome(_ line: HAProxyLine) -> ImportNote.Outcome? {
        if line.words.count > 1, let found = outcome("\(line.words[0]) \(line.words[1])") { return found }
        return outcome(line.keyword)
    }

    private static func outcome(_ key: String) -> ImportNote.Outcome? {
        if let why = notNeeded[key] { return .notNeeded(why) }
        if let remedy = notConverted[key] { return .notConverted(remedy) }
        if key.hasPrefix("tune.") {
            return .notNeeded("buffers and threads need no tuning here; `limits` has what can be set")
        }
        if key.hasPrefix("ssl-") { return .notConverted(tls) }
        if ["wurfl-", "51degrees-", "deviceatlas-"].contains(where: { key.hasPrefix($0) }) {
            return .notConverted("there is no device detection")
        }
        if key.hasPrefix("lua-") { return .notConverted("there are no scripts in the proxy") }
        return nil
    }

    static let tls =
        "there is no TLS here: keep a TLS proxy in front of this port (it can send a PROXY header: frontends[].acceptProxy) "
        + "or let the servers end it behind a frontend of mode \"tcp\""
    static let rewrite =
        "requests and responses aren't rewritten; do it in the servers (X-Forwarded-* and frontends[].hideHeaders are there)"
    static let filter =
        "requests aren't filtered by rules; limits for each client are frontends[].perSource, the rest belongs to the servers "
        + "or a firewall"
    private static let service = "the service manager does it: cluster/triad.service"
    private static let checkProtocol =
        "checks are \"http\" and \"tcp\"; the servers are checked by whether a connection opens"
    private static let state = "verdicts, drains and weights are agreed among the nodes and kept on their disks"
    private static let stick =
        "there are no tables of clients in the file: requests of one client stay with one server by balance: \"hash\" or a "
        + "stickCookie (CONFIGURATION.md), and limits for each client are frontends[].perSource"

    private static let notNeeded: [String: String] = [
        "daemon": service, "user": service, "group": service, "uid": service, "gid": service, "chroot": service,
        "pidfile": service, "ulimit-n": service, "master-worker": service,
        "nbproc": "there is one process with a thread per core",
        "cpu-map": "threads go where the kernel puts them", "nogracefulsockets": service, "quiet": service,
        "debug": service,
        "spread-checks": "every node checks at times of its own",
        "stats socket": "commands go to the status port: `triad help`",
        "stats timeout": "commands go to the status port: `triad help`",
        "stats maxconn": "the status port has its own limits",
        "node": "nodes have ids", "description": "it says nothing to the proxy", "id": "names are enough",
        "guid": "names are enough",
        "server-state-file": state, "server-state-base": state, "load-server-state-from-file": state,
        "localpeer": "nodes have ids", "hard-stop-after": "timeouts.drain says how long a stop waits",
        "maxconnrate": "frontends[].perSource limits rates per client", "log-tag": "the service manager tags lines",
        "log-send-hostname": "the journal knows the host", "set-dumpable": service,
        "expose-experimental-directives": "nothing here needs it",
        "stats bind-process": service, "nokqueue": "Linux only", "noepoll": "epoll is always used",
        "nosplice": "long streams are spliced where it pays",
        "zero-warning": "`triad check` has errors only", "unix-bind": "there are no Unix sockets",
        "numa-cpu-mapping": service,
        "insecure-fork-wanted": service, "insecure-setuid-wanted": service,
        "default-path": "paths are relative to triad.json5",
        "stats realm": "the browser shows the node", "stats hide-version": "who may read sees the version",
        "stats enable": "every node has its status page", "stats refresh": "the page follows what happens live",
        "stats show-legends": "the page shows all there is", "stats show-node": "the page shows all nodes",
        "stats show-desc": "the page shows all there is", "stats show-modules": "the page shows all there is",
        "stats scope": "the page shows the whole cluster",
        "stats admin": "actions on the page and commands need status.tokenFile (`triad keygen > admin.token`)",
        "option redispatch": "what can be repeated always goes to another server",
        "option persist": "a server that is down gets nothing",
        "option dontlognull": "connections without a request have no line",
        "option dontlog-normal": "log.access logs every request",
        "option log-separate-errors": "log.access logs every request",
        "option logasap": "a line is written when the request has ended",
        "option log-health-checks": "every change of a verdict is an event in log and status",
        "option http-server-close": "connections to servers are pooled, those of clients are kept",
        "option http-keep-alive": "connections are kept",
        "option prefer-last-server": "connections to servers are pooled per server",
        "option http-tunnel": "every request is looked at", "option http-no-delay": "nothing is held back",
        "option http-pretend-keepalive": "connections to servers are pooled",
        "option http-buffer-request": "a request is sent as it comes",
        "option abortonclose": "a client that leaves ends its request",
        "option nolinger": "sockets are closed in order",
        "option splice-auto": "long streams are spliced", "option splice-request": "long streams are spliced",
        "option splice-response": "long streams are spliced",
        "option tcp-smart-accept": "the kernel's defaults are used",
        "option tcp-smart-connect": "the kernel's defaults are used",
        "option tcpka": "idle connections end by timeouts.tunnel",
        "option clitcpka": "idle connections end by timeouts.tunnel",
        "option srvtcpka": "idle connections end by timeouts.tunnel",
        "option contstats": "counters count as it happens", "option socket-stats": "a frontend is one port",
        "option http-use-htx": "nothing here needs it",
        "option idle-close-on-response": "idle connections are kept at a reload",
        "option checkcache": "nothing is cached",
        "option forceclose": "connections are kept and cleaned up by timeouts.keepAlive",
        "option httpclose": "connections are kept and cleaned up by timeouts.keepAlive",
        "option transparent": "requests go to servers only",
        "option independent-streams": "each side has its own timeout",
        "retry-on": "whatever can be repeated safely is repeated",
        "http-reuse": "connections to servers are pooled and reused",
        "hash-type": "a hash is always consistent", "fullconn": "limits don't move with load",
        "backlog": "the kernel's maximum is used",
        "hash-balance-factor": "a server that is full is passed over",
        "max-keep-alive-queue": "connections to servers are pooled",
        "enabled": "it is",
        "grace": "timeouts.drain says how long a stop waits", "strict-limits": service,
        "redispatch": "what can be repeated always goes to another server",
        "unique-id-format": "requests get no id of their own",
        "bind-process": "every thread serves every frontend",
        "timeout tarpit": "nobody is tarpitted",
        "timeout mail": "no mail is sent",
    ]

    private static let notConverted: [String: String] = [
        "ca-base": tls, "crt-base": tls, "crt": tls,
        "redirect": "the servers must redirect; behind a TLS proxy let that one do it",
        "http-request": rewrite, "http-response": rewrite, "http-after-response": rewrite, "reqadd": rewrite,
        "reqrep": rewrite,
        "reqirep": rewrite, "reqdel": rewrite, "reqidel": rewrite, "rspadd": rewrite, "rsprep": rewrite,
        "rspirep": rewrite,
        "rspdel": rewrite, "rspidel": rewrite, "reqdeny": filter, "reqideny": filter, "reqtarpit": filter,
        "reqitarpit": filter,
        "reqallow": filter, "reqiallow": filter, "reqpass": filter, "reqipass": filter, "rspideny": filter,
        "block": filter, "rspdeny": filter, "http-request deny": filter,
        "http-request reject": filter,
        "http-request tarpit": filter, "http-request auth": "the servers must ask for passwords", "tcp-request": filter,
        "tcp-response": filter,
        "rate-limit": "limits for each client are frontends[].perSource: { connectionRate: \"50/s\" }",
        "http-request track-sc0": "limits for each client are frontends[].perSource",
        "http-request redirect": "the servers must redirect",
        "stick-table": stick, "stick": stick, "appsession": stick, "peers": state,
        "compression": "responses pass as they are; let the servers compress", "filter": "there are no filters",
        "cache": "nothing is cached",
        "unique-id-format": "requests get no id of their own", "unique-id-header": "requests get no id of their own",
        "capture": "log.access has the fields it has",
        "log": "lines go to stderr (the journal) or a file, never to syslog: log.access",
        "log-format": "log.access has format \"json\" or \"haproxy\"",
        "log-format-sd": "log.access has format \"json\" or \"haproxy\"",
        "error-log-format": "log.access has format \"json\" or \"haproxy\"",
        "declare": "log.access has the fields it has",
        "errorloc": "clients aren't sent elsewhere; a page of your own is frontends[].errorPages",
        "errorloc302": "clients aren't sent elsewhere; a page of your own is frontends[].errorPages",
        "errorloc303": "clients aren't sent elsewhere; a page of your own is frontends[].errorPages",
        "errorfiles": "pages of your own are frontends[].errorPages, a file for each status",
        "http-error": "pages of your own are frontends[].errorPages, a file for each status",
        "monitor-uri": "ask the status port: /health (the process runs) or /ready (it can serve)",
        "monitor": "ask the status port: /ready says whether this node can serve",
        "monitor-net": "ask the status port: /health (the process runs) or /ready (it can serve)",
        "dispatch": "write the address as a server", "source": "the kernel chooses the source address",
        "acl": HAProxyRoutes.unread,
        "use-server": "servers are chosen by balance and weight", "force-persist": "a server that is down gets nothing",
        "ignore-persist": "there are no conditions on requests",
        "email-alert": "send mail from cluster/alerts.yml's alerts",
        "external-check": checkProtocol, "tcp-check": checkProtocol, "option tcp-check": checkProtocol,
        "option mysql-check": checkProtocol,
        "option pgsql-check": checkProtocol, "option redis-check": checkProtocol, "option smtpchk": checkProtocol,
        "option ldap-check": checkProtocol, "option ssl-hello-chk": checkProtocol,
        "option external-check": checkProtocol,
        "option spop-check": checkProtocol,
        "option originalto": "servers aren't told which address the client connected to",
        "option http_proxy": "servers are those of the file", "option httpslog": tls,
        "option accept-invalid-http-request": "requests are read strictly; what breaks RFC 9112 gets 400",
        "option accept-invalid-http-response": "responses are read strictly; what breaks RFC 9112 becomes 502",
        "option accept-unsafe-violations-in-http-request": "requests are read strictly; what breaks RFC 9112 gets 400",
        "option accept-unsafe-violations-in-http-response":
            "responses are read strictly; what breaks RFC 9112 becomes 502",
        "option allbackups": "a backup server is used like the others when they are down",
        "option h1-case-adjust-bogus-client": rewrite, "option h1-case-adjust-bogus-server": rewrite,
        "h1-case-adjust": rewrite,
        "option http-ignore-probes": "connections that say nothing end by timeouts.request",
        "option disable-h2-upgrade": "there is no HTTP/2", "http-send-name-header": rewrite,
        "http-check disable-on-404": "a server asks to be drained by status 503 with the field X-Triad-State: drain",
        "http-check send-state": "servers aren't told their state", "http-check connect": "a check is one request",
        "http-check set-var": "a check is one request", "http-check unset-var": "a check is one request",
        "http-check comment": "a check is one request",
        "server-template":
            "write a server for each address; names aren't looked up (`triad add BACKEND/SERVER ADDRESS:PORT` adds one at run time)",
        "stats http-request": "who may read is status.user, who may act status.tokenFile",
        "stats auth": "there is one user: status.user", "presetenv": "write values into the file",
        "setenv": "write values into the file",
        "resetenv": "write values into the file", "unsetenv": "write values into the file",
        "persist": stick, "option transparent": "requests go to servers only",
        "transparent": "requests go to servers only",
    ]

    /// What becomes of whole sections.
    static let sections: [String: ImportNote.Outcome] = [
        "peers": .notNeeded(state), "resolvers": .notConverted("names aren't looked up while running: write addresses"),
        "userlist": .notConverted("the servers must ask for passwords"),
        "mailers": .notConverted("send mail from cluster/alerts.yml's alerts"),
        "program": .notConverted("the service manager runs programs"),
        "http-errors": .notConverted("pages of your own are frontends[].errorPages, a file for each status"),
        "cache": .notConverted("nothing is cached"), "ring": .notConverted("log.access writes to stderr or a file"),
        "log-forward": .notConverted("syslog isn't forwarded"),
        "log-profile": .notConverted("log.access has format \"json\" or \"haproxy\""),
        "fcgi-app": .notConverted("servers speak HTTP/1.1"), "crt-store": .notConverted(tls),
        "crt-list": .notConverted(tls),
        "acme": .notConverted(tls), "traces": .notNeeded("there are no traces"),
    ]
}
