// StorageCrashTests: every point at which a machine may crash or a disk may fail, and what is there afterwards.
//
// A script of commits runs once over the model file system, which is copied before each call. Each copy leaves what a
// crash at that moment may leave (see ModelFiles), each of those is opened again, and that recovery is crashed at every
// point too. What must hold: everything that was reported persisted is there, in order; nothing that wasn't submitted
// is; what a recovery told is durable; boot ids grow.

import Gossip
import Synchronization
import Testing

@testable import Node

#if canImport(Glibc)
    import Glibc
#endif

/// What a recovery may find.
private struct Promise: Hashable {
    /// Commits that were reported persisted, and those submitted.
    var acknowledged = 0
    var submitted = 0
    /// The last boot id that was in use.
    var boot: UInt64 = 0
}

/// A file system at the moment before a call.
private struct Moment: Hashable {
    var state: ModelState
    var promise: Promise
}

private enum Script {
    static let directory = "/data"
    static let log = "/data/log"
    static let growthBytesMax = 2500

    static let steps: [[StorageOperation]] = [
        [.vote(term: 1, votedFor: "n1")], [.append(Stored.entries(1...2))],
        // Several sectors in one write.
        [.append(Stored.entries(3...34))], [.vote(term: 2, votedFor: nil), .append(Stored.entries(33...36, term: 2))],
        [.vote(term: 2, votedFor: "n2")],
        // The file is written anew.
        [.snapshot(Stored.snapshot(20, bytes: 700), discardsLog: false)],
        [.append(Stored.entries(37...38, term: 2)), .append(Stored.entries(39...39, term: 2))],
        [.append(Stored.entries(40...70, term: 2))], [.append(Stored.entries(71...110, term: 2))],
        // Here too, since it grew past the limit.
        [.vote(term: 3, votedFor: "n3")], [.append(Stored.entries(105...106, term: 3))],
        [.snapshot(Stored.snapshot(200, term: 3, bytes: 40), discardsLog: true), .vote(term: 4, votedFor: nil)],
        [.append(Stored.entries(201...202, term: 4))],
    ]

    /// What there is after each number of steps.
    static let states: [RecoveredState] = {
        var image = StorageImage()
        var states = [image.state]
        for step in steps {
            for operation in step { try? image.apply(operation) }
            states.append(image.state)
        }
        return states
    }()

    static func open(_ files: ModelFiles) throws -> StorageFile {
        try StorageFile.open(directory, identity: "web/n1", disk: files.disk, growthBytesMax: growthBytesMax).file
    }
}

/// Collects the moments of a run.
private final class Recorder: Sendable {
    private let state = Mutex<(moments: [Moment], promise: Promise)>(([], Promise()))

    func observe(_ files: ModelState) {
        state.withLock { $0.moments.append(Moment(state: files, promise: $0.promise)) }
    }

    func promise(_ change: (inout Promise) -> Void) { state.withLock { change(&$0.promise) } }

    var promise: Promise { state.withLock { $0.promise } }
    var moments: [Moment] { state.withLock { $0.moments } }
}

@Suite struct StorageCrashTests {
    /// Runs the script as the storage thread does: what fails is written anew with the next step, and at the end until
    /// it works.
    /// - Returns: every moment of it, the last one after its end.
    private func run(fault: @escaping @Sendable (Int, String) -> ModelFault? = { _, _ in nil }) -> [Moment] {
        let recorder = Recorder()
        let files = ModelFiles(fault: fault, observe: { recorder.observe($0) })
        guard var file = start(files, recorder) else {
            Issue.record("it never starts")
            return recorder.moments
        }
        for (number, step) in Script.steps.enumerated() {
            recorder.promise { $0.submitted = number + 1 }
            do {
                try file.commit(step)
                recorder.promise { $0.acknowledged = number + 1 }
                recorder.observe(files.state)
            } catch {
                #expect(error is DiskError)
            }
        }
        for _ in 0..<10 where file.isDoubtful { try? file.repair() }
        #expect(!file.isDoubtful)
        recorder.promise { $0.acknowledged = $0.submitted }
        recorder.observe(files.state)
        file.close()
        #expect(files.openCount == 0)
        return recorder.moments
    }

