// WatchTests: `triad watch` on a terminal: a pseudo-terminal of 80 by 24, on which what it writes is drawn as a terminal would,
// beside a real node that dies and comes back.

import CLinux
import Glibc
import Proxy
import Testing

@testable import Node

extension ClusterTests {
    @Test func watchOnATerminal() throws {
        let lab = try Lab(nodes: ["n1"], inMemory: true)
        defer { lab.tearDown() }
        let cluster = try LabCluster(lab)
        try cluster.startAll()
        try cluster.waitUntilSettled()

        let terminal = try PseudoTerminal(columns: 80, rows: 24)
        let watch = try terminal.run(["TERM=xterm"], lab)
        defer { kill(watch, SIGKILL) }
        // Sees a screen that shows all of these.
        func wait(_ what: String, _ terminal: PseudoTerminal, _ words: String...) throws {
            try lab.wait(what) {
                terminal.take()
                return words.allSatisfy { word in terminal.screen.text.contains(word) }
            }
            try #require(!terminal.screen.hasScrolled, "\(terminal.screen.text)")
        }
        try wait("the screen", terminal, "n1 leads", "NODE", "VERSION", "api/api_9")
        #expect(terminal.output.contains("\u{1b}[?1049h"))
        #expect(terminal.output.contains("\u{1b}[32m"), "no colour")
        let first = try #require(terminal.screen.text.split(separator: "\n").first)
        #expect(first.hasPrefix("lab seen from n1"))

        // Smaller: at once, and it says what has no room.
        terminal.resize(columns: 60, rows: 12)
        kill(watch, SIGWINCH)
        try wait("a smaller screen", terminal, "n1 leads", "need a taller window")
        terminal.resize(columns: 80, rows: 24)
        kill(watch, SIGWINCH)
        try wait("the former size", terminal, "n1 leads", "api/api_9")

        try cluster.terminate("n1")
        try wait("it says that the node is gone", terminal, "!! last seen", "lab seen from n1")
        try lab.wait("n1 is gone") { cluster.hasEnded("n1") }
        try cluster.bringBack("n1")
        try lab.wait("it shows the node again") {
            terminal.take()
            return terminal.screen.text.hasPrefix("lab seen from n1")
        }
        kill(watch, SIGINT)
        var code: Int32?
        try lab.wait("it ends") {
            terminal.take()
            code = code ?? LabSystem.exitCode(watch, wait: false)
            return code != nil
        }
        #expect(code == 0)
        // The other screen is left, and the cursor is back.
        terminal.take()
        #expect(terminal.output.hasSuffix("\u{1b}[?25h\u{1b}[?1049l"))

        let plain = try PseudoTerminal(columns: 80, rows: 24)
        let uncoloured = try plain.run(["TERM=xterm", "NO_COLOR=1"], lab)
        defer { kill(uncoloured, SIGKILL) }
        try wait("a screen without colour", plain, "n1 leads", "api/api_9")
        #expect(!plain.output.contains("m" + "\u{1b}") && !plain.output.contains("\u{1b}[32m"))

        let dumb = try PseudoTerminal(columns: 80, rows: 24)
        let simple = try dumb.run(["TERM=dumb"], lab)
        defer { kill(simple, SIGKILL) }
        try lab.wait("two looks") {
            dumb.take()
            return dumb.output.split(separator: "--- ", omittingEmptySubsequences: false).count > 2
        }
        #expect(!dumb.output.contains("\u{1b}"))
    }

    /// In a pipe: blocks as they come, without control sequences; it ends without a word when the reader does.
    @Test func watchInAPipe() throws {
        let lab = try Lab(nodes: ["n1"], inMemory: true)
        defer { lab.tearDown() }
        let cluster = try LabCluster(lab)
        try cluster.startAll()
        try cluster.waitUntilSettled()
        let address = try lab.network.host("n1").addresses[0]
        let watch = "\"$1\" watch --interval 200 --url http://\(address):\(LabCluster.statusPort)"
        let script = "{ \(watch); echo \"ended $?\" >&2; } | head -n 60"
        let command = ["sh", "-c", script, "sh", LabSystem.triad]
        let process = try lab.start("watch", command, on: LabNetwork.clientName, log: "\(lab.directory)/watch")
        try #require(try lab.waitForEnd(process, seconds: 30) == 0)
        let output = try #require(LabSystem.readText(process.output))
        #expect(output.split(separator: "\n").filter { $0.hasPrefix("--- ") }.count >= 2)
        #expect(!output.contains("\u{1b}") && !output.contains("\r"))
        #expect(LabSystem.readText(process.errors) == "ended 0\n")
    }
}

