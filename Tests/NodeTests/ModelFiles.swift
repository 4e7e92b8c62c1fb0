// ModelFiles: a file system in memory that keeps what is durable apart from what is only in the page cache, fails where
// it is told to, and says everything that a crash may leave. Stands in for the system's calls below `Disk`.
//
// What it assumes of a disk, on the hostile side of what ext4 and XFS promise:
//   - a sector (512 bytes) that isn't synced is as before or as written, each for itself, in any order; a length that
//     isn't synced is the old one, the new one, or anything between; what was never written reads as zeros;
//   - a write can be cut at any byte, or at any 8 bytes with zeros behind;
//   - names (creation, rename, removal) are durable once the directory is synced, before that in order, or not; syncing
//     a file doesn't make its name durable;
//   - a failed fsync drops what it was to write: the cache shows it, the disk doesn't have it, and the next one succeeds.

import Glibc
import Synchronization

@testable import Node

/// How a call goes wrong.
enum ModelFault: Equatable, Sendable {
    /// It fails, without effect; a sync drops what it was to make durable.
    case fails(Int32)
    /// A write takes only this many bytes.
    case short(Int)
}

/// Everything that is in the file system, as a value.
struct ModelState: Hashable, Sendable {
    static let sectorBytes = 512

    struct Inode: Hashable, Sendable {
        var cache: [UInt8] = []
        var durable: [UInt8] = []
        var dirty: Set<Int> = []
        var isLengthDirty = false

        mutating func write(_ bytes: ArraySlice<UInt8>, at offset: Int) {
            let end = offset + bytes.count
            if end > cache.count {
                cache += [UInt8](repeating: 0, count: end - cache.count)
                isLengthDirty = true
            }
            cache.replaceSubrange(offset..<end, with: bytes)
            if !bytes.isEmpty {
                dirty.formUnion(offset / ModelState.sectorBytes...(end - 1) / ModelState.sectorBytes)
            }
        }

        mutating func truncate(_ length: Int) {
            isLengthDirty = isLengthDirty || length != cache.count
            cache = Array(cache.prefix(length)) + [UInt8](repeating: 0, count: max(0, length - cache.count))
            dirty = dirty.filter { $0 * ModelState.sectorBytes < length }
        }

        mutating func sync() {
            durable = content(length: isLengthDirty ? cache.count : durable.count, with: dirty)
            forget()
        }

        /// What wasn't synced is taken for written from now on.
        mutating func forget() {
            dirty = []
            isLengthDirty = false
        }

        private func content(length: Int, with sectors: Set<Int>) -> [UInt8] {
            var bytes = Array(durable.prefix(length))
            bytes += [UInt8](repeating: 0, count: length - bytes.count)
            for sector in sectors {
                let start = sector * ModelState.sectorBytes
                let end = min(start + ModelState.sectorBytes, length, cache.count)
                if start < end { bytes.replaceSubrange(start..<end, with: cache[start..<end]) }
            }
            return bytes
        }

        /// What a crash may leave of the content.
        func remains(fine: Bool) -> Set<[UInt8]> {
            var all: Set<[UInt8]> = [durable]
            if dirty.isEmpty, !isLengthDirty { return all }
            for length in Set([durable.count, isLengthDirty ? cache.count : durable.count]) {
                for sectors in subsets(dirty.sorted()) { all.insert(content(length: length, with: sectors)) }
            }
            let isAppended = cache.count > durable.count && cache.starts(with: durable)
            guard isAppended else { return all }
            let step = fine ? 1 : 61
            for cut in stride(from: durable.count, to: cache.count, by: step) {
                all.insert(Array(cache[..<cut]))
                if cut % 8 == 0 { all.insert(cache[..<cut] + [UInt8](repeating: 0, count: cache.count - cut)) }
            }
            return all
        }

        private func subsets(_ sectors: [Int]) -> [Set<Int>] {
            if sectors.count <= 5 {
                return (0..<1 << sectors.count).map { mask in
                    Set(sectors.indices.filter { mask >> $0 & 1 == 1 }.map { sectors[$0] })
                }
            }
            let all = Set(sectors)
            return [all] + sectors.map { all.subtracting([$0]) } + sectors.map { [$0] }
        }
    }

    enum NameChange: Hashable, Sendable {
        case directory(String)
        case link(String, Int)
        case unlink(String)
        case rename(String, String)

        /// The directory whose sync makes it durable.
        var parent: String {
            switch self {
            case .directory(let path), .link(let path, _), .unlink(let path), .rename(_, let path):
                ModelState.parent(of: path)
            }
        }
    }

