// KeepalivedReader: what a keepalived.conf adds to a draft: the VIPs, the nodes as far as unicast peers name them, and
// who is preferred. It is one node's file: what only the others' files say (their priorities) is asked of the operator.

import Proxy

struct KeepalivedReader {
    private(set) var draft: ImportDraft
    private(set) var notes: ImportNotes
    /// This machine's address, as the files say it.
    private var ownAddress: String?
    private var ownPriority: Int?
    private var peers: [String] = []
    private var states: Set<String> = []

    /// Reads all of `text` and adds it to `draft`.
    init(_ text: String, file: String, into draft: ImportDraft) throws(ImportProblem) {
        self.draft = draft
        notes = ImportNotes(file: file)
        for statement in try KeepalivedBlocks.parse(text, file: file) { top(statement) }
        nodes()
    }

    // MARK: Statements

    private mutating func top(_ statement: KeepalivedStatement) {
        switch statement.keyword {
        case "vrrp_instance": instance(statement)
        case "vrrp_script", "vrrp_track_process": script(statement)
        case "vrrp_sync_group":
            add(statement, .notNeeded("all VIPs move together"))
            for line in statement.block where line.keyword.hasPrefix("notify") { notify(line) }
        case "virtual_server", "virtual_server_group":
            let remedy =
                "the kernel's balancer (LVS) isn't used: write a frontend of mode \"tcp\" with this address and port, "
                + "and its real_servers as a backend"
            add(statement, .notConverted(remedy))
            for line in statement.block where line.keyword == "real_server" {
                add(
                    line,
                    .notConverted(
                        "a server: { id: \"…\", address: \"\(line.words.dropFirst().joined(separator: ":"))\" }"))
            }
        case "global_defs": for line in statement.block { global(line) }
        case "static_ipaddress", "static_routes", "static_rules":
            add(statement, .notConverted("addresses and routes of the machine belong into its network configuration"))
        case "include", "includer", "includem", "includew", "includeb", "includea":
            add(statement, .notConverted("other files aren't read: put its content in its place"))
        case "bfd_instance":
            add(
                statement,
                .notConverted("the nodes notice each other's death by heartbeats: gossip.heartbeat and gossip.lease"))
        case let word where word.hasPrefix("@") || word.hasPrefix("$"):
            add(
                statement,
                .notConverted("conditions and variables aren't read: write what this machine's file would say"))
        default: add(statement, .notConverted("not known here"))
        }
    }

    private mutating func global(_ line: KeepalivedStatement) {
        switch line.keyword {
        case "notification_email", "notification_email_from", "smtp_server", "smtp_connect_timeout", "smtp_alert":
            add(line, .notConverted("no mail is sent: cluster/alerts.yml has alerts for Prometheus"))
        case "notify_fifo", "vrrp_notify_fifo", "notify_fifo_script", "vrrp_notify_fifo_script": notify(line)
        default: add(line, .notNeeded("it tunes keepalived"))
        }
    }

    private mutating func script(_ statement: KeepalivedStatement) {
        let command = statement.first("script")?.words.dropFirst().joined(separator: " ") ?? statement.text
        let watchesProxy = ["haproxy", "nginx"].contains { command.contains($0) }
        let remedy =
            "a leader gives up the lead by itself when it doesn't serve clients or reaches fewer servers; "
            + "leadership.gateway adds a router that it has to reach"
        add(
            statement,
            watchesProxy ? .notNeeded("the proxy is part of the same program") : .notConverted(remedy))
    }

    private mutating func notify(_ line: KeepalivedStatement) {
        add(
            line,
            .notConverted(
                "notify: { command: [\"/path\"], events: [\"vip-acquired\", \"vip-released\"] } calls it; it finds in TRIAD_EVENT what keepalived passes as arguments"
            ))
    }

    private mutating func instance(_ statement: KeepalivedStatement) {
        let interface = statement.first("interface")?.argument
        add(statement, .converted("vip"))
        let isMaster = statement.first("state")?.argument == "MASTER"
        for line in statement.block {
            switch line.keyword {
            case "interface": add(line, .converted("vip.interface"))
            case "virtual_ipaddress", "virtual_ipaddress_excluded":
                for address in line.block { vip(address, interface: interface) }
            case "unicast_src_ip", "mcast_src_ip":
                ownAddress = ownAddress ?? line.argument
                add(line, .converted("nodes: this machine's address"))
            case "unicast_peer":
                for peer in line.block { self.peer(peer) }
            case "priority":
                let nopreempt = statement.first("nopreempt") != nil
                if isMaster, !nopreempt, let text = line.argument, let number = Int(text), (1...1000).contains(number) {
                    ownPriority = number
                    add(line, .converted("nodes[].priority of this machine; the others have none until you write it"))
                } else {
                    let why =
                        nopreempt
                        ? "without nodes[].priority nobody takes the lead back"
                        : "the other nodes' files say who is preferred"
                    add(line, .notNeeded(why))
                }
            case "preempt_delay":
                if let seconds = line.argument.flatMap({ Double($0) }), seconds >= 1 {
                    draft.preemptHold = min(Int(seconds), 3600)
                    add(line, .converted("leadership.preemptHold"))
                } else {
                    add(line, .notNeeded("leadership.preemptHold is 10 s"))
                }
            case "state":
                states.insert(line.argument ?? "")
                add(line, .notNeeded("the nodes elect one of them"))
            case let word where word.hasPrefix("notify"): notify(line)
            default: setting(line)
            }
        }
    }

