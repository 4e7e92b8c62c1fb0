// LabCluster: three real nodes, the demo APIs behind them and clients in front, in a lab. For `triad demo` and the
// end-to-end tests. What happens to it is said in the words of an operator: kill, crash, freeze, terminate, return.
//
// It belongs to the lab's thread, and blocks.

import Glibc
import Proxy

/// What kind of cluster to build.
struct LabClusterOptions {
    var fencing = "wait"
    /// The APIs that run from the start, of the nine in the configuration.
    var apis = [1, 2, 3, 4, 5]
    var checkInterval = "1s"
    /// More keys of the section `gossip`, in JSON5.
    var gossip = ""
    var balance = "roundrobin"
    /// More keys of the backend, in JSON5.
    var backend = ""
    /// More lines for the top level of the configuration, in JSON5.
    var extra = ""
    /// VIPs beside that of the network, `ADDRESS/PREFIX`.
    var moreVIPs: [String] = []
    /// Put before the command that runs a node.
    var through: [String] = []
    /// What the nodes run at first; clients and commands are always this program.
    var binary = LabSystem.triad

    /// Whether the gate decides who owns the VIP where `nft` works: then only who answers for it is an owner.
    var mayBeGated: Bool { fencing == "auto" || fencing == "gate" }
}

/// A steady client in the lab and the log that it writes.
struct LabLoad {
    let process: LabProcess
    let log: String

    /// The requests that have ended so far.
    func results() -> [LoadResult] {
        let text = LabSystem.readText(log) ?? ""
        // A line that is still being written has no end yet.
        let whole = text[..<(text.lastIndex(of: "\n") ?? text.startIndex)]
        return whole.split(separator: "\n").compactMap { LoadResult(line: $0) }
    }

    /// When the last request that has ended did; for polling, since it reads no more than the end of the log.
    var lastEnd: UInt64? {
        let text = LabSystem.readTail(log, bytes: 4096) ?? ""
        return text[..<(text.lastIndex(of: "\n") ?? text.startIndex)].split(separator: "\n").last
            .flatMap { LoadResult(line: $0) }?.end
    }

    /// What the client printed.
    var summary: String { LabSystem.readText(process.output) ?? "" }
}

final class LabCluster {
    /// The VIP that clients use who are started from now on.
    var frontAddress: String
    var url: String { "http://\(lab.network.endpoint(frontAddress, 80))/" }
    static let statusPort: UInt16 = 8084

    let lab: Lab
    let options: LabClusterOptions
    /// What a node runs when it is started the next time, where that is another than at first.
    var binaries: [String: String] = [:]
    private(set) var nodes: [String: LabProcess] = [:]
    private(set) var apis: [Int: LabProcess] = [:]
    private var loads = 0
    private var downLinks: [String] = []

    /// Writes every node's files; starts nothing.
    init(_ lab: Lab, _ options: LabClusterOptions = LabClusterOptions()) throws {
        self.lab = lab
        self.options = options
        frontAddress = lab.network.vip
        if options.mayBeGated { try lab.observe() }
        let keygen = try lab.run(["keygen"], on: LabNetwork.clientName)
        guard keygen.code == 0 else { throw LabProblem("triad keygen: \(keygen.errors)") }
        for node in lab.nodes {
            try LabSystem.makeDirectory(directory(node))
            try LabSystem.write("\(directory(node))/gossip.key", keygen.output)
            try LabSystem.write("\(directory(node))/admin.token", Self.token + "\n")
            try LabSystem.write("\(directory(node))/triad.json5", try configuration())
        }
    }

    private static let token = "token-of-the-lab"
    var tokenFile: String { "\(lab.directory)/\(lab.nodes[0])/admin.token" }

    /// Where a node's files are.
    func directory(_ node: String) -> String { "\(lab.directory)/\(node)" }

