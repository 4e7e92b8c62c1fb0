// API: the command `triad api`, the demo API.

import Glibc
import Proxy

enum API {
    static let usage = """
        usage: triad api --id N [--port 8080] [--address ADDRESS]

        The demo API: answers {"message": "API #N"} on / and 200 on /health, until it is stopped. For trying out what
        takes long: /slow?bytes=N&seconds=T sends N bytes over T seconds, /echo is a WebSocket that echoes. SIGUSR1 makes it
        answer everything with 500, or ends that.

        """

    /// Returns only when it can't serve: 1, or 2 for wrong usage.
    static func main(_ arguments: [String]) -> Int32 {
        do {
            let given = try LabArguments(arguments, options: ["--id", "--port", "--address"])
            guard let number = try given.integer("--id", 0...1_000_000), given.positional.isEmpty else {
                throw LabUsage("--id N is needed, and nothing besides the options")
            }
            let port = try given.integer("--port", 1...65535) ?? 8080
            let host = given.text("--address") ?? "0.0.0.0"
            guard let address = SocketAddress(address: host, port: UInt16(port)) else {
                throw LabUsage("--address \(host): an IP address is needed")
            }
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
        } catch let problem as LabUsage {
            LabSystem.say("triad api: \(problem)\n\(usage)", to: STDERR_FILENO)
            return 2
        } catch {
            LabSystem.say("triad api: \(error)\n", to: STDERR_FILENO)
            return 1
        }
    }
}
