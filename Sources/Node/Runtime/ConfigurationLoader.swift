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
        var thread: BackgroundThread?
        var outcome: Outcome?
        /// Asked for again while a load was under way, which may have read the file before it changed.
        var isStale = false
    }

    init() throws(SystemError) { descriptor = try System.eventDescriptor() }

    deinit { System.close(descriptor) }

    /// Begins to read `path`, or notes that it has to be read again.
    func begin(_ path: String) throws(SystemError) {
        let isBusy = state.withLock { state in
            state.isStale = state.thread != nil
            return state.isStale
        }
        if isBusy { return }
        let thread = try BackgroundThread(name: "reload") { [self] in
            let outcome = Configuration.load(path)
            state.withLock { $0.outcome = outcome }
            System.signal(descriptor)
        }
        state.withLock { $0.thread = thread }
    }

    /// What the last load came to, once; nil when there is none. A stale one should be begun again.
    func take() -> (outcome: Outcome, isStale: Bool)? {
        System.drain(descriptor)
        let taken = state.withLock { state -> (Outcome, Bool, BackgroundThread?)? in
            guard let outcome = state.outcome else { return nil }
            defer { state = State() }
            return (outcome, state.isStale, state.thread)
        }
        guard let (outcome, isStale, thread) = taken else { return nil }
        // It has said its last word: this doesn't wait.
        thread?.join()
        return (outcome, isStale)
    }
}