/// A terminal whose screen can be read.
private final class PseudoTerminal {
    private let master: Int32
    private let slave: Int32
    private let path: String
    private(set) var output = ""
    private(set) var screen: Screen
    private var bytes: [UInt8] = []

    init(columns: Int, rows: Int) throws {
        // What posix_openpt, unlockpt and ptsname do, which Swift doesn't see.
        let (unlock, number): (UInt, UInt) = (0x4004_5431, 0x8004_5430)
        let master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var (locked, index): (Int32, Int32) = (0, -1)
        try #require(master >= 0 && ioctl(master, unlock, &locked) == 0 && ioctl(master, number, &index) == 0)
        let path = "/dev/pts/\(index)"
        // Held open, so that the master lives on when the process ends.
        let slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC)
        try #require(slave >= 0)
        (self.master, self.slave, self.path) = (master, slave, path)
        _ = fcntl(master, F_SETFL, O_NONBLOCK)
        screen = Screen(columns: columns, rows: rows)
        resize(columns: columns, rows: rows)
    }

    deinit {
        System.close(slave)
        System.close(master)
    }

    func resize(columns: Int, rows: Int) {
        take()
        var size = winsize(ws_row: UInt16(rows), ws_col: UInt16(columns), ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(master, UInt(TIOCSWINSZ), &size)
        screen = Screen(columns: columns, rows: rows)
    }

    /// Starts `triad watch` of n1 on it.
    func run(_ environment: [String], _ lab: Lab) throws -> pid_t {
        let url = "http://\(try lab.network.host("n1").addresses[0]):\(LabCluster.statusPort)"
        let command =
            ["env", "-u", "NO_COLOR"] + environment + [LabSystem.triad, "watch", "--interval", "300", "--url", url]
        let spawn = LabSystem.Spawn(command: command, output: path, errors: "\(lab.directory)/watch.errors")
        return try LabSystem.inside(try lab.network.host(LabNetwork.clientName).descriptor) {
            () throws(LabProblem) in try LabSystem.spawn(spawn)
        }
    }

    /// Draws what came since.
    func take() {
        var scratch = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(master, &scratch, scratch.count)
            guard count > 0 else { break }
            bytes += scratch.prefix(count)
        }
        // What is whole: a character of several bytes may still be on its way.
        var end = bytes.count
        while end > 0, end > bytes.count - 4, String(validating: bytes.prefix(end), as: UTF8.self) == nil { end -= 1 }
        guard let text = String(validating: bytes.prefix(end), as: UTF8.self) else { return }
        bytes.removeFirst(end)
        output += text
        screen.draw(text)
    }
}

/// As much of a VT100 as counts here: it wraps late, as xterm does, and scrolls.
private struct Screen {
    private let columns: Int
    private var cells: [[Character]]
    private var row = 0
    private var column = 0
    private var sequence: String?
    /// Whether the latest drawing did: one that was begun for another size may.
    private(set) var hasScrolled = false

    init(columns: Int, rows: Int) {
        self.columns = columns
        cells = Array(repeating: Array(repeating: " ", count: columns), count: rows)
    }

    var text: String {
        cells.map { line in
            var line = String(line)
            while line.hasSuffix(" ") { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }

    mutating func draw(_ text: String) {
        for scalar in text.unicodeScalars { draw(Character(scalar)) }
    }

    private mutating func draw(_ character: Character) {
        if let begun = sequence {
            sequence = begun + String(character)
            if character.isLetter { obey(sequence ?? "") }
            return
        }
        switch character {
        case "\u{1b}": sequence = ""
        case "\r": column = 0
        case "\n": lineFeed()
        default:
            // The cursor stays on the last column until the next character.
            if column == columns {
                column = 0
                lineFeed()
            }
            cells[row][column] = character
            column += 1
        }
    }

    private mutating func lineFeed() {
        row += 1
        guard row == cells.count else { return }
        hasScrolled = true
        cells.removeFirst()
        cells.append(Array(repeating: " ", count: columns))
        row -= 1
    }

    private mutating func obey(_ whole: String) {
        sequence = nil
        switch whole {
        case "[H":
            (row, column) = (0, 0)
            hasScrolled = false
        case "[K": for index in min(column, columns - 1)..<columns { cells[row][index] = " " }
        case "[J":
            for index in min(column, columns - 1)..<columns { cells[row][index] = " " }
            for index in cells.indices where index > row { cells[index] = Array(repeating: " ", count: columns) }
        default: break
        }
    }
}
