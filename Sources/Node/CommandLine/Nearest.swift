// Nearest: which known word someone probably meant. Used for keys, values, commands and options.

enum Nearest {
    /// The known word closest to `word`, if it is close enough to be a slip; the first one wins a tie.
    static func match(_ word: String, in known: [String]) -> String? {
        let limit = max(1, word.count / 3)
        var best: (word: String, distance: Int)?
        for candidate in known {
            let distance = distance(word.lowercased(), candidate.lowercased())
            let isWholePart = candidate.count > 3 && word.count > candidate.count && word.hasPrefix(candidate)
            if distance <= limit || isWholePart, distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        return best?.word
    }

    /// `did you mean "x"?`, or the list of what there is.
    static func suggestion(_ word: String, in known: [String]) -> String {
        if let match = match(word, in: known) { return "did you mean \"\(match)\"?" }
        return "known: " + known.joined(separator: ", ")
    }

    /// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
    static func distance(_ left: String, _ right: String) -> Int {
        let left = Array(left.unicodeScalars.prefix(64))
        let right = Array(right.unicodeScalars.prefix(64))
        if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
        var twoAgo: [Int] = []
        var previous = Array(0...right.count)
        for row in 1...left.count {
            var current = [row]
            for column in 1...right.count {
                let same = left[row - 1] == right[column - 1]
                var cost = min(previous[column] + 1, current[column - 1] + 1, previous[column - 1] + (same ? 0 : 1))
                if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
                    cost = min(cost, twoAgo[column - 2] + 1)
                }
                current.append(cost)
            }
            twoAgo = previous
            previous = current
        }
        return previous[right.count]
    }
}
