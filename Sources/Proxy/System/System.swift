// System: one Swift function per system call that the data plane and the control thread's sockets use.
//
// Each function makes its call and reads errno in one breath: anything that could retain, release or allocate
// between the two might change errno. Nothing here has a policy: callers decide what an outcome means.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

/// What a read or write on a non-blocking descriptor came to.
public enum Transfer: Equatable, Sendable {
    /// That many bytes moved (1 or more).
    case moved(Int)
    /// Nothing to read, or no room to write: wait for the reactor.
    case wouldBlock
    /// End of stream (reads only).
    case ended
    /// The call failed with this errno.
    case failed(Int32)
}

/// A failed system call: which, and why.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    public let call: String
    public let code: Int32

    public init(call: String, code: Int32) {
        self.call = call
        self.code = code
    }

    /// `bind: Address already in use`
    public var description: String { "\(call): \(System.explain(code))" }
}

public enum System {
    /// The text of an errno.
    public static func explain(_ code: Int32) -> String {
        String(cString: strerror(code))
    }

    /// CLOCK_BOOTTIME, nanoseconds.
    public static func bootNanoseconds() -> UInt64 { clinux_boot_nanoseconds() }

    /// CLOCK_REALTIME, milliseconds since 1970. For people only: never for a decision.
    public static func wallMilliseconds() -> Int64 { clinux_wall_milliseconds() }

    public static func read(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        transfer(clinux_receive(descriptor, buffer.baseAddress, buffer.count))
    }

