// StorageTests: real files in a real directory: recovery, crashes between steps, and disks that fail.

import Gossip
import Proxy
import Synchronization
import Testing

@testable import Node

#if canImport(Glibc)
    import Glibc
#endif

/// The system's calls, counted, of which some fail.
final class Faults: FileLayer {
    private struct State {
        var calls: [String] = []
        var failsFrom: Int?
        var code: Int32 = EIO
        var call: String?
        var hangsAt: String?
        var locked: Int32?
    }

    private let state = Mutex(State())
    private let system = SystemFiles()

    /// From the call with this number (0 is the first) on everything fails, as after a crash.
    func fail(from number: Int) { state.withLock { $0.failsFrom = number } }

    /// Every call of this name fails.
    func fail(_ call: String?, code: Int32 = EIO) {
        state.withLock {
            $0.call = call
            $0.code = code
        }
    }

    /// Every call of this name takes until it is called again with nil.
    func hang(at call: String?) { state.withLock { $0.hangsAt = call } }

    var calls: [String] { state.withLock { $0.calls } }

    /// The descriptor that was locked last.
    var locked: Int32? { state.withLock { $0.locked } }

    var disk: Disk { Disk(layer: self) }

    private func check(_ call: String) throws(FileFault) {
        while state.withLock({ $0.hangsAt == call }) { usleep(1000) }
        try state.withLock { state throws(FileFault) in
            defer { state.calls.append(call) }
            if let number = state.failsFrom, state.calls.count >= number { throw FileFault(code: state.code) }
            if state.call == call { throw FileFault(code: state.code) }
        }
    }

    func open(_ path: String, _ mode: Disk.Mode) throws(FileFault) -> Int32 {
        try check("open")
        return try system.open(path, mode)
    }

    func close(_ descriptor: Int32) { system.close(descriptor) }

    func read(_ descriptor: Int32, _ count: Int) throws(FileFault) -> [UInt8] {
        try check("read")
        return try system.read(descriptor, count)
    }

    func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>, at offset: Int) throws(FileFault) -> Int {
        try check("write")
        return try system.write(descriptor, bytes, at: offset)
    }

    func truncate(_ descriptor: Int32, _ length: Int) throws(FileFault) {
        try check("truncate")
        try system.truncate(descriptor, length)
    }

    func sync(_ descriptor: Int32) throws(FileFault) {
        try check("fdatasync")
        try system.sync(descriptor)
    }

    func syncDirectory(_ path: String) throws(FileFault) {
        try check("fsync")
        try system.syncDirectory(path)
    }

    func rename(_ from: String, to: String) throws(FileFault) {
        try check("rename")
        try system.rename(from, to: to)
    }

    func remove(_ path: String) throws(FileFault) {
        try check("unlink")
        try system.remove(path)
    }

    func makeDirectory(_ path: String) throws(FileFault) {
        try check("mkdir")
        try system.makeDirectory(path)
    }

    func lock(_ descriptor: Int32) throws(FileFault) {
        try check("flock")
        try system.lock(descriptor)
        state.withLock { $0.locked = descriptor }
    }

    func unlock(_ descriptor: Int32) { system.unlock(descriptor) }
}

@Suite struct StorageFileTests {
    private let scratch = Scratch()

    private var directory: String { scratch.file("data") }

    private func open(_ disk: Disk = Disk(), identity: String = "web/n1") throws -> (file: StorageFile, notes: [String])
    {
        try StorageFile.open(directory, identity: identity, disk: disk)
    }

    private func state() throws -> RecoveredState {
        let file = try open().file
        defer { file.close() }
        return file.image.state
    }

    private func refusal(_ disk: Disk = Disk(), identity: String = "web/n1") -> String {
        do {
            try open(disk, identity: identity).file.close()
            return "opened"
        } catch {
            return "\(error)".replacing(scratch.path, with: "TMP")
        }
    }

    @Test func startsEmptyAndKeepsEverything() throws {
        var file = try open().file
        #expect(file.image.state == RecoveredState())
        try file.commit([.vote(term: 1, votedFor: "n1"), .append(Stored.entries(1...3))])
        try file.commit([.append(Stored.entries(3...5, term: 2)), .vote(term: 2, votedFor: nil)])
        let image = file.image
        file.close()
        let again = try open()
        defer { again.file.close() }
        #expect(again.notes.isEmpty)
        #expect(again.file.image == StorageImage(identity: "web/n1", boot: image.boot + 1, state: image.state))
        #expect(image.state.entries == Stored.entries(1...2) + Stored.entries(3...5, term: 2))
        #expect(scratch.names == ["data"])
    }

