// HelpCommand: `triad help [COMMAND]`, made from the table of commands.

enum HelpCommand {
    static let usage = "triad COMMAND [ARGUMENTS] (`triad help` lists the commands)"

    static let command = Subcommand(
        name: "help", summary: "lists the commands, or says more about one",
        positionals: [.init(name: "COMMAND", required: false, values: .command)],
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
        var lines = ["usage: \(command.usage)", "", "\(command.name) \(command.summary)."]
        if !command.details.isEmpty { lines += [""] + command.details }
        if !command.options.isEmpty {
            lines.append("")
            let width = (command.options.map(\.form.count).max() ?? 0) + 2
            for option in command.options {
                let variable = option.variable.map { " (or \($0))" } ?? ""
                let text = wrapped(option.summary + variable, columns - width - 2)
                for (number, line) in text.enumerated() {
                    lines.append("  \(padded(number == 0 ? option.form : "", width))\(line)")
                }
            }
        }
        return lines.joined(separator: "\n")
    }

    private static let columns = 118

    /// At spaces, into lines of at most `width` characters where words allow it.
    private static func wrapped(_ text: String, _ width: Int) -> [String] {
        var lines = [""]
        for word in text.split(separator: " ") {
            let last = lines[lines.count - 1]
            if !last.isEmpty, last.count + 1 + word.count > width {
                lines.append(String(word))
            } else {
                lines[lines.count - 1] = last.isEmpty ? String(word) : "\(last) \(word)"
            }
        }
        return lines
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
