// HelpCommand: `triad help [COMMAND]`, made from the table of commands.

enum HelpCommand {
    static let usage = "triad COMMAND [ARGUMENTS] (`triad help` lists the commands)"

    static let command = Subcommand(
        name: "help", summary: "lists the commands, or says more about one",
        positionals: [.init(name: "COMMAND", required: false)],
        run: { arguments throws(UsageProblem) in try run(arguments) })

    private static func run(_ arguments: Arguments) throws(UsageProblem) -> Int32 {
        guard let name = arguments["COMMAND"] else {
            Console.out(overview)
            return 0
        }
        guard let command = Commands.all.first(where: { $0.name == name }) else {
            throw UsageProblem(
                "unknown command \"\(name)\"; " + Nearest.suggestion(name, in: Commands.listed.map(\.name)))
        }
        Console.out(text(of: command))
        return 0
    }

    /// All commands with their usage.
    static var overview: String {
        var lines = [
            "triad \(Version.text): a load balancer that is its own cluster", "", "usage: triad COMMAND [ARGUMENTS]",
            "",
        ]
        let width = (Commands.listed.map(\.name.count).max() ?? 0) + 2
        for command in Commands.listed { lines.append("  \(padded(command.name, width))\(command.summary)") }
        lines += ["", "`triad help COMMAND` says more. Exit codes: 0 done, 1 it did not work, 2 wrong usage."]
        return lines.joined(separator: "\n")
    }

    /// One command in full.
    static func text(of command: Subcommand) -> String {
        if let text = command.ownText { return String(text.trimmed) }
        var lines = ["usage: \(command.usage)", "", "\(command.name) \(command.summary)."]
        if !command.details.isEmpty { lines += [""] + command.details }
        if !command.options.isEmpty {
            lines.append("")
            let width = (command.options.map(\.form.count).max() ?? 0) + 2
            for option in command.options {
                let variable = option.variable.map { " (or \($0))" } ?? ""
                lines.append("  \(padded(option.form, width))\(option.summary)\(variable)")
            }
        }
        return lines.joined(separator: "\n")
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