    private func configuration() throws -> String {
        let members = try lab.nodes.map {
            "    { id: \"\($0)\", address: \"\(try lab.network.host($0).addresses[0])\" },\n"
        }
        let servers = (1...9).map {
            "      { id: \"api_\($0)\", address: \"\(lab.network.endpoint(lab.network.api($0), 8080))\" },\n"
        }
        let vips = (["\(lab.network.vip)/\(lab.network.vipPrefix)"] + options.moreVIPs).map {
            "    { address: \"\($0)\", interface: \"eth0\", fencing: \"\(options.fencing)\" },\n"
        }
        return """
            {
              cluster: "lab",
              nodes: [
            \(members.joined())  ],
              vip: [
            \(vips.joined())  ],
              gossip: { keyFile: "gossip.key", \(options.gossip) },
              status: { tokenFile: "admin.token" },
              data: "data",
              \(options.extra)
              frontends: [ { name: "http", port: 80, mode: "http", backend: "api" } ],
              backends: [ {
                name: "api", balance: "\(options.balance)", \(options.backend)
                check: {
                  type: "http", path: "/health", expect: 200, interval: "\(options.checkInterval)", timeout: "500ms",
                  rise: 2, fall: 2,
                },
                servers: [
            \(servers.joined())    ],
              } ],
            }

            """
    }

    // MARK: nodes

    func start(_ node: String) throws {
        let config = "\(directory(node))/triad.json5"
        let command = options.through + [binary(node), "run", "--config", config, "--node", node]
        nodes[node] = try lab.start(node, command, on: node, log: "\(lab.directory)/\(node)")
    }

    func binary(_ node: String) -> String { binaries[node] ?? options.binary }

    func startAll() throws {
        for number in options.apis { try startAPI(number) }
        // The first look decides, and with a long interval it is the only one for a while.
        for number in options.apis { try waitForAPI(number) }
        for node in lab.nodes { try start(node) }
        for node in lab.nodes { try waitForAnswer(node) }
    }

    /// Waits for a node's status port; a node that ends instead is an error that says what it said.
    func waitForAnswer(_ node: String) throws {
        try lab.wait("\(node) answers on its status port") {
            if status(node) != nil { return true }
            guard lab.isRunning(try process(node)) else {
                throw LabProblem(
                    "\(node) ended at its start:\n\(LabSystem.readText("\(lab.directory)/\(node).log") ?? "")")
            }
            return false
        }
    }

    private func process(_ node: String) throws -> LabProcess {
        guard let process = nodes[node] else { throw LabProblem("\(node) was never started") }
        return process
    }

    /// kill -9 of the main process alone: its fence lives on to let go of the VIP.
    func killMain(_ node: String) throws { lab.signal(try process(node), SIGKILL, group: false) }

    /// kill -9 of every process of the node at once: stopped first, so that none acts on another's end.
    func killAll(_ node: String) throws {
        let all = try processes(node)
        for pid in all { kill(pid, SIGSTOP) }
        for pid in all { kill(pid, SIGKILL) }
    }

    /// As if the power went: the link goes down with the processes.
    func crash(_ node: String) throws {
        let all = try processes(node)
        for pid in all { kill(pid, SIGSTOP) }
        try lab.network.setLink(node, up: false)
        for pid in all { kill(pid, SIGKILL) }
        downLinks.append(node)
    }

    func freeze(_ node: String) throws {
        for pid in try processes(node) { kill(pid, SIGSTOP) }
    }

    func thaw(_ node: String) throws {
        for pid in try processes(node) { kill(pid, SIGCONT) }
    }

    /// Every process of a node, the fence before what it watches over: the main process, its fence, the fence's tools.
    func processes(_ node: String) throws -> [pid_t] {
        let main = nodes[node]?.pid
        return LabSystem.processes(inNetwork: try lab.network.host(node).descriptor)
            .sorted { ($0 == main ? 1 : 0, $0) < ($1 == main ? 1 : 0, $1) }
    }

