// ProxySettings: what the data plane is told: frontends, backends, timeouts and limits.
// Plain values, filled in from the configuration. `DataPlane.apply` replaces them while it runs.

/// Everything `DataPlane` runs by.
public struct ProxySettings: Sendable, Equatable {
    /// Worker threads, 1 ... `ProxyLimits.workersMax`. As they were at start, whatever is applied later.
    public var workers: Int
    public var frontends: [FrontendSettings]
    public var backends: [BackendSettings]
    public var timeouts: ProxyTimeouts
    public var limits: ProxyLimits
    /// nil: requests aren't logged.
    public var accessLog: AccessLogSettings?

    public init(
        workers: Int = 1, frontends: [FrontendSettings], backends: [BackendSettings],
        timeouts: ProxyTimeouts = ProxyTimeouts(), limits: ProxyLimits = ProxyLimits(),
        accessLog: AccessLogSettings? = nil
    ) {
        self.workers = workers
        self.frontends = frontends
        self.backends = backends
        self.timeouts = timeouts
        self.limits = limits
        self.accessLog = accessLog
    }
}

/// An address that clients connect to.
public struct FrontendSettings: Sendable, Equatable {
    /// How bytes are forwarded.
    public enum Mode: Sendable, Equatable {
        /// HTTP/1.1, request by request.
        case http
        /// Bytes as they come, both ways, each connection to one server.
        case tcp
    }

    public var name: String
    /// `0.0.0.0` binds every IPv4 address; `::` binds every address of both families.
    /// An address that no interface has (yet) is bound all the same. Port 0 takes a free one (see `DataPlane.ports`).
    public var address: SocketAddress
    public var mode: Mode
    /// An index into `ProxySettings.backends`.
    public var backend: Int
    /// Which requests go to another one; the first that fits counts. None in TCP mode.
    public var routes: [RouteRule] = []
    /// How servers are told who the client is.
    public var forwarded = ForwardedStyle.x
    /// Who may say so instead: proxies in front of this one.
    public var trustedProxies: [Network] = []
    /// Response fields that clients don't get.
    public var hides = HiddenFields.all
    /// In place of our own texts, by status.
    public var errorPages: [ErrorPage] = []
    /// Clients in these networks begin each connection with a PROXY header, which names the client they speak for.
    public var acceptProxy: [Network]
    /// What one client may do; nil: as it likes.
    public var sources: SourceLimits?
    /// Connections, all workers together; beyond it accepting pauses, and clients wait in the kernel's queue. nil: any.
    public var connectionsMax: Int?

    public init(
        name: String, address: SocketAddress, mode: Mode = .http, backend: Int, acceptProxy: [Network] = [],
        sources: SourceLimits? = nil
    ) {
        self.name = name
        self.address = address
        self.mode = mode
        self.backend = backend
        self.acceptProxy = acceptProxy
        self.sources = sources
    }
}

/// A group of servers that are alike.
public struct BackendSettings: Sendable, Equatable {
    public var name: String
    public var balance: Balance
    /// Every connection to its servers begins with this header. It names one client, so no connection is kept for others.
    public var sendProxy: ProxyVersion?
    /// Requests of one worker that may wait while every server is full. Beyond it: 503, or a reset for TCP.
    public var queueMax = 1_024
    /// What `Balance.hash` goes by.
    public var hashOn = HashOn.source
    /// A server that came up has a tenth of its weight, and the whole of it after this time; 0: at once.
    public var slowStartMs = 0
    /// Keeps clients with the server that they had; nil: nothing does.
    public var stickCookie: StickCookie?
    /// When a server is set aside for its errors; nil: only for connections that fail, as always.
    public var outlier: OutlierSettings?
    public var retries = RetrySettings()
    /// A body of up to so many bytes, by its length, is kept so that an idempotent request can be sent again, in one of the
    /// worker's large buffers while one is free. 0: what fits one buffer with the head.
    public var replayBytesMax = 0

