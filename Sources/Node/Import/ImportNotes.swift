// ImportNotes: what became of each directive of an imported file: the list that `triad import` prints on stderr.

/// One directive and its fate.
struct ImportNote: Sendable, Equatable, CustomStringConvertible {
    enum Outcome: Sendable, Equatable {
        /// Where it went: a key of triad.json5, and what differs if something does.
        case converted(String)
        /// Why it can go.
        case notNeeded(String)
        /// What to do instead.
        case notConverted(String)
    }

    var file: String
    /// 1-based.
    var line: Int
    var directive: String
    var outcome: Outcome

    var description: String {
        switch outcome {
        case .converted(let text): "\(file):\(line): converted: \(directive): \(text)"
        case .notNeeded(let text): "\(file):\(line): not needed: \(directive): \(text)"
        case .notConverted(let text): "\(file):\(line): NOT CONVERTED: \(directive): \(text)"
        }
    }

    var isLost: Bool {
        if case .notConverted = outcome { return true }
        return false
    }

    var isConverted: Bool {
        if case .converted = outcome { return true }
        return false
    }
}

/// The notes of one file.
struct ImportNotes: Sendable, Equatable {
    let file: String
    private(set) var all: [ImportNote] = []

    init(file: String) { self.file = file }

    /// - Parameter directive: shown on one line, cut where it gets long.
    mutating func add(_ line: Int, _ directive: String, _ outcome: ImportNote.Outcome) {
        let shown = directive.count > 60 ? directive.prefix(60) + "…" : directive[...]
        all.append(ImportNote(file: file, line: line, directive: String(shown).printable, outcome: outcome))
    }

    /// In the order of the file.
    var sorted: [ImportNote] {
        all.indices.sorted { (all[$0].line, $0) < (all[$1].line, $1) }.map { all[$0] }
    }
}

/// A file that can't be read as what it should be.
struct ImportProblem: Error, Sendable, Equatable, CustomStringConvertible {
    var file: String
    var line: Int
    var text: String

    var description: String { "\(file):\(line): \(text)" }
}
