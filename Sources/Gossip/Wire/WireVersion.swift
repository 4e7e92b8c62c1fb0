// WireVersion: which messages, log entries and snapshots a node reads, so that nodes of two versions work side by side
// while a cluster is upgraded one node at a time. DESIGN.md ("Two versions at once") says how the format may change.
//
//   1   everything up to 0.1.0
//   2   the number of servers that a backend should have (Command.scale)

public enum WireVersion {
    /// What this code writes at most, where all others read it.
    public static let current = 2
    /// What a node speaks that doesn't say. This code reads it and everything up to `current`.
    public static let oldest = 1
}

extension Command {
    /// The first version that reads it.
    package var wireVersion: Int {
        if case .scale = self { return 2 }
        return 1
    }
}

extension BackendTable {
    /// The first version that reads a snapshot of it.
    package var wireVersion: Int { scalings.isEmpty ? 1 : 2 }
}

extension Member {
    /// What goes into the log: what every member reads, as far as this one has been told in their present lives. Once the
    /// table holds something of a later version it's that one: who can't read it has nothing left to wait for.
    public var wireVersion: Int {
        let lowest = configuration.peers.map { peers[$0.index].wireVersion ?? WireVersion.oldest }.min()
        return max(table.wireVersion, min(configuration.wireVersion, lowest ?? configuration.wireVersion))
    }

    /// What a member said that it speaks, nil: nothing yet since it started.
    public func wireVersion(of member: MemberID) -> Int? {
        member == me ? configuration.wireVersion : peers[member.index].wireVersion
    }

    mutating func learnWireVersion(of member: MemberID, boot: UInt64, _ version: Int) {
        guard member != me, peers.indices.contains(member.index), peers[member.index].boot == boot else { return }
        peers[member.index].wireVersion = max(WireVersion.oldest, version)
    }

    /// Without what that member can't read: it then stays behind, and goes on hearing, answering and checking.
    func readable(_ entries: [Entry], by member: MemberID) -> [Entry] {
        guard let version = peers[member.index].wireVersion else { return entries }
        return Array(entries.prefix { $0.command.wireVersion <= version })
    }
}
