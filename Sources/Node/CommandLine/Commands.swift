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
        AdminCommands.forceLeader, AutoscaleCommand.command,
        Demo.command, Load.command, API.command,
        FenceProcess.command, Observer.command, Streams.command,
        KeygenCommand.command,
        CompletionsCommand.command, ManualCommand.command,
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
        // Not in the table, since it takes any words: those of a command line that isn't finished.
        if name == Completion.word {
            Console.raw(Completion.lines(Completion.candidates(rest)))
            return 0
        }
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
        do {
            return try command.run(command.parse(rest))
        } catch {
            Console.error("triad \(name): \(error.text)\nusage: \(command.usage)")
            return 2
        }
    }

    /// Those that help shows.
    static var listed: [Subcommand] { all.filter { !$0.hidden } }

    static let aliases = ["--help": "help", "-h": "help", "--version": "version", "-V": "version"]
}
