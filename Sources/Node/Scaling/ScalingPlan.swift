// ScalingPlan: what `triad autoscale` does next so that a backend has as many servers as the cluster wants. Pure: what a status
// says and what became of earlier steps in, steps out. All that matters is in the cluster's state, so it may be stopped at any
// moment, and another one goes on from there.
//
//   a server that is     and there are   gets
//   down                 too few         start, and when it is up: ready
//   drained and up       too few         ready: nothing to start
//   up and ready         too many        drain, the file's last ones first
//   drained and up       enough          stop, when nothing is under way there any more, or after `drainTimeout`
//   drained and down     –               ready, so that it serves when it is started by anyone
//
// Servers in `maint` and backups are nobody's business here. Nothing is drained or stopped unless the rest that serve are
// as many as are wanted.

import Gossip

struct ScalingPlan {
    /// A server as a status shows it.
    struct Server: Equatable {
        var id: String
        var isUp: Bool
        /// Its health isn't known yet, or it asks to be drained by itself: neither serves nor can be started.
        var isUnknown = false
        var admin: AdminState
        /// All nodes' together.
        var sessions = 0
        var isBackup = false

        /// Whether it is started and stopped here at all.
        var isOurs: Bool { !isBackup && admin != .maint }
        var serves: Bool { isUp && admin == .ready }
    }

    enum Step: Equatable {
        case start(String), stop(String), drain(String), ready(String)

        var server: String {
            switch self {
            case .start(let id), .stop(let id), .drain(let id), .ready(let id): id
            }
        }
    }

    struct Options: Equatable {
        /// How long requests under way may keep a server from being stopped.
        var drainTimeout: Duration = .seconds(30)
        /// How long a server that was started may take to be up.
        var startTimeout: Duration = .seconds(60)
        /// Between a drain and the first look at what is under way: nodes tell it once a second.
        var drainMin: Duration = .seconds(3)
    }

    static let pauseMin = Duration.seconds(1)
    static let pauseMax = Duration.seconds(60)

    private enum Phase: Equatable {
        /// A step is being carried out.
        case busy(Step)
        /// It was started, and isn't up yet.
        case starting(until: Instant)
        /// It was stopped, and counts as up still.
        case stopping(until: Instant)
        case draining(since: Instant)
        /// A step failed; none before then.
        case resting(until: Instant)
    }

    private struct Work {
        var phase: Phase?
        /// After the next failure.
        var pause = ScalingPlan.pauseMin
    }

    let options: Options
    private var works: [String: Work] = [:]

    init(options: Options = Options()) { self.options = options }

    /// The steps to begin now. Each is reported to `ended` before the next one for its server.
    mutating func steps(wanted: Int, servers: [Server], now: Instant) -> [Step] {
        let ours = servers.filter(\.isOurs)
        works = works.filter { work in ours.contains { $0.id == work.key } }
        for server in ours { look(at: server, now: now) }
        let serving = ours.filter { $0.serves && !isLeaving($0.id) }
        var missing = wanted - serving.count - ours.count { isComing($0) }
        var steps: [Step] = []
        for server in ours where server.isUp && server.admin == .drain && isFree(server.id) && missing > 0 {
            steps.append(.ready(server.id))
            missing -= 1
        }
        for server in ours where !server.isUp && !server.isUnknown && isFree(server.id) {
            if missing > 0 {
                steps.append(.start(server.id))
                missing -= 1
            } else if server.admin == .drain {
                steps.append(.ready(server.id))
            }
        }
        if serving.count > wanted {
            steps += serving.suffix(serving.count - wanted).filter { isFree($0.id) }.map { .drain($0.id) }
        }
        if serving.count >= wanted, missing <= 0 {
            steps += ours.filter { $0.isUp && $0.admin == .drain && hasDrained($0, now: now) }.map { .stop($0.id) }
        }
        for step in steps { works[step.server, default: Work()].phase = .busy(step) }
        return steps
    }

    /// Exactly as many serve as are wanted, and nothing is under way.
    func isDone(wanted: Int, servers: [Server]) -> Bool {
        let ours = servers.filter(\.isOurs)
        let serving = ours.count(where: \.serves)
        return serving == wanted && !ours.contains { $0.admin == .drain } && works.values.allSatisfy { $0.phase == nil }
    }

    /// A step is over.
    mutating func ended(_ step: Step, succeeded: Bool, now: Instant) {
        guard succeeded else { return fail(step.server, now: now) }
        var work = works[step.server] ?? Work()
        switch step {
        case .start: work.phase = .starting(until: now.advanced(by: options.startTimeout))
        case .stop: work.phase = .stopping(until: now.advanced(by: options.startTimeout))
        case .drain: work.phase = .draining(since: now)
        case .ready: work.phase = nil
        }
        works[step.server] = work
    }

    /// How long nothing will be tried with a server after its last failure.
    func pause(of server: String, now: Instant) -> Duration? {
        guard case .resting(let until)? = works[server]?.phase else { return nil }
        return now.duration(to: until)
    }

    private mutating func fail(_ server: String, now: Instant) {
        var work = works[server] ?? Work()
        work.phase = .resting(until: now.advanced(by: work.pause))
        work.pause = min(Self.pauseMax, work.pause * 2)
        works[server] = work
    }

    /// What the status says of a server, against what was done with it.
    private mutating func look(at server: Server, now: Instant) {
        var work = works[server.id] ?? Work()
        switch work.phase {
        case .starting(let until):
            if server.isUp {
                work = Work()
            } else if now >= until {
                works[server.id] = work
                return fail(server.id, now: now)
            }
        case .stopping(let until):
            if !server.isUp || now >= until { work = Work() }
        case .resting(let until):
            if now >= until { work.phase = nil }
        case .draining:
            if !server.isUp || server.admin != .drain { work.phase = nil }
        case .busy: break
        case nil:
            // Somebody else drained it, or a former life of this command.
            if server.isUp, server.admin == .drain { work.phase = .draining(since: now) }
        }
        works[server.id] = work
    }

    /// Started, by this command or the one before a failover of it, and not serving yet.
    private func isComing(_ server: Server) -> Bool {
        switch works[server.id]?.phase {
        case .starting: true
        case .busy(.start), .busy(.ready): !server.serves
        default: false
        }
    }

    private func isLeaving(_ id: String) -> Bool {
        switch works[id]?.phase {
        case .busy(.drain), .busy(.stop), .stopping: true
        default: false
        }
    }

    private func isFree(_ id: String) -> Bool {
        switch works[id]?.phase {
        case nil, .draining: true
        default: false
        }
    }

    private func hasDrained(_ server: Server, now: Instant) -> Bool {
        guard case .draining(let since)? = works[server.id]?.phase else { return false }
        let span = since.duration(to: now)
        return span >= options.drainTimeout || span >= options.drainMin && server.sessions == 0
    }
}
