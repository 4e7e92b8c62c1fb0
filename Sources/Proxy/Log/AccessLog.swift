// AccessLog: the thread that writes the access log, and the control thread's door to it.
//
// Workers put records into their rings (LogRing); this thread takes them out, makes lines of them and writes them. It is
// the only one that opens, writes and waits for the log's file, so a slow disk or a pipe that nobody reads
// costs lines and never a request. While it can't keep up, rings fill and workers drop and count; when it can again, a line says
// how many are missing. It reads both clocks once per round, to turn the workers' times into times of day.

import Glibc
import Synchronization

/// How requests are logged.
public struct AccessLogSettings: Sendable, Equatable {
    public var target: LogTarget
    public var style: LogStyle
    /// Targets are logged with their query.
    public var keepsQuery: Bool

    public init(target: LogTarget, style: LogStyle = .json, keepsQuery: Bool = true) {
        self.target = target
        self.style = style
        self.keepsQuery = keepsQuery
    }
}

/// What became of the access log's lines.
public struct AccessLogFigures: Sendable, Equatable {
    public var written: UInt64 = 0
    /// Not written: a ring was full, or the file took no more.
    public var dropped: UInt64 = 0
    /// Why lines are being lost now; nil when none are.
    public var problem: String?

    public init() {}
}

final class AccessLog: Sendable {
    let rings: [LogRing]
    /// Wakes the thread: a worker's record, or an order.
    let wake: Int32
    private let shared = Mutex(Shared())
    /// Raised with every order.
    private let orders = Atomic<Int>(0)

    private struct Shared {
        var settings: AccessLogSettings?
        var names = LogNames()
        var reopens = false
        var stops = false
        var hasEnded = false
        var thread: BackgroundThread?
        var figures = AccessLogFigures()
    }

    /// Records of one ring that are written before orders are looked at again.
    private static let recordsPerRound = 4_096
    /// How long records gather after others, so that many are written at once.
    private static let dozeMs: Int32 = 20
    /// Between two attempts to open a file that can't be opened.
    private static let retryMs: Int32 = 1_000
    /// How long the end of the data plane waits for the last lines.
    private static let lastLinesMs: Int32 = 1_000

    init(workers: Int) throws(SystemError) {
        wake = try System.eventDescriptor()
        rings = (0..<workers).map { _ in LogRing() }
    }

    deinit { System.close(wake) }

    // MARK: the control thread's side

    /// Makes sure that there is a thread that can log.
    func begin() throws(SystemError) {
        guard shared.withLock({ $0.thread == nil }) else { return }
        let thread = try BackgroundThread(name: "access log") { [self] in run() }
        shared.withLock { $0.thread = thread }
    }

    /// Logs as told from now on; nil: not at all. `begin` came first.
    func set(_ settings: AccessLogSettings?) {
        shared.withLock { $0.settings = settings }
        order()
    }

    func setNames(_ names: LogNames) { shared.withLock { $0.names = names } }

    /// Opens the file again by its name: it was renamed.
    func reopen() {
        shared.withLock { $0.reopens = true }
        order()
    }

    private func order() {
        orders.wrappingAdd(1, ordering: .sequentiallyConsistent)
        System.signal(wake)
    }

    var figures: AccessLogFigures {
        var figures = shared.withLock { $0.figures }
        figures.dropped += UInt64(rings.reduce(0) { $0 + $1.dropped })
        return figures
    }

    /// Writes what there is and ends the thread. One that waits for a reader is left behind after a second.
    func stop() {
        let thread = shared.withLock { shared in
            shared.stops = true
            return shared.thread
        }
        guard let thread else { return }
        order()
        for _ in 0..<Self.lastLinesMs {
            if shared.withLock({ $0.hasEnded }) { return thread.join() }
            usleep(1_000)
        }
    }

    // MARK: the thread

    /// What only the thread knows.
    private struct Work: ~Copyable {
        var settings: AccessLogSettings?
        var output = LogOutput()
        var format = LogFormat(style: .json)
        var text = [UInt8](repeating: 0, count: LogRecord.textBytesMax)
        /// The `orders` that were carried out.
        var orders = 0
        var written = 0
        /// Lines that weren't written although they were taken from a ring.
        var lost = 0
        /// Lines lost and dropped that the log itself tells of.
        var told = 0
        var problem: String?
        var isStopping = false
    }

    private func run() {
        var work = Work()
        System.blockBrokenPipes()
        while true {
            obey(&work)
            // Without settings there is no place for them yet: workers may be told to log before this thread knows where to.
            let taken = work.settings == nil && !work.isStopping ? 0 : drain(&work)
            publish(work)
            if work.isStopping, taken == 0 { break }
            if !work.isStopping, taken < Self.recordsPerRound { rest(work, afterRecords: taken) }
        }
        shared.withLock { $0.hasEnded = true }
    }

