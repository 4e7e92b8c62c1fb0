// SmallPartsTests: durations, sizes, base64, suggestions, and what the lab's children get.

import Glibc
import Testing

@testable import Node

@Suite struct QuantityTests {
    @Test(
        arguments: [
            ("30ms", .milliseconds(30)), ("1s", .seconds(1)), ("5m", .seconds(300)), ("2h", .seconds(7200)),
            ("1d", .seconds(86400)), ("250us", .microseconds(250)), ("1.5s", .milliseconds(1500)),
            ("0.25ms", .microseconds(250)), ("0s", .zero),
        ] as [(String, Duration)])
    func durations(_ text: String, _ expected: Duration) { #expect(Quantity.duration(text) == expected) }

    @Test(arguments: [
        "", "30", "ms", "30 ms", "30MS", "-1s", "1.s", ".5s", "1.2.3s", "1s ", "1m30s", "99999999999999999999s",
        "200000d",
        "9223372036854775807s", "0.0000001s", "٣s",
    ])
    func notDurations(_ text: String) { #expect(Quantity.duration(text) == nil) }

    @Test(arguments: [("16KiB", 16384), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("100B", 100), ("1.5KiB", 1536)])
    func sizes(_ text: String, _ expected: Int) { #expect(Quantity.bytes(text) == expected) }

    @Test(arguments: ["", "16", "16K", "16kb", "-1B", "0.3B", "9223372036854775807GiB"])
    func notSizes(_ text: String) { #expect(Quantity.bytes(text) == nil) }

    @Test(
        arguments: [
            (.zero, "0s"), (.milliseconds(150), "150ms"), (.milliseconds(1500), "1500ms"), (.seconds(90), "90s"),
            (.seconds(120), "2m"), (.microseconds(1), "1us"), (.seconds(86400), "1d"),
        ] as [(Duration, String)])
    func texts(_ span: Duration, _ expected: String) { #expect(Quantity.text(span) == expected) }

    @Test func sizeTexts() {
        #expect([0, 100, 16384, 3 << 20].map { Quantity.text(bytes: $0) } == ["0B", "100B", "16KiB", "3MiB"])
    }
}

@Suite struct Base64Tests {
    /// RFC 4648, section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func vectors(_ plain: String, _ text: String) {
        #expect(Base64.encode(Array(plain.utf8)) == text)
        #expect(Base64.decode(text) == Array(plain.utf8))
    }

    @Test(arguments: ["Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9", "Zm9_", "=m9v", "Zm=v"])
    func refused(_ text: String) { #expect(Base64.decode(text) == nil) }

    @Test func everyByte() {
        let bytes = [UInt8](0...255)
        #expect(Base64.decode(Base64.encode(bytes)) == bytes)
    }
}

@Suite struct NearestTests {
    @Test(arguments: [
        ("", "", 0), ("abc", "", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("abc", "abcd", 1), ("kitten", "sitting", 3),
    ])
    func distances(_ left: String, _ right: String, _ expected: Int) {
        #expect(Nearest.distance(left, right) == expected)
    }

    @Test(arguments: [
        ("worker", "workers"), ("keepalive", "keepAlive"), ("intreface", "interface"), ("handoff", nil), ("x", nil),
        ("clustername", "cluster"),
    ])
    func matches(_ word: String, _ expected: String?) {
        #expect(Nearest.match(word, in: ["workers", "keepAlive", "interface", "handover", "cluster"]) == expected)
    }
}

@Suite struct LabChildTests {
    /// A socket that a child kept open would not end when its owner closes it.
    @Test func aChildInheritsNoDescriptors() throws {
        // Without close-on-exec, as sockets of code that knows nothing of children are.
        let stray = fcntl(STDERR_FILENO, F_DUPFD, 100)
        try #require(stray >= 100)
        defer { close(stray) }
        let child = try LabSystem.spawn(.init(command: ["sh", "-c", "test ! -e /proc/$$/fd/\(stray)"]))
        #expect(LabSystem.exitCode(child, wait: true) == 0)
    }
}
