// Commands: the table of all commands, and choosing one of them. A command is listed here once it works.

enum Commands {
    /// In the order in which help lists them.
    static let all: [Subcommand] = [
        RunCommand.command,
        CheckCommand.command,
        ImportCommand.command,
        StatusCommand.command,
        WatchCommand.command,
        AdminCommands.drain, AdminCommands.ready, AdminCommands.maint, AdminCommands.weight,
        AdminCommands.add, AdminCommands.remove, AdminCommands.handover,
        AdminCommands.forceLeader,
        .verbatim("demo", "runs a whole cluster on this machine, breaks it and judges it", text: Demo.usage) {
            Demo.main($0)
        },
        .verbatim("load", "sends steady load and says who answered and what failed", text: Load.usage) {
            Load.main($0)
        },
        .verbatim("api", "runs the demo API", text: API.usage) { API.main($0) },
        .verbatim("fence", "owns the VIP for `triad run`, which starts it", text: FenceProcess.usage, hidden: true) {
            _ in FenceProcess.run()
        },
        .verbatim("observe", "asks a link who has an address, for the lab", text: Observer.usage, hidden: true) {
            Observer.main($0)
        },
        .verbatim("streams", "keeps downloads and WebSockets going, for the lab", text: Streams.usage, hidden: true) {
            Streams.main($0)
        },
        KeygenCommand.command,
        VersionCommand.command,
        HelpCommand.command,
    ]

    /// Runs what the words after `triad` ask for; returns the exit code.
    static func run(_ words: [String]) -> Int32 {
        guard let first = words.first else {
            Console.error(HelpCommand.overview)
            return 2
        }
        let name = aliases[first] ?? first
        let rest = Array(words.dropFirst())
        guard let command = all.first(where: { $0.name == name }) else {
            let near = Nearest.match(name, in: listed.map(\.name)).map { "; did you mean \"\($0)\"?" } ?? ""
            let what = first.hasPrefix("-") ? "option" : "command"
            Console.error("triad: unknown \(what) \"\(first)\"\(near)\nusage: \(HelpCommand.usage)")
            return 2
        }
        if !command.hidden, rest.contains(where: { $0 == "--help" || $0 == "-h" }) {
            Console.out(HelpCommand.text(of: command))
            return 0
        }
        if let runWords = command.runWords { return runWords(rest) }
        do {
            return try command.run(command.parse(rest))
        } catch {
            Console.error("triad \(name): \(error.text)\nusage: \(command.usage)")
            return 2
        }
    }

    /// Those that help shows.
    static var listed: [Subcommand] { all.filter { !$0.hidden } }

    private static let aliases = ["--help": "help", "-h": "help", "--version": "version", "-V": "version"]
}
