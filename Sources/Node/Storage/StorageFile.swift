// StorageFile: the data directory: opening it, adding to the log file, and writing that anew. One owner at a time:
// whoever opens it at start, then the storage thread. All calls block on the disk.
//
//   lock      held (flock) by the process that uses the directory; holds its process id
//   log       everything: see StorageFormat.swift
//   log.new   a log being written; it gets the name `log` when it is complete and durable, else it is garbage
//
// Since the log is replaced by one rename, a crash leaves either the old one or the new one, never a mixture. At start
// what was read is written anew before anything is done with it: a file shows what an earlier process wrote and never
// synced, or failed to sync, as if it were on the disk.

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
    private let growthBytesMax: Int
    private let lock: Disk.File
    /// nil until it was written for the first time.
    private var file: Disk.File?
    private var size = 0
    private var sizeWhenNew = 0
    private var sequence: UInt64 = 1
    /// All that was asked to be stored; on disk too unless `isDoubtful`.
    private(set) var image: StorageImage
    /// What the file holds is unknown until it is written anew: a write failed.
    private(set) var isDoubtful = true

    private var path: String { "\(directory)/log" }
    private var newPath: String { "\(directory)/log.new" }

    /// Opens and locks the directory, making it if its parent is there, reads what it holds, and takes a new boot id.
    /// All of `image` is durable then.
    /// - Parameters:
    ///   - identity: which node of which cluster this is; a directory of another one is refused.
    ///   - bootMin: the boot id is this, or one more than the last one if that is larger.
    /// - Returns: the file and notes for the operator (a torn tail that was cut).
    static func open(
        _ directory: String, identity: String = "", bootMin: UInt64 = 0, disk: Disk = Disk(),
        growthBytesMax: Int = growthBytesMax
    ) throws(StorageProblem) -> (file: StorageFile, notes: [String]) {
        let lock = try makeAndLock(directory, disk)
        do {
            let (found, notes) = try read(directory, identity: identity, disk)
            var file = StorageFile(
                directory: directory, disk: disk, growthBytesMax: growthBytesMax, lock: lock,
                image: found ?? StorageImage(identity: identity))
            file.image.boot = max(file.image.boot + 1, bootMin)
            try disk.explaining(directory) { disk throws(DiskError) in
                // The directory's own name; a log in it is a sign that an earlier life saw to that.
                if found == nil { try syncParent(of: directory, disk) }
                try file.writeAnew()
            }
            return (file, notes)
        } catch {
            disk.unlock(lock)
            throw error
        }
    }

    /// Ends the use of the directory by this process.
    func close() {
        if let file { disk.close(file) }
        disk.unlock(lock)
    }

    // MARK: Writing

    /// Makes operations durable, all of them in one write.
    /// - Throws: `StorageProblem` when they don't follow from what is stored, `DiskError` when the disk fails. After a
    ///   disk error they are still part of `image`: `repair` tries again.
    mutating func commit(_ operations: [StorageOperation]) throws {
        var hasSnapshot = false
        for operation in operations {
            try image.apply(operation)
            if case .snapshot = operation { hasSnapshot = true }
        }
        if hasSnapshot || isDoubtful || size - sizeWhenNew > growthBytesMax {
            try writeAnew()
        } else {
            try add(operations)
        }
    }

    /// Writes everything anew after a failure; nothing to do when there was none.
    mutating func repair() throws(DiskError) {
        if isDoubtful { try writeAnew() }
    }

    private mutating func add(_ operations: [StorageOperation]) throws(DiskError) {
        guard let file else { return try writeAnew() }
        let frame = StorageFormat.frame(StorageFormat.changes(operations), sequence: sequence, at: size)
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
        let fresh = try disk.open(newPath, .replace)
        do {
            try disk.write(fresh, bytes, at: 0)
            try disk.sync(fresh)
            try disk.rename(newPath, to: path)
            // Until then a crash may bring the old file back, so nothing may be added to this one.
            try disk.syncDirectory(directory)
        } catch {
            disk.close(fresh)
            // What is there of it may be what keeps the disk full.
            try? disk.remove(newPath)
            throw error
        }
        if let file { disk.close(file) }
        file = Disk.File(descriptor: fresh.descriptor, path: path)
        size = bytes.count
        sizeWhenNew = size
        sequence = 1
        isDoubtful = false
    }

    // MARK: Opening

    private static func makeAndLock(_ directory: String, _ disk: Disk) throws(StorageProblem) -> Disk.File {
        let (lock, isOurs) = try disk.explaining(directory) { disk throws(DiskError) in
            _ = try disk.makeDirectory(directory)
            let lock = try disk.open("\(directory)/lock", .create)
            do throws(DiskError) {
                return (lock, try disk.lock(lock))
            } catch {
                disk.close(lock)
                throw error
            }
        }
        if isOurs {
            // Only to name the holder to whoever finds the directory taken: nothing depends on it.
            try? disk.truncate(lock, to: 0)
            try? disk.write(lock, Array("\(getpid())\n".utf8), at: 0)
            return lock
        }
        let holder = (try? disk.read(lock, limit: 64)).map { String(decoding: $0, as: UTF8.self).trimmed } ?? ""
        disk.close(lock)
        throw StorageProblem(
            description: "data directory \(directory) is in use by another process"
                + (holder.isEmpty ? "" : " (pid \(holder))") + "; each node needs a directory of its own: stop that "
                + "process, or set another `data` directory (or TRIAD_DATA)")
    }

    /// What the directory holds; nil when there is no log in it.
    private static func read(
        _ directory: String, identity: String, _ disk: Disk
    ) throws(StorageProblem) -> (image: StorageImage?, notes: [String]) {
        let path = "\(directory)/log"
        let bytes = try disk.explaining(directory) { disk throws(DiskError) -> [UInt8]? in
            try disk.remove("\(directory)/log.new")
            guard let file = try disk.openIfPresent(path) else { return nil }
            defer { disk.close(file) }
            return try disk.read(file, limit: fileBytesMax)
        }
        guard let bytes else { return (nil, []) }
        var recovery = try recovery(bytes, directory)
        let written = recovery.image.identity
        if !identity.isEmpty, !written.isEmpty, written != identity {
            throw StorageProblem(
                description: "data directory \(directory) belongs to \(written), and this is \(identity); a node that "
                    + "takes over another's votes could vote twice: give it a directory of its own, or move this one away"
            )
        }
        if !identity.isEmpty { recovery.image.identity = identity }
        if recovery.tornBytes == 0 { return (recovery.image, []) }
        let note =
            "\(path): cut \(recovery.tornBytes) bytes off at \(recovery.end), of a write that a crash interrupted"
        return (recovery.image, [note])
    }

    private static func syncParent(of directory: String, _ disk: Disk) throws(DiskError) {
        let parts = directory.split(separator: "/").dropLast()
        let start = directory.hasPrefix("/") ? "/" : parts.isEmpty ? "." : ""
        do {
            try disk.syncDirectory(start + parts.joined(separator: "/"))
        } catch {
            // Not ours to read: then the directory was made for us, by somebody else and before.
            if error.code != EACCES { throw error }
        }
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

    private init(directory: String, disk: Disk, growthBytesMax: Int, lock: Disk.File, image: StorageImage) {
        self.directory = directory
        self.disk = disk
        self.growthBytesMax = growthBytesMax
        self.lock = lock
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
