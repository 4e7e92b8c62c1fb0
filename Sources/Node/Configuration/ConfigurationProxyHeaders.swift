// ConfigurationProxyHeaders: who sends PROXY headers to a frontend, which header a backend's servers get, and lists of networks.

import Proxy

extension Configuration {
    /// A range of addresses, such as `10.0.0.0/8`; one address alone has all of its bits.
    struct AddressBlock: Sendable, Equatable, CustomStringConvertible {
        var address: SocketAddress
        var prefix: Int

        var description: String { "\(address.host)/\(prefix)" }
        var network: Network { Network(address, prefix: prefix) }
    }

    enum ProxyHeaderVersion: String, Sendable, Equatable, CaseIterable {
        case v1, v2

        var version: ProxyVersion { self == .v1 ? .v1 : .v2 }
    }
}

extension ConfigurationReader {
    /// Networks whose connections begin with a PROXY header.
    mutating func acceptProxy(_ place: Placed?) -> [Configuration.AddressBlock] {
        guard let place else { return [] }
        let example = "acceptProxy: [\"10.0.0.0/8\"]"
        let blocks = addressBlocks(place, "the networks of the proxies that send a PROXY header: \(example)")
        if case .array(let values) = place.value.content, values.isEmpty {
            report.add(place, "is empty, so nobody's header would be read; leave it out, or name networks: \(example)")
        }
        return blocks
    }

    mutating func sendProxy(_ place: Placed?) -> Configuration.ProxyHeaderVersion? {
        place?.choice(Configuration.ProxyHeaderVersion.self, "PROXY header", &report)
    }

    /// A list of networks and addresses.
    mutating func addressBlocks(_ place: Placed, _ what: String) -> [Configuration.AddressBlock] {
        guard let elements = place.elements(what, &report) else { return [] }
        if elements.count > Bound.networks {
            report.add(place, "\(elements.count) networks; at most \(Bound.networks)")
        }
        return elements.compactMap { addressBlock($0) }
    }

    private mutating func addressBlock(_ place: Placed) -> Configuration.AddressBlock? {
        guard let text = place.string("a network, such as \"10.0.0.0/8\", or an address", &report) else { return nil }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = SocketAddress(address: String(parts[0]), port: 0) else {
            report.add(place, "\(place.shown) is no network; write it as \"10.0.0.0/8\" or \"2001:db8::/32\"")
            return nil
        }
        let longest = address.isIPv6 ? 128 : 32
        guard parts.count == 2 else { return Configuration.AddressBlock(address: address, prefix: longest) }
        guard let prefix = Int(parts[1]), (0...longest).contains(prefix), String(prefix) == parts[1] else {
            report.add(place, "the prefix /\(parts[1].printable) is not a number from 0 to \(longest)")
            return nil
        }
        let first = Network.first(of: address, prefix: prefix)
        guard first == address else {
            report.add(
                place,
                "\(address.host) isn't the first address of a /\(prefix) network; did you mean \"\(first.host)/\(prefix)\"?"
            )
            return nil
        }
        return Configuration.AddressBlock(address: address, prefix: prefix)
    }
}
