// Runtime+Listeners: whether every frontend accepts clients on this node, looked at once a second, and what is told of it.
//
// A node with a frontend that doesn't is less fit than others, so that a leader hands over (Member+Fitness).

import Proxy

/// What was told of the frontends' listeners.
struct ListenerNews {
    private(set) var deaf: [DeafFrontend] = []
    private var reopenings = 0

    /// What there is to tell now.
    /// - Parameter reopenings: of listeners, since the node's start.
    mutating func news(_ now: [DeafFrontend], reopenings count: Int) -> [(text: String, isFault: Bool)] {
        var news: [(text: String, isFault: Bool)] = []
        if count > reopenings {
            news.append(("somebody closed a frontend's listening socket (ss -K does); it is open again", true))
        }
        for frontend in now where !deaf.contains(frontend) { news.append((Self.text(frontend), true)) }
        for frontend in deaf where !now.contains(where: { $0.name == frontend.name }) {
            news.append(("frontend \(frontend.name) accepts clients again", false))
        }
        reopenings = count
        deaf = now
        return news
    }

    static func text(_ frontend: DeafFrontend) -> String {
        switch frontend.cause {
        case .closed:
            "frontend \(frontend.name) accepts no clients: somebody closed its listening socket, and it can't be opened again"
        case .ignored: "frontend \(frontend.name) accepts no clients: they wait, and no worker takes them"
        }
    }
}

extension Runtime {
    /// False when some clients aren't accepted.
    func checkListeners() -> Bool {
        for (text, isFault) in listeners.news(dataPlane.deafFrontends(), reopenings: dataPlane.reopenings) {
            log.add(.listener, text, level: isFault ? .warning : .info)
        }
        return listeners.deaf.isEmpty
    }
}
