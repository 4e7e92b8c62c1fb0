// VersionCommand: which version this is, and `triad version`.

enum Version {
    static let text = "0.1.0"
}

enum VersionCommand {
    static let command = Subcommand(name: "version", summary: "prints the version") { _ in
        Console.out("triad \(Version.text)")
        return 0
    }
}
