// CommandLineTests: how words become arguments, and what is said about wrong ones.

import Testing

@testable import Node

@Suite struct CommandLineTests {
    private static let command = Subcommand(
        name: "weight", summary: "sets a weight",
        positionals: [.init(name: "SERVER"), .init(name: "N", required: false)],
        options: [
            .value("url", "URL", "which node"), .value("token-file", "FILE", "the token", variable: "TRIAD_TOKEN_FILE"),
            .flag("json", "as JSON"),
        ],
        run: { _ in 0 })
    private static let strict = Subcommand(
        name: "run", summary: "runs",
        options: [.value("config", "FILE", "the file", variable: "TRIAD_CONFIG", required: true)], run: { _ in 0 })

    private func parse(_ line: String, variables: [String: String] = [:]) -> Result<Arguments, UsageProblem> {
        let words = line.split(separator: " ").map(String.init)
        return Result { () throws(UsageProblem) in try Self.command.parse(words, variable: { variables[$0] }) }
    }

    @Test(
        arguments: [
            ("api/a", ["SERVER": "api/a"], []), ("api/a 3", ["SERVER": "api/a", "N": "3"], []),
            ("api/a -3", ["SERVER": "api/a", "N": "-3"], []), ("--url x api/a", ["SERVER": "api/a", "url": "x"], []),
            ("api/a --url=x=y 3", ["SERVER": "api/a", "url": "x=y", "N": "3"], []),
            ("--json api/a", ["SERVER": "api/a"], ["json"]), ("--json -- --a", ["SERVER": "--a"], ["json"]),
            ("-", ["SERVER": "-"], []),
        ] as [(String, [String: String], Set<String>)])
    func accepts(_ line: String, _ values: [String: String], _ flags: Set<String>) throws {
        #expect(try parse(line).get() == Arguments(values: values, flags: flags))
    }

    @Test(arguments: [
        ("", "SERVER is missing"), ("--json", "SERVER is missing"), ("a b c", "unexpected argument \"c\""),
        ("a --jsno", "unknown option --jsno; did you mean --json?"), ("a --nothing", "unknown option --nothing"),
        ("a -j", "unknown option -j"), ("a --url", "--url needs a value: --url URL"),
        ("a --url --json", "--url needs a value: --url URL"), ("a --url=", "--url needs a value: --url URL"),
        ("a --json=1", "--json takes no value"), ("a --url x --url y", "--url is given twice"),
        ("a --json --json", "--json is given twice"),
    ])
    func refuses(_ line: String, _ message: String) { #expect(parse(line) == .failure(UsageProblem(message))) }

    @Test func variablesStandIn() throws {
        let variables = ["TRIAD_TOKEN_FILE": "t"]
        #expect(try parse("a", variables: variables).get()["token-file"] == "t")
        #expect(try parse("a --token-file u", variables: variables).get()["token-file"] == "u")
        #expect(throws: UsageProblem("--config FILE is missing (or set TRIAD_CONFIG)")) {
            try Self.strict.parse([], variable: { _ in "" })
        }
        #expect(try Self.strict.parse([], variable: { _ in "f" }).required("config") == "f")
    }

    @Test func numbersHaveARange() throws {
        let arguments = Arguments(values: ["N": "257", "M": "12"])
        #expect(try arguments.integer("M", in: 0...256) == 12)
        #expect(try arguments.integer("none", in: 0...256) == nil)
        #expect(throws: UsageProblem("N must be a whole number from 0 to 256, not \"257\"")) {
            try arguments.integer("N", in: 0...256)
        }
    }

    @Test func fractionsToo() throws {
        let arguments = Arguments(values: ["N": "0.5", "M": "nan"])
        #expect(try arguments.number("N", in: 0.1...100) == 0.5)
        #expect(throws: UsageProblem("M must be a number from 0.1 to 100, not \"nan\"")) {
            try arguments.number("M", in: 0.1...100)
        }
    }

    @Test func wordsAreThoseThatAreKnown() {
        let command = Subcommand(
            name: "print", summary: "prints", positionals: [.init(name: "SHELL", values: .words(["bash", "fish"]))],
            options: [.value("mode", "MODE", "how", .words(["auto", "gate"]))], run: { _ in 0 })
        #expect(throws: Never.self) { try command.parse(["fish", "--mode", "gate"]) }
        #expect(throws: UsageProblem("SHELL \"bsah\": did you mean \"bash\"?")) { try command.parse(["bsah"]) }
        #expect(throws: UsageProblem("--mode \"never\": known: auto, gate")) {
            try command.parse(["fish", "--mode=never"])
        }
    }

    @Test func usageShowsWhatIsRequired() {
        #expect(Self.command.usage == "triad weight SERVER [N] [--url URL] [--token-file FILE] [--json]")
        #expect(Self.strict.usage == "triad run --config FILE")
    }

    @Test func helpSaysWhatEachOptionIs() {
        #expect(
            HelpCommand.text(of: Self.command) == """
                usage: triad weight SERVER [N] [--url URL] [--token-file FILE] [--json]

                weight sets a weight.

                  --url URL          which node
                  --token-file FILE  the token (or TRIAD_TOKEN_FILE)
                  --json             as JSON
                """)
    }

    @Test func everyListedCommandIsInTheOverview() {
        for command in Commands.all {
            #expect(HelpCommand.overview.contains("\n  \(command.name) ") == !command.hidden)
        }
        #expect(Set(Commands.all.map(\.name)).count == Commands.all.count)
    }

    @Test func keysAreNew() {
        let first = KeygenCommand.key()
        #expect(first.count == 32)
        #expect(first != KeygenCommand.key())
        #expect(Base64.encode(first).utf8.count == 44)
    }
}
