// Runtime+Gossip: datagrams in. A bounded number each turn, so that a flood can't keep the rest waiting; the
// descriptor is level-triggered and brings us back for what is left.

import Gossip
import Proxy

extension Runtime {
    func receiveDatagrams() {
        var budget = GossipSocket.datagramsPerTurn
        let end = System.bootNanoseconds() + GossipSocket.nanosecondsPerTurn
        while let (message, sender, boot) = gossip.receive(budget: &budget, until: end) {
            // Read after the datagram: were it older than the datagram's arrival, the promise that an answer makes would
            // end too early.
            feed(.message(message, from: sender, boot: boot), now: Self.now())
        }
        takeBulletins(now: Self.now())
    }

    /// Said by the fence for as long as it lasts; an event when it begins.
    func note(contest text: String, now: Instant) {
        contests.removeAll { $0.at.duration(to: now) >= Self.contestHeldFor }
        if let known = contests.firstIndex(where: { $0.text == text }) {
            contests[known].at = now
        } else if contests.count < FenceLimits.vipsMax {
            contests.append((text, now))
            log.add(.vipContested, "\(text): \(Self.contestRemedy)", level: .error)
        }
    }

    /// Another machine with the VIP; and why a node that sends isn't heard, the likeliest mistake of a first start.
    func strangerProblems(now: Instant) -> [String] {
        var problems: [String] = []
        for contest in contests where contest.at.duration(to: now) < Self.contestHeldFor {
            problems.append("\(contest.text): \(Self.contestRemedy)")
        }
        if let (reason, at) = gossip.refusal, let remedy = reason.remedy,
            Instant(nanoseconds: at).duration(to: now) < .seconds(5),
            core.peerStatus(now: now).contains(where: { !$0.isAlive })
        {
            problems.append("gossip from a node's address is refused: \(remedy)")
        }
        return problems
    }
}

extension DropReason {
    /// What is wrong between the nodes, and what helps; nil for what happens in any network.
    var remedy: String? {
        switch self {
        case .badMAC: "its key is another one: copy one key file to every node"
        case .otherCluster:
            "its cluster has another name, other nodes or other timings (lease, electionTimeout): copy one file to every "
                + "node, and restart those that ran with another"
        case .otherVersion, .badMagic: "it isn't Triad's, or of another version: look at what sends to this port there"
        case .unknownSender, .notForMe: "it is for another node: the files differ, or addresses in them are mixed up"
        case .fromOurselves: "another node runs with the id of this one: see --node (TRIAD_NODE) there"
        case .tooShort, .tooLong, .oldBoot, .replayed, .tooLate: nil
        }
    }
}
