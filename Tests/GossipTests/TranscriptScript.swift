// TranscriptScript: a transcript file in its parts: what the author wrote (comments, commands) and what came out.
//
//   # A comment, or an empty line.
//   > a command
//     what came out, one happening a line, indented
//
// Rewriting replaces the indented lines and keeps all others as they are.

struct TranscriptScript {
    struct Step {
        /// Comments and empty lines before the command.
        var lead: [String]
        var command: String
        /// Where the command stands in the file, from 1.
        var line: Int
        var output: [String]
    }

    private(set) var steps: [Step] = []
    private var tail: [String] = []

    init(_ text: String) {
        var lead: [String] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.hasPrefix("> ") {
                steps.append(Step(lead: lead, command: String(line.dropFirst(2)), line: index + 1, output: []))
                lead = []
            } else if line.hasPrefix("  "), !steps.isEmpty, lead.isEmpty {
                steps[steps.count - 1].output.append(String(line))
            } else {
                lead.append(String(line))
            }
        }
        tail = lead
    }

    /// The file's text with what `run` says came out of each command.
    func told(_ run: (Step) throws -> [String]) rethrows -> String {
        var lines: [String] = []
        for step in steps { lines += step.lead + ["> \(step.command)"] + (try run(step)).map { "  \($0)" } }
        return (lines + tail).joined(separator: "\n")
    }
}

/// The first place where two texts differ.
struct TranscriptDifference: CustomStringConvertible {
    /// From 1.
    let line: Int
    let description: String

    /// nil when they are equal, line by line.
    init?(expected: String, actual: String) {
        let expected = expected.split(separator: "\n", omittingEmptySubsequences: false)
        let actual = actual.split(separator: "\n", omittingEmptySubsequences: false)
        guard expected != actual else { return nil }
        let same = zip(expected, actual).prefix { $0 == $1 }.count
        line = same + 1
        var text: [String] = []
        // The command it belongs to, and the lines that were still as told.
        let command = expected[..<same].lastIndex { $0.hasPrefix("> ") } ?? same
        if command < same - 3 { text += [" \(expected[command])", " …"] }
        text += expected[max(0, max(min(command, same), same - 3))..<same].map { " \($0)" }
        text += expected[same...].prefix(3).map { "-\($0)" }
        text += actual[same...].prefix(3).map { "+\($0)" }
        description = "line \(line) (- as written, + as it came out):\n" + text.joined(separator: "\n")
    }
}
