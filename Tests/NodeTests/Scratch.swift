// Scratch: a directory of its own for a test, removed with it.

import Foundation

@testable import Node

final class Scratch: Sendable {
    let path: String

    init() {
        path = "/tmp/triad-test-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    func write(_ name: String, _ text: String) { write(name, Array(text.utf8)) }

    func write(_ name: String, _ bytes: [UInt8]) {
        _ = FileManager.default.createFile(atPath: file(name), contents: Data(bytes))
    }

    /// Makes a script that can be started; its path. Another process writes it: a file that we write is open, too, in whatever child
    /// another test starts at that moment, until that becomes its program, and nobody can execute it (ETXTBSY).
    @discardableResult func program(_ name: String, _ text: String) -> String {
        let path = file(name)
        write("\(name).text", text)
        let made = FenceBench.shell("cp '\(path).text' '\(path)' && chmod 755 '\(path)' && rm '\(path).text'")
        precondition(made == 0, "\(path) can't be made")
        return path
    }

    func bytes(_ name: String) -> [UInt8] { FileManager.default.contents(atPath: file(name)).map { Array($0) } ?? [] }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: file(name)) }

    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
}
