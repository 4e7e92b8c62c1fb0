// Storage: keeps term, vote, log and snapshot on disk, on a thread of its own, so that no heartbeat waits for a disk.
//
// The control thread submits operations and goes on; the storage thread takes all that have come in meanwhile, makes
// them durable with one fdatasync (group commit), and reports that through an eventfd. In order, always: a ticket
// reported as persisted includes all tickets before it.
//
//   working --disk error--> failing (said once) --written anew--> working (`persisted` for all that waited)
//   working --no answer for `silenceMax`--> failing (said once) --the disk answers--> working
//   working --operations that don't follow, or far too many waiting--> stopped (said once; until a restart)
//
// While failing, operations are kept and everything is written anew every `retryMs`, since after a failed fsync the
// file can't be trusted. Nothing is ever reported as persisted that isn't.

import Glibc
import Gossip
import Proxy
import Synchronization

final class Storage: Sendable {
    enum Completion: Equatable, Sendable {
        /// Everything submitted with this ticket or an earlier one is durable.
        case persisted(ticket: UInt64)
        /// What was submitted is not durable; storage goes on trying unless it says otherwise.
        case failed(reason: String)
    }

    /// Operations waiting for a disk that doesn't answer; beyond it storage gives up.
    static let waitingMax = 100_000

    /// How long a disk may take over one write. Beyond it the node is of no use as a leader, whether or not the write
    /// succeeds in the end.
    static let silenceMax = Duration.seconds(5)

    /// What the directory held at start.
    let recovered: RecoveredState
    /// Of this process: larger than any before in this directory; durable already.
    let boot: UInt64
    /// For the operator, from the start: what was cut off.
    let notes: [String]
    private let channel: StorageChannel
    private let thread: BackgroundThread

    /// Opens the directory (made if missing), reads it, and starts the thread.
    /// - Parameters:
    ///   - identity: `CLUSTER/NODE`; a directory that another node wrote is refused.
    ///   - retryMs: pause between attempts while the disk fails.
    /// - Throws: why it can't be used, with the remedy.
    init(
        directory: String, identity: String = "", disk: Disk = Disk(), retryMs: Int32 = 1000
    ) throws(StorageProblem) {
        // The clock makes boots unique even when the directory was emptied; the directory, when the clock went back.
        let clock = UInt64(max(0, System.wallMilliseconds())) * 1000
        let (file, notes) = try StorageFile.open(directory, identity: identity, bootMin: clock, disk: disk)
        let image = file.image
        do {
            let channel = try StorageChannel()
            let writer = StorageWriter(file, channel, retryMs: retryMs)
            thread = try BackgroundThread(name: "storage") { writer.run() }
            self.channel = channel
        } catch {
            file.close()
            throw StorageProblem(description: "storage can't be started: \(error)")
        }
        self.recovered = image.state
        boot = image.boot
        self.notes = notes
    }

    /// Readable when there are completions.
    var eventDescriptor: Int32 { channel.completed }

    /// Asks for operations to be made durable after all earlier ones. Returns at once. Any thread.
    func submit(_ operations: [StorageOperation], ticket: UInt64) { channel.submit(operations, ticket: ticket) }

    /// Looks whether the disk hangs: the storage thread, which waits for it, can't say so. Call it now and then.
    func look(now: UInt64) { channel.look(now: now) }

    /// What was done since the last call.
    func takeCompletions() -> [Completion] { channel.takeCompletions() }

    /// Writes what was submitted, if the disk lets it, and ends the thread. The directory is free then.
    func close() {
        channel.stop()
        thread.join()
    }
}

/// What the control thread and the storage thread share.
private final class StorageChannel: Sendable {
    struct State {
        var operations: [StorageOperation] = []
        var ticket: UInt64 = 0
        var completions: [Storage.Completion] = []
        var isStopping = false
        /// Since when something has been waiting for the disk, CLOCK_BOOTTIME nanoseconds; nil when nothing is.
        var waitingSince: UInt64?
        /// The last thing that was reported is a failure.
        var isFailing = false
        /// It said that it gave up: nothing is taken any more.
        var hasGivenUp = false
    }

    private let state = Mutex(State())
    /// Tells the storage thread that there is work.
    let work: Int32
    /// Tells the control thread that there are completions.
    let completed: Int32

