// TranscriptText: messages, effects and members as the transcripts tell them.
//
// Left out is what says nothing of a story: stamps, round trips, boots, order numbers that only count up. Kinds that
// aren't named here are told as Swift prints them, so that a new one shows up without anyone's help.

@testable import Gossip

struct TranscriptText {
    let names: [String]

    func name(_ member: MemberID) -> String {
        names.indices.contains(member.index) ? names[member.index] : "n?\(member.index)"
    }

    private func name(_ member: MemberID?) -> String { member.map { name($0) } ?? "nobody" }

    static func milliseconds(_ span: Duration) -> String {
        let tenths = (span.nanoseconds + 50_000) / 100_000
        return tenths % 10 == 0 ? "\(tenths / 10) ms" : "\(tenths / 10).\(tenths % 10) ms"
    }

    // MARK: Messages

    /// What `show` and `hide` call a message, and the message itself.
    func tell(_ message: Message) -> (kind: String, text: String) {
        election(message) ?? replication(message) ?? gossip(message) ?? ("other", "\(message)")
    }

    private func election(_ message: Message) -> (String, String)? {
        switch message {
        case .voteRequest(let body):
            let what = body.isPreVote ? "pre-vote" : "vote"
            let transfer = body.isTransfer ? " by transfer" : ""
            return ("vote", "\(what) in term \(body.term)\(transfer)? my log is \(body.lastIndex)@\(body.lastTerm)")
        case .voteReply(let body):
            let what = body.isPreVote ? "pre-vote" : "vote"
            guard body.granted else { return ("vote", "no \(what): I am in term \(body.term)") }
            let answers = body.answers.map { answer in
                let age = Self.milliseconds(answer.age)
                guard let leader = answer.leader else { return "whoever led when I started \(age) ago" }
                return "\(name(leader)) of term \(answer.term) \(age) ago"
            }
            let recent = answers.isEmpty ? "" : "; I answered " + answers.joined(separator: ", ")
            return ("vote", "\(what) in term \(body.term): yes\(recent)")
        case .timeoutNow(let term, let keepsFlows, _, _):
            return ("handover", "take over after term \(term), now\(keepsFlows ? "; I keep my connections" : "")")
        case .handoverRequest(let target):
            return ("handover", "please hand over\(target.map { " to \(name($0))" } ?? "")")
        case .released(let term): return ("released", "I let go of the VIP of term \(term)")
        default: return nil
        }
    }

    private func replication(_ message: Message) -> (String, String)? {
        switch message {
        case .append(let body):
            let entries = body.entries.isEmpty ? "" : ": " + entries(body.entries)
            let owner = body.ownsVIP ? ", owner" : ""
            let place = "after \(body.previousIndex)@\(body.previousTerm), commit \(body.commit)\(owner)"
            return (
                body.entries.isEmpty ? "heartbeat" : "append",
                "\(body.entries.isEmpty ? "heartbeat" : "append") of term \(body.term), round \(body.round), "
                    + "\(place)\(entries)"
            )
        case .appendReply(let body):
            let round = body.round == 0 ? "no round" : "round \(body.round)"
            let match =
                body.accepted ? "my disk has yours up to \(body.match)" : "refused, committed here to \(body.match)"
            return ("reply", "to \(round) of term \(body.term): \(match)")
        case .request(let request, let command, let hops):
            return (
                "request", "change \(request.number) of \(name(request.origin)), \(hops) hops left: \(tell(command))"
            )
        case .committed(let body): return ("committed", "committed: \(entries(body.entries))")
        case .snapshot(let body):
            return (
                "snapshot",
                "snapshot \(body.lastIndex)@\(body.lastTerm), bytes \(body.offset)..<\(body.offset + body.bytes.count) "
                    + "of \(body.total)"
            )
        case .snapshotReply(_, let lastIndex, let received):
            return ("snapshot", "of snapshot \(lastIndex) I have \(received) bytes")
        default: return nil
        }
    }

