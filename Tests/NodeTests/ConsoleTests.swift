// ConsoleTests: writing for threads that may not wait.

import CLinux
import Glibc
import Testing

@testable import Node

@Suite struct ConsoleTests {
    /// Both are blocking, like what a shell or systemd gives as stderr.
    enum Channel: CaseIterable {
        case pipe, socket

        func open() -> (reading: Int32, writing: Int32) {
            var ends: [Int32] = [-1, -1]
            let code =
                self == .pipe ? Glibc.pipe(&ends) : socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
            precondition(code == 0)
            return (ends[0], ends[1])
        }
    }

    @Test("a line that finds no room is dropped, and nobody waits", arguments: Channel.allCases)
    func full(_ channel: Channel) {
        let (reading, writing) = channel.open()
        defer {
            close(reading)
            close(writing)
        }
        let line = String(repeating: "x", count: Int(PIPE_BUF))
        var lines = 0
        while lines < 10_000, Console.writeAtOnce(line, to: writing) { lines += 1 }
        #expect(lines > 0 && lines < 10_000)
        var bytes = [UInt8](repeating: 0, count: lines * line.utf8.count)
        var got = 0
        while got < bytes.count {
            let count = bytes[got...].withUnsafeMutableBytes { Glibc.read(reading, $0.baseAddress, $0.count) }
            if count <= 0 { break }
            got += count
        }
        #expect(got == bytes.count)
        #expect(Console.writeAtOnce("there is room again\n", to: writing))
    }

    @Test func files() throws {
        let scratch = Scratch()
        let path = scratch.file("log")
        let file = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        try #require(file >= 0)
        defer { close(file) }
        for number in 0..<1_000 { #expect(Console.writeAtOnce("line \(number)\n", to: file)) }
        var status = stat()
        #expect(fstat(file, &status) == 0 && status.st_size == (0..<1_000).reduce(0) { $0 + "line \($1)\n".utf8.count })
    }
}