    init() throws(SystemError) {
        work = try System.eventDescriptor()
        completed = try System.eventDescriptor()
    }

    deinit {
        System.close(work)
        System.close(completed)
    }

    func submit(_ operations: [StorageOperation], ticket: UInt64) {
        let isTooMuch = state.withLock { state in
            if state.hasGivenUp { return false }
            state.operations += operations
            state.ticket = ticket
            if state.waitingSince == nil { state.waitingSince = System.bootNanoseconds() }
            return state.operations.count > Storage.waitingMax
        }
        if isTooMuch { giveUp("the disk didn't take \(Storage.waitingMax) operations; restart this node") }
        System.signal(work)
    }

    func takeCompletions() -> [Storage.Completion] {
        System.drain(completed)
        return state.withLock { state in
            defer { state.completions = [] }
            return state.completions
        }
    }

    func stop() {
        state.withLock { $0.isStopping = true }
        System.signal(work)
    }

    /// All that waits, for the storage thread.
    func take() -> (operations: [StorageOperation], ticket: UInt64, isStopping: Bool) {
        System.drain(work)
        return state.withLock { state in
            defer { state.operations = [] }
            return (state.operations, state.ticket, state.isStopping)
        }
    }

    func report(_ completion: Storage.Completion) {
        state.withLock { state in
            // Once given up, a commit that was under way must not look like recovery.
            if case .persisted = completion, state.hasGivenUp { return }
            if case .persisted(let ticket) = completion {
                state.waitingSince = ticket == state.ticket ? nil : System.bootNanoseconds()
                state.isFailing = false
            } else {
                state.isFailing = true
            }
            state.completions.append(completion)
        }
        System.signal(completed)
    }

    func look(now: UInt64) {
        let hangs = state.withLock { state in
            guard let since = state.waitingSince, !state.isFailing, !state.hasGivenUp else { return false }
            return now >= since + UInt64(Storage.silenceMax.components.seconds) * 1_000_000_000
        }
        if hangs { report(.failed(reason: "the disk has not answered for \(Storage.silenceMax.components.seconds) s")) }
    }

    func giveUp(_ reason: String) {
        let isNew = state.withLock { state in
            defer {
                state.hasGivenUp = true
                state.operations = []
            }
            return !state.hasGivenUp
        }
        if isNew { report(.failed(reason: reason)) }
    }

    var hasGivenUp: Bool { state.withLock { $0.hasGivenUp } }
}

/// The storage thread's loop.
private final class StorageWriter: Sendable {
    private let file: Mutex<StorageFile?>
    private let channel: StorageChannel
    private let retryMs: Int32

    init(_ file: StorageFile, _ channel: StorageChannel, retryMs: Int32) {
        self.file = Mutex(file)
        self.channel = channel
        self.retryMs = retryMs
    }

    func run() {
        // WHY: the mutex hands the file over from the thread that opened it; nobody else ever takes it.
        guard var file = file.withLock({ $0.take() }) else { return }
        var reported: UInt64 = 0
        while true {
            let taken = channel.take()
            let isNew = !taken.operations.isEmpty || taken.ticket != reported
            if isNew || file.isDoubtful, !channel.hasGivenUp, write(taken.operations, ticket: taken.ticket, to: &file) {
                reported = taken.ticket
            }
            if taken.isStopping { break }
            if taken.operations.isEmpty || file.isDoubtful { pause(failing: file.isDoubtful) }
        }
        file.close()
    }

    /// Whether everything up to `ticket` is durable now.
    private func write(_ operations: [StorageOperation], ticket: UInt64, to file: inout StorageFile) -> Bool {
        let wasFailing = file.isDoubtful
        do {
            try file.commit(operations)
            channel.report(.persisted(ticket: ticket))
            return true
        } catch let error as StorageImage.Disorder {
            channel.giveUp("asked to store \(error); restart this node")
        } catch {
            if !wasFailing { channel.report(.failed(reason: "\(error)")) }
        }
        return false
    }

    /// Waits for work; while failing for the time between two attempts, whatever comes in.
    private func pause(failing: Bool) {
        var descriptors = pollfd(fd: failing ? -1 : channel.work, events: Int16(POLLIN), revents: 0)
        _ = poll(&descriptors, 1, failing ? retryMs : -1)
    }
}
