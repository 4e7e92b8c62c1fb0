// Disk: every file operation of this module, one function each, so that errors carry the call and the path. It decides
// nothing and keeps nothing. Below it is the seam, `FileLayer`: the system's calls, or a test's model of a file system
// that fails and crashes wherever it is told to.
//
// Blocking: never call it from the control thread after start-up, nor from a worker.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc
import Proxy

/// A file operation that failed: which, on what, and why.
struct DiskError: Error, Equatable, Sendable, CustomStringConvertible {
    var call: String
    var path: String
    /// errno; EFBIG when a file is longer than a caller's limit.
    var code: Int32

    /// `/var/lib/triad/log: open: Permission denied`
    var description: String { "\(path): \(call): \(reason)" }
    /// The text of the errno alone.
    var reason: String { System.explain(code) }

    /// What helps whoever named this file to be read; nil where the reason says it.
    var readingRemedy: String? {
        switch code {
        case EACCES, EPERM: "this process runs as user \(geteuid()): let it read the file, and enter the folders above"
        case EISDIR: "name the file in that folder"
        default: nil
        }
    }
    /// Why it can't be read, with what helps.
    var readingProblem: String { reason + (readingRemedy.map { "; \($0)" } ?? "") }
}

struct Disk: Sendable {
    /// An open file; closed by `close`.
    struct File: Sendable, Equatable {
        let descriptor: Int32
        let path: String
    }

    enum Mode: Sendable { case read, create, replace }

    var layer: any FileLayer = SystemFiles()

    func open(_ path: String, _ mode: Mode) throws(DiskError) -> File {
        let descriptor = try explain("open", path) { layer throws(FileFault) in try layer.open(path, mode) }
        return File(descriptor: descriptor, path: path)
    }

    /// Opens for reading; nil when there is no such file.
    func openIfPresent(_ path: String) throws(DiskError) -> File? {
        do {
            return try open(path, .read)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    func close(_ file: File) { layer.close(file.descriptor) }

    /// The rest of the file from its current offset; fails with EFBIG when that is more than `limit` bytes.
    func read(_ file: File, limit: Int) throws(DiskError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count <= limit {
            let piece = try explain("read", file.path) { layer throws(FileFault) in
                try layer.read(file.descriptor, 64 << 10)
            }
            if piece.isEmpty { return bytes }
            bytes += piece
        }
        throw DiskError(call: "read", path: file.path, code: EFBIG)
    }

    /// A whole file of at most `limit` bytes.
    func read(_ path: String, limit: Int) throws(DiskError) -> [UInt8] {
        let file = try open(path, .read)
        defer { close(file) }
        return try read(file, limit: limit)
    }

    /// Writes all bytes at `offset`, in as many calls as it takes. Not durable until `sync`.
    func write(_ file: File, _ bytes: [UInt8], at offset: Int) throws(DiskError) {
        var done = 0
        while done < bytes.count {
            let taken = try explain("write", file.path) { layer throws(FileFault) in
                try layer.write(file.descriptor, bytes[done...], at: offset + done)
            }
            // A file that takes nothing and says nothing would be tried for ever.
            if taken == 0 { throw DiskError(call: "write", path: file.path, code: ENOSPC) }
            done += taken
        }
    }

    func truncate(_ file: File, to length: Int) throws(DiskError) {
        try explain("truncate", file.path) { layer throws(FileFault) in try layer.truncate(file.descriptor, length) }
    }

    /// Returns once the file's content (and its length) is durable: fdatasync.
    func sync(_ file: File) throws(DiskError) {
        try explain("fdatasync", file.path, mayRepeat: false) { layer throws(FileFault) in
            try layer.sync(file.descriptor)
        }
    }

    /// Makes creations, renames and removals in a directory durable.
    func syncDirectory(_ path: String) throws(DiskError) {
        try explain("fsync", path, mayRepeat: false) { layer throws(FileFault) in try layer.syncDirectory(path) }
    }

    /// Atomically gives `from` the name `to`.
    func rename(_ from: String, to: String) throws(DiskError) {
        try explain("rename", to) { layer throws(FileFault) in try layer.rename(from, to: to) }
    }

    /// Removes a file; one that isn't there is fine.
    func remove(_ path: String) throws(DiskError) {
        do {
            try layer.remove(path)
        } catch {
            if error.code != ENOENT { throw DiskError(call: "unlink", path: path, code: error.code) }
        }
    }

    /// Makes a directory only its owner may enter; false when there is one already. Its parent must exist.
    func makeDirectory(_ path: String) throws(DiskError) -> Bool {
        do {
            try layer.makeDirectory(path)
            return true
        } catch {
            if error.code == EEXIST { return false }
            throw DiskError(call: "mkdir", path: path, code: error.code)
        }
    }

    /// Takes the file for this process alone until `unlock`; false when another has it.
    func lock(_ file: File) throws(DiskError) -> Bool {
        do {
            try layer.lock(file.descriptor)
            return true
        } catch {
            if error.code == EWOULDBLOCK { return false }
            throw DiskError(call: "flock", path: file.path, code: error.code)
        }
    }

    /// Gives up a lock and closes its file. To close it is not enough: a child that another thread is starting has the open
    /// file, too, and with it the lock, until it becomes its program (flock(2)).
    func unlock(_ file: File) {
        layer.unlock(file.descriptor)
        layer.close(file.descriptor)
    }

    /// `path` as it is from any directory: unchanged when absolute.
    static func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let current = getcwd(nil, 0) else { return path }
        defer { free(current) }
        return String(cString: current) + "/" + path
    }

    /// Makes a call, again as often as a signal interrupts it: except for a sync, of which nobody knows what it has done
    /// when it is interrupted.
    private func explain<Value>(
        _ call: String, _ path: String, mayRepeat: Bool = true,
        _ body: (any FileLayer) throws(FileFault) -> Value
    ) throws(DiskError) -> Value {
        while true {
            do {
                return try body(layer)
            } catch {
                if error.code != EINTR || !mayRepeat { throw DiskError(call: call, path: path, code: error.code) }
            }
        }
    }
}

/// The errno of a call that failed.
struct FileFault: Error, Equatable, Sendable { var code: Int32 }

/// What a file system has to offer: each function is one call, made once.
protocol FileLayer: Sendable {
    func open(_ path: String, _ mode: Disk.Mode) throws(FileFault) -> Int32
    func close(_ descriptor: Int32)
    /// From the descriptor's offset, which moves; empty at the end.
    func read(_ descriptor: Int32, _ count: Int) throws(FileFault) -> [UInt8]
    /// How many bytes it took, which may be fewer than given.
    func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>, at offset: Int) throws(FileFault) -> Int
    func truncate(_ descriptor: Int32, _ length: Int) throws(FileFault)
    func sync(_ descriptor: Int32) throws(FileFault)
    func syncDirectory(_ path: String) throws(FileFault)
    func rename(_ from: String, to: String) throws(FileFault)
    func remove(_ path: String) throws(FileFault)
    /// EEXIST: there is one; ENOTDIR: something else is in its place.
    func makeDirectory(_ path: String) throws(FileFault)
    /// EWOULDBLOCK: another process has it.
    func lock(_ descriptor: Int32) throws(FileFault)
    func unlock(_ descriptor: Int32)
}

