// ServerChangesTests: what is told of one server is as good as a whole table, and the queue that checks wait in.

import Testing

@testable import Proxy

/// Numbers from a seed.
private struct Draws {
    var state: UInt64

    mutating func next(_ bound: Int) -> Int {
        state &+= StableHash.step
        return Int(StableHash.mix(state) % UInt64(bound))
    }
}

@Suite("Changes of one server") struct ServerChangesTests {
    @Test(
        "the balancer goes on as if it had been told of all servers (seeded)",
        arguments: [Balance.roundRobin, .leastConnections, .random, .first])
    func reweigh(balance: Balance) {
        var draws = Draws(state: 7)
        var told = Balancer(balance, seed: 1)
        var one = Balancer(balance, seed: 1)
        var servers = (0..<60).map {
            Balancer.Server(slot: $0, key: UInt64($0), weight: 1 + $0 % 4, isBackup: $0 % 20 == 19)
        }
        told.use(servers)
        one.use(servers)
        var done = 0
        for step in 0..<4_000 {
            let index = draws.next(60)
            if draws.next(4) == 0 {
                servers[index].weight = draws.next(6)
                for other in servers.indices {
                    guard let candidate = told.index(of: other) else { continue }
                    servers[other].inFlight = told.candidates[candidate].inFlight
                }
                told.use(servers)
                if one.reweigh(servers[index], nowMs: 0, wallMs: 0) { done += 1 } else { one.use(servers) }
            }
            var tried = TriedServers()
            if draws.next(5) == 0 { tried.insert(Int32(index)) }
            let chosen = told.choose(nowMs: 0, tried: tried)
            let other = one.choose(nowMs: 0, tried: tried)
            #expect(other == chosen, "\(balance), step \(step)")
            guard let chosen else { continue }
            told.count(chosen, 1)
            one.count(chosen, 1)
            let ended = draws.next(60)
            guard let candidate = told.index(of: ended), told.candidates[candidate].inFlight > 0 else { continue }
            told.count(ended, -1)
            one.count(ended, -1)
        }
        #expect(done > 300)
        #expect(one.shareSum == told.shareSum)
    }

    @Test("one that came up starts slowly also when it is told by itself") func slowStart() {
        var balancer = Balancer(.roundRobin)
        balancer.setSlowStart(ms: 10_000)
        balancer.use([.init(slot: 1, key: 1), .init(slot: 2, key: 2)], nowMs: 0, wallMs: 50_000)
        let isTold = balancer.reweigh(.init(slot: 2, key: 2, upSinceMs: 60_000), nowMs: 10_000, wallMs: 60_000)
        #expect(isTold && balancer.shareSum == 110)
        #expect(abs(balancer.next(110, nowMs: 10_000)[2, default: 0] - 10) <= 1)
        #expect(balancer.next(100, nowMs: 20_000)[2, default: 0] >= 49)
    }

    @Test("a server that comes, goes or changes sides isn't told by itself") func comingAndGoing() {
        var balancer = Balancer(.roundRobin)
        balancer.use([.init(slot: 1, key: 1), .init(slot: 2, key: 2, isUsable: false), .init(slot: 3, key: 3)])
        #expect(balancer.reweigh(.init(slot: 2, key: 2), nowMs: 0, wallMs: 0) == false)
        #expect(balancer.reweigh(.init(slot: 1, key: 1, weight: 0), nowMs: 0, wallMs: 0) == false)
        #expect(balancer.reweigh(.init(slot: 1, key: 9), nowMs: 0, wallMs: 0) == false)
        #expect(balancer.reweigh(.init(slot: 3, key: 3, isBackup: true), nowMs: 0, wallMs: 0) == false)
        #expect(balancer.next(4) == [1: 2, 3: 2])
        #expect(balancer.reweigh(.init(slot: 3, key: 3, weight: 3), nowMs: 0, wallMs: 0) == true)
        #expect(abs(balancer.next(400)[3, default: 0] - 300) <= 2)
        var ring = Balancer(.hash)
        ring.use([.init(slot: 1, key: 1)])
        #expect(ring.reweigh(.init(slot: 1, key: 1, weight: 2), nowMs: 0, wallMs: 0) == false)
    }