    @Test func oneCommitIsOneWriteAndOneSync() throws {
        let faults = Faults()
        var file = try open(faults.disk).file
        defer { file.close() }
        let before = faults.calls.count
        try file.commit([
            .vote(term: 1, votedFor: "n1"), .append(Stored.entries(1...3)), .append(Stored.entries(4...9)),
        ])
        #expect(Array(faults.calls[before...]) == ["write", "fdatasync"])
    }

    @Test func aSnapshotReplacesTheEntriesBeforeIt() throws {
        var file = try open().file
        try file.commit([.vote(term: 3, votedFor: "n2"), .append(Stored.entries(1...500))])
        let before = scratch.bytes("data/log").count
        try file.commit([.append(Stored.entries(501...502)), .snapshot(Stored.snapshot(490), discardsLog: false)])
        try file.commit([.append(Stored.entries(503...503))])
        file.close()
        #expect(scratch.bytes("data/log").count < before / 5)
        let expected = RecoveredState(
            term: 3, votedFor: "n2", snapshot: Stored.snapshot(490), entries: Stored.entries(491...503))
        #expect(try state() == expected)
    }

    @Test func aLongLogOfVotesIsWrittenAnew() throws {
        var file = try open().file
        var largest = 0
        let name = String(repeating: "n", count: 64)
        for term in UInt64(1)...110 {
            try file.commit((0..<600).map { _ in .vote(term: term, votedFor: name) })
            largest = max(largest, scratch.bytes("data/log").count)
        }
        file.close()
        #expect(largest > StorageFile.growthBytesMax)
        #expect(scratch.bytes("data/log").count < largest)
        #expect(try state() == RecoveredState(term: 110, votedFor: name))
    }

    /// What a crash leaves when it comes before any one of the file operations.
    @Test func aCrashBetweenAnyTwoStepsLeavesTheOldOrTheNew() throws {
        let steps: [[StorageOperation]] = [
            [.vote(term: 1, votedFor: "n1")], [.append(Stored.entries(1...6))],
            [.snapshot(Stored.snapshot(4), discardsLog: false)], [.append(Stored.entries(7...8))],
            [.snapshot(Stored.snapshot(20, term: 2), discardsLog: true), .vote(term: 2, votedFor: nil)],
        ]
        var number = 0
        var isOver = false
        while !isOver {
            let scratch = Scratch()
            let faults = Faults()
            faults.fail(from: number)
            var image = StorageImage(identity: "web/n1")
            var attempted = image
            do {
                var file = try StorageFile.open(scratch.file("data"), identity: "web/n1", disk: faults.disk).file
                defer { file.close() }
                for operations in steps {
                    for operation in operations { try attempted.apply(operation) }
                    try file.commit(operations)
                    image = attempted
                }
                isOver = true
            } catch {}
            let after = try StorageFile.open(scratch.file("data"), identity: "web/n1").file
            defer { after.close() }
            #expect(
                after.image.state == image.state || after.image.state == attempted.state,
                "crash before operation \(number): \(faults.calls)")
            #expect(!scratch.exists("data/log.new"))
            number += 1
        }
        #expect(number > 25)
    }

    @Test func aTornTailIsCutAndWrittenOver() throws {
        var file = try open().file
        try file.commit([.append(Stored.entries(1...3))])
        file.close()
        try open().file.close()
        let whole = scratch.bytes("data/log")
        scratch.write(
            "data/log", whole + Array(StorageFormat.frame([1, 2, 3], sequence: 1, at: whole.count).dropLast()))
        var opened = try open()
        #expect(
            opened.notes.map { $0.replacing(scratch.path, with: "TMP") } == [
                "TMP/data/log: cut 39 bytes off at \(whole.count), of a write that a crash interrupted"
            ])
        #expect(scratch.bytes("data/log").count == whole.count)
        try opened.file.commit([.append(Stored.entries(4...4))])
        opened.file.close()
        #expect(try state().entries == Stored.entries(1...4))
    }

    @Test func damageNamesFileOffsetAndRemedy() throws {
        var file = try open().file
        let start = scratch.bytes("data/log").count
        try file.commit([.append(Stored.entries(1...3))])
        try file.commit([.append(Stored.entries(4...6))])
        file.close()
        var bytes = scratch.bytes("data/log")
        bytes[start + 40] ^= 4
        scratch.write("data/log", bytes)
        #expect(
            refusal()
                == "TMP/data/log is damaged at byte \(start): the record there fails its checksum; this node can't know what "
                + "it promised, so it doesn't start: move TMP/data away, and the node rejoins empty and gets everything from "
                + "its peers (do that on one node at a time, while a majority of the others runs)")
        #expect(scratch.bytes("data/log") == bytes, "a damaged log is left as it is")
    }

    @Test func twoProcessesCannotShareADirectory() throws {
        let file = try open().file
        #expect(
            refusal()
                == "data directory TMP/data is in use by another process (pid \(getpid())); each node needs a directory of "
                + "its own: stop that process, or set another `data` directory (or TRIAD_DATA)")
        file.close()
        #expect(refusal() == "opened")
    }

    /// A child that is being started has all open files until it becomes its program: a copy stands for it here.
    @Test func aChildThatIsBeingStartedDoesNotKeepADirectory() throws {
        let faults = Faults()
        let file = try open(faults.disk).file
        let copy = dup(try #require(faults.locked))
        defer { close(copy) }
        file.close()
        #expect(copy >= 0 && refusal() == "opened")
    }

    @Test func anotherNodesDirectoryIsRefused() throws {
        try open().file.close()
        #expect(
            refusal(identity: "web/n2")
                == "data directory TMP/data belongs to web/n1, and this is web/n2; a node that takes over another's votes "
                + "could vote twice: give it a directory of its own, or move this one away")
    }

    @Test(arguments: [
        (
            "mkdir", EACCES,
            "TMP/data: mkdir: Permission denied; this process runs as user \(geteuid()): `chown` it to that user, or set another `data` directory (or TRIAD_DATA)"
        ),
        (
            "mkdir", EROFS,
            "TMP/data: mkdir: Read-only file system; the file system is read-only: mount it writable, or set another `data` directory (or TRIAD_DATA)"
        ),
        (
            "open", EACCES,
            "TMP/data/lock: open: Permission denied; this process runs as user \(geteuid()): `chown` it to that user, or set another `data` directory (or TRIAD_DATA)"
        ),
        ("write", ENOSPC, "TMP/data/log.new: write: No space left on device; the disk is full: make room"),
        (
            "fdatasync", EIO,
            "TMP/data/log.new: fdatasync: Input/output error; the disk fails: look at the kernel's log, and move the directory to a sound disk"
        ),
        (
            "fsync", EIO,
            "TMP: fsync: Input/output error; the disk fails: look at the kernel's log, and move the directory to a sound disk"
        ),
    ])
    func failuresAreExplained(_ call: String, _ code: Int32, _ text: String) {
        let faults = Faults()
        faults.fail(call, code: code)
        #expect(refusal(faults.disk) == "data directory TMP/data can't be used: " + text)
        #expect(refusal() == "opened")
    }

    @Test func missingParentsAndFilesInTheWayAreExplained() {
        scratch.write("file", "")
        func refusal(_ path: String) -> String {
            do {
                try StorageFile.open(scratch.file(path)).file.close()
                return "opened"
            } catch {
                return error.description.replacing(scratch.path, with: "TMP")
            }
        }
        #expect(
            refusal("a/b")
                == "data directory TMP/a/b can't be used: TMP/a/b: mkdir: No such file or directory; make it first: `mkdir -p TMP/a/b`"
        )
        #expect(
            refusal("file")
                == "data directory TMP/file can't be used: TMP/file: mkdir: Not a directory; something that is not a directory is in its place: remove that, or set another `data` directory (or TRIAD_DATA)"
        )
    }
}

