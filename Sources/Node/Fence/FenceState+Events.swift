// FenceState+Events: what FenceState hears, what it wants done, and the times it keeps.

import Gossip

/// A line for `ip`.
enum FenceLine: Equatable, Sendable {
    /// Adds a VIP or renews it, for one second.
    case put(vip: Int)
    case remove(vip: Int)
    case clear(FenceStray)
}

/// A VIP's address where it should not be: on another interface or with another prefix length.
struct FenceStray: Equatable, Sendable {
    var vip: Int
    var prefix: Int
    var interface: String
}

extension FenceState {
    enum Event: Equatable, Sendable {
        case tick
        /// - Parameter order: numbers the orders to hold or drop; grows.
        case hold(until: Instant, term: UInt64, order: UInt64)
        case drop(order: UInt64)
        /// Answer no more, but keep the addresses and take what still comes.
        case yield(order: UInt64)
        case forward(to: FlowRoute?)
        /// The main process is gone.
        case closed
        case bye
        /// The kernel announced a VIP: added, or renewed.
        case appeared(vip: Int)
        case vanished(vip: Int)
        case strayAppeared(FenceStray)
        case strayVanished(FenceStray)
        /// The answer to `look`: what there is now.
        case looked(present: [Bool], strays: [FenceStray])
        /// Announcements of the kernel were lost.
        case overrun
        /// `ip` refused a line; all lines before it are done.
        case refused(line: UInt64, reason: String)
        /// The shell didn't write a line, since it was too late for it.
        case withheld(line: UInt64)
        /// `ip` ended or could not be started.
        case toolEnded(reason: String)
        case gate(GateState.Event)
    }

    enum Effect: Equatable, Sendable {
        case gate(GateState.Effect)
        case startTool
        case stopTool
        /// - Parameters:
        ///   - id: names it in `refused` and `withheld`.
        ///   - before: the time from which on it must not be written; nil: any time.
        case write(FenceLine, id: UInt64, before: Instant?)
        /// Ask the kernel for all addresses; answered with `looked`.
        case look
        /// Set the timer that kills this process; nil disarms it.
        case killAt(Instant?)
        /// - Parameter isSettled: it has been announced here for so long that whoever else answers for it now isn't a former
        ///   owner.
        case announce(vip: Int, isSettled: Bool = false)
        case report(FenceAnswer)
        /// Tell the peers that the lease is released.
        case release
        case exit
    }

    enum Timing {
        static let renewal: Duration = .milliseconds(300)
        /// Letting go begins this long before `until`, so that it is done by then.
        static let lead: Duration = .milliseconds(3)
        /// The kernel kills this process that long after `until`. A late line can put an address back no later than
        /// this, for at most 1.25 s: within the 1.3 s that a new owner waits (`Timing.addressLifetime`).
        static let killGrace: Duration = .milliseconds(30)
        /// A line unanswered for that long: `ip` is stopped, hangs or starves.
        static let stuckHolding: Duration = .milliseconds(50)
        static let stuckLettingGo: Duration = .milliseconds(10)
        /// Between two tries at the same VIP.
        static let retry: Duration = .milliseconds(20)
        static let retryMax: Duration = .milliseconds(500)
        /// Announcements after a VIP appeared; then every `announceEvery`.
        static let burst: [Duration] = [.zero, .milliseconds(50), .milliseconds(150), .milliseconds(800)]
        static let announceEvery: Duration = .seconds(10)
        static let releases: [Duration] = [.zero, .milliseconds(30), .milliseconds(70)]
        /// An orphan that can't let go ends all the same; the address's lifetime does the rest.
        static let leaving: Duration = .seconds(2)
        /// An `ip` that has stood this long without anything to do counts as working again.
        static let provenAfter: Duration = .seconds(1)
    }
}
