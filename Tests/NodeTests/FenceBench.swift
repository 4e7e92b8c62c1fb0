// FenceBench: a network namespace with a real fence in it, driven by a stand-in for the main process.
//
// The stand-in is the test itself, on one thread that lives in the namespace for as long as the bench stands: it keeps
// a lease going or lets it pass, writes down every change of addresses that the kernel announces, and every answer of
// the fence, each with its time. A test's body may not suspend, since it would come back on another thread.

import CLinux
import Glibc
import Gossip
import Proxy

@testable import Node

/// One line of the record.
struct FenceRecord: CustomStringConvertible {
    enum Kind: Equatable {
        case appeared(String)
        case vanished(String)
        case answer(FenceAnswer)
        case datagram
    }

    let atMs: Double
    let kind: Kind

    var description: String { "\(atMs) ms: \(kind)" }
}

final class FenceBench {
    static let vip = "10.88.0.100"
    static let vip6 = "fd88::100"
    static let leaseMs = 150

    let name: String
    /// nil: the main process is dead.
    var link: FenceLink?
    private(set) var record: [FenceRecord] = []
    /// While true the stand-in renews its lease every 30 ms.
    var leads = false
    /// How long it lasts, in milliseconds. Longer where a test is about something else: this thread may stand still for longer.
    var leaseMs = FenceBench.leaseMs
    var term: UInt64 = 7
    private(set) var order: UInt64 = 0
    /// Where the last hold ends.
    private(set) var until = Instant(nanoseconds: 0)

    private let reactor: Reactor
    private var watch: AddressWatch
    private let home: Int32
    private let udp: Int32
    private var envelope: Envelope
    private var lastHold = Instant(nanoseconds: 0)
    private let startedAt: Instant

    static let key = [UInt8](repeating: 7, count: 32)
    /// The program that was built beside the tests.
    static let program =
        "/"
        + (readLink("/proc/self/exe").split(separator: "/").dropLast() + ["triad"])
        .joined(separator: "/")

