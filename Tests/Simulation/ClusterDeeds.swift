// ClusterDeeds: the entries of a schedule, done to a world. Each one ends by itself, or when all is mended.

import Gossip

extension ClusterWorld {
    /// Who is meant at this moment.
    func resolve(_ aim: Aim) -> Int {
        switch aim {
        case .node(let node): return node % nodes.count
        case .leader: return leader ?? 0
        case .other(let number):
            let others = nodes.indices.filter { $0 != leader }
            return others.isEmpty ? 0 : others[number % others.count]
        }
    }

    /// The ways that a cut means, from sender to receiver.
    func ways(of cut: Cut) -> [(from: Int, to: Int)] {
        var ways: [(from: Int, to: Int)] = []
        func block(where isBlocked: (Int, Int) -> Bool) {
            for from in nodes.indices {
                for to in nodes.indices where from != to && isBlocked(from, to) { ways.append((from, to)) }
            }
        }
        switch cut {
        case .isolated(let aim):
            let node = resolve(aim)
            block { $0 == node || $1 == node }
        case .link(let one, let other):
            let pair = [resolve(one), resolve(other)]
            block { pair.contains($0) && pair.contains($1) }
        case .oneWay(let from, let to):
            let (from, to) = (resolve(from), resolve(to))
            block { $0 == from && $1 == to }
        case .deaf(let aim):
            let node = resolve(aim)
            block { $1 == node }
        case .mute(let aim):
            let node = resolve(aim)
            block { from, _ in from == node }
        case .chain(let order):
            let place = nodes.indices.map { node in order.firstIndex(of: node) ?? 0 }
            block { abs(place[$0] - place[$1]) > 1 }
        case .star(let aim):
            let node = resolve(aim)
            block { $0 != node && $1 != node }
        case .halves(let half): block { half.contains($0) != half.contains($1) }
        }
        return ways
    }

    /// Cuts, and heals after a while; nil: not by itself.
    func apply(_ cut: Cut, span: UInt64?) {
        let ways = ways(of: cut)
        guard !ways.isEmpty else { return }
        tell("cut: " + ways.map { "n\($0.from)→n\($0.to)" }.joined(separator: " "))
        for (from, to) in ways { blocked[from][to] += 1 }
        guard let span else { return }
        let era = era
        after(.nanoseconds(Int64(span))) { world in
            guard world.era == era else { return }
            for (from, to) in ways { world.blocked[from][to] -= 1 }
            world.tell("healed: " + ways.map { "n\($0.from)→n\($0.to)" }.joined(separator: " "))
        }
    }

    func healAll() {
        heal()
        era += 1
        for from in nodes.indices {
            for to in nodes.indices { blocked[from][to] = 0 }
        }
    }

    func perform(_ deed: Deed) {
        switch deed {
        case .killMain, .killAll, .crash, .stop, .wipe, .powerCut, .killFence: end(deed)
        case .freeze(let aim, let whole, let span):
            let node = resolve(aim)
            freeze(node, whole: whole && settings.fencing != .trust)
            later(span) { $0.thaw(node) }
        case .stall(let aim, let span):
            let node = resolve(aim)
            stall(node)
            later(span) { $0.thaw(node) }
        case .stallAll(let span):
            for node in nodes.indices {
                stall(node)
                later(span) { $0.thaw(node) }
            }
        case .cut(let cut, let span): apply(cut, span: span)
        case .persist(let cut): apply(cut, span: nil)
        case .noise(let noise, let span):
            tell("the network is bad: \(noise)")
            let usual = usualNoise
            settings.noise = noise
            later(span) { $0.settings.noise = usual }
        case .slowDisk, .fullDisk: hurtDisk(deed)
        case .handover(let asked, let target):
            let node = resolve(asked)
            let target = target.map { MemberID(resolve($0)) }
            tell("n\(node) is told to hand over to \(target.map { "n\($0.index)" } ?? "anyone")")
            step(node, .requestHandover(to: target))
        case .unfit(let aim, let span):
            let node = resolve(aim)
            tell("n\(node) can't answer clients")
            step(node, .fitness(answersClients: false, reachesGateway: true))
            later(span) { $0.step(node, .fitness(answersClients: true, reachesGateway: true)) }
        case .observe(let aim, let server, let health):
            observe(settings.servers[server], health, at: resolve(aim))
        case .suspect(let aim, let server): step(resolve(aim), .suspect(settings.servers[server]))
        case .change(let aim, let commands):
            let node = resolve(aim)
            for command in commands { propose(command, at: node) }
        }
    }

