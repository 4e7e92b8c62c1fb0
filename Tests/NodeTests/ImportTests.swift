// ImportTests: what `triad import` makes of haproxy's and keepalived's files: the configuration's own reader takes the
// result, and every directive is accounted for.

import Foundation
import Testing

@testable import Node

@Suite("Import")
struct ImportTests {
    /// Nine servers behind one port, statistics on 8084.
    static let nine = """
        global
            maxconn 4096
            daemon

        defaults
            log     global
            mode    http
            option  httplog
            option  dontlognull
            retries 3
            timeout connect 5000
            timeout client  50s
            timeout server  50s
            timeout queue   3s

        frontend http_front
            bind *:80
            maxconn 2000
            default_backend http_back

        backend http_back
            balance roundrobin
        \((1...9).map { "    server api_\($0) api_\($0):8080 check" }.joined(separator: "\n"))

        listen stats
            bind *:8084
            stats enable
            stats uri /stats
            stats refresh 5s
            stats auth admin:admin
        """

    static let pair = """
        ! the first of two
        global_defs { router_id lb1 }
        vrrp_script chk_haproxy {
            script "killall -0 haproxy"
            interval 2
        }
        vrrp_instance VI_1
        {
            interface eth0
            state MASTER
            virtual_router_id 51
            priority 101          # above the other's
            advert_int 1
            authentication {
                auth_type PASS
                auth_pass secret
            }
            unicast_src_ip 10.0.0.11
            unicast_peer {
                10.0.0.12
            }
            preempt_delay 30
            virtual_ipaddress {
                10.0.0.100/24 dev eth1 label eth1:vip
                10.0.0.101
                fd00::100/64
            }
            track_script { chk_haproxy }
            virtual_routes { 192.168.7.0/24 via 10.0.0.1 }
        }
        virtual_server 10.0.0.100 25 {
            real_server 10.0.1.1 25 {
                weight 1
            }
        }
        """

    private func convert(
        _ haproxy: String, _ keepalived: String? = nil, resolve: HAProxyReader.Resolver? = nil
    ) throws -> ImportCommand.Result {
        try ImportCommand.convert(
            haproxy: ("haproxy.cfg", haproxy), keepalived: keepalived.map { ("keepalived.conf", $0) }, resolve: resolve)
    }