    private func gossip(_ message: Message) -> (String, String)? {
        switch message {
        case .digest(let body):
            let known = body.known.enumerated().map { index, known in
                "\(name(MemberID(index))) \(known.boot == 0 ? "never" : "view \(known.version)")"
            }
            let leader = body.leader.map { ", I hear leader \(name($0))" } ?? ", I hear no leader"
            return (
                "digest",
                "I applied \(body.applied)\(leader), owner is \(name(body.owner)), I know \(known.joined(separator: ", "))"
            )
        case .views(let body):
            let entries = body.entries.map { "\($0.server) \($0.health.rawValue) (\($0.reason))" }
            return (
                "views",
                "view of \(name(body.origin)) from \(body.after) to \(body.upTo): \(entries.joined(separator: ", "))"
            )
        case .suspect(let server): return ("suspect", "probe \(server) now, a connection to it failed")
        default: return nil
        }
    }

    // MARK: Entries and commands

    func tell(_ command: Command) -> String {
        switch command {
        case .establish: "establish"
        case .setAdmin(let id, let state): "\(state.rawValue) \(id)"
        case .setWeight(let id, let weight): "weight \(id) \(weight)"
        case .add(let id, let address): "add \(id) \(address)"
        case .remove(let id): "remove \(id)"
        case .scale(let backend, let scaling): "scale \(backend) to \(scaling.map { "\($0.desired)" } ?? "nothing")"
        case .verdict(let id, let health, let reason, _): "verdict \(id) \(health.rawValue) (\(reason))"
        }
    }

    private func entries(_ entries: [Entry]) -> String {
        let told = entries.prefix(4).map { "\($0.index)@\($0.term) \(tell($0.command))" }
        let rest = entries.count > 4 ? " and \(entries.count - 4) more" : ""
        return told.joined(separator: ", ") + rest
    }

    // MARK: Effects

    func tell(_ operation: StorageOperation) -> String {
        switch operation {
        case .vote(let term, let votedFor): "term \(term)\(votedFor.map { ", vote for \($0)" } ?? "")"
        case .append(let appended): "log \(entries(appended))"
        case .snapshot(let snapshot, let discardsLog):
            "snapshot \(snapshot.lastIndex)@\(snapshot.lastTerm)\(discardsLog ? " instead of the log" : "")"
        case .joined(let votesFromTerm): "is up to date, votes from term \(votesFromTerm) on"
        }
    }

    func tell(_ outcome: Outcome) -> String {
        switch outcome {
        case .done: "done"
        case .refused(let reason): "refused: \(reason)"
        case .unacknowledged(let reason): "not acknowledged: \(reason)"
        }
    }

    // MARK: Members

    /// What the stories say of a node after something changed there.
    func portrait(_ member: Member) -> String {
        let onDisk = member.log.durableIndex < member.log.lastIndex ? " (\(member.log.durableIndex) on disk)" : ""
        let follows = member.currentLeader.flatMap { $0 == member.me ? nil : " of \(name($0))" } ?? ""
        return "\(member.role.rawValue)\(follows), term \(member.term), "
            + "log \(member.log.lastIndex)@\(member.log.lastTerm)\(onDisk), "
            + "commit \(member.commitIndex)\(member.holdsAddress ? ", has the VIP" : "")"
            + "\(member.isForced ? " by force" : "")\(member.isDraining ? ", serves old connections" : "")"
    }

    func tell(_ record: ServerRecord) -> String {
        var parts = ["\(record.id)"]
        if let address = record.address { parts.append("at \(address)") }
        if record.isRemoved { parts.append("removed") }
        parts.append("\(record.health.rawValue)\(record.reason.isEmpty ? "" : " (\(record.reason))")")
        parts.append(record.admin.rawValue)
        if let weight = record.weight { parts.append("weight \(weight)") }
        return parts.joined(separator: ", ")
    }
}
