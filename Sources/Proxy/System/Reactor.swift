// Reactor: one epoll instance and the events it reported. Each thread that does I/O owns one.
//
// Descriptors are registered once, edge-triggered, for reading, writing and peer shutdown, and never modified:
// a system call is what costs. An owner reads or writes until `wouldBlock`. An event carries the token given at
// registration; its generation tells a stale event (for a descriptor closed and reused meanwhile) from a live one.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

/// Names one registration: what kind of thing it is, its slot in that kind's table, and the slot's generation.
public struct Token: Equatable, Hashable, Sendable {
    public let raw: UInt64

    /// - Parameters:
    ///   - kind: chosen by the reactor's owner, to dispatch on.
    ///   - slot: 0 ..< 2^24.
    public init(kind: UInt8, slot: Int, generation: UInt32 = 0) {
        raw = UInt64(kind) << 56 | UInt64(slot & 0xff_ffff) << 32 | UInt64(generation)
    }

    init(raw: UInt64) { self.raw = raw }

    public var kind: UInt8 { UInt8(raw >> 56) }
    public var slot: Int { Int(raw >> 32 & 0xff_ffff) }
    public var generation: UInt32 { UInt32(truncatingIfNeeded: raw) }
}

/// What happened to a registered descriptor.
public struct Readiness: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let readable = Readiness(rawValue: EPOLLIN.rawValue)
    public static let writable = Readiness(rawValue: EPOLLOUT.rawValue)
    /// The peer closed its sending side (or all of it).
    public static let peerClosed = Readiness(rawValue: EPOLLRDHUP.rawValue)
    public static let hungUp = Readiness(rawValue: EPOLLHUP.rawValue)
    public static let failed = Readiness(rawValue: EPOLLERR.rawValue)
}

public struct Reactor: ~Copyable {
    private let epoll: Int32
    private let events: UnsafeMutableBufferPointer<epoll_event>

    /// Events taken from the kernel per wait; those that are ready beyond it are the first of the next.
    public var eventsMax: Int { events.count }

    /// - Parameter eventsMax: events taken from the kernel per wait.
    public init(eventsMax: Int = 256) throws(SystemError) {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        if epoll < 0 { throw SystemError(call: "epoll_create1", code: clinux_errno()) }
        events = .allocate(capacity: eventsMax)
        events.initialize(repeating: epoll_event())
    }

    deinit {
        System.close(epoll)
        events.deallocate()
    }

    /// Registers for reading, writing and peer shutdown, edge-triggered. Closing the descriptor unregisters it.
    public func register(_ descriptor: Int32, _ token: Token) throws(SystemError) {
        try register(
            descriptor, token, EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue)
    }

    /// Registers for reading only, level-triggered: for descriptors read a little at a time (listeners, mailboxes).
    public func registerForReading(_ descriptor: Int32, _ token: Token) throws(SystemError) {
        try register(descriptor, token, EPOLLIN.rawValue)
    }

    private func register(_ descriptor: Int32, _ token: Token, _ interest: UInt32) throws(SystemError) {
        var event = epoll_event(events: interest, data: epoll_data_t(u64: token.raw))
        if epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0 {
            throw SystemError(call: "epoll_ctl", code: clinux_errno())
        }
    }

    /// Takes a descriptor out without closing it.
    public func unregister(_ descriptor: Int32) {
        var event = epoll_event()
        _ = epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &event)
    }

    /// Waits for events: how many there are now to read with `event(at:)`; 0 on timeout or interruption.
    /// - Parameter timeoutMs: -1 waits for ever.
    public func wait(timeoutMs: Int32) -> Int {
        let count = clinux_wait(epoll, events.baseAddress, Int32(events.count), timeoutMs)
        return count < 0 ? 0 : Int(count)
    }

    /// - Parameter index: below the last `wait`'s answer.
    public func event(at index: Int) -> (token: Token, readiness: Readiness) {
        let event = events[index]
        return (Token(raw: event.data.u64), Readiness(rawValue: event.events))
    }
}