    private func start(_ files: ModelFiles, _ recorder: Recorder) -> StorageFile? {
        for _ in 0..<10 {
            guard let file = try? Script.open(files) else {
                #expect(files.openCount == 0, "what couldn't start leaves nothing open")
                continue
            }
            recorder.promise { $0.boot = file.image.boot }
            return file
        }
        return nil
    }

    /// Starts from what a crash left and checks what is there.
    /// - Returns: the moments of that start, and the one after it; each with what has to be there if it is the last.
    private func recover(_ moment: Moment, _ origin: Comment) -> [Moment] {
        let recorder = Recorder()
        recorder.promise { $0 = moment.promise }
        let files = ModelFiles(moment.state, observe: { recorder.observe($0) })
        do {
            let file = try Script.open(files)
            defer { file.close() }
            let promise = moment.promise
            let found = file.image.state
            let place = (promise.acknowledged...promise.submitted).first { Script.states[$0] == found }
            guard let place else {
                let other = Script.states.firstIndex(of: found).map { "what there was after \($0) steps" }
                Issue.record(
                    "\(origin): after \(promise.acknowledged) to \(promise.submitted) steps there is \(other ?? "\(found)")"
                )
                return []
            }
            #expect(file.image.boot > promise.boot, origin)
            // From here on the node acts on what it found.
            recorder.promise { $0 = Promise(acknowledged: place, submitted: place, boot: file.image.boot) }
            recorder.observe(files.state)
            #expect(files.state.bytes("/data/log.new") == nil, origin)
        } catch {
            Issue.record("\(origin): \(error)")
        }
        return recorder.moments
    }

    /// Everything that may be found after a stop at this moment: the process alone, or the machine.
    private func remains(_ moment: Moment, fine: Bool) -> [Moment] {
        var all = moment.state.remains(fine: fine, watched: Script.log)
        all.insert(moment.state)
        return all.map { Moment(state: $0, promise: moment.promise) }
    }

    /// Crashes at every moment, and in the recoveries too.
    /// - Parameters:
    ///   - fine: cut writes at every byte, besides.
    ///   - seen: what was tried already.
    private func crash(at moments: some Sequence<Moment>, fine: Bool, _ what: String, seen: inout Set<Moment>) {
        for (number, moment) in moments.enumerated() {
            let origin: Comment = "\(what), crash \(number)"
            for left in remains(moment, fine: false) where seen.insert(left).inserted {
                for inner in Set(recover(left, origin)) {
                    for again in remains(inner, fine: false) where seen.insert(again).inserted {
                        _ = recover(again, "\(origin), and in the recovery")
                    }
                }
            }
            if !fine { continue }
            for left in remains(moment, fine: true) where seen.insert(left).inserted { _ = recover(left, origin) }
        }
    }

    @Test func everyCrashLeavesWhatWasReported() {
        let moments = run()
        #expect(moments.last?.promise.acknowledged == Script.steps.count)
        var seen: Set<Moment> = []
        crash(at: moments, fine: true, "no fault", seen: &seen)
        print("  \(moments.count) moments, \(seen.count) recoveries")
        #expect(seen.count > 5000)
    }

    /// Each call fails once, in each way; and then the machine crashes, or the process is started again, at any moment
    /// near it. A process that is started again after a failed sync sees in the cache what the disk doesn't have.
    @Test func everyFailureIsSurvived() {
        let calls = Mutex(0)
        _ = run { number, _ in
            calls.withLock { $0 = number + 1 }
            return nil
        }
        let count = calls.withLock { $0 }
        var seen: Set<Moment> = []
        let faults: [ModelFault] = [
            .fails(EIO), .fails(ENOSPC), .fails(EROFS), .fails(EINTR), .short(0), .short(5), .short(600),
        ]
        for fault in faults {
            for place in 0..<count {
                let moments = run { number, _ in number == place ? fault : nil }
                let near = fault == .fails(EIO) ? moments.dropFirst(place).prefix(6) : []
                crash(at: near + moments.suffix(1), fine: false, "call \(place): \(fault)", seen: &seen)
            }
        }
        print("  \(count) calls, \(faults.count) faults each, \(seen.count) recoveries")
        #expect(seen.count > 500)
    }

