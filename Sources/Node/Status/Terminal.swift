// Terminal: what stdout is connected to, for commands that draw.

import CLinux
import Glibc

enum Terminal {
    /// nil when stdout isn't a terminal.
    static var size: (columns: Int, rows: Int)? {
        guard Console.isTerminal else { return nil }
        var columns: Int32 = 0
        var rows: Int32 = 0
        guard clinux_terminal_size(STDOUT_FILENO, &columns, &rows) == 0 else { return (80, 24) }
        return (Int(columns), Int(rows))
    }

    /// Whether stdout can be drawn over: a terminal that knows the usual control sequences.
    static var canRedraw: Bool { Console.isTerminal && Environment.variable("TERM") != "dumb" }

    /// Whether colour is wanted: a terminal that isn't dumb, and no NO_COLOR (no-color.org).
    static var hasColour: Bool {
        canRedraw && (Environment.variable("NO_COLOR") ?? "").isEmpty
    }
}
