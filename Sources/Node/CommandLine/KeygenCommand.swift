// KeygenCommand: `triad keygen`, a new key for gossip (or a token) on stdout.

enum KeygenCommand {
    static let command = Subcommand(
        name: "keygen", summary: "prints a new key: 32 random bytes in base64",
        details: [
            "  triad keygen > gossip.key    makes the cluster's key; copy the file to every node",
            "  triad keygen > admin.token   makes a token for the admin commands",
        ],
        run: { _ in
            // A key that wasn't written is worse than none: `triad keygen > gossip.key` on a full disk must not pass.
            if Console.out(Base64.encode(key())) { return 0 }
            Console.error("triad keygen: the key could not be written")
            return 1
        })

    /// 32 bytes from getrandom(2), which is what Swift's system generator is on Linux.
    static func key() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}
