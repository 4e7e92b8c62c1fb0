// ConfigurationReader: from a file to a Configuration, or to everything that is wrong with it.
//
// Problems don't stop it: a value that is wrong is replaced by a default and the reading goes on, so that one run
// shows all of them. Only a syntax error ends early. Rules about one value are with that value's section
// (ConfigurationSections.swift), rules between values in ConfigurationRules.swift.
// It reads files and the environment, so it runs before the control thread starts or (SIGHUP) beside it.

import Glibc
import Gossip
import Proxy

struct ConfigurationReader {
    let file: String
    let disk: Disk
    let environment: (String) -> String?
    var report: ConfigurationReport

    static let dataDefault = "/var/lib/triad"

    init(file: String, disk: Disk = Disk(), environment: @escaping (String) -> String?) {
        self.file = file
        self.disk = disk
        self.environment = environment
        report = ConfigurationReport(file: file)
    }

    /// Reads the file this reader was made for.
    mutating func read() -> Result<Configuration, ConfigurationProblems> {
        do {
            let bytes = try disk.read(file, limit: JSON5.Limit.bytes)
            return read(bytes)
        } catch {
            let why = error.code == EFBIG ? "it is larger than \(JSON5.Limit.bytes) bytes" : error.readingProblem
            report.add(nil, "", "can't be read: \(why)")
            return .failure(ConfigurationProblems(all: report.sorted))
        }
    }

    /// Reads `bytes` as the content of that file.
    mutating func read(_ bytes: [UInt8]) -> Result<Configuration, ConfigurationProblems> {
        let parsed = JSON5.parse(bytes)
        for problem in parsed.problems { report.add(problem.position, "", problem.text) }
        if let value = parsed.value {
            let configuration = root(Placed(value: value, path: ""))
            if let configuration, report.problems.isEmpty { return .success(configuration) }
        }
        return .failure(ConfigurationProblems(all: report.sorted))
    }

    private mutating func root(_ place: Placed) -> Configuration? {
        guard let fields = Fields(place, .root, &report) else { return nil }
        let cluster = fields.required("cluster", "a name for the cluster: cluster: \"web\"", &report)
        let name = cluster?.name("a cluster", &report) ?? ""
        let ports = defaultPorts(fields)
        let nodes = nodes(fields, ports: ports)
        let vip = vips(fields.optional("vip"), nodes: nodes)
        let problems = report.problems.count
        let gossip = gossip(fields, port: ports.gossip, nodes: nodes.count)
        let hasKey = !gossip.keys.isEmpty || report.problems.count > problems
        let status = status(fields.optional("status"), port: ports.status)
        let backends = backends(fields, hasKey: hasKey)
        let limits = limits(fields.optional("limits"))
        let frontends = frontends(fields, backends: backends, bufferBytes: limits.buffer)
        checkPorts(frontends, nodes: nodes, status: status, vips: vip.vips)
        checkLoops(backends, frontends: frontends, nodes: nodes, vips: vip.vips)
        var configuration = Configuration(
            file: file, cluster: name, nodes: nodes.map(\.entry).sorted { $0.id < $1.id }, vips: vip.vips,
            fencing: vip.fencing, gossip: gossip, status: status, data: data(fields.optional("data")),
            frontends: frontends.map(\.frontend), backends: backends.map(\.backend),
            leadership: leadership(fields.optional("leadership"), nodes: nodes, vips: vip.vips),
            workers: workers(fields.optional("workers")), timeouts: timeouts(fields.optional("timeouts")),
            limits: limits, log: log(fields.optional("log")),
            notify: notify(fields.optional("notify")), digest: "",
            sectionDigests: [])
        configuration.setDigests()
        return configuration
    }

    /// `path` relative to the file's directory.
    func resolve(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let slash = file.lastIndex(of: "/") else { return path }
        return String(file[...slash]) + path
    }
}

extension Configuration {
    /// Reads and checks a file, its key and token files and the TRIAD_… variables that stand in for them.
    static func load(
        _ path: String, environment: @escaping (String) -> String? = { Environment.variable($0) }
    ) -> Result<Configuration, ConfigurationProblems> {
        var reader = ConfigurationReader(file: path, environment: environment)
        return reader.read()
    }

    /// The place of the node with this id.
    /// - Throws: a sentence that says which there are.
    func requirePlace(of id: String) throws(ConfigurationProblem) -> Int {
        if let place = place(of: id) { return place }
        let ids = nodes.map(\.id)
        let near = Nearest.match(id, in: ids).map { "did you mean \"\($0)\"? " } ?? ""
        let text = "no node has the id \"\(id.printable)\"; \(near)The file has \(ids.joined(separator: ", "))"
        throw ConfigurationProblem(file: file, position: nil, path: "nodes", text: text)
    }
}
