// Load: the command `triad load`, a steady client that says who answered and what failed.

import Glibc
import Proxy

enum Load {
    static let command = Subcommand(
        name: "load", summary: "sends steady load and says who answered and what failed",
        positionals: [.init(name: "URL")],
        options: [
            .value("rate", "N", "requests a second, 0.1 to 100000 (100)"),
            .value("seconds", "N", "how long; until Ctrl-C unless told"),
            .flag("new-connections", "a new connection for each request, else persistent ones are used in turn"),
            .value("connections", "N", "how many persistent connections (16)"),
            .value("timeout", "MS", "a request that takes longer has failed (250)"),
            .value("log", "FILE", "a line per request: start and end in ns, outcome, who answered", .file),
            .flag(
                "closed-loop",
                "as fast as the answers come, on all the persistent connections at once; --rate is not used"),
            .value(
                "forget-neighbour", "INTERFACE",
                "the kernel forgets the URL's Ethernet address before each connection, so that every one asks again "
                    + "who has it (root)"),
        ],
        details: [
            "Sends N requests a second, whether or not earlier ones have been answered, until --seconds are over or Ctrl-C.",
            "Prints a line a second with who answered; at the end failures by cause, latencies and outages. Exit code 1 when",
            "any request failed, or none could be sent.",
        ],
        run: { arguments throws(UsageProblem) in run(try options(arguments)) })

    private static func run(_ options: LoadOptions) -> Int32 {
        do {
            var engine = try LoadEngine(options)
            let rate =
                options.isClosedLoop ? "as many requests as are answered" : "\(options.rate.formatted) requests/s"
            LabSystem.say(
                "\(rate) to \(options.target)\(options.path), "
                    + (options.usesNewConnections ? "each on a new connection" : "\(options.connections) connections")
                    + ", timeout \(options.timeoutMs) ms\n")
            engine.run { LabSystem.say($0) }
            let figures = engine.figures
            LabSystem.say(
                figures.summary(intervalNs: UInt64(options.intervalNs), endedAt: System.bootNanoseconds()))
            return figures.failed == 0 && figures.requests > 0 ? 0 : 1
        } catch {
            LabSystem.say("triad load: \(error)\n", to: STDERR_FILENO)
            return 1
        }
    }

    static func options(_ given: Arguments) throws(UsageProblem) -> LoadOptions {
        var options = try url(given.required("URL"))
        options.rate = try given.number("rate", in: 0.1...100_000) ?? options.rate
        options.seconds = try given.number("seconds", in: 0.1...31_536_000)
        options.usesNewConnections = given.has("new-connections")
        options.connections = try given.integer("connections", in: 1...LoadOptions.Limit.connections) ?? 16
        options.timeoutMs = try given.integer("timeout", in: 1...600_000) ?? 250
        options.log = given["log"]
        options.forgetsOn = given["forget-neighbour"]
        options.isClosedLoop = given.has("closed-loop")
        if options.isClosedLoop, options.usesNewConnections {
            throw UsageProblem("--closed-loop is for persistent connections: leave out one of it and --new-connections")
        }
        return options
    }

    /// `http://ADDRESS[:PORT][/PATH]`. Names are not looked up, save localhost.
    static func url(_ text: String) throws(UsageProblem) -> LoadOptions {
        if text.hasPrefix("https://") { throw UsageProblem("\(text): https is not supported, http:// is") }
        var rest = Substring(text)
        if rest.hasPrefix("http://") { rest = rest.dropFirst("http://".count) }
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let path = rest.dropFirst(authority.count)
        var options = LoadOptions()
        options.host = String(authority)
        options.path = path.isEmpty ? "/" : path.hasPrefix("?") ? "/" + path : String(path)
        var host = String(authority)
        if host == "localhost" || host.hasPrefix("localhost:") {
            host = "127.0.0.1" + host.dropFirst("localhost".count)
        }
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        guard let target = SocketAddress(address: bare, port: 80) ?? SocketAddress(host), target.port > 0 else {
            throw UsageProblem("\(text): http://ADDRESS[:PORT][/PATH] with an IP address is needed")
        }
        guard path.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw UsageProblem("\(text): the path must be ASCII")
        }
        options.target = target
        return options
    }
}

extension Double {
    /// `200` rather than `200.0`.
    var formatted: String { self == rounded() && magnitude < 1e15 ? String(Int(self)) : String(self) }
}