/// The system's own calls.
struct SystemFiles: FileLayer {
    func open(_ path: String, _ mode: Disk.Mode) throws(FileFault) -> Int32 {
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .create: O_RDWR | O_CREAT
            case .replace: O_RDWR | O_CREAT | O_TRUNC
            }
        return try checked(Glibc.open(path, flags | O_CLOEXEC, 0o600), clinux_errno())
    }

    func close(_ descriptor: Int32) { _ = Glibc.close(descriptor) }

    func read(_ descriptor: Int32, _ count: Int) throws(FileFault) -> [UInt8] {
        var code: Int32 = 0
        var got = 0
        let piece = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
            got = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            code = clinux_errno()
            used = max(0, got)
        }
        _ = try checked(got, code)
        return piece
    }

    func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>, at offset: Int) throws(FileFault) -> Int {
        let (count, code) = bytes.withUnsafeBytes { buffer in
            (pwrite(descriptor, buffer.baseAddress, buffer.count, off_t(offset)), clinux_errno())
        }
        return try checked(count, code)
    }

    func truncate(_ descriptor: Int32, _ length: Int) throws(FileFault) {
        _ = try checked(ftruncate(descriptor, off_t(length)), clinux_errno())
    }

    func sync(_ descriptor: Int32) throws(FileFault) { _ = try checked(fdatasync(descriptor), clinux_errno()) }

    func syncDirectory(_ path: String) throws(FileFault) {
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        let descriptor = try checked(Glibc.open(path, flags), clinux_errno())
        let outcome = fsync(descriptor)
        let code = clinux_errno()
        _ = Glibc.close(descriptor)
        _ = try checked(outcome, code)
    }

    func rename(_ from: String, to: String) throws(FileFault) {
        _ = try checked(Glibc.rename(from, to), clinux_errno())
    }

    func remove(_ path: String) throws(FileFault) { _ = try checked(unlink(path), clinux_errno()) }

    func makeDirectory(_ path: String) throws(FileFault) {
        if mkdir(path, 0o700) == 0 { return }
        let code = clinux_errno()
        var information = stat()
        guard code == EEXIST, stat(path, &information) == 0 else { throw FileFault(code: code) }
        throw FileFault(code: information.st_mode & S_IFMT == S_IFDIR ? EEXIST : ENOTDIR)
    }

    func lock(_ descriptor: Int32) throws(FileFault) {
        _ = try checked(flock(descriptor, LOCK_EX | LOCK_NB), clinux_errno())
    }

    func unlock(_ descriptor: Int32) { _ = flock(descriptor, LOCK_UN) }

    /// - Parameter code: errno, read in one breath with the call: arguments are evaluated from left to right.
    private func checked<Number: BinaryInteger>(_ outcome: Number, _ code: Int32) throws(FileFault) -> Number {
        if outcome < 0 { throw FileFault(code: code) }
        return outcome
    }
}
