// Mailbox: what other threads tell a worker, and what workers tell the control thread.
// Both sides hold the lock for a copy of a few words, never around a system call; it is off the request path.

import Synchronization

/// A server as routing snapshots name it: by its figures' slot instead of its id.
struct RouteEntry: Sendable, Equatable {
    let slot: Int
    /// The hash of its id.
    let key: UInt64
    let address: SocketAddress
    let weight: Int
    let usable: Bool
    let isBackup: Bool
    let upSinceMs: Int64
    /// 0: any number.
    let connectionsMax: Int
}

/// The servers of a backend, by its slot.
struct BackendRoute: Sendable, Equatable {
    let slot: Int
    var servers: [RouteEntry]
}

/// What is new of one server.
struct RouteChange: Sendable, Equatable {
    /// Of its backend.
    let slot: Int
    /// Where it stands among the backend's servers.
    let number: Int
    let entry: RouteEntry
}

/// What a worker finds when its mailbox wakes it.
struct Mail: Sendable {
    /// nil when unchanged since the last mail, like the routes.
    var settings: WorkerSettings?
    /// Frontends that came and went since the last mail.
    var leaving: [FrontendEntry] = []
    var routes: [BackendRoute]?
    /// Beyond `routes`, in their order.
    var changes: [RouteChange] = []
    var draining = false
    var closeIdle = false
    /// Clients of these addresses are cut off, whatever they are at.
    var abandoned: [SocketAddress] = []
    var stop = false

    /// Replaces settings that weren't taken yet. What they brought and these don't have is served out all the same.
    mutating func replace(_ fresh: WorkerSettings) {
        leaving += settings?.frontends ?? []
        leaving.removeAll { old in fresh.frontends.contains { $0.slot == old.slot || $0.socket === old.socket } }
        settings = fresh
    }

    mutating func replace(_ fresh: [BackendRoute]) {
        routes = fresh
        changes = []
    }

    /// Bounded: at most one change per server.
    mutating func add(_ fresh: [RouteChange]) {
        changes.removeAll { old in fresh.contains { ($0.slot, $0.entry.slot) == (old.slot, old.entry.slot) } }
        changes += fresh
    }
}

/// Control thread → worker. Later mail replaces what wasn't taken yet.
final class Mailbox: Sendable {
    /// Readable when there is mail.
    let descriptor: Int32
    private let mail = Mutex((content: Mail(), hasNews: false, isPinged: false))

    init() throws(SystemError) { descriptor = try System.eventDescriptor() }

    deinit { System.close(descriptor) }

    func post(_ change: (inout Mail) -> Void) {
        mail.withLock {
            change(&$0.content)
            $0.hasNews = true
        }
        System.signal(descriptor)
    }

    /// Wakes the worker. False when it hasn't looked into its mail since the ping before.
    func ping() -> Bool {
        let isAnswered = mail.withLock { mail in
            defer { mail.isPinged = true }
            return !mail.isPinged
        }
        System.signal(descriptor)
        return isAnswered
    }

    /// What was posted since the last call; nil when the worker was only pinged.
    func take() -> Mail? {
        System.drain(descriptor)
        return mail.withLock {
            $0.isPinged = false
            guard $0.hasNews else { return nil }
            $0.hasNews = false
            let taken = $0.content
            $0.content.settings = nil
            $0.content.leaving = []
            $0.content.routes = nil
            $0.content.changes = []
            $0.content.closeIdle = false
            $0.content.abandoned = []
            return taken
        }
    }
}

/// Workers → control thread: servers whose connection failed while forwarding, by slot.
final class SuspicionBox: Sendable {
    /// Readable when a suspicion waits.
    let descriptor: Int32
    private let suspects = Mutex<[(slot: Int, isOutlier: Bool)]>([])

    init() throws(SystemError) { descriptor = try System.eventDescriptor() }

    deinit { System.close(descriptor) }

    func post(_ slot: Int, isOutlier: Bool = false) {
        // Bounded: at most one entry per server.
        let isFirst = suspects.withLock { suspects in
            if let known = suspects.firstIndex(where: { $0.slot == slot }) {
                if isOutlier { suspects[known].isOutlier = true }
                return false
            }
            suspects.append((slot, isOutlier))
            return suspects.count == 1
        }
        if isFirst { System.signal(descriptor) }
    }

    func take() -> [(slot: Int, isOutlier: Bool)] {
        System.drain(descriptor)
        return suspects.withLock {
            let taken = $0
            $0 = []
            return taken
        }
    }
}