    /// Everything fails from a call on, for a while or until the end: whatever is written anew in the end, is there.
    @Test func aDiskThatFailsForAWhileLosesNothing() {
        var seen: Set<Moment> = []
        for code in [EIO, ENOSPC, EROFS] {
            for place in stride(from: 12, to: 50, by: 3) {
                for length in [2, 5, 9] {
                    // The disk is full: it can't be written, but names can be removed and files cut.
                    let isWrite: Set<String> = ["write", "fdatasync", "fsync", "rename", "open"]
                    let moments = run { number, call in
                        (place..<place + length).contains(number) && isWrite.contains(call) ? .fails(code) : nil
                    }
                    crash(at: moments.suffix(1), fine: false, "calls \(place) to \(place + length)", seen: &seen)
                }
            }
        }
    }

    /// Any byte of a file that was made durable, changed: refused, with the place and the remedy, and left as it is.
    @Test func aChangedByteIsRefusedOrOfAnInterruptedWrite() throws {
        let moments = run()
        var files: [[UInt8]: Promise] = [:]
        for moment in moments where moment.promise.acknowledged == moment.promise.submitted {
            if let bytes = moment.state.durableBytes(Script.log) { files[bytes] = moment.promise }
        }
        #expect(files.count > 8)
        var tried = 0
        for (bytes, promise) in files {
            for index in bytes.indices where bytes.count < 600 || index % 7 == 0 {
                for mask: UInt8 in [1, 0x80, 0xff, bytes[index]] where mask != 0 {
                    var changed = bytes
                    changed[index] ^= mask
                    tried += 1
                    expectRefusal(changed, at: index, promise)
                }
            }
        }
        print("  \(files.count) files, \(tried) changed bytes")
    }

    private func expectRefusal(_ bytes: [UInt8], at index: Int, _ promise: Promise) {
        let state = ModelState(log: bytes)
        let files = ModelFiles(state)
        do {
            let opened = try StorageFile.open(Script.directory, identity: "web/n1", disk: files.disk)
            opened.file.close()
            Issue.record("byte \(index) of \(bytes.count) after \(promise.acknowledged) steps: \(opened.notes)")
        } catch {
            let text = error.description
            let words = text.split(separator: " ")
            let place = words.firstIndex(of: "byte").flatMap { Int(words[$0 + 1].dropLast()) }
            #expect(text.hasPrefix("/data/log is damaged at byte "), "\(text)")
            #expect(place.map { $0 <= index } == true, "\(text)")
            #expect(text.contains("move /data away, and the node rejoins empty"), "\(text)")
        }
        #expect(files.state.bytes(Script.log) == bytes, "a damaged log is left as it is")
        #expect(files.openCount == 0)
    }

    /// The same in what a crash left of the last write: refused, or cut off with a note; what was durable stays.
    @Test func aChangedByteInAnInterruptedWriteIsNeverSilent() throws {
        let moments = run()
        var tried = 0
        for moment in moments where moment.promise.acknowledged < moment.promise.submitted {
            guard let whole = moment.state.bytes(Script.log), let durable = moment.state.durableBytes(Script.log),
                whole.count > durable.count
            else { continue }
            for cut in stride(from: durable.count + 1, through: whole.count, by: 97) {
                for index in stride(from: durable.count, to: cut, by: 41) {
                    var bytes = Array(whole[..<cut])
                    bytes[index] ^= 0x20
                    tried += 1
                    let files = ModelFiles(ModelState(log: bytes))
                    guard let opened = try? StorageFile.open(Script.directory, disk: files.disk) else { continue }
                    opened.file.close()
                    #expect(opened.file.image.state == Script.states[moment.promise.acknowledged])
                    #expect(opened.notes.count == 1, "byte \(index) of \(bytes.count)")
                }
            }
        }
        #expect(tried > 20)
    }

    /// The batch that a disk may have to take at once after it hung fits a record.
    @Test func whatMayWaitFitsARecord() {
        #expect(Storage.waitingMax * Limits.datagramBytesMax < StorageFormat.payloadBytesMax)
    }
}

extension ModelState {
    /// A machine with nothing but this log.
    fileprivate init(log: [UInt8]) {
        self.init(inodes: [Inode(cache: log, durable: log)])
        names = Names(files: [Script.log: 0], directories: ["/", Script.directory])
        durableNames = names
    }

    fileprivate func durableBytes(_ path: String) -> [UInt8]? { durableNames.files[path].map { inodes[$0].durable } }
}
