// RoutingTable: which servers may get requests now: an immutable snapshot, handed to every worker.
// Made on the control thread whenever the backend table, a verdict or the node's own view changes.

/// The servers of every backend.
public struct RoutingTable: Sendable, Equatable {
    /// Counts up; workers take a table only when it is newer than theirs.
    public var version: UInt64
    public var backends: [BackendRoutes]

    public init(version: UInt64, backends: [BackendRoutes]) {
        self.version = version
        self.backends = backends
    }
}

/// The servers of one backend, in the same order on every node. Named, since tables and settings change at different times: a table may speak of backends
/// that the settings no longer have (then that part counts for nothing), and a number could mean two of them.
public struct BackendRoutes: Sendable, Equatable {
    public var name: String
    public var servers: [ServerRoute]

    public init(name: String, servers: [ServerRoute]) {
        self.name = name
        self.servers = servers
    }
}

/// One server as the data plane sees it.
public struct ServerRoute: Sendable, Equatable {
    /// Unique, `backend/server`: figures are kept under it.
    public var id: String
    public var address: SocketAddress
    /// 0 ... 256; 0 gets no new requests.
    public var weight: Int
    /// Verdict up, admin state ready, and this node's own view not down. When false, no new requests go to it,
    /// idle connections to it are closed, and requests in flight are left to end.
    public var usable: Bool
    /// Gets requests only while no other server of its backend is usable.
    public var isBackup: Bool
    /// When it came up, milliseconds since 1970, as the nodes agreed; 0: not known. For slow start.
    public var upSinceMs: Int64
    /// Requests in flight (TCP: connections) from this node; 0: any number. Beyond it requests wait.
    public var connectionsMax: Int

    public init(
        id: String, address: SocketAddress, weight: Int = 1, usable: Bool = true, isBackup: Bool = false,
        upSinceMs: Int64 = 0, connectionsMax: Int = 0
    ) {
        self.id = id
        self.address = address
        self.weight = weight
        self.usable = usable
        self.isBackup = isBackup
        self.upSinceMs = upSinceMs
        self.connectionsMax = connectionsMax
    }
}
