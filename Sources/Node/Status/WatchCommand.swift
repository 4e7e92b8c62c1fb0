// WatchCommand: `triad watch`: the status table, live. On a terminal it redraws in place (the other screen, so that what
// was there comes back); in a pipe it prints a block each time. A node that stops answering is shown as such and asked
// again; only when the first question already fails does the command.

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
        let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM, SIGHUP])) ?? -1
        let isTerminal = Console.isTerminal
        // The other screen, without cursor; and back.
        if isTerminal { Console.raw("\u{1b}[?1049h\u{1b}[?25l") }
        defer { if isTerminal { Console.raw("\u{1b}[?25h\u{1b}[?1049l") } }
        var problem: String?
        var done = 0
        var next = System.bootNanoseconds()
        while true {
            guard draw(last, problem, isTerminal) else { return 0 }
            done += 1
            if let looks, done >= looks { return problem == nil ? 0 : 1 }
            next = max(next + UInt64(intervalMs) * 1_000_000, System.bootNanoseconds())
            if waitForSignal(signals, until: next) { return 0 }
            do throws(HTTPProblem) {
                last = try StatusCommand.fetch(client).0
                problem = nil
            } catch {
                problem = error.description
            }
        }
    }

    /// False when nobody looks any more.
    private static func draw(_ report: StatusReport, _ problem: String?, _ isTerminal: Bool) -> Bool {
        let size = Terminal.size
        let table = StatusTable(
            width: size?.columns, height: size.map { $0.rows - (problem == nil ? 0 : 1) },
            usesColour: Terminal.hasColour)
        var lines = table.lines(report)
        if let problem { lines.insert("!! \(problem); last seen:", at: 0) }
        guard isTerminal else {
            lines.insert("--- \(WallTime.text(ms: System.wallMilliseconds()))", at: 0)
            return Console.out(lines.joined(separator: "\n"))
        }
        // Overwrites line by line and clears what is left, which doesn't flicker as clearing first would.
        let body = lines.map { $0 + "\u{1b}[K" }.joined(separator: "\r\n")
        return Console.raw("\u{1b}[H" + body + "\u{1b}[J")
    }

    private static func waitForSignal(_ signals: Int32, until deadline: UInt64) -> Bool {
        let now = System.bootNanoseconds()
        var entry = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, Int32(clamping: deadline > now ? (deadline - now) / 1_000_000 : 0)) > 0
    }
}
