// ClusterNews: the other nodes' latest events, as their bulletins tell them, so that each node can show one time line of
// the cluster. Pure. Control thread.

struct ClusterNews: Sendable {
    static let eventsPerNodeMax = 64

    private struct Item: Sendable {
        var boot: UInt64
        var sequence: UInt64
        var event: StatusEvent
    }

    /// By node, oldest first.
    private var items: [[Item]]

    init(nodeCount: Int) { items = Array(repeating: [], count: nodeCount) }

    /// Takes in what a node said of its events; those known already change nothing.
    mutating func take(_ news: [NewsItem], from node: Int, id: String, boot: UInt64) {
        guard items.indices.contains(node) else { return }
        let fresh = news.filter { item in
            !items[node].contains { $0.boot == boot && $0.sequence == item.sequence }
        }
        guard !fresh.isEmpty else { return }
        items[node] += fresh.map { item in
            let event = StatusEvent(
                atMs: Int64(clamping: item.atMs), node: id, kind: item.kind, text: item.text)
            return Item(boot: boot, sequence: item.sequence, event: event)
        }
        items[node].sort { ($0.boot, $0.sequence) < ($1.boot, $1.sequence) }
        items[node].removeFirst(max(0, items[node].count - Self.eventsPerNodeMax))
    }

    /// By the nodes' own clocks, oldest first.
    var events: [StatusEvent] { items.joined().map(\.event).sorted { $0.atMs < $1.atMs } }
}
