// Observer: the hidden command `triad observe`: asks a link a thousand times a second who has an address, and writes down
// who answered when. For the lab: an owner is a node that answers for the VIP, whatever it thinks of itself.
//
// It uses frames alone, never the kernel's own neighbour table, and runs above everything else where that is allowed,
// since a moment in which it doesn't ask is a moment of which nothing is known. It says so when there was one.

import CLinux
import Glibc
import Proxy

enum Observer {
    static let command = Subcommand(
        name: "observe", summary: "asks a link who has an address, for the lab",
        positionals: [.init(name: "ADDRESS")],
        options: [
            .value("interface", "NAME", "the link", required: true),
            .value("log", "FILE", "who answered; AnswerTracker.swift says how to read it", required: true),
            .value("every", "MICROSECONDS", "between two questions (1000)"),
        ],
        hidden: true,
        run: { given throws(UsageProblem) in
            let address = given.required("ADDRESS")
            guard let target = SocketAddress(address: address, port: 0) else {
                throw UsageProblem("\"\(address)\": an IP address is needed")
            }
            let every = try given.integer("every", in: 200...1_000_000) ?? 1000
            return observe(target, on: given.required("interface"), log: given.required("log"), everyUs: every)
        })

    /// ARP or neighbour solicitation, until it is killed.
    private static func observe(_ target: SocketAddress, on name: String, log path: String, everyUs: Int) -> Int32 {
        do {
            guard let interface = FenceSystem.interface(name) else { throw LabProblem("no interface \(name)") }
            let log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o644)
            if log < 0 { throw LabProblem(call: "cannot write \(path)") }
            let bytes = interface.hardware
            let frames = ProbeFrames(
                target: target, hardware: [bytes.0, bytes.1, bytes.2, bytes.3, bytes.4, bytes.5])
            let socket = clinux_packet_listener(interface.index, frames.ethernetType)
            if socket < 0 { throw LabProblem(call: "packet socket") }
            _ = clinux_raise_priority()
            var watch = Watch(frames: frames, socket: socket, interface: interface.index, log: log)
            watch.run(every: UInt64(everyUs) * 1000)
        } catch {
            LabSystem.say("triad observe: \(error)\n", to: STDERR_FILENO)
            return 1
        }
    }

    private struct Watch {
        let frames: ProbeFrames
        let socket: Int32
        let interface: Int32
        let log: Int32
        private var tracker = AnswerTracker()
        private var scratch = [UInt8](repeating: 0, count: 1 << 16)
        private var frame: [UInt8] = []
        /// When the latest probes were sent, by slot.
        private var sent = [(probe: Int, at: UInt64)](repeating: (-1, 0), count: ProbeFrames.slots)
        private var probe = 0

        init(frames: ProbeFrames, socket: Int32, interface: Int32, log: Int32) {
            self.frames = frames
            self.socket = socket
            self.interface = interface
            self.log = log
        }

        /// How often the log says that it is complete.
        private static let reportEvery: UInt64 = 50_000_000
        /// A probe that is later than this is a hole in what was seen.
        private static let stallMin: UInt64 = 3_000_000

        mutating func run(every: UInt64) -> Never {
            var due = System.bootNanoseconds()
            var reportAt = due
            while true {
                takeAnswers()
                let now = System.bootNanoseconds()
                if now > due + Self.stallMin { tracker.stalled(from: due, to: now) }
                let bytes = frames.request(number: probe)
                sent[probe % ProbeFrames.slots] = (probe, now)
                _ = clinux_send_frame(socket, interface, bytes, bytes.count)
                // In one machine the answer is there when the call returns.
                takeAnswers()
                probe += 1
                tracker.elapse(sent: now)
                if now >= reportAt {
                    // What is still on its way is of less than the grace ago.
                    tracker.complete(at: now - AnswerTracker.graceNs, probes: probe)
                    reportAt = now + Self.reportEvery
                }
                write()
                due = max(due + every, System.bootNanoseconds())
                sleep(until: due)
            }
        }

        private mutating func takeAnswers() {
            while case .moved = receive() {
                switch frames.read(frame[...]) {
                case .answer(let station, let slot):
                    let which = sent[slot ?? (probe % ProbeFrames.slots)]
                    // Of IPv6 the last probe that was sent, which may not be the one numbered `probe` yet.
                    let last = slot == nil && which.probe != probe ? sent[(probe + 63) % ProbeFrames.slots] : which
                    guard last.probe >= 0 else { continue }
                    tracker.answered(station, probe: last.probe, sent: last.at, at: System.bootNanoseconds())
                case .announcement(let station, let kind):
                    tracker.announced(station, at: System.bootNanoseconds(), kind: kind)
                case nil: break
                }
            }
        }

        private mutating func receive() -> Transfer {
            frame.removeAll(keepingCapacity: true)
            return LabSystem.receive(socket, appendTo: &frame, scratch: &scratch)
        }

        private mutating func write() {
            let lines = tracker.takeLines()
            if !lines.isEmpty { LabSystem.say(lines.joined(separator: "\n") + "\n", to: log) }
        }

        private func sleep(until moment: UInt64) {
            var time = timespec(tv_sec: Int(moment / 1_000_000_000), tv_nsec: Int(moment % 1_000_000_000))
            _ = clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &time, nil)
        }
    }
}
