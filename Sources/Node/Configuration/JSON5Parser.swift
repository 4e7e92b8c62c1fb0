// JSON5Parser: recursive descent over Unicode scalars, after the grammar of spec.json5.org (1.0.0).
// It never traps on any input: depth, size and count are limited, and every problem names its place.

struct JSON5Parser {
    typealias Position = JSON5.Position
    typealias Problem = JSON5.Problem

    private let scalars: [Unicode.Scalar]
    private var index = 0
    private var position = Position(line: 1, column: 1)
    private var depth = 0
    private var values = 0
    /// Keys that appeared twice in one object; they don't stop the reading.
    private(set) var duplicates: [Problem] = []

    init(_ text: String) { scalars = Array(text.unicodeScalars) }

    /// One value with nothing but space and comments around it.
    mutating func document() throws(Problem) -> JSON5 {
        try skipBlank()
        if peek == nil { throw problem("the file is empty; it must hold one object: { … }") }
        let value = try value()
        try skipBlank()
        if let extra = peek { throw problem("unexpected \(show(extra)) after the end of the value") }
        return value
    }

    // MARK: Values

    private mutating func value() throws(Problem) -> JSON5 {
        let start = position
        values += 1
        if values > JSON5.Limit.values { throw problem("more than \(JSON5.Limit.values) values") }
        guard let next = peek else { throw problem("the file ends where a value should be") }
        switch next {
        case "{": return JSON5(content: .object(try object()), position: start)
        case "[": return JSON5(content: .array(try array()), position: start)
        case "\"", "'": return JSON5(content: .string(try string()), position: start)
        case "+", "-", ".", "0"..."9": return JSON5(content: try number(), position: start)
        default: return JSON5(content: try word(), position: start)
        }
    }

    private mutating func word() throws(Problem) -> JSON5.Content {
        let start = position
        guard let next = peek, isIdentifierStart(next) else {
            throw problem("unexpected \(show(peek)); a value should be here")
        }
        let text = try identifier()
        switch text {
        case "null": return .null
        case "true": return .boolean(true)
        case "false": return .boolean(false)
        case "Infinity": return .number(.infinity)
        case "NaN": return .number(.nan)
        default: throw Problem(position: start, text: "\(text) is not a value; a string needs quotes: \"\(text)\"")
        }
    }

    private mutating func enter() throws(Problem) {
        depth += 1
        if depth > JSON5.Limit.depth { throw problem("nested more than \(JSON5.Limit.depth) deep") }
        advance()
    }

    private mutating func object() throws(Problem) -> [JSON5.Member] {
        let start = position
        try enter()
        var members: [JSON5.Member] = []
        var seen: [String: Position] = [:]
        while true {
            try skipBlank()
            guard let next = peek else { throw unclosed("{", start, "}") }
            if next == "}" { break }
            let keyPosition = position
            let key = try key()
            try skipBlank()
            guard peek == ":" else { throw problem("expected : after the key \(key.printable), found \(show(peek))") }
            advance()
            try skipBlank()
            let value = try value()
            if let first = seen[key] {
                let text =
                    "the key \(key.printable) appears twice in one object (first at line \(first.line)); remove one"
                duplicates.append(Problem(position: keyPosition, text: text))
            } else {
                seen[key] = keyPosition
                members.append(JSON5.Member(key: key, keyPosition: keyPosition, value: value))
            }
            try separator(orEnd: "}", after: start, opened: "{")
        }
        advance()
        depth -= 1
        return members
    }

    private mutating func array() throws(Problem) -> [JSON5] {
        let start = position
        try enter()
        var elements: [JSON5] = []
        while true {
            try skipBlank()
            guard let next = peek else { throw unclosed("[", start, "]") }
            if next == "]" { break }
            elements.append(try value())
            try separator(orEnd: "]", after: start, opened: "[")
        }
        advance()
        depth -= 1
        return elements
    }

    /// Takes a comma, or leaves the closing bracket for the caller.
    private mutating func separator(
        orEnd end: Unicode.Scalar, after start: Position, opened: String
    ) throws(Problem) {
        let line = position.line
        try skipBlank()
        switch peek {
        case ",": advance()
        case end: return
        case nil: throw unclosed(opened, start, String(end))
        default:
            let hint = position.line > line ? "; is a comma missing at the end of line \(line)?" : ""
            throw problem("expected , or \(end), found \(show(peek))\(hint)")
        }
    }

    private func unclosed(_ opened: String, _ start: Position, _ end: String) -> Problem {
        problem("the file ends before the \(end) that closes the \(opened) of line \(start.line)")
    }