    struct Names: Hashable, Sendable {
        var files: [String: Int] = [:]
        var directories: Set<String> = ["/"]

        mutating func apply(_ change: NameChange) {
            switch change {
            case .directory(let path): directories.insert(path)
            case .link(let path, let inode): files[path] = inode
            case .unlink(let path): files[path] = nil
            case .rename(let from, let to): files[to] = files.removeValue(forKey: from) ?? files[to]
            }
        }
    }

    var inodes: [Inode] = []
    var names = Names()
    var durableNames = Names()
    var pending: [NameChange] = []

    static func parent(of path: String) -> String {
        let end = path.lastIndex(of: "/") ?? path.startIndex
        return end == path.startIndex ? "/" : String(path[..<end])
    }

    mutating func change(_ change: NameChange) {
        names.apply(change)
        pending.append(change)
    }

    mutating func syncDirectory(_ path: String) {
        for change in pending where change.parent == path { durableNames.apply(change) }
        pending.removeAll { $0.parent == path }
    }

    /// Every file's bytes as a process reads them.
    func bytes(_ path: String) -> [UInt8]? { names.files[path].map { inodes[$0].cache } }

    /// Everything that a crash of the machine may leave.
    /// - Parameters:
    ///   - fine: cut writes at every byte.
    ///   - watched: the file whose content matters; of others two versions do.
    func remains(fine: Bool, watched: String) -> Set<ModelState> {
        var all: Set<ModelState> = []
        let parents = Set(pending.map(\.parent)).sorted()
        var choices: [Names] = [durableNames]
        for parent in parents {
            let changes = pending.filter { $0.parent == parent }
            choices = choices.flatMap { names in
                (0...changes.count).map { count in
                    var some = names
                    for change in changes.prefix(count) { some.apply(change) }
                    return some
                }
            }
        }
        for var choice in choices {
            choice.files = choice.files.filter { choice.directories.contains(Self.parent(of: $0.key)) }
            var versions: [ModelState] = [ModelState(names: choice, durableNames: choice)]
            for (path, inode) in choice.files.sorted(by: { $0.key < $1.key }) {
                let found = inodes[inode]
                let contents = path == watched ? found.remains(fine: fine) : [found.durable, found.cache]
                versions = versions.flatMap { version in
                    contents.map { bytes in
                        var version = version
                        version.names.files[path] = version.inodes.count
                        version.inodes.append(Inode(cache: bytes, durable: bytes))
                        version.durableNames = version.names
                        return version
                    }
                }
            }
            all.formUnion(versions)
        }
        return all
    }
}

final class ModelFiles: FileLayer {
    private struct Open {
        var inode: Int
        var offset = 0
    }

    private struct Machine {
        var state: ModelState
        var open: [Int32: Open] = [:]
        var lastDescriptor: Int32 = 2
        var locked: [Int: Int32] = [:]
        var calls: [String] = []
    }

    private let machine: Mutex<Machine>
    /// Asked before each call, by its number from 0 and its name; nil: the call works.
    private let fault: @Sendable (_ number: Int, _ call: String) -> ModelFault?
    /// Told what is there before each call.
    private let observe: @Sendable (ModelState) -> Void

    init(
        _ state: ModelState = ModelState(), fault: @escaping @Sendable (Int, String) -> ModelFault? = { _, _ in nil },
        observe: @escaping @Sendable (ModelState) -> Void = { _ in }
    ) {
        machine = Mutex(Machine(state: state))
        self.fault = fault
        self.observe = observe
    }

    var disk: Disk { Disk(layer: self) }
    var state: ModelState { machine.withLock { $0.state } }
    /// `write log`, `fsync data`, … in order.
    var calls: [String] { machine.withLock { $0.calls } }
    /// Files that are open now.
    var openCount: Int { machine.withLock { $0.open.count } }

    /// Makes a call: what it does is `body`, unless it is to fail.
    private func call<Value: Sendable>(
        _ name: String, _ path: String, failing: (inout ModelState) -> Void = { _ in },
        _ body: (inout Machine, ModelFault?) throws(FileFault) -> Value
    ) throws(FileFault) -> Value {
        try machine.withLock { machine throws(FileFault) in
            observe(machine.state)
            let fault = fault(machine.calls.count, name)
            machine.calls.append("\(name) \(path.split(separator: "/").last ?? "/")")
            if case .fails(let code) = fault {
                failing(&machine.state)
                throw FileFault(code: code)
            }
            return try body(&machine, fault)
        }
    }

    private func inode(_ descriptor: Int32) -> Int { machine.withLock { $0.open[descriptor]?.inode ?? -1 } }