    /// The result as `triad check` reads it, with the files beside it that the next steps ask for.
    private func load(_ result: ImportCommand.Result) throws -> Configuration {
        let scratch = Scratch()
        scratch.write("triad.json5", try #require(result.text))
        scratch.write("gossip.key", Base64.encode(KeygenCommand.key()))
        scratch.write("status.password", "long-enough\n")
        #expect(result.problems.isEmpty)
        return try Configuration.load(scratch.file("triad.json5"), environment: { _ in nil }).get()
    }

    /// A frontend on port 80 and a backend with `lines`.
    private func backend(_ lines: String, defaults: String = "mode http") -> String {
        "defaults\n  \(defaults)\nfrontend web\n  bind :80\n  default_backend api\nbackend api\n  \(lines)\n"
    }

    private func outcome(_ result: ImportCommand.Result, _ directive: String) throws -> ImportNote.Outcome {
        try #require(result.notes.first { $0.directive.hasPrefix(directive) }, "no note of \(directive)").outcome
    }

    /// Converted, needless or lost.
    private func fate(_ result: ImportCommand.Result, _ directive: String) throws -> String {
        switch try outcome(result, directive) {
        case .converted: "converted"
        case .notNeeded: "needless"
        case .notConverted: "lost"
        }
    }

    // MARK: Whole files

    @Test func nineServers() throws {
        let result = try convert(Self.nine, resolve: { $0.hasPrefix("api_") ? "10.0.1.\($0.dropFirst(4))" : nil })
        let configuration = try load(result)
        #expect(configuration.backends[0].servers.map(\.id) == (1...9).map { "api_\($0)" })
        #expect(configuration.backends[0].servers.map(\.address.description) == (1...9).map { "10.0.1.\($0):8080" })
        #expect(configuration.backends[0].balance == .roundrobin)
        #expect(configuration.backends[0].check.interval == .seconds(2))
        #expect(configuration.backends[0].check.fall == 3)
        #expect(configuration.frontends.map(\.name) == ["http_front"])
        #expect((configuration.frontends[0].port, configuration.frontends[0].mode) == (80, .http))
        #expect((configuration.status.port, configuration.status.user) == (8084, "admin"))
        #expect(configuration.status.password == "long-enough")
        #expect(configuration.timeouts.connect == .seconds(5))
        #expect(configuration.timeouts.client == .seconds(50))
        #expect(configuration.limits.retries == 3)
        #expect(configuration.limits.connections == 4096)
        #expect(configuration.timeouts.queue == .seconds(3))
        #expect(configuration.frontends[0].maxConnections == 2000)
        #expect(configuration.log.access?.format == .haproxy)
        #expect(configuration.nodes.count == 3)
        #expect(!result.notes.contains { $0.isLost })
        for node in 1...3 { #expect(result.text?.contains("DECIDE: the address of node n\(node)\n") == true) }
        let password = result.notes.contains { "\($0)".contains("admin:admin") }
        #expect(!password && result.text?.contains("admin:admin") == false, "the password is in no output")
    }

    @Test func namesWithoutAnAddress() throws {
        let result = try convert(Self.nine)
        let configuration = try load(result)
        #expect(configuration.backends[0].servers.count == 9)
        #expect(Set(configuration.backends[0].servers.map(\.address)).count == 9)
        #expect(result.text?.contains("DECIDE: the address of api_9") == true)
    }

    @Test func everyDirectiveIsAccountedFor() throws {
        let result = try convert(Self.nine, Self.pair)
        let noted = Set(result.notes.filter { $0.file == "haproxy.cfg" }.map(\.line))
        for (index, line) in Self.nine.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        where line.hasPrefix(" ") { #expect(noted.contains(index + 1), "line \(index + 1): \(line)") }
        #expect(result.notes.filter { $0.file == "haproxy.cfg" }.map(\.line).isSorted)
    }

    @Test func aPairWithKeepalived() throws {
        let result = try convert(Self.nine, Self.pair)
        let configuration = try load(result)
        #expect(configuration.vips.map(\.address) == ["10.0.0.100/24", "10.0.0.101/32", "fd00::100/64"])
        #expect(configuration.vips.map(\.interface) == ["eth1", "eth0", "eth0"])
        #expect(configuration.nodes.map(\.address).prefix(2) == ["10.0.0.11", "10.0.0.12"])
        #expect(configuration.nodes.map(\.priority) == [101, 0, 0])
        #expect(configuration.nodes.count == 3, "two nodes have no majority without each other")
        #expect(configuration.leadership.preemptHold == .seconds(30))
        #expect(try fate(result, "vrrp_script chk_haproxy") == "needless")
        #expect(try fate(result, "authentication") == "needless")
        #expect(try fate(result, "virtual_routes") == "lost")
        #expect(try fate(result, "virtual_server 10.0.0.100 25") == "lost")
        #expect(try fate(result, "real_server 10.0.1.1 25") == "lost")
        #expect(!result.notes.contains { "\($0)".contains("secret") })
    }

    @Test func haproxysPeersAreNodes() throws {
        let peers = "peers us\n  peer lb1 10.0.0.1:1024\n  peer lb2 10.0.0.2:1024\n  peer lb3 10.0.0.3:1024\n"
        let configuration = try load(try convert(peers + backend("server a 10.0.1.1:80 check")))
        #expect(configuration.nodes.map(\.id) == ["lb1", "lb2", "lb3"])
        #expect(configuration.nodes.map(\.address) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    }

    // MARK: Backends

    @Test func serverOptions() throws {
        let lines = """
            default-server inter 3s fall 5 rise 4 weight 10 send-proxy-v2
              server a 10.0.1.1:80 check
              server b 10.0.1.2:80 check weight 20 maxconn 50 disabled
              server c [fd00::3]:81 check ssl verify none cookie c
              server d unix@/run/d.sock
            """
        let result = try convert(backend(lines))
        let api = try load(result).backends[0]
        #expect(api.servers.map(\.weight) == [10, 0, 10])
        #expect(api.servers[2].address.description == "[fd00::3]:81")
        #expect(api.sendProxy == .v2)
        #expect(api.servers.map(\.maxConnections) == [nil, 50, nil])
        #expect((api.check.interval, api.check.rise, api.check.fall) == (.seconds(3), 4, 5))
        #expect(try fate(result, "server c … ssl") == "lost")
        #expect(try fate(result, "server d") == "lost")
        #expect(try fate(result, "server b 10.0.1.2:80 … disabled") == "converted")
    }

    @Test(
        arguments: [
            ("option httpchk", "OPTIONS", "/", nil, "200–399"),
            ("option httpchk /up\n  http-check expect status 204", "OPTIONS", "/up", nil, "204"),
            (
                "option httpchk HEAD /up HTTP/1.1\\r\\nHost:\\ www.example\n  http-check expect status 200-299,401",
                "HEAD",
                "/up", "www.example", "200–299, 401"
            ),
            (
                "option httpchk\n  http-check send meth GET uri /health ver HTTP/1.1 hdr Host api\n  http-check expect status 200",
                "GET", "/health", "api", "200"
            ),
            ("option httpchk GET /\n  http-check expect rstatus (2|3)[0-9][0-9]", "GET", "/", nil, "200–399"),
            ("option httpchk POST /up", "GET", "/up", nil, "200–399"),
        ] as [(String, String, String, String?, String)])
    func httpChecks(_ lines: String, _ method: String, _ path: String, _ host: String?, _ expect: String) throws {
        let result = try convert(backend(lines + "\n  server a 10.0.1.1:80 check"))
        guard case .http(let check) = try load(result).backends[0].check.kind else {
            Issue.record("no http check")
            return
        }
        #expect((check.method, check.path, check.host) == (method, path, host))
        #expect(check.expect.description == expect)
        #expect(!result.notes.contains { $0.isLost })
    }

    @Test func textInTheBody() throws {
        let lines = "option httpchk GET /\n  http-check expect string \"all \\\"well\\\"\"\n  timeout check 300ms"
        let check = try load(try convert(backend(lines + "\n  server a 10.0.1.1:80 check inter 1s"))).backends[0].check
        guard case .http(let http) = check.kind else { return #expect(Bool(false)) }
        #expect(http.expectBody == "all \"well\"")
        #expect((check.interval, check.timeout) == (.seconds(1), .milliseconds(300)))
    }

    @Test func withoutCheckThereIsATCPCheck() throws {
        let result = try convert(backend("option httpchk GET /\n  server a 10.0.1.1:80"))
        #expect(try load(result).backends[0].check.kind == .tcp)
    }

    @Test func balancing() throws {
        let kinds = [
            "static-rr": "roundrobin", "random(3)": "random", "first": "first", "source": "hash source",
            "uri": "hash uri",
            "hdr(X-User)": "hash header:X-User",
        ]
        for (haproxy, here) in kinds {
            let text =
                "balance \(haproxy)\n server a 10.0.1.1:80 check slowstart 20s\n server b 10.0.1.2:80 backup check"
            let result = try convert(backend(text))
            let backend = try load(result).backends[0]
            let key = backend.balance == .hash ? " \(backend.balancing.hashOn)" : ""
            #expect(backend.balance.rawValue + key == here)
            #expect(backend.balancing.slowStart == .seconds(20))
            #expect(backend.servers.map(\.isBackup) == [false, true])
            #expect(backend.servers.map(\.weight) == [1, 1])
            #expect(try fate(result, "balance") == "converted")
        }
        let result = try convert("listen db\n bind :5432\n balance uri\n server a 10.0.1.1:5432 check\n")
        #expect(try load(result).backends[0].balance == .roundrobin)
    }

    @Test(
        arguments: [
            ("SRV insert indirect nocache", "SRV", false, "converted", nil),
            ("SRV insert indirect nocache httponly secure dynamic", "SRV", true, "converted", nil),
            ("SRV insert", "SRV", false, "converted", nil),
            ("SRV insert indirect domain .example.com maxidle 30m", "SRV", false, "converted", "domain .example.com"),
            ("__Host-SRV insert", nil, false, "lost", nil), ("JSESSIONID prefix", nil, false, "lost", nil),
        ] as [(String, String?, Bool, String, String?)])
    func cookies(_ line: String, _ name: String?, _ isSecure: Bool, _ told: String, _ lost: String?) throws {
        let result = try convert(backend("cookie \(line)\n  server a 10.0.1.1:80 check cookie a1"))
        let cookie = try load(result).backends[0].stickCookie
        #expect((cookie?.name, cookie?.isSecure ?? false) == (name, isSecure))
        #expect(try fate(result, "cookie \(line)") == told)
        #expect(try fate(result, "server a … cookie a1") == "needless")
        if let lost { #expect(try fate(result, "cookie SRV … \(lost)") == "lost") }
        let tcp = "listen db\n bind :5432\n cookie \(line)\n server a 10.0.1.1:5432 check\n"
        #expect(try load(try convert(tcp)).backends[0].stickCookie == nil)
    }

    @Test func whatCantBe() throws {
        let lines = """
            balance rdp-cookie
              cookie S insert indirect nocache
              stick-table type ip size 1m
              compression algo gzip
              http-request set-header X-A b
              http-check expect ! string down
              server a 10.0.1.1:80 check port 8081
            """
        let result = try convert(backend(lines))
        _ = try load(result)
        for directive in [
            "balance rdp-cookie", "stick-table", "compression", "http-request set-header", "http-check expect !",
            "server a … port 8081",
        ] { #expect(try fate(result, directive) == "lost", "\(directive)") }
    }

    // MARK: Frontends

    @Test func binds() throws {
        let text = """
            frontend web
                mode http
                bind *:80
                bind :::80 v4v6
                bind 10.0.0.100:8080,localhost:8081 accept-proxy
                bind :443 ssl crt /etc/site.pem
                bind /run/web.sock
                bind :9000-9010
                default_backend api
            backend api
                mode http
                server a 10.0.1.1:80 check
            """
        let result = try convert(text)
        let frontends = try load(result).frontends
        #expect(frontends.map(\.name) == ["web", "web-2", "web-3"])
        #expect(frontends.map(\.port) == [80, 8080, 8081])
        #expect(frontends.map(\.address) == [nil, "10.0.0.100", "127.0.0.1"])
        #expect(frontends.map(\.acceptProxy.count) == [0, 2, 2])
        #expect(try fate(result, "bind :443 ssl") == "lost")
        #expect(try fate(result, "bind /run/web.sock") == "lost")
        #expect(try fate(result, "bind :9000-9010") == "lost")
        #expect(try fate(result, "bind :::80 v4v6") == "needless")
    }

    @Test func modeIsTCPUnlessSaid() throws {
        let result = try convert("listen db\n  bind :5432\n  timeout client 30m\n  server a 10.0.1.1:5432 check\n")
        let configuration = try load(result)
        #expect(configuration.frontends[0].mode == .tcp)
        #expect(configuration.timeouts.tunnel == .seconds(1800))
    }

    @Test func theOldForm() throws {
        let text =
            "defaults\n mode http\n contimeout 4000\n clitimeout 1m\nlisten web 0.0.0.0:81\n server a 10.0.1.1:80 check\n"
        let configuration = try load(try convert(text))
        #expect((configuration.frontends[0].port, configuration.backends[0].name) == (81, "web"))
        #expect(configuration.timeouts.connect == .seconds(4))
    }

    @Test func theLongestOfATimeoutCounts() throws {
        let text = """
            defaults
                mode http
                timeout client 10s
                timeout server 10s
            listen a
                bind :81
                timeout client 20s
                server a 10.0.1.1:80 check
            listen b
                bind :82
                server a 10.0.1.1:80 check
            listen stats
                bind :8404
                stats enable
                timeout client 10m
            """
        let result = try convert(text)
        let configuration = try load(result)
        #expect(configuration.timeouts.client == .seconds(20))
        #expect(configuration.timeouts.server == .seconds(10))
        #expect(configuration.status.port == 8404)
        #expect(try fate(result, "timeout client 10s") == "lost")
        #expect(try fate(result, "timeout client 20s") == "converted")
        #expect(try fate(result, "timeout client 10m") == "needless")
    }

    @Test func namedDefaultsAndTheLatest() throws {
        let text = """
            defaults web
                mode http
                balance leastconn
            defaults plain
                mode tcp
            listen a from web
                bind :81
                server a 10.0.1.1:80 check
            listen b
                bind :82
                server a 10.0.1.1:80 check
            """
        let configuration = try load(try convert(text))
        #expect(configuration.frontends.map(\.mode) == [.http, .tcp])
        #expect(configuration.backends.map(\.balance) == [.leastconn, .roundrobin])
    }

    @Test func aFrontendWithRulesOnlyAsks() throws {
        let text = """
            frontend web
                bind :80
                mode http
                acl img path_beg /img
                use_backend images if img
            backend images
                mode http
                server a 10.0.1.1:80 check
            """
        let result = try convert(text)
        _ = try load(result)
        #expect(result.text?.contains("DECIDE: the backend") == true)
        #expect(try fate(result, "use_backend images") == "converted")
    }

    /// A frontend with `lines`, and backends a to d.
    private func routing(_ lines: String, mode: String = "http") -> String {
        let backends = ["a", "b", "c", "d"].map { "backend \($0)\n  server s 10.0.1.1:80 check\n" }.joined()
        return "defaults\n  mode \(mode)\nfrontend web\n  bind :80\n  \(lines)\n  default_backend d\n\(backends)"
    }

    @Test(
        arguments: [
            ("use_backend a if { path_beg /a/ }", ["-/a/ a"]),
            ("use_backend a if { path -m beg -- /a /b }", ["-/a a", "-/b a"]),
            ("use_backend a if { hdr(host) -i WWW.example:8080 }", ["www.example- a"]),
            ("use_backend a if { req.hdr(Host),field(1,:),lower x.y } { path_beg /v1 }", ["x.y-/v1 a"]),
            (
                "acl h hdr_end(host) -i .x.y\n acl p path_beg /v1\n acl p path_beg /v2\n use_backend a if h p",
                ["*.x.y-/v1 a", "*.x.y-/v2 a"]
            ),
            ("use_backend a if { hdr_dom(host) -i x.y }", ["x.y- a", "*.x.y- a"]),
            ("use_backend a if { hdr_beg(host) -i x.y }", ["x.y- a"]),
            (
                "use_backend a if { hdr(host) x.y } or { path_beg /p } || { base_beg z.y/q }",
                ["x.y- a", "-/p a", "z.y-/q a"]
            ),
            (
                "acl p path_beg /a\n use_backend a if p\n use_backend b if p { hdr(host) x.y }\n use_backend c if { path_beg /c }",
                ["-/a a", "-/c c"]
            ),
            ("acl p path_beg /a\n acl p path_reg ^/x\n use_backend a if p", ["-/a a"]),
            ("use_backend a if { hdr_end(host) .x.y } { hdr(host) q.x.y }", ["q.x.y- a"]),
            ("use_backend a if { path /a } or { path_beg /a/ }", ["-/a a"]),
            (
                "acl p path /a\n acl p path_beg /a/ /b/\n use_backend a if p { hdr(host) x.y }",
                ["x.y-/a a", "x.y-/b/ a"]
            ),
            ("use_backend a if { path / /b/c } or { path_beg /b }", ["-/b a"]),
        ] as [(String, [String])])
    func rulesBecomeRoutes(_ lines: String, _ routes: [String]) throws {
        let result = try convert(routing(lines))
        let configuration = try load(result)
        let found = configuration.frontends[0].routes.map {
            "\($0.host ?? "")-\($0.path ?? "") \(configuration.backends[$0.backend].name)"
        }
        #expect(found == routes)
        #expect(configuration.backends[configuration.frontends[0].backend].name == "d")
        #expect(try fate(result, "use_backend a") == "converted")
        let noted = Set(result.notes.map(\.line))
        for (index, line) in routing(lines).split(separator: "\n").enumerated() where line.hasPrefix(" ") {
            #expect(noted.contains(index + 1), "\(line)")
        }
    }

    @Test(arguments: [
        "unless { path_beg /a }", "if !h", "if { path /a }", "if { path_reg ^/a }", "if { path_end .png }",
        "if { src 10.0.0.0/8 }",
        "if { hdr_beg(host) www. }", "if { hdr(user-agent) x.y }", "if { path_beg /a } { method POST }", "if h", "if",
        "if { hdr(host) a.b } { hdr(host) c.d }", "if { hdr(host) -f hosts.lst }", "if { path_beg a }",
        "if { hdr_dom(host) www }",
        "if { path_beg", "if { hdr(host),map(x) a.b }", "if { path_beg /a } or", "if { url_dec -m beg /a }",
    ])
    func rulesThatRoutesCantSay(_ condition: String) throws {
        let result = try convert(routing("use_backend a \(condition)\n  acl other path_beg /o"))
        #expect(try load(result).frontends[0].routes.isEmpty)
        #expect(try fate(result, "use_backend a") == "lost")
        #expect(try fate(result, "acl other") == "lost", "no rule uses it")
    }

    @Test func rulesSayWhatDiffers() throws {
        let lines =
            "acl p path_beg -i /api\n  acl p path_reg ^/x\n  use_backend a if p\n  use_backend b if { path_beg /api/v1 }"
        let result = try convert(routing(lines))
        let note = try #require(result.notes.first { $0.directive.hasPrefix("use_backend a") }).description
        #expect(note.contains("some of what p asks is left out"))
        #expect(note.contains("/api fits whole segments") && note.contains("paths in other cases don't fit"))
        #expect(try fate(result, "acl p path_beg") == "converted")
        #expect(try fate(result, "acl p path_reg") == "lost")
        #expect(try fate(result, "use_backend b") == "needless", "it never got a request")
        let tcp = try convert(routing("use_backend a if { path_beg /a }", mode: "tcp"))
        #expect(try fate(tcp, "use_backend a") == "lost")
        #expect(try fate(try convert(routing("use_backend gone if { path_beg /a }")), "use_backend gone") == "lost")
    }

    @Test func theStatusPortGivesWay() throws {
        let text = "listen web\n  bind :8084\n  stats enable\n  stats uri /admin\n  server a 10.0.1.1:80 check\n"
        let configuration = try load(try convert(text))
        #expect((configuration.frontends[0].port, configuration.status.port) == (8084, 8085))
    }

    @Test func nothingThatListens() throws {
        let result = try convert(
            "frontend web\n  bind :443 ssl crt a.pem\n  default_backend api\nbackend api\n  server a 10.0.1.1:80\n")
        #expect(result.text == nil)
        #expect(try fate(result, "bind :443 ssl") == "lost")
    }

    @Test func oddNamesAndTexts() throws {
        let text =
            "listen we:b/1\n  bind :81\n  mode http\n  server a:1 10.0.1.1:80 check\n  server a:1 10.0.1.2:80 check\n"
        let configuration = try load(try convert(text))
        #expect(configuration.backends[0].name == "we-b-1")
        #expect(configuration.backends[0].servers.map(\.id) == ["a-1", "a-1-2"])
    }
}

extension [Int] {
    fileprivate var isSorted: Bool { zip(self, dropFirst()).allSatisfy { $0 <= $1 } }
}