@Suite struct StorageTests {
    private let scratch = Scratch()

    /// Completions until `done`, or those that came within the limit of a wait.
    private func completions(of storage: Storage, until done: ([Storage.Completion]) -> Bool) -> [Storage.Completion] {
        var all: [Storage.Completion] = []
        let clock = ContinuousClock()
        let end = clock.now + .milliseconds(waitMsMax)
        while clock.now < end {
            all += storage.takeCompletions()
            if done(all) { break }
            var descriptor = pollfd(fd: storage.eventDescriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&descriptor, 1, 100)
        }
        return all
    }

    @Test func persistsInOrderAndSurvivesARestart() throws {
        let storage = try Storage(directory: scratch.file("data"))
        for index in UInt64(1)...300 { storage.submit([.append([Stored.entry(index)])], ticket: index) }
        let found = completions(of: storage) { $0.last == .persisted(ticket: 300) }
        let tickets = found.map { if case .persisted(let ticket) = $0 { ticket } else { UInt64(0) } }
        #expect(tickets == tickets.sorted())
        #expect(tickets.last == 300)
        storage.close()
        let again = try Storage(directory: scratch.file("data"))
        defer { again.close() }
        #expect(again.recovered.entries == Stored.entries(1...300))
        #expect(again.boot > storage.boot)
    }

