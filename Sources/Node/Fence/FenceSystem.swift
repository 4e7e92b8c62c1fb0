// FenceSystem: the operating-system calls of the fence and of its link: child processes, packet pairs, the timer that
// kills. One function per call, no policy; errno is read right after each call.
//
// Any thread; none of it blocks, except `spawn`, which waits the fraction of a millisecond until the child has become
// its program. Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc
import Proxy

/// What a read of one packet, or of what a stream has, came to.
enum FenceRead: Equatable {
    case bytes([UInt8])
    case nothing
    /// The other end is closed.
    case ended
    case failed(Int32)
}

/// A child process.
struct FenceChild {
    var process: Int32
    /// Our end of the pair that is the child's standard input (and, for a tool, its standard error).
    var descriptor: Int32
}

enum FenceSystem {
    /// Two joined local sockets, closed on exec; the first is non-blocking.
    /// - Parameter packets: keeps the bounds of what is written (SOCK_SEQPACKET), else a stream.
    static func pair(packets: Bool) throws(SystemError) -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        let type = packets ? SOCK_SEQPACKET : SOCK_STREAM
        if socketpair(AF_UNIX, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) < 0 {
            throw SystemError(call: "socketpair", code: clinux_errno())
        }
        _ = clinux_set_nonblocking(ends[0])
        return (ends[0], ends[1])
    }

    /// Starts the fence: standard input is the packet pair, standard error is ours.
    static func spawnFence(program: String, environment: [String]) throws(SystemError) -> FenceChild {
        let (ours, theirs) = try pair(packets: true)
        return try spawn(
            program, ["triad", "fence"], environment, ours: ours, input: theirs, error: STDERR_FILENO, keep: -1,
            isTool: false)
    }

    /// Starts a tool that reads commands: standard input and error are one stream pair. It is killed by the kernel when
    /// the calling thread ends, whatever state either is in.
    /// - Parameter keep: a descriptor that it holds open without knowing of it; -1 for none.
    static func spawnTool(_ path: String, _ arguments: [String], keep: Int32) throws(SystemError) -> FenceChild {
        let (ours, theirs) = try pair(packets: false)
        return try spawn(
            path, arguments,
            // WHY HOME: `nft -i` writes all it was told to a file there when it ends, and reads it when it starts.
            ["LC_ALL=C", "HOME=/dev/null", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"], ours: ours, input: theirs,
            error: theirs, keep: keep, isTool: true)
    }

    /// Starts an operator's command in a session of its own: standard input and standard error are a stream pair, standard output
    /// goes nowhere. Nothing of ours is left open in it, least of all the log, which it could fill.
    static func spawnCommand(
        _ path: String, _ arguments: [String], _ environment: [String]
    ) throws(SystemError) -> FenceChild {
        let (ours, theirs) = try pair(packets: false)
        return try spawn(
            path, arguments, environment, ours: ours, input: theirs, error: theirs, keep: -1, isTool: false)
    }

    private static func spawn(
        _ path: String, _ arguments: [String], _ environment: [String], ours: Int32, input: Int32, error: Int32,
        keep: Int32, isTool: Bool
    ) throws(SystemError) -> FenceChild {
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer {
            System.close(input)
            System.close(null)
        }
        let process = withCStrings(arguments) { arguments in
            withCStrings(environment) { environment in
                clinux_spawn(
                    path, arguments, environment, input, null, error, keep, isTool ? SIGKILL : 0, isTool ? 0 : 1)
            }
        }
        if process < 0 {
            let code = clinux_errno()
            System.close(ours)
            throw SystemError(call: "vfork", code: code)
        }
        return FenceChild(process: process, descriptor: ours)
    }

    private static func withCStrings<Result>(
        _ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
    ) -> Result {
        let copies: [UnsafeMutablePointer<CChar>?] = texts.map { strdup($0) } + [nil]
        defer { for copy in copies { free(copy) } }
        return body(copies)
    }

    /// Kills a child and closes our end. It dies also while it is stopped.
    static func destroy(_ child: FenceChild) {
        kill(child.process, SIGKILL)
        System.close(child.descriptor)
    }

    /// Nothing a terminal or an operator sends to a whole group of processes ends this one, nor its tool; ended
    /// children leave no zombie.
    static func ignoreSignals() {
        for number in [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE, SIGCHLD] { signal(number, SIG_IGN) }
    }

    /// False once a process is gone for good (this one ignores SIGCHLD, so an ended child leaves no zombie).
    static func exists(_ process: Int32) -> Bool { kill(process, 0) == 0 || clinux_errno() != ESRCH }

    /// Takes a child's last status if it has ended.
    static func reap(_ process: Int32) -> Bool { end(of: process) != nil }

    /// How a process ended.
    enum End: Equatable {
        case exited(Int32)
        case signalled(Int32)
    }

    /// Takes a child's last status; nil while it runs.
    static func end(of process: Int32) -> End? {
        var status: Int32 = 0
        guard waitpid(process, &status, WNOHANG) != 0 else { return nil }
        let number = status & 0x7f
        return number == 0 ? .exited(status >> 8 & 0xff) : .signalled(number)
    }

    /// Writes one packet, or the whole of a short text to a stream. False when it can't take it.
    static func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Transfer {
        let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        let code = clinux_errno()
        if count >= 0 { return .moved(count) }
        return code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
    }

    static func read(_ descriptor: Int32, max: Int) -> FenceRead {
        var bytes = [UInt8](repeating: 0, count: max)
        let count = recv(descriptor, &bytes, max, 0)
        let code = clinux_errno()
        if count > 0 { return .bytes(Array(bytes[..<count])) }
        if count == 0 { return .ended }
        return code == EAGAIN || code == EINTR ? .nothing : .failed(code)
    }

    /// Sends one datagram; failures are left to the repetition.
    static func send(_ descriptor: Int32, _ bytes: [UInt8], to peer: SocketAddress) {
        _ = bytes.withUnsafeBytes { System.send(descriptor, $0, to: peer) }
    }

    /// Where a command is, by PATH and by nothing else.
    static func find(_ command: String) -> String? { find(command, in: searchPath) }

    /// - Parameter searchPath: directories with colons between them.
    static func find(_ command: String, in searchPath: String) -> String? {
        for directory in searchPath.split(separator: ":") {
            let path = "\(directory)/\(command)"
            if access(path, X_OK) == 0 { return path }
        }
        return nil
    }

    /// `PATH=…` as this process has it, for a child that is to get nothing else of our environment.
    static var pathEntry: String { "PATH=" + searchPath }

    static var searchPath: String { getenv("PATH").map { String(cString: $0) } ?? "" }

    /// What the kernel says of an interface; nil when there is none of that name.
    static func interface(_ name: String) -> clinux_interface? {
        var found = clinux_interface()
        return clinux_find_interface(name, &found) == 0 ? found : nil
    }

    /// The name of an interface; nil when it is gone.
    static func interfaceName(_ index: UInt32) -> String? {
        var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        guard if_indextoname(index, &name) != nil else { return nil }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The names of all interfaces of this network namespace.
    static func interfaceNames() -> [String] {
        guard let list = if_nameindex() else { return [] }
        defer { if_freenameindex(list) }
        var names: [String] = []
        var entry = list
        while let name = entry.pointee.if_name {
            names.append(String(cString: name))
            entry += 1
        }
        return names
    }
}

/// The kernel's own deadline for this process: it is killed at that time, also while it is stopped.
struct KillTimer: ~Copyable {
    /// nil is a handle like any other: glibc's timer handles are the kernel's numbers, which start at 0.
    private let timer: UnsafeMutableRawPointer?

    init() throws(SystemError) {
        var made: UnsafeMutableRawPointer?
        if clinux_kill_timer(&made) < 0 { throw SystemError(call: "timer_create", code: clinux_errno()) }
        timer = made
    }

    /// - Parameter bootNanoseconds: CLOCK_BOOTTIME; 0 disarms.
    func set(_ bootNanoseconds: UInt64) { _ = clinux_kill_timer_set(timer, bootNanoseconds) }
}