    private func later(_ span: UInt64, _ call: @escaping (ClusterWorld) -> Void) {
        after(.nanoseconds(Int64(span)), call)
    }

    /// Ends processes, machines or disks, and brings them back.
    private func end(_ deed: Deed) {
        switch deed {
        case .killMain(let aim, let down):
            let node = resolve(aim)
            killMain(node)
            later(down) { $0.start(node) }
        case .killAll(let aim, let down):
            let node = resolve(aim)
            // `trust` accepts two owners here.
            if settings.fencing == .trust { crash(node) } else { killAll(node) }
            later(down) { $0.start(node) }
        case .crash(let aim, let down):
            let node = resolve(aim)
            crash(node)
            later(down) { $0.start(node) }
        case .stop(let aim, let down):
            stop(resolve(aim), down: down)
        case .wipe(let aim, let down): wipe(resolve(aim), down: down)
        case .powerCut(let down):
            tell("power cut")
            for node in nodes.indices {
                crash(node)
                later(down + random.below(50_000_000)) { $0.start(node) }
            }
        case .killFence(let aim, let pause, let gateAfterwards):
            let node = resolve(aim)
            if settings.fencing == .auto, settings.gated[node] { losesGate[node] = !gateAfterwards }
            killFence(node, after: pause)
        default: break
        }
    }

    /// An orderly end: it lets go, and leaves a little later.
    private func stop(_ node: Int, down: UInt64) {
        guard nodes[node].member != nil, !nodes[node].isFrozen else { return }
        tell("n\(node) is stopped")
        nodes[node].isStopping = true
        step(node, .resign)
        let incarnation = nodes[node].incarnation
        later(20_000_000) { world in
            if world.nodes[node].incarnation == incarnation { world.killMain(node) }
        }
        later(20_000_000 + down) { $0.start(node) }
    }

    /// A machine gets an empty disk: only while there are others, and all of them run and have all there is.
    private func wipe(_ node: Int, down: UInt64) {
        guard mayWipe, nodes.count > 1, nodes.allSatisfy({ $0.member != nil && !$0.isFrozen && !$0.disk.refuses }),
            nodes.allSatisfy({
                $0.member?.commitIndex == UInt64(checks.committed.count)
                    && $0.member?.log.lastIndex == UInt64(checks.committed.count)
                    && $0.disk.pendingOperations == 0 && $0.member?.isForgetful == false
            })
        else { return }
        tell("n\(node)'s disk is replaced")
        crash(node)
        nodes[node].disk.replace()
        later(down) { $0.start(node) }
    }

    private func hurtDisk(_ deed: Deed) {
        switch deed {
        case .slowDisk(let aim, let worst, let span):
            let node = resolve(aim)
            tell("n\(node)'s disk takes up to \(worst / 1_000_000) ms")
            nodes[node].disk.slowness = worst / 10...worst
            later(span) { $0.nodes[node].disk.slowness = nil }
        case .fullDisk(let aim, let span):
            let node = resolve(aim)
            tell("n\(node)'s disk is full")
            nodes[node].disk.refuses = true
            later(span) { $0.nodes[node].disk.refuses = false }
        default: break
        }
    }

    /// Everything is well again, at once.
    func mend() {
        tell("everything is mended")
        isMended = true
        healAll()
        settings.noise = Noise()
        for node in nodes.indices {
            let soon = now + settings.diskNs.upperBound
            nodes[node].disk.recover(by: soon)
            if let ticket = nodes[node].disk.lastTicket {
                plan(.stored(node: node, incarnation: nodes[node].incarnation, ticket: ticket), at: soon)
            }
            losesGate[node] = false
            thaw(node)
            if nodes[node].isStopping { killMain(node) }
            start(node)
        }
        // After what waited for those that stood still.
        after(.milliseconds(1)) { world in
            for node in world.nodes.indices {
                world.step(node, .fitness(answersClients: true, reachesGateway: true))
                for server in world.settings.servers { world.observe(server, .up, at: node) }
            }
        }
    }
}