    @Test func whatComesInDuringAWriteIsWrittenTogether() throws {
        let faults = Faults()
        let storage = try Storage(directory: scratch.file("data"), disk: faults.disk)
        defer { storage.close() }
        let before = faults.calls.count { $0 == "fdatasync" }
        faults.hang(at: "fdatasync")
        for index in UInt64(1)...5000 { storage.submit([.append([Stored.entry(index)])], ticket: index) }
        faults.hang(at: nil)
        #expect(
            completions(of: storage) { $0.last == .persisted(ticket: 5000) }.last
                == .persisted(ticket: 5000))
        // What was there before the disk hung, and all that came meanwhile.
        let syncs = faults.calls.count { $0 == "fdatasync" } - before
        #expect(syncs <= 2, "5000 submissions took \(syncs) syncs")
    }

    /// The clock may go back between two runs; boots may not.
    @Test func bootsGrowEvenIfTheClockDoesNot() throws {
        let future = UInt64(1) << 62
        try StorageFile.open(scratch.file("data"), bootMin: future).file.close()
        let storage = try Storage(directory: scratch.file("data"))
        defer { storage.close() }
        #expect(storage.boot == future + 1)
    }

    @Test(arguments: ["write", "fdatasync"]) func aFailingDiskIsSaidOnceAndHealed(call: String) throws {
        let faults = Faults()
        let storage = try Storage(directory: scratch.file("data"), disk: faults.disk, retryMs: 5)
        storage.submit([.vote(term: 1, votedFor: "n1")], ticket: 1)
        #expect(completions(of: storage) { !$0.isEmpty } == [.persisted(ticket: 1)])
        faults.fail(call)
        storage.submit([.append(Stored.entries(1...2))], ticket: 2)
        let path = scratch.file("data/log")
        #expect(completions(of: storage) { !$0.isEmpty } == [.failed(reason: "\(path): \(call): Input/output error")])
        let attempts = faults.calls.count
        storage.submit([.append(Stored.entries(3...3))], ticket: 3)
        while faults.calls.count < attempts + 6 { usleep(1000) }
        #expect(storage.takeCompletions().isEmpty)
        faults.fail(nil)
        #expect(completions(of: storage) { !$0.isEmpty } == [.persisted(ticket: 3)])
        storage.submit([.append(Stored.entries(4...4))], ticket: 4)
        #expect(completions(of: storage) { !$0.isEmpty } == [.persisted(ticket: 4)])
        storage.close()
        let again = try Storage(directory: scratch.file("data"))
        defer { again.close() }
        #expect(again.recovered == RecoveredState(term: 1, votedFor: "n1", entries: Stored.entries(1...4)))
    }

    /// A disk that hangs doesn't fail: nobody would say anything for as long as it does.
    @Test func aHangingDiskIsSaidOnceAndHealed() throws {
        let faults = Faults()
        let storage = try Storage(directory: scratch.file("data"), disk: faults.disk)
        let later = { System.bootNanoseconds() + 5_100_000_000 }
        storage.look(now: later())
        #expect(storage.takeCompletions().isEmpty, "nothing waits")
        faults.hang(at: "fdatasync")
        defer { faults.hang(at: nil) }
        storage.submit([.vote(term: 1, votedFor: "n1")], ticket: 1)
        storage.look(now: System.bootNanoseconds())
        #expect(storage.takeCompletions().isEmpty, "it has just begun")
        for _ in 0..<3 { storage.look(now: later()) }
        let reason = "the disk has not answered for 5 s"
        #expect(completions(of: storage) { !$0.isEmpty } == [.failed(reason: reason)])
        storage.submit([.append(Stored.entries(1...2))], ticket: 2)
        faults.hang(at: nil)
        #expect(completions(of: storage) { $0.last == .persisted(ticket: 2) }.last == .persisted(ticket: 2))
        storage.look(now: later())
        #expect(storage.takeCompletions().isEmpty, "nothing waits any more")
        storage.close()
        let again = try Storage(directory: scratch.file("data"))
        defer { again.close() }
        #expect(again.recovered == RecoveredState(term: 1, votedFor: "n1", entries: Stored.entries(1...2)))
    }

    @Test func operationsThatDoNotFollowStopIt() throws {
        let storage = try Storage(directory: scratch.file("data"))
        defer { storage.close() }
        storage.submit([.append([Stored.entry(5)])], ticket: 1)
        let reason = "asked to store an entry of index 5 where 1 to 1 may follow; restart this node"
        #expect(completions(of: storage) { !$0.isEmpty } == [.failed(reason: reason)])
        storage.submit([.append([Stored.entry(1)])], ticket: 2)
        usleep(20000)
        #expect(storage.takeCompletions().isEmpty)
    }

    @Test func aDirectoryThatCannotBeWrittenIsRefusedAtStart() throws {
        try StorageFile.open(scratch.file("data")).file.close()
        let faults = Faults()
        faults.fail("fdatasync", code: ENOSPC)
        #expect(throws: StorageProblem.self) { try Storage(directory: scratch.file("data"), disk: faults.disk) }
        let storage = try Storage(directory: scratch.file("data"))
        storage.close()
    }
}
