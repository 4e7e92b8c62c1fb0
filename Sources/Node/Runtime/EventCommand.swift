// EventCommand: runs the operator's command when something happened (`notify`), one event after the other, on a thread of its
// own. Whatever the command does, the node goes on: the control thread only puts events into a bounded queue.
//
// The command gets a session and process group of its own, and is killed with all of its group when its time is over. It
// outlives this process if that ends meanwhile. Its standard input is the event as JSON. What it says on standard error is read
// and forgotten, however much it is; the last line of a command that failed is told with its failure.

import Glibc
import Proxy
import Synchronization

/// One event for the command.
struct EventJob: Sendable, Equatable {
    var command: [String]
    /// Milliseconds.
    var timeoutMs: Int
    /// `NAME=value`
    var environment: [String]
    /// JSON, with a line end.
    var input: [UInt8]
}

/// What became of the commands so far.
struct EventCommandFigures: Sendable, Equatable {
    var done: UInt64 = 0
    /// Ended with another status than 0, or could not be started.
    var failed: UInt64 = 0
    /// Killed at the timeout.
    var killed: UInt64 = 0
    /// Events for which there was no room in the queue.
    var dropped: UInt64 = 0
}

final class EventCommand: Sendable {
    enum Limit {
        static let queue = 64
        /// Between two looks at a command that runs.
        static let lookMicroseconds: UInt32 = 10_000
    }

    private struct State {
        var queue: [EventJob] = []
        var isRunning = false
        var figures = EventCommandFigures()
        /// The latest failure, until it is taken.
        var problem: String?
    }

    private let state = Mutex(State())

    var figures: EventCommandFigures { state.withLock { $0.figures } }

    /// Why the latest command failed, once.
    func takeProblem() -> String? { state.withLock { $0.problem.take() } }

    /// Nothing runs or waits.
    var isIdle: Bool { state.withLock { !$0.isRunning } }

    /// Queues a run; never waits. With a full queue the event is dropped and counted.
    func submit(_ job: EventJob) {
        let mustStart = state.withLock { state in
            guard state.queue.count < Limit.queue else {
                state.figures.dropped += 1
                return false
            }
            state.queue.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard mustStart else { return }
        // WHY a thread per burst: events are rare, and a thread that waits for years is one more thing to explain.
        do {
            _ = try BackgroundThread(name: "notify") { [self] in
                while let job = next() { run(job) }
            }
        } catch {
            state.withLock { state in
                state.figures.dropped += UInt64(state.queue.count)
                (state.queue, state.isRunning) = ([], false)
                state.problem = "\(error)"
            }
        }
    }

    private func next() -> EventJob? {
        state.withLock { state in
            if state.queue.isEmpty {
                state.isRunning = false
                return nil
            }
            return state.queue.removeFirst()
        }
    }

    private func run(_ job: EventJob) {
        guard let path = job.command.first else { return }
        let child: FenceChild
        do {
            child = try FenceSystem.spawnCommand(path, job.command, job.environment)
        } catch {
            return note("\(path) can't be started: \(error)") { $0.failed += 1 }
        }
        _ = FenceSystem.write(child.descriptor, job.input)
        // The end of the input.
        shutdown(child.descriptor, Int32(SHUT_WR))
        defer { System.close(child.descriptor) }
        let deadline = System.bootNanoseconds() + UInt64(job.timeoutMs) * 1_000_000
        var words = LastWords()
        while System.bootNanoseconds() < deadline {
            let end = FenceSystem.end(of: child.process)
            words.listen(child.descriptor)
            if let end { return note(path, end, words.text) }
            usleep(Limit.lookMicroseconds)
        }
        kill(-child.process, SIGKILL)
        // A process that the kernel can't kill now (it waits for a disk) is left behind; it is reaped with this one.
        for _ in 0..<100 where FenceSystem.end(of: child.process) == nil { usleep(Limit.lookMicroseconds) }
        note("\(path) was killed: it took longer than notify.timeout") { $0.killed += 1 }
    }

    /// - Parameter words: the last it said; empty when it said nothing.
    private func note(_ path: String, _ end: FenceSystem.End, _ words: String) {
        let words = words.isEmpty ? "" : ": \(words)"
        switch end {
        case .exited(0): state.withLock { $0.figures.done += 1 }
        case .exited(127): note("\(path) exited with 127: is it there, and executable?") { $0.failed += 1 }
        case .exited(let code): note("\(path) exited with \(code)\(words)") { $0.failed += 1 }
        case .signalled(let number): note("\(path) was ended by signal \(number)\(words)") { $0.failed += 1 }
        }
    }

    private func note(_ problem: String, _ count: (inout EventCommandFigures) -> Void) {
        state.withLock { state in
            state.problem = problem
            count(&state.figures)
        }
    }
}

/// The end of what a command says on its standard error.
private struct LastWords {
    static let bytesMax = 512
    /// At each look; who says more has to wait.
    static let bytesPerLook = 64 << 10

