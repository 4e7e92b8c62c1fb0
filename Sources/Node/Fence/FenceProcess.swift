// FenceProcess: the process `triad fence`, which alone touches the VIPs. The shell around FenceState: its descriptors,
// its clock, its `ip` and its gate.
//
// A child of the main process, started by FenceLink with the packet pair as standard input, in a session of its own,
// deaf to SIGINT, SIGTERM, SIGHUP and SIGUSR1: it ends when the pair closes and the VIPs are gone, when it is told to, or when
// the kernel's timer says so. One thread, raised above the data plane; it waits in epoll and nowhere else, and does
// nothing that could take long: no files, no names, no logs.

import CLinux
import Glibc
import Gossip
import Proxy

struct FenceProcess: ~Copyable {
    private enum Source: UInt8 { case link = 1, watch, tool, gate, gateTool }

    private var settings: FenceSettings
    private var state: FenceState
    private let reactor: Reactor
    private var watch: AddressWatch
    private var announcer: Announcer?
    private var conflicts: ConflictWatch
    private var tool = FenceTool(.ip)
    private var gate: Gate
    private let killTimer: KillTimer
    private var envelope: Envelope
    private let udp: Int32
    private let udp6: Int32
    private var link: Int32?
    /// What to tell the peers if the main process is gone.
    private var release: [UInt8] = []
    /// The index that each VIP's interface had when the VIP was last seen on it.
    private var indices: [UInt32]
    private var toldWarnings: [String] = []
    /// A look waits for the end of an `ip` that was killed.
    private var mustLook = false
    private var exiting = false

    static let command = Subcommand(
        name: "fence", summary: "owns the VIP for `triad run`, which starts it", hidden: true, run: { _ in run() })

    /// The whole life of the process: its exit status.
    static func run() -> Int32 {
        FenceSystem.ignoreSignals()
        clinux_name_thread("triad-fence")
        _ = clinux_raise_priority()
        // CAP_NET_ADMIN: where we are not root but have it, `ip` must have it too.
        _ = clinux_pass_on_capability(12)
        _ = clinux_set_nonblocking(STDIN_FILENO)
        guard let settings = firstCommand() else {
            Console.error("triad fence: for `triad run` only, which starts it and talks to it on standard input")
            return 2
        }
        do throws(SystemError) {
            var process = try FenceProcess(settings)
            process.loop()
            return 0
        } catch {
            _ = FenceSystem.write(STDIN_FILENO, FenceAnswer.failed("the fence can't work: \(error)").encoded())
            return 1
        }
    }

    /// The hello; nil when standard input is not a main process that says it.
    private static func firstCommand() -> FenceSettings? {
        while true {
            var entry = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
            _ = poll(&entry, 1, -1)
            switch FenceSystem.read(STDIN_FILENO, max: FenceCommand.bytesMax) {
            case .bytes(let bytes):
                guard case .hello(let settings) = FenceCommand.decoded(bytes) else { return nil }
                return settings
            case .nothing: continue
            // The main process ended before it said anything: nothing to let go of.
            case .ended: exit(0)
            case .failed: return nil
            }
        }
    }

    private init(_ settings: FenceSettings) throws(SystemError) {
        let reactor = try Reactor(eventsMax: 8)
        let watch = try AddressWatch()
        try reactor.registerForReading(STDIN_FILENO, Token(kind: Source.link.rawValue, slot: 0))
        try reactor.registerForReading(watch.descriptor, Token(kind: Source.watch.rawValue, slot: 0))
        let killTimer = try KillTimer()
        let udp = try System.socket(AF_INET, SOCK_DGRAM.rawValue)
        self.settings = settings
        self.killTimer = killTimer
        self.udp = udp
        // A machine may have no IPv6 at all; then no member has an IPv6 address either.
        udp6 = (try? System.socket(AF_INET6, SOCK_DGRAM.rawValue)) ?? -1
        // The peers receive from the members' addresses only.
        let own = settings.members[settings.me.index]
        let anyPort = SocketAddress(high: own.high, low: own.low, port: 0, isIPv6: own.isIPv6)
        try? System.bind(own.isIPv6 ? udp6 : udp, anyPort)
        link = STDIN_FILENO
        indices = Array(repeating: 0, count: settings.vips.count)
        let start = System.bootNanoseconds()
        envelope = Envelope(
            clusterTag: settings.clusterTag, me: settings.me, memberCount: settings.members.count,
            boot: settings.boot, keys: settings.keys, sequenceStart: Envelope.fenceSequenceBit | start)
        state = FenceState(
            vips: settings.vips.map { "\($0.text) on \($0.interface)" }, gate: settings.gate,
            lineGrace: settings.lineGrace, now: Instant(nanoseconds: start))
        gate = Gate(settings, start: start)
        self.reactor = reactor
        self.watch = watch
        announcer = try? Announcer()
        conflicts = ConflictWatch(settings.vips)
        if announcer == nil {
            warn("the VIP can't be announced to neighbours, who may take longer to follow it: CAP_NET_RAW is missing")
        }
    }

