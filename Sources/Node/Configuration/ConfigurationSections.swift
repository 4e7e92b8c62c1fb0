// ConfigurationSections: what each part of the file may hold: its keys, defaults and the rules of single values.
// Rules between sections are in ConfigurationRules.swift.

import Gossip
import Proxy

extension ConfigurationReader {
    struct Ports {
        var gossip: UInt16 = 7946
        var status: UInt16 = 8084
    }

    struct PlacedNode {
        var entry: Configuration.NodeEntry
        var place: Placed
        /// nil when the address was missing or wrong.
        var address: SocketAddress?
    }

    struct PlacedFrontend {
        var frontend: Configuration.Frontend
        var place: Placed
    }

    struct PlacedBackend {
        var backend: Configuration.Backend
        var places: [Placed]
    }

    enum Bound {
        static let frontends = 64
        static let backends = 256
        static let vips = 16
        static let workers = 256
        static let networks = 256
        static let routes = ProxyLimits.routesMax
    }

    /// The ports that nodes use unless they have their own; wrong ones are reported with their sections.
    func defaultPorts(_ root: Fields) -> Ports {
        var unheard = ConfigurationReport(file: file)
        func port(_ section: String, _ fallback: UInt16) -> UInt16 {
            guard let place = root.optional(section), case .object(let members) = place.value.content,
                let value = members.first(where: { $0.key == "port" })?.value
            else { return fallback }
            return Placed(value: value, path: "").port(&unheard) ?? fallback
        }
        return Ports(gossip: port("gossip", 7946), status: port("status", 8084))
    }

    // MARK: Nodes

    mutating func nodes(_ root: Fields, ports: Ports) -> [PlacedNode] {
        let example = "the machines of the cluster: nodes: [{ id: \"n1\", address: \"10.0.0.11\" }, …]"
        guard let place = root.required("nodes", example, &report),
            let elements = place.elements("a list of nodes", &report)
        else { return [] }
        var nodes: [PlacedNode] = []
        for element in elements {
            guard let fields = Fields(element, .node, &report) else { continue }
            let id = fields.required("id", "a name for this node: id: \"n1\"", &report)?.name("a node", &report)
            let address = fields.required("address", "this machine's address: address: \"10.0.0.11\"", &report)?
                .address(&report)
            let entry = Configuration.NodeEntry(
                id: id ?? "", address: address?.host ?? "",
                priority: fields.optional("priority")?.integer(0...1000, "a priority", &report) ?? 0,
                gossipPort: fields.optional("gossipPort")?.port(&report) ?? ports.gossip,
                statusPort: fields.optional("statusPort")?.port(&report) ?? ports.status)
            nodes.append(PlacedNode(entry: entry, place: element, address: address))
        }
        checkNodes(nodes, place)
        return nodes
    }

    // MARK: VIP

    /// One object or a list of them.
    mutating func vips(
        _ place: Placed?, nodes: [PlacedNode]
    ) -> (vips: [Configuration.VIP], fencing: Configuration.Fencing) {
        guard let place else { return ([], .auto) }
        var elements = [place]
        if case .array = place.value.content {
            elements = place.elements("a VIP or a list of VIPs", &report) ?? []
            if elements.count > Bound.vips { report.add(place, "\(elements.count) VIPs; at most \(Bound.vips)") }
        }
        var vips: [Configuration.VIP] = []
        var fencing: Configuration.Fencing?
        for element in elements {
            guard let fields = Fields(element, .vip, &report) else { continue }
            if let fencingPlace = fields.optional("fencing"),
                let wanted = fencingPlace.choice(Configuration.Fencing.self, "fencing", &report)
            {
                if let fencing, fencing != wanted {
                    report.add(
                        fencingPlace, "differs from another VIP's \"\(fencing.rawValue)\"; all VIPs move together")
                }
                fencing = fencing ?? wanted
            }
            let address = fields.required("address", "the virtual IP: address: \"10.0.0.100/32\"", &report)
            let interface = fields.required("interface", "the interface that gets it: interface: \"eth0\"", &report)
                .flatMap { self.interface($0) }
            guard let address, let vip = vip(address, interface: interface ?? "") else { continue }
            if vips.contains(where: { $0.host == vip.host }) {
                report.add(address, "\(vip.host) is in the list twice; remove one")
            }
            if let node = nodes.first(where: { $0.entry.address == vip.host }) {
                report.add(address, "\(vip.host) is node \(node.entry.id)'s own address; the VIP must be a spare one")
            }
            vips.append(vip)
        }
        return (vips, fencing ?? .auto)
    }

