// StorageFile: the data directory: opening it, adding to the log file, and writing that anew. One owner at a time:
// whoever opens it at start, then the storage thread. All calls block on the disk.
//
//   lock      held (flock) by the process that uses the directory; holds its process id
//   log       everything: see StorageFormat.swift
//   log.new   a log being written; it gets the name `log` when it is complete and durable, else it is garbage
//
// Since the log is replaced by one rename, a crash leaves either the old one or the new one, never a mixture.

import Glibc
import Gossip

/// Why the data directory can't be used, with the remedy. In words for an operator.
struct StorageProblem: Error, Equatable, Sendable, CustomStringConvertible {
    var description: String
}

struct StorageFile {
    /// The file is written anew when this much was added to what it began with.
    static let growthBytesMax = 4 << 20
    private static let fileBytesMax = 256 << 20

    let directory: String
    private let disk: Disk
    private let lock: Disk.File
    private var file: Disk.File
    private var size: Int
    private var sizeWhenNew: Int
    private var sequence: UInt64
    /// All that was asked to be stored; on disk too unless `isDoubtful`.
    private(set) var image: StorageImage
    /// A write failed: what the file holds is unknown until it is written anew.
    private(set) var isDoubtful = false

    private var path: String { "\(directory)/log" }
    private var newPath: String { "\(directory)/log.new" }

    /// Opens and locks the directory, making it if its parent is there, and reads what it holds.
    /// - Parameter identity: which node of which cluster this is; a directory of another one is refused.
    /// - Returns: the file and notes for the operator (a torn tail that was cut).
    static func open(
        _ directory: String, identity: String = "", disk: Disk = Disk()
    ) throws(StorageProblem) -> (file: StorageFile, notes: [String]) {
        let lock = try makeAndLock(directory, disk)
        do {
            return try openLog(directory, identity: identity, lock: lock, disk)
        } catch {
            disk.close(lock)
            throw error
        }
    }

    /// Ends the use of the directory by this process.
    func close() {
        disk.close(file)
        disk.close(lock)
    }

    // MARK: Writing

    /// Makes a new boot id durable.
    mutating func begin(boot: UInt64) throws(DiskError) {
        image.boot = boot
        try add(StorageFormat.changes([], boot: boot))
    }

    /// Makes operations durable, all of them in one write.
    /// - Throws: `StorageProblem` when they don't follow from what is stored, `DiskError` when the disk fails. After a
    ///   disk error they are still part of `image`: `repair` tries again.
    mutating func commit(_ operations: [StorageOperation]) throws {
        var hasSnapshot = false
        for operation in operations {
            try image.apply(operation)
            if case .snapshot = operation { hasSnapshot = true }
        }
        if hasSnapshot || isDoubtful || size - sizeWhenNew > Self.growthBytesMax {
            try writeAnew()
        } else {
            try add(StorageFormat.changes(operations))
        }
    }

    /// Writes everything anew after a failure; nothing to do when there was none.
    mutating func repair() throws(DiskError) {
        if isDoubtful { try writeAnew() }
    }

    private mutating func add(_ changes: [UInt8]) throws(DiskError) {
        let frame = StorageFormat.frame(changes, sequence: sequence)
        do {
            try disk.write(file, frame, at: size)
            try disk.sync(file)
        } catch {
            // After a failed fsync nobody knows which pages reached the disk, and a second fsync may say all did.
            isDoubtful = true
            throw error
        }
        size += frame.count
        sequence += 1
    }

    private mutating func writeAnew() throws(DiskError) {
        let bytes = StorageFormat.file(image)
        isDoubtful = true
        let fresh = try Self.replaceLog(directory, with: bytes, disk)
        disk.close(file)
        file = fresh
        size = bytes.count
        sizeWhenNew = size
        sequence = 1
        try disk.syncDirectory(directory)
        isDoubtful = false
    }

    /// Everything but making the rename durable, which the caller does.
    private static func replaceLog(
        _ directory: String, with bytes: [UInt8], _ disk: Disk
    ) throws(DiskError) -> Disk.File {
        let new = "\(directory)/log.new"
        let fresh = try disk.open(new, .replace)
        do {
            try disk.write(fresh, bytes, at: 0)
            try disk.sync(fresh)
            try disk.rename(new, to: "\(directory)/log")
        } catch {
            disk.close(fresh)
            throw error
        }
        return Disk.File(descriptor: fresh.descriptor, path: "\(directory)/log")
    }

    // MARK: Opening

    private static func makeAndLock(_ directory: String, _ disk: Disk) throws(StorageProblem) -> Disk.File {
        let (lock, isOurs) = try disk.explaining(directory) { disk throws(DiskError) in
            _ = try disk.makeDirectory(directory)
            let lock = try disk.open("\(directory)/lock", .create)
            return (lock, try disk.lock(lock))
        }
        if isOurs {
            // Only to name the holder to whoever finds the directory taken.
            do {
                try disk.truncate(lock, to: 0)
                try disk.write(lock, Array("\(getpid())\n".utf8), at: 0)
                return lock
            } catch {
                disk.close(lock)
                throw disk.problem(error, directory)
            }
        }
        let holder = (try? disk.read(lock, limit: 64)).map { String(decoding: $0, as: UTF8.self).trimmed } ?? ""
        disk.close(lock)
        throw StorageProblem(
            description: "data directory \(directory) is in use by another process"
                + (holder.isEmpty ? "" : " (pid \(holder))") + "; each node needs a directory of its own: stop that "
                + "process, or set another `data` directory (or TRIAD_DATA)")
    }

