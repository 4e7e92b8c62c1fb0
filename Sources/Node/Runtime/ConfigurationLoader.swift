// ConfigurationLoader: reads the configuration again while the node runs, on a thread of its own, since a slow disk must
// not keep the control thread from its heartbeats. One load at a time; the control thread owns it.

import Proxy
import Synchronization

final class ConfigurationLoader: Sendable {
    typealias Outcome = Result<Configuration, ConfigurationProblems>

    /// Readable when `take` has something.
    let descriptor: Int32
    private let state = Mutex(State())

    private struct State {
        var isBusy = false
        var outcome: Outcome?
        /// Asked for again while a load was under way, which may have read the file before it changed.
        var isStale = false
    }

    init() throws(SystemError) { descriptor = try System.eventDescriptor() }

    deinit { System.close(descriptor) }

    /// Begins to read `path`, or notes that it has to be read again.
    func begin(_ path: String) throws(SystemError) {
        let isBusy = state.withLock { state in
            (state.isStale, state.isBusy) = (state.isBusy, true)
            return state.isStale
        }
        if isBusy { return }
        do {
            // WHY nobody waits for its end, which is near when it has signalled: it has an ordinary priority, and on a busy
            // machine whoever waits for it, with whatever priority, waits for a lease's length.
            _ = try BackgroundThread(name: "reload") { [self] in
                let outcome = Configuration.load(path)
                state.withLock { $0.outcome = outcome }
                System.signal(descriptor)
            }
        } catch {
            state.withLock { $0 = State() }
            throw error
        }
    }

    /// What the last load came to, once; nil when there is none. A stale one should be begun again.
    func take() -> (outcome: Outcome, isStale: Bool)? {
        System.drain(descriptor)
        return state.withLock { state in
            guard let outcome = state.outcome else { return nil }
            defer { state = State() }
            return (outcome, state.isStale)
        }
    }
}