    /// What of an instance leads to no key.
    private mutating func setting(_ line: KeepalivedStatement) {
        switch line.keyword {
        case "authentication":
            add(line, .notNeeded("every datagram is signed with the gossip key (`triad keygen > gossip.key`)"))
        case "virtual_router_id": add(line, .notNeeded("clusters differ by name and key"))
        case "advert_int":
            add(line, .notNeeded("gossip.heartbeat (30 ms) and gossip.lease (150 ms) have defaults that are faster"))
        case "nopreempt": add(line, .notNeeded("nobody takes the lead back without nodes[].priority"))
        case "track_script", "track_process", "track_file":
            add(line, .notNeeded("see the script itself; a leader that doesn't serve gives up the lead"))
        case "track_interface":
            add(line, .notNeeded("a node that hears no majority loses the VIP; leadership.gateway watches more"))
        case "smtp_alert": add(line, .notConverted("no mail is sent: cluster/alerts.yml has alerts for Prometheus"))
        case "virtual_routes", "virtual_rules":
            add(line, .notConverted("routes and rules don't move with the VIP; make them static"))
        case "use_vmac", "vmac_xmit_base", "use_ipvlan":
            add(
                line,
                .notConverted("the VIP has the interface's own Ethernet address, and is announced by gratuitous ARP"))
        case "lvs_sync_daemon", "lvs_sync_daemon_interface":
            add(line, .notConverted("connections survive a planned move with the gate (nftables), and end in a crash"))
        case let word where word.hasPrefix("garp_"):
            add(line, .notNeeded("the new owner announces at 0, 50, 200 and 1000 ms and every 10 s"))
        default: add(line, .notNeeded("it tunes VRRP"))
        }
    }

    private mutating func vip(_ line: KeepalivedStatement, interface: String?) {
        let parts = line.keyword.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = SocketAddress(address: String(parts[0]), port: 0) else {
            add(line, .notConverted("this is no IP address"))
            return
        }
        let prefix = parts.count > 1 ? Int(parts[1]) : (address.isIPv6 ? 128 : 32)
        guard let prefix, (1...(address.isIPv6 ? 128 : 32)).contains(prefix), address.unusableKind == nil else {
            add(line, .notConverted("this is no address that a machine can have"))
            return
        }
        if draft.vips.contains(where: { $0.address.hasPrefix(address.host + "/") }) {
            add(line, .notNeeded("the VIP is there already"))
            return
        }
        func value(_ name: String) -> String? {
            guard let index = line.words.firstIndex(of: name), index + 1 < line.words.count else { return nil }
            return line.words[index + 1]
        }
        let device = value("dev") ?? interface
        draft.vips.append(ImportDraft.VIP(address: "\(address.host)/\(prefix)", interface: device))
        let label = value("label").map { "; the label \($0) isn't set" } ?? ""
        add(line, .converted("vip: \(address.host)/\(prefix)" + label))
    }

    private mutating func peer(_ line: KeepalivedStatement) {
        guard let address = SocketAddress(address: line.keyword, port: 0), address.unusableKind == nil else {
            add(line, .notConverted("this is no IP address: write it into nodes"))
            return
        }
        if !peers.contains(address.host) { peers.append(address.host) }
        add(line, .converted("nodes"))
    }

    private mutating func add(_ statement: KeepalivedStatement, _ outcome: ImportNote.Outcome) {
        notes.add(statement.number, statement.text + (statement.hasBlock ? " { … }" : ""), outcome)
    }

    // MARK: Nodes

    private mutating func nodes() {
        if states.count > 1 {
            notes.add(
                1, "instances with state MASTER and BACKUP",
                .notConverted(
                    "all VIPs have one owner, the leader; every node balances, so spread clients by DNS if they must be"
                ))
        }
        let known = (ownAddress.map { [$0] } ?? []) + peers.filter { $0 != ownAddress }
        // Peers of haproxy's file have names; keepalived's addresses have none.
        if draft.nodes.isEmpty || known.count > draft.nodes.count {
            draft.nodes = known.enumerated().map { ImportDraft.Machine(id: "n\($0 + 1)", address: $1) }
        }
        guard let ownPriority else { return }
        if let own = draft.nodes.firstIndex(where: { $0.address == ownAddress && ownAddress != nil }) {
            draft.nodes[own].priority = ownPriority
        } else {
            let asked = "DECIDE: priority: \(ownPriority) belongs to the machine of this keepalived.conf"
            if draft.nodes.isEmpty { draft.nodes = [ImportDraft.Machine(id: "n1")] }
            draft.nodes[0].comment = asked
        }
    }
}

extension ImportDraft {
    /// Adds nodes until there are as many as a cluster should have: an odd number, at least three.
    mutating func completeNodes() {
        while nodes.count < 3 || nodes.count % 2 == 0 {
            nodes.append(Machine(id: Self.unique("n\(nodes.count + 1)", among: nodes.map(\.id))))
        }
    }
}
