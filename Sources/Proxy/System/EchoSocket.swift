// EchoSocket: a socket for ICMP echoes, of whichever kind this process may have.
//
// The kernel's echo sockets (SOCK_DGRAM) need no privilege but a group in net.ipv4.ping_group_range, which is nobody's by
// default; raw ones need CAP_NET_RAW. Both are connected, and so hear one address only.

import CLinux
import Glibc

public struct EchoSocket: Sendable {
    /// What to do about a process that may have neither kind.
    public static let remedy =
        "give the process CAP_NET_RAW, or include its group in the sysctl net.ipv4.ping_group_range"
    private static let datagramBytesMax = 256

    /// Non-blocking; readable when something came.
    public let descriptor: Int32
    public let form: EchoForm

    /// - Parameter source: the address to send from, where it is of this family and this machine's; the kernel chooses otherwise.
    /// - Throws: when this process may have no such socket (see `remedy`), or has no descriptor for it.
    public init(isIPv6: Bool, source: SocketAddress? = nil) throws(SystemError) {
        let (domain, proto) = (isIPv6 ? AF_INET6 : AF_INET, Int32(isIPv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
        let any = SocketAddress(high: 0, low: 0, port: 0, isIPv6: isIPv6)
        var wanted = any
        if let source, source.isIPv6 == isIPv6 {
            wanted = SocketAddress(high: source.high, low: source.low, port: 0, isIPv6: isIPv6)
        }
        var isRaw = false
        do throws(SystemError) {
            descriptor = try System.socket(domain, SOCK_DGRAM.rawValue, proto)
        } catch {
            descriptor = try System.socket(domain, SOCK_RAW.rawValue, proto)
            isRaw = true
        }
        do throws(SystemError) {
            do throws(SystemError) {
                try System.bind(descriptor, wanted)
            } catch {
                try System.bind(descriptor, any)
            }
        } catch {
            System.close(descriptor)
            throw error
        }
        // An echo socket's port is the identifier that the kernel puts into its echoes.
        let identifier = isRaw ? UInt16.random(in: 0...(.max)) : System.localPort(descriptor)
        form = EchoForm(isIPv6: isIPv6, isRaw: isRaw, identifier: identifier)
    }

    public func close() { System.close(descriptor) }

    /// 0, or why there is no way to this address (errno).
    public func connect(_ address: SocketAddress) -> Int32 { System.connect(descriptor, address) }

    public func send(_ echo: Echo) -> Transfer { System.write(descriptor, echo.bytes, from: 0) }

    /// One datagram that came, cut to more than an answer of ours has.
    public func receive(into datagram: inout [UInt8]) -> Transfer {
        System.receive(descriptor, into: &datagram, atMost: Self.datagramBytesMax)
    }
}