    private mutating func vip(_ place: Placed, interface: String) -> Configuration.VIP? {
        guard let text = place.string("an address with a prefix, such as \"10.0.0.100/32\"", &report) else {
            return nil
        }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = SocketAddress(address: String(parts[0]), port: 0) else {
            report.add(
                place,
                "\"\(text)\" is not an address with a prefix; write it as \"10.0.0.100/32\" or \"2001:db8::100/128\"")
            return nil
        }
        let longest = address.isIPv6 ? 128 : 32
        var prefix = longest
        if parts.count == 2 {
            guard let number = Int(parts[1]), (1...longest).contains(number) else {
                report.add(
                    place,
                    "the prefix /\(parts[1]) is not a number from 1 to \(longest); "
                        + "write \"\(address.host)/\(longest)\"")
                return nil
            }
            prefix = number
        }
        if let kind = address.unusableKind ?? (address.isLoopback ? "a loopback" : nil) {
            report.add(place, "\"\(text)\" is \(kind) address; the VIP must be one that clients can reach")
            return nil
        }
        return Configuration.VIP(host: address.host, prefix: prefix, interface: interface, isIPv6: address.isIPv6)
    }

    private mutating func interface(_ place: Placed) -> String? {
        guard let name = place.string("a network interface, such as \"eth0\"", &report) else { return nil }
        // The kernel's rule (dev_valid_name): at most 15 bytes, no slash, colon or space, not . or ..
        let valid =
            name.utf8.count <= 15 && name != "." && name != ".."
            && name.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
        if valid { return name }
        report.add(place, "\"\(name)\" can't name a network interface; `ip link` lists the ones of a machine")
        return nil
    }

    // MARK: Gossip, status, data

    mutating func gossip(_ root: Fields, port: UInt16, nodes: Int) -> Configuration.GossipSection {
        var section = Configuration.GossipSection(
            port: port, keys: [], heartbeat: .milliseconds(30), lease: .milliseconds(150),
            electionTimeoutMin: .milliseconds(200), electionTimeoutMax: .milliseconds(300))
        let place = root.optional("gossip") ?? root.place
        guard root.optional("gossip") != nil else {
            section.keys = gossipKeys(nil, nodes: nodes, place)
            return section
        }
        guard let fields = Fields(place, .gossip, &report) else { return section }
        _ = fields.optional("port")?.port(&report)
        section.keys = gossipKeys(fields.optional("keyFile"), nodes: nodes, place)
        let longest = Duration.seconds(60)
        let heartbeat = fields.optional("heartbeat")
        let lease = fields.optional("lease")
        let timeout = fields.optional("electionTimeout")
        let before = report.problems.count
        section.heartbeat = heartbeat?.duration(.milliseconds(5)...longest, &report) ?? section.heartbeat
        section.lease = lease?.duration(.milliseconds(20)...longest, &report) ?? section.lease
        if let timeout, let range = electionTimeout(timeout, longest) {
            section.electionTimeoutMin = range.lowerBound
            section.electionTimeoutMax = range.upperBound
        }
        if report.problems.count == before {
            checkTiming(section, heartbeat: heartbeat, lease: lease, timeout: timeout, place)
        }
        return section
    }

