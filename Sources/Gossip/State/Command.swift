// Command: what the replicated log carries, and the log entry around it.
//
// Every node applies the same commands in the same order to its backend table (BackendTable.swift). A command is
// small: it fits a datagram with room to spare, which `Limits` guarantees.

/// Names one server of one backend, as in `api/api_1`.
public struct ServerID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let backend: String
    public let server: String

    public init(backend: String, server: String) {
        self.backend = backend
        self.server = server
    }

    /// Parses `BACKEND/SERVER`; nil unless both parts are valid names.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ Limits.isName($0) }) else { return nil }
        self.init(backend: String(parts[0]), server: String(parts[1]))
    }

    public var description: String { "\(backend)/\(server)" }

    public static func < (left: ServerID, right: ServerID) -> Bool {
        (left.backend, left.server) < (right.backend, right.server)
    }
}

/// What an operator wants of a server.
public enum AdminState: String, Sendable, CaseIterable {
    /// Takes requests while it is up.
    case ready
    /// Gets no new request; what is under way finishes.
    case drain
    /// As drain, and its checks don't count: it is being worked on.
    case maint
}

/// What the cluster agreed about a server, or what one node sees.
public enum Health: String, Sendable, CaseIterable {
    case unknown, up, down
    /// It works, and asks for no new requests: nobody's admin state, and gone when it stops asking.
    case drain

    /// It was there when it was asked.
    var answers: Bool { self == .up || self == .drain }
}

/// How many servers a backend should have for the load it has (autoscale).
public struct Scaling: Equatable, Sendable {
    public let desired: Int
    public let reason: String
    /// By the leader's time of day. Milliseconds since 1970.
    public let atMs: Int64

    public init(desired: Int, reason: String, atMs: Int64) {
        self.desired = desired
        self.reason = Limits.cut(reason)
        self.atMs = atMs
    }
}

/// One change of the backend table.
public enum Command: Equatable, Sendable {
    /// A new leader's first entry: commits what earlier terms left (Raft, 5.4.2).
    case establish
    case setAdmin(ServerID, AdminState)
    /// - Parameter weight: 0…256; 0 means no new request.
    case setWeight(ServerID, weight: Int)
    /// - Parameter address: `ADDRESS:PORT`, checked by whoever proposes.
    case add(ServerID, address: String)
    case remove(ServerID)
    /// Health verdicts of the leader, from a majority of the views heard.
    case verdict(ServerID, Health, reason: String, atMs: Int64)
    /// What the leader makes of a backend's load; nil: it isn't scaled any more. Since wire version 2.
    case scale(backend: String, Scaling?)
}

/// Which request at which node a log entry answers: makes a repeated proposal apply once.
public struct RequestID: Hashable, Sendable {
    /// The node that was asked.
    public let origin: MemberID
    /// That node's boot, so that numbers can begin at 1 after each start.
    public let boot: UInt64
    public let number: UInt64

    public init(origin: MemberID, boot: UInt64, number: UInt64) {
        self.origin = origin
        self.boot = boot
        self.number = number
    }
}

/// A member's place in the configuration's nodes, sorted by id.
public struct MemberID: Hashable, Comparable, Sendable {
    public let index: Int

    public init(_ index: Int) { self.index = index }

    public static func < (left: MemberID, right: MemberID) -> Bool { left.index < right.index }
}

/// One entry of the replicated log.
public struct Entry: Equatable, Sendable {
    public let index: UInt64
    public let term: UInt64
    /// nil for what the leader itself proposes (verdicts, establish).
    public let request: RequestID?
    public let command: Command

    public init(index: UInt64, term: UInt64, request: RequestID?, command: Command) {
        self.index = index
        self.term = term
        self.request = request
        self.command = command
    }

    /// Bytes for the wire and the disk; `decode` reads them back.
    public func encode() -> [UInt8] {
        var writer = ByteWriter(reserving: 64)
        write(to: &writer)
        return writer.bytes
    }

    /// nil when the bytes aren't exactly one well-formed entry.
    public static func decode(_ bytes: [UInt8]) -> Entry? {
        var reader = ByteReader(bytes)
        let entry = Entry(from: &reader)
        return reader.finished ? entry : nil
    }

    func write(to writer: inout ByteWriter) {
        writer.varint(index)
        writer.varint(term)
        writer.flag(request != nil)
        if let request { request.write(to: &writer) }
        command.write(to: &writer)
    }

