// LabStatus: what a node of the lab says about itself, asked over its status port as a user would ask.
//
// Blocking, with a short timeout: a node that is gone answers nothing, which is an answer.

import CLinux
import Glibc
import Proxy

/// The parts of `GET /status` that the demo and the tests look at.
struct LabStatus {
    struct Server {
        var id: String
        var health: String
        var admin: String
        var weight: Int
        /// What each node sees, by node.
        var views: [(node: String, health: String)]
        var requests: Int
        /// The nodes that set it aside now.
        var setAsideBy: [String]
        /// nil: it has its whole weight.
        var slowStartPercent: Int?
    }

    var node = ""
    var role = ""
    var term = 0
    var leader: String?
    var quorum = false
    var heldHere = false
    /// What is in force: `gate`, `wait`, `trust`.
    var fencing: String?
    var leaseRemainingMs = 0
    var index = 0
    var digest = ""
    var configDigest = ""
    var servers: [Server] = []
    /// When each node was last heard of directly.
    var nodes: [(id: String, lastHeardMs: Int?)] = []
    var problems: [String] = []
    var events: [(node: String, kind: String, text: String)] = []

    /// nil for text that is not a status.
    init?(json: [UInt8]) {
        guard let root = JSON5.parse(json).value, let node = root["node"]?.text, let state = root["state"] else {
            return nil
        }
        self.node = node
        role = root["role"]?.text ?? ""
        term = root["term"]?.whole ?? 0
        leader = root["leader"]?.text
        quorum = root["quorum"]?.truth ?? false
        heldHere = root["vips"]?.list.first?["heldHere"]?.truth ?? false
        fencing = root["fencing"]?.text
        leaseRemainingMs = root["leaseRemainingMs"]?.whole ?? 0
        index = state["index"]?.whole ?? 0
        digest = state["digest"]?.text ?? ""
        configDigest = state["configDigest"]?.text ?? ""
        for backend in root["backends"]?.list ?? [] {
            for server in backend["servers"]?.list ?? [] {
                servers.append(
                    Server(
                        id: server["id"]?.text ?? "", health: server["health"]?.text ?? "",
                        admin: server["admin"]?.text ?? "", weight: server["weight"]?.whole ?? -1,
                        views: (server["views"]?.members ?? []).map { ($0.key, $0.value.text ?? "") },
                        requests: server["requests"]?.whole ?? 0,
                        setAsideBy: (server["setAsideBy"]?.list ?? []).compactMap(\.text),
                        slowStartPercent: server["slowStart"]?["percent"]?.whole))
            }
        }
        nodes = (root["nodes"]?.list ?? []).map { ($0["id"]?.text ?? "", $0["lastHeardMs"]?.whole) }
        problems = (root["problems"]?.list ?? []).compactMap(\.text)
        for event in root["events"]?.list ?? [] {
            events.append((event["node"]?.text ?? "", event["kind"]?.text ?? "", event["text"]?.text ?? ""))
        }
    }

    /// `up`, `down`, `unknown`; nil when there is no such server.
    func health(_ server: String) -> String? { servers.first { $0.id == server }?.health }

    /// The servers that are agreed to be up.
    var up: [String] { servers.filter { $0.health == "up" }.map(\.id) }
}

extension JSON5 {
    fileprivate subscript(_ key: String) -> JSON5? { members.first { $0.key == key }?.value }

    fileprivate var members: [Member] {
        if case .object(let members) = content { return members }
        return []
    }

    fileprivate var list: [JSON5] {
        if case .array(let values) = content { return values }
        return []
    }

    fileprivate var text: String? {
        if case .string(let text) = content { return text }
        return nil
    }

    fileprivate var whole: Int? {
        if case .integer(let number) = content { return number }
        return nil
    }

    fileprivate var truth: Bool? {
        if case .boolean(let truth) = content { return truth }
        return nil
    }
}

enum LabHTTP {
    /// One GET from a host of the lab; nil when there is no complete answer in time.
    static func get(
        _ path: String, of address: SocketAddress, from host: LabHost, timeoutMs: Int = 500
    ) -> (status: Int, body: [UInt8])? {
        // The socket belongs to the namespace it was made in; it may be used from anywhere.
        let made = try? LabSystem.inside(host.descriptor) { () throws(LabProblem) -> Int32 in
            guard let descriptor = try? System.socket(address.family, SOCK_STREAM.rawValue) else {
                throw LabProblem("no socket")
            }
            if System.connect(descriptor, address) == 0 { return descriptor }
            System.close(descriptor)
            throw LabProblem("no connection")
        }
        guard let descriptor = made else { return nil }
        defer { System.close(descriptor) }
        let deadline = System.bootNanoseconds() + UInt64(timeoutMs) * 1_000_000
        guard wait(descriptor, POLLOUT, deadline), System.pendingError(descriptor) == 0 else { return nil }
        let request = "GET \(path) HTTP/1.1\r\nHost: \(address)\r\nConnection: close\r\n\r\n"
        guard case .moved = LabSystem.send(descriptor, Array(request.utf8)) else { return nil }
        var response = LoadResponse(keptBodyMax: 4 << 20)
        var input: [UInt8] = []
        var scratch = [UInt8](repeating: 0, count: 1 << 16)
        while wait(descriptor, POLLIN, deadline) {
            switch LabSystem.receive(descriptor, appendTo: &input, scratch: &scratch) {
            case .moved:
                switch response.read(&input) {
                case .needMore: break
                case .done: return (response.status, response.body)
                case .refused: return nil
                }
            case .wouldBlock: break
            case .ended: return response.isCompleteAtEnd ? (response.status, response.body) : nil
            case .failed: return nil
            }
        }
        return nil
    }

    private static func wait(_ descriptor: Int32, _ events: Int32, _ deadline: UInt64) -> Bool {
        let now = System.bootNanoseconds()
        guard now < deadline else { return false }
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return poll(&entry, 1, Int32((deadline - now) / 1_000_000) + 1) > 0
    }
}
