// Scanner: turns Swift source into tokens, so that a rule never mistakes a comment or a string for code.
//
// It knows just enough of the language: comments (nested), string literals (raw, multi-line, with interpolations,
// whose code counts as code), words and single punctuation characters. It is no parser and refuses nothing.

/// One word, number, string literal or punctuation character of a source file.
struct SourceToken: Equatable {
    /// The text; a string literal is `""` whatever it says.
    let text: String
    /// From 1.
    let line: Int
    /// White space, a comment or the start of the file comes before it.
    let spaced: Bool

    var isWord: Bool { text.utf8.first.map(Scanner.isWordByte) ?? false }
}

struct Scanner {
    private let bytes: [UInt8]
    private var position = 0
    private var line = 1
    private var spaced = true
    private var tokens: [SourceToken] = []

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// All tokens of a file, in order.
    static func tokens(of bytes: [UInt8]) -> [SourceToken] {
        var scanner = Scanner(bytes)
        scanner.code(untilParenthesis: false)
        return scanner.tokens
    }

    static func tokens(of text: String) -> [SourceToken] { tokens(of: Array(text.utf8)) }

    static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "$"), 0x80...: true
        default: false
        }
    }

    private func peek(_ ahead: Int = 0) -> UInt8? {
        position + ahead < bytes.count ? bytes[position + ahead] : nil
    }

    private func sees(_ text: StaticString, at ahead: Int = 0) -> Bool {
        let wanted = Array(text.description.utf8)
        guard position + ahead + wanted.count <= bytes.count else { return false }
        return bytes[(position + ahead)...].starts(with: wanted)
    }

    private mutating func advance(_ count: Int = 1) {
        for _ in 0..<count where position < bytes.count {
            if bytes[position] == UInt8(ascii: "\n") { line += 1 }
            position += 1
        }
    }

    private mutating func add(_ text: String) {
        tokens.append(SourceToken(text: text, line: line, spaced: spaced))
        spaced = false
    }

    /// Reads code to the end of the file, or past the parenthesis that ends an interpolation.
    private mutating func code(untilParenthesis: Bool) {
        var depth = 0
        while let byte = peek() {
            if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\t") {
                spaced = true
                advance()
            } else if sees("//") {
                while let next = peek(), next != UInt8(ascii: "\n") { advance() }
                spaced = true
            } else if sees("/*") {
                blockComment()
            } else if let hashes = stringStart() {
                string(hashes: hashes)
            } else if Scanner.isWordByte(byte) {
                let start = position
                while let next = peek(), Scanner.isWordByte(next) { position += 1 }
                add(String(decoding: bytes[start..<position], as: UTF8.self))
            } else {
                if byte == UInt8(ascii: "(") { depth += 1 }
                if byte == UInt8(ascii: ")") {
                    if untilParenthesis, depth == 0 { return advance() }
                    depth -= 1
                }
                add(String(UnicodeScalar(byte)))
                advance()
            }
        }
    }

    private mutating func blockComment() {
        var depth = 0
        repeat {
            if sees("/*") {
                depth += 1
                advance(2)
            } else if sees("*/") {
                depth -= 1
                advance(2)
            } else {
                advance()
            }
        } while depth > 0 && position < bytes.count
        spaced = true
    }

    /// How many `#` stand before the quote here; nil when no string starts here.
    private func stringStart() -> Int? {
        var hashes = 0
        while peek(hashes) == UInt8(ascii: "#") { hashes += 1 }
        return peek(hashes) == UInt8(ascii: "\"") ? hashes : nil
    }

    private func hashesFollow(_ count: Int, at ahead: Int) -> Bool {
        (0..<count).allSatisfy { peek(ahead + $0) == UInt8(ascii: "#") }
    }

    private mutating func string(hashes: Int) {
        add("\"\"")
        advance(hashes)
        let quotes = sees("\"\"\"") ? 3 : 1
        advance(quotes)
        while let byte = peek() {
            if byte == UInt8(ascii: "\\"), hashesFollow(hashes, at: 1) {
                advance(1 + hashes)
                let interpolates = peek() == UInt8(ascii: "(")
                advance()
                if interpolates {
                    spaced = true
                    code(untilParenthesis: true)
                }
            } else if quotes == 3 ? sees("\"\"\"") : byte == UInt8(ascii: "\""), hashesFollow(hashes, at: quotes) {
                advance(quotes + hashes)
                spaced = false
                return
            } else if quotes == 1, byte == UInt8(ascii: "\n") {
                return  // Not closed: the compiler will say so.
            } else {
                advance()
            }
        }
    }
}
