// JSON5: a value tree that remembers where in the text each key and value stood, so that a message can point at it.
// What is read is JSON5 in full (spec.json5.org, 1.0.0), with limits; nothing is written. JSON5Parser.swift makes it.

/// One value with its place in the text.
struct JSON5: Sendable, Equatable {
    /// 1-based; columns count Unicode scalars, a tab as one.
    struct Position: Sendable, Equatable, Comparable {
        var line: Int
        var column: Int

        static func < (left: Position, right: Position) -> Bool {
            (left.line, left.column) < (right.line, right.column)
        }
    }

    indirect enum Content: Sendable, Equatable {
        case null
        case boolean(Bool)
        /// A whole number that was written without point or exponent.
        case integer(Int)
        case number(Double)
        case string(String)
        case array([JSON5])
        /// In the order of the text; keys are unique (the first of a duplicate is kept, and reported).
        case object([Member])
    }

    struct Member: Sendable, Equatable {
        var key: String
        var keyPosition: Position
        var value: JSON5
    }

    /// What is wrong with the text, and where.
    struct Problem: Error, Sendable, Equatable {
        var position: Position
        var text: String
    }

    /// What a text came to: its value unless a problem stopped the reading, and all problems found.
    struct Parsed: Sendable, Equatable {
        var value: JSON5?
        var problems: [Problem]
    }

    enum Limit {
        static let bytes = 1 << 20
        static let depth = 32
        static let values = 100_000
    }

    var content: Content
    var position: Position

    /// Reads a whole text. A syntax error stops it; a duplicate key is reported and reading goes on.
    static func parse(_ bytes: [UInt8]) -> Parsed {
        guard bytes.count <= Limit.bytes else {
            let text = "the file has \(bytes.count) bytes; at most \(Limit.bytes) are read"
            return Parsed(value: nil, problems: [Problem(position: Position(line: 1, column: 1), text: text)])
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            return Parsed(value: nil, problems: [invalidText(bytes)])
        }
        var parser = JSON5Parser(text)
        do {
            let value = try parser.document()
            return Parsed(value: value, problems: parser.duplicates)
        } catch {
            return Parsed(value: nil, problems: parser.duplicates + [error])
        }
    }

    /// What kind of value it is, for messages: `a string`.
    var kind: String {
        switch content {
        case .null: "null"
        case .boolean: "a boolean"
        case .integer, .number: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }

    private static func invalidText(_ bytes: [UInt8]) -> Problem {
        var position = Position(line: 1, column: 1)
        var decoder = UTF8()
        var rest = bytes.makeIterator()
        while case .scalarValue(let scalar) = decoder.decode(&rest) {
            if scalar == "\n" {
                position = Position(line: position.line + 1, column: 1)
            } else {
                position.column += 1
            }
        }
        return Problem(position: position, text: "this is not UTF-8 text")
    }
}
