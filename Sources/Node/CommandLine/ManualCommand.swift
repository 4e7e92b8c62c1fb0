// ManualCommand: `triad manual`, the pages triad(1) and triad.json5(5) in the man macros (groff_man(7)), made from the table of
// commands and that of the configuration's keys.

enum ManualCommand {
    static let command = Subcommand(
        name: "manual", summary: "prints the manual page triad(1), or triad.json5(5) of the configuration file",
        positionals: [.init(name: "PAGE", required: false, values: .words(["triad", "triad.json5"]))],
        details: [
            "  triad manual | man -l -                reads it here; else into /usr/local/share/man/man1/triad.1",
            "  triad manual triad.json5 | man -l -    into /usr/local/share/man/man5/triad.json5.5",
        ],
        run: { arguments in
            Console.raw(arguments["PAGE"] == "triad.json5" ? ConfigurationManual.page : page)
            return 0
        })

    static var page: String {
        var lines = [
            ".TH TRIAD 1 \(date) \"triad \(Version.text)\" \"User Commands\"",
            ".SH NAME", "triad \\- load balancer that survives its own machines",
            ".SH SYNOPSIS", ".B triad", ".I COMMAND", ".RI [ ARGUMENTS ]",
        ]
        lines += [".SH DESCRIPTION", description.map { roff($0) }.joined(separator: "\n.PP\n")]
        lines.append(".SH COMMANDS")
        for command in Commands.listed { lines += section(command) }
        lines.append(".SH ENVIRONMENT")
        for (name, meaning) in variables { lines += [".TP", ".B \(name)", roff(meaning)] }
        lines.append(".SH FILES")
        for (name, meaning) in files { lines += [".TP", ".I \(name)", roff(meaning)] }
        lines += [".SH EXIT STATUS"]
        for (code, meaning) in codes { lines += [".TP", ".B \(code)", roff(meaning)] }
        lines += [".SH SEE ALSO", ".BR triad.json5 (5),", ".BR ip (8),", ".BR nft (8),", ".BR systemctl (1)"]
        return lines.joined(separator: "\n") + "\n"
    }

    /// When what stands in this file was last changed.
    static let date = "2026-11-28"

    private static let description = [
        """
        Three (or 1, 5, 7) nodes run `triad run`. They elect a leader, and the leader alone owns the virtual IP address
        (VIP) that clients use. Every node forwards HTTP and TCP to the same servers, whose state the nodes agree on.
        """,
        "All nodes have the same configuration file, which `triad check` explains. The other commands ask a node's status port.",
    ]

    /// Those of the commands' options, and those that no option stands for.
    private static var variables: [(String, String)] {
        var fromOptions: [(String, String)] = []
        for option in Commands.listed.flatMap(\.options) {
            guard let name = option.variable, !fromOptions.contains(where: { $0.0 == name }) else { continue }
            fromOptions.append((name, "Stands in for `--\(option.name)`: \(option.summary)."))
        }
        return fromOptions + [
            (
                "TRIAD_TOKEN",
                "The admin token: for a node in place of `status.tokenFile`, for a command of `--token-file`."
            ),
            ("TRIAD_GOSSIP_KEY", "For a node in place of `gossip.keyFile`."),
            ("TRIAD_DATA", "For a node in place of `data`: where its promises and the agreed state are kept."),
            ("TRIAD_WORKERS", "For a node in place of `workers`: threads that move data."),
        ]
    }

    private static let files = [
        ("/etc/triad/triad.json5", "The configuration, where the service looks for it: the same on every node."),
        ("/etc/default/triad", "The service's variables; TRIAD_NODE=ID says which node this machine is."),
        (
            "/var/lib/triad",
            "What the node has promised and what was agreed (`data`). Not to be edited, copied or shared."
        ),
    ]

    private static let codes = [
        ("0", "Done."), ("1", "It did not work; standard error says why."), ("2", "Wrong usage."),
    ]

    private static func roff(_ text: String) -> String { text.roff }

    private static func section(_ command: Subcommand) -> [String] {
        var lines = [".SS \"\(roff(command.usage))\"", roff(command.summary.sentence)]
        var isVerbatim = false
        for line in command.details {
            let standsAsItIs = line.hasPrefix("  ")
            if standsAsItIs != isVerbatim { lines.append(standsAsItIs ? ".PP\n.nf" : ".fi") }
            isVerbatim = standsAsItIs
            lines.append(line.isEmpty ? ".PP" : roff(line))
        }
        if isVerbatim { lines.append(".fi") }
        for option in command.options {
            let value = option.value.map { " \\fI\(roff($0))\\fR" } ?? ""
            let variable = option.variable.map { " (or \($0))" } ?? ""
            lines += [".TP", "\\fB\(roff("--\(option.name)"))\\fR\(value)", roff(option.summary + variable)]
        }
        return lines
    }
}

extension String {
    /// With what means something to roff escaped, and `words in backquotes` bold.
    var roff: String {
        var result = ""
        var isBold = false
        for character in self {
            switch character {
            case "\\": result += "\\e"
            case "-": result += "\\-"
            case "\"": result += "\\(dq"
            case "`":
                isBold.toggle()
                result += isBold ? "\\fB" : "\\fR"
            // Would begin a request at the start of a line.
            case ".", "'": result += result.isEmpty || result.hasSuffix("\n") ? "\\&\(character)" : String(character)
            default: result.append(character)
            }
        }
        return result
    }

    /// `Runs a node.` of `runs a node`.
    fileprivate var sentence: String { prefix(1).uppercased() + dropFirst() + "." }
}
