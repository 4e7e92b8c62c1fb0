// Runtime+Shortages: what the data plane runs out of, told once a second: places, descriptors, the access log's file.
//
// An event when it begins and one when it has been over for a while: a node at its limit would otherwise fill the
// list with one event per pause.

import Proxy

/// What was told of the data plane's shortages, and when.
struct Shortages {
    /// How long nothing must have been short before that is told.
    static let calmSeconds = 10

    private var pauses: UInt64 = 0
    private var pausesFull: UInt64 = 0
    private var isPausing = false
    private var calm = 0
    private var logProblem: String?

    /// What there is to tell now, called once a second.
    mutating func news(_ accepting: AcceptFigures, logProblem problem: String?) -> [(text: String, isOver: Bool)] {
        var news: [(text: String, isOver: Bool)] = []
        let total = accepting.pausesSystem + accepting.pausesFull
        if total > pauses {
            if !isPausing {
                news.append((Self.reason(accepting, since: self), false))
                isPausing = true
            }
            calm = 0
        } else if isPausing, accepting.paused == 0 {
            calm += 1
            if calm >= Self.calmSeconds {
                isPausing = false
                news.append(("connections have been accepted without a pause for \(Self.calmSeconds) s", true))
            }
        }
        pauses = total
        pausesFull = accepting.pausesFull
        if problem != logProblem {
            news.append((problem.map { "lines are lost: \($0)" } ?? "lines are written again", problem == nil))
            logProblem = problem
        }
        return news
    }

    private static func reason(_ accepting: AcceptFigures, since last: Shortages) -> String {
        accepting.pausesFull > last.pausesFull
            ? "no new connections are accepted for a moment: a worker has limits.connections of them"
            : "no new connections are accepted for a moment: descriptors or memory are used up (see ulimit -n)"
    }
}

extension Runtime {
    func tellShortages() {
        for (text, isOver) in shortages.news(dataPlane.accepting, logProblem: dataPlane.logProblem) {
            log.add(text.hasPrefix("lines") ? .accessLog : .accept, text, level: isOver ? .info : .warning)
        }
    }
}
