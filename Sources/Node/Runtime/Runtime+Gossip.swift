// Runtime+Gossip: datagrams in. A bounded number each turn, so that a flood can't keep the rest waiting; the
// descriptor is level-triggered and brings us back for what is left.

import Gossip

extension Runtime {
    func receiveDatagrams(now: Instant) {
        var budget = GossipSocket.datagramsPerTurn
        while let (message, sender, boot) = gossip.receive(budget: &budget) {
            feed(.message(message, from: sender, boot: boot), now: now)
        }
    }
}
