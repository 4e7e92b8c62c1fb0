// Declarations: finds functions and types among the tokens of a file.
//
// A function is `func`, `init`, `deinit`, `subscript` or a computed property; it reaches from its keyword to the
// brace that closes its body. Requirements of protocols have no body and are left out.

/// A function with a body.
struct FunctionDeclaration: Equatable {
    let name: String
    /// Where its keyword stands, from 1.
    let line: Int
    let lineCount: Int
}

enum Declarations {
    static func functions(of tokens: [SourceToken]) -> [FunctionDeclaration] {
        tokens.indices.compactMap { index in
            guard startsFunction(tokens, index), let open = bodyStart(tokens, after: index) else { return nil }
            let token = tokens[index]
            let close = closingBrace(tokens, of: open)
            let named = token.text == "func" || token.text == "var"
            return FunctionDeclaration(
                name: named ? "\(token.text) \(tokens[index + 1].text)" : token.text, line: token.line,
                lineCount: tokens[close].line - token.line + 1)
        }
    }

    private static func startsFunction(_ tokens: [SourceToken], _ index: Int) -> Bool {
        guard index + 1 < tokens.count else { return false }
        let before = index > 0 ? tokens[index - 1].text : ""
        switch tokens[index].text {
        case "func", "var", "deinit": return before != "." && before != "`"
        case "init": return before != "." && ["(", "?", "<"].contains(tokens[index + 1].text)
        case "subscript": return before != "." && ["(", "<"].contains(tokens[index + 1].text)
        default: return false
        }
    }

    /// The index of the brace that opens the body; nil when there is none.
    private static func bodyStart(_ tokens: [SourceToken], after start: Int) -> Int? {
        let isProperty = tokens[start].text == "var"
        let next: Set<String> = [
            "func", "init", "deinit", "subscript", "var", "let", "case", "struct", "class", "enum", "typealias",
            "associatedtype", "extension", "protocol", "import",
        ]
        var depth = 0
        var line = tokens[start].line
        for index in (start + 1)..<tokens.count {
            let token = tokens[index]
            switch token.text {
            case "(", "[": depth += 1
            case ")", "]": depth -= 1
            case "{" where depth == 0: return index
            case "}" where depth == 0: return nil
            default: break
            }
            if depth < 0 { return nil }
            if depth == 0 {
                if next.contains(token.text) { return nil }
                // A stored property ends with its line or has a value; `var a: T` before a brace on the next line
                // isn't how swift-format writes a computed one.
                if isProperty, token.text == "=" || token.line != line { return nil }
            }
            line = token.line
        }
        return nil
    }

    /// The index of the brace that closes the one at `open`; the last token when none does.
    private static func closingBrace(_ tokens: [SourceToken], of open: Int) -> Int {
        var depth = 0
        for index in open..<tokens.count {
            if tokens[index].text == "{" { depth += 1 }
            if tokens[index].text == "}" {
                depth -= 1
                if depth == 0 { return index }
            }
        }
        return tokens.count - 1
    }

    /// The names of all types that a file declares.
    static func types(of tokens: [SourceToken]) -> [SourceToken] {
        let keywords: Set<String> = ["struct", "class", "enum", "actor", "protocol", "typealias", "associatedtype"]
        let members: Set<String> = ["func", "var", "let", "init", "subscript", "override", "case"]
        return tokens.indices.compactMap { index in
            guard index + 1 < tokens.count, keywords.contains(tokens[index].text) else { return nil }
            let before = index > 0 ? tokens[index - 1].text : ""
            // `class func`, `: class`, `import struct X`, `.protocol` declare no type.
            guard tokens[index + 1].isWord, !members.contains(tokens[index + 1].text),
                before != ".", before != ":", before != "import"
            else { return nil }
            return tokens[index + 1]
        }
    }

    /// `TCPHandlerList` → `TCP`, `Handler`, `List`.
    static func nameParts(_ name: String) -> [String] {
        var parts: [String] = []
        let letters = Array(name)
        for (index, letter) in letters.enumerated() {
            let afterLower = index > 0 && !letters[index - 1].isUppercase
            let beforeLower = index + 1 < letters.count && letters[index + 1].isLowercase
            if letter.isUppercase && (afterLower || beforeLower) || parts.isEmpty {
                parts.append(String(letter))
            } else {
                parts[parts.count - 1].append(letter)
            }
        }
        return parts
    }
}
