// BackgroundThread: a thread that runs one function, for work that may block.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc
import Synchronization

public final class BackgroundThread: Sendable {
    private final class Body: Sendable {
        let name: String
        let run: @Sendable () -> Void

        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    private let thread: Mutex<pthread_t?>

    /// Starts it.
    /// - Parameter name: at most 15 bytes, for ps and top.
    /// - Throws: when the system has no room for another thread.
    public init(name: String, _ run: @escaping @Sendable () -> Void) throws(SystemError) {
        var thread = pthread_t()
        let reference = Unmanaged.passRetained(Body(name: name, run: run))
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                clinux_name_thread(body.name)
                body.run()
                return nil
            }, reference.toOpaque())
        if code != 0 {
            reference.release()
            throw SystemError(call: "pthread_create", code: code)
        }
        self.thread = Mutex(thread)
    }

    /// A thread that nobody waits for leaves nothing behind when it ends.
    deinit {
        let thread = thread.withLock { $0.take() }
        if let thread { pthread_detach(thread) }
    }

    /// Waits until the function has returned; at once the second time.
    public func join() {
        let thread = thread.withLock { $0.take() }
        if let thread { pthread_join(thread, nil) }
    }
}
