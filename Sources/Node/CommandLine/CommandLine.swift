// CommandLine: what a command accepts, and reading its arguments. It prints nothing and ends nothing: a wrong use is
// a `UsageProblem`, which Main turns into a message and exit code 2.
//
// A command lives in a file of its own as a `static let command: Subcommand`, and is listed in Commands.swift. Help,
// completions and the manual page are made from these, so they say what the parser takes.

/// One command of `triad`: how it is used and what runs it.
struct Subcommand: Sendable {
    /// What may stand at a place, for completion; `words` is checked by the parser, too.
    enum Values: Sendable, Equatable {
        case any, file, server, node, command
        case words([String])
    }

    /// An argument known by its place.
    struct Positional: Sendable {
        /// As shown in the usage: `BACKEND/SERVER`.
        let name: String
        var required = true
        var values = Values.any
        /// It takes all words from there on, joined by blanks; only the last one may.
        var isList = false
    }

    struct Option: Sendable {
        /// Without dashes: `config`.
        let name: String
        /// What its value is called in the usage, such as `FILE`; nil for a flag.
        var value: String?
        let summary: String
        /// The variable that stands in for it when it isn't given.
        var variable: String?
        var required = false
        var values = Values.any

        static func flag(_ name: String, _ summary: String) -> Option { Option(name: name, summary: summary) }

        static func value(
            _ name: String, _ value: String, _ summary: String, _ values: Values = .any, variable: String? = nil,
            required: Bool = false
        ) -> Option {
            Option(
                name: name, value: value, summary: summary, variable: variable, required: required, values: values)
        }

        /// `--config FILE`
        var form: String { value.map { "--\(name) \($0)" } ?? "--\(name)" }
    }

    let name: String
    /// One line, in the third person: `runs a node in the foreground`.
    let summary: String
    var positionals: [Positional] = []
    var options: [Option] = []
    /// More lines for `triad help COMMAND`.
    var details: [String] = []
    /// Not listed: for use by other parts of this program.
    var hidden = false
    /// Does it; returns the exit code: 0 done, 1 it did not work (after saying why on stderr).
    let run: @Sendable (Arguments) throws(UsageProblem) -> Int32

    /// `triad run --config FILE --node ID`
    var usage: String {
        let words =
            options.filter(\.required).map(\.form)
            + positionals.map { positional in
                let name = positional.isList ? "\(positional.name)…" : positional.name
                return positional.required ? name : "[\(name)]"
            }
        let rest = options.filter { !$0.required }.map { "[\($0.form)]" }
        return (["triad", name] + words + rest).joined(separator: " ")
    }

    /// Sorts `words` into options and positionals.
    func parse(
        _ words: [String], variable: (String) -> String? = { Environment.variable($0) }
    ) throws(UsageProblem) -> Arguments {
        var values: [String: String] = [:]
        var flags: Set<String> = []
        var places: [String] = []
        var rest = words[...]
        var optionsEnded = false
        while let word = rest.popFirst() {
            if optionsEnded || !Self.looksLikeOption(word) {
                places.append(word)
            } else if word == "--" {
                optionsEnded = true
            } else {
                try take(option: word, &rest, &values, &flags)
            }
        }
        if let last = positionals.last, last.isList, places.count > positionals.count {
            let first = positionals.count - 1
            places = places[..<first] + [places[first...].joined(separator: " ")]
        }
        if places.count > positionals.count {
            throw UsageProblem("unexpected argument \"\(places[positionals.count])\"")
        }
        for (positional, word) in zip(positionals, places) {
            try Self.check(word, positional.name, positional.values)
            values[positional.name] = word
        }
        for positional in positionals.dropFirst(places.count) where positional.required {
            throw UsageProblem("\(positional.name) is missing")
        }
        for option in options where option.value != nil && values[option.name] == nil {
            if let name = option.variable, let text = variable(name), !text.isEmpty {
                values[option.name] = text
            } else if option.required {
                throw UsageProblem("\(option.form) is missing" + (option.variable.map { " (or set \($0))" } ?? ""))
            }
        }
        return Arguments(values: values, flags: flags)
    }

    private func take(
        option word: String, _ rest: inout ArraySlice<String>, _ values: inout [String: String],
        _ flags: inout Set<String>
    ) throws(UsageProblem) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let given = String(parts[0])
        guard given.hasPrefix("--"), let option = options.first(where: { "--\($0.name)" == given }) else {
            let near = Nearest.match(given, in: options.map { "--\($0.name)" })
            throw UsageProblem("unknown option \(given)" + (near.map { "; did you mean \($0)?" } ?? ""))
        }
        if values[option.name] != nil || flags.contains(option.name) {
            throw UsageProblem("\(given) is given twice")
        }
        guard let value = option.value else {
            if parts.count > 1 { throw UsageProblem("\(given) takes no value") }
            flags.insert(option.name)
            return
        }
        if parts.count > 1 {
            if parts[1].isEmpty { throw UsageProblem("\(given) needs a value: \(option.form)") }
            values[option.name] = String(parts[1])
        } else if let next = rest.first, !Self.looksLikeOption(next) {
            values[option.name] = next
            rest.removeFirst()
        } else {
            throw UsageProblem("\(given) needs a value: \(given) \(value)")
        }
        if let word = values[option.name] { try Self.check(word, given, option.values) }
    }

    private static func check(_ word: String, _ name: String, _ values: Values) throws(UsageProblem) {
        guard case .words(let known) = values, !known.contains(word) else { return }
        throw UsageProblem("\(name) \"\(word)\": " + Nearest.suggestion(word, in: known))
    }

    /// `-` alone and negative numbers are values.
    static func looksLikeOption(_ word: String) -> Bool {
        word.hasPrefix("-") && word != "-" && !(word.dropFirst().first?.isNumber ?? false)
    }
}

/// A wrong use of a command, in one line: exit code 2.
struct UsageProblem: Error, Equatable, Sendable {
    let text: String

    init(_ text: String) { self.text = text }
}

/// The arguments of one command, by the names its `Subcommand` gives them.
struct Arguments: Equatable, Sendable {
    private let values: [String: String]
    private let flags: Set<String>

    init(values: [String: String], flags: Set<String> = []) {
        self.values = values
        self.flags = flags
    }

    /// The value of an option (`config`) or of a positional (`FILE`); nil when it wasn't given.
    subscript(_ name: String) -> String? { values[name] }

    /// The value of a required option or positional, which parsing made sure is there.
    func required(_ name: String) -> String {
        guard let value = values[name] else { preconditionFailure("\(name) is not required by its command") }
        return value
    }

    /// Whether a flag was given.
    func has(_ flag: String) -> Bool { flags.contains(flag) }

    /// A whole number within `range`; nil when it wasn't given.
    func integer(_ name: String, in range: ClosedRange<Int>) throws(UsageProblem) -> Int? {
        guard let text = values[name] else { return nil }
        if let number = Int(text), range.contains(number) { return number }
        let limits = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        throw UsageProblem("\(name) must be \(limits), not \"\(text)\"")
    }

    /// A number within `range`; nil when it wasn't given.
    func number(_ name: String, in range: ClosedRange<Double>) throws(UsageProblem) -> Double? {
        guard let text = values[name] else { return nil }
        if let number = Double(text), range.contains(number) { return number }
        let limits = "a number from \(range.lowerBound.formatted) to \(range.upperBound.formatted)"
        throw UsageProblem("\(name) must be \(limits), not \"\(text)\"")
    }
}
