// ClusterVersions: a cluster that is being upgraded: nodes begin with the former wire version, and may come back from any
// restart with the present one. Meanwhile everybody asks for what only the present one reads.
//
// It draws from a generator of its own, so that lives without it stay as they are.

import Gossip

extension ClusterWorld {
    /// Before anybody starts. What nodes speak is told now and then, as shells do.
    func beginMixed() {
        var versions = SplitMix64(state: seed &* 104_729 &+ 5)
        for node in nodes.indices where !versions.happens(300) { nodes[node].wireVersion = WireVersion.oldest }
        mixed = versions
        checksVersions = true
        after(.milliseconds(50)) { $0.goOnMixed() }
    }

    /// The node starts: perhaps as its upgrade.
    func upgradePerhaps(_ node: Int) {
        guard mixed != nil, nodes[node].wireVersion < WireVersion.current, mixed?.happens(400) == true else { return }
        nodes[node].wireVersion = WireVersion.current
        tell("n\(node) is upgraded")
    }

    private func goOnMixed() {
        after(.milliseconds(50)) { $0.goOnMixed() }
        for node in nodes.indices {
            for peer in nodes.indices where peer != node && !isCut(from: peer, to: node) && nodes[peer].member != nil {
                step(
                    node, .speaks(MemberID(peer), boot: nodes[peer].boot, version: nodes[peer].wireVersion))
            }
            let desired = Int(mixed?.below(6) ?? 0)
            let scaling = desired == 0 ? nil : Scaling(desired: desired, reason: "drawn", atMs: 1)
            // Nobody proposes what it can't read itself.
            if nodes[node].wireVersion > 1, !isMended { step(node, .scale(backend: "api", scaling)) }
        }
    }

    /// What arrives at a node of the former version must be something that it reads.
    func checkReadable(_ message: Message, at node: Int) {
        let entries: [Entry]
        switch message {
        case .append(let append): entries = append.entries
        case .committed(let committed): entries = committed.entries
        case .offer(let offer): entries = offer.entries
        case .snapshot(let chunk):
            // A table's bytes begin with its version.
            guard chunk.offset == 0, let version = chunk.bytes.first, version > nodes[node].wireVersion else { return }
            return checks.fail("n\(node) is sent a snapshot of wire version \(version), and speaks 1")
        default: return
        }
        guard let entry = entries.first(where: { $0.command.wireVersion > nodes[node].wireVersion }) else { return }
        checks.fail("n\(node) is sent \(entry), which it can't read")
    }
}
