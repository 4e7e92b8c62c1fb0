// HAProxyLines: haproxy's configuration as sections and lines of words ("Quoting and escaping" in its manual, 2.2).
// Words are divided by spaces and tabs. `#` begins a comment; a backslash keeps the next character from meaning anything
// (`\ `, `\#`, `\n`, `\x41`); "…" keeps spaces and comments, and '…' backslashes, too.

/// One directive.
struct HAProxyLine: Sendable, Equatable {
    /// 1-based.
    var number: Int
    /// Never empty.
    var words: [String]

    var text: String { words.joined(separator: " ") }
    var keyword: String { words[0] }
    /// All but the keyword.
    var arguments: ArraySlice<String> { words.dropFirst() }

    /// The word behind `name`: `value(of: "from")`.
    func value(of name: String) -> String? {
        guard let index = words.firstIndex(of: name), index + 1 < words.count else { return nil }
        return words[index + 1]
    }
}

/// `frontend web` and what follows it.
struct HAProxySection: Sendable, Equatable {
    var head: HAProxyLine
    var lines: [HAProxyLine] = []

    var kind: String { head.keyword }
    /// Empty for `global` and most `defaults`.
    var name: String { head.words.count > 1 && head.words[1] != "from" ? head.words[1] : "" }
}

enum HAProxyLines {
    enum Limit {
        static let bytes = 1 << 20
        static let wordsPerLine = 256
    }

    /// The keywords that begin a section.
    static let sectionKeywords: Set<String> = [
        "global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "program",
        "http-errors", "cache", "ring", "log-forward", "log-profile", "fcgi-app", "crt-store", "crt-list", "traces",
        "acme",
    ]

    /// The sections of `text`, and its preprocessor's lines (`.if`, `.notice`), which belong to none.
    static func sections(
        _ text: String, file: String
    ) throws(ImportProblem) -> (sections: [HAProxySection], preprocessor: [HAProxyLine]) {
        var sections: [HAProxySection] = []
        var preprocessor: [HAProxyLine] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let number = index + 1
            let words = try words(line, file: file, number: number)
            guard let keyword = words.first else { continue }
            let read = HAProxyLine(number: number, words: words)
            if sectionKeywords.contains(keyword) {
                sections.append(HAProxySection(head: read))
            } else if keyword.hasPrefix(".") {
                // The preprocessor's lines may stand anywhere.
                preprocessor.append(read)
            } else if sections.isEmpty {
                throw ImportProblem(
                    file: file, line: number,
                    text: "\"\(keyword.printable)\" stands before any section; a haproxy configuration begins with "
                        + "global, defaults, frontend, backend or listen")
            } else {
                sections[sections.count - 1].lines.append(read)
            }
        }
        if sections.isEmpty {
            throw ImportProblem(file: file, line: 1, text: "holds no section; is it haproxy's configuration?")
        }
        return (sections, preprocessor)
    }

    static func words(_ line: Substring, file: String, number: Int) throws(ImportProblem) -> [String] {
        var words: [String] = []
        // nil between words; "" is a word, too.
        var word: String?
        var quote: Character?
        var rest = line[...]
        while let character = rest.popFirst() {
            if quote == "'" {
                if character == "'" { quote = nil } else { word = (word ?? "") + String(character) }
                continue
            }
            switch character {
            case "\\":
                word = (word ?? "") + escaped(&rest, inQuotes: quote != nil)
            case "\"" where quote != nil:
                quote = nil
            case "\"", "'":
                if quote != nil {
                    word = (word ?? "") + String(character)
                } else {
                    quote = character
                    word = word ?? ""
                }
            case "#" where quote == nil:
                rest = ""
            case " " where quote == nil, "\t" where quote == nil:
                if let word { words.append(word) }
                word = nil
            default:
                word = (word ?? "") + String(character)
            }
        }
        if let quote {
            throw ImportProblem(file: file, line: number, text: "a \(quote) is never closed")
        }
        if let word { words.append(word) }
        if words.count > Limit.wordsPerLine {
            throw ImportProblem(
                file: file, line: number, text: "has \(words.count) words; at most \(Limit.wordsPerLine) are read")
        }
        return words
    }

    /// What the backslash before `rest` makes of its first characters.
    private static func escaped(_ rest: inout Substring, inQuotes: Bool) -> String {
        guard let next = rest.popFirst() else { return "\\" }
        switch next {
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "x":
            let digits = rest.prefix(2)
            guard digits.count == 2, let code = UInt8(digits, radix: 16) else { return "x" }
            rest = rest.dropFirst(2)
            return String(Unicode.Scalar(code))
        case "\\", "\"", "'", " ", "#", "$": return String(next)
        // Other pairs, as in a regular expression, stay as they are within quotes.
        default: return inQuotes ? "\\" + String(next) : String(next)
        }
    }
}
