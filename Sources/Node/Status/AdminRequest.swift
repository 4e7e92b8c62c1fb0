// AdminRequest: a change that an operator asks for through the status port, checked as far as its own words go.
// Whether it can be done (does the server exist? is there a leader?) is the cluster's to say.

import Gossip
import Proxy

enum AdminRequest: Sendable, Equatable {
    case setAdmin(ServerID, AdminState)
    case setWeight(ServerID, Int)
    case add(ServerID, SocketAddress)
    case remove(ServerID)
    /// nil: to whoever is fittest.
    case handover(to: String?)
    /// Own the VIP without a majority; for this node alone, and only by somebody who said that he accepts two owners.
    case forceLeader(node: String)

    /// Words of the paths below `/admin/`.
    static let verbs = ["drain", "ready", "maint", "weight", "add", "remove", "handover", "force-leader"]

    static let forceMeaning =
        "it makes that node own the VIP without a majority, and is meant for the last survivor when the other nodes are "
        + "dead for good or for long. If one of them still runs and merely can't be reached, two nodes own the VIP at the "
        + "same time. Make sure that the others are off. It ends by itself when a majority is in touch again, and when "
        + "the node stops"

    struct Problem: Error, Equatable {
        var text: String
    }

    /// Reads the body of `POST /admin/VERB`; an empty one counts as `{}`.
    init(verb: String, body: [UInt8]) throws(Problem) {
        var fields = try AdminFields(body)
        switch verb {
        case "drain": self = .setAdmin(try fields.server(), .drain)
        case "ready": self = .setAdmin(try fields.server(), .ready)
        case "maint": self = .setAdmin(try fields.server(), .maint)
        case "weight": self = .setWeight(try fields.server(), try fields.weight())
        case "add": self = .add(try fields.server(), try fields.address())
        case "remove": self = .remove(try fields.server())
        case "handover": self = .handover(to: try fields.node("to"))
        case "force-leader":
            guard let node = try fields.node("node") else { throw Problem(text: "\"node\" is missing") }
            guard try fields.flag("acceptTwoOwners") else {
                throw Problem(text: "\"acceptTwoOwners\" must be true: \(Self.forceMeaning)")
            }
            self = .forceLeader(node: node)
        default: throw Problem(text: "unknown change \"\(verb)\"; known: \(Self.verbs.joined(separator: ", "))")
        }
        try fields.finish()
    }

    /// What the commands send.
    var path: String {
        switch self {
        case .setAdmin(_, let state): "/admin/\(state.rawValue)"
        case .setWeight: "/admin/weight"
        case .add: "/admin/add"
        case .remove: "/admin/remove"
        case .handover: "/admin/handover"
        case .forceLeader: "/admin/force-leader"
        }
    }

    /// The body that `init(verb:body:)` reads back.
    var body: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            switch self {
            case .setAdmin(let id, _), .remove(let id): writer.field("server", id.description)
            case .setWeight(let id, let weight):
                writer.field("server", id.description)
                writer.field("weight", weight)
            case .add(let id, let address):
                writer.field("server", id.description)
                writer.field("address", address.description)
            case .handover(let node):
                if let node { writer.field("to", node) }
            case .forceLeader(let node):
                writer.field("node", node)
                writer.field("acceptTwoOwners", true)
            }
        }
        return writer.bytes
    }
}

/// The members of a JSON body, taken one by one; what is left over is a mistake worth telling.
private struct AdminFields {
    private var members: [JSON5.Member]

    init(_ body: [UInt8]) throws(AdminRequest.Problem) {
        guard !body.isEmpty else {
            members = []
            return
        }
        let parsed = JSON5.parse(body)
        if let problem = parsed.problems.first { throw AdminRequest.Problem(text: "body: \(problem.text)") }
        guard case .object(let members) = parsed.value?.content else {
            throw AdminRequest.Problem(text: "the body must be a JSON object")
        }
        self.members = members
    }

    mutating func server() throws(AdminRequest.Problem) -> ServerID {
        guard let text = try text("server") else { throw AdminRequest.Problem(text: "\"server\" is missing") }
        guard let id = ServerID(text) else {
            throw AdminRequest.Problem(text: "\"server\" must be BACKEND/SERVER, as in \"api/api_1\"")
        }
        return id
    }

    mutating func weight() throws(AdminRequest.Problem) -> Int {
        guard case .integer(let weight) = take("weight")?.content, (0...Limits.weightMax).contains(weight) else {
            throw AdminRequest.Problem(text: "\"weight\" must be a whole number from 0 to \(Limits.weightMax)")
        }
        return weight
    }

    mutating func address() throws(AdminRequest.Problem) -> SocketAddress {
        guard let text = try text("address"), let address = SocketAddress(text), address.port != 0 else {
            throw AdminRequest.Problem(text: "\"address\" must be ADDRESS:PORT, as in \"10.0.0.21:8080\"")
        }
        return address
    }

    mutating func node(_ key: String) throws(AdminRequest.Problem) -> String? {
        guard let text = try text(key) else { return nil }
        guard Limits.isName(text) else { throw AdminRequest.Problem(text: "\"\(key)\" must be a node's id") }
        return text
    }

    mutating func flag(_ key: String) throws(AdminRequest.Problem) -> Bool {
        switch take(key)?.content {
        case .none, .null, .boolean(false): return false
        case .boolean(true): return true
        default: throw AdminRequest.Problem(text: "\"\(key)\" must be true or false")
        }
    }

    func finish() throws(AdminRequest.Problem) {
        if let extra = members.first { throw AdminRequest.Problem(text: "unknown key \"\(extra.key)\"") }
    }

    private mutating func take(_ key: String) -> JSON5? {
        guard let index = members.firstIndex(where: { $0.key == key }) else { return nil }
        return members.remove(at: index).value
    }

    private mutating func text(_ key: String) throws(AdminRequest.Problem) -> String? {
        switch take(key)?.content {
        case .none, .null: return nil
        case .string(let text): return text
        default: throw AdminRequest.Problem(text: "\"\(key)\" must be a string")
        }
    }
}
