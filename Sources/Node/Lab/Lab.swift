// Lab: a place to run a real cluster in one machine: a network of its own, processes that can't outlive it, and an
// exact record of who owned the VIP. For `triad demo` and the end-to-end tests.
//
// It belongs to one thread at a time, and blocks. Nothing of it survives: the network namespaces have no names, every
// process it starts is in a process namespace whose first process ends when a pipe of this process closes (so also
// after kill -9), and the shell around that one removes the directory.
//
// `interruption` is polled in every wait, so that Ctrl-C ends a demo in the middle of a step.

import CLinux
import Glibc
import Proxy

/// A child process of the lab and the process group that it leads.
struct LabProcess {
    let name: String
    let pid: pid_t
    let output: String
    let errors: String
}

final class Lab {
    /// Scratch, logs, configuration and data of everything in the lab.
    let directory: String
    let network: LabNetwork
    let nodes: [String]
    private let holder: Holder
    private var monitor: LabProcess
    private var observer: LabProcess?
    /// Namespace numbers as the monitor reports them.
    private var namespaceNames: [Int: String] = [:]
    private var running: [LabProcess] = []
    /// Of the processes that `isRunning` found ended.
    private(set) var exitCodes: [pid_t: Int32] = [:]
    /// Nanoseconds to subtract from the wall clock to get CLOCK_BOOTTIME.
    private let wallOffset: UInt64
    private var marks = 0
    private var isOver = false
    /// True ends every wait with an error.
    var interruption: () -> Bool = { false }

    /// Builds the network and starts recording ownership.
    /// - Parameters:
    ///   - forGood: this thread starts nothing but the lab's processes from now on. In a user namespace that is
    ///     the only way; otherwise the thread's children are the lab's only when the lab starts them.
    ///   - inMemory: logs and the nodes' data are kept in memory, so that what else uses the disk does not count.
    ///   - isIPv6: every address is one.
    init(
        nodes: [String] = ["n1", "n2", "n3"], forGood: Bool = false, inMemory: Bool = false, isIPv6: Bool = false
    ) throws {
        self.nodes = nodes
        for tool in ["ip", "unshare"] where LabSystem.find(tool) == nil {
            throw LabProblem("\(tool) is missing: install \(tool == "ip" ? "iproute2" : "util-linux")")
        }
        directory = try LabSystem.makeTemporaryDirectory("triad-lab", inMemory: inMemory)
        holder = try Holder(directory, forGood: forGood)
        network = try LabNetwork(nodes: nodes, directory: directory, isIPv6: isIPv6)
        wallOffset = LabSystem.wallNanoseconds() - System.bootNanoseconds()
        let record = "\(directory)/ownership"
        let command = ["ip", "-ts", "-o", "monitor", "all-nsid", "address"]
        let errors = "\(directory)/ownership.errors"
        let pid = try holder.spawn(.init(command: command, output: record, errors: errors), in: network.bridge)
        monitor = LabProcess(name: "monitor", pid: pid, output: record, errors: errors)
        try identifyNamespaces()
    }

    /// Ends everything; the directory stays when `keepDirectory` was called.
    func tearDown() {
        let all = isOver ? [] : running + [monitor]
        isOver = true
        for process in all { kill(-process.pid, SIGKILL) }
        // Before the holder's end: its namespace is over only when the last child in it has been waited for.
        for process in all { _ = LabSystem.exitCode(process.pid, wait: true) }
        running = []
        holder.end()
    }

    deinit { tearDown() }

    /// For looking into a failure: logs and the ownership record are not removed.
    func keepDirectory() { try? LabSystem.write("\(directory)/keep", "") }

    // MARK: waiting

    /// Polls a condition until it holds. The error after the deadline says what did not happen.
    /// - Returns: how long it took, milliseconds.
    @discardableResult
    func wait(
        _ what: String, seconds: Double = 15, _ condition: () throws -> Bool
    ) throws -> Double {
        let start = System.bootNanoseconds()
        while !(try condition()) {
            if interruption() { throw LabProblem("interrupted") }
            if Double(System.bootNanoseconds() - start) > seconds * 1e9 {
                throw LabProblem("not within \(seconds.formatted) s: \(what)")
            }
            LabSystem.pause(milliseconds: 10)
        }
        return Double(System.bootNanoseconds() - start) / 1e6
    }

    // MARK: processes