    private mutating func electionTimeout(_ place: Placed, _ longest: Duration) -> ClosedRange<Duration>? {
        let expected = "a list of the shortest and the longest: [\"200ms\", \"300ms\"]"
        guard let parts = place.elements(expected, &report) else { return nil }
        guard parts.count == 2 else {
            report.add(place, "has \(parts.count) elements; expected \(expected)")
            return nil
        }
        let shortest = parts[0].duration(.milliseconds(50)...longest, &report)
        let longest = parts[1].duration(.milliseconds(50)...longest, &report)
        guard let shortest, let longest else { return nil }
        if shortest < longest { return shortest...longest }
        report.add(
            place,
            "the first (\(Quantity.text(shortest))) must be below the second (\(Quantity.text(longest))): "
                + "each candidate picks a random time between them, so that two rarely collide")
        return nil
    }

    mutating func status(_ place: Placed?, port: UInt16) -> Configuration.StatusSection {
        var section = Configuration.StatusSection(port: port)
        guard let place else {
            section.token = adminToken(nil)
            return section
        }
        guard let fields = Fields(place, .status, &report) else { return section }
        _ = fields.optional("port")?.port(&report)
        section.address = fields.optional("address").flatMap { listenAddress($0) }
        section.token = adminToken(fields.optional("tokenFile"))
        let user = fields.optional("user")
        let password = fields.optional("passwordFile")
        if let user, password == nil { report.add(user, "needs a passwordFile beside it") }
        if let password, user == nil { report.add(password, "needs a user beside it") }
        if let user, let name = user.string("a user name", &report) {
            if name.contains(":") { report.add(user, "can't contain \":\" (RFC 7617)") }
            section.user = name
        }
        section.password = password.flatMap { self.password($0) }
        return section
    }

    /// TRIAD_DATA overrides the file: machines differ in where their disks are.
    mutating func data(_ place: Placed?) -> String {
        if let path = environment("TRIAD_DATA"), !path.isEmpty { return Disk.absolute(path) }
        guard let place else { return Self.dataDefault }
        guard let path = place.string("the path of a directory", &report) else { return Self.dataDefault }
        return Disk.absolute(resolve(path))
    }

    // MARK: Leadership

    mutating func leadership(
        _ place: Placed?, nodes: [PlacedNode], vips: [Configuration.VIP]
    ) -> Configuration.LeadershipSection {
        var section = Configuration.LeadershipSection()
        guard let place, let fields = Fields(place, .leadership, &report) else { return section }
        let fitness = fields.optional("fitnessHold")?.duration(.milliseconds(200)...Duration.seconds(600), &report)
        let preempt = fields.optional("preemptHold")?.duration(.seconds(1)...Duration.seconds(3600), &report)
        section.fitnessHold = fitness ?? section.fitnessHold
        section.preemptHold = preempt ?? section.preemptHold
        guard let gateway = fields.optional("gateway"), let address = gateway.address(&report) else { return section }
        let example = "; name one that only a working network reaches, such as the router: \"10.0.0.1\""
        if address.isLoopback {
            report.add(gateway, "\(address.host) is a loopback address and always answers\(example)")
        } else if address.isIPv6, address.high >> 54 == 0xfe80 >> 6 {
            report.add(
                gateway,
                "\(address.host) is a link-local address, which means another machine on each interface\(example)")
        } else if vips.contains(where: { $0.host == address.host }) {
            report.add(gateway, "\(address.host) is the VIP, which the leader itself answers for\(example)")
        } else if let node = nodes.first(where: { $0.entry.address == address.host }) {
            report.add(gateway, "\(address.host) is node \(node.entry.id), which always reaches itself\(example)")
        }
        section.gateway = address.host
        return section
    }

    // MARK: The rest

