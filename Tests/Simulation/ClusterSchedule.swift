// ClusterSchedule: what a seed does to a cluster, drawn up front as a list, so that a run can leave entries out.
//
// A life is a row of episodes. In each, faults strike for a while and end; then a cut may persist; then all is well.
// Entries say when they happen, counted from their episode's beginning, and how long they last.

import Gossip

/// Whom a fault strikes; a role is looked up when it does, since that is where the promises are.
enum Aim: Equatable, CustomStringConvertible {
    case node(Int)
    case leader
    /// One that doesn't lead.
    case other(Int)

    var description: String {
        switch self {
        case .node(let node): "n\(node)"
        case .leader: "the leader"
        case .other(let number): "follower \(number)"
        }
    }
}

/// Which ways between nodes are cut.
enum Cut: Equatable {
    case isolated(Aim)
    case link(Aim, Aim)
    case oneWay(from: Aim, to: Aim)
    case deaf(Aim)
    case mute(Aim)
    /// Each hears only its neighbours.
    case chain([Int])
    /// All hear one, and it them, but not each other.
    case star(Aim)
    /// These and the rest don't hear each other.
    case halves([Int])
}

/// How bad the network is, in thousandths.
struct Noise: Equatable {
    var loss: UInt64 = 0
    var duplication: UInt64 = 0
    var slow: UInt64 = 0
    var corruption: UInt64 = 0
}

/// Spans are in nanoseconds.
enum Deed: Equatable {
    case killMain(Aim, down: UInt64)
    case killAll(Aim, down: UInt64)
    case crash(Aim, down: UInt64)
    /// An orderly stop: hand over, let go, leave.
    case stop(Aim, down: UInt64)
    case wipe(Aim, down: UInt64)
    case powerCut(down: UInt64)
    case killFence(Aim, pause: UInt64, gateAfterwards: Bool)
    case freeze(Aim, whole: Bool, span: UInt64)
    case stall(Aim, span: UInt64)
    case stallAll(span: UInt64)
    case cut(Cut, span: UInt64)
    case noise(Noise, span: UInt64)
    case slowDisk(Aim, worst: UInt64, span: UInt64)
    case fullDisk(Aim, span: UInt64)
    case handover(asked: Aim, to: Aim?)
    case unfit(Aim, span: UInt64)
    case observe(Aim, server: Int, Health)
    case suspect(Aim, server: Int)
    case change(Aim, [Command])
    /// Stays after the faults of its episode have ended.
    case persist(Cut)
}

struct Fault: Equatable {
    let episode: Int
    let at: UInt64
    let deed: Deed
}

struct ClusterSchedule {
    /// The episode's part in which faults strike.
    let trouble: UInt64
    /// An episode's whole length, unless recovery takes longer.
    let slot: UInt64
    let episodes: Int
    var faults: [Fault]

    /// Draws a life of that length.
    init(seed: UInt64, members: Int, servers: [ServerID], seconds: Int) {
        var random = SplitMix64(state: seed &* 0x9e37_79b9 &+ 17)
        let seconds = max(4, seconds)
        episodes = max(1, seconds / 10)
        slot = UInt64(seconds) * 1_000_000_000 / UInt64(episodes)
        trouble = slot > 8_000_000_000 ? slot - 4_200_000_000 : slot / 2
        faults = []
        for episode in 0..<episodes {
            var drawn: [Fault] = []
            var at = random.within(40_000_000...400_000_000)
            while at < trouble {
                let deed = Self.draw(&random, members: members, rest: trouble - at)
                drawn.append(Fault(episode: episode, at: at, deed: deed))
                if random.happens(120) {
                    for (later, deed) in Self.drawTrap(&random, members: members) where at + later < trouble {
                        drawn.append(Fault(episode: episode, at: at + later, deed: deed))
                    }
                }
                at += random.within(40_000_000...600_000_000)
            }
            at = random.within(2_000_000...60_000_000)
            while at < trouble {
                let deed = Self.drawWork(&random, members: members, servers: servers)
                drawn.append(Fault(episode: episode, at: at, deed: deed))
                at += random.within(2_000_000...90_000_000)
            }
            faults += drawn.sorted { $0.at < $1.at }
            if members > 1, random.happens(600) {
                let cut = Self.drawPersistent(&random, members: members)
                faults.append(Fault(episode: episode, at: trouble, deed: .persist(cut)))
            }
        }
    }

