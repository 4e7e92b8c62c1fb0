// RunCommand: `triad run`, a node in the foreground.

enum RunCommand {
    static let command = Subcommand(
        name: "run", summary: "runs a node in the foreground; logs to stderr",
        options: [
            .value(
                "config", "FILE", "the cluster's configuration file", .file, variable: "TRIAD_CONFIG", required: true),
            .value("node", "ID", "which of the file's nodes this is", variable: "TRIAD_NODE", required: true),
        ],
        details: [
            "SIGTERM and SIGINT hand over, drain and exit 0; a second one doesn't wait for the drain.",
            "SIGHUP reads the file again; an invalid file changes nothing. SIGUSR1 opens the access log's file again.",
        ]
    ) { arguments in
        run(config: arguments.required("config"), node: arguments.required("node"))
    }

    private static func run(config: String, node: String) -> Int32 {
        switch Configuration.load(config) {
        case .failure(let problems):
            Console.error(problems.description)
            return 1
        case .success(let configuration):
            do {
                let runtime = try Runtime.start(configuration, node: node)
                let place = configuration.nodes[runtime.me.index]
                runtime.log.log(
                    .info,
                    "triad \(Version.text), node \(node) of cluster \(configuration.cluster), status on port \(place.statusPort)"
                )
                let code = runtime.run()
                runtime.endDataPlane()
                runtime.finishCommands()
                return code
            } catch {
                Console.error(error.description)
                return 1
            }
        }
    }
}
