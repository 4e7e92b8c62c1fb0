// DueVerdicts: the servers whose verdict the leader has to look at again. Pure.
//
// A verdict follows from the views of that server, its record and who is alive. So what happens to one server has
// only that one looked at, which a thousand others would make expensive.

struct DueVerdicts: Sendable {
    private static let severalMax = 64

    private var areAll = false
    private var several: [ServerID] = []

    var isEmpty: Bool { !areAll && several.isEmpty }

    mutating func insertAll() {
        areAll = true
        several = []
    }

    /// One; when they become many, all.
    mutating func insert(_ server: ServerID) {
        guard !areAll, !several.contains(server) else { return }
        several.append(server)
        if several.count > Self.severalMax { insertAll() }
    }

    mutating func removeAll() { self = DueVerdicts() }

    /// Those that are in use, sorted, and none is due any more.
    /// - Parameter servers: sorted.
    mutating func take(of servers: [ServerID]) -> [ServerID] {
        defer { removeAll() }
        return areAll ? servers : several.filter { servers.hasSorted($0) }.sorted()
    }
}
