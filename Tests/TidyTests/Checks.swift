// Checks: each rule as a function from one source file to what is wrong with it.
// Pure, so that ChecksTests can show on snippets that every one of them can fail.

/// Something to put right: where, what is wrong, and what would be right.
struct Finding: Equatable, CustomStringConvertible {
    let path: String
    let line: Int
    let text: String

    var description: String { "\(path):\(line): \(text)" }
}

/// One file of the package.
struct SourceFile {
    /// From the package's root, as in `Sources/Gossip/Limits.swift`.
    let path: String
    let text: String
    let lines: [Substring]
    /// Empty for files that aren't Swift.
    let tokens: [SourceToken]

    init(path: String, text: String) {
        self.path = path
        self.text = text
        // A final newline ends the last line and starts none.
        lines = (text.hasSuffix("\n") ? text.dropLast() : text[...]).split(
            separator: "\n", omittingEmptySubsequences: false)
        tokens = path.hasSuffix(".swift") ? Scanner.tokens(of: text) : []
    }

    /// The folder below Sources or Tests.
    var module: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }
    var isSource: Bool { path.hasPrefix("Sources/") }
    /// The file's name without folder and ending.
    var stem: String {
        let name = path.split(separator: "/").last ?? ""
        return String(name.prefix { $0 != "." })
    }

    func finding(_ line: Int, _ text: String) -> Finding { Finding(path: path, line: line, text: text) }

    /// Whether the tokens from `index` on read `texts`.
    func reads(_ texts: [String], at index: Int) -> Bool {
        index >= 0 && index + texts.count <= tokens.count
            && zip(tokens[index...], texts).allSatisfy { $0.text == $1 }
    }
}

enum Checks {
    static func imports(_ file: SourceFile) -> [Finding] {
        guard let allowed = (file.isSource ? Rules.imports : Rules.testImports)[file.module] else {
            guard file.isSource else { return [] }
            return [file.finding(1, "unknown module \(file.module): say in Rules.imports what it may import")]
        }
        let kinds: Set<String> = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
        return file.tokens.indices.compactMap { index in
            guard file.tokens[index].text == "import", index + 1 < file.tokens.count else { return nil }
            let named = kinds.contains(file.tokens[index + 1].text) ? index + 2 : index + 1
            guard named < file.tokens.count, !allowed.contains(file.tokens[named].text) else { return nil }
            let list = allowed.isEmpty ? "nothing" : "only " + allowed.joined(separator: ", ")
            return file.finding(
                file.tokens[index].line,
                "imports \(file.tokens[named].text), but \(file.module) may import \(list) (DESIGN.md, modules)")
        }
    }

    /// A pure module takes time and randomness as arguments, so that a seed replays a run.
    static func purity(_ file: SourceFile) -> [Finding] {
        guard Rules.pureModules.contains(file.module) else { return [] }
        return file.tokens.indices.compactMap { index in
            let token = file.tokens[index]
            let draws =
                Rules.impureMethods.contains(token.text) && file.reads([".", token.text, "("], at: index - 1)
            guard draws || Rules.impureWords.contains(token.text) else { return nil }
            return file.finding(
                token.line, "\(token.text) in a pure module: take `now` or the seeded generator as an argument")
        }
    }

    /// Swift seeds the order of dictionaries and sets per process, so Gossip has none.
    static func hashedCollections(_ file: SourceFile) -> [Finding] {
        guard file.isSource, file.module == "Gossip", Rules.hashedFiles[file.path] == nil else { return [] }
        let remedy = "use an array (sorted, or indexed by member): the order of a hashed collection differs per process"
        return file.tokens.indices.compactMap { index in
            let token = file.tokens[index]
            if token.text == "Dictionary" || token.text == "Set" {
                return file.finding(token.line, "\(token.text) in the pure core: \(remedy)")
            }
            guard token.text == "[", isDictionary(file, from: index) else { return nil }
            return file.finding(token.line, "a dictionary in the pure core: \(remedy)")
        }
    }

