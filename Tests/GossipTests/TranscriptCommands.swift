// TranscriptCommands: the stories' language. Transcripts/README.md lists it for those who write one.

@testable import Gossip

extension TranscriptWorld {
    /// Carries out one command and tells what came out.
    mutating func perform(_ command: String) throws -> [String] {
        let words = command.split(separator: " ").map(String.init)
        guard let verb = words.first else { throw TranscriptFailure(description: "an empty command") }
        let rest = Array(words.dropFirst())
        if try !stage(verb, rest), try !pass(verb, rest), try !touch(verb, rest), try !look(verb, rest) {
            throw TranscriptFailure(description: "unknown command: \(command)")
        }
        return takeLines()
    }

    // MARK: The stage

    private mutating func stage(_ verb: String, _ words: [String]) throws -> Bool {
        switch verb {
        case "nodes": try setUp(words)
        case "start":
            let isEmpty = words.last == "empty"
            for node in try nodes(isEmpty ? words.dropLast() : words[...]) {
                guard nodes[node].member == nil else { throw TranscriptFailure(description: "it runs already") }
                if isEmpty { nodes[node].disk = TranscriptDisk() }
                start(node)
            }
        case "crash":
            for node in try nodes(words[...]) {
                stop(node)
                nodes[node].fence = TranscriptFence()
            }
        case "kill": try kill(node(words))
        case "cut", "heal":
            for (from, to) in try links(words) { cut[from][to] = verb == "cut" }
        case "isolate":
            let one = try node(words)
            for other in nodes.indices where other != one { (cut[one][other], cut[other][one]) = (true, true) }
        case "show": hidden.subtract(words)
        case "hide": hidden.formUnion(words)
        case "watch": watched = Set(words)
        default: return false
        }
        return true
    }

    private mutating func setUp(_ words: [String]) throws {
        let count = try number(words.first)
        self = TranscriptWorld()
        nodes = (1...count).map { TranscriptNode(name: "n\($0)") }
        cut = Array(repeating: Array(repeating: false, count: count), count: count)
        servers = [ServerID(backend: "api", server: "api_1")]
        var rest = words.dropFirst()
        while let word = rest.popFirst() {
            switch word {
            case "seed": seed = UInt64(try number(rest.popFirst()))
            case "servers":
                servers = (1...(try number(rest.popFirst()))).map { ServerID(backend: "api", server: "api_\($0)") }
            case "fencing": fencing = try chosen(Fencing(rawValue: rest.popFirst() ?? ""), "a kind of fencing")
            case "without-vip": hasVIP = false
            case "gate": (fencing, hasGate) = (.auto, true)
            case "priorities":
                leadership.priorities = try nodes.map { _ in try number(rest.popFirst()) }
            default: throw TranscriptFailure(description: "nodes can't be '\(word)'")
            }
        }
    }

    /// The main process dies, the fence lives on: it lets go and tells everyone.
    private mutating func kill(_ node: Int) throws {
        stop(node)
        let fence = nodes[node].fence
        nodes[node].fence = TranscriptFence()
        guard fence.term > 0 else { return }
        say("\(nodes[node].name)'s fence", "the VIP is gone")
        for other in nodes.indices where other != node { send(.released(term: fence.term), from: node, to: other) }
    }

    // MARK: Time and mail

    private mutating func pass(_ verb: String, _ words: [String]) throws -> Bool {
        switch verb {
        case "tick": step(try node(words), .tick)
        case "advance": try pass(to: now.advanced(by: span(words.first)))
        case "run": try run(words)
        case "settle": try settle()
        case "deliver":
            if words == ["all"] { return try deliverAll() }
            for item in try taken(words) { deliver(item) }
        case "drop": _ = try taken(words)
        case "fsync": for node in try nodes(words[...]) { sync(node) }
        case "fence": actFence(try node(words))
        default: return false
        }
        return true
    }

    private mutating func run(_ words: [String]) throws {
        isRunning = true
        defer { isRunning = false }
        guard words.first == "until" else { return _ = try pass(to: now.advanced(by: span(words.first))) }
        let condition = try condition(Array(words.dropFirst()))
        guard try pass(to: now.advanced(by: .seconds(10)), until: condition) else {
            throw TranscriptFailure(description: "not within 10 s: \(words.joined(separator: " "))")
        }
    }

    /// Starts all nodes and runs until there is an owner and nothing is left to agree on; only the end is told.
    private mutating func settle() throws {
        for node in nodes.indices { start(node) }
        try run(["until", "agreed"])
        if hasVIP { try run(["until", "owner"]) }
        // The word that the VIP is here goes round.
        try run(["60ms"])
        _ = takeLines()
        mail = []
        for node in nodes.indices { nodes[node].portrait = "" }
        say("all", "settled after \(TranscriptText.milliseconds(Self.epoch.duration(to: now)))")
    }