    private mutating func key() throws(Problem) -> String {
        guard let next = peek else { throw problem("the file ends where a key should be") }
        if next == "\"" || next == "'" { return try string() }
        guard isIdentifierStart(next) else { throw problem("unexpected \(show(next)); a key should be here") }
        return try identifier()
    }

    // MARK: Identifiers

    private mutating func identifier() throws(Problem) -> String {
        var text = String.UnicodeScalarView()
        while let next = peek {
            if next == "\\" {
                let escape = position
                advance()
                guard peek == "u" else { throw Problem(position: escape, text: "only \\uXXXX may escape in a key") }
                advance()
                let scalar = Unicode.Scalar(try hexDigits(4))
                guard let scalar, text.isEmpty ? isIdentifierStart(scalar) : isIdentifierPart(scalar), scalar != "\\"
                else { throw Problem(position: escape, text: "this escape is not a letter; put the key in quotes") }
                text.append(scalar)
                continue
            }
            guard isIdentifierPart(next) else { break }
            text.append(next)
            advance()
        }
        return String(text)
    }

    private func isIdentifierStart(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "$", "_", "\\": return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .letterNumber:
            return true
        default: return false
        }
    }

    private func isIdentifierPart(_ scalar: Unicode.Scalar) -> Bool {
        if isIdentifierStart(scalar) || scalar == "\u{200C}" || scalar == "\u{200D}" { return true }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .spacingMark, .decimalNumber, .connectorPunctuation: return true
        default: return false
        }
    }

    // MARK: Numbers

    private mutating func number() throws(Problem) -> JSON5.Content {
        let start = position
        var negative = false
        if peek == "+" || peek == "-" {
            negative = peek == "-"
            advance()
        }
        if let next = peek, isIdentifierStart(next) {
            switch try identifier() {
            case "Infinity": return .number(negative ? -.infinity : .infinity)
            case "NaN": return .number(.nan)
            default: throw Problem(position: start, text: "this is not a number")
            }
        }
        let content = try digits(negative: negative, start: start)
        if let next = peek, isIdentifierPart(next) || next == "." {
            let text =
                "unexpected \(show(next)) right after a number; a value with a unit, or an address, needs quotes: \"30ms\""
            throw problem(text)
        }
        return content
    }

    private mutating func digits(negative: Bool, start: Position) throws(Problem) -> JSON5.Content {
        let sign = negative ? "-" : ""
        if peek == "0", at(1) == "x" || at(1) == "X" {
            advance()
            advance()
            let hex = takeWhile { $0.properties.isASCIIHexDigit }
            guard !hex.isEmpty else { throw problem("0x needs hexadecimal digits") }
            guard let value = Int(sign + hex, radix: 16) else {
                throw Problem(position: start, text: "this number is too large")
            }
            return .integer(value)
        }
        let whole = takeWhile(isDigit)
        if whole.count > 1, whole.first == "0" {
            throw Problem(position: start, text: "a number may not begin with 0 (only 0x… and 0.… do)")
        }
        var fraction: String?
        if peek == "." {
            advance()
            fraction = takeWhile(isDigit)
        }
        guard !whole.isEmpty || fraction?.isEmpty == false else {
            throw Problem(position: start, text: "this is not a number: no digit")
        }
        var exponent: String?
        if peek == "e" || peek == "E" {
            advance()
            var text = ""
            if peek == "+" || peek == "-" { text = takeOne() }
            let power = takeWhile(isDigit)
            guard !power.isEmpty else { throw problem("an exponent needs digits") }
            exponent = text + power
        }
        if fraction == nil, exponent == nil {
            guard let value = Int(sign + whole) else {
                throw Problem(position: start, text: "this number is too large")
            }
            return .integer(value)
        }
        let text = "\(sign)\(whole.isEmpty ? "0" : whole).\(fraction.flatMap { $0.isEmpty ? nil : $0 } ?? "0")"
        guard let value = Double(text + "e" + (exponent ?? "0")) else {
            throw Problem(position: start, text: "this is not a number")
        }
        return .number(value)
    }

    private func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }

    // MARK: Strings

    private mutating func string() throws(Problem) -> String {
        let start = position
        let quote = peek
        advance()
        var text = String.UnicodeScalarView()
        while true {
            guard let next = peek else {
                throw Problem(position: start, text: "this string has no closing quote")
            }
            switch next {
            case quote:
                advance()
                return String(text)
            case "\\":
                if let scalar = try escape() { text.append(scalar) }
            case "\n", "\r":
                throw Problem(position: start, text: "this string has no closing quote on its line")
            default:
                text.append(next)
                advance()
            }
        }
    }

    /// One escape sequence; nil for a line continuation.
    private mutating func escape() throws(Problem) -> Unicode.Scalar? {
        let start = position
        advance()
        guard let next = peek else { throw Problem(position: start, text: "the file ends in an escape") }
        switch next {
        case "\r":
            advance()
            if peek == "\n" { advance() }
            return nil
        case "\n", "\u{2028}", "\u{2029}":
            advance()
            return nil
        case "x":
            advance()
            return Unicode.Scalar(try hexDigits(2))
        case "u":
            advance()
            return try unicodeEscape(start)
        case "0":
            advance()
            if let digit = peek, isDigit(digit) {
                throw Problem(position: start, text: "octal escapes are not allowed")
            }
            return "\0"
        case "1"..."9": throw Problem(position: start, text: "\\\(next) is not an escape")
        default:
            advance()
            return Self.plainEscapes[next] ?? next
        }
    }

    private static let plainEscapes: [Unicode.Scalar: Unicode.Scalar] = [
        "b": "\u{08}", "f": "\u{0C}", "n": "\n", "r": "\r", "t": "\t", "v": "\u{0B}",
    ]

    private mutating func unicodeEscape(_ start: Position) throws(Problem) -> Unicode.Scalar {
        let first = try hexDigits(4)
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard (0xD800...0xDBFF).contains(first), peek == "\\", at(1) == "u" else {
            throw Problem(position: start, text: "half of a surrogate pair")
        }
        advance()
        advance()
        let second = try hexDigits(4)
        guard (0xDC00...0xDFFF).contains(second),
            let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw Problem(position: start, text: "half of a surrogate pair") }
        return scalar
    }

    private mutating func hexDigits(_ count: Int) throws(Problem) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let next = peek, let digit = UInt32(String(next), radix: 16) else {
                throw problem("an escape needs \(count) hexadecimal digits")
            }
            value = value << 4 | digit
            advance()
        }
        return value
    }

    // MARK: Space and comments

    private mutating func skipBlank() throws(Problem) {
        while let next = peek {
            if isSpace(next) {
                advance()
            } else if next == "/", at(1) == "/" {
                while let scalar = peek, !isLineEnd(scalar) { advance() }
            } else if next == "/", at(1) == "*" {
                let start = position
                advance()
                advance()
                while !(peek == "*" && at(1) == "/") {
                    if peek == nil { throw Problem(position: start, text: "this comment is never closed") }
                    advance()
                }
                advance()
                advance()
            } else {
                return
            }
        }
    }

    private func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case " ", "\t", "\n", "\r", "\u{0B}", "\u{0C}", "\u{A0}", "\u{FEFF}", "\u{2028}", "\u{2029}": true
        default: scalar.value > 127 && scalar.properties.generalCategory == .spaceSeparator
        }
    }

    private func isLineEnd(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "\n" || scalar == "\r" || scalar == "\u{2028}" || scalar == "\u{2029}"
    }

    // MARK: Scalars

    private var peek: Unicode.Scalar? { at(0) }

    private func at(_ ahead: Int) -> Unicode.Scalar? {
        index + ahead < scalars.count ? scalars[index + ahead] : nil
    }

    private mutating func advance() {
        guard let scalar = peek else { return }
        index += 1
        // CR LF is one line end: the LF counts it.
        if isLineEnd(scalar), !(scalar == "\r" && peek == "\n") {
            position = Position(line: position.line + 1, column: 1)
        } else {
            position.column += 1
        }
    }

    private mutating func takeOne() -> String {
        defer { advance() }
        return peek.map { String($0) } ?? ""
    }

    private mutating func takeWhile(_ matches: (Unicode.Scalar) -> Bool) -> String {
        var text = String.UnicodeScalarView()
        while let next = peek, matches(next) {
            text.append(next)
            advance()
        }
        return String(text)
    }

    private func problem(_ text: String) -> Problem { Problem(position: position, text: text) }

    private func show(_ scalar: Unicode.Scalar?) -> String {
        guard let scalar else { return "the end of the file" }
        if scalar == "\n" || scalar == "\r" { return "the end of the line" }
        if scalar.value < 32 || scalar.value == 127 { return "U+" + String(scalar.value, radix: 16, uppercase: true) }
        return "'\(scalar)'"
    }
}
