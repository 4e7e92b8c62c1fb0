// API: the command `triad api`, the demo API.

import Glibc
import Proxy

enum API {
    static let command = Subcommand(
        name: "api", summary: "runs the demo API",
        options: [
            .value("id", "N", "the number it answers with", required: true),
            .value("port", "PORT", "where it listens (8080)"),
            .value("address", "ADDRESS", "the address it listens on (0.0.0.0)"),
        ],
        details: [
            "It answers {\"message\": \"API #N\"} on / and 200 on /health, until it is stopped. For trying out what takes long:",
            "/slow?bytes=N&seconds=T sends N bytes over T seconds, /echo is a WebSocket that echoes. SIGUSR1 makes it answer",
            "everything with 500, or ends that.",
        ],
        run: { arguments throws(UsageProblem) in
            guard let number = try arguments.integer("id", in: 0...1_000_000) else {
                throw UsageProblem("--id N is missing")
            }
            let port = try arguments.integer("port", in: 1...65535) ?? 8080
            let host = arguments["address"] ?? "0.0.0.0"
            guard let address = SocketAddress(address: host, port: UInt16(port)) else {
                throw UsageProblem("--address \(host): an IP address is needed")
            }
            return serve(number, at: address)
        })

    /// Returns only when it can't serve: 1.
    private static func serve(_ number: Int, at address: SocketAddress) -> Int32 {
        do {
            // As the first process of a container nothing else would end it.
            signal(SIGTERM) { _ in _exit(0) }
            signal(SIGINT) { _ in _exit(0) }
            signal(SIGUSR1) { _ in
                APIServer.isBroken.store(!APIServer.isBroken.load(ordering: .relaxed), ordering: .relaxed)
            }
            var server: APIServer
            do throws(SystemError) {
                server = try APIServer(number: number, address: address)
            } catch {
                throw LabProblem("cannot listen on \(address): \(error)")
            }
            LabSystem.say("API #\(number) on \(address)\n", to: STDERR_FILENO)
            server.run()
            return 0
        } catch {
            LabSystem.say("triad api: \(error)\n", to: STDERR_FILENO)
            return 1
        }
    }
}