    /// Whether the bracket at `open` holds `Key: Value` or just `:`.
    private static func isDictionary(_ file: SourceFile, from open: Int) -> Bool {
        var depth = 0
        for index in (open + 1)..<max(open + 1, file.tokens.count) {
            let token = file.tokens[index]
            switch token.text {
            case "(", "[", "{": depth += 1
            case ")", "}": depth -= 1
            case "]":
                if depth == 0 { return false }
                depth -= 1
            // `a ? b : c` has a space before its question mark; an optional has none.
            case "?" where depth == 0 && token.spaced: return false
            case ":" where depth == 0: return true
            default: break
            }
        }
        return false
    }

    static func unsafeCode(_ file: SourceFile) -> [Finding] {
        guard file.isSource, !Rules.unsafeFiles.contains(file.path) else { return [] }
        return unsafeUses(file).map {
            file.finding(
                $0.line,
                "\($0.text): unsafe code; wrap it in a small file and list that in Tests/TidyTests/Rules.swift")
        }
    }

    static func unsafeUses(_ file: SourceFile) -> [SourceToken] {
        let words: Set<String> = [
            "withMemoryRebound", "assumingMemoryBound", "Unmanaged", "OpaquePointer", "unchecked",
        ]
        return file.tokens.indices.compactMap { index in
            let token = file.tokens[index]
            let named =
                words.contains(token.text) || token.text.hasPrefix("Unsafe") || token.text.hasPrefix("unsafe")
                || token.text.hasPrefix("withUnsafe")
            let allocates = token.text == "allocate" && file.reads([".", "allocate", "("], at: index - 1)
            return named || allocates ? token : nil
        }
    }

    static func fileLength(_ file: SourceFile) -> [Finding] {
        guard file.lines.count > Rules.linesMax else { return [] }
        return [
            file.finding(
                Rules.linesMax + 1, "\(file.lines.count) lines, more than \(Rules.linesMax): find the seam and split it"
            )
        ]
    }

    static func functionLength(_ file: SourceFile) -> [Finding] {
        Declarations.functions(of: file.tokens).compactMap { function in
            guard function.lineCount > Rules.functionLinesMax else { return nil }
            return file.finding(
                function.line,
                "\(function.name) has \(function.lineCount) lines, more than \(Rules.functionLinesMax): "
                    + "give its parts names of their own")
        }
    }

    /// Work left undone belongs in the tracker, not in a comment.
    static func unfinished(_ file: SourceFile) -> [Finding] {
        file.lines.enumerated().compactMap { index, line in
            let words = line.split { !$0.isLetter && !$0.isNumber && $0 != "_" }
            guard let word = words.first(where: { $0 == "TODO" || $0 == "FIXME" || $0 == "XXX" }) else { return nil }
            return file.finding(index + 1, "\(word): do it, or file an issue; write `// WHY:` for a decision")
        }
    }

    static func traps(_ file: SourceFile) -> [Finding] {
        guard file.isSource else { return [] }
        return file.tokens.indices.compactMap { index in
            guard index > 0, file.tokens[index].text == "!", !file.tokens[index].spaced else { return nil }
            let before = file.tokens[index - 1]
            let compares = file.reads(["!", "="], at: index) && !file.tokens[index + 1].spaced
            if before.text == "try" || before.text == "as" {
                return file.finding(before.line, "\(before.text)!: handle the failure")
            }
            guard before.isWord || [")", "]", "}", "\"\"", "?"].contains(before.text), !compares else { return nil }
            return file.finding(before.line, "\(before.text)!: unwrap with guard or ?? and say what nil means")
        }
    }

    static func typeNames(_ file: SourceFile) -> [Finding] {
        Declarations.types(of: file.tokens).flatMap { type -> [Finding] in
            var findings: [Finding] = []
            for part in Declarations.nameParts(type.text) where Rules.emptyNameParts.contains(part) {
                findings.append(
                    file.finding(type.line, "type \(type.text): \(part) says nothing; name what it is or does"))
            }
            if file.isSource, type.text == file.module {
                findings.append(
                    file.finding(type.line, "type \(type.text) has its module's name and hides it: rename the type"))
            }
            return findings
        }
    }

    static func header(_ file: SourceFile) -> [Finding] {
        guard let first = file.lines.first, !file.text.isEmpty else {
            return [file.finding(1, "an empty file: remove it")]
        }
        guard first.hasPrefix("// "), first.count >= Rules.headerLengthMin else {
            return [file.finding(1, "the first line must say what the file is for: `// \(file.stem): …`")]
        }
        return []
    }
}
