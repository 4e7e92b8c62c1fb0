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
}
