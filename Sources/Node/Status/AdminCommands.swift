// AdminCommands: the commands that change something: drain, ready, maint, weight, add, remove, handover, force-leader.
// Each is one request to the status port of any node, which answers when the cluster has agreed; only force-leader is
// for one node alone, whose cluster can't agree on anything.

import Gossip
import Proxy

enum AdminCommands {
    static let drain = command("drain", "takes a server out of use; requests under way finish") {
        .setAdmin($0, .drain)
    }
    static let ready = command("ready", "puts a server back into use") { .setAdmin($0, .ready) }
    static let maint = command("maint", "takes a server out of use and ignores its checks") { .setAdmin($0, .maint) }
    static let remove = command("remove", "removes a server from every node") { .remove($0) }

    private static let server = [Subcommand.Positional(name: "BACKEND/SERVER", values: .server)]
    private static let options = [
        StatusCommand.urlOption,
        Subcommand.Option.value(
            "token-file", "FILE", "the file with the admin token; else TRIAD_TOKEN holds it", .file),
    ]
    private static let details = [
        "Any node will do; done means that the cluster agreed and that the change survives a restart of all nodes."
    ]

    static let weight = Subcommand(
        name: "weight", summary: "sets a server's weight, 0 (no new request) to \(Limits.weightMax)",
        positionals: server + [.init(name: "N")], options: options, details: details,
        run: { (arguments) throws(UsageProblem) in
            let id = try server(arguments)
            guard let weight = try arguments.integer("N", in: 0...Limits.weightMax) else {
                throw UsageProblem("N is missing")
            }
            return try send(.setWeight(id, weight), "weight", arguments)
        })

    static let add = Subcommand(
        name: "add", summary: "adds a server to a backend on every node",
        positionals: [.init(name: "BACKEND/SERVER"), .init(name: "ADDRESS:PORT")], options: options, details: details,
        run: { (arguments) throws(UsageProblem) in
            let id = try server(arguments)
            let text = arguments.required("ADDRESS:PORT")
            guard let address = SocketAddress(text), address.port > 0 else {
                throw UsageProblem("\"\(text)\" must be ADDRESS:PORT with an IP address, as in 10.0.0.21:8080")
            }
            return try send(.add(id, address), "add", arguments)
        })

    static let handover = Subcommand(
        name: "handover", summary: "moves leadership and the VIP to another node, as planned",
        options: options + [.value("to", "NODE", "the node to move to; else the fittest", .node)],
        details: ["Any node will do. It is done when the other node owns the VIP."],
        run: { (arguments) throws(UsageProblem) in
            let node = arguments["to"]
            if let node, !Limits.isName(node) { throw UsageProblem("\"\(node)\" isn't a node's id") }
            return try send(.handover(to: node), "handover", arguments)
        })

    static let forceLeader = Subcommand(
        name: "force-leader", summary: "makes the last survivor own the VIP, although the majority is lost",
        options: [
            .value("node", "NODE", "the node that is to own the VIP", .node, required: true),
            .flag("i-accept-two-owners", "you have made sure that the other nodes are off, or accept two owners"),
        ] + options,
        details: [
            "For one node alone: run it there, or give that node's URL.",
            "It is refused while a majority is in touch, and ends by itself when one is again.",
        ],
        run: { (arguments) throws(UsageProblem) in
            let node = arguments.required("node")
            if !Limits.isName(node) { throw UsageProblem("\"\(node)\" isn't a node's id") }
            guard arguments.has("i-accept-two-owners") else {
                throw UsageProblem("--i-accept-two-owners is missing: \(AdminRequest.forceMeaning)")
            }
            return try send(.forceLeader(node: node), "force-leader", arguments)
        })

    /// A node answers when its `timeouts.drain` is over at the latest, whatever that is; if it dies, the connection ends.
    static let moveTimeoutMs = Int(StatusServer.Limit.moveNs / 1_000_000) + 5000
    private static let moveNotice =
        "the leader lets its clients finish first, for timeouts.drain at most; Ctrl-C ends this waiting, not the move"

    private static func command(
        _ name: String, _ summary: String, _ request: @escaping @Sendable (ServerID) -> AdminRequest
    ) -> Subcommand {
        Subcommand(
            name: name, summary: summary, positionals: server, options: options, details: details,
            run: { (arguments) throws(UsageProblem) in
                try send(request(try server(arguments)), name, arguments)
            })
    }

    private static func server(_ arguments: Arguments) throws(UsageProblem) -> ServerID {
        let text = arguments.required("BACKEND/SERVER")
        guard let id = ServerID(text) else {
            throw UsageProblem("\"\(text)\" must be BACKEND/SERVER, as in api/api_1")
        }
        return id
    }

    private static func send(
        _ request: AdminRequest, _ name: String, _ arguments: Arguments
    ) throws(UsageProblem) -> Int32 {
        let url = try StatusURL(arguments["url"] ?? StatusURL.standard)
        do throws(HTTPProblem) {
            // Longer than a node takes to say that the cluster doesn't answer.
            var client = HTTPClient(url: url, timeoutMs: 20_000, token: try token(arguments["token-file"]))
            if case .handover = request {
                client.timeoutMs = moveTimeoutMs
                client.onSilence = (5000, { Console.error(moveNotice) })
            }
            let answer = try client.send(request.path, body: request.body)
            let json = JSON5.parse(answer.body).value
            let text = json?["text"].text ?? StatusCommand.firstLine(answer.text)
            if (200..<300).contains(answer.status), json?["ok"].flag == true {
                Console.out(text)
                return 0
            }
            let isTokenless = answer.status == 401 && client.token == nil
            Console.error(
                "triad \(name): \(isTokenless ? "an admin token is needed: --token-file FILE or TRIAD_TOKEN" : text)")
            if answer.status == 503 { Console.error("'triad status' shows what this node hears, and what is wrong") }
        } catch {
            Console.error("triad \(name): \(error)")
        }
        return 1
    }

    /// Of the file if one is given, else of the environment; nil without either, and the node says what it thinks of that.
    static func token(_ file: String?) throws(HTTPProblem) -> String? {
        var text = Environment.variable("TRIAD_TOKEN") ?? ""
        if let file {
            do throws(DiskError) {
                text = String(decoding: try Disk().read(file, limit: 4096), as: UTF8.self)
            } catch {
                throw HTTPProblem(description: "--token-file \(error.path): \(error.reason.lowercased())")
            }
        }
        let token = text.trimmed
        guard token.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw HTTPProblem(description: "the admin token has blanks or other characters that a header can't carry")
        }
        if token.isEmpty, let file { throw HTTPProblem(description: "--token-file \(file): the file is empty") }
        return token.isEmpty ? nil : String(token)
    }
}
