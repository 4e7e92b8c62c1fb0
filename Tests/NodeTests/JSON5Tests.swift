// JSON5Tests: what is read, what is refused, and that places are right.

import Testing

@testable import Node

@Suite struct JSON5Tests {
    private func content(_ text: String) -> JSON5.Content? {
        let parsed = JSON5.parse(Array(text.utf8))
        return parsed.problems.isEmpty ? parsed.value?.content : nil
    }

    private func refusal(_ text: String) -> String {
        let parsed = JSON5.parse(Array(text.utf8))
        guard let first = parsed.problems.first else { return "accepted" }
        return "\(first.position.line):\(first.position.column): \(first.text)"
    }

    @Test(
        arguments: [
            ("null", .null), (" true // yes", .boolean(true)), ("/* a\n b */ false", .boolean(false)),
            ("12", .integer(12)), ("+12", .integer(12)), ("-12", .integer(-12)), ("0", .integer(0)),
            ("0x1F", .integer(31)),
            ("-0xff", .integer(-255)), (".5", .number(0.5)), ("5.", .number(5)), ("-1.5e3", .number(-1500)),
            ("1E-2", .number(0.01)), ("Infinity", .number(.infinity)), ("-Infinity", .number(-.infinity)),
            ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
            ("\"a'b\"", .string("a'b")), ("'a\"b'", .string("a\"b")),
            ("'\\x41\\u00e9\\n\\0\\'\\q'", .string("Aé\n\0'q")),
            ("'\\uD83D\\uDE00'", .string("😀")), ("'one \\\n two'", .string("one  two")),
            ("'one \\\r\n two'", .string("one  two")), ("'a\u{2028}b'", .string("a\u{2028}b")), ("[]", .array([])),
            ("{}", .object([])), ("\u{FEFF}\u{A0}\u{3000}7", .integer(7)),
        ] as [(String, JSON5.Content)])
    func reads(_ text: String, _ expected: JSON5.Content) { #expect(content(text) == expected) }

    @Test func notANumberIsANumber() {
        guard case .number(let value) = content("NaN") else { return #expect(Bool(false)) }
        #expect(value.isNaN)
    }

    @Test func keepsPlaces() throws {
        let text = "{\n  a: 1, // one\r\n\t'b c': [ 2,\r   3, ],\n  $é_1: { \\u0078: {} },\n}"
        let parsed = JSON5.parse(Array(text.utf8))
        #expect(parsed.problems.isEmpty)
        guard case .object(let members)? = parsed.value?.content else { return #expect(Bool(false)) }
        #expect(members.map(\.key) == ["a", "b c", "$é_1"])
        #expect(
            members.map(\.keyPosition) == [
                .init(line: 2, column: 3), .init(line: 3, column: 2), .init(line: 5, column: 3),
            ])
        #expect(members[0].value.position == .init(line: 2, column: 6))
        guard case .array(let elements) = members[1].value.content else { return #expect(Bool(false)) }
        #expect(elements.map(\.position) == [.init(line: 3, column: 11), .init(line: 4, column: 4)])
        guard case .object(let inner) = members[2].value.content else { return #expect(Bool(false)) }
        #expect(inner.map(\.key) == ["x"])
    }

    @Test(arguments: [
        ("", "1:1: the file is empty; it must hold one object: { … }"),
        ("// nothing\n", "2:1: the file is empty; it must hold one object: { … }"),
        ("{", "1:2: the file ends before the } that closes the { of line 1"),
        ("{\n a: [1,", "2:8: the file ends before the ] that closes the [ of line 2"),
        ("{a 1}", "1:4: expected : after the key a, found '1'"),
        ("{a: 1 b: 2}", "1:7: expected , or }, found 'b'"),
        ("{a: 1 // x\n b: 2}", "2:2: expected , or }, found 'b'; is a comma missing at the end of line 1?"),
        ("{a: 1}}", "1:7: unexpected '}' after the end of the value"),
        ("{a: }", "1:5: unexpected '}'; a value should be here"),
        ("{,}", "1:2: unexpected ','; a key should be here"),
        ("[1,,2]", "1:4: unexpected ','; a value should be here"),
        ("{1: 2}", "1:2: unexpected '1'; a key should be here"),
        ("{a: api}", "1:5: api is not a value; a string needs quotes: \"api\""),
        (
            "{a: 30ms}",
            "1:7: unexpected 'm' right after a number; a value with a unit, or an address, needs quotes: \"30ms\""
        ),
        (
            "{a: 10.0.0.1}",
            "1:9: unexpected '.' right after a number; a value with a unit, or an address, needs quotes: \"30ms\""
        ),
        ("012", "1:1: a number may not begin with 0 (only 0x… and 0.… do)"),
        ("+", "1:1: this is not a number: no digit"), (".", "1:1: this is not a number: no digit"),
        ("1e", "1:3: an exponent needs digits"), ("0x", "1:3: 0x needs hexadecimal digits"),
        ("9223372036854775808", "1:1: this number is too large"),
        ("{a: 'x\n'}", "1:5: this string has no closing quote on its line"),
        ("{a: 'x", "1:5: this string has no closing quote"),
        ("'\\u12'", "1:6: an escape needs 4 hexadecimal digits"), ("'\\1'", "1:2: \\1 is not an escape"),
        ("'\\01'", "1:2: octal escapes are not allowed"), ("'\\uD83D'", "1:2: half of a surrogate pair"),
        ("'\\uDE00'", "1:2: half of a surrogate pair"), ("/* x", "1:1: this comment is never closed"),
        ("{ \\u0020: 1 }", "1:3: this escape is not a letter; put the key in quotes"),
        ("\u{1}", "1:1: unexpected U+1; a value should be here"),
        ("{a: 1, b: 2, 'a': 3}", "1:14: the key a appears twice in one object (first at line 1); remove one"),
    ])
    func refuses(_ text: String, _ expected: String) { #expect(refusal(text) == expected) }

    @Test func duplicatesDoNotHideLaterProblems() {
        let parsed = JSON5.parse(Array("{a: 1, a: 2, b: 1, b: 2, c".utf8))
        #expect(parsed.value == nil)
        #expect(parsed.problems.count == 3)
    }

    @Test func limits() {
        let deep = String(repeating: "[", count: 33) + String(repeating: "]", count: 33)
        #expect(refusal(deep) == "1:33: nested more than 32 deep")
        #expect(content(String(deep.dropFirst().dropLast())) != nil)
        let many = "[" + String(repeating: "0,", count: 100_000) + "]"
        #expect(refusal(many).hasSuffix("more than 100000 values"))
        #expect(
            JSON5.parse([UInt8](repeating: 32, count: (1 << 20) + 1)).problems.first?.text.contains("at most 1048576")
                == true)
    }

    @Test func refusesWhatIsNotText() {
        let parsed = JSON5.parse(Array("{\n a: '".utf8) + [0xff, 0x27, 0x7d])
        #expect(parsed.problems == [.init(position: .init(line: 2, column: 6), text: "this is not UTF-8 text")])
    }

    /// Whatever the bytes, it answers; here every prefix and every single-byte change of a realistic file.
    @Test func neverTraps() {
        let bytes = Array(Examples.full.utf8)
        for length in stride(from: 0, to: bytes.count, by: 3) { _ = JSON5.parse(Array(bytes[..<length])) }
        for index in stride(from: 0, to: bytes.count, by: 5) {
            for replacement in Array("{}[],:'\"\\0/*-".utf8) + [0, 0xff] {
                var changed = bytes
                changed[index] = replacement
                _ = JSON5.parse(changed)
            }
        }
    }
}