    private func condition(_ words: [String]) throws -> (TranscriptWorld) -> Bool {
        let which = words.count > 1 ? try node(Array(words.dropFirst())) : nil
        func any(_ test: @escaping (Member) -> Bool) -> (TranscriptWorld) -> Bool {
            { world in
                world.nodes.indices.contains {
                    (which == nil || $0 == which) && (world.nodes[$0].member.map(test) ?? false)
                }
            }
        }
        switch words.first {
        case "leader": return any { $0.role == .leader }
        case "owner": return any { $0.holdsAddress }
        case "pre-candidate": return any { $0.role == .preCandidate }
        case "agreed":
            return { world in
                let members = world.nodes.compactMap(\.member)
                return members.contains { $0.role == .leader && $0.log.term(at: $0.commitIndex) == $0.term }
                    && members.allSatisfy {
                        $0.appliedIndex == members[0].log.lastIndex && $0.log.durableIndex == $0.appliedIndex
                    }
            }
        default: throw TranscriptFailure(description: "no condition '\(words.joined(separator: " "))'")
        }
    }

    /// Until nothing is on its way; time stands still meanwhile.
    private mutating func deliverAll() throws -> Bool {
        for _ in 0..<10_000 {
            guard !mail.isEmpty else { return true }
            deliver(mail.removeFirst())
        }
        throw TranscriptFailure(description: "there is no end to the messages")
    }

    /// Takes what is on its way now on these links.
    private mutating func taken(_ words: [String]) throws -> [TranscriptMail] {
        let chosen = words.isEmpty ? nil : try links(words)
        func belongs(_ item: TranscriptMail) -> Bool { chosen?.contains { $0 == (item.from, item.to) } ?? true }
        let items = mail.filter(belongs)
        if items.isEmpty { throw TranscriptFailure(description: "nothing is on its way there") }
        mail.removeAll(where: belongs)
        return items
    }

    // MARK: What happens to nodes

    private mutating func touch(_ verb: String, _ words: [String]) throws -> Bool {
        switch verb {
        case "propose": ask(try node(words), try command(Array(words.dropFirst())))
        case "fill": try fill(node(words), count: number(words.dropFirst().first))
        case "observe":
            guard words.count >= 3 else { throw TranscriptFailure(description: "observe NODE SERVER up|down REASON") }
            let observation = Observation(
                server: try server(words[1]), health: try chosen(Health(rawValue: words[2]), "a health"),
                reason: words.dropFirst(3).joined(separator: " "))
            step(try node(words), .observed([observation]))
        case "suspect": step(try node(words), .suspect(try server(words.last ?? "")))
        case "handover":
            let target = words.count > 1 ? MemberID(try node(Array(words.dropFirst(2)))) : nil
            step(try node(words), .requestHandover(to: target))
        case "resign": step(try node(words), .resign)
        case "gate":
            let isUsable: [String: Bool] = ["works": true, "fails": false]
            step(try node(words), .fence(.gate(isUsable: try chosen(isUsable[words.last ?? ""], "works or fails"))))
        case "drained": step(try node(words), .drained)
        case "fit", "unfit":
            let faults = words.dropFirst()
            step(
                try node(words),
                .fitness(answersClients: !faults.contains("clients"), reachesGateway: !faults.contains("gateway")))
        case "force":
            let node = try node(words)
            if let problem = nodes[node].member?.forceProblem(now: now) { say(node, "refuses: \(problem)") }
            step(node, .forceLeader)
        case "disk": try setDisk(node(words), Array(words.dropFirst()))
        default: return false
        }
        return true
    }

    private mutating func setDisk(_ node: Int, _ words: [String]) throws {
        switch words.first {
        case "slow": nodes[node].disk.isSlow = true
        case "quick": nodes[node].disk.isSlow = false
        case "fails":
            nodes[node].disk.crash()
            step(node, .storageFailed(reason: words.dropFirst().joined(separator: " ")))
        default: throw TranscriptFailure(description: "a disk is slow, quick, or fails")
        }
    }

    @discardableResult
    private mutating func ask(_ node: Int, _ command: Command) -> UInt64 {
        nodes[node].lastRequest += 1
        let number = nodes[node].lastRequest
        step(
            node,
            .propose(command, RequestID(origin: MemberID(node), boot: nodes[node].boot, number: number)))
        return number
    }

    /// So many changes of weights, one after the other, each committed before the next; told as one line.
    private mutating func fill(_ node: Int, count: Int) throws {
        for number in 0..<count {
            let before = nodes[node].member?.appliedIndex ?? 0
            ask(node, .setWeight(servers[number % servers.count], weight: number % 257))
            isRunning = true
            defer { isRunning = false }
            let isApplied = try pass(to: now.advanced(by: .seconds(1))) {
                ($0.nodes[node].member?.appliedIndex ?? 0) > before
            }
            guard isApplied else { throw TranscriptFailure(description: "change \(number + 1) isn't committed") }
        }
        _ = takeLines()
        say(node, "got \(count) changes committed")
        for node in nodes.indices where nodes[node].member != nil { nodes[node].portrait = "" }
    }

