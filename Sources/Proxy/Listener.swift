// Listener: opens the listening sockets of a frontend, one per worker, and says what is wrong when it can't.
// Runs on the control thread, at start and when new settings are applied.

import CLinux
import Glibc

/// Why the data plane can't start or can't take over new settings, with the remedy.
public struct ProxyProblem: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}

/// A listening socket of one worker. Closed when nobody has it any more: the worker that accepts, settings on their way to
/// it, and the registry whose settings want it.
final class ListenerSocket: Sendable {
    let descriptor: Int32
    let port: UInt16

    fileprivate init(descriptor: Int32) {
        self.descriptor = descriptor
        port = System.localPort(descriptor)
    }

    deinit { System.close(descriptor) }

    /// Goes on for this frontend, which may be in another mode than the one before.
    func serve(_ frontend: FrontendSettings) {
        // What worked on this socket when it was opened works now; all it decides is how early a client is accepted.
        try? Listener.prepare(descriptor, frontend.mode)
        refuseNew(false)
    }

    /// Listens again: who may end connections may end a listening socket, too (`ss -K`). Its port is still its own.
    func listenAgain() -> Bool {
        do throws(SystemError) {
            try System.disconnect(descriptor)
            try System.listen(descriptor, backlog: ProxyLimits.backlog)
            return true
        } catch {
            return false
        }
    }

    /// Whether the kernel leaves new connections alone (as if their first packet were lost) and only completes those that
    /// have begun: closing a socket resets whoever is in its queue or on the way there.
    func refuseNew(_ refuses: Bool) {
        // Should it fail, the worst is what would happen without it: a reset when the socket closes.
        try? refuses ? System.dropOpenings(descriptor) : System.admitOpenings(descriptor)
    }
}

enum Listener {
    /// Opens `count` sockets that share the frontend's address; the kernel spreads connections over them.
    /// - Parameters:
    ///   - port: the frontend's, or what was chosen for 0.
    ///   - besideOurs: another socket of this process has the port, so it can't be told whether others have it, too.
    static func open(
        _ frontend: FrontendSettings, count: Int, port: UInt16, besideOurs: Bool
    ) throws(ProxyProblem) -> [ListenerSocket] {
        let wanted = usable(frontend.address)
        var address = SocketAddress(high: wanted.high, low: wanted.low, port: port, isIPv6: wanted.isIPv6)
        var sockets: [ListenerSocket] = []
        do throws(SystemError) {
            if !besideOurs { try refuseIfTaken(address) }
            for _ in 0..<count {
                let socket = ListenerSocket(descriptor: try bound(address, shared: true))
                try prepare(socket.descriptor, frontend.mode)
                try System.listen(socket.descriptor, backlog: ProxyLimits.backlog)
                sockets.append(socket)
                address = SocketAddress(
                    high: address.high, low: address.low, port: System.localPort(socket.descriptor),
                    isIPv6: address.isIPv6)
            }
        } catch {
            throw ProxyProblem(explain(error, frontend))
        }
        return sockets
    }

    /// Every address of both families, on a machine that has only IPv4, is every IPv4 address.
    private static func usable(_ address: SocketAddress) -> SocketAddress {
        guard address.isIPv6, address.isAny else { return address }
        guard let trial = try? System.socket(AF_INET6, SOCK_STREAM.rawValue) else {
            return SocketAddress(high: 0, low: 0, port: address.port, isIPv6: false)
        }
        System.close(trial)
        return address
    }

    /// SO_REUSEPORT would let us share the port with another process of ours (a second node by mistake) in silence:
    /// a plain bind tells.
    private static func refuseIfTaken(_ address: SocketAddress) throws(SystemError) {
        guard address.port != 0 else { return }
        System.close(try bound(address, shared: false))
    }

    private static func bound(_ address: SocketAddress, shared: Bool) throws(SystemError) -> Int32 {
        let descriptor = try System.socket(address.family, SOCK_STREAM.rawValue)
        do {
            // With it, the kernel may give the same free port to two sockets that don't listen yet.
            if address.port != 0 { try System.setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) }
            if shared { try System.setOption(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
            // The virtual address isn't on this machine until it is elected.
            if address.isIPv6 {
                try System.setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_FREEBIND, 1)
                try System.setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, address.isAny ? 0 : 1)
            } else {
                try System.setOption(descriptor, Int32(IPPROTO_IP), IP_FREEBIND, 1)
            }
            try System.bind(descriptor, address)
        } catch {
            System.close(descriptor)
            throw error
        }
        return descriptor
    }

    fileprivate static func prepare(_ descriptor: Int32, _ mode: FrontendSettings.Mode) throws(SystemError) {
        // Accepted sockets inherit it.
        try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        switch mode {
        case .http:
            // The client speaks first, so a connection is accepted with its request. The kernel hands over silent
            // ones after about this many seconds, so they come under our own timeouts.
            try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_DEFER_ACCEPT, 1)
        case .tcp:
            // The server may speak first. (The socket may have been one for HTTP.)
            try System.setOption(descriptor, Int32(IPPROTO_TCP), TCP_DEFER_ACCEPT, 0)
        }
    }

    private static func explain(_ error: SystemError, _ frontend: FrontendSettings) -> String {
        let place = "frontend \(frontend.name) (\(frontend.address))"
        switch error.code {
        case EADDRINUSE:
            return "\(place): port \(frontend.address.port) is in use; stop what listens there (ss -ltnp) "
                + "or give the frontend another port"
        case EACCES, EPERM:
            return "\(place): no permission for port \(frontend.address.port); run as root, grant CAP_NET_BIND_SERVICE "
                + "or use a port above 1023"
        case EAFNOSUPPORT:
            return "\(place): this machine has no IPv6; give the frontend an IPv4 address"
        case EMFILE, ENFILE:
            return "\(place): out of file descriptors; raise the limit (ulimit -n)"
        default:
            return "\(place): \(error)"
        }
    }
}

extension SocketAddress {
    /// `0.0.0.0` or `::`.
    var isAny: Bool { high == 0 && low == 0 }
}
