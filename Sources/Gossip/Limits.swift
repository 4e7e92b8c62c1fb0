// Limits: the size of everything that can grow, in one place. A datagram must hold the largest command.

public enum Limits {
    public static let membersMax = 7
    /// Bytes of a backend's, server's or node's name.
    public static let nameBytesMax = 64
    public static let addressBytesMax = 64
    /// A verdict's or view's reason, in UTF-8 bytes; longer ones are cut.
    public static let reasonBytesMax = 96
    public static let weightMax = 256
    public static let datagramBytesMax = 1200
    /// Servers of all backends together, run-time ones included.
    public static let serversMax = 4096
    /// Backends whose number of servers is agreed.
    public static let scalingsMax = 256
    /// Entries kept in the log before a snapshot replaces the applied ones.
    public static let logEntriesMax = 512
    /// A snapshot's bytes; enough for `serversMax` records.
    public static let snapshotBytesMax = 2 << 20
    /// Proposals of one node that wait to be committed.
    public static let proposalsMax = 256

    /// Entries that a leader adds to its log ahead of what is committed; what would be more waits.
    public static let uncommittedMax = 1024
    /// Entries of a peer's log that a candidate keeps before it can take them: what one leader leaves uncommitted, and what
    /// each of those after it adds to announce itself. With a longer one it stays behind until another one leads.
    public static let offeredEntriesMax = 2 * uncommittedMax

    /// Letters, digits, `-`, `_` and `.`, 1…64 bytes: safe in a URL path, a log line and a metric label.
    public static func isName(_ text: some StringProtocol) -> Bool {
        (1...nameBytesMax).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
    }

    /// `text` cut to `reasonBytesMax`, never within a character.
    public static func cut(_ text: String) -> String {
        var text = text
        while text.utf8.count > reasonBytesMax { text.removeLast() }
        return text
    }
}