    public init(name: String, balance: Balance = .roundRobin, sendProxy: ProxyVersion? = nil) {
        self.name = name
        self.balance = balance
        self.sendProxy = sendProxy
    }
}

/// How many attempts on further servers a backend's requests may make.
public struct RetrySettings: Sendable, Equatable {
    /// For one request; nil: `ProxyLimits.retriesMax`.
    public var max: Int?
    /// All together, in percent of the backend's requests. Each worker counts for itself.
    public var budgetPercent = 20
    /// So many a second in any case, and ten times as many to begin with.
    public var perSecondMin = 3

    public init() {}
}

/// When a server is set aside on this node although its checks pass.
public struct OutlierSettings: Sendable, Equatable {
    /// Errors in a row: connections that fail, break or time out, malformed responses.
    public var errors: Int
    /// Responses of 500 and above are errors, too.
    public var countsStatus: Bool

    public init(errors: Int, countsStatus: Bool = false) {
        self.errors = errors
        self.countsStatus = countsStatus
    }
}

/// How a server is chosen for a request.
public enum Balance: Sendable, Equatable {
    /// Smooth weighted round robin.
    case roundRobin
    /// The fewest requests in flight in proportion to weight.
    case leastConnections
    /// Two are drawn by weight; the one with fewer requests in flight in proportion to weight.
    case random
    /// The same server for the same key, on every node.
    case hash
    /// The first in the table's order.
    case first
}

/// What of a request is the key of `Balance.hash`. Without a key (no such field, no such cookie) it is round robin's turn.
public enum HashOn: Sendable, Equatable, CustomStringConvertible {
    /// The client's address.
    case source
    /// The target's path, without its query.
    case uri
    /// A request field's value, by the field's name; the first line, if there are several.
    case header(String)
    /// A cookie's value, by its name.
    case cookie(String)

    /// As in the configuration: `header:X-User`.
    public var description: String {
        switch self {
        case .source: "source"
        case .uri: "uri"
        case .header(let name): "header:\(name)"
        case .cookie(let name): "cookie:\(name)"
        }
    }
}

/// Spans of silence after which the data plane gives up, in milliseconds, at least 1.
public struct ProxyTimeouts: Sendable, Equatable {
    /// A place at a server while all are full. Then 503, or a reset for TCP.
    public var queueMs = 5_000
    /// A server's answer to a connection attempt. Then another server is tried, or the client gets 504.
    public var connectMs = 1_000
    /// A whole request head, from its first byte (or from the connection's start). Then 408, or silence if no byte came.
    public var requestMs = 10_000
    /// A client that sends no more of a body, or takes no more of a response.
    public var clientMs = 30_000
    /// A server that sends nothing, or takes nothing. Then 504.
    public var serverMs = 30_000
    /// A client connection without a request.
    public var keepAliveMs = 60_000
    /// A TCP or upgraded (WebSocket) connection on which nothing moves.
    public var tunnelMs = 3_600_000
    /// The same when one side has ended its stream.
    public var halfClosedMs = 60_000

    public init() {}
}

/// The size of everything that can grow in the data plane, in one place.
public struct ProxyLimits: Sendable, Equatable {
    /// Bytes of a request or response head. At most `bufferBytes`. Beyond it: 414 or 431; 502 for a response.
    public var headBytesMax = 16 << 10
    /// Fields of a head. Beyond it: 431; 502 for a response.
    public var fieldsMax = 100
    /// Client connections of one worker. Beyond it accepting pauses. What it was at start, or `connectionPlacesMin` if that
    /// is more, is the most that can be applied later.
    public var connectionsMax = 20_000
    /// Attempts on further servers after the first.
    public var retriesMax = 2
    /// A pooled buffer; a connection has at most three of them, and none while it is idle. As it was at start, whatever is
    /// applied later.
    public var bufferBytes = 16 << 10
    /// Bytes a second, averaged over `minimumRateSpanMs`, that a client has to move while it is waited for within a request or
    /// response. Below it: 408, or the connection is cut. 0: any.
    public var minimumRate = 250
    public var minimumRateSpanMs = 20_000
    /// A request's body. Beyond it: 413.
    public var requestBodyBytesMax = UInt64.max
    /// Idle connections kept for one server by one worker.
    public var idlePerServerMax = 1_024
    /// How long an unused connection to a server is kept, in milliseconds.
    public var idleServerMs = 20_000
    /// While somebody waits for a place, how often to look for one, in milliseconds, should a wake have been lost.
    var queueTickMs = 20

