// CompletionTests: shells complete, and the manual page tells, every command and option that the parser takes. Real
// shells run the scripts that the program prints, and the programs that set manual pages read ours.

import Foundation
import Glibc
import Testing

@testable import Node

@Suite struct CompletionTests {
    /// Exit status and what was written to both outputs together.
    private struct Output { var status: Int32, lines: [String] }

    /// Runs a shell's command with the program that was built beside the tests on PATH.
    private static func run(_ shell: String, _ command: String) throws -> Output {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [shell, "-c", command]
        let directory = FenceBench.program.split(separator: "/").dropLast().joined(separator: "/")
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin"
        // What a user's own files say is not for here.
        process.environment = ["PATH": "/\(directory):\(path)", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"]
        let pipe = Pipe()
        (process.standardOutput, process.standardError) = (pipe, pipe)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let lines = text.split(separator: "\n").map(String.init)
        return Output(status: process.terminationStatus, lines: lines)
    }

    private static func isThere(_ program: String) -> Bool {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return folders.contains { access("\($0)/\(program)", X_OK) == 0 }
    }

    /// The words of `line`, the last of which is being written; a space at the end begins a new one.
    private func complete(_ line: String, _ report: StatusReport? = nil) -> [String] {
        let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        return Completion.candidates(words, report: { _ in report }).map(\.text)
    }

    @Test func everyCommandAndOption() {
        #expect(complete("") == Commands.listed.map(\.name))
        for command in Commands.listed {
            #expect(complete(String(command.name.dropLast())).contains(command.name))
            let options = command.options.map { "--\($0.name)" } + ["--help"]
            #expect(complete("\(command.name) --") == options, "\(command.name)")
        }
    }

    @Test(
        arguments: [
            ("dr", ["drain"]), ("nothing ", []), ("--v", ["--version"]), ("check ", [":files"]),
            ("check a", [":files"]), ("check a ", ["--help"]), ("run --c", ["--config"]),
            ("run --config ", [":files"]), ("run --config=", [":files"]), ("run --config x --", ["--node", "--help"]),
            ("run --config=x --", ["--node", "--help"]), ("run --config = x --n", ["--node"]),
            ("demo --fencing ", ["auto", "gate", "wait", "trust"]), ("demo --fencing g", ["gate"]),
            ("demo --fencing=g", ["--fencing=gate"]), ("demo --fencing = g", ["gate"]),
            ("demo --fencing =", ["auto", "gate", "wait", "trust"]), ("completions ", ["bash", "zsh", "fish"]),
            ("help mai", ["maint"]), ("drain api/", ["api/api_1", "api/api_2"]), ("drain x", []),
            ("weight api/api_1 ", []), ("drain --json", []), ("drain -- --x ", []),
            ("drain --url u api/api_2", ["api/api_2"]), ("handover --to n", ["n1", "n2", "n3"]),
        ] as [(String, [String])])
    func wordsAtTheirPlaces(_ line: String, _ found: [String]) { #expect(complete(line, .sample()) == found) }

    @Test func theNodeAskedIsTheOneGiven() {
        var asked: [String?] = []
        _ = Completion.candidates(["drain", "--url", "http://10.0.0.1", ""]) {
            asked.append($0)
            return nil
        }
        _ = Completion.candidates(["drain", ""]) {
            asked.append($0)
            return nil
        }
        #expect(asked == ["http://10.0.0.1", nil])
    }

    @Test func bashCompletes() throws {
        func words(_ line: String) throws -> [String] {
            let count = line.split(separator: " ", omittingEmptySubsequences: false).count
            let quoted = line.split(separator: " ", omittingEmptySubsequences: false).map { "'\($0)'" }
            return try Self.run(
                "bash",
                """
                set -u; cd /etc; source <(triad completions bash); complete -p triad >&2
                COMP_WORDS=(\(quoted.joined(separator: " "))); COMP_CWORD=\(count - 1); _triad triad
                printf '%s\\n' "${COMPREPLY[@]-}"
                """
            ).lines
        }
        let registered = "complete -F _triad triad"
        #expect(try words("triad ") == [registered] + Commands.listed.map(\.name))
        #expect(try words("triad wat") == [registered, "watch"])
        for command in Commands.listed {
            #expect(
                try words("triad \(command.name) --")
                    == [registered] + command.options.map { "--\($0.name)" } + ["--help"])
        }
        #expect(try words("triad check host").contains("hosts"))
        #expect(try words("triad demo --fencing = w") == [registered, "wait"])
    }

    @Test(.enabled(if: isThere("fish"))) func fishCompletes() throws {
        let script = "triad completions fish | source; complete -C "
        let commands = try Self.run("fish", script + "'triad '").lines
        #expect(commands.sorted() == Commands.listed.map { "\($0.name)\t\($0.summary)" }.sorted())
        #expect(try Self.run("fish", script + "'triad demo --fencing w'").lines == ["wait"])
        #expect(try Self.run("fish", script + "'triad check /etc/host'").lines.contains { $0.hasPrefix("/etc/hosts") })
    }

    @Test(.enabled(if: isThere("zsh"))) func zshCompletes() throws {
        // A terminal of its own, since zsh completes nowhere else; ^D lists what Tab would choose from.
        let output = try Self.run(
            "zsh",
            """
            zmodload zsh/zpty
            zpty it zsh -f -i
            zpty -w it 'PS1=; autoload -U compinit; compinit -u -D; source <(triad completions zsh); print rea""dy'
            zpty -r -m it line '*ready*'
            zpty -n -w it $'triad demo --fencing wa\\t'
            zpty -r -m it line '*wait*' && print found
            zpty -d it
            """)
        #expect(output.lines.contains("found"), "\(output.lines)")
    }

    @Test func theManualTellsAll() {
        let page = ManualCommand.page
        func shown(_ text: String) -> String { text.replacing("-", with: "\\-") }
        for command in Commands.listed {
            #expect(page.contains(".SS \"\(shown(command.usage))\"\n"))
            for option in command.options {
                #expect(page.contains("\\fB\(shown("--\(option.name)"))\\fR"), "\(command.name) --\(option.name)")
                if let variable = option.variable { #expect(page.contains(".B \(variable)\n")) }
            }
        }
    }

    @Test(.enabled(if: isThere("man")), arguments: ["triad", "triad.json5"])
    func manHasNothingToSay(page: String) throws {
        let output = try Self.run(
            "sh",
            "triad manual \(page) > /dev/null && triad manual \(page) | man --warnings -E UTF-8 -l -Tutf8 - > /dev/null"
        )
        #expect(output.status == 0 && output.lines.isEmpty, "\(output.lines)")
    }

    @Test(.enabled(if: isThere("mandoc")), arguments: ["triad", "triad.json5"])
    func mandocHasNothingToSay(page: String) throws {
        let output = try Self.run("sh", "triad manual \(page) | mandoc -Tlint -Wwarning")
        #expect(output.status == 0 && output.lines.isEmpty, "\(output.lines)")
    }
}
