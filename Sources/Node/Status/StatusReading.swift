// StatusReading: makes a report out of the JSON of `/status`, for the commands. Lenient: a field that is missing, as in
// the answer of another version, becomes empty or zero; what isn't a status at all is nil.

extension StatusReport {
    init?(json bytes: [UInt8]) {
        guard let root = JSON5.parse(bytes).value, let node = root["node"].text, !root["role"].isMissing else {
            return nil
        }
        let state = root["state"]
        self.init(
            node: node, cluster: root["cluster"].text ?? "", version: root["version"].text ?? "",
            uptimeSeconds: root["uptimeSeconds"].number, role: root["role"].text ?? "", term: root["term"].count,
            leader: root["leader"].text, quorum: root["quorum"].flag,
            state: State(
                index: state["index"].count, digest: state["digest"].text ?? "",
                configDigest: state["configDigest"].text ?? "", wireVersion: Int(clamping: state["wireVersion"].count)))
        vips = root["vips"].elements.map {
            VIP(
                address: $0["address"].text ?? "", interface: $0["interface"].text ?? "", owner: $0["owner"].text,
                heldHere: $0["heldHere"].flag)
        }
        leaseRemainingMs = Int(clamping: root["leaseRemainingMs"].count)
        nodes = root["nodes"].elements.map(Peer.init)
        backends = root["backends"].elements.map {
            var backend = Backend(
                name: $0["name"].text ?? "", balance: $0["balance"].text ?? "",
                stickCookie: $0["stickCookie"].text,
                servers: $0["servers"].elements.map(Server.init))
            backend.queue.length = Int(clamping: $0["queue"]["length"].count)
            backend.queue.longestWaitMs = Int(clamping: $0["queue"]["longestWaitMs"].count)
            backend.panic = $0["panic"].flag
            backend.slowStartMs = $0["slowStartMs"].isMissing ? nil : Int(clamping: $0["slowStartMs"].count)
            backend.autoscale = Autoscale($0["autoscale"])
            return backend
        }
        events = root["events"].elements.map {
            StatusEvent(
                atMs: WallTime.ms($0["at"].text ?? "") ?? 0, node: $0["node"].text ?? "", kind: $0["kind"].text ?? "",
                text: $0["text"].text ?? "")
        }
        fencing = root["fencing"].text
        forced = root["forced"].flag
        problems = root["problems"].elements.compactMap(\.text)
        traffic.requests = root["traffic"]["requests"].count
        traffic.requestsInFlight = Int(clamping: root["traffic"]["requestsInFlight"].count)
        traffic.connections = Int(clamping: root["traffic"]["connections"].count)
        traffic.frontends = root["traffic"]["frontends"].elements.map {
            Frontend(
                name: $0["name"].text ?? "", address: $0["address"].text ?? "", backend: $0["backend"].text ?? "")
        }
    }
}

extension StatusReport.Peer {
    fileprivate init(_ json: JSONValue) {
        self.init(
            id: json["id"].text ?? "", alive: json["alive"].flag,
            lastHeardMs: json["lastHeardMs"].isMissing ? nil : Int(clamping: json["lastHeardMs"].count),
            rttMs: json["rttMs"].isMissing ? nil : json["rttMs"].number, role: json["role"].text ?? "",
            index: json["index"].count, configDigest: json["configDigest"].text ?? "",
            configDiffers: json["configDiffers"].elements.compactMap(\.text), draining: json["draining"].flag,
            gate: json["gate"].isMissing ? nil : json["gate"].flag,
            unfit: json["unfit"].elements.compactMap(\.text), version: json["version"].text,
            wireVersion: json["wireVersion"].isMissing ? nil : Int(clamping: json["wireVersion"].count))
    }
}

extension StatusReport.Server {
    fileprivate init(_ json: JSONValue) {
        var work = StatusReport.ServerWork()
        work.sessions = Int(clamping: json["cluster"]["sessions"].count)
        self.init(
            id: json["id"].text ?? "", address: json["address"].text ?? "", health: json["health"].text ?? "",
            admin: json["admin"].text ?? "", weight: Int(clamping: json["weight"].count), isBackup: json["backup"].flag,
            reason: json["reason"].text ?? "", sinceSeconds: json["sinceSeconds"].number,
            views: json["views"].members.map { .init(node: $0.key, health: JSONValue($0.value).text ?? "") },
            sessions: Int(clamping: json["sessions"].count), requests: json["requests"].count,
            retries: json["retries"].count, errors: json["errors"].count,
            slowStart: StatusReport.SlowStart(json["slowStart"]),
            setAsideBy: json["setAsideBy"].isMissing ? nil : json["setAsideBy"].elements.compactMap(\.text), work: work)
    }
}

extension JSON5 {
    /// The member of an object; missing for anything else.
    subscript(_ key: String) -> JSONValue { JSONValue(self)[key] }
}

/// A value that may be missing, read without ceremony.
struct JSONValue {
    let value: JSON5?

    init(_ value: JSON5?) { self.value = value }

    subscript(_ key: String) -> JSONValue { JSONValue(members.first { $0.key == key }?.value) }

    /// Missing or null.
    var isMissing: Bool { value.map { $0.content == .null } ?? true }
    var members: [JSON5.Member] { if case .object(let members) = value?.content { members } else { [] } }
    var elements: [JSONValue] {
        if case .array(let values) = value?.content { values.map { JSONValue($0) } } else { [] }
    }
    var text: String? { if case .string(let text) = value?.content { text } else { nil } }
    var flag: Bool { value?.content == .boolean(true) }

    var number: Double {
        switch value?.content {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: 0
        }
    }

    var count: UInt64 {
        switch value?.content {
        case .integer(let number): UInt64(clamping: number)
        case .number(let number): number >= 0 && number < 1e18 ? UInt64(number) : 0
        default: 0
        }
    }
}