    init(from reader: inout ByteReader) {
        index = reader.ordinal()
        term = reader.ordinal()
        request = reader.flag() ? RequestID(from: &reader) : nil
        command = Command(from: &reader)
    }
}

extension RequestID {
    func write(to writer: inout ByteWriter) {
        writer.varint(origin.index)
        writer.varint(boot)
        writer.varint(number)
    }

    init(from reader: inout ByteReader) {
        origin = MemberID(from: &reader)
        boot = reader.varint()
        number = reader.varint()
    }
}

extension MemberID {
    init(from reader: inout ByteReader) { self.init(reader.count(limit: Limits.membersMax - 1)) }
}

extension ServerID {
    func write(to writer: inout ByteWriter) {
        writer.string(backend)
        writer.string(server)
    }

    init(from reader: inout ByteReader) {
        backend = reader.name()
        server = reader.name()
    }
}

extension ByteReader {
    /// What `Limits.isName` allows.
    mutating func name() -> String {
        let name = string(limit: Limits.nameBytesMax)
        if !Limits.isName(name) { fail() }
        return name
    }
}

extension Scaling {
    func write(to writer: inout ByteWriter) {
        writer.varint(desired)
        writer.string(reason)
        writer.varint(UInt64(max(0, atMs)))
    }

    init(from reader: inout ByteReader) {
        self.init(
            desired: reader.count(limit: Limits.serversMax), reason: reader.string(limit: Limits.reasonBytesMax),
            atMs: Int64(clamping: reader.varint()))
    }
}

extension Health {
    func write(to writer: inout ByteWriter) {
        switch self {
        case .unknown: writer.byte(0)
        case .up: writer.byte(1)
        case .down: writer.byte(2)
        case .drain: writer.byte(3)
        }
    }

    init(from reader: inout ByteReader) {
        switch reader.byte() {
        case 0: self = .unknown
        case 1: self = .up
        case 2: self = .down
        case 3: self = .drain
        default:
            reader.fail()
            self = .unknown
        }
    }
}

extension AdminState {
    func write(to writer: inout ByteWriter) {
        switch self {
        case .ready: writer.byte(0)
        case .drain: writer.byte(1)
        case .maint: writer.byte(2)
        }
    }

    init(from reader: inout ByteReader) {
        switch reader.byte() {
        case 0: self = .ready
        case 1: self = .drain
        case 2: self = .maint
        default:
            reader.fail()
            self = .ready
        }
    }
}

extension Command {
    func write(to writer: inout ByteWriter) {
        switch self {
        case .establish: writer.byte(0)
        case .setAdmin(let id, let state):
            writer.byte(1)
            id.write(to: &writer)
            state.write(to: &writer)
        case .setWeight(let id, let weight):
            writer.byte(2)
            id.write(to: &writer)
            writer.varint(weight)
        case .add(let id, let address):
            writer.byte(3)
            id.write(to: &writer)
            writer.string(address)
        case .remove(let id):
            writer.byte(4)
            id.write(to: &writer)
        case .verdict(let id, let health, let reason, let atMs):
            writer.byte(5)
            id.write(to: &writer)
            health.write(to: &writer)
            writer.string(Limits.cut(reason))
            writer.varint(UInt64(max(0, atMs)))
        case .scale(let backend, let scaling):
            writer.byte(6)
            writer.string(backend)
            writer.flag(scaling != nil)
            scaling?.write(to: &writer)
        }
    }

    init(from reader: inout ByteReader) {
        switch reader.byte() {
        case 0: self = .establish
        case 1:
            let id = ServerID(from: &reader)
            self = .setAdmin(id, AdminState(from: &reader))
        case 2:
            let id = ServerID(from: &reader)
            self = .setWeight(id, weight: reader.count(limit: Limits.weightMax))
        case 3:
            let id = ServerID(from: &reader)
            self = .add(id, address: reader.string(limit: Limits.addressBytesMax))
        case 4: self = .remove(ServerID(from: &reader))
        case 5:
            let id = ServerID(from: &reader)
            let health = Health(from: &reader)
            let reason = reader.string(limit: Limits.reasonBytesMax)
            self = .verdict(id, health, reason: reason, atMs: Int64(clamping: reader.varint()))
        case 6:
            let backend = reader.name()
            self = .scale(backend: backend, reader.flag() ? Scaling(from: &reader) : nil)
        default:
            reader.fail()
            self = .establish
        }
    }
}
