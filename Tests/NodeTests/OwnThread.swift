// OwnThread: suites whose tests spend most of their time waiting for the kernel, on a thread beside the others: the threads that
// all tests share are one per core, and a test that waits there keeps others from working.

import Dispatch
import Foundation
import Synchronization
import Testing

/// All such suites share the one thread, so that their tests don't disturb each other's timing. Their bodies may not suspend.
struct OwnThread: SuiteTrait, TestScoping {
    private static let executor = Executor()

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        // What the suite starts inherits it.
        try await withTaskExecutorPreference(Self.executor) { try await function() }
    }

    func scopeProvider(for test: Test, testCase: Test.Case?) -> OwnThread? { test.isSuite ? self : nil }

    private final class Executor: TaskExecutor {
        private let jobs = Mutex<[UnownedJob]>([])
        private let arrivals = DispatchSemaphore(value: 0)

        init() {
            Thread.detachNewThread { [self] in
                while true {
                    arrivals.wait()
                    guard let job = jobs.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else { continue }
                    job.runSynchronously(on: asUnownedTaskExecutor())
                }
            }
        }

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            jobs.withLock { $0.append(job) }
            arrivals.signal()
        }
    }
}

extension Trait where Self == OwnThread {
    static var ownThread: OwnThread { OwnThread() }
}