    /// Starts a process in a host of the network, as the leader of a process group of its own.
    func start(_ name: String, _ command: [String], on host: String, log: String) throws -> LabProcess {
        // Whatever else this machine is busy with is not part of the experiment.
        let spawn = LabSystem.Spawn(command: command, output: log + ".out", errors: log + ".log", isRaised: true)
        let pid = try holder.spawn(spawn, in: try network.host(host))
        let process = LabProcess(name: name, pid: pid, output: log + ".out", errors: log + ".log")
        running.append(process)
        return process
    }

    /// Runs a command of this program on a host to its end: exit code and what it printed.
    func run(_ arguments: [String], on host: String, seconds: Double = 15) throws -> LabAnswer {
        marks += 1
        let log = "\(directory)/command-\(marks)"
        let process = try start("triad", [LabSystem.triad] + arguments, on: host, log: log)
        var code: Int32?
        try wait("triad \(arguments.joined(separator: " ")) ends", seconds: seconds) {
            code = LabSystem.exitCode(process.pid, wait: false)
            return code != nil
        }
        running.removeAll { $0.pid == process.pid }
        return LabAnswer(
            code: code ?? -1, output: LabSystem.readText(process.output) ?? "",
            errors: LabSystem.readText(process.errors) ?? "")
    }

    /// Sends a signal to the group, or to its leader alone.
    func signal(_ process: LabProcess, _ number: Int32, group: Bool) {
        kill(group ? -process.pid : process.pid, number)
    }

    /// Whether the leader of the group still runs.
    func isRunning(_ process: LabProcess) -> Bool {
        guard running.contains(where: { $0.pid == process.pid }) else { return false }
        guard let code = LabSystem.exitCode(process.pid, wait: false) else { return true }
        exitCodes[process.pid] = code
        running.removeAll { $0.pid == process.pid }
        return false
    }

    /// Waits for the leader's end: its exit code.
    func waitForEnd(_ process: LabProcess, seconds: Double) throws -> Int32 {
        var code: Int32?
        try wait("\(process.name) ends", seconds: seconds) {
            code = LabSystem.exitCode(process.pid, wait: false)
            return code != nil
        }
        running.removeAll { $0.pid == process.pid }
        return code ?? -1
    }

    /// CLOCK_BOOTTIME of a time of day, milliseconds since 1970, as the nodes' logs have it.
    func bootNanoseconds(wallMs: Int64) -> UInt64 {
        let wall = UInt64(max(0, wallMs)) * 1_000_000
        return wall > wallOffset ? wall - wallOffset : 0
    }

    // MARK: ownership

    /// From now on an owner is who answers for the VIP, not who has the address: with the gate these differ.
    func observe() throws {
        guard observer == nil else { return }
        let log = "\(directory)/observer"
        let command = [LabSystem.triad, "observe", network.vip, "--interface", "eth0", "--log", "\(log).answers"]
        let process = try start("observer", command, on: LabNetwork.observerName, log: log)
        observer = process
        try wait("the observer sees the link") {
            guard isRunning(process) else {
                throw LabProblem("the observer: \(LabSystem.readText(process.errors) ?? "")")
            }
            return answersSoFar().completeTo > 0
        }
    }

    /// Who has answered for the VIP so far.
    func answersSoFar() -> AnswerLog { AnswerLog(LabSystem.readText("\(directory)/observer.answers") ?? "") }

    /// Who answered for the VIP, everything up to this moment.
    func answers() throws -> AnswerLog {
        let now = System.bootNanoseconds()
        var log = answersSoFar()
        try wait("the observer's log is complete") {
            log = answersSoFar()
            return log.completeTo >= now
        }
        return log
    }

    /// Who owned the VIP, everything up to this moment.
    func ownership() throws -> OwnershipRecord {
        observer == nil ? try addresses() : try answers().ownership(network.stations)
    }

    /// Who had the address: one of the switch's own marks the end, so that nothing earlier is missing.
    func addresses() throws -> OwnershipRecord {
        marks += 1
        let mark = network.isIPv6 ? "fd78::\(marks)/128" : "10.255.\(marks / 250 % 250).\(marks % 250)/32"
        try network.ip(["addr add \(mark) dev lo", "addr del \(mark) dev lo"], in: network.bridge)
        var events: [AddressEvent] = []
        try wait("the ownership record is complete") {
            events = readEvents()
            return events.contains { $0.address == mark && $0.isDeleted && $0.namespace == nil }
        }
        return try addressRecord(of: events)
    }