    /// SIGTERM to the main process, as a service supervisor sends it.
    func terminate(_ node: String) throws { lab.signal(try process(node), SIGTERM, group: false) }

    /// Whether a node's main process has ended.
    func hasEnded(_ node: String) -> Bool { nodes[node].map { !lab.isRunning($0) } ?? true }

    /// How a node's main process ended, nil while it runs.
    func exitCode(_ node: String) -> Int32? { nodes[node].flatMap { lab.exitCodes[$0.pid] } }

    /// Starts a node again after its processes ended, with its link up.
    func bringBack(_ node: String) throws {
        let old = try process(node)
        try lab.wait("every process of \(node) is gone", seconds: 60) {
            // A fence that lost its main process needs a moment to let go; it must not find its successor at work.
            try !lab.isRunning(old) && processes(node).isEmpty
        }
        if downLinks.contains(node) {
            try lab.network.setLink(node, up: true)
            downLinks.removeAll { $0 == node }
        }
        try start(node)
    }

    // MARK: APIs

    func startAPI(_ number: Int) throws {
        let command = [
            LabSystem.triad, "api", "--id", "\(number)", "--address", lab.network.api(number), "--port", "8080",
        ]
        let log = "\(lab.directory)/api-\(number)"
        apis[number] = try lab.start("API #\(number)", command, on: LabNetwork.apisName, log: log)
    }

    private func waitForAPI(_ number: Int) throws {
        let client = try lab.network.host(LabNetwork.clientName)
        guard let address = SocketAddress(address: lab.network.api(number), port: 8080) else { return }
        try lab.wait("API #\(number) answers") { LabHTTP.get("/health", of: address, from: client)?.status == 200 }
    }

    func signalAPI(_ number: Int, _ signal: Int32) throws {
        guard let process = apis[number] else { throw LabProblem("API #\(number) was never started") }
        lab.signal(process, signal, group: true)
    }

    // MARK: asking

    /// A node's own view, nil when it gives none.
    func status(_ node: String) -> LabStatus? {
        guard let answer = ask("/status", at: node), answer.status == 200 else { return nil }
        return LabStatus(json: answer.body)
    }

    /// The same as a report, with everything in it that is read back.
    func report(_ node: String) -> StatusReport? {
        guard let answer = ask("/status", at: node), answer.status == 200 else { return nil }
        return StatusReport(json: answer.body)
    }

    /// Whether a node says that it can serve.
    func isReady(_ node: String) -> Bool { ask("/ready", at: node)?.status == 200 }

    private func ask(_ path: String, at node: String) -> (status: Int, body: [UInt8])? {
        guard let host = try? lab.network.host(node), let client = try? lab.network.host(LabNetwork.clientName),
            let address = SocketAddress(address: host.addresses[0], port: Self.statusPort)
        else { return nil }
        return LabHTTP.get(path, of: address, from: client)
    }

    /// Whether the gate is in force on every node, by what they say themselves.
    var isGated: Bool { lab.nodes.allSatisfy { status($0)?.fencing == "gate" } }

    /// Runs a command of an operator, at a node.
    func operate(_ arguments: [String], at node: String) throws -> LabAnswer {
        let address = try lab.network.host(node).addresses[0]
        let url = "http://\(lab.network.endpoint(address, Int(Self.statusPort)))"
        return try lab.run(arguments + ["--url", url, "--token-file", tokenFile], on: LabNetwork.clientName)
    }

    /// Who owns the VIP alone at this moment, by the kernel's record; for polling.
    func owner() throws -> String? {
        let owners = try lab.ownershipSoFar().owners
        return owners.count == 1 ? owners[0] : nil
    }

    /// Waits until one node owns the VIP, other than `other`.
    @discardableResult
    func waitForOwner(besides other: String? = nil, seconds: Double = 15) throws -> String {
        var found: String?
        try lab.wait("a node\(other.map { " other than \($0)" } ?? "") owns the VIP", seconds: seconds) {
            found = try owner()
            return found != nil && found != other
        }
        return found ?? ""
    }

