// Configuration: what the file says, as plain values with every default filled in and every rule already checked.
//
// ConfigurationReader.swift makes one from a file or says all that is wrong with it; nothing else should make one
// outside tests. A value of this type is immutable once made, belongs to no thread and is handed around freely.
// Secrets (keys, token, password) are part of the value, and never part of `digest` or of a description.

import Proxy

struct Configuration: Sendable, Equatable {
    /// Where it was read from, for messages.
    var file: String
    var cluster: String
    /// Sorted by id, so that a node's place here is its `MemberID`. An odd number, at most `Limits.membersMax`.
    var nodes: [NodeEntry]
    /// Empty when this cluster owns no address.
    var vips: [VIP]
    var fencing: Fencing
    var gossip: GossipSection
    var status: StatusSection
    /// Absolute path of the directory that holds this node's term, vote, log and snapshot.
    var data: String
    var frontends: [Frontend]
    var backends: [Backend]
    var leadership: LeadershipSection
    /// Data-plane threads; nil: one for each core.
    var workers: Int?
    var timeouts: Timeouts
    var limits: Bounds
    var log: LogSection
    /// The command that hears of events; nil: none.
    var notify: NotifySection?
    /// 16 hex digits of a SHA-256 over the content, the same on nodes that read the same file. Comments,
    /// spacing, key order, secrets and what belongs to one machine (`data`, `workers`) don't count.
    var digest: String
    /// The same for each section, in the order of `Section`; tells nodes what differs between their files.
    var sectionDigests: [UInt32]
}

extension Configuration {
    /// One machine of the cluster.
    struct NodeEntry: Sendable, Equatable {
        var id: String
        /// IP address that gossip and status bind and peers send to.
        var address: String
        /// Preference for leadership; 0 (the default) for none.
        var priority: Int
        var gossipPort: UInt16
        var statusPort: UInt16

        /// Where its peers send gossip; nil never happens for a checked configuration.
        var gossipAddress: SocketAddress? { SocketAddress(address: address, port: gossipPort) }
    }

    /// One address that the leader owns.
    struct VIP: Sendable, Equatable {
        /// Without the prefix: `10.0.0.100`.
        var host: String
        var prefix: Int
        var interface: String
        var isIPv6: Bool

        /// As in the file and the status: `10.0.0.100/32`.
        var address: String { "\(host)/\(prefix)" }
    }

    /// How much a new leader trusts that the old owner has let go (DESIGN.md, 2.3).
    enum Fencing: String, Sendable, Equatable, CaseIterable {
        case auto, gate, wait, trust
    }

    struct GossipSection: Sendable, Equatable {
        var port: UInt16
        /// 32 bytes each: the first signs, all verify. Empty only for a cluster of one.
        var keys: [[UInt8]]
        var heartbeat: Duration
        var lease: Duration
        var electionTimeoutMin: Duration
        var electionTimeoutMax: Duration
    }

    /// When a leader gives up the lead although nothing forces it to (DESIGN.md, 2.5).
    struct LeadershipSection: Sendable, Equatable {
        /// How long a follower must have been strictly fitter.
        var fitnessHold: Duration = .milliseconds(1500)
        /// How long an equally fit node of higher priority must have been there.
        var preemptHold: Duration = .seconds(10)
        /// An address that a fit node reaches; nil: none is asked.
        var gateway: String?
    }

    struct StatusSection: Sendable, Equatable {
        var port: UInt16
        /// The one IP address to listen on; nil: the node's own and 127.0.0.1.
        var address: String?
        /// What admin requests must carry; nil: admin requests are refused.
        var token: String?
        /// Basic authentication for reading; both or neither.
        var user: String?
        var password: String?
    }

    struct Frontend: Sendable, Equatable {
        var name: String
        /// The one IP address to bind; nil: every address of this machine.
        var address: String?
        var port: UInt16
        var mode: Mode
        /// Index into `backends`.
        var backend: Int
        /// Which requests go to another backend, in the order in which they are asked. Only for `http`.
        var routes: [Route] = []

        /// Networks whose connections begin with a PROXY header.
        var acceptProxy: [AddressBlock] = []
        /// What each client may do; nil: as it likes.
        var perSource: PerSource?
        /// Only for `http`.
        var clients = Clients()
        /// Clients, all workers of a node together; nil: any number.
        var maxConnections: Int?

        enum Mode: String, Sendable, Equatable, CaseIterable { case http, tcp }
    }

