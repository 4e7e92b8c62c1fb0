// Worker: one data-plane thread: its reactor, listeners, connections and pools. Shares nothing with other workers.

import CLinux
import Glibc

struct Worker: ~Copyable {
    let settings: ProxySettings
    let reactor: Reactor
    let mailbox: Mailbox
    let counterBlock: Counters
    let suspicions: SuspicionBox
    private(set) var listeners: [Int32]
    var isStopping = false

    /// - Parameter reactor: has the mailbox registered as `Token(kind: 0, slot: 0)`.
    init(
        _ settings: ProxySettings, reactor: consuming Reactor, listeners: [Int32], mailbox: Mailbox,
        counters: Counters, suspicions: SuspicionBox
    ) {
        self.settings = settings
        self.reactor = reactor
        self.listeners = listeners
        self.mailbox = mailbox
        self.counterBlock = counters
        self.suspicions = suspicions
    }

    deinit { listeners.forEach(System.close) }

    /// Turns the loop until told to stop.
    mutating func run() {
        while !isStopping {
            let count = reactor.wait(timeoutMs: -1)
            for index in 0..<count where reactor.event(at: index).token.kind == 0 {
                isStopping = mailbox.take().stop
            }
        }
        listeners.forEach(System.close)
        listeners = []
    }
}