    /// The same life with other faults.
    func with(_ faults: [Fault]) -> ClusterSchedule {
        var schedule = self
        schedule.faults = faults
        return schedule
    }

    private static func aim(_ random: inout SplitMix64, _ members: Int) -> Aim {
        random.happens(500) ? .leader : .node(Int(random.below(UInt64(members))))
    }

    private static func draw(_ random: inout SplitMix64, members: Int, rest: UInt64) -> Deed {
        let aim = aim(&random, members)
        let span = min(random.within(10_000_000...(random.happens(500) ? 400_000_000 : 2_000_000_000)), rest)
        switch random.below(27) {
        case 0, 1: return .killMain(aim, down: span)
        case 2, 3: return .killAll(aim, down: span)
        case 4: return .crash(aim, down: span)
        case 5: return .stop(aim, down: span)
        case 6: return .powerCut(down: span)
        case 7, 8:
            return .killFence(
                aim, pause: random.within(200_000...120_000_000), gateAfterwards: random.happens(500))
        case 9: return .freeze(aim, whole: false, span: span)
        case 10, 11: return .freeze(aim, whole: true, span: span)
        case 12: return .stall(aim, span: span)
        case 13: return random.happens(500) ? .stallAll(span: span) : .wipe(aim, down: span)
        case 14, 15, 16, 17: return .cut(drawCut(&random, members: members, aim: aim), span: span)
        case 18, 19:
            let noise = Noise(
                loss: random.pick([20, 100, 300, 600]) ?? 0, duplication: random.pick([0, 100, 300]) ?? 0,
                slow: random.pick([0, 50, 300]) ?? 0, corruption: random.pick([0, 50, 200]) ?? 0)
            return .noise(noise, span: span)
        case 20: return .slowDisk(aim, worst: random.within(2_000_000...250_000_000), span: span)
        case 21: return .fullDisk(aim, span: span)
        case 22: return .unfit(aim, span: min(rest, random.within(500_000_000...4_000_000_000)))
        default:
            let target: Aim? = random.happens(500) ? nil : .other(Int(random.below(UInt64(members))))
            return .handover(asked: aim, to: target)
        }
    }

    /// Faults that do most harm close upon each other, with the time from the first.
    private static func drawTrap(_ random: inout SplitMix64, members: Int) -> [(UInt64, Deed)] {
        let other = Int(random.below(UInt64(members)))
        switch random.below(3) {
        case 0:
            // Someone wants to be elected all the time, and whoever answers the leader forgets that it did.
            let cut = Deed.cut(.link(.leader, .other(other)), span: 1_500_000_000)
            let restarts = (1...3).map { number in
                let down = random.within(2_000_000...60_000_000)
                return (UInt64(number) * 400_000_000, Deed.killMain(.other(other + 1), down: down))
            }
            return [(0, cut)] + restarts
        case 1:
            // A gate is lost, and soon after it would be needed.
            let pause = random.within(200_000...5_000_000)
            let after = pause + random.within(1_000_000...40_000_000)
            return [
                (0, .killFence(.leader, pause: pause, gateAfterwards: false)),
                (after, .freeze(.leader, whole: true, span: 1_500_000_000)),
            ]
        default:
            // Moves before the connections of the last one are over.
            return (0...4).map {
                (UInt64($0) * random.within(30_000_000...200_000_000), .handover(asked: .leader, to: nil))
            }
        }
    }

    private static func drawCut(_ random: inout SplitMix64, members: Int, aim: Aim) -> Cut {
        let other = Aim.other(Int(random.below(UInt64(members))))
        switch random.below(9) {
        case 0, 1: return .isolated(aim)
        case 2: return .link(aim, other)
        case 3: return .oneWay(from: aim, to: other)
        case 4: return .oneWay(from: other, to: aim)
        case 5: return .deaf(aim)
        case 6: return .mute(aim)
        case 7: return .chain(shuffled(&random, members))
        default: return .halves(Array(shuffled(&random, members).prefix(Int(random.below(UInt64(members))))))
        }
    }