    struct Backend: Sendable, Equatable {
        var name: String
        var balance: Balance
        var balancing = Balancing()
        var check: Check
        var servers: [Server]
        /// The PROXY header that every connection to a server begins with.
        var sendProxy: ProxyHeaderVersion?
        var capacity = Capacity()
        var resilience = Resilience()
        /// How many servers it should have; nil: as many as it has.
        var autoscale: ScalingRules?
        /// Only for HTTP frontends. nil: nothing keeps clients with their servers.
        var stickCookie: StickCookie?
    }

    struct Check: Sendable, Equatable {
        var kind: Kind
        var interval: Duration
        var timeout: Duration
        /// Successes in a row that make a server up.
        var rise: Int
        /// Failures in a row that make it down.
        var fall: Int

        enum Kind: Sendable, Equatable {
            /// A connection that opens is a success.
            case tcp
            case http(HTTPCheck)
            /// An ICMP echo that is answered is a success.
            case icmp
        }
    }

    struct Server: Sendable, Equatable {
        var id: String
        var address: SocketAddress
        /// 0…256; 0 means no new request.
        var weight: Int
        /// In its backend's place.
        var maxConnections: Int?
        /// Gets requests only while no other server of its backend is usable.
        var isBackup = false
    }

    struct Timeouts: Sendable, Equatable {
        /// A server has a place for a request.
        var queue: Duration = .seconds(5)
        /// A connection to a server opens.
        var connect: Duration = .seconds(1)
        /// A whole request head arrives.
        var request: Duration = .seconds(10)
        /// A client is silent in the middle of a body, or doesn't read its response.
        var client: Duration = .seconds(30)
        /// A server is silent while we wait for it.
        var server: Duration = .seconds(30)
        /// A client's idle connection is kept.
        var keepAlive: Duration = .seconds(60)
        /// Nothing moves on a TCP or upgraded connection.
        var tunnel: Duration = .seconds(3600)
        /// The same when one side has ended its stream.
        var halfClosed: Duration = .seconds(60)
        /// What is in flight may finish at a hand-over or stop.
        var drain: Duration = .seconds(5)
        /// What a hand-over may wait for, and whoever asked for it.
        static let drainMax = Duration.seconds(3600)
    }

    struct Bounds: Sendable, Equatable {
        /// Bytes of a request's or response's head.
        var requestHead = 16 << 10
        /// Header lines in a head.
        var headers = 100
        /// Client connections of one worker.
        var connections = 20_000
        /// Other servers tried for one request.
        var retries = 2
        /// Bytes of one I/O buffer.
        var buffer = 16 << 10
        /// Bytes of a request's body; nil: any number.
        var requestBody: Int?
        /// Bytes a second that a client has to move while it is waited for; 0: any.
        var minimumRate = 250
    }

    struct LogSection: Sendable, Equatable {
        var level: Level = .info
        var format = Format.text
        /// nil: requests aren't logged.
        var access: AccessLogSection?

        /// Of the node's own log.
        enum Format: String, Sendable, Equatable, CaseIterable { case text, json }

        enum Level: String, Sendable, Equatable, CaseIterable, Comparable {
            case debug, info, warning, error

            static func < (left: Level, right: Level) -> Bool { left.rank < right.rank }

            private var rank: Int {
                switch self {
                case .debug: 0
                case .info: 1
                case .warning: 2
                case .error: 3
                }
            }
        }
    }

    /// The node with this id and its place (its `MemberID.index`).
    func place(of id: String) -> Int? { nodes.firstIndex { $0.id == id } }
}

/// One thing that is wrong with a configuration, with its place in the file and what would be right.
struct ConfigurationProblem: Error, Sendable, Equatable, CustomStringConvertible {
    var file: String
    /// nil when the file itself is the problem.
    var position: JSON5.Position?
    /// As in `backends[0].servers[1].weight`; empty for the file as a whole.
    var path: String
    /// What is wrong; what would be right.
    var text: String

    var description: String {
        var place = file
        if let position { place += ":\(position.line):\(position.column)" }
        return path.isEmpty ? "\(place): \(text)" : "\(place): \(path): \(text)"
    }
}

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
struct ConfigurationProblems: Error, Sendable, Equatable, CustomStringConvertible {
    var all: [ConfigurationProblem]

    var description: String { all.map(\.description).joined(separator: "\n") }
}