    private static func openLog(
        _ directory: String, identity: String, lock: Disk.File, _ disk: Disk
    ) throws(StorageProblem) -> (file: StorageFile, notes: [String]) {
        let found = try disk.explaining(directory) { disk throws(DiskError) in
            try disk.remove("\(directory)/log.new")
            return try disk.openIfPresent("\(directory)/log")
        }
        guard let found else {
            let fresh = try disk.explaining(directory) { disk throws(DiskError) in
                try begin(directory, identity: identity, lock: lock, disk)
            }
            return (fresh, [])
        }
        do {
            return try recover(directory, found, identity: identity, lock: lock, disk)
        } catch {
            disk.close(found)
            throw error
        }
    }

    private static func recover(
        _ directory: String, _ file: Disk.File, identity: String, lock: Disk.File, _ disk: Disk
    ) throws(StorageProblem) -> (file: StorageFile, notes: [String]) {
        let bytes = try disk.explaining(directory) { disk throws(DiskError) in
            try disk.read(file, limit: fileBytesMax)
        }
        var recovery = try recovery(bytes, directory)
        let written = recovery.image.identity
        if !identity.isEmpty, !written.isEmpty, written != identity {
            throw StorageProblem(
                description: "data directory \(directory) belongs to \(written), and this is \(identity); a node that "
                    + "takes over another's votes could vote twice: give it a directory of its own, or move this one away"
            )
        }
        if !identity.isEmpty { recovery.image.identity = identity }
        var notes: [String] = []
        if recovery.tornBytes > 0 {
            let end = recovery.end
            try disk.explaining(directory) { disk throws(DiskError) in
                try disk.truncate(file, to: end)
                try disk.sync(file)
            }
            notes.append(
                "\(file.path): cut \(recovery.tornBytes) bytes off at \(end), of a write that a crash interrupted")
        }
        let opened = StorageFile(
            directory: directory, disk: disk, lock: lock, file: file, size: recovery.end,
            sizeWhenNew: min(recovery.end, StorageFormat.file(recovery.image).count), sequence: recovery.sequence,
            image: recovery.image)
        return (opened, notes)
    }

    private static func recovery(
        _ bytes: [UInt8], _ directory: String
    ) throws(StorageProblem) -> StorageFormat.Recovery {
        do {
            return try StorageFormat.recover(bytes)
        } catch {
            throw StorageProblem(
                description:
                    "\(directory)/log is damaged at byte \(error.offset): \(error.text); this node can't know what "
                    + "it promised, so it doesn't start: move \(directory) away, and the node rejoins empty and gets "
                    + "everything from its peers (do that on one node at a time, while a majority of the others runs)")
        }
    }

    /// A first, empty log.
    private static func begin(
        _ directory: String, identity: String, lock: Disk.File, _ disk: Disk
    ) throws(DiskError) -> StorageFile {
        let image = StorageImage(identity: identity)
        let bytes = StorageFormat.file(image)
        let file = try replaceLog(directory, with: bytes, disk)
        do {
            try disk.syncDirectory(directory)
        } catch {
            disk.close(file)
            throw error
        }
        return StorageFile(
            directory: directory, disk: disk, lock: lock, file: file, size: bytes.count, sizeWhenNew: bytes.count,
            sequence: 1, image: image)
    }

    private init(
        directory: String, disk: Disk, lock: Disk.File, file: Disk.File, size: Int, sizeWhenNew: Int, sequence: UInt64,
        image: StorageImage
    ) {
        self.directory = directory
        self.disk = disk
        self.lock = lock
        self.file = file
        self.size = size
        self.sizeWhenNew = sizeWhenNew
        self.sequence = sequence
        self.image = image
    }
}

extension Disk {
    /// Does something to the data directory; what fails is told with its remedy.
    fileprivate func explaining<Result>(
        _ directory: String, _ body: (Disk) throws(DiskError) -> Result
    ) throws(StorageProblem) -> Result {
        do {
            return try body(self)
        } catch {
            throw problem(error, directory)
        }
    }

    fileprivate func problem(_ error: DiskError, _ directory: String) -> StorageProblem {
        let remedy = Self.remedy(error.code, directory)
        return StorageProblem(description: "data directory \(directory) can't be used: \(error); \(remedy)")
    }

    private static func remedy(_ code: Int32, _ directory: String) -> String {
        let elsewhere = "set another `data` directory (or TRIAD_DATA)"
        return switch code {
        case ENOENT: "make it first: `mkdir -p \(directory)`"
        case EACCES, EPERM: "this process runs as user \(geteuid()): `chown` it to that user, or \(elsewhere)"
        case EROFS: "the file system is read-only: mount it writable, or \(elsewhere)"
        case ENOSPC, EDQUOT: "the disk is full: make room"
        case ENOTDIR: "something that is not a directory is in its place: remove that, or \(elsewhere)"
        case EIO: "the disk fails: look at the kernel's log, and move the directory to a sound disk"
        case EFBIG: "it is far larger than any log: move \(directory) away, and the node rejoins empty from its peers"
        default: "look at the directory, or \(elsewhere)"
        }
    }
}
