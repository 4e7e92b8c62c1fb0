// ConfigurationTests: what a file comes to, and what is said about each way to get one wrong.

import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationTests {
    private static let environment = ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"]

    private func load(
        _ text: String, environment: [String: String] = Self.environment
    ) -> Result<Configuration, ConfigurationProblems> {
        var reader = ConfigurationReader(file: "triad.json5", environment: { environment[$0] })
        return reader.read(Array(text.utf8))
    }

    private func lines(_ text: String, environment: [String: String] = Self.environment) -> [String] {
        switch load(text, environment: environment) {
        case .success: []
        case .failure(let problems): problems.all.map(\.description)
        }
    }

    // MARK: Valid files

    @Test func readsEverything() throws {
        let configuration = try load(Examples.full).get()
        #expect(configuration.cluster == "web")
        #expect(configuration.nodes.map(\.id) == ["n1", "n2", "n3"])
        #expect(configuration.nodes.map(\.priority) == [10, 0, 0])
        #expect(configuration.nodes.map(\.gossipPort) == [7946, 7946, 7950])
        #expect(configuration.nodes.map(\.statusPort) == [8084, 8084, 8090])
        #expect(configuration.vips.map(\.address) == ["10.0.0.100/32"])
        #expect(configuration.vips.map(\.interface) == ["eth0"])
        #expect(configuration.fencing == .wait)
        #expect(configuration.gossip.keys == [Array(0...31)])
        #expect(configuration.gossip.lease == .milliseconds(150))
        #expect(configuration.gossip.electionTimeoutMax == .milliseconds(300))
        #expect(configuration.status.token == "a-test-token")
        #expect(configuration.data == "/var/lib/triad")
        #expect(configuration.frontends == [.init(name: "http", address: nil, port: 80, mode: .http, backend: 0)])
        let backend = try #require(configuration.backends.first)
        #expect(backend.balance == .roundrobin)
        #expect(backend.check.kind == .http(HTTPCheck(path: "/health")))
        #expect(backend.check.interval == .seconds(1))
        #expect(backend.servers.map(\.id) == ["api_1", "api_2"])
        #expect(backend.servers.map(\.weight) == [1, 3])
        #expect(backend.servers.map(\.address.description) == ["10.0.0.21:8080", "10.0.0.22:8080"])
        #expect(configuration.workers == 2)
        #expect(configuration.timeouts == .init())
        #expect(configuration.limits == .init())
        #expect(configuration.log.level == .info)
        #expect(configuration.leadership.gateway == "10.0.0.1")
    }

    @Test func readsTCPAndProxyHeaders() throws {
        let text = Examples.least
            .replacing(
                "frontends: [",
                with: """
                    timeouts: { tunnel: "2h", halfClosed: "10s" }, frontends: [
                      { name: "db", port: 5432, mode: "tcp", backend: "api", acceptProxy: ["10.0.0.0/8", "::1"] },
                    """
            )
            .replacing("backends: [{ ", with: "backends: [{ sendProxy: \"v2\", ")
        let configuration = try load(text, environment: [:]).get()
        let frontend = try #require(configuration.frontends.first { $0.name == "db" })
        #expect(frontend.mode == .tcp)
        #expect(frontend.acceptProxy.map(\.description) == ["10.0.0.0/8", "::1/128"])
        #expect(configuration.backends[0].sendProxy == .v2)
        #expect(configuration.timeouts.tunnel == .seconds(7200) && configuration.timeouts.halfClosed == .seconds(10))
        let settings = configuration.proxySettings(workers: 1)
        #expect(settings.frontends.map(\.mode).contains(.tcp) && settings.backends[0].sendProxy == .v2)
        #expect(settings.timeouts.tunnelMs == 7_200_000 && settings.timeouts.halfClosedMs == 10_000)
        // Each is something that nodes must agree on.
        for (key, other) in [
            ("\"2h\"", "\"3h\""), ("\"10s\"", "\"11s\""), ("\"tcp\"", "\"http\""), ("\"::1\"", "\"::2\""),
            ("\"v2\"", "\"v1\""),
        ] {
            #expect(try load(text.replacing(key, with: other), environment: [:]).get().digest != configuration.digest)
        }
    }

    @Test func fillsInDefaults() throws {
        let configuration = try load(Examples.least, environment: [:]).get()
        #expect(configuration.vips.isEmpty)
        #expect(configuration.fencing == .auto)
        #expect(configuration.gossip.port == 7946)
        #expect(configuration.gossip.keys.isEmpty)
        #expect(configuration.gossip.heartbeat == .milliseconds(30))
        #expect(configuration.gossip.electionTimeoutMin == .milliseconds(200))
        #expect(configuration.status == .init(port: 8084))
        #expect(configuration.data == "/var/lib/triad")
        #expect(configuration.workers == nil)
        #expect(
            configuration.leadership == .init(fitnessHold: .milliseconds(1500), preemptHold: .seconds(10), gateway: nil)
        )
        #expect(configuration.timeouts.request == .seconds(10))
        #expect(configuration.limits.retries == 2)
        #expect(configuration.backends[0].check.kind == .tcp)
        #expect(configuration.backends[0].check.timeout == .milliseconds(500))
        #expect(configuration.backends[0].servers[0].weight == 1)
    }

    @Test func sortsNodesById() throws {
        let text = Examples.full.replacing("\"n1\"", with: "\"z\"")
        #expect(try load(text).get().nodes.map(\.id) == ["n2", "n3", "z"])
    }

    @Test func takesSeveralVIPsOfBothFamilies() throws {
        let list = """
            vip: [{ address: "10.0.0.100", interface: "eth0" }, { address: "2001:DB8::64/64", interface: "eth0", fencing: "trust" }],
            """
        let configuration = try load(changed("vip", list)).get()
        #expect(configuration.vips.map(\.address) == ["10.0.0.100/32", "2001:db8::64/64"])
        #expect(configuration.vips.map(\.isIPv6) == [false, true])
        #expect(configuration.fencing == .trust)
        #expect(try load(changed("vip", list.replacing("trust", with: "gate"))).get().fencing == .gate)
    }

    @Test func takesIPv6Nodes() throws {
        var text = Examples.full.replacing("10.0.0.1", with: "2001:db8::1")
        text = text.replacing("2001:db8::100/32", with: "2001:db8::100/128")
        let configuration = try load(text).get()
        #expect(configuration.nodes.map(\.address) == ["2001:db8::11", "2001:db8::12", "2001:db8::13"])
        #expect(configuration.nodes[0].gossipAddress?.description == "[2001:db8::11]:7946")
    }

    @Test func theEnvironmentOverridesWhatBelongsToAMachine() throws {
        let extra = ["TRIAD_WORKERS": "7", "TRIAD_DATA": "/elsewhere"]
        let environment = Self.environment.merging(extra) { $1 }
        let configuration = try load(Examples.full, environment: environment).get()
        #expect(configuration.workers == 7)
        #expect(configuration.data == "/elsewhere")
        #expect(
            lines(Examples.full, environment: Self.environment.merging(["TRIAD_WORKERS": "many"]) { $1 }) == [
                "triad.json5: TRIAD_WORKERS: expected a whole number from 1 to 256, found \"many\""
            ])
    }

    @Test func requiresAKnownNode() throws {
        let configuration = try load(Examples.full).get()
        #expect(try configuration.requirePlace(of: "n2") == 1)
        do {
            _ = try configuration.requirePlace(of: "n4")
            Issue.record("n4 was found")
        } catch {
            let text = "no node has the id \"n4\"; did you mean \"n1\"? The file has n1, n2, n3"
            #expect(error.description == "triad.json5: nodes: \(text)")
        }
    }

    // MARK: Digest

    @Test func theDigestIsOfTheContentAlone() throws {
        let digest = try load(Examples.full).get().digest
        #expect(digest.utf8.count == 16)
        let spaced = Examples.full.replacing("\", ", with: "\" /* x */ ,\n  ").replacing("\"30s\"", with: "'0.5m'")
        #expect(try load(spaced).get().digest == digest)
        let otherSecrets = [
            "TRIAD_GOSSIP_KEY": Base64.encode([UInt8](repeating: 9, count: 32)), "TRIAD_DATA": "/d",
            "TRIAD_TOKEN": "battery-staple",
        ]
        #expect(try load(Examples.full, environment: otherSecrets).get().digest == digest)
    }

    // MARK: Wrong values

    /// `Examples.full` with the line that begins with `key:` replaced.
    private func changed(_ key: String, _ line: String) -> String {
        let lines = Examples.full.split(separator: "\n", omittingEmptySubsequences: false)
        return lines.map { $0.hasPrefix("  \(key):") ? "  \(line)" : String($0) }.joined(separator: "\n")
    }

    struct Misuse: Sendable, CustomTestStringConvertible {
        let old: String
        let new: String
        let message: String
        init(_ old: String, _ new: String, _ message: String) {
            self.old = old
            self.new = new
            self.message = message
        }
        var testDescription: String { new }
    }

    @Test(arguments: [
        Misuse(
            "cluster: \"web\"", "cluster: \"my web\"",
            "3:12: cluster: \"my web\" can't name a cluster: use 1 to 64 letters, digits, \"-\", \"_\" or \".\""),
        Misuse("cluster: \"web\"", "cluster: 7", "3:12: cluster: expected a cluster, such as \"web-1\", found 7"),
        Misuse("cluster: \"web\"", "cluster: ''", "3:12: cluster: is empty; expected a cluster, such as \"web-1\""),
        Misuse("cluster: \"web\",", "", "2:1: cluster: is missing; add a name for the cluster: cluster: \"web\""),
        Misuse("workers: 2", "worker: 2", "22:3: worker: unknown key; did you mean \"workers\"?"),
        Misuse(
            "workers: 2", "workers: 0",
            "22:12: workers: expected a number of threads: a whole number from 1 to 256, found 0"),
        Misuse(
            "workers: 2", "workers: \"2\"",
            "22:12: workers: expected a number of threads: a whole number from 1 to 256, without quotes, found \"2\""),
        Misuse("id: \"n2\"", "id: \"n1\"", "6:5: nodes[1]: another node has the id \"n1\"; ids must differ"),
        Misuse(
            "10.0.0.12\"", "10.0.0.11\"",
            "6:5: nodes[1]: node n1 has the address 10.0.0.11 too; nodes on one address need a gossipPort and a statusPort each"
        ),
        Misuse(
            "10.0.0.12\"", "10.0.0.256\"",
            "6:26: nodes[1].address: \"10.0.0.256\" is not an IP address; write it as \"10.0.0.11\" or \"2001:db8::11\""
        ),
        Misuse(
            "10.0.0.12\"", "10.0.0.12:7946\"",
            "6:26: nodes[1].address: \"10.0.0.12:7946\" is not an IP address; the port doesn't belong here"),
        Misuse(
            "10.0.0.12\"", "10.0.0.12/24\"",
            "6:26: nodes[1].address: \"10.0.0.12/24\" is not an IP address; the prefix doesn't belong here: \"10.0.0.12\""
        ),
        Misuse(
            "10.0.0.12\"", "node2.lan\"",
            "6:26: nodes[1].address: \"node2.lan\" is not an IP address; names aren't looked up (a look-up can block and change its mind): write the address itself"
        ),
        Misuse(
            "10.0.0.12\"", "0.0.0.0\"",
            "6:26: nodes[1].address: \"0.0.0.0\" is the unspecified address; use the address of one machine"),
        Misuse(
            "10.0.0.12\"", "224.0.0.1\"",
            "6:26: nodes[1].address: \"224.0.0.1\" is a multicast address; use the address of one machine"),
        Misuse(
            "10.0.0.12\"", "fe80::12\"",
            "6:5: nodes[1]: fe80::12 is IPv6 and 10.0.0.11 is not; nodes talk to each other over one family"),
        Misuse(
            "10.0.0.12\"", "127.0.0.1\"",
            "6:5: nodes[1]: 127.0.0.1 and 10.0.0.11 can't reach each other: one is a loopback address"),
        Misuse(
            "address: \"10.0.0.12\"", "adress: \"10.0.0.12\"",
            "6:5: nodes[1].address: is missing; add this machine's address: address: \"10.0.0.11\""),
        Misuse(
            "priority: 10", "priority: -1",
            "5:49: nodes[0].priority: expected a priority: a whole number from 0 to 1000, found -1"),
        Misuse(
            "gossipPort: 7950", "gossipPort: 70000",
            "7:51: nodes[2].gossipPort: expected a port: a whole number from 1 to 65535, found 70000"),
        Misuse(
            "10.0.0.100/32", "10.0.0.100/33",
            "9:19: vip.address: the prefix /33 is not a number from 1 to 32; write \"10.0.0.100/32\""),
        Misuse(
            "10.0.0.100/32", "10.0.0/32",
            "9:19: vip.address: \"10.0.0/32\" is not an address with a prefix; write it as \"10.0.0.100/32\" or \"2001:db8::100/128\""
        ),
        Misuse(
            "10.0.0.100/32", "10.0.0.12/32",
            "9:19: vip.address: 10.0.0.12 is node n2's own address; the VIP must be a spare one"),
        Misuse(
            "10.0.0.100/32", "127.0.0.2/32",
            "9:19: vip.address: \"127.0.0.2/32\" is a loopback address; the VIP must be one that clients can reach"),
        Misuse(
            ", interface: \"eth0\"", "",
            "9:8: vip.interface: is missing; add the interface that gets it: interface: \"eth0\""),
        Misuse(
            "\"eth0\"", "\"eth0; reboot\"",
            "9:47: vip.interface: \"eth0; reboot\" can't name a network interface; `ip link` lists the ones of a machine"
        ),
        Misuse(
            "fencing: \"wait\"", "fencing: \"thrust\"",
            "9:64: vip.fencing: unknown fencing \"thrust\"; did you mean \"trust\"? This version has \"auto\" or \"gate\" or \"wait\" or \"trust\""
        ),
        Misuse(
            "\"30ms\"", "30",
            "10:59: gossip.heartbeat: expected a duration, found 30; a duration is a string with a unit, such as \"250ms\""
        ),
        Misuse(
            "\"30ms\"", "\"30\"",
            "10:59: gossip.heartbeat: \"30\" is not a duration; write a number and one of the units us, ms, s, m, h or d, such as \"250ms\""
        ),
        Misuse("\"30ms\"", "\"1ms\"", "10:59: gossip.heartbeat: \"1ms\" is out of range; from \"5ms\" to \"1m\""),
        Misuse(
            "\"30ms\"", "\"80ms\"",
            "10:59: gossip.heartbeat: heartbeat (80ms) must be at most half of lease (150ms): one lost datagram must not end the lease; lower heartbeat to \"30ms\" or raise lease"
        ),
        Misuse(
            "lease: \"150ms\"", "lease: \"200ms\"",
            "10:74: gossip.lease: lease (200ms) must be at most three quarters of the shortest electionTimeout (200ms): a new leader may be elected after that timeout, and the old one must have let go of the VIP by then, with room for clocks that differ and for the fence to act; lower lease to \"150ms\" or raise electionTimeout"
        ),
        Misuse(
            "[\"200ms\", \"300ms\"]", "\"300ms\"",
            "10:100: gossip.electionTimeout: expected a list of the shortest and the longest: [\"200ms\", \"300ms\"], found \"300ms\""
        ),
        Misuse(
            "[\"200ms\", \"300ms\"]", "[\"300ms\", \"200ms\"]",
            "10:100: gossip.electionTimeout: the first (300ms) must be below the second (200ms): each candidate picks a random time between them, so that two rarely collide"
        ),
        Misuse(
            "[\"200ms\", \"300ms\"]", "[\"200ms\", \"210ms\"]",
            "10:100: gossip.electionTimeout: the two times of electionTimeout must be at least one heartbeat (30ms) apart, or candidates collide again and again"
        ),
        Misuse("{ port: 8084,", "{ port: 8084, user: \"ops\",", "11:31: status.user: needs a passwordFile beside it"),
        Misuse(
            "{ port: 8084,", "{ port: 8084, adress: \"::\",",
            "11:25: status.adress: unknown key; did you mean \"address\"?"),
        Misuse(
            "port: 80,", "port: 8084,",
            "13:38: frontends[0].port: 8084 is the status port; use another port here, or set status.port"),
        Misuse(
            "port: 80,", "port: \"80\",",
            "13:38: frontends[0].port: expected a port: a whole number from 1 to 65535, without quotes, found \"80\""),
        Misuse(
            "port: 80,", "address: \"lo\", port: 80,",
            "13:41: frontends[0].address: \"lo\" is not an IP address; names aren't looked up (a look-up can block and change its mind): write the address itself"
        ),
        Misuse(
            "mode: \"http\"", "mode: \"tpc\"",
            "13:48: frontends[0].mode: unknown mode \"tpc\"; did you mean \"tcp\"? This version has \"http\" or \"tcp\""
        ),
        Misuse(
            "mode: \"http\"", "acceptProxy: []",
            "13:55: frontends[0].acceptProxy: is empty, so nobody's header would be read; leave it out, or name networks: acceptProxy: [\"10.0.0.0/8\"]"
        ),
        Misuse(
            "mode: \"http\"", "acceptProxy: [\"10.0.0.1/8\"]",
            "13:56: frontends[0].acceptProxy[0]: 10.0.0.1 isn't the first address of a /8 network; did you mean \"10.0.0.0/8\"?"
        ),
        Misuse(
            "mode: \"http\"", "acceptProxy: [\"::/129\"]",
            "13:56: frontends[0].acceptProxy[0]: the prefix /129 is not a number from 0 to 128"),
        Misuse(
            "mode: \"http\"", "acceptProxy: [\"lb\"]",
            "13:56: frontends[0].acceptProxy[0]: \"lb\" is no network; write it as \"10.0.0.0/8\" or \"2001:db8::/32\""),
        Misuse(
            "balance: \"roundrobin\"", "sendProxy: \"v3\"",
            "15:29: backends[0].sendProxy: unknown PROXY header \"v3\"; did you mean \"v1\"? This version has \"v1\" or \"v2\""
        ),
        Misuse(
            "mode: \"http\"", "mode: \"https\"",
            "13:48: frontends[0].mode: unknown mode \"https\"; did you mean \"http\"? This version has \"http\" or \"tcp\""
        ),
        Misuse(
            "backend: \"api\"", "backend: \"apis\"",
            "13:65: frontends[0].backend: no backend is called \"apis\"; did you mean \"api\"?"),
        Misuse(
            "backend: \"api\" ", "backend: \"www\" ",
            "13:65: frontends[0].backend: no backend is called \"www\"; known: api"),
        Misuse(
            "\"roundrobin\"", "\"round-robin\"",
            "15:27: backends[0].balance: unknown balance \"round-robin\"; did you mean \"roundrobin\"? This version has \"roundrobin\" or \"leastconn\" or \"random\" or \"hash\" or \"first\""
        ),
        Misuse(
            "\"roundrobin\"", "\"source\"",
            "15:27: backends[0].balance: unknown balance \"source\"; this version has \"roundrobin\" or \"leastconn\" or \"random\" or \"hash\" or \"first\""
        ),
        Misuse(
            "type: \"http\"", "type: \"https\"",
            "16:20: backends[0].check.type: unknown check type \"https\"; did you mean \"http\"? This version has \"tcp\" or \"http\" or \"icmp\""
        ),
        Misuse(
            "type: \"http\", path: \"/health\", expect: 200", "type: \"tcp\", path: \"/\"",
            "16:33: backends[0].check.path: belongs to a check of type \"http\"; a tcp check only opens a connection"),
        Misuse("\"/health\"", "\"health\"", "16:34: backends[0].check.path: must begin with \"/\": \"/health\""),
        Misuse(
            "\"/health\"", "\"/a b\"",
            "16:34: backends[0].check.path: may hold only visible ASCII characters without spaces, at most 1024 (escape others as %XX)"
        ),
        Misuse(
            "expect: 200", "expect: \"2xx\"",
            "16:53: backends[0].check.expect: \"2xx\" is no HTTP status; write 200, a range such as \"200-399\" (from 200 to 599), or a list"
        ),
        Misuse(
            "timeout: \"500ms\"", "timeout: \"2s\"",
            "16:83: backends[0].check.timeout: 2s is longer than the interval (1s): a check must be over before the next begins"
        ),
        Misuse(
            "rise: 2", "rise: 0",
            "16:98: backends[0].check.rise: expected a count: a whole number from 1 to 100, found 0"),
        Misuse(
            "api_2", "api_1",
            "19:13: backends[0].servers[1].id: another server of this backend has the id \"api_1\"; ids must differ"),
        Misuse(
            "api_2", "api/2",
            "19:13: backends[0].servers[1].id: \"api/2\" can't name a server: use 1 to 64 letters, digits, \"-\", \"_\" or \".\""
        ),
        Misuse(
            "10.0.0.22:8080", "10.0.0.21:8080",
            "19:31: backends[0].servers[1].address: another server of this backend has the address 10.0.0.21:8080; for a larger share use one server with a larger weight"
        ),
        Misuse(
            "10.0.0.22:8080", "10.0.0.22",
            "19:31: backends[0].servers[1].address: \"10.0.0.22\" is not an address with a port; the port is missing: \"10.0.0.22:8080\""
        ),
        Misuse(
            "10.0.0.22:8080", "2001:db8::22",
            "19:31: backends[0].servers[1].address: \"2001:db8::22\" is not an address with a port; an IPv6 address needs brackets and a port: \"[2001:db8::22]:8080\""
        ),
        Misuse(
            "10.0.0.22:8080", "api2:8080",
            "19:31: backends[0].servers[1].address: \"api2:8080\" is not an address with a port; names aren't looked up (a look-up can block and change its mind): write the address itself"
        ),
        Misuse(
            "10.0.0.22:8080", "10.0.0.22:http",
            "19:31: backends[0].servers[1].address: \"10.0.0.22:http\" is not an address with a port; the port \"http\" is not a number from 1 to 65535"
        ),
        Misuse(
            "10.0.0.22:8080", "10.0.0.22:0",
            "19:31: backends[0].servers[1].address: port 0 can't be connected to; use 1 to 65535"),
        Misuse(
            "10.0.0.22:8080", "10.0.0.100:80",
            "19:31: backends[0].servers[1].address: 10.0.0.100:80 is this cluster's own frontend \"http\": requests would go in circles; write the address of the server itself"
        ),
        Misuse(
            "weight: 3", "weight: 257",
            "19:57: backends[0].servers[1].weight: expected a weight: a whole number from 0 to 256, found 257"),
        Misuse(
            "weight: 3", "weight: 1.5",
            "19:57: backends[0].servers[1].weight: expected a weight: a whole number from 0 to 256, found 1.5"),
        Misuse(
            "\"1m\"", "\"forever\"",
            "23:87: timeouts.keepAlive: \"forever\" is not a duration; write a number and one of the units us, ms, s, m, h or d, such as \"250ms\""
        ),
        Misuse("keepAlive:", "keepalive:", "23:76: timeouts.keepalive: unknown key; did you mean \"keepAlive\"?"),
        Misuse(
            "requestHead: \"16KiB\"", "requestHead: 16384",
            "24:26: limits.requestHead: expected a size, found 16384; a size is a string with a unit, such as \"16KiB\""
        ),
        Misuse(
            "requestHead: \"16KiB\"", "requestHead: \"16K\"",
            "24:26: limits.requestHead: \"16K\" is not a size; write a number and one of the units B, KiB, MiB or GiB, such as \"16KiB\""
        ),
        Misuse(
            "requestHead: \"16KiB\"", "requestHead: \"1GiB\"",
            "24:26: limits.requestHead: \"1GiB\" is out of range; from \"1KiB\" to \"1MiB\""),
        Misuse(
            "requestHead: \"16KiB\"", "requestHead: \"32KiB\"",
            "24:26: limits.requestHead: a request's head (32KiB) must fit one buffer (16KiB); lower limits.requestHead or raise limits.buffer"
        ),
        Misuse(
            "\"info\"", "\"verbose\"",
            "25:17: log.level: unknown level \"verbose\"; this version has \"debug\" or \"info\" or \"warning\" or \"error\""
        ),
        Misuse(
            "fitnessHold", "fitnesshold",
            "26:17: leadership.fitnesshold: unknown key; did you mean \"fitnessHold\"?"),
        Misuse(
            "fitnessHold: \"2s\"", "fitnessHold: \"100ms\"",
            "26:30: leadership.fitnessHold: \"100ms\" is out of range; from \"200ms\" to \"10m\""),
        Misuse(
            "preemptHold: \"10s\"", "preemptHold: 10",
            "26:49: leadership.preemptHold: expected a duration, found 10; a duration is a string with a unit, such as \"1s\""
        ),
        Misuse(
            "gateway: \"10.0.0.1\"", "gateway: \"router.lan\"",
            "26:65: leadership.gateway: \"router.lan\" is not an IP address; names aren't looked up (a look-up can block and change its mind): write the address itself"
        ),
        Misuse(
            "gateway: \"10.0.0.1\"", "gateway: \"10.0.0.100\"",
            "26:65: leadership.gateway: 10.0.0.100 is the VIP, which the leader itself answers for; name one that only a working network reaches, such as the router: \"10.0.0.1\""
        ),
        Misuse(
            "gateway: \"10.0.0.1\"", "gateway: \"10.0.0.12\"",
            "26:65: leadership.gateway: 10.0.0.12 is node n2, which always reaches itself; name one that only a working network reaches, such as the router: \"10.0.0.1\""
        ),
        Misuse(
            "gateway: \"10.0.0.1\"", "gateway: \"fe80::1\"",
            "26:65: leadership.gateway: fe80::1 is a link-local address, which means another machine on each interface; name one that only a working network reaches, such as the router: \"10.0.0.1\""
        ),
        Misuse("leadership:", "leadreship:", "26:3: leadreship: unknown key; did you mean \"leadership\"?"),
        Misuse("log: {", "log: 7, x: {", "25:8: log: expected an object: { … }, found a number"),
        Misuse(
            "workers: 2,", "workers: 2, workers: 3,",
            "22:15: the key workers appears twice in one object (first at line 22); remove one"),
    ])
    func says(_ misuse: Misuse) {
        #expect(Examples.full.contains(misuse.old))
        let found = lines(Examples.full.replacing(misuse.old, with: misuse.new))
        #expect(found.contains("triad.json5:" + misuse.message), "\(found.joined(separator: "\n"))")
    }

    @Test func explainsAnEvenNumberOfNodes() {
        let text = changed("nodes", "nodes: [{ id: \"n0\", address: \"10.0.0.10\" },")
        #expect(
            lines(text) == [
                "triad.json5:4:10: nodes: 4 nodes is an even number: a majority of 4 is 3, so it survives no more failures "
                    + "than 3 would, and a split in half leaves no majority; use 3 or 5"
            ])
    }

    @Test(arguments: [
        ("nodes: []", "nodes: is empty; one node alone is the smallest cluster, three the smallest that survives one"),
        (
            "nodes: [" + (1...9).map { "{ id: 'n\($0)', address: '10.0.0.\($0)' }" }.joined(separator: ",") + "]",
            "nodes: 9 nodes; at most 7 (use 3, 5 or 7)"
        ),
        ("nodes: {}", "nodes: expected a list of nodes, found an object"),
        ("nodes: [null]", "nodes[0]: expected an object: { … }, found null"),
    ])
    func checksTheListOfNodes(_ nodes: String, _ message: String) {
        let text = Examples.least.replacing("nodes: [{ id: \"n1\", address: \"127.0.0.1\" }]", with: nodes)
        #expect(lines(text).contains { $0.hasSuffix(message) }, "\(lines(text))")
    }

    @Test(arguments: [
        (
            "[{ name: 'a', port: 80, backend: 'api' }, { name: 'a', port: 81, backend: 'api' }]",
            "frontends[1].name: another frontend is called \"a\"; names must differ"
        ),
        (
            "[{ name: 'a', port: 80, backend: 'api' }, { name: 'b', port: 80, backend: 'api' }]",
            "frontends[1].port: frontend \"a\" listens on port 80 too; use another port, or give both an address of their own"
        ),
        (
            "[{ name: 'a', port: 80, backend: 'api' }, { name: 'b', port: 80, address: '10.0.0.1', backend: 'api' }]",
            "frontends[1].port: frontend \"a\" listens on port 80 too; use another port, or give both an address of their own"
        ),
        (
            "[{ name: 'a', port: 8084, address: '127.0.0.1', backend: 'api' }]",
            "frontends[0].port: 8084 is the status port; use another port here, or set status.port"
        ),
        (
            "[]",
            "frontends: is empty; add what clients connect to: frontends: [{ name: \"http\", port: 80, backend: \"api\" }]"
        ),
        ("[{ name: 'a', backend: 'api' }]", "frontends[0].port: is missing; add the port to listen on: port: 80"),
    ])
    func checksFrontends(_ frontends: String, _ message: String) {
        let text = Examples.least.replacing("[{ name: \"http\", port: 8000, backend: \"api\" }]", with: frontends)
        #expect(lines(text).contains { $0.hasSuffix(message) }, "\(lines(text))")
    }

    @Test func oneAddressMayHaveEachPortOnce() throws {
        let frontends =
            "[{ name: 'a', port: 80, address: '10.0.0.1', backend: 'api' }, { name: 'b', port: 80, address: '10.0.0.2', backend: 'api' }]"
        let text = Examples.least.replacing("[{ name: \"http\", port: 8000, backend: \"api\" }]", with: frontends)
        #expect(try load(text).get().frontends.map(\.address) == ["10.0.0.1", "10.0.0.2"])
    }

    @Test(arguments: [
        (
            "[{ address: '10.0.0.100/32', interface: 'eth0' }, { address: '10.0.0.100/24', interface: 'eth0' }]",
            "vip[1].address: 10.0.0.100 is in the list twice; remove one"
        ),
        (
            "[{ address: '10.0.0.100/32', interface: 'eth0', fencing: 'wait' }, { address: '10.0.0.101/32', interface: 'eth0', fencing: 'trust' }]",
            "vip[1].fencing: differs from another VIP's \"wait\"; all VIPs move together"
        ),
        (
            "[{ address: '::/128', interface: 'eth0' }]",
            "vip[0].address: \"::/128\" is the unspecified address; the VIP must be one that clients can reach"
        ),
        ("'10.0.0.100'", "vip: expected an object: { … }, found a string"),
    ])
    func checksVIPs(_ vip: String, _ message: String) {
        let found = lines(changed("vip", "vip: \(vip),"))
        #expect(found.contains { $0.hasSuffix(message) }, "\(found)")
    }

    /// Each value of a realistic file in turn becomes something else: there is an answer, and it names a place.
    @Test func anyValueAnywhereIsAnswered() {
        let words = Examples.full.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        for (index, word) in words.enumerated() {
            guard let first = word.first, first == "\"" || first == "[" || first.isNumber else { continue }
            for wrong in ["null", "-1", "1e99", "NaN", "\"\"", "'\\u001b[2J'", "[]", "{}", "true", "[{}]", "[[]]"] {
                var changed = words
                changed[index] = wrong + word.filter { ",]}".contains($0) }
                guard case .failure(let problems) = load(changed.joined(separator: " ")) else { continue }
                for problem in problems.all {
                    #expect(problem.position != nil)
                    #expect(!problem.description.utf8.contains { $0 < 32 })
                }
            }
        }
    }

    @Test func reportsEverythingInTheOrderOfTheFile() {
        let text = """
            {
              clutser: "web",
              nodes: [{ id: "n1", address: "host" }, { id: "n1", address: "10.0.0.2", x: 1 }],
              gossip: { lease: "1s" },
              frontends: [{ name: "http", port: 0, backend: "web" }],
              backends: [{ name: "api", servers: [{ id: "a b", address: "10.0.0.1" }] }],
            }
            """
        let found = lines(text, environment: [:])
        #expect(
            found.map { $0.split(separator: ": ").prefix(2).joined(separator: ": ") } == [
                "triad.json5:1:1: cluster", "triad.json5:2:3: clutser", "triad.json5:3:10: nodes",
                "triad.json5:3:32: nodes[0].address", "triad.json5:3:42: nodes[1]", "triad.json5:3:75: nodes[1].x",
                "triad.json5:4:11: gossip.keyFile", "triad.json5:4:20: gossip.lease",
                "triad.json5:5:37: frontends[0].port",
                "triad.json5:5:49: frontends[0].backend", "triad.json5:6:45: backends[0].servers[0].id",
                "triad.json5:6:61: backends[0].servers[0].address",
            ])
    }
}
