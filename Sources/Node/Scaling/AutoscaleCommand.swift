// AutoscaleCommand: `triad autoscale`: reads from any node how many servers a backend should have, and has them started and
// stopped by a command of the operator's. One thread; what it does next is ScalingPlan's to say, and everything that it has to
// remember is in the cluster.

import Glibc
import Gossip
import Proxy

enum AutoscaleCommand {
    static let command = Subcommand(
        name: "autoscale", summary: "starts and stops servers as the cluster wants them",
        positionals: [.init(name: "URL", required: false, isList: true)],
        options: [
            .value("exec", "CMD", "the program that is run as CMD start I and CMD stop I", .file, required: true),
            .value("backend", "NAME", "only this backend; else every one that has autoscale"),
            .flag("once", "ends when there are as many as are wanted; with exit code 1 when something fails"),
            .value("drain-timeout", "SPAN", "how long requests may keep a server from being stopped (30s)"),
            .value("start-timeout", "SPAN", "how long CMD may take, and then the server until it is up (60s)"),
            .value("token-file", "FILE", "the file with the admin token; else TRIAD_TOKEN holds it", .file),
        ],
        details: [
            "URL is the status port of a node, several of them for when one is gone (\(StatusURL.standard), or TRIAD_URL).",
            "I is the number at the end of the server's id, 8 for api_8, or the id where there is none. TRIAD_BACKEND,",
            "TRIAD_SERVER and TRIAD_ADDRESS tell the rest. CMD succeeds when there is nothing to do. A server in maint is",
            "left alone; one in drain is finished and stopped, or put back when it is needed.",
        ],
        run: { (arguments) throws(UsageProblem) in
            var urls: [StatusURL] = []
            let given = arguments["URL"] ?? Environment.variable("TRIAD_URL") ?? StatusURL.standard
            for text in given.split(separator: " ") { urls.append(try StatusURL(String(text))) }
            var options = ScalingPlan.Options()
            options.drainTimeout = try span("drain-timeout", arguments) ?? options.drainTimeout
            options.startTimeout = try span("start-timeout", arguments) ?? options.startTimeout
            let path = arguments.required("exec")
            guard path.contains("/"), access(path, X_OK) == 0 else {
                throw UsageProblem("--exec \(path): the path of a program is needed, as in ./instance")
            }
            do throws(HTTPProblem) {
                let token = try AdminCommands.token(arguments["token-file"])
                var executor = ScalingExecutor(
                    urls: urls, token: token, path: path, only: arguments["backend"], options: options,
                    isOnce: arguments.has("once"))
                return executor.run()
            } catch {
                Console.error("triad autoscale: \(error)")
                return 1
            }
        })

    private static func span(_ name: String, _ arguments: Arguments) throws(UsageProblem) -> Duration? {
        guard let text = arguments[name] else { return nil }
        guard let span = Quantity.duration(text), span >= .seconds(1), span <= .seconds(86400) else {
            throw UsageProblem("--\(name) must be a duration from \"1s\" to \"1d\", not \"\(text)\"")
        }
        return span
    }
}

struct ScalingExecutor {
    private static let lookMs: UInt64 = 500

    private struct Child {
        var process: FenceChild
        var backend: String
        var step: ScalingPlan.Step
        var deadline: Instant
    }

    let path: String
    let only: String?
    let options: ScalingPlan.Options
    let isOnce: Bool
    private let token: String?
    private var urls: [StatusURL]
    private var plans: [String: ScalingPlan] = [:]
    private var children: [Child] = []
    /// What was said last, so that it is said once.
    private var said = ""
    private var hasFailed = false

    init(
        urls: [StatusURL], token: String?, path: String, only: String?, options: ScalingPlan.Options, isOnce: Bool
    ) {
        self.urls = urls
        self.token = token
        self.path = path
        self.only = only
        self.options = options
        self.isOnce = isOnce
    }