    private static var now: Instant { Instant(nanoseconds: System.bootNanoseconds()) }

    // MARK: events

    private mutating func loop() {
        // Where it fails no line of the gate's is ever confirmed, so there is none.
        if let descriptor = gate.watchDescriptor {
            try? reactor.registerForReading(descriptor, Token(kind: Source.gate.rawValue, slot: 0))
        }
        act()
        while !exiting {
            let count = reactor.wait(timeoutMs: timeoutMs)
            for index in 0..<count {
                switch Source(rawValue: reactor.event(at: index).token.kind) {
                case .link: hearMain()
                case .watch: hearKernel()
                case .tool: hearTool()
                case .gate, .gateTool: hearGate()
                case nil: break
                }
            }
            if mustLook { look() }
            if gate.isWaiting { hearGate() }
            step(.tick)
            act()
        }
    }

    /// Up to a millisecond late, which is why FenceState begins to let go that much earlier.
    private var timeoutMs: Int32 {
        if mustLook || gate.isWaiting { return 1 }
        guard let deadline = state.deadline else { return -1 }
        let milliseconds = Self.now.duration(to: deadline).milliseconds.rounded(.up)
        return Int32(max(0, min(milliseconds, 60_000)))
    }

    private mutating func step(_ event: FenceState.Event) { state.step(event, now: Self.now) }

    private mutating func hearMain() {
        while let link {
            switch FenceSystem.read(link, max: FenceCommand.bytesMax) {
            case .bytes(let bytes):
                guard let command = FenceCommand.decoded(bytes) else { continue }
                obey(command)
            case .nothing: return
            case .ended, .failed:
                reactor.unregister(link)
                System.close(link)
                self.link = nil
                step(.closed)
            }
        }
    }

    private mutating func obey(_ command: FenceCommand) {
        switch command {
        case .hello: break
        case .peers(let boots): envelope.learn(boots: boots)
        case .reconfigured(let members, let keys):
            guard members.count == settings.members.count, !keys.isEmpty || members.count == 1 else { return }
            settings.members = members
            gate.members = members
            envelope.use(keys: keys)
        case .hold(let until, let term, let order, let release):
            self.release = release
            step(.hold(until: until, term: term, order: order))
        case .drop(let order): step(.drop(order: order))
        case .yield(let order): step(.yield(order: order))
        case .forward(let route): step(.forward(to: route))
        case .bye: step(.bye)
        }
    }

    private mutating func hearKernel() {
        for change in watch.takeChanges() {
            switch change {
            case .overrun:
                step(.overrun)
                if gate.hasNewInterface() { step(.gate(.unsure)) }
            case .link: if gate.hasNewInterface() { step(.gate(.unsure)) }
            case .appeared(let entry):
                if gate.isNewLinkLocal(entry) { step(.gate(.unsure)) }
                switch place(entry) {
                case .vip(let vip): step(.appeared(vip: vip))
                case .stray(let stray): step(.strayAppeared(stray))
                case .gone: step(.overrun)
                case .other: break
                }
            case .vanished(let entry):
                switch place(entry) {
                case .vip(let vip): step(.vanished(vip: vip))
                case .stray(let stray): step(.strayVanished(stray))
                case .gone: step(.overrun)
                case .other: break
                }
            }
        }
    }

    private mutating func hearTool() {
        for saying in tool.take() {
            switch saying {
            case .refused(let id, let reason): step(.refused(line: id, reason: reason))
            case .ended(let reason): step(.toolEnded(reason: reason))
            }
        }
    }

    private mutating func hearGate() {
        for event in gate.take() { step(.gate(event)) }
    }

    private enum Place {
        case vip(Int)
        case stray(FenceStray)
        /// Of an interface that no longer exists.
        case gone
        case other
    }

    private mutating func place(_ entry: AddressEntry) -> Place {
        guard let vip = settings.vips.firstIndex(where: { $0.address == entry.address }) else { return .other }
        let expected = settings.vips[vip]
        if let index = FenceSystem.interface(expected.interface)?.index { indices[vip] = UInt32(index) }
        if entry.prefix == expected.prefix, entry.interfaceIndex == indices[vip] { return .vip(vip) }
        guard let name = FenceSystem.interfaceName(entry.interfaceIndex) else { return .gone }
        return .stray(FenceStray(vip: vip, prefix: entry.prefix, interface: name))
    }

    // MARK: effects

    private mutating func act() {
        while let effect = state.nextEffect() {
            switch effect {
            case .gate(let effect): tend(effect)
            case .startTool: startTool()
            case .stopTool: tool.stop()
            case .write(let line, let id, let before): write(line, id, before)
            case .look: look()
            case .killAt(let time): killTimer.set(time?.nanoseconds ?? 0)
            case .announce(let vip, let isSettled): announce(vip, isSettled)
            case .report(let answer): report(answer)
            case .release: tellPeers()
            case .exit: exiting = true
            }
        }
    }