    private var tail: [UInt8] = []

    /// Takes what is there; never waits.
    mutating func listen(_ descriptor: Int32) {
        var scratch = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<(Self.bytesPerLook / scratch.count) {
            let count = recv(descriptor, &scratch, scratch.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return }
            tail = Array((tail + scratch.prefix(count)).suffix(Self.bytesMax))
        }
    }

    /// The last line.
    var text: String {
        let line = tail.split(whereSeparator: { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }).last ?? []
        return String(decoding: line, as: UTF8.self).printable
    }
}

extension EventJob {
    /// What the command is told of `event`.
    /// - Parameter role: this node's, so that a command can act on the leader alone.
    init(
        _ event: StatusEvent, section: Configuration.NotifySection, configuration: Configuration, role: String
    ) {
        let time = WallTime.text(ms: event.atMs)
        let vips = configuration.vips.map(\.address)
        // The first word of a server's event names it.
        let first = event.text.split(separator: " ").first.map(String.init) ?? ""
        let server = event.kind.hasPrefix("server-") && first.contains("/") ? first : nil
        command = section.command
        timeoutMs = Int(section.timeout.milliseconds)
        environment = [
            "PATH=\(FenceSystem.searchPath)", "TRIAD_EVENT=\(event.kind)", "TRIAD_TEXT=\(event.text)",
            "TRIAD_TIME=\(time)", "TRIAD_NODE=\(event.node)", "TRIAD_CLUSTER=\(configuration.cluster)",
            "TRIAD_ROLE=\(role)", "TRIAD_VIPS=\(vips.joined(separator: ","))",
        ]
        if let server { environment.append("TRIAD_SERVER=\(server)") }
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("event", event.kind)
            writer.field("at", time)
            writer.field("node", event.node)
            writer.field("cluster", configuration.cluster)
            writer.field("role", role)
            writer.field("server", server)
            writer.field("text", event.text)
            writer.array("vips") { for vip in vips { $0.element(vip) } }
        }
        input = writer.bytes + [UInt8(ascii: "\n")]
    }
}

extension Runtime {
    /// Starts the operator's command for those of `events` that it is to hear of.
    func runCommand(for events: [StatusEvent]) {
        guard let section = configuration.notify else { return }
        let kinds = section.events.map(\.rawValue)
        let role = core.role == .leader ? "leader" : "follower"
        for event in events where kinds.contains(event.kind) {
            command.submit(EventJob(event, section: section, configuration: configuration, role: role))
        }
    }

    func tellCommandProblems() {
        if let problem = command.takeProblem() { log.log(.warning, "notify: \(problem)") }
    }

    /// Gives commands of the last events a moment when the node has stopped: it serves nobody any more.
    func finishCommands() {
        for _ in 0..<200 where !command.isIdle { usleep(10_000) }
    }
}
