// ViewTable: what each member sees of each server, spread by gossip.
//
// A member changes only its own view, and numbers each change. Peers learn changes in order: a delta says from
// after which version up to which it goes, so a lost one is noticed by the next digest and sent again, by whoever
// has it. Thus a node that can't hear a member still gets its view through another (scuttlebutt reconciliation,
// van Renesse et al. 2008).

/// One server as one member sees it.
public struct ViewEntry: Equatable, Sendable {
    public let server: ServerID
    public var health: Health
    public var reason: String
    /// The origin's version at which this entry last changed.
    public var version: UInt64
}

/// The view of one member.
struct View: Sendable {
    var boot: UInt64
    var version: UInt64 = 0
    /// Sorted by server.
    private(set) var entries: [ViewEntry] = []

    init(boot: UInt64) { self.boot = boot }

    subscript(server: ServerID) -> ViewEntry? {
        let place = place(of: server)
        return place < entries.count && entries[place].server == server ? entries[place] : nil
    }

    /// Changes the own view. False when nothing changed; a new reason alone is a change only when `health` is.
    mutating func observe(_ observation: Observation) -> Bool {
        if self[observation.server]?.health ?? .unknown == observation.health { return false }
        version += 1
        set(
            ViewEntry(
                server: observation.server, health: observation.health, reason: Limits.cut(observation.reason),
                version: version))
        return true
    }

    /// Takes over what is new in a delta. False when it doesn't follow on what is known.
    mutating func merge(_ delta: ViewDelta) -> Bool {
        if delta.boot < boot { return false }
        if delta.boot > boot {
            guard delta.after == 0 else { return false }
            self = View(boot: delta.boot)
        }
        guard delta.after <= version, delta.upTo > version else { return false }
        for entry in delta.entries where entry.version > version { set(entry) }
        version = delta.upTo
        return true
    }

    /// What changed after a version, in deltas that each fit a datagram.
    func deltas(origin: MemberID, after known: UInt64, bytesMax: Int) -> [ViewDelta] {
        let fresh = entries.filter { $0.version > known }.sorted { $0.version < $1.version }
        var deltas: [ViewDelta] = []
        var current = ViewDelta(origin: origin, boot: boot, after: known, upTo: known, entries: [])
        var bytes = 0
        for entry in fresh {
            let size = entry.size
            if bytes + size > bytesMax, !current.entries.isEmpty {
                deltas.append(current)
                current = ViewDelta(origin: origin, boot: boot, after: current.upTo, upTo: current.upTo, entries: [])
                bytes = 0
            }
            bytes += size
            current.entries.append(entry)
            current.upTo = entry.version
        }
        current.upTo = version
        if current.upTo > current.after { deltas.append(current) }
        return deltas
    }

    /// Forgets servers that are no more.
    /// - Parameter servers: sorted.
    mutating func keep(only servers: [ServerID]) {
        var place = 0
        entries.removeAll { entry in
            while place < servers.count, servers[place] < entry.server { place += 1 }
            return place == servers.count || servers[place] != entry.server
        }
    }

    private mutating func set(_ entry: ViewEntry) {
        let place = place(of: entry.server)
        if place < entries.count, entries[place].server == entry.server {
            entries[place] = entry
        } else if entries.count < Limits.serversMax {
            entries.insert(entry, at: place)
        }
    }

    private func place(of server: ServerID) -> Int { entries.partitioningIndex { $0.server < server } }
}

extension ViewEntry {
    /// Bytes on the wire, at most.
    var size: Int { server.backend.utf8.count + server.server.utf8.count + reason.utf8.count + 16 }

    func write(to writer: inout ByteWriter) {
        server.write(to: &writer)
        health.write(to: &writer)
        writer.string(reason)
        writer.varint(version)
    }

    init(from reader: inout ByteReader) {
        server = ServerID(from: &reader)
        health = Health(from: &reader)
        reason = reader.string(limit: Limits.reasonBytesMax)
        version = reader.varint()
    }
}
