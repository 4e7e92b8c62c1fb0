// Disk: every file operation of this module, one function each, so that errors carry the call and the path and so
// that a test can make any of them fail. It decides nothing and keeps nothing but its fault hook.
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
}

struct Disk: Sendable {
    /// An open file; closed by `close`.
    struct File: Sendable, Equatable {
        let descriptor: Int32
        let path: String
    }

    /// Asked before each call: an errno makes the call fail with it, without being made. For tests.
    var fault: (@Sendable (_ call: String, _ path: String) -> Int32?)?

    enum Mode: Sendable { case read, readWrite, create, replace }

    func open(_ path: String, _ mode: Mode) throws(DiskError) -> File {
        try check("open", path)
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .readWrite: O_RDWR
            case .create: O_RDWR | O_CREAT
            case .replace: O_RDWR | O_CREAT | O_TRUNC
            }
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, 0o600)
        if descriptor < 0 { throw DiskError(call: "open", path: path, code: clinux_errno()) }
        return File(descriptor: descriptor, path: path)
    }

    /// Opens for reading and writing; nil when there is no such file.
    func openIfPresent(_ path: String) throws(DiskError) -> File? {
        do {
            return try open(path, .readWrite)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    func close(_ file: File) { _ = Glibc.close(file.descriptor) }

    /// The rest of the file from its current offset; fails with EFBIG when that is more than `limit` bytes.
    func read(_ file: File, limit: Int) throws(DiskError) -> [UInt8] {
        try check("read", file.path)
        var bytes: [UInt8] = []
        while bytes.count <= limit {
            var code: Int32 = 0
            var count = 0
            let piece = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, used in
                count = Glibc.read(file.descriptor, buffer.baseAddress, buffer.count)
                code = clinux_errno()
                used = max(0, count)
            }
            if count < 0 {
                if code == EINTR { continue }
                throw DiskError(call: "read", path: file.path, code: code)
            }
            if count == 0 { return bytes }
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

    /// Writes all bytes at `offset`. Not durable until `sync`.
    func write(_ file: File, _ bytes: [UInt8], at offset: Int) throws(DiskError) {
        try check("write", file.path)
        var done = 0
        while done < bytes.count {
            let (count, code) = bytes.withUnsafeBytes { buffer in
                let rest = UnsafeRawBufferPointer(rebasing: buffer[done...])
                let count = pwrite(file.descriptor, rest.baseAddress, rest.count, off_t(offset + done))
                return (count, clinux_errno())
            }
            if count < 0 {
                if code == EINTR { continue }
                throw DiskError(call: "write", path: file.path, code: code)
            }
            done += count
        }
    }

    func truncate(_ file: File, to length: Int) throws(DiskError) {
        try check("truncate", file.path)
        if ftruncate(file.descriptor, off_t(length)) < 0 {
            throw DiskError(call: "truncate", path: file.path, code: clinux_errno())
        }
    }

    /// Returns once the file's content (and its length) is durable: fdatasync.
    func sync(_ file: File) throws(DiskError) {
        try check("fdatasync", file.path)
        if fdatasync(file.descriptor) < 0 {
            throw DiskError(call: "fdatasync", path: file.path, code: clinux_errno())
        }
    }

    /// Makes creations, renames and removals in a directory durable.
    func syncDirectory(_ path: String) throws(DiskError) {
        try check("fsync", path)
        let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 { throw DiskError(call: "open", path: path, code: clinux_errno()) }
        let outcome = fsync(descriptor)
        let code = clinux_errno()
        _ = Glibc.close(descriptor)
        if outcome < 0 { throw DiskError(call: "fsync", path: path, code: code) }
    }

    /// Atomically gives `from` the name `to`.
    func rename(_ from: String, to: String) throws(DiskError) {
        try check("rename", to)
        if Glibc.rename(from, to) < 0 { throw DiskError(call: "rename", path: to, code: clinux_errno()) }
    }

    /// Removes a file; one that isn't there is fine.
    func remove(_ path: String) throws(DiskError) {
        try check("unlink", path)
        if unlink(path) < 0 {
            let code = clinux_errno()
            if code != ENOENT { throw DiskError(call: "unlink", path: path, code: code) }
        }
    }

    /// Makes a directory only its owner may enter; false when there is one already. Its parent must exist.
    func makeDirectory(_ path: String) throws(DiskError) -> Bool {
        try check("mkdir", path)
        if mkdir(path, 0o700) == 0 { return true }
        let code = clinux_errno()
        var information = stat()
        if code == EEXIST, stat(path, &information) == 0 {
            if information.st_mode & S_IFMT == S_IFDIR { return false }
            throw DiskError(call: "mkdir", path: path, code: ENOTDIR)
        }
        throw DiskError(call: "mkdir", path: path, code: code)
    }

    /// Takes the file for this process alone until it is closed; false when another has it.
    func lock(_ file: File) throws(DiskError) -> Bool {
        try check("flock", file.path)
        if flock(file.descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
        let code = clinux_errno()
        if code == EWOULDBLOCK { return false }
        throw DiskError(call: "flock", path: file.path, code: code)
    }

    /// `path` as it is from any directory: unchanged when absolute.
    static func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let current = getcwd(nil, 0) else { return path }
        defer { free(current) }
        return String(cString: current) + "/" + path
    }

    private func check(_ call: String, _ path: String) throws(DiskError) {
        if let code = fault?(call, path) { throw DiskError(call: call, path: path, code: code) }
    }
}
