// VersionCommand: which version this is, and `triad version`.

enum Version {
    static let text = "0.1.0"

    /// As one number for the figures that nodes tell each other: 20 bits each for major, minor and patch.
    static let number = number(of: text)

    /// 0 for what isn't three numbers.
    static func number(of text: String) -> UInt64 {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt64($0) ?? .max }
        guard parts.count == 3, parts.allSatisfy({ $0 < 1 << 20 }) else { return 0 }
        return parts.reduce(0) { $0 << 20 | $1 }
    }

    /// nil for 0: a version that doesn't tell.
    static func text(of number: UInt64) -> String? {
        if number == 0 { return nil }
        return [40, 20, 0].map { String(number >> $0 & 0xfffff) }.joined(separator: ".")
    }
}

enum VersionCommand {
    static let command = Subcommand(name: "version", summary: "prints the version") { _ in
        Console.out("triad \(Version.text)")
        return 0
    }
}
