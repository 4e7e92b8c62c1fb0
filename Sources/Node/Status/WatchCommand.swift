// WatchCommand: `triad watch`: the status table, live. On a terminal it redraws in place (the other screen, so that what
// was there comes back); in a pipe, and on a terminal that can't (TERM=dumb), it prints a block each time. A node that stops
// answering is shown as such and asked again; only when the first question already fails does the command.

import CLinux
import Glibc
import Proxy

enum WatchCommand {
    static let command = Subcommand(
        name: "watch", summary: "shows the status live, until Ctrl-C",
        options: [
            StatusCommand.urlOption, .value("interval", "MS", "milliseconds between two looks (1000)"),
            .value("count", "N", "ends after N looks"),
        ],
        details: ["In a pipe each look is a block that begins with a line `--- TIME`."],
        run: { (arguments) throws(UsageProblem) in
            let url = try StatusURL(arguments["url"] ?? StatusURL.standard)
            let intervalMs = try arguments.integer("interval", in: 100...3_600_000) ?? 1000
            let looks = try arguments.integer("count", in: 1...1_000_000_000)
            return run(HTTPClient(url: url, timeoutMs: 2000), intervalMs: intervalMs, looks: looks)
        })

    private static func run(_ client: HTTPClient, intervalMs: Int, looks: Int?) -> Int32 {
        var last: StatusReport
        do throws(HTTPProblem) { last = try StatusCommand.fetch(client).0 } catch {
            Console.error("triad watch: \(error)")
            return 1
        }
        let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM, SIGHUP, SIGWINCH])) ?? -1
        let redraws = Terminal.canRedraw
        // The other screen, without cursor; and back.
        if redraws { Console.raw("\u{1b}[?1049h\u{1b}[?25l") }
        defer { if redraws { Console.raw("\u{1b}[?25h\u{1b}[?1049l") } }
        var seenMs = System.wallMilliseconds()
        var problem: String?
        var done = 0
        var next = System.bootNanoseconds()
        while true {
            guard draw(last, problem, redraws) else { return 0 }
            done += 1
            if let looks, done >= looks { return problem == nil ? 0 : 1 }
            next = max(next + UInt64(intervalMs) * 1_000_000, System.bootNanoseconds())
            while let came = waitForSignals(signals, until: next) {
                guard came.allSatisfy({ $0 == SIGWINCH }) else { return 0 }
                // Another size; what was looked at is the same.
                guard !redraws || draw(last, problem, redraws) else { return 0 }
            }
            do throws(HTTPProblem) {
                last = try StatusCommand.fetch(client).0
                seenMs = System.wallMilliseconds()
                problem = nil
            } catch {
                problem = "!! last seen \(StatusText.time(seenMs)): \(error)"
            }
        }
    }

    /// False when nobody looks any more.
    private static func draw(_ report: StatusReport, _ problem: String?, _ redraws: Bool) -> Bool {
        let size = Terminal.size
        let table = StatusTable(
            width: size?.columns, height: redraws ? size?.rows : nil, usesColour: Terminal.hasColour)
        var lines = table.lines(report, notice: problem)
        guard redraws else {
            lines.insert("--- \(WallTime.text(ms: System.wallMilliseconds()))", at: 0)
            return Console.out(lines.joined(separator: "\n"))
        }
        // Overwrites line by line, which doesn't flicker as clearing the screen first would. A line is cleared before it is
        // written: after its last column the cursor still stands on that, and clearing would take the character away.
        var text = "\u{1b}[H" + lines.map { "\u{1b}[K" + $0 }.joined(separator: "\r\n")
        if let size, lines.count < size.rows { text += "\r\n\u{1b}[J" }
        return Console.raw(text)
    }

    /// The signals that came before the deadline; nil: none did.
    private static func waitForSignals(_ signals: Int32, until deadline: UInt64) -> [Int32]? {
        let now = System.bootNanoseconds()
        var entry = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
        let waitMs = deadline > now ? (deadline - now + 999_999) / 1_000_000 : 0
        guard poll(&entry, 1, Int32(clamping: waitMs)) > 0 else { return nil }
        return SignalDescriptor.take(signals)
    }
}