    /// Carries out what the control thread wants.
    private func obey(_ work: inout Work) {
        work.orders = orders.load(ordering: .sequentiallyConsistent)
        System.drain(wake)
        let (settings, reopens, stops) = shared.withLock { shared in
            defer { shared.reopens = false }
            return (shared.settings, shared.reopens, shared.stops)
        }
        let isNew = settings != work.settings
        if isNew || reopens {
            // What happened before belongs where it would have gone.
            if work.settings != nil { _ = drain(&work) }
            let hasMoved = settings?.target != work.settings?.target
            work.settings = settings
            if let settings {
                if isNew { work.format = LogFormat(style: settings.style) }
                if hasMoved { work.output.close() }
                open(&work)
            } else {
                work.output.close()
                work.problem = nil
            }
        } else if settings != nil, !work.output.isOpen {
            open(&work)
        }
        work.isStopping = stops
    }

    private func open(_ work: inout Work) {
        guard let target = work.settings?.target else { return }
        do {
            try work.output.open(target)
            work.problem = nil
        } catch {
            work.problem = "\(Self.name(target)) can't be opened: \(System.explain(error.code))"
        }
    }

    private static func name(_ target: LogTarget) -> String {
        switch target {
        case .stderr: "stderr"
        case .stdout: "stdout"
        case .file(let path): path
        }
    }

    /// Writes a good part of what the rings hold; how many records it was.
    private func drain(_ work: inout Work) -> Int {
        let names = shared.withLock { $0.names }
        let offset = System.wallMilliseconds() - Int64(System.bootNanoseconds() / 1_000_000)
        var taken = 0
        for ring in rings {
            for _ in 0..<Self.recordsPerRound {
                guard let record = ring.take(text: &work.text) else { break }
                taken += 1
                work.format.add(record, text: work.text, atMs: offset + Int64(record.startMs), names)
                if work.format.bytes.count > 1 << 16 { write(&work) }
            }
        }
        write(&work)
        // After the last of those that were here before the ring was full.
        if taken < Self.recordsPerRound { tellDropped(&work, atMs: System.wallMilliseconds()) }
        return taken
    }

    private func write(_ work: inout Work) {
        guard !work.format.bytes.isEmpty else { return }
        defer { work.format.removeAll() }
        guard work.output.isOpen else {
            work.lost += work.format.bytes.count { $0 == Bytes.lf }
            return
        }
        let known = work.orders
        let patience = LogOutput.Wait(wake: wake, ms: work.isStopping ? Self.lastLinesMs / 4 : -1) { [self] in
            orders.load(ordering: .sequentiallyConsistent) == known
        }
        let outcome = work.output.write(work.format.bytes, patience: patience)
        work.written += outcome.written
        work.lost += outcome.lost
        if let code = outcome.code, let target = work.settings?.target {
            work.problem =
                code == 0
                ? "\(Self.name(target)) isn't read" : "\(Self.name(target)) can't be written: \(System.explain(code))"
        } else {
            work.problem = nil
        }
    }

    /// As soon as lines can be written again, one says how many are missing. (It is how that is found out, too, when no
    /// requests come.)
    private func tellDropped(_ work: inout Work, atMs: Int64) {
        let missing = work.lost + rings.reduce(0) { $0 + $1.dropped }
        guard missing > work.told, work.output.isOpen else { return }
        work.format.addDropped(missing - work.told, atMs: atMs)
        let (written, lost) = (work.written, work.lost)
        write(&work)
        // It isn't one of the lines itself.
        (work.written, work.lost) = (written, lost)
        if work.problem == nil { work.told = missing }
    }

    private func publish(_ work: borrowing Work) {
        let (written, lost, problem) = (work.written, work.lost, work.problem)
        shared.withLock {
            $0.figures.written = UInt64(written)
            $0.figures.dropped = UInt64(lost)
            $0.figures.problem = problem
        }
    }

    private func rest(_ work: borrowing Work, afterRecords taken: Int) {
        let rest: LogRing.Rest = taken > 0 ? .dozing : .asleep
        for ring in rings { ring.announce(rest) }
        defer { for ring in rings { ring.announce(.awake) } }
        if rest == .asleep, work.settings != nil, rings.contains(where: { !$0.isEmpty }) { return }
        var poll = pollfd(fd: wake, events: Int16(POLLIN), revents: 0)
        let isBroken = work.settings != nil && work.problem != nil
        _ = Glibc.poll(&poll, 1, rest == .dozing ? Self.dozeMs : isBroken ? Self.retryMs : -1)
    }
}
