// Runtime+Reload: SIGHUP. The file is read again; what a running process can change, it changes, without dropping a
// connection, and of the rest it says what waits for a restart.
//
// All or nothing: the data plane comes first, since a port that can't be had is found out there, and a file that can't be
// served changes nothing at all. Whatever isn't listed in `takeOver` follows the file.

import Gossip
import Proxy

extension Runtime {
    /// Reads the file again, in the background.
    func reload(now: Instant) {
        service.reloading()
        do {
            try loader.begin(configuration.file)
        } catch {
            refuseReload("the file can't be read now: \(error)")
        }
    }

    /// The file has been read.
    func applyReload(now: Instant) {
        guard let (outcome, isStale) = loader.take() else { return }
        if isStale { return reload(now: now) }
        switch outcome {
        case .failure(let problems): refuseReload("the file is not valid: \(problems)")
        case .success(let fresh): apply(fresh, now: now)
        }
    }

    private func refuseReload(_ reason: String) {
        reloadProblem = reason
        log.add(.reload, "nothing changed, \(reason)", level: .error)
        service.ready()
    }

    private func apply(_ fresh: Configuration, now: Instant) {
        let before = configuration
        var after = configuration
        after.takeOver(fresh, connectionsMax: dataPlane.connectionPlaces)
        // Cookies are made with them, too.
        if takesKeys(of: fresh) { after.gossip.keys = fresh.gossip.keys }
        let freshServers = ServerList(configuration: after, table: core.table)
        let held = heldServers
        heldServers.begin(from: before, to: after, routes: routes)
        let table = freshRoutes(of: freshServers)
        do throws(ProxyProblem) {
            try dataPlane.apply(after.proxySettings(workers: dataPlane.workers), table)
        } catch {
            heldServers = held
            return refuseReload("\(error)")
        }
        (routes, servers, staleServers) = (table, freshServers, .all)
        rekey(fresh)
        readdress(fresh)
        after.nodes = configuration.nodes
        after.gossip.keys = configuration.gossip.keys
        awaitsRestart = after.whatNeedsRestart(comparedTo: fresh)
        reloadProblem = nil
        after.adoptDigests(of: fresh, without: Configuration.sections(named: awaitsRestart))
        configuration = after
        fence?.reconfigure(members: configuration.gossipAddresses, keys: configuration.gossip.keys)
        if before.leadership.gateway != after.leadership.gateway { openGateway(now: now) }
        tryEchoes()
        log.level = after.log.level
        log.format = after.log.format
        status.access = StatusAccess(
            token: after.status.token, user: after.status.user, password: after.status.password)
        feed(
            .reconfigured(
                servers: configuration.serverIDs, digest: UInt64(configuration.digest, radix: 16) ?? 0,
                sections: configuration.sectionDigests, leadership: configuration.leadershipRules),
            now: now)
        let rest =
            awaitsRestart.isEmpty
            ? "" : "; changed too, but only after a restart: \(awaitsRestart.joined(separator: ", "))"
        log.add(.reload, before.changes(to: after) + rest)
        service.ready()
    }

    /// Gossip goes on with the new keys from here on: none of it is lost as long as each node knows what the others sign with.
    private func rekey(_ fresh: Configuration) {
        let keys = fresh.gossip.keys
        guard takesKeys(of: fresh) else { return }
        configuration.gossip.keys = keys
        gossip.use(keys: keys)
        log.add(.reload, "gossip is signed with the first of \(keys.count) keys now")
    }

    private func takesKeys(of fresh: Configuration) -> Bool {
        let keys = fresh.gossip.keys
        return keys != configuration.gossip.keys && (!keys.isEmpty || configuration.nodes.count == 1)
    }

    /// Another node has moved to another machine: from now on gossip goes there, and is heard from there. (That it is the
    /// same node, its id and the key tell.) This node's own entry needs a restart, as do nodes that come or go.
    private func readdress(_ fresh: Configuration) {
        guard configuration.nodes.map(\.id) == fresh.nodes.map(\.id),
            configuration.nodes[me.index] == fresh.nodes[me.index]
        else { return }
        do throws(SystemError) {
            if configuration.gossipAddresses != fresh.gossipAddresses { try gossip.readdress(fresh.gossipAddresses) }
            configuration.nodes = fresh.nodes
        } catch {
            log.log(.error, "the nodes' new addresses can't be used before a restart: \(error)")
        }
    }
}

extension Configuration {
    /// Becomes `fresh`, but for what a process has for life.
    /// - Parameter connectionsMax: what `limits.connections` can grow to.
    mutating func takeOver(_ fresh: Configuration, connectionsMax: Int) {
        var taken = fresh
        taken.cluster = cluster
        taken.nodes = nodes
        taken.vips = vips
        taken.fencing = fencing
        taken.gossip = gossip
        taken.status.port = status.port
        taken.status.address = status.address
        taken.data = data
        taken.workers = workers
        taken.limits.buffer = limits.buffer
        taken.limits.connections = min(fresh.limits.connections, connectionsMax)
        taken.digest = digest
        taken.sectionDigests = sectionDigests
        self = taken
    }

    /// What of `fresh` this configuration, which took it over as far as that goes, doesn't have, as paths in the file.
    func whatNeedsRestart(comparedTo fresh: Configuration) -> [String] {
        var changed = cluster == fresh.cluster ? [] : ["cluster"]
        changed += nodesThatNeedRestart(comparedTo: fresh)
        func note<Value: Equatable>(_ path: String, _ value: KeyPath<Configuration, Value>) {
            if self[keyPath: value] != fresh[keyPath: value] { changed.append(path) }
        }
        note("vip", \.vips)
        note("vip.fencing", \.fencing)
        note("gossip.port", \.gossip.port)
        note("gossip.keyFile", \.gossip.keys)
        note("gossip.heartbeat", \.gossip.heartbeat)
        note("gossip.lease", \.gossip.lease)
        if (gossip.electionTimeoutMin, gossip.electionTimeoutMax)
            != (fresh.gossip.electionTimeoutMin, fresh.gossip.electionTimeoutMax)
        {
            changed.append("gossip.electionTimeout")
        }
        note("status.port", \.status.port)
        note("status.address", \.status.address)
        note("data", \.data)
        note("workers", \.workers)
        note("limits.buffer", \.limits.buffer)
        note("limits.connections (above \(limits.connections))", \.limits.connections)
        return changed
    }

    private func nodesThatNeedRestart(comparedTo fresh: Configuration) -> [String] {
        let (old, new) = (nodes.map(\.id), fresh.nodes.map(\.id))
        guard old == new else {
            let parts =
                new.filter { !old.contains($0) }.map { "+\($0)" } + old.filter { !new.contains($0) }.map { "-\($0)" }
            return ["nodes (\(parts.joined(separator: " ")))"]
        }
        return zip(nodes, fresh.nodes).filter { $0 != $1 }.map { "nodes[\($0.0.id)]" }
    }

    /// Those that the paths belong to: `limits` for `limits.buffer`.
    static func sections(named paths: [String]) -> [Section] {
        paths.compactMap { Section(rawValue: String($0.prefix { $0 != "[" && $0 != "." && $0 != " " })) }
    }
}
