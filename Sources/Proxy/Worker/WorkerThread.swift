// WorkerThread: starts a thread that runs one worker, and waits for its end.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

/// Owns a worker. Made and started on one thread; from then on only the started thread touches the worker.
final class WorkerThread: @unchecked Sendable {
    // WHY: cache lines in which nothing changes, before and behind what the worker changes with each request: what stands next to
    // this object may be another worker.
    private let before = SIMD64<UInt8>()
    private var worker: Worker
    private let behind = SIMD64<UInt8>()
    private let index: Int
    private(set) var thread: pthread_t?

    init(_ worker: consuming Worker, index: Int) {
        self.worker = worker
        self.index = index
    }

    /// - Throws: when the system has no room for another thread.
    func start() throws(SystemError) {
        var thread = pthread_t()
        let reference = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let owner = Unmanaged<WorkerThread>.fromOpaque(argument).takeRetainedValue()
                clinux_name_thread("worker \(owner.index)")
                owner.worker.run()
                return nil
            }, reference.toOpaque())
        if code != 0 {
            reference.release()
            throw SystemError(call: "pthread_create", code: code)
        }
        self.thread = thread
    }

    /// Waits until the worker has left its loop.
    func join() {
        guard let thread else { return }
        pthread_join(thread, nil)
        self.thread = nil
    }
}
