// SignalDescriptor: signals as a descriptor: for the control thread's reactor, and for commands that end on Ctrl-C.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc
import Proxy

enum SignalDescriptor {
    /// Blocks these signals for this thread and those it starts, and makes them readable instead.
    /// Call before any thread starts.
    static func open(_ signals: [Int32]) throws(SystemError) -> Int32 {
        var mask = sigset_t()
        sigemptyset(&mask)
        for signal in signals { sigaddset(&mask, signal) }
        if pthread_sigmask(SIG_BLOCK, &mask, nil) != 0 { throw SystemError(call: "pthread_sigmask", code: EINVAL) }
        let descriptor = signalfd(-1, &mask, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
        if descriptor < 0 { throw SystemError(call: "signalfd", code: clinux_errno()) }
        return descriptor
    }

    /// The signals that arrived since the last call.
    static func take(_ descriptor: Int32) -> [Int32] {
        var signals: [Int32] = []
        var info = signalfd_siginfo()
        while true {
            let count = withUnsafeMutableBytes(of: &info) { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            guard count == MemoryLayout<signalfd_siginfo>.size else { return signals }
            signals.append(Int32(info.ssi_signo))
        }
    }
}