    public init() {}

    /// The client connections of a worker that was started with these limits, at most.
    public var connectionPlaces: Int { min(max(connectionsMax, Self.connectionPlacesMin), 1 << 22) }

    /// Interim responses (1xx) to one request. Beyond it: 502.
    static let interimsMax = 32
    /// What a frontend's error page may have less than a buffer, for the head of its answer.
    public static let errorPageRoom = 1_024
    /// More than the cores of any machine this runs on.
    public static let workersMax = 256
    /// Servers known at one time, all backends together; their figures stay in stable places.
    public static let serversMax = 4_096
    /// Frontends and backends, with those that were removed and whose connections or requests haven't ended.
    public static let frontendsMax = 1_024
    public static let backendsMax = 1_024
    /// Of one frontend: each is looked at for a request that fits none.
    public static let routesMax = 256
    /// Client connections of one worker that there are places for at least: an unused one costs no memory.
    public static let connectionPlacesMin = 65_536
    /// A frontend that was removed listens for so long, in milliseconds: the kernel hands over a silent client after a
    /// second (TCP_DEFER_ACCEPT), and nobody whose connection was accepted is cut.
    static let leaveMs: UInt64 = 1_500
    /// Attempts of one request, whatever `retriesMax` says: a session remembers which servers it tried.
    static let attemptsMax = 8
    /// Large buffers of one worker, for bodies that outgrow `bufferBytes`; when all are taken, small ones serve.
    static let largeBuffersMax = 32
    static let largeBufferBytes = 256 << 10
    /// Pipes of one worker, each with room for `pipeBytes`, for long streams of tunnels; without one they are copied.
    static let pipesMax = 128
    static let pipeBytes = 256 << 10
    /// A pipe with less room isn't worth its calls.
    static let pipeBytesMin = 64 << 10
    /// After no pipe could be made, none is tried for so long, in milliseconds.
    static let pipePauseMs: UInt64 = 1_000
    /// A stream that comes in pieces smaller than this, so often in a row, is copied again.
    static let splicedBytesMin = 16 << 10
    static let smallPiecesMax = 4
    /// Content of a response is piped while so much of it is to come.
    static let pipedBodyBytesMin: UInt64 = 64 << 10
    /// Pieces that one direction of a tunnel moves before others get their turn.
    static let flowRoundsMax = 16
    /// Of one response before others get their turn.
    static let bytesPerTurn = 256 << 10
    /// Connections accepted in one go before others get their turn.
    static let acceptsPerTurnMax = 64
    /// How long accepting pauses when descriptors ran out, in milliseconds.
    static let acceptPauseMs: UInt64 = 100
    /// How long a new client may stay unregistered with the reactor: most short connections end before.
    static let unwatchedMs: UInt64 = 100
    /// So many of them; more are registered at once. Enough for 80,000 new clients a second.
    static let unwatchedMax = 16_384
    /// How long a refused client may go on sending before the connection is cut, in milliseconds (RFC 9112, 9.6).
    static let lingerMs: UInt64 = 1_000
    /// What a worker keeps of the access log until the log's thread takes it: about 15,000 lines.
    static let logRingBytes = 2 << 20
    /// Connections a frontend's listener may have waiting.
    static let backlog: Int32 = 4_096
}
