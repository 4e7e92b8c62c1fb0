// CheckCommand: `triad check FILE`: is this configuration right, and if not, everything that is wrong with it.

enum CheckCommand {
    static let command = Subcommand(
        name: "check", summary: "checks a configuration file: exit 0, or 1 with every problem on a line",
        positionals: [.init(name: "FILE", values: .file)],
        details: [
            "A problem names its place and what would be right: FILE:LINE:COLUMN: path: what is wrong; what would be right.",
            "Key and token files are read too. Nothing is started and no address is touched.",
        ],
        run: { arguments in run(arguments.required("FILE")) })

    private static func run(_ file: String) -> Int32 {
        switch Configuration.load(file) {
        case .success(let configuration):
            Console.out("\(file): \(summary(configuration))")
            return 0
        case .failure(let problems):
            Console.error(problems.description)
            return 1
        }
    }

    /// `ok: cluster web: 3 nodes, 1 VIP, 1 frontend, 1 backend, 5 servers; digest 0123456789abcdef`
    static func summary(_ configuration: Configuration) -> String {
        func count(_ number: Int, _ one: String) -> String { "\(number) \(one)\(number == 1 ? "" : "s")" }
        let servers = configuration.backends.reduce(0) { $0 + $1.servers.count }
        let parts = [
            count(configuration.nodes.count, "node"), count(configuration.vips.count, "VIP"),
            count(configuration.frontends.count, "frontend"), count(configuration.backends.count, "backend"),
            count(servers, "server"),
        ]
        return "ok: cluster \(configuration.cluster): \(parts.joined(separator: ", ")); digest \(configuration.digest)"
    }
}
