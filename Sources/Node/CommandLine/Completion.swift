// Completion: what may come next on a command line, from the table of commands. The shells' scripts (CompletionScripts)
// ask with `triad complete WORD…`, where the last word is the one that is being written, and print nothing of their own:
// so a script that was installed once completes what the program takes that is installed now.

enum Completion {
    /// The hidden command by which the scripts ask.
    static let word = "complete"
    /// Stands alone in an answer: file names, which the shell knows best.
    static let files = ":files"
    /// Someone waits at a prompt.
    private static let timeoutMs = 500

    struct Candidate: Equatable, Sendable {
        var text: String
        /// A few words on it; may be empty.
        var summary = ""
    }

    /// What may stand in the place of the last of `words`, which are those after `triad`.
    /// - Parameter report: the status of the node that answers at the given `--url`, or at the usual place.
    static func candidates(
        _ words: [String], report: (String?) -> StatusReport? = { Self.report($0) }
    ) -> [Candidate] {
        let begun = words.last ?? ""
        if words.count <= 1 {
            let commands = begun.hasPrefix("-") ? aliases : commands
            return commands.filter { $0.text.hasPrefix(begun) }
        }
        guard let command = Commands.listed.first(where: { $0.name == words[0] }) else { return [] }
        let place = Place(command, Array(words.dropFirst()))
        var found: [Candidate]
        switch place.next {
        case .value(let values, let prefix):
            let url = place.values["url"]
            found = candidates(values) { report(url) }
            if found == [Candidate(text: files)] { return found }
            if !prefix.isEmpty { found = found.map { Candidate(text: prefix + $0.text, summary: $0.summary) } }
        case .option: found = options(command, without: place.given)
        }
        return found.filter { $0.text.hasPrefix(begun == "=" ? "" : begun) }
    }

    /// As the scripts read them: a line each, a tab before the summary.
    static func lines(_ candidates: [Candidate]) -> String {
        candidates.map { $0.summary.isEmpty ? "\($0.text)\n" : "\($0.text)\t\($0.summary)\n" }.joined()
    }

    private static var commands: [Candidate] {
        Commands.listed.map { Candidate(text: $0.name, summary: $0.summary) }
    }

    private static var aliases: [Candidate] {
        Commands.aliases.sorted { $0.key < $1.key }.map { Candidate(text: $0.key, summary: "the same as \($0.value)") }
    }

    private static func options(_ command: Subcommand, without given: Set<String>) -> [Candidate] {
        let left = command.options.filter { !given.contains($0.name) }
        return left.map { Candidate(text: "--\($0.name)", summary: $0.summary) }
            + [Candidate(text: "--help", summary: "says how it is used")]
    }

    private static func candidates(_ values: Subcommand.Values, _ report: () -> StatusReport?) -> [Candidate] {
        switch values {
        case .any: return []
        case .file: return [Candidate(text: files)]
        case .words(let words): return words.map { Candidate(text: $0) }
        case .command: return commands
        case .node: return report()?.nodes.map { Candidate(text: $0.id, summary: $0.role) } ?? []
        case .server:
            return report()?.backends.flatMap { backend in
                backend.servers.map {
                    Candidate(text: "\(backend.name)/\($0.id)", summary: "\($0.address), \($0.health), \($0.admin)")
                }
            } ?? []
        }
    }

    /// nil when no node answers in time: then there is nothing to offer.
    private static func report(_ url: String?) -> StatusReport? {
        let given = url ?? StatusCommand.urlOption.variable.flatMap { Environment.variable($0) } ?? StatusURL.standard
        guard let url = try? StatusURL(given) else { return nil }
        return try? StatusCommand.fetch(HTTPClient(url: url, timeoutMs: timeoutMs)).0
    }
}

extension Completion {
    /// Where on a command's line the last word stands; walks the words as `Subcommand.parse` does.
    private struct Place {
        enum Next {
            /// A value, and what of the word stands before it: `--fencing=`.
            case value(Subcommand.Values, prefix: String)
            case option
        }

        var next = Next.option
        /// The names of the options before, and the values of those that have one.
        var given: Set<String> = []
        var values: [String: String] = [:]

        init(_ command: Subcommand, _ words: [String]) {
            var waiting: Subcommand.Option?
            var places = 0
            var optionsEnded = false
            func option(_ word: some StringProtocol) -> Subcommand.Option? {
                command.options.first { "--\($0.name)" == word }
            }
            // bash breaks `--name=value` into three words, the equals sign being one of them.
            for word in words.dropLast() where word != "=" {
                if let option = waiting {
                    values[option.name] = word
                    waiting = nil
                } else if optionsEnded || !Subcommand.looksLikeOption(word) {
                    places += 1
                } else if word == "--" {
                    optionsEnded = true
                } else {
                    let parts = word.split(separator: "=", maxSplits: 1)
                    guard let found = option(parts[0]) else { continue }
                    given.insert(found.name)
                    if parts.count > 1 {
                        values[found.name] = String(parts[1])
                    } else if found.value != nil {
                        waiting = found
                    }
                }
            }
            let begun = words.last ?? ""
            if let option = waiting {
                next = .value(option.values, prefix: "")
            } else if begun.hasPrefix("-"), !optionsEnded {
                if let equals = begun.firstIndex(of: "="), let found = option(begun[..<equals]) {
                    next = .value(found.values, prefix: String(begun[...equals]))
                }
            } else if places < command.positionals.count {
                next = .value(command.positionals[places].values, prefix: "")
            } else if optionsEnded {
                next = .value(.any, prefix: "")
            }
        }
    }
}