    /// Cuts that leave at least one node in touch with a majority, as a rule.
    private static func drawPersistent(_ random: inout SplitMix64, members: Int) -> Cut {
        let aim = aim(&random, members)
        switch random.below(8) {
        case 0: return .isolated(aim)
        case 1: return .link(aim, .other(Int(random.below(UInt64(members)))))
        case 2: return .oneWay(from: aim, to: .other(Int(random.below(UInt64(members)))))
        case 3: return .oneWay(from: .other(Int(random.below(UInt64(members)))), to: aim)
        case 4: return .deaf(aim)
        case 5: return .mute(aim)
        case 6: return .chain(shuffled(&random, members))
        default: return .star(aim)
        }
    }

    private static func shuffled(_ random: inout SplitMix64, _ members: Int) -> [Int] {
        var order = Array(0..<members)
        for place in stride(from: members - 1, to: 0, by: -1) {
            order.swapAt(place, Int(random.below(UInt64(place + 1))))
        }
        return order
    }

    private static func drawWork(_ random: inout SplitMix64, members: Int, servers: [ServerID]) -> Deed {
        let aim = Aim.node(Int(random.below(UInt64(members))))
        let server = Int(random.below(UInt64(servers.count)))
        switch random.below(8) {
        case 0, 1, 2: return .observe(aim, server: server, random.happens(600) ? .up : .down)
        case 3: return .suspect(aim, server: server)
        default:
            // Often several at once, so that they overtake each other on the way.
            return .change(aim, (0...random.below(3)).map { _ in drawCommand(&random, servers) })
        }
    }

    private static func drawCommand(_ random: inout SplitMix64, _ servers: [ServerID]) -> Command {
        let server = servers[Int(random.below(UInt64(servers.count)))]
        let extra = ServerID(backend: "api", server: "extra_\(random.below(3))")
        switch random.below(8) {
        case 0: return .setAdmin(server, random.pick(AdminState.allCases) ?? .ready)
        case 1: return .add(extra, address: "10.0.0.\(random.below(9)):80")
        case 2: return .remove(extra)
        default: return .setWeight(server, weight: Int(random.below(257)))
        }
    }
}

extension ClusterSettings {
    /// What a reader of a story has to know.
    var summary: String {
        "\(members) nodes, fencing \(fencing.rawValue), gates \(gated), lease \(timing.lease), election timeout "
            + "\(timing.electionTimeoutMin) to \(timing.electionTimeoutMax), \(sealed ? "sealed" : "plain"), \(noise)"
    }

    /// What a seed makes of a cluster.
    static func drawn(_ seed: UInt64, members: Int) -> ClusterSettings {
        var random = SplitMix64(state: seed &* 7919)
        var settings = ClusterSettings()
        settings.members = members
        settings.fencing = random.pick([.wait, .wait, .trust, .auto, .auto, .auto, .gate, .gate]) ?? .wait
        if random.happens(300) {
            settings.timing = Timing(
                heartbeat: .milliseconds(15), lease: .milliseconds(75), electionTimeoutMin: .milliseconds(100),
                electionTimeoutMax: .milliseconds(150))
        }
        settings.sealed = random.happens(50)
        if random.happens(300) { settings.drainNs = 1_000_000_000...6_000_000_000 }
        let noise = Noise(
            loss: random.pick([0, 0, 20, 100]) ?? 0, duplication: random.pick([0, 50, 200]) ?? 0,
            slow: random.pick([0, 0, 30, 100]) ?? 0, corruption: settings.sealed ? 20 : 0)
        settings.noise = noise
        if random.happens(150) { settings.diskNs = 500_000...12_000_000 }
        let misses: UInt64 = settings.fencing == .auto ? random.pick([0, 0, 300]) ?? 0 : 0
        settings.gated = (0..<members).map { _ in !random.happens(misses) }
        return settings
    }
}