    /// - Parameters:
    ///   - vips: addresses, with a prefix where it isn't the address alone.
    ///   - before: shell commands to run in the namespace before the fence starts.
    init(vips: [String] = [FenceBench.vip], before: String = ":") throws {
        // What a killed test run left.
        Self.shell(
            """
            for left in $(ip netns list 2>/dev/null | grep -o '^fence-[0-9]*-[0-9]*'); do
                run=${left#fence-}; [ -d /proc/${run%-*} ] || ip netns del $left
            done
            """)
        name = "fence-\(getpid())-\(UInt32.random(in: 0..<1_000_000))"
        Self.shell(
            """
            ip netns add \(name) && ip -n \(name) link set lo up && \
            ip -n \(name) link add eth0 type veth peer name far0 && \
            ip -n \(name) link set eth0 up && ip -n \(name) link set far0 up && \
            ip -n \(name) addr add 10.88.0.11/24 dev eth0 && ip -n \(name) addr add 10.88.0.12/24 dev eth0 && \
            ip netns exec \(name) sh -c '\(before)'
            """)
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        let space = open("/run/netns/\(name)", O_RDONLY | O_CLOEXEC)
        guard home >= 0, space >= 0, clinux_enter_network_namespace(space) == 0 else {
            throw SystemError(call: "setns \(name)", code: clinux_errno())
        }
        System.close(space)
        // A late stand-in would be a late main process, and this machine may be busy with other tests.
        // Not the real-time class that a node has: in a test's thread it would starve the kernel's own workers and
        // every other test on the machine for a second at a time.
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -10)
        reactor = try Reactor()
        watch = try AddressWatch()
        udp = try System.socket(AF_INET, SOCK_DGRAM.rawValue)
        let peer = try Self.address("10.88.0.12", 7946)
        try System.bind(udp, peer)
        let settings = FenceSettings(
            vips: try vips.map {
                let parts = $0.split(separator: "/").map(String.init)
                let address = try Self.address(parts[0])
                let prefix = parts.count > 1 ? Int(parts[1]) : nil
                return FenceAddress(
                    address: address, prefix: prefix ?? (address.isIPv6 ? 128 : 32), interface: "eth0")
            },
            members: [try Self.address("10.88.0.11", 7946), peer, try Self.address("10.88.0.13", 7946)],
            me: MemberID(0),
            clusterTag: 99, boot: 1000, keys: [Self.key], gate: .never, gateTable: "triad_bench",
            lineGrace: .milliseconds(40))
        envelope = Envelope(clusterTag: 99, me: MemberID(1), memberCount: 3, boot: 2000, keys: [Self.key])
        var link = FenceLink(settings: settings, token: Token(kind: 1, slot: 0), program: Self.program)
        startedAt = Instant(nanoseconds: System.bootNanoseconds())
        try reactor.registerForReading(watch.descriptor, Token(kind: 2, slot: 0))
        try reactor.registerForReading(udp, Token(kind: 3, slot: 0))
        link.peers(boots: [1000, 2000, 0])
        link.start(on: reactor, now: startedAt)
        self.link = consume link
    }

    /// Ends the fence, removes the namespace and goes home.
    func close() {
        if let process = link?.process { kill(process, SIGKILL) }
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 0)
        _ = clinux_enter_network_namespace(home)
        System.close(home)
        System.close(udp)
        Self.shell("ip netns del \(name)")
    }

    private static func address(_ host: String, _ port: UInt16 = 0) throws -> SocketAddress {
        guard let address = SocketAddress(address: host, port: port) else {
            throw SystemError(call: "address \(host)", code: EINVAL)
        }
        return address
    }

    // MARK: time

    var now: Instant { Instant(nanoseconds: System.bootNanoseconds()) }
    var nowMs: Double { startedAt.duration(to: now).milliseconds }
    /// The last hold's end on the record's clock.
    var untilMs: Double { startedAt.duration(to: until).milliseconds }

    /// Lives for a while, or until a condition holds: false when it never did.
    @discardableResult
    func live(_ milliseconds: Int, attendingLink: Bool = true, until condition: (FenceBench) -> Bool = { _ in false })
        -> Bool
    {
        let end = now.advanced(by: .milliseconds(milliseconds))
        while true {
            turn(attendingLink)
            if condition(self) { return true }
            if now >= end { return false }
            // A link that nobody attends to stays readable: waiting for it would be spinning.
            if attendingLink { _ = reactor.wait(timeoutMs: 1) } else { usleep(1000) }
        }
    }

    /// Lives until something that must come is there; false when it never was.
    func awaits(attendingLink: Bool = true, _ condition: (FenceBench) -> Bool) -> Bool {
        live(waitMsMax, attendingLink: attendingLink, until: condition)
    }

    private func turn(_ attendingLink: Bool) {
        for change in watch.takeChanges() {
            switch change {
            case .appeared(let entry): note(.appeared(entry.address.host))
            case .vanished(let entry): note(.vanished(entry.address.host))
            case .link: break
            case .overrun: fatalError("the record has a hole")
            }
        }
        hearDatagrams()
        guard attendingLink, link != nil else { return }
        link?.tick(on: reactor, now: now)
        link?.ready(on: reactor, now: now)
        while let answer = link?.nextAnswer() { note(.answer(answer)) }
        if leads, lastHold.duration(to: now) >= .milliseconds(30) { hold() }
    }

    private func note(_ kind: FenceRecord.Kind) { record.append(FenceRecord(atMs: nowMs, kind: kind)) }

    private func hearDatagrams() {
        while case .bytes(let bytes) = FenceSystem.read(udp, max: 1500) {
            if case .message(_, 1000, Array("released".utf8), true) = envelope.open(bytes) { note(.datagram) }
        }
    }

    // MARK: the main process's part

    func hold() {
        lastHold = now
        until = now.advanced(by: .milliseconds(leaseMs))
        hold(until: until)
    }

    func hold(until: Instant) {
        order += 1
        link?.hold(until: until, term: term, order: order, release: Array("released".utf8))
    }

    func drop() {
        order += 1
        link?.drop(order: order)
    }

    /// What a kill -9 of the main process does to the fence: its end of the pair closes.
    func dieAsMain() { link = nil }

    // MARK: what the record says

    func times(of kind: FenceRecord.Kind) -> [Double] { record.filter { $0.kind == kind }.map(\.atMs) }
    func has(_ kind: FenceRecord.Kind) -> Bool { record.contains { $0.kind == kind } }
    /// Whether the fence has let go with all the orders it was given.
    func hasDropped(_ cause: FenceDropCause) -> Bool { has(.answer(.dropped(order: order, term: term, cause: cause))) }
    func forget() { record = [] }

    /// Whether the address is there now, by the kernel's table and not by what was announced.
    func isUp(_ host: String = FenceBench.vip) -> Bool {
        ((try? watch.look()) ?? []).contains { $0.address.host == host }
    }

    /// The fence, if it runs.
    var process: Int32? { link?.process }

    /// The fence's `ip`, if it runs.
    var tool: Int32? { Self.tool("ip", of: { link?.process }, live: { live(50) }) }

    /// A fence's child of this name. The fence may be between two of them: `live` is for what goes on meanwhile.
    static func tool(_ name: String, of fence: () -> Int32?, live: () -> Void) -> Int32? {
        for _ in 0..<50 {
            if let tool = fence().flatMap({ output("pgrep -P \($0) -x \(name)").first }) { return tool }
            live()
        }
        return nil
    }

    /// Whether a line is on the tool's standard input, unread.
    func hasLineWaiting(for tool: Int32) -> Bool {
        let waiting = Self.output("ip netns exec \(name) ss -xp | grep 'pid=\(tool),' | awk '{print $3}'")
        return waiting.contains { $0 > 0 }
    }

    // MARK: the operating system

    /// Whether a process can still execute anything: one that is ending has no program any more.
    static func lives(_ process: Int32) -> Bool { !readLink("/proc/\(process)/exe").isEmpty }

    @discardableResult
    static func shell(_ command: String) -> Int32 { system(command) }

    func inside(_ command: String) { Self.shell("ip netns exec \(name) \(command)") }

    /// The numbers a command prints.
    static func output(_ command: String) -> [Int32] {
        guard let stream = popen(command, "r") else { return [] }
        defer { pclose(stream) }
        var numbers: [Int32] = []
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, stream) != nil {
            let text = String(decoding: line.prefix { $0 > 32 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if let number = Int32(text) { numbers.append(number) }
        }
        return numbers
    }

    private static func readLink(_ path: String) -> String {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// The middle one, for printed figures.
func median(_ values: [Double]) -> Double { values.isEmpty ? .nan : values.sorted()[values.count / 2] }
