// LabSystem: the operating-system calls of the lab and of the client tools: files, sockets read into arrays,
// child processes, network namespaces of the calling thread.
//
// Nothing here is on a node's path: `triad run` never uses it. Buffers are Swift arrays handed to the kernel for the
// length of one call; errno is read right after each call. Any thread, except `inside`, which changes the calling
// thread's namespace for the length of its closure, so that the closure may not suspend.

import CLinux
import Glibc
import Proxy

/// Something the lab could not do, in words for the user.
struct LabProblem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }

    /// `mount: Operation not permitted`, from the errno of the call just made.
    init(call: String) { description = "\(call): \(System.explain(clinux_errno()))" }
}

enum LabSystem {
    /// This process's own program, to start others like it.
    static let program = readLink("/proc/self/exe") ?? "triad"

    /// The program to start nodes and clients from: this one, or the one next to this one (a test bundle).
    static let triad: String = {
        let directory = program.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        let sibling = directory.joined(separator: "/") + "/triad"
        return program.hasSuffix("/triad") || access(sibling, X_OK) != 0 ? program : sibling
    }()

    /// CLOCK_REALTIME in nanoseconds, to compare with times that other programs print.
    static func wallNanoseconds() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    /// Writes text to a descriptor, all of it, whatever it is (blocking).
    static func say(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            let rest = Array(bytes[done...])
            let count = Glibc.write(descriptor, rest, rest.count)
            if count <= 0, clinux_errno() != EINTR { return }
            done += max(0, count)
        }
    }

    /// Waits, for a poll of a condition or a rate; never as a substitute for a condition.
    static func pause(milliseconds: Int) { usleep(UInt32(milliseconds) * 1000) }

    // MARK: sockets

    /// Appends what has arrived, at most 64 KiB at a time.
    static func receive(_ descriptor: Int32, appendTo bytes: inout [UInt8], scratch: inout [UInt8]) -> Transfer {
        let count = recv(descriptor, &scratch, scratch.count, 0)
        let code = clinux_errno()
        if count > 0 {
            bytes.append(contentsOf: scratch[..<count])
            return .moved(count)
        }
        if count == 0 { return .ended }
        return code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
    }

    static func send(_ descriptor: Int32, _ bytes: [UInt8]) -> Transfer {
        let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        let code = clinux_errno()
        if count >= 0 { return .moved(count) }
        return code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
    }

    static func signalSet(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        return set
    }

    /// True when a descriptor has something to read within the time.
    static func isReadable(_ descriptor: Int32, withinMs: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, withinMs) > 0
    }

    // MARK: files

    static func read(_ path: String) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { return nil }
        defer { System.close(descriptor) }
        var bytes: [UInt8] = []
        var scratch = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(descriptor, &scratch, scratch.count)
            if count < 0 { return nil }
            if count == 0 { return bytes }
            bytes.append(contentsOf: scratch[..<count])
        }
    }

    /// The end of a file.
    static func readTail(_ path: String, bytes: Int) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { return nil }
        defer { System.close(descriptor) }
        var found = [UInt8](repeating: 0, count: bytes)
        let end = lseek(descriptor, 0, SEEK_END)
        let count = pread(descriptor, &found, bytes, max(0, end - bytes))
        return count < 0 ? nil : String(decoding: found[..<count], as: UTF8.self)
    }

    static func readText(_ path: String) -> String? { read(path).map { String(decoding: $0, as: UTF8.self) } }

    /// - Parameter mode: what a new file may at most be, before the umask.
    static func write(_ path: String, _ text: String, mode: mode_t = 0o600) throws(LabProblem) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        if descriptor < 0 { throw LabProblem(call: "cannot write \(path)") }
        defer { System.close(descriptor) }
        say(text, to: descriptor)
    }

    static func makeDirectory(_ path: String) throws(LabProblem) {
        if mkdir(path, 0o700) < 0 { throw LabProblem(call: "cannot make the directory \(path)") }
    }

    /// A new directory that only this user can enter.
    /// - Parameter inMemory: on tmpfs, where a busy disk can't be in the way; else below TMPDIR or /tmp.
    static func makeTemporaryDirectory(_ name: String, inMemory: Bool) throws(LabProblem) -> String {
        let ordinary = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        let parent = inMemory && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ordinary
        var template = "\(parent)/\(name)-XXXXXX".utf8CString.map { $0 }
        if mkdtemp(&template) == nil { throw LabProblem(call: "cannot make a directory in \(parent)") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func readLink(_ path: String) -> String? {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &bytes, bytes.count)
        if count <= 0 { return nil }
        return String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Where a command is: on PATH, or where system commands are (an ordinary user's PATH may lack those).
    static func find(_ command: String) -> String? {
        command.contains("/") ? command : FenceSystem.find(command, in: searchPath)
    }

    static var searchPath: String {
        let own = getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
        return own + ":/usr/local/sbin:/usr/sbin:/sbin"
    }

    /// What the machine's cores have spent so far, and how much of it idle, in ticks.
    static func processorTimes() -> (all: UInt64, idle: UInt64) {
        let line = (readText("/proc/stat") ?? "").split(separator: "\n").first ?? ""
        // user nice system idle iowait irq softirq steal; what guests used is in user already.
        let ticks = line.split(separator: " ").dropFirst().prefix(8).map { UInt64($0) ?? 0 }
        guard ticks.count == 8 else { return (0, 0) }
        return (ticks.reduce(0, +), ticks[3] + ticks[4])
    }

    // MARK: processes

    /// What a child gets besides its arguments. It starts a process group of its own.
    struct Spawn {
        var command: [String]
        /// A file for standard output, appended to; nil: /dev/null.
        var output: String?
        /// A file for standard error, appended to; nil: /dev/null.
        var errors: String?
        /// A descriptor for standard input; nil: /dev/null.
        var input: Int32?
        /// Above ordinary processes, where that is allowed.
        var isRaised = false
    }

    /// Starts a child in the calling thread's namespaces.
    static func spawn(_ spawn: Spawn) throws(LabProblem) -> pid_t {
        guard let name = spawn.command.first, let path = find(name) else {
            throw LabProblem("\(spawn.command.first ?? ""): not found on PATH (\(searchPath))")
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input = spawn.input {
            posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
        } else {
            posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        }
        let appending = O_WRONLY | O_CREAT | O_APPEND
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, spawn.output ?? "/dev/null", appending, 0o600)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, spawn.errors ?? "/dev/null", appending, 0o600)
        // Nothing else: a socket that a child holds, too, doesn't end when it is closed here.
        clinux_close_from(&actions, STDERR_FILENO + 1)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Signals that this process blocks (to read them from a descriptor) must reach the child as usual.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP) | Int16(POSIX_SPAWN_SETSIGMASK))

        var arguments = spawn.command.map { strdup($0) } + [nil]
        var environment = childEnvironment.map { strdup($0) } + [nil]
        defer {
            for text in arguments + environment { free(text) }
        }
        // A child inherits the calling thread's priority.
        let which = __priority_which_t(PRIO_PROCESS.rawValue)
        let ordinary = getpriority(which, 0)
        let isRaised = spawn.isRaised && setpriority(which, 0, -10) == 0
        defer { if isRaised { setpriority(which, 0, ordinary) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, path, &actions, &attributes, &arguments, &environment)
        if code != 0 { throw LabProblem("\(name): \(System.explain(code))") }
        return pid
    }

    /// Only what a child needs: settings of the user's own cluster (TRIAD_…) must not reach the lab's nodes.
    private static var childEnvironment: [String] {
        // Times that `ip -ts` prints are read back as UTC.
        var environment = ["PATH=\(searchPath)", "TZ=UTC", "LANG=C.UTF-8"]
        for name in ["HOME", "LD_LIBRARY_PATH", "TERM"] {
            if let value = getenv(name) { environment.append("\(name)=\(String(cString: value))") }
        }
        return environment
    }

    /// The exit code of a child that ended (128 + signal when a signal ended it), nil while it runs.
    static func exitCode(_ pid: pid_t, wait: Bool) -> Int32? {
        var status: Int32 = 0
        var answer: pid_t
        repeat { answer = waitpid(pid, &status, wait ? 0 : WNOHANG) } while answer < 0 && clinux_errno() == EINTR
        if answer == 0 { return nil }
        if answer < 0 { return -1 }
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    /// Every process in a network namespace.
    static func processes(inNetwork namespace: Int32) -> [pid_t] {
        var own = stat()
        var paths = glob_t()
        guard fstat(namespace, &own) == 0, glob("/proc/[0-9]*/ns/net", 0, nil, &paths) == 0 else { return [] }
        defer { globfree(&paths) }
        var found: [pid_t] = []
        for index in 0..<Int(paths.gl_pathc) {
            guard let path = paths.gl_pathv[index].map({ String(cString: $0) }) else { continue }
            var other = stat()
            guard stat(path, &other) == 0, other.st_ino == own.st_ino, other.st_dev == own.st_dev else { continue }
            if let pid = pid_t(path.split(separator: "/")[1]) { found.append(pid) }
        }
        return found
    }

    // MARK: namespaces

    /// Runs the closure with this thread in another network namespace, then comes back.
    static func inside<Value>(
        _ namespace: Int32, _ body: () throws(LabProblem) -> Value
    ) throws(LabProblem) -> Value {
        let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        if home < 0 { throw LabProblem(call: "/proc/thread-self/ns/net") }
        defer { System.close(home) }
        if clinux_enter_network_namespace(namespace) < 0 { throw LabProblem(call: "setns") }
        defer { comeBack(home, clinux_enter_network_namespace) }
        return try body()
    }

    /// From now on this thread's children belong to another process namespace. There may be no way back.
    static func enterProcesses(_ namespace: Int32) throws(LabProblem) {
        if clinux_enter_process_namespace(namespace) < 0 { throw LabProblem(call: "setns") }
    }

    /// Children that the closure starts belong to another process namespace.
    static func insideProcesses<Value>(
        _ namespace: Int32, _ body: () throws(LabProblem) -> Value
    ) throws(LabProblem) -> Value {
        let home = open("/proc/thread-self/ns/pid", O_RDONLY | O_CLOEXEC)
        if home < 0 { throw LabProblem(call: "/proc/thread-self/ns/pid") }
        defer { System.close(home) }
        if clinux_enter_process_namespace(namespace) < 0 { throw LabProblem(call: "setns") }
        defer { comeBack(home, clinux_enter_process_namespace) }
        return try body()
    }

    /// A thread left behind in a foreign namespace would act on the wrong network from then on.
    private static func comeBack(_ home: Int32, _ enter: (Int32) -> Int32) {
        precondition(enter(home) == 0, "cannot return to this thread's own namespace")
    }

    /// A new network namespace, alive while the descriptor is open or a process is in it.
    static func makeNetworkNamespace() throws(LabProblem) -> Int32 {
        let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        if home < 0 { throw LabProblem(call: "/proc/thread-self/ns/net") }
        defer { System.close(home) }
        if clinux_unshare_network() < 0 { throw LabProblem(call: "a network namespace of its own") }
        defer { comeBack(home, clinux_enter_network_namespace) }
        let descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { throw LabProblem(call: "/proc/thread-self/ns/net") }
        return descriptor
    }

    /// Leaves the network that this process came from for a new one, without links.
    static func leaveNetwork() throws(LabProblem) {
        if clinux_unshare_network() < 0 { throw LabProblem(call: "a network namespace") }
    }

    /// Becomes root of a new user namespace, in which networks may be made without being root. Only before threads
    /// are started.
    static func becomeRootOfOwn() throws(LabProblem) {
        let user = getuid()
        let group = getgid()
        if clinux_unshare_user() < 0 { throw LabProblem(call: "a user namespace") }
        try write("/proc/self/setgroups", "deny")
        try write("/proc/self/uid_map", "0 \(user) 1")
        try write("/proc/self/gid_map", "0 \(group) 1")
        if getuid() != 0 { throw LabProblem("the kernel refused to map this user to root in a user namespace") }
    }
}