    @Test("a table is told as changes only if it names the same servers in the same order") func registry() throws {
        let address = try #require(SocketAddress("10.0.0.1:80"))
        func table(_ version: UInt64, _ names: [String], weight: Int = 1) -> RoutingTable {
            let routes = names.map { ServerRoute(id: $0, address: address, weight: $0 == "api/b" ? weight : 1) }
            return RoutingTable(
                version: version,
                backends: [
                    BackendRoutes(name: "gone", servers: routes), BackendRoutes(name: "api", servers: routes),
                ])
        }
        let backends = [(name: "api", slot: 4)]
        var registry = ServerRegistry()
        let first = table(1, ["api/a", "api/b", "api/c"])
        let entries = registry.entries(of: first, backends: backends)
        #expect(registry.changes(from: first, to: first, backends: backends) == [])
        let heavy = table(2, ["api/a", "api/b", "api/c"], weight: 5)
        let changes = try #require(registry.changes(from: first, to: heavy, backends: backends))
        #expect(changes.count == 1 && changes[0].slot == 4 && changes[0].number == 1)
        #expect(changes[0].entry.weight == 5 && changes[0].entry.slot == entries[0].servers[1].slot)
        for other in [["api/a", "api/b"], ["api/a", "api/c", "api/b"], ["api/a", "api/b", "api/d"]] {
            #expect(registry.changes(from: first, to: table(2, other), backends: backends) == nil)
        }
    }

    @Test("mail that wasn't taken holds the last change of each server, and a table takes their place") func mail()
        throws
    {
        let address = try #require(SocketAddress("10.0.0.1:80"))
        func change(_ slot: Int, _ weight: Int) -> RouteChange {
            RouteChange(
                slot: 0, number: slot,
                entry: RouteEntry(
                    slot: slot, key: 0, address: address, weight: weight, usable: true, isBackup: false, upSinceMs: 0,
                    connectionsMax: 0))
        }
        var mail = Mail()
        for weight in 1...100 { mail.add([change(1, weight), change(weight % 3, weight)]) }
        #expect(mail.changes.count <= 4)
        #expect(mail.changes.last { $0.entry.slot == 1 }?.entry.weight == 100)
        mail.replace([])
        #expect(mail.routes == [] && mail.changes.isEmpty)
    }

    @Test("an address, a weight, a backup, a drain: each holds at once, told by itself or with all", arguments: [1, 2])
    func atOnce(workers: Int) throws {
        let servers = try (0..<4).map { try TestServer.saying("s\($0)") }
        var routes = servers.prefix(3).enumerated().map { number, server in
            var route = server.route
            route.id = "api/s\(number)"
            return route
        }
        let plane = try TestPlane(routes, workers: workers)
        func found() throws -> Set<String> { Set(try (0..<24).map { _ in try plane.get().text }) }
        /// Waits until the workers took it in.
        func settles(to wanted: Set<String>) throws {
            plane.publish(routes)
            var last: Set<String> = []
            for _ in 0..<200 {
                last = try found()
                if last == wanted { return }
            }
            Issue.record("\(last.sorted()) instead of \(wanted.sorted())")
        }
        try settles(to: ["s0", "s1", "s2"])
        routes[1].usable = false
        try settles(to: ["s0", "s2"])
        routes[2].address = servers[3].route.address
        try settles(to: ["s0", "s3"])
        routes[0].weight = 0
        try settles(to: ["s3"])
        routes[1].usable = true
        routes[1].isBackup = true
        routes[2].usable = false
        try settles(to: ["s1"])
        routes[1].connectionsMax = 1
        try settles(to: ["s1"])
        routes.append(servers[2].route)
        try settles(to: ["s2"])
    }
}

@Suite("Deadline queue") struct DeadlineQueueTests {
    @Test("the first is always the earliest, whatever is set, moved or taken out (seeded)") func order() {
        var draws = Draws(state: 3)
        var queue = DeadlineQueue()
        var model: [Int: UInt64] = [:]
        for _ in 0..<20_000 {
            let number = draws.next(90)
            if draws.next(3) == 0 {
                queue.remove(number)
                model[number] = nil
            } else {
                let deadline = UInt64(draws.next(1_000))
                queue.set(number, deadlineNs: deadline)
                model[number] = deadline
            }
            #expect(queue.count == model.count)
            #expect(queue.first?.deadlineNs == model.values.min())
            if let first = queue.first { #expect(model[first.number] == first.deadlineNs) }
        }
        queue.removeAll()
        #expect(queue.first == nil)
    }
}