    // MARK: Looking

    private mutating func look(_ verb: String, _ words: [String]) throws -> Bool {
        guard verb == "look" else { return false }
        if words.first == "nodes" {
            for node in nodes.indices where nodes[node].member != nil { nodes[node].portrait = "" }
            return true
        }
        let node = try node(Array(words.dropFirst()))
        guard let member = nodes[node].member else { throw TranscriptFailure(description: "it isn't there") }
        switch words.first {
        case "table":
            for record in member.table.records { say(node, text.tell(record)) }
            if member.table.records.isEmpty { say(node, "nothing is agreed yet") }
        case "views":
            for server in member.servers {
                let views = nodes.indices.map { index in
                    "\(nodes[index].name) \(member.view(of: server, by: MemberID(index))?.health.rawValue ?? "unknown")"
                }
                say(node, "\(server) as seen by \(views.joined(separator: ", "))")
            }
        case "disk":
            let durable = nodes[node].disk.durable
            let entries = durable.entries.map { "\($0.index)@\($0.term)" }
            say(
                node,
                "on disk: term \(durable.term), vote for \(durable.votedFor ?? "nobody"), "
                    + (durable.snapshot.map { "snapshot \($0.lastIndex)@\($0.lastTerm), " } ?? "")
                    + "log \(entries.isEmpty ? "empty" : entries.prefix(8).joined(separator: " "))"
                    + (entries.count > 8 ? " … \(entries[entries.count - 1])" : ""))
        case "lease":
            let end = member.leaseEnd.map { TranscriptText.milliseconds(Self.epoch.duration(to: $0)) } ?? "never"
            let time = TranscriptText.milliseconds(Self.epoch.duration(to: now))
            say(node, "lease ends at \(end), and it is \(time) now")
        default: throw TranscriptFailure(description: "look at nodes, or at a node's table, views, disk or lease")
        }
        return true
    }

    // MARK: Words

    private func chosen<Value>(_ value: Value?, _ what: String) throws -> Value {
        guard let value else { throw TranscriptFailure(description: "that is not \(what)") }
        return value
    }

    private func number(_ word: String?) throws -> Int { try chosen(word.flatMap { Int($0) }, "a number") }

    private func span(_ word: String?) throws -> Duration {
        let word = try chosen(word, "a span of time")
        let unit: Double = word.hasSuffix("ms") ? 1_000_000 : 1_000_000_000
        let digits = word.prefix { $0.isNumber || $0 == "." }
        guard word.hasSuffix("s"), let value = Double(digits) else {
            throw TranscriptFailure(description: "'\(word)' is no span of time: 30ms, 1.5s")
        }
        return .nanoseconds(Int64(value * unit))
    }

    private func node(_ words: [String]) throws -> Int {
        try chosen(nodes.firstIndex { $0.name == words.first }, "a node: \(words.first ?? "")")
    }

    /// All nodes when none is named.
    private func nodes(_ words: ArraySlice<String>) throws -> [Int] {
        words.isEmpty ? Array(nodes.indices) : try words.map { try node([$0]) }
    }

    private func server(_ word: String) throws -> ServerID { try chosen(ServerID(word), "a server: \(word)") }

    /// `n1 n2`: both ways; `n1->n2`: one way; `*` stands for every node; nothing: all links.
    private func links(_ words: [String]) throws -> [(from: Int, to: Int)] {
        let all = nodes.indices.flatMap { from in nodes.indices.map { (from: from, to: $0) } }.filter {
            $0.from != $0.to
        }
        if words.isEmpty { return all }
        if words.count == 2 {
            let pair = try words.map { try node([$0]) }
            return [(pair[0], pair[1]), (pair[1], pair[0])]
        }
        let ends = words[0].split(separator: ">").map { $0.hasSuffix("-") ? String($0.dropLast()) : String($0) }
        guard words.count == 1, ends.count == 2 else {
            throw TranscriptFailure(description: "links are n1->n2, n1->*, *->n2, or n1 n2 for both ways")
        }
        let from = ends[0] == "*" ? nil : try node([ends[0]])
        let to = ends[1] == "*" ? nil : try node([ends[1]])
        return all.filter { ($0.from == from ?? $0.from) && ($0.to == to ?? $0.to) }
    }

    private func command(_ words: [String]) throws -> Command {
        guard words.count >= 2 else { throw TranscriptFailure(description: "propose NODE weight SERVER N, and so on") }
        let id = try server(words[1])
        if let admin = AdminState(rawValue: words[0]) { return .setAdmin(id, admin) }
        switch words[0] {
        case "weight": return .setWeight(id, weight: try number(words.last))
        case "add": return .add(id, address: words.last ?? "")
        case "remove": return .remove(id)
        default: throw TranscriptFailure(description: "no change is called '\(words[0])'")
        }
    }
}