    /// - Returns: the exit code.
    mutating func run() -> Int32 {
        let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM, SIGHUP])) ?? -1
        while true {
            let isDone = look()
            if isOnce, children.isEmpty, isDone || hasFailed { return hasFailed ? 1 : 0 }
            var entry = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
            // Commands that run go on without us: they change nothing that another one wouldn't.
            if poll(&entry, 1, Int32(Self.lookMs)) > 0 { return 0 }
        }
    }

    /// One look and what follows from it. True when nothing is left to do.
    private mutating func look() -> Bool {
        reap(now: Runtime.now())
        guard let report = ask() else { return false }
        let scaled = report.backends.filter { $0.autoscale != nil && (only == nil || $0.name == only) }
        guard !scaled.isEmpty else {
            say(only.map { "there is no backend \($0) with autoscale" } ?? "no backend has autoscale")
            hasFailed = true
            return false
        }
        var isDone = true
        for backend in scaled where !take(backend) { isDone = false }
        return isDone
    }

    private mutating func take(_ backend: StatusReport.Backend) -> Bool {
        guard let wanted = backend.autoscale?.desired else {
            say("\(backend.name): \(backend.autoscale?.text ?? "")")
            return false
        }
        let servers = backend.servers.map(ScalingPlan.Server.init)
        var plan = plans[backend.name] ?? ScalingPlan(options: options)
        let steps = plan.steps(wanted: wanted, servers: servers, now: Runtime.now())
        let isDone = steps.isEmpty && plan.isDone(wanted: wanted, servers: servers)
        plans[backend.name] = plan
        let serving = servers.count { $0.serves && !$0.isBackup }
        for step in steps {
            Console.out("\(clock) \(backend.name): \(wanted) wanted, \(serving) serve: \(step)")
            switch step {
            case .drain(let id): change(.setAdmin(ServerID(backend: backend.name, server: id), .drain), step, backend)
            case .ready(let id): change(.setAdmin(ServerID(backend: backend.name, server: id), .ready), step, backend)
            case .start, .stop: spawn(step, backend)
            }
        }
        if steps.isEmpty, !isDone, serving < wanted, children.isEmpty, !servers.contains(where: { !$0.isUp }) {
            say(
                "\(backend.name): \(wanted) wanted, \(serving) serve, and no server is left to start: the file names no more"
            )
        }
        return isDone
    }

    // MARK: What it asks

    /// Of the first node that answers and is in touch with a majority; that one is asked first from then on.
    private mutating func ask() -> StatusReport? {
        var problems: [String] = []
        for (place, url) in urls.enumerated() {
            do throws(HTTPProblem) {
                let report = try StatusCommand.fetch(HTTPClient(url: url, timeoutMs: 2000)).0
                guard report.quorum else {
                    problems.append("\(url.text): no quorum")
                    continue
                }
                urls.swapAt(0, place)
                if said.hasPrefix("no node") { say("\(url.text) answers") }
                return report
            } catch {
                problems.append("\(error)")
            }
        }
        say("no node answers, nothing is done: \(problems.joined(separator: "; "))")
        return nil
    }

    private mutating func change(_ request: AdminRequest, _ step: ScalingPlan.Step, _ backend: StatusReport.Backend) {
        var problem = ""
        do throws(HTTPProblem) {
            let answer = try HTTPClient(url: urls[0], timeoutMs: 8000, token: token)
                .send(request.path, body: request.body)
            let json = JSON5.parse(answer.body).value
            if !(200..<300).contains(answer.status) || json?["ok"].flag != true {
                problem = json?["text"].text ?? StatusCommand.firstLine(answer.text)
            }
        } catch {
            problem = "\(error)"
        }
        ended(step, backend.name, problem: problem.isEmpty ? nil : problem)
    }

    // MARK: Commands

    private mutating func spawn(_ step: ScalingPlan.Step, _ backend: StatusReport.Backend) {
        let id = step.server
        let digits = String(id.reversed().prefix { $0.isASCII && $0.isNumber }.reversed())
        let verb = if case .start = step { "start" } else { "stop" }
        let address = backend.servers.first { $0.id == id }?.address ?? ""
        let environment =
            Environment.all.filter { !$0.hasPrefix("TRIAD_TOKEN=") } + [
                "TRIAD_BACKEND=\(backend.name)", "TRIAD_SERVER=\(id)", "TRIAD_ADDRESS=\(address)",
            ]
        do throws(SystemError) {
            let process = try FenceSystem.spawnCommand(path, [path, verb, digits.isEmpty ? id : digits], environment)
            System.close(process.descriptor)
            let deadline = Runtime.now().advanced(by: options.startTimeout)
            children.append(Child(process: process, backend: backend.name, step: step, deadline: deadline))
        } catch {
            ended(step, backend.name, problem: "\(path) can't be started: \(error)")
        }
    }

    private mutating func reap(now: Instant) {
        var open: [Child] = []
        let running = children
        children = []
        for child in running {
            switch FenceSystem.end(of: child.process.process) {
            case .exited(0): ended(child.step, child.backend, problem: nil)
            case .exited(let code): ended(child.step, child.backend, problem: "\(path) exited with \(code)")
            case .signalled(let number):
                let isLate = now >= child.deadline
                let took = "\(path) was killed: it took longer than \(Quantity.text(options.startTimeout))"
                ended(child.step, child.backend, problem: isLate ? took : "\(path) was ended by signal \(number)")
            case nil:
                if now >= child.deadline { kill(-child.process.process, SIGKILL) }
                open.append(child)
            }
        }
        children = open
    }

    private mutating func ended(_ step: ScalingPlan.Step, _ backend: String, problem: String?) {
        let now = Runtime.now()
        plans[backend]?.ended(step, succeeded: problem == nil, now: now)
        guard let problem else { return }
        hasFailed = true
        let pause = plans[backend]?.pause(of: step.server, now: now) ?? .zero
        let again = isOnce ? "" : "; again in \(StatusText.span(pause.milliseconds / 1000))"
        Console.error("\(clock) \(backend): \(step) failed: \(problem)\(again)")
    }

    // MARK: What it says

    private var clock: String { StatusText.time(System.wallMilliseconds()) }

    private mutating func say(_ text: String) {
        guard text != said else { return }
        said = text
        Console.error("\(clock) \(text)")
    }
}

extension ScalingPlan.Server {
    init(_ server: StatusReport.Server) {
        self.init(
            id: server.id, isUp: server.health == "up", isUnknown: server.health != "up" && server.health != "down",
            admin: AdminState(rawValue: server.admin) ?? .maint, sessions: server.work.sessions,
            isBackup: server.isBackup)
    }
}

extension ScalingPlan.Step: CustomStringConvertible {
    var description: String {
        switch self {
        case .start(let id): "start \(id)"
        case .stop(let id): "stop \(id)"
        case .drain(let id): "drain \(id)"
        case .ready(let id): "ready \(id)"
        }
    }
}