    /// What has been reported so far: for polling, since it starts no process. The last change may still be missing.
    func ownershipSoFar() throws -> OwnershipRecord {
        observer == nil ? try addressRecord(of: readEvents()) : answersSoFar().ownership(network.stations)
    }

    private func addressRecord(of events: [AddressEvent]) throws -> OwnershipRecord {
        let lost = LabSystem.readText(monitor.errors) ?? ""
        if !lost.isEmpty { throw LabProblem("the ownership record has holes: \(lost)") }
        return OwnershipRecord(
            changes: events.compactMap { event in
                guard event.address == "\(network.vip)/\(network.vipPrefix)", let number = event.namespace,
                    let node = namespaceNames[number]
                else { return nil }
                return .init(at: event.at - wallOffset, node: node, owns: !event.isDeleted)
            })
    }

    /// Gives every host an address that only it has until the monitor has reported it: proof that the monitor hears the
    /// host, and by which number.
    private func identifyNamespaces() throws {
        for (index, host) in network.hosts.enumerated() {
            let probe = network.isIPv6 ? "fd79::\(index + 1)/128" : "10.254.0.\(index + 1)/32"
            try wait("the monitor hears \(host.name)") {
                try network.ip(["addr add \(probe) dev lo", "addr del \(probe) dev lo"], in: host)
                guard let event = readEvents().first(where: { $0.address == probe }), let number = event.namespace
                else { return false }
                namespaceNames[number] = host.name
                return true
            }
        }
    }

    private func readEvents() -> [AddressEvent] {
        (LabSystem.readText(monitor.output) ?? "").split(separator: "\n").compactMap { AddressEvent(line: $0) }
    }

    // MARK: the process namespace

    /// The first process of the lab's process namespace, and the pipe that it lives by.
    private final class Holder {
        private let namespace: Int32
        private let pipe: Int32
        private let pid: pid_t
        private let isForGood: Bool
        private var isOver = false

        init(_ directory: String, forGood: Bool) throws(LabProblem) {
            var ends: [Int32] = [0, 0]
            if clinux_pipe_nonblocking(&ends) < 0 { throw LabProblem(call: "pipe") }
            defer { System.close(ends[0]) }
            // `cat` must wait on its end.
            _ = fcntl(ends[0], F_SETFL, 0)
            // The first process of a namespace inherits its orphans: with SIGCHLD ignored they leave no zombies.
            let first = "trap '' CHLD; read -r pid rest </proc/self/stat; echo $pid; exec cat >/dev/null"
            let around =
                "trap '' INT TERM HUP; unshare --pid --fork --kill-child sh -c \"$1\"; "
                + "[ -e \"$2/keep\" ] || rm -rf \"$2\""
            let output = "\(directory)/holder"
            let errors = "\(directory)/holder.errors"
            let pid = try LabSystem.spawn(
                .init(
                    command: ["sh", "-c", around, "sh", first, directory], output: output, errors: errors,
                    input: ends[0]))
            var inner: String?
            for _ in 0..<15_000 where inner == nil {
                let text = LabSystem.readText(output) ?? ""
                if text.hasSuffix("\n") { inner = String(text.dropLast()) }
                if let failure = LabSystem.readText(errors), !failure.isEmpty { break }
                LabSystem.pause(milliseconds: 2)
            }
            guard let inner else {
                System.close(ends[1])
                throw LabProblem("no process namespace: \(LabSystem.readText(errors) ?? "unshare did not start")")
            }
            namespace = open("/proc/\(inner)/ns/pid", O_RDONLY | O_CLOEXEC)
            if namespace < 0 { throw LabProblem(call: "/proc/\(inner)/ns/pid") }
            pipe = ends[1]
            self.pid = pid
            isForGood = forGood
            if forGood { try LabSystem.enterProcesses(namespace) }
        }

        deinit { end() }

        func spawn(_ spawn: LabSystem.Spawn, in host: LabHost) throws(LabProblem) -> pid_t {
            try LabSystem.inside(host.descriptor) { () throws(LabProblem) in
                if isForGood { return try LabSystem.spawn(spawn) }
                return try LabSystem.insideProcesses(namespace) { () throws(LabProblem) in try LabSystem.spawn(spawn) }
            }
        }

        /// Every process in the namespace is gone when this returns.
        func end() {
            if isOver { return }
            isOver = true
            System.close(pipe)
            System.close(namespace)
            _ = LabSystem.exitCode(pid, wait: true)
        }
    }
}

/// What a command came to.
struct LabAnswer {
    var code: Int32
    var output: String
    var errors: String
}
