// BackendTable: the replicated state machine. What the cluster agreed about servers, beyond the configuration file.
//
// `apply` depends on nothing but the table and the command, so that equal logs give equal tables on every node,
// whatever their files say. Records are kept sorted; `digest` is a sum over the records' hashes, kept up with each
// change, so that nodes can compare whole tables by eight bytes.

/// What was agreed about one server. A server of the file without a record has these defaults.
public struct ServerRecord: Equatable, Sendable {
    public let id: ServerID
    /// Set when the server was added at run time (or moved): `ADDRESS:PORT`.
    public internal(set) var address: String?
    /// Taken out at run time, also when the file names it.
    public internal(set) var isRemoved = false
    /// Added under the name of a removed server, which the file may still name: removing it must leave a record.
    var isReplacement = false
    public internal(set) var admin = AdminState.ready
    /// Overrides the file's weight.
    public internal(set) var weight: Int?
    public internal(set) var health = Health.unknown
    public internal(set) var reason = ""
    /// When the verdict was reached, by the leader's time of day. Milliseconds since 1970.
    public internal(set) var sinceMs: Int64 = 0

    init(id: ServerID) { self.id = id }
}

/// How many servers one backend should have.
public struct ScalingRecord: Equatable, Sendable {
    public let backend: String
    public let scaling: Scaling
}

public struct BackendTable: Equatable, Sendable {
    /// Sorted by id.
    public private(set) var records: [ServerRecord] = []
    /// How many servers backends should have, where that is decided. Sorted by name.
    public private(set) var scalings: [ScalingRecord] = []
    /// Equal tables have equal digests.
    public private(set) var digest: UInt64 = 0
    /// The last request applied for each origin, so that a repeated proposal changes nothing.
    private var lastRequests: [RequestID] = []

    public init() {}

    public subscript(id: ServerID) -> ServerRecord? {
        let place = place(of: id)
        return place < records.count && records[place].id == id ? records[place] : nil
    }

    /// How many servers a backend should have; nil while that isn't decided.
    public func scaling(of backend: String) -> Scaling? { scalings.first { $0.backend == backend }?.scaling }

    /// The servers in use: the file's and those added, without the removed ones. Sorted.
    /// - Parameter configured: sorted.
    public func servers(configured: [ServerID]) -> [ServerID] {
        let removed = records.filter(\.isRemoved).map(\.id)
        let kept = removed.isEmpty ? configured : configured.filter { !removed.hasSorted($0) }
        let extra = records.filter { $0.address != nil && !$0.isRemoved && !kept.hasSorted($0.id) }.map(\.id)
        return extra.isEmpty ? kept : (kept + extra).sorted()
    }

    /// This request, or a later one of the same origin, has been applied.
    func hasApplied(_ request: RequestID) -> Bool {
        lastRequests.contains {
            $0.origin == request.origin && (request.boot, request.number) <= ($0.boot, $0.number)
        }
    }

    /// Applies one entry; repeated requests are `done` again without effect.
    package mutating func apply(_ entry: Entry) -> Outcome {
        if let request = entry.request {
            if hasApplied(request) { return .done }
            lastRequests.removeAll { $0.origin == request.origin }
            lastRequests.append(request)
            lastRequests.sort { $0.origin < $1.origin }
        }
        return apply(entry.command)
    }

    private mutating func apply(_ command: Command) -> Outcome {
        switch command {
        case .establish: return .done
        case .setAdmin(let id, let state): return change(id) { $0.admin = state }
        case .setWeight(let id, let weight): return change(id) { $0.weight = weight }
        case .verdict(let id, let health, let reason, let atMs):
            return change(id) {
                $0.health = health
                $0.reason = reason
                $0.sinceMs = atMs
            }
        case .add(let id, let address):
            if let record = self[id], record.address != nil, !record.isRemoved {
                return .refused("\(id) exists already, at \(record.address ?? "")")
            }
            // A server that comes back under an old name is a new server: nothing of the old one applies to it.
            return change(id) {
                let isReplacement = $0.isRemoved
                $0 = ServerRecord(id: id)
                $0.address = address
                $0.isReplacement = isReplacement
            }
        case .remove(let id):
            // What was added at run time goes without a trace, or names that never return would fill the table.
            if let record = self[id], record.address != nil, !record.isReplacement { return forget(id) }
            return change(id) {
                $0 = ServerRecord(id: id)
                $0.isRemoved = true
            }
        case .scale(let backend, let scaling): return set(scaling, of: backend)
        }
    }

    private mutating func set(_ scaling: Scaling?, of backend: String) -> Outcome {
        let place = scalings.partitioningIndex { $0.backend < backend }
        if place < scalings.count, scalings[place].backend == backend {
            digest &-= scalings.remove(at: place).hash
        }
        guard let scaling else { return .done }
        guard scalings.count < Limits.scalingsMax else {
            return .refused("the table is full (\(Limits.scalingsMax) scaled backends)")
        }
        scalings.insert(ScalingRecord(backend: backend, scaling: scaling), at: place)
        digest &+= scalings[place].hash
        return .done
    }