    /// TRIAD_WORKERS overrides the file.
    mutating func workers(_ place: Placed?) -> Int? {
        let inFile = place?.integer(1...Bound.workers, "a number of threads", &report)
        guard let text = environment("TRIAD_WORKERS"), !text.isEmpty else { return inFile }
        if let number = Int(text), (1...Bound.workers).contains(number) { return number }
        report.add(
            nil, "", "TRIAD_WORKERS: expected a whole number from 1 to \(Bound.workers), found \"\(text)\"")
        return nil
    }

    mutating func timeouts(_ place: Placed?) -> Configuration.Timeouts {
        var timeouts = Configuration.Timeouts()
        guard let place, let fields = Fields(place, .timeouts, &report) else { return timeouts }
        let range = Duration.milliseconds(10)...Duration.seconds(86400)
        timeouts.queue = fields.optional("queue")?.duration(range, &report) ?? timeouts.queue
        timeouts.connect = fields.optional("connect")?.duration(range, &report) ?? timeouts.connect
        timeouts.request = fields.optional("request")?.duration(range, &report) ?? timeouts.request
        timeouts.client = fields.optional("client")?.duration(range, &report) ?? timeouts.client
        timeouts.server = fields.optional("server")?.duration(range, &report) ?? timeouts.server
        timeouts.keepAlive = fields.optional("keepAlive")?.duration(range, &report) ?? timeouts.keepAlive
        timeouts.tunnel = fields.optional("tunnel")?.duration(range, &report) ?? timeouts.tunnel
        timeouts.halfClosed = fields.optional("halfClosed")?.duration(range, &report) ?? timeouts.halfClosed
        let drains = Duration.zero...Configuration.Timeouts.drainMax
        timeouts.drain = fields.optional("drain")?.duration(drains, &report) ?? timeouts.drain
        return timeouts
    }

    mutating func limits(_ place: Placed?) -> Configuration.Bounds {
        var limits = Configuration.Bounds()
        guard let place, let fields = Fields(place, .limits, &report) else { return limits }
        let head = fields.optional("requestHead")
        limits.requestHead = head?.bytes(1024...(1 << 20), &report) ?? limits.requestHead
        limits.headers = fields.optional("headers")?.integer(8...10_000, "a limit", &report) ?? limits.headers
        limits.connections =
            fields.optional("connections")?.integer(1...1_000_000, "a limit", &report) ?? limits.connections
        limits.retries = fields.optional("retries")?.integer(0...7, "a limit", &report) ?? limits.retries
        limits.buffer = fields.optional("buffer")?.bytes(4096...(1 << 20), &report) ?? limits.buffer
        limits.requestBody = fields.optional("requestBody")?.bytes(0...(1 << 50), &report)
        limits.minimumRate = fields.optional("minimumRate")?.bytes(0...(1 << 20), &report) ?? limits.minimumRate
        if limits.requestHead > limits.buffer {
            report.add(
                head ?? place,
                "a request's head (\(Quantity.text(bytes: limits.requestHead))) must fit one buffer "
                    + "(\(Quantity.text(bytes: limits.buffer))); lower limits.requestHead or raise limits.buffer")
        }
        return limits
    }

    mutating func log(_ place: Placed?) -> Configuration.LogSection {
        var log = Configuration.LogSection()
        guard let place, let fields = Fields(place, .log, &report) else { return log }
        let level = fields.optional("level")?.choice(Configuration.LogSection.Level.self, "level", &report)
        log.level = level ?? log.level
        let format = fields.optional("format")?.choice(Configuration.LogSection.Format.self, "format", &report)
        log.format = format ?? log.format
        log.access = accessLog(fields.optional("access"))
        return log
    }

    /// An address to listen on: as `Placed.address`, but the unspecified address is fine.
    mutating func listenAddress(_ place: Placed) -> String? {
        if case .string(let text) = place.value.content, let address = SocketAddress(address: text, port: 0),
            address.high == 0, address.low == 0
        {
            return address.host
        }
        return place.address(&report)?.host
    }
}
