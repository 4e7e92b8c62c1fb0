// Runtime+Overview: tells the other nodes once a second what this one does, and takes in what they tell: the figures and
// events of the whole cluster, for status, page and metrics.

import Gossip
import Proxy

/// What this node knows of everybody's work.
struct Overview {
    var figures: ClusterFigures
    var news: ClusterNews
    var tenure: Tenure
    /// The least that was left of this node's lease in the last second.
    var leaseLow: Duration?
    /// What is lost on the way from each node.
    var losses: [LossMeter]
    /// The row that the next bulletin begins with.
    private var nextRow = 0

    init(nodeCount: Int, now: Instant) {
        figures = ClusterFigures(nodeCount: nodeCount)
        news = ClusterNews(nodeCount: nodeCount)
        tenure = Tenure(now: now)
        losses = Array(repeating: LossMeter(), count: nodeCount)
    }

    /// The payloads of this second.
    mutating func bulletins(of rows: [FigureRow]) -> [[UInt8]] {
        if nextRow >= rows.count { nextRow = 0 }
        let (payloads, count) = Bulletin.figures(of: rows, from: nextRow)
        if !rows.isEmpty { nextRow = (nextRow + count) % rows.count }
        return payloads
    }
}

extension Runtime {
    /// Once a second.
    func tellOverview(now: Instant) {
        let figures = dataPlane.figures
        overview.leaseLow = overview.tenure.takeLeaseLow()
        let names = servers.backends.joined().map(\.name)
        let servers = names.map { FigureRow(server: $0, figures.servers[$0] ?? ServerFigures()) }
        var whole = NodeFigures(figures)
        whole.uptimeMs = milliseconds(since: startedAt, now: now)
        let tenure = overview.tenure
        if tenure.leader.member == me { whole.leadsMs = max(1, milliseconds(since: tenure.leader.since, now: now)) }
        if tenure.owner.member == me { whole.ownsMs = max(1, milliseconds(since: tenure.owner.since, now: now)) }
        whole.version = Version.number
        whole.wireVersion = UInt64(WireVersion.current)
        whole.stateIndex = core.appliedIndex
        whole.stateDigest = core.table.digest
        whole.leaseLowMs = UInt64(max(0, overview.leaseLow?.milliseconds ?? 0))

        overview.figures.keep(names)
        overview.figures.take([whole.row] + servers, from: me.index, boot: boot, now: now)
        overview.figures.sample(now: now)
        // The node itself goes first, every second; its servers take turns when they are too many for one.
        for payload in overview.bulletins(of: servers) { tellPeers(payload) }
        for index in configuration.nodes.indices where index != me.index {
            whole.datagramsSent = gossip.sent[index]
            gossip.send(Bulletin.figures([whole.row]).encode(), to: MemberID(index))
        }
        tellNews()
    }

    /// The latest events, which hold those that nobody was told yet.
    func tellNews() {
        if let payload = Bulletin.news(latestOf: log.latest(NewsItem.perDatagramMax)) { tellPeers(payload) }
    }

    private func tellPeers(_ payload: [UInt8]) {
        for index in configuration.nodes.indices where index != me.index { gossip.send(payload, to: MemberID(index)) }
    }

    func takeBulletins(now: Instant) {
        for (bulletin, sender, boot) in gossip.takeBulletins() where sender != me {
            switch bulletin {
            case .figures(let rows):
                overview.figures.take(rows, from: sender.index, boot: boot, now: now)
                if let row = rows.first(where: { $0.name.isEmpty }) {
                    let whole = NodeFigures(row)
                    overview.losses[sender.index].note(
                        sent: whole.datagramsSent, received: gossip.received[sender.index])
                    let spoken = Int(clamping: whole.wireVersion)
                    feed(.speaks(sender, boot: boot, version: max(WireVersion.oldest, spoken)), now: now)
                }
            case .news(let items):
                let id = configuration.nodes[sender.index].id
                overview.news.take(items, from: sender.index, id: id, boot: boot)
            }
        }
    }

    /// To those who look at it live: once a second, and soon after something happened.
    func showPage(now: Instant) {
        guard isPageStale, status.hasViewers, now >= pageShownAt.advanced(by: .milliseconds(100)) else { return }
        isPageStale = false
        pageShownAt = now
        status.show(report(now: now), now: now.nanoseconds)
    }

    /// Looks who leads and who owns, in every turn.
    func watchTenure(now: Instant) {
        let owner = core.owner(now: now)
        let heardAt = owner.flatMap { $0 == me ? nil : core.heardAt($0) }
        let before = (overview.tenure.leader, overview.tenure.owner)
        overview.tenure.observe(leader: core.knownLeader(now: now), owner: owner, ownerHeardAt: heardAt, now: now)
        if before != (overview.tenure.leader, overview.tenure.owner) { isPageStale = true }
    }

    /// This node has just taken the VIP.
    func noteMove(now: Instant) {
        guard let move = overview.tenure.takeMove(now: now) else { return }
        let span = JSONWriter.text(move.after.milliseconds, decimals: 0)
        let (from, to) = (configuration.nodes[move.from.index].id, configuration.nodes[me.index].id)
        log.add(.vipMoved, "\(from) → \(to): \(span) ms after \(from) was last heard with the VIP")
    }

    private func milliseconds(since instant: Instant, now: Instant) -> UInt64 {
        UInt64(max(0, instant.duration(to: now).milliseconds))
    }
}

extension NewsItem {
    /// More don't fit, however short they are.
    static let perDatagramMax = 40
}