    private mutating func startTool() {
        if let problem = tool.start(keep: announcer?.socket ?? -1) { return step(.toolEnded(reason: problem)) }
        guard let descriptor = tool.descriptor else { return }
        do throws(SystemError) {
            try reactor.registerForReading(descriptor, Token(kind: Source.tool.rawValue, slot: 0))
        } catch {
            tool.stop()
            step(.toolEnded(reason: "\(error)"))
        }
    }

    private mutating func tend(_ effect: GateState.Effect) {
        switch effect {
        case .start:
            if let problem = gate.start(keep: announcer?.socket ?? -1) {
                return step(.gate(.ended(reason: problem)))
            }
            guard let descriptor = gate.toolDescriptor else { return }
            do throws(SystemError) {
                try reactor.registerForReading(descriptor, Token(kind: Source.gateTool.rawValue, slot: 0))
            } catch {
                gate.stop()
                step(.gate(.ended(reason: "\(error)")))
            }
        case .stop: gate.stop()
        case .write(let line, let id):
            // What others did before this line must not be taken for something that came after it.
            hearGate()
            if let event = gate.write(line, id: id, addresses: &watch) { step(.gate(event)) }
            if case .forward = line, gate.seeks { step(.gate(.seeking)) }
            for complaint in gate.takeComplaints() { warn(complaint) }
        case .findFlows: step(.gate(.found(parts: gate.findFlows())))
        case .report(let answer): report(answer)
        }
    }

    private mutating func write(_ line: FenceLine, _ id: UInt64, _ before: Instant?) {
        let text = text(of: line)
        // The last look at the clock before the line is out of our hands. If everything is stopped right here, the
        // kernel's timer ends this process before it can go on too late.
        if let before, Self.now >= before { return step(.withheld(line: id)) }
        if !tool.write(text, id: id) {
            tool.stop()
            step(.toolEnded(reason: "ip takes no more lines"))
        }
    }

    private func text(of line: FenceLine) -> String {
        switch line {
        case .put(let index):
            let vip = settings.vips[index]
            // The kernel must not choose a VIP as the source of this node's own connections to servers: their answers go
            // to whoever owns it. It would choose an IPv6 one as the longest match, so that is deprecated from the
            // start (RFC 6724, 5, rules 3 and 8); and an IPv4 one where it is the interface's first address, deprecated
            // or not, but not one of scope host. One with its subnet's prefix is secondary to the node's own address
            // there, so it isn't chosen either, and the kernel wants both to have one scope.
            let scope = vip.prefix == 32 ? " scope host" : ""
            let options = vip.address.isIPv6 ? "preferred_lft 0 nodad" : "preferred_lft 1\(scope)"
            return "addr replace \(vip.text) dev \(vip.interface) valid_lft 1 \(options)"
        case .remove(let index):
            return "addr del \(settings.vips[index].text) dev \(settings.vips[index].interface)"
        case .clear(let stray):
            return "addr del \(settings.vips[stray.vip].address.host)/\(stray.prefix) dev \(stray.interface)"
        }
    }

    private mutating func look() {
        // What an `ip` in its last moments still does must not come after the look.
        mustLook = !tool.isGone()
        if mustLook { return }
        // What was announced before the look must not be taken for news after it.
        hearKernel()
        var present = Array(repeating: false, count: settings.vips.count)
        var strays: [FenceStray] = []
        do throws(SystemError) {
            for entry in try watch.look() {
                switch place(entry) {
                case .vip(let vip): present[vip] = true
                case .stray(let stray): strays.append(stray)
                case .gone, .other: break
                }
            }
            step(.looked(present: present, strays: strays))
        } catch {
            // Without the kernel's word nothing can be promised: the address's lifetime is what remains.
            report(.failed("the kernel's addresses can't be read: \(error)"))
            exiting = true
        }
    }

    private mutating func announce(_ index: Int, _ isSettled: Bool) {
        let vip = settings.vips[index]
        // Of what was heard before, the rest of a former owner may be a part.
        if let other = conflicts.takeClaim(index), isSettled {
            report(
                .contested(
                    "\(vip.address.host) on \(vip.interface) is the address of \(ProbeFrames.text(other[...])), too"))
        }
        guard let code = announcer?.announce(vip) else { return }
        warn("\(vip.text) can't be announced on \(vip.interface): \(System.explain(code))")
    }

    /// Each warning is said once.
    private mutating func warn(_ text: String) {
        if toldWarnings.contains(text) || toldWarnings.count >= FenceLimits.vipsMax { return }
        toldWarnings.append(text)
        report(.warning(text))
    }

    private func report(_ answer: FenceAnswer) {
        if let link { _ = FenceSystem.write(link, answer.encoded()) }
    }

    private mutating func tellPeers() {
        if release.isEmpty { return }
        for (index, address) in settings.members.enumerated() where index != settings.me.index {
            FenceSystem.send(
                address.isIPv6 ? udp6 : udp, envelope.seal(release, to: MemberID(index)), to: address)
        }
    }
}