    private func path(_ inode: Int) -> String {
        machine.withLock { machine in machine.state.names.files.first { $0.value == inode }?.key ?? "gone" }
    }

    func open(_ path: String, _ mode: Disk.Mode) throws(FileFault) -> Int32 {
        try call("open", path) { machine, _ throws(FileFault) in
            guard machine.state.names.directories.contains(ModelState.parent(of: path)) else {
                throw FileFault(code: ENOENT)
            }
            var inode = machine.state.names.files[path]
            if inode == nil {
                if mode == .read { throw FileFault(code: ENOENT) }
                inode = machine.state.inodes.count
                machine.state.inodes.append(ModelState.Inode())
                machine.state.change(.link(path, machine.state.inodes.count - 1))
            }
            guard let inode else { throw FileFault(code: ENOENT) }
            if mode == .replace { machine.state.inodes[inode].truncate(0) }
            machine.lastDescriptor += 1
            machine.open[machine.lastDescriptor] = Open(inode: inode)
            return machine.lastDescriptor
        }
    }

    func close(_ descriptor: Int32) {
        unlock(descriptor)
        machine.withLock { $0.open[descriptor] = nil }
    }

    func read(_ descriptor: Int32, _ count: Int) throws(FileFault) -> [UInt8] {
        try call("read", path(inode(descriptor))) { machine, _ throws(FileFault) in
            guard let open = machine.open[descriptor] else { throw FileFault(code: EBADF) }
            let piece = Array(machine.state.inodes[open.inode].cache.dropFirst(open.offset).prefix(count))
            machine.open[descriptor]?.offset += piece.count
            return piece
        }
    }

    func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>, at offset: Int) throws(FileFault) -> Int {
        try call("write", path(inode(descriptor))) { machine, fault throws(FileFault) in
            guard let open = machine.open[descriptor] else { throw FileFault(code: EBADF) }
            var taken = bytes
            if case .short(let count) = fault { taken = bytes.prefix(count) }
            machine.state.inodes[open.inode].write(taken, at: offset)
            return taken.count
        }
    }

    func truncate(_ descriptor: Int32, _ length: Int) throws(FileFault) {
        try call("truncate", path(inode(descriptor))) { machine, _ throws(FileFault) in
            guard let open = machine.open[descriptor] else { throw FileFault(code: EBADF) }
            machine.state.inodes[open.inode].truncate(length)
        }
    }

    func sync(_ descriptor: Int32) throws(FileFault) {
        let inode = inode(descriptor)
        try call("fdatasync", path(inode), failing: { $0.inodes[inode].forget() }) { machine, _ throws(FileFault) in
            guard machine.open[descriptor] != nil else { throw FileFault(code: EBADF) }
            machine.state.inodes[inode].sync()
        }
    }

    func syncDirectory(_ path: String) throws(FileFault) {
        try call("fsync", path) { machine, _ throws(FileFault) in
            guard machine.state.names.directories.contains(path) else { throw FileFault(code: ENOENT) }
            machine.state.syncDirectory(path)
        }
    }

    func rename(_ from: String, to: String) throws(FileFault) {
        try call("rename", to) { machine, _ throws(FileFault) in
            guard machine.state.names.files[from] != nil else { throw FileFault(code: ENOENT) }
            machine.state.change(.rename(from, to))
        }
    }

    func remove(_ path: String) throws(FileFault) {
        try call("unlink", path) { machine, _ throws(FileFault) in
            guard machine.state.names.files[path] != nil else { throw FileFault(code: ENOENT) }
            machine.state.change(.unlink(path))
        }
    }

    func makeDirectory(_ path: String) throws(FileFault) {
        try call("mkdir", path) { machine, _ throws(FileFault) in
            if machine.state.names.directories.contains(path) { throw FileFault(code: EEXIST) }
            guard machine.state.names.directories.contains(ModelState.parent(of: path)) else {
                throw FileFault(code: ENOENT)
            }
            machine.state.change(.directory(path))
        }
    }

    func lock(_ descriptor: Int32) throws(FileFault) {
        try call("flock", path(inode(descriptor))) { machine, _ throws(FileFault) in
            guard let open = machine.open[descriptor] else { throw FileFault(code: EBADF) }
            if machine.locked[open.inode] != nil { throw FileFault(code: EWOULDBLOCK) }
            machine.locked[open.inode] = descriptor
        }
    }

    func unlock(_ descriptor: Int32) {
        machine.withLock { machine in machine.locked = machine.locked.filter { $0.value != descriptor } }
    }
}
