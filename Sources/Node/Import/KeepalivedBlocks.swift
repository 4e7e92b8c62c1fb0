// KeepalivedBlocks: keepalived's configuration as statements with blocks in braces. A statement is a line; `#` and `!`
// begin a comment; "…" keeps spaces; a brace may stand on the statement's line or on the next.

struct KeepalivedStatement: Sendable, Equatable {
    /// 1-based.
    var number: Int
    /// Never empty.
    var words: [String]
    /// Empty for a statement without a block.
    var block: [KeepalivedStatement] = []
    var hasBlock = false

    var text: String { words.joined(separator: " ") }
    var keyword: String { words[0] }
    var argument: String? { words.count > 1 ? words[1] : nil }

    /// The first statement of its block with this keyword.
    func first(_ keyword: String) -> KeepalivedStatement? { block.first { $0.keyword == keyword } }
}

struct KeepalivedBlocks {
    static let depthMax = 16

    private let file: String
    /// A word or a brace, with its line. Words of one statement are on one line.
    private var tokens: [(line: Int, text: String, isBrace: Bool)] = []
    private var next = 0

    static func parse(_ text: String, file: String) throws(ImportProblem) -> [KeepalivedStatement] {
        var blocks = KeepalivedBlocks(file: file)
        try blocks.scan(text)
        let statements = try blocks.statements(depth: 0, opened: 0)
        if statements.isEmpty {
            throw ImportProblem(file: file, line: 1, text: "holds no statement; is it keepalived's configuration?")
        }
        return statements
    }

    private init(file: String) { self.file = file }

    private mutating func scan(_ text: String) throws(ImportProblem) {
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            var word: String?
            var isQuoted = false
            var rest = line[...]
            while let character = rest.popFirst() {
                if isQuoted {
                    if character == "\"" { isQuoted = false } else { word = (word ?? "") + String(character) }
                    continue
                }
                switch character {
                case "\"":
                    isQuoted = true
                    word = word ?? ""
                case "#", "!":
                    rest = ""
                case "{", "}", " ", "\t":
                    if let word { tokens.append((index + 1, word, false)) }
                    word = nil
                    if character == "{" || character == "}" { tokens.append((index + 1, String(character), true)) }
                default:
                    word = (word ?? "") + String(character)
                }
            }
            if isQuoted { throw ImportProblem(file: file, line: index + 1, text: "a \" is never closed") }
            if let word { tokens.append((index + 1, word, false)) }
        }
    }

    private mutating func statements(depth: Int, opened: Int) throws(ImportProblem) -> [KeepalivedStatement] {
        if depth > Self.depthMax {
            throw ImportProblem(file: file, line: opened, text: "blocks are more than \(Self.depthMax) deep")
        }
        var statements: [KeepalivedStatement] = []
        while next < tokens.count {
            let token = tokens[next]
            next += 1
            if token.isBrace, token.text == "}" {
                if depth > 0 { return statements }
                throw ImportProblem(file: file, line: token.line, text: "a } without its {")
            } else if token.isBrace {
                guard !statements.isEmpty, !statements[statements.count - 1].hasBlock else {
                    throw ImportProblem(file: file, line: token.line, text: "a { with nothing before it")
                }
                statements[statements.count - 1].block = try self.statements(depth: depth + 1, opened: token.line)
                statements[statements.count - 1].hasBlock = true
            } else if let last = statements.last, !last.hasBlock, last.number == token.line {
                statements[statements.count - 1].words.append(token.text)
            } else {
                statements.append(KeepalivedStatement(number: token.line, words: [token.text]))
            }
        }
        if depth > 0 { throw ImportProblem(file: file, line: opened, text: "this { is never closed") }
        return statements
    }
}