    private mutating func change(_ id: ServerID, _ body: (inout ServerRecord) -> Void) -> Outcome {
        let place = place(of: id)
        if place == records.count || records[place].id != id {
            guard records.count < Limits.serversMax else {
                return .refused("the table is full (\(Limits.serversMax) servers)")
            }
            records.insert(ServerRecord(id: id), at: place)
        } else {
            digest &-= records[place].hash
        }
        body(&records[place])
        digest &+= records[place].hash
        return .done
    }

    private mutating func forget(_ id: ServerID) -> Outcome {
        digest &-= records.remove(at: place(of: id)).hash
        return .done
    }

    /// Where a record is, or where it would be inserted.
    private func place(of id: ServerID) -> Int { records.partitioningIndex { $0.id < id } }
}

extension Array {
    /// Where the elements end that belong before some place, in an array in which they all come first: binary search.
    func partitioningIndex(where belongsBefore: (Element) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if belongsBefore(self[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension [ServerID] {
    /// Whether it has that one: by binary search in an array that is sorted.
    func hasSorted(_ id: ServerID) -> Bool {
        let place = partitioningIndex { $0 < id }
        return place < count && self[place] == id
    }
}

// MARK: - Bytes (snapshots)

extension BackendTable {
    func encode() -> [UInt8] {
        var writer = ByteWriter(reserving: 64 * records.count)
        writer.varint(wireVersion)
        writer.list(lastRequests) { $1.write(to: &$0) }
        writer.list(records) { $1.write(to: &$0) }
        if wireVersion > 1 { writer.list(scalings) { $1.write(to: &$0) } }
        return writer.bytes
    }

    /// Whether a snapshot's bytes are a table that this version reads; asked before a member is made of it.
    public static func isReadable(_ bytes: [UInt8]) -> Bool { decode(bytes) != nil }

    /// nil when the bytes aren't exactly one well-formed table.
    static func decode(_ bytes: [UInt8]) -> BackendTable? {
        var reader = ByteReader(bytes)
        var table = BackendTable()
        let version = reader.varint()
        guard (1...2).contains(version) else { return nil }
        table.lastRequests = reader.list { RequestID(from: &$0) }
        table.records = reader.list { ServerRecord(from: &$0) }
        if version > 1 { table.scalings = reader.list { ScalingRecord(from: &$0) } }
        guard reader.finished, table.records.count <= Limits.serversMax, table.scalings.count <= Limits.scalingsMax,
            table.wireVersion == version
        else { return nil }
        for (left, right) in zip(table.records, table.records.dropFirst()) where left.id >= right.id { return nil }
        for (left, right) in zip(table.scalings, table.scalings.dropFirst()) where left.backend >= right.backend {
            return nil
        }
        for record in table.records { table.digest &+= record.hash }
        for record in table.scalings { table.digest &+= record.hash }
        return table
    }
}

extension [UInt8] {
    /// FNV-1a (64 bits): tells tables apart, keeps no secret.
    fileprivate var fnv: UInt64 { reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 } }
}

extension ScalingRecord {
    fileprivate var hash: UInt64 {
        var writer = ByteWriter(reserving: 128)
        // No server's record begins with an empty name.
        writer.string("")
        write(to: &writer)
        return writer.bytes.fnv
    }

    fileprivate func write(to writer: inout ByteWriter) {
        writer.string(backend)
        scaling.write(to: &writer)
    }

    fileprivate init(from reader: inout ByteReader) {
        backend = reader.name()
        scaling = Scaling(from: &reader)
    }
}

extension ServerRecord {
    fileprivate var hash: UInt64 {
        var writer = ByteWriter(reserving: 128)
        write(to: &writer)
        return writer.bytes.fnv
    }

    fileprivate func write(to writer: inout ByteWriter) {
        id.write(to: &writer)
        writer.string(address ?? "")
        writer.flag(isRemoved)
        writer.flag(isReplacement)
        admin.write(to: &writer)
        writer.varint(weight.map { $0 + 1 } ?? 0)
        health.write(to: &writer)
        writer.string(reason)
        writer.varint(UInt64(max(0, sinceMs)))
    }

    fileprivate init(from reader: inout ByteReader) {
        id = ServerID(from: &reader)
        let address = reader.string(limit: Limits.addressBytesMax)
        self.address = address.isEmpty ? nil : address
        isRemoved = reader.flag()
        isReplacement = reader.flag()
        admin = AdminState(from: &reader)
        let weight = reader.count(limit: Limits.weightMax + 1)
        self.weight = weight == 0 ? nil : weight - 1
        health = Health(from: &reader)
        reason = reader.string(limit: Limits.reasonBytesMax)
        sinceMs = Int64(clamping: reader.varint())
    }
}
