// FencePreflight: what would keep the fence from owning the configured VIPs on this machine, found before a node starts.
//
// It changes nothing and starts nothing. Whoever starts a node prints each problem and ends with exit code 1 if one of
// them is fatal. Any thread; it reads a few files of /proc and asks the kernel a few questions.

import CLinux
import Glibc
import Proxy

enum FencePreflight {
    struct Problem: Equatable, Sendable {
        /// What is wrong, and what would put it right.
        let text: String
        /// Without it the VIP can't be owned; otherwise it is only slower or will have to be put right later.
        let isFatal: Bool
    }

    /// Everything that is wrong; none when `vips` is empty.
    /// - Parameter searchPath: PATH, unless a test says otherwise.
    static func check(
        vips: [FenceAddress], gate: GateUse, searchPath: String = FenceSystem.searchPath
    ) -> [Problem] {
        if vips.isEmpty { return [] }
        var problems: [Problem] = []
        if FenceSystem.find("ip", in: searchPath) == nil {
            problems.append(
                Problem(
                    text:
                        "no ip on PATH, which moves the VIP: install iproute2, or add its directory (often /usr/sbin) "
                        + "to PATH",
                    isFatal: true))
        }
        if gate != .never, FenceSystem.find("nft", in: searchPath) == nil {
            let text =
                gate == .required
                ? "no nft on PATH, which fencing \"gate\" needs: install nftables"
                : "no nft on PATH: the VIP of a node that crashes moves about 1.3 s later than with it: install nftables"
            problems.append(Problem(text: text, isFatal: gate == .required))
        }
        problems += permissions()
        for vip in vips { problems += interface(of: vip) }
        return problems
    }

    private static func permissions() -> [Problem] {
        var problems: [Problem] = []
        do throws(SystemError) {
            var watch = try AddressWatch()
            if !watch.mayChangeAddresses() {
                problems.append(
                    Problem(
                        text: "the VIP can't be moved without CAP_NET_ADMIN: run as root, or with "
                            + "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE in a systemd unit, or with "
                            + "cap_add: [NET_ADMIN, NET_RAW] in a container",
                        isFatal: true))
            }
        } catch {
            problems.append(
                Problem(text: "the kernel's addresses can't be watched: \(error); AF_NETLINK is needed", isFatal: true))
        }
        if (try? Announcer()) == nil {
            problems.append(
                Problem(
                    text:
                        "the VIP can't be announced to neighbours without CAP_NET_RAW, so they may take up to a minute "
                        + "to follow it: add it to the process's capabilities",
                    isFatal: false))
        }
        return problems
    }

    private static func interface(of vip: FenceAddress) -> [Problem] {
        guard let interface = FenceSystem.interface(vip.interface) else {
            let names = FenceSystem.interfaceNames().joined(separator: ", ")
            return [
                Problem(
                    text: "vip \(vip.text): there is no interface \"\(vip.interface)\"; this machine has \(names)",
                    isFatal: true)
            ]
        }
        var problems: [Problem] = []
        if interface.up == 0 {
            problems.append(
                Problem(
                    text: "vip \(vip.text): interface \(vip.interface) is down: ip link set \(vip.interface) up",
                    isFatal: false))
        }
        if vip.address.isIPv6, lacksIPv6(vip.interface) {
            problems.append(
                Problem(
                    text: "vip \(vip.text): IPv6 is off on \(vip.interface): "
                        + "sysctl -w net.ipv6.conf.\(vip.interface).disable_ipv6=0",
                    isFatal: true))
        }
        return problems
    }

    private static func lacksIPv6(_ interface: String) -> Bool {
        let descriptor = open("/proc/sys/net/ipv6/conf/\(interface)/disable_ipv6", O_RDONLY | O_CLOEXEC)
        // No such file: a kernel without IPv6.
        if descriptor < 0 { return clinux_errno() == ENOENT }
        defer { System.close(descriptor) }
        var bytes: [UInt8] = [0]
        return read(descriptor, &bytes, 1) == 1 && bytes[0] == UInt8(ascii: "1")
    }
}
