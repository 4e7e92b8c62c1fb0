// ClusterVerdicts: a leader's verdict on a server follows from what a majority of the members it hears from see, and
// they really saw that.

import Gossip

struct ClusterVerdicts {
    private struct Sight: Hashable {
        let node: Int
        let server: ServerID
        let health: Health
    }

    /// What nodes saw at any time. Only asked for single ones, never gone through.
    private var sights: Set<Sight> = []

    mutating func note(_ node: Int, _ server: ServerID, _ health: Health) {
        sights.insert(Sight(node: node, server: server, health: health))
    }

    func has(_ node: Int, _ server: ServerID, _ health: Health) -> Bool {
        sights.contains(Sight(node: node, server: server, health: health))
    }
}

extension ClusterChecks {
    mutating func noteObserved(_ server: ServerID, _ health: Health, _ node: Int) {
        verdicts.note(node, server, health)
    }
}

extension ClusterWorld {
    /// A leader puts a verdict into the log.
    func checkVerdict(_ node: Int, _ server: ServerID, _ health: Health) {
        guard let member = nodes[node].member else { return }
        if member.table[server]?.admin == .maint {
            checks.fail("n\(node) judges \(server), which is being worked on")
        }
        let clock = local(node)
        let live = nodes.indices.filter { member.isAlive(MemberID($0), now: clock) }
        var (looked, agreeing) = (0, 0)
        for other in live {
            guard let seen = member.view(of: server, by: MemberID(other))?.health, seen != .unknown else { continue }
            looked += 1
            guard seen == health else { continue }
            agreeing += 1
            if !checks.verdicts.has(other, server, health) {
                checks.fail("n\(node) believes that n\(other) sees \(server) \(health), which it never did")
            }
        }
        let known = member.table[server]?.health ?? .unknown
        let voters = known == .unknown ? looked : live.count
        if agreeing * 2 <= voters {
            checks.fail("n\(node) judges \(server) \(health), which \(agreeing) of \(voters) see")
        }
    }
}