    /// - Parameter more: MSG_MORE: another send follows at once, so don't push a short segment.
    public static func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, more: Bool = false) -> Transfer {
        let flags = Int32(MSG_NOSIGNAL) | (more ? Int32(MSG_MORE) : 0)
        return transfer(clinux_send(descriptor, bytes.baseAddress, bytes.count, flags))
    }

    /// - Parameter count: what was moved, or a negated errno.
    private static func transfer(_ count: Int) -> Transfer {
        if count > 0 { return .moved(count) }
        if count == 0 { return .ended }
        let code = Int32(truncatingIfNeeded: -count)
        return code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
    }

    private static func transfer(_ count: Int, _ code: Int32) -> Transfer { transfer(count < 0 ? -Int(code) : count) }

    /// A non-blocking, close-on-exec socket.
    /// - Parameter type: a SOCK_… constant's raw value.
    public static func socket(_ domain: Int32, _ type: UInt32, _ proto: Int32 = 0) throws(SystemError) -> Int32 {
        let descriptor = clinux_socket_nonblocking(domain, Int32(type), proto)
        if descriptor < 0 { throw SystemError(call: "socket", code: clinux_errno()) }
        return descriptor
    }

    /// Sets an integer socket option.
    public static func setOption(
        _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32
    ) throws(SystemError) {
        var value = value
        if setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size)) < 0 {
            throw SystemError(call: "setsockopt", code: clinux_errno())
        }
    }

    /// Whether a connected socket is open with nothing to read; takes nothing from it.
    public static func isQuiet(_ descriptor: Int32) -> Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        return count < 0 && clinux_errno() == EAGAIN
    }

    /// SO_ERROR: why a non-blocking connect failed, 0 when it succeeded.
    public static func pendingError(_ descriptor: Int32) -> Int32 {
        var value: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &value, &size) < 0 ? clinux_errno() : value
    }

    public static func bind(_ descriptor: Int32, _ address: SocketAddress) throws(SystemError) {
        let outcome = address.withSockaddr { Glibc.bind(descriptor, $0, $1) }
        if outcome < 0 { throw SystemError(call: "bind", code: clinux_errno()) }
    }

    public static func listen(_ descriptor: Int32, backlog: Int32) throws(SystemError) {
        if Glibc.listen(descriptor, backlog) < 0 { throw SystemError(call: "listen", code: clinux_errno()) }
    }

    /// Drops each packet that asks a listening socket for a connection; what has begun goes on. The filter sees packets from
    /// their TCP header on (RFC 9293, 3.1), where SYN is a bit of byte 13.
    static func dropOpenings(_ listener: Int32) throws(SystemError) {
        let loadByte = UInt16(BPF_LD | BPF_B | BPF_ABS)
        let jumpIfSet = UInt16(BPF_JMP | BPF_JSET | BPF_K)
        let finish = UInt16(BPF_RET | BPF_K)
        let program = [
            sock_filter(code: loadByte, jt: 0, jf: 0, k: 13),
            sock_filter(code: jumpIfSet, jt: 0, jf: 1, k: 2),
            sock_filter(code: finish, jt: 0, jf: 0, k: 0),
            sock_filter(code: finish, jt: 0, jf: 0, k: .max),
        ]
        if clinux_attach_filter(listener, program, UInt16(program.count)) < 0 {
            throw SystemError(call: "SO_ATTACH_FILTER", code: clinux_errno())
        }
    }

    /// Undoes `dropOpenings`.
    static func admitOpenings(_ listener: Int32) throws(SystemError) {
        try setOption(listener, SOL_SOCKET, SO_DETACH_FILTER, 0)
    }

    /// The port a socket is bound to; 0 when it isn't.
    public static func localPort(_ descriptor: Int32) -> UInt16 { localAddress(descriptor)?.port ?? 0 }

    /// Starts a non-blocking connect: 0 when done or under way, else errno.
    public static func connect(_ descriptor: Int32, _ address: SocketAddress) -> Int32 {
        let outcome = address.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        if outcome == 0 { return 0 }
        let code = clinux_errno()
        return code == EINPROGRESS ? 0 : code
    }

    /// Accepts one connection as non-blocking: its descriptor, or nil and errno (EAGAIN: none waiting).
    public static func accept(_ listener: Int32, _ peer: inout SocketAddress) -> (descriptor: Int32?, code: Int32) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let descriptor = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { clinux_accept_nonblocking(listener, $0, &length) }
        }
        if descriptor < 0 { return (nil, clinux_errno()) }
        peer = SocketAddress(storage)
        return (descriptor, 0)
    }

    /// Has the kernel acknowledge what comes without delay, until something is sent (TCP_QUICKACK, tcp(7)).
    static func acknowledgeAtOnce(_ descriptor: Int32) {
        var value: Int32 = 1
        _ = setsockopt(
            descriptor, Int32(IPPROTO_TCP), TCP_QUICKACK, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Half-closes the sending side.
    public static func shutdownWrite(_ descriptor: Int32) {
        _ = Glibc.shutdown(descriptor, Int32(SHUT_WR))
    }

    /// Bytes that were sent and that the peer hasn't acknowledged.
    static func unsentBytes(_ descriptor: Int32) -> Int32 { clinux_unsent_bytes(descriptor) }

    /// Lets a socket that somebody shut down or destroyed (SOCK_DESTROY) begin anew; it keeps its port. Without it
    /// whatever it accepts later would be shut down from the start.
    static func disconnect(_ descriptor: Int32) throws(SystemError) {
        var nowhere = sockaddr()
        nowhere.sa_family = sa_family_t(AF_UNSPEC)
        if Glibc.connect(descriptor, &nowhere, socklen_t(MemoryLayout<sockaddr>.size)) < 0 {
            throw SystemError(call: "connect", code: clinux_errno())
        }
    }

    /// Connections that wait at a listening socket to be accepted; nil when it doesn't listen any more.
    static func waitingClients(_ listener: Int32) -> Int? {
        let count = clinux_waiting_clients(listener)
        return count < 0 ? nil : Int(count)
    }

    /// Writes of this thread to a pipe without a reader fail from now on, instead of ending the process.
    static func blockBrokenPipes() {
        var mask = sigset_t()
        sigemptyset(&mask)
        sigaddset(&mask, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &mask, nil)
    }

    /// Has the kernel hold back the acknowledgement that would complete a coming connect, for as long as it holds back any
    /// (200 ms; TCP_QUICKACK, tcp(7)), or until something is sent.
    static func delayHandshake(_ descriptor: Int32) throws(SystemError) {
        try setOption(descriptor, Int32(IPPROTO_TCP), TCP_QUICKACK, 0)
    }

    /// Makes the coming close a reset, so that the peer can't take it for a regular end.
    public static func resetOnClose(_ descriptor: Int32) {
        var option = Glibc.linger(l_onoff: 1, l_linger: 0)
        _ = setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    /// The address a socket is bound to here; nil when it isn't.
    public static func localAddress(_ descriptor: Int32) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let outcome = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return outcome < 0 ? nil : SocketAddress(storage)
    }

    /// A non-blocking pipe with room for `bytes`, or for less when this process may not have that much.
    static func pipe(bytes: Int32) throws(SystemError) -> (reading: Int32, writing: Int32, bytes: Int32) {
        var ends: (Int32, Int32) = (-1, -1)
        let outcome = withUnsafeMutablePointer(to: &ends) {
            $0.withMemoryRebound(to: Int32.self, capacity: 2) { clinux_pipe_nonblocking($0) }
        }
        if outcome < 0 { throw SystemError(call: "pipe2", code: clinux_errno()) }
        return (ends.0, ends.1, clinux_set_pipe_size(ends.1, bytes))
    }

    /// Moves bytes between a pipe and a socket without copying them.
    static func splice(_ from: Int32, to: Int32, atMost count: Int, more: Bool = false) -> Transfer {
        transfer(clinux_splice(from, to, count, more ? 1 : 0))
    }

    /// Lifts this process's limit on open descriptors to what it may have at most.
    public static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    public static func close(_ descriptor: Int32) {
        _ = Glibc.close(descriptor)
    }

    /// An eventfd (non-blocking), for waking a reactor from another thread.
    public static func eventDescriptor() throws(SystemError) -> Int32 {
        let descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        if descriptor < 0 { throw SystemError(call: "eventfd", code: clinux_errno()) }
        return descriptor
    }

    /// Wakes whoever waits on an eventfd. Any thread.
    public static func signal(_ eventDescriptor: Int32) {
        _ = eventfd_write(eventDescriptor, 1)
    }

    /// Resets an eventfd after it woke us.
    public static func drain(_ eventDescriptor: Int32) {
        var value: UInt64 = 0
        _ = eventfd_read(eventDescriptor, &value)
    }

    /// Receives one datagram; `wouldBlock` when there is none. Longer ones are cut to the buffer.
    public static func receive(
        _ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer, from peer: inout SocketAddress
    ) -> Transfer {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let count = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, buffer.baseAddress, buffer.count, 0, $0, &length)
            }
        }
        let code = clinux_errno()
        if count >= 0 { peer = SocketAddress(storage) }
        // An empty datagram is a datagram, not an end.
        return count == 0 ? .moved(0) : transfer(count, code)
    }

    /// Sends one datagram.
    public static func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, to peer: SocketAddress) -> Transfer {
        let count = peer.withSockaddr {
            sendto(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL), $0, $1)
        }
        return transfer(count, clinux_errno())
    }
}
