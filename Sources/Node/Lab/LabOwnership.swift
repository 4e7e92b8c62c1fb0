// LabOwnership: who owned the VIP when, from the kernel's own address events, or (with the gate, where a node may keep
// the address without answering for it) from an observer's log: AnswerTracker makes that one. Pure.
//
// One netlink socket hears every namespace (`ip -ts -o monitor all-nsid address`), so that the order of the lines is
// the order in which the kernel made the changes, whichever node they were on. Overlaps are judged by that order; the
// times are those at which the line was printed, and serve only to measure spans.

/// Every change of ownership, in order. Times are CLOCK_BOOTTIME nanoseconds.
struct OwnershipRecord: Sendable {
    struct Change: Equatable, Sendable {
        var at: UInt64
        var node: String
        /// The address came to the node, or left it.
        var owns: Bool
    }

    /// A span in which two nodes or more had the address.
    struct Overlap: Equatable, Sendable {
        var nodes: [String]
        var from: UInt64
        /// nil: until the end of the record.
        var to: UInt64?
    }

    /// A span in which no node had the address.
    struct Gap: Equatable, Sendable {
        /// Who lost it; nil before the first owner.
        var after: String?
        var from: UInt64
        /// Who had it next; nil: nobody until the end of the record.
        var before: String?
        var to: UInt64?

        var milliseconds: Double { to.map { Double($0 - from) / 1e6 } ?? .infinity }
    }

    private(set) var changes: [Change] = []
    /// Spans in which an owner was silent and then went on as before: no change of ownership, but a gap to a client.
    var lapses: [Gap] = []

    init(changes: [Change]) {
        for change in changes { add(change) }
    }

    /// Renewals of an address that is there already change nothing.
    private mutating func add(_ change: Change) {
        guard owners.contains(change.node) != change.owns else { return }
        if change.owns { owners.append(change.node) } else { owners.removeAll { $0 == change.node } }
        changes.append(change)
    }

    /// Who has the address at the end of the record.
    private(set) var owners: [String] = []

    /// Who had it at a moment: none, one, or (a broken promise) more.
    func owners(at moment: UInt64) -> [String] {
        var owners: [String] = []
        for change in changes.prefix(while: { $0.at <= moment }) {
            if change.owns { owners.append(change.node) } else { owners.removeAll { $0 == change.node } }
        }
        return owners
    }

    var overlaps: [Overlap] {
        var all: [Overlap] = []
        var owners: [String] = []
        for change in changes {
            if owners.count > 1 { all[all.count - 1].to = change.at }
            if change.owns { owners.append(change.node) } else { owners.removeAll { $0 == change.node } }
            if owners.count > 1 { all.append(Overlap(nodes: owners, from: change.at, to: nil)) }
        }
        return all
    }

    var gaps: [Gap] {
        var all: [Gap] = []
        var owners: [String] = []
        for change in changes {
            if owners.isEmpty, !all.isEmpty {
                all[all.count - 1].before = change.node
                all[all.count - 1].to = change.at
            }
            if change.owns { owners.append(change.node) } else { owners.removeAll { $0 == change.node } }
            if owners.isEmpty { all.append(Gap(after: change.node, from: change.at, before: nil, to: nil)) }
        }
        return all
    }

    /// Only what happened since a moment; who owned it then is kept as a first change.
    func since(_ moment: UInt64) -> OwnershipRecord {
        let before = owners(at: moment).map { Change(at: moment, node: $0, owns: true) }
        var rest = OwnershipRecord(changes: before + changes.filter { $0.at > moment })
        rest.lapses = lapses.filter { ($0.to ?? .max) > moment }
        return rest
    }

    /// A line per change: `  12.345 s  n1  takes`.
    func timeline(from start: UInt64) -> String {
        changes.map { change in
            let microseconds = change.at > start ? (change.at - start) / 1000 : 0
            let fraction = String(microseconds % 1_000_000 + 1_000_000).dropFirst()
            return "  \(microseconds / 1_000_000).\(fraction) s  \(change.node)  \(change.owns ? "takes" : "drops")\n"
        }.joined()
    }
}

/// One line of `ip -ts -o monitor all-nsid address`.
struct AddressEvent: Equatable, Sendable {
    /// Nanoseconds since 1970.
    var at: UInt64
    /// The namespace's number in the listening one; nil: the listening one itself.
    var namespace: Int?
    var isDeleted: Bool
    /// With its prefix: `10.77.0.100/32`.
    var address: String

    /// nil for a line that is no address event.
    init?(line: Substring) {
        // [2026-11-23T08:46:14.761610] [nsid 0]Deleted 2: eth0    inet 10.77.0.100/32 scope global …
        let parts = line.split(separator: "]", maxSplits: 2)
        guard parts.count == 3, parts[0].first == "[", let at = Self.time(parts[0].dropFirst()) else { return nil }
        let label = parts[1].drop { $0 == " " || $0 == "[" }.split(separator: " ")
        guard label.count == 2, label[0] == "nsid" else { return nil }
        self.at = at
        namespace = Int(label[1])
        isDeleted = parts[2].hasPrefix("Deleted")
        let words = parts[2].split(separator: " ")
        guard let family = words.firstIndex(where: { $0 == "inet" || $0 == "inet6" }), family + 1 < words.count else {
            return nil
        }
        let bare = String(words[family + 1])
        address = bare.contains("/") ? bare : bare + (words[family] == "inet" ? "/32" : "/128")
    }

    /// `2026-11-23T08:46:14.761610`, UTC.
    private static func time(_ text: Substring) -> UInt64? {
        let numbers = text.split { !$0.isNumber }.map { Int($0) }
        guard numbers.count == 7, let year = numbers[0], let month = numbers[1], let day = numbers[2],
            let hour = numbers[3], let minute = numbers[4], let second = numbers[5], let micro = numbers[6]
        else { return nil }
        // Days since 1970 in the Gregorian calendar, with the year beginning in March.
        let shifted = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
        return seconds < 0 ? nil : UInt64(seconds) * 1_000_000_000 + UInt64(micro) * 1000
    }
}
