// ConfigurationDigest: what tells whether two nodes read the same file, and if not, in which sections it differs.
//
// Each section is written as bytes (an encoding of this version's own: a field added to it changes the digest), and
// SHA-256 makes a short number of them. Secrets never go in, nor what belongs to one machine.

import Gossip

extension Configuration {
    /// The sections of the file that must be the same on every node, as the file calls them. Nodes send their digests in
    /// this order: add new ones at the end.
    enum Section: String, CaseIterable, Sendable {
        case cluster, nodes, vip, gossip, status, frontends, backends, leadership, timeouts, limits, notify
    }

    mutating func setDigests() {
        sectionDigests = Section.allCases.map { section in
            SHA256.digest(bytes(of: section)).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
        }
        setWholeDigest()
    }

    /// A node that reloaded runs by the new file, but for the sections in which something waits for a restart: others must
    /// see that these differ.
    mutating func adoptDigests(of fresh: Configuration, without waiting: [Section]) {
        for (place, section) in Section.allCases.enumerated() where !waiting.contains(section) {
            sectionDigests[place] = fresh.sectionDigests[place]
        }
        setWholeDigest()
    }

    private mutating func setWholeDigest() {
        let bytes = sectionDigests.flatMap {
            [UInt8($0 >> 24), UInt8($0 >> 16 & 255), UInt8($0 >> 8 & 255), UInt8($0 & 255)]
        }
        digest = SHA256.digest(bytes).prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// The sections in which another node's file differs, by what it told; empty when it told nothing yet. A node of
    /// another version may know fewer or more sections than this one: those both know are compared.
    func sectionsDiffering(from other: [UInt32]) -> [Section] {
        zip(Section.allCases, zip(sectionDigests, other)).filter { $0.1.0 != $0.1.1 }.map(\.0)
    }

    private func bytes(of section: Section) -> [UInt8] {
        var writer = ByteWriter(reserving: 256)
        switch section {
        case .cluster: writer.string(cluster)
        case .nodes:
            for node in nodes {
                writer.string(node.id)
                writer.string(node.address)
                for number in [node.priority, Int(node.gossipPort), Int(node.statusPort)] { writer.varint(number) }
            }
        case .vip:
            for vip in vips { [vip.address, vip.interface].forEach { writer.string($0) } }
            writer.string(fencing.rawValue)
        case .gossip:
            writer.varint(Int(gossip.port))
            [gossip.heartbeat, gossip.lease, gossip.electionTimeoutMin, gossip.electionTimeoutMax].forEach {
                writer.nanoseconds($0)
            }
        case .status:
            writer.varint(Int(status.port))
            writer.optional(status.address)
        case .frontends: writeFrontends(to: &writer)
        case .backends: for backend in backends { backend.write(to: &writer) }
        case .leadership:
            [leadership.fitnessHold, leadership.preemptHold].forEach { writer.nanoseconds($0) }
            writer.optional(leadership.gateway)
        case .timeouts:
            [timeouts.connect, timeouts.request, timeouts.client].forEach { writer.nanoseconds($0) }
            [timeouts.server, timeouts.keepAlive, timeouts.drain].forEach { writer.nanoseconds($0) }
            [timeouts.tunnel, timeouts.halfClosed, timeouts.queue].forEach { writer.nanoseconds($0) }
        case .limits:
            let bounds = [limits.requestHead, limits.headers, limits.connections, limits.retries, limits.buffer]
            bounds.forEach { writer.varint($0) }
            writer.varint(limits.minimumRate)
            writer.optional(limits.requestBody.map { String($0) })
        case .notify: notify?.write(to: &writer)
        }
        return writer.bytes
    }

    private func writeFrontends(to writer: inout ByteWriter) {
        for frontend in frontends {
            writer.string(frontend.name)
            writer.optional(frontend.address)
            writer.varint(Int(frontend.port))
            writer.string(frontend.mode.rawValue)
            writer.varint(frontend.acceptProxy.count)
            for block in frontend.acceptProxy { writer.string(block.description) }
            frontend.perSource?.write(to: &writer)
            frontend.clients.write(to: &writer)
            writer.varint(frontend.maxConnections ?? 0)
            // By name: another backend before it is no change of this section. (A file with errors may have none.)
            writer.string(backendName(frontend.backend))
            writer.varint(frontend.routes.count)
            for route in frontend.routes {
                writer.optional(route.host)
                writer.optional(route.path)
                writer.string(backendName(route.backend))
            }
        }
    }

    private func backendName(_ index: Int) -> String { backends.indices.contains(index) ? backends[index].name : "" }
}

extension Configuration.PerSource {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.optional(connections.map { String($0) })
        writer.optional(connectionRate?.description)
        writer.optional(requestRate?.description)
        writer.varint(prefixV6)
        writer.varint(exemptSources.count)
        for block in exemptSources { writer.string(block.description) }
    }
}

extension Configuration.Backend {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.string(name)
        writer.string(balance.rawValue)
        balancing.write(to: &writer)
        writer.optional(sendProxy?.rawValue)
        switch check.kind {
        case .tcp: writer.byte(0)
        case .http(let check):
            writer.byte(1)
            [check.method, check.path].forEach { writer.string($0) }
            writer.optional(check.host)
            writer.string(check.expect.description)
            writer.optional(check.expectBody)
            writer.flag(check.sameContent)
        case .icmp: writer.byte(2)
        }
        for span in [check.interval, check.timeout] { writer.nanoseconds(span) }
        for count in [check.rise, check.fall, servers.count] { writer.varint(count) }
        for server in servers {
            writer.string(server.id)
            writer.string(server.address.description)
            writer.varint(server.weight)
            writer.varint(server.maxConnections ?? 0)
            writer.flag(server.isBackup)
        }
        capacity.write(to: &writer)
        resilience.write(to: &writer)
        // Nothing without them: then nodes of an earlier version have the same digest.
        autoscale?.write(to: &writer)
        stickCookie?.write(to: &writer)
    }
}

extension ByteWriter {
    fileprivate mutating func nanoseconds(_ span: Duration) { varint(UInt64(max(0, span.nanoseconds))) }

    fileprivate mutating func optional(_ text: String?) {
        flag(text != nil)
        string(text ?? "")
    }
}