    /// Waits until every one of the nodes says the same: state, leader, and what else is asked.
    /// - Returns: how long it took, milliseconds.
    @discardableResult
    func waitForAgreement(
        _ what: String, among asked: [String]? = nil, seconds: Double = 15,
        _ condition: (LabStatus) -> Bool = { _ in true }
    ) throws -> Double {
        let asked = asked ?? lab.nodes
        var last = ""
        do {
            return try lab.wait("all of \(asked.joined(separator: ", ")) agree: \(what)", seconds: seconds) {
                let views = asked.map { status($0) }
                last = views.map { view in
                    guard let view else { return "silent" }
                    return "\(view.node) \(view.role) term \(view.term) leader \(view.leader ?? "-") "
                        + "index \(view.index) digest \(view.digest) up \(view.up.joined(separator: " "))"
                }.joined(separator: "; ")
                guard let first = views.first ?? nil, first.leader != nil else { return false }
                return views.allSatisfy { view in
                    guard let view else { return false }
                    return view.index == first.index && view.digest == first.digest && view.leader == first.leader
                        && view.term == first.term && condition(view)
                }
            }
        } catch let problem as LabProblem {
            throw LabProblem("\(problem); last seen: \(last)")
        }
    }

    /// Waits until the cluster serves: agreed, one owner, and exactly these APIs up everywhere.
    func waitUntilSettled(up numbers: [Int]? = nil, seconds: Double = 20) throws {
        let expected = (numbers ?? options.apis).map { "api_\($0)" }
        try waitForOwner(seconds: seconds)
        try waitForAgreement("\(expected.joined(separator: " ")) up", seconds: seconds) { status in
            status.quorum
                && status.servers.allSatisfy { server in
                    server.health == (expected.contains(server.id) ? "up" : "down")
                }
        }
    }

    // MARK: clients

    /// A client on the client host, until it is stopped.
    func startLoad(
        _ name: String, rate: Int = 100, newConnections: Bool = false, connections: Int = 8,
        on host: String = LabNetwork.clientName, more: [String] = []
    ) throws -> LabLoad {
        loads += 1
        let log = "\(lab.directory)/load-\(loads)-\(name)"
        var command = [LabSystem.triad, "load", url, "--rate", "\(rate)"]
        // As many requests as a closed loop makes would fill the disk.
        if !more.contains("--closed-loop") { command += ["--log", "\(log).requests"] }
        command += newConnections ? ["--new-connections"] : ["--connections", "\(connections)"]
        let process = try lab.start(name, command + more, on: host, log: log)
        return LabLoad(process: process, log: "\(log).requests")
    }

    /// Downloads and WebSockets on the client host, until they are stopped.
    func startStreams(_ options: [String]) throws -> LabLoad {
        loads += 1
        let log = "\(lab.directory)/streams-\(loads)"
        let command = [LabSystem.triad, "streams", url, "--log", "\(log).requests"] + options
        let process = try lab.start("streams", command, on: LabNetwork.clientName, log: log)
        return LabLoad(process: process, log: "\(log).requests")
    }

    /// Ends a client as Ctrl-C would: all its requests.
    func stop(_ load: LabLoad) throws -> [LoadResult] {
        lab.signal(load.process, SIGINT, group: false)
        _ = try lab.waitForEnd(load.process, seconds: 10)
        return load.results()
    }

    // MARK: after a failure

    /// The last lines of every node's log.
    func logTails(lines: Int = 30) -> String {
        lab.nodes.map { node in
            let text = LabSystem.readText("\(lab.directory)/\(node).log") ?? "no log\n"
            let tail = text.split(separator: "\n", omittingEmptySubsequences: false).suffix(lines + 1)
            return "--- \(node)\n" + tail.joined(separator: "\n")
        }.joined()
    }
}
