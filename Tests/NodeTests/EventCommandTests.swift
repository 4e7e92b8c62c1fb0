// EventCommandTests: the operator's command, with real scripts: what it is told, and that one that fails, hangs or isn't there
// holds nobody up.

import Foundation
import Glibc
import Testing

@testable import Node

@Suite("EventCommand")
struct EventCommandTests {
    private let scratch = Scratch()

    private func script(_ name: String, _ text: String) -> String {
        scratch.program(name, "#!/bin/sh\n" + text)
    }

    private func job(_ command: [String], timeoutMs: Int = 600_000, environment: [String] = [], input: String = "")
        -> EventJob
    {
        EventJob(
            command: command, timeoutMs: timeoutMs, environment: ["PATH=/usr/bin:/bin"] + environment,
            input: Array(input.utf8))
    }

    private func wait(_ what: String, _ condition: () -> Bool) throws {
        if eventually(condition) { return }
        Issue.record("\(what) never came")
        throw CancellationError()
    }

    @Test func isToldTheEvent() throws {
        let out = scratch.file("out")
        let path = script(
            "on-event", "echo \"$1|$TRIAD_EVENT|$TRIAD_TEXT\" >\(out).new; cat >>\(out).new; mv \(out).new \(out)\n")
        let command = EventCommand()
        command.submit(job([path, "two words"], environment: ["TRIAD_EVENT=a", "TRIAD_TEXT=b; $(c)"], input: "{}\n"))
        try wait("the end") { command.figures.done == 1 }
        #expect(String(decoding: scratch.bytes("out"), as: UTF8.self) == "two words|a|b; $(c)\n{}\n")
        #expect(command.takeProblem() == nil)
    }

    @Test func oneAfterTheOtherInOrder() throws {
        let path = script("on-event", "echo \"$N\" >>\(scratch.file("order"))\n")
        let command = EventCommand()
        for number in 1...20 { command.submit(job([path], environment: ["N=\(number)"])) }
        try wait("all of them") { command.isIdle }
        #expect(command.figures.done == 20)
        let order = String(decoding: scratch.bytes("order"), as: UTF8.self).split(separator: "\n").compactMap {
            Int($0)
        }
        #expect(order == Array(1...20))
    }

    @Test func failuresAreCountedAndSaid() throws {
        let command = EventCommand()
        command.submit(job([script("fails", "exit 3\n")]))
        try wait("the end") { command.isIdle }
        #expect(command.takeProblem()?.hasSuffix("fails exited with 3") == true)
        command.submit(job([scratch.file("absent")]))
        try wait("the end") { command.isIdle }
        #expect(command.takeProblem()?.contains("is it there, and executable?") == true)
        command.submit(job([script("dies", "kill -9 $$\n")]))
        try wait("the end") { command.isIdle }
        #expect(command.takeProblem()?.contains("ended by signal 9") == true)
        #expect(command.figures.failed == 3)
        #expect(command.takeProblem() == nil)
    }

    @Test func oneThatHangsIsKilledWithAllItStarted() throws {
        let path = script(
            "hangs", "trap '' TERM INT HUP\nsleep 1000 &\necho $! >\(scratch.file("child"))\nwait\nsleep 1000\n")
        let command = EventCommand()
        var (child, killed) = (Int32(0), UInt64(0))
        // A busy machine may need more than a second to begin.
        for timeoutMs in [1000, 4000, 16_000] where child <= 1 {
            command.submit(job([path], timeoutMs: timeoutMs))
            command.submit(job([script("after", "exit 0\n")]))
            try wait("the end of both") { command.isIdle }
            killed += 1
            #expect(command.figures.killed == killed)
            #expect(command.figures.done == killed, "the next event's command ran")
            child = Int32(String(decoding: scratch.bytes("child"), as: UTF8.self).trimmed) ?? 0
        }
        try #require(child > 1)
        try wait("the end of its child") { !isAlive(child) }
    }

    /// Its words go neither into our log, which they could fill, nor into a pipe that nobody empties.
    @Test func oneThatFloodsIsHeldUpByNothingAndHoldsNobodyUp() throws {
        let command = EventCommand()
        command.submit(job([script("floods", "head -c 5000000 /dev/zero | tr '\\0' x >&2\nyes | head -c 5000000\n")]))
        command.submit(job([script("endless", "yes >&2\n")], timeoutMs: 300))
        command.submit(job([script("tells", "echo first >&2; echo 'no such \tmachine' >&2; exit 4\n")]))
        try wait("the end of all") { command.isIdle }
        #expect(command.figures == EventCommandFigures(done: 1, failed: 1, killed: 1, dropped: 0))
        #expect(command.takeProblem()?.hasSuffix("tells exited with 4: no such ?machine") == true)
    }

    /// Not gone, and no zombie that nobody has taken yet.
    private func isAlive(_ process: Int32) -> Bool {
        guard let stat = FileManager.default.contents(atPath: "/proc/\(process)/stat") else { return false }
        return !String(decoding: stat, as: UTF8.self).contains(") Z ")
    }

    @Test func aFullQueueDropsAndCounts() throws {
        let gate = scratch.file("gate")
        let path = script("waits", "while ! [ -e \(gate) ]; do sleep 0.05; done\n")
        let command = EventCommand()
        command.submit(job([path], timeoutMs: 60_000))
        // One runs, or is about to; `queue` wait.
        for _ in 0..<(EventCommand.Limit.queue + 10) { command.submit(job(["/bin/true"])) }
        #expect((10...11).contains(command.figures.dropped), "\(command.figures)")
        scratch.write("gate", "")
        try wait("all of them") { command.isIdle }
        #expect(command.figures.done + command.figures.dropped == UInt64(EventCommand.Limit.queue + 11))
    }

    @Test func whatAnEventIsCalled() throws {
        var reader = ConfigurationReader(file: "f", environment: { $0 == "TRIAD_GOSSIP_KEY" ? Examples.key : nil })
        let text = Examples.full.replacingOccurrences(
            of: "workers: 2,", with: "workers: 2, notify: { command: [\"/bin/x\", \"\"], events: [\"server-down\"] },"
        ).replacingOccurrences(of: ", tokenFile: \"admin.token\"", with: "")
        let configuration = try reader.read(Array(text.utf8)).get()
        let section = try #require(configuration.notify)
        let event = StatusEvent(atMs: 0, node: "n1", kind: "server-down", text: "api/api_1 is down: \"x\"")
        let job = EventJob(event, section: section, configuration: configuration, role: "leader")
        #expect(job.command == ["/bin/x", ""])
        #expect(job.timeoutMs == 10_000)
        for variable in [
            "TRIAD_EVENT=server-down", "TRIAD_SERVER=api/api_1", "TRIAD_NODE=n1", "TRIAD_CLUSTER=web",
            "TRIAD_ROLE=leader",
            "TRIAD_VIPS=10.0.0.100/32", "TRIAD_TIME=1970-01-01T00:00:00.000Z", "TRIAD_TEXT=api/api_1 is down: \"x\"",
        ] { #expect(job.environment.contains(variable), "\(variable)") }
        let parsed = JSON5.parse(job.input)
        #expect(parsed.problems.isEmpty)
        #expect(String(decoding: job.input, as: UTF8.self).contains("\"server\":\"api/api_1\""))
    }
}

@Suite("ConfigurationNotify")
struct ConfigurationNotifyTests {
    private func read(_ notify: String) -> Result<Configuration, ConfigurationProblems> {
        var reader = ConfigurationReader(file: "f", environment: { _ in nil })
        return reader.read(Array((Examples.least.trimmed.dropLast() + "  notify: \(notify),\n}").utf8))
    }

    @Test func defaults() throws {
        let section = try #require(try read("{ command: [\"/bin/true\"] }").get().notify)
        #expect(section.events.map(\.rawValue).contains("vip-acquired"))
        #expect(section.timeout == .seconds(10))
    }

    @Test(arguments: [
        ("{}", "command: is missing"), ("{ command: [] }", "holds 0 words"),
        ("{ command: \"/bin/true\" }", "expected the program"),
        ("{ command: [\"true\"] }", "must be an absolute path"),
        ("{ command: [\"/bin/true\", 1] }", "expected a string"),
        ("{ command: [\"/bin/true\"], events: [] }", "is empty"),
        ("{ command: [\"/bin/true\"], events: [\"vip-aquired\"] }", "did you mean \"vip-acquired\"?"),
        ("{ command: [\"/bin/true\"], timeout: \"1h\" }", "out of range"),
        ("{ comand: [\"/bin/true\"] }", "unknown key"),
    ])
    func refuses(_ notify: String, _ message: String) {
        guard case .failure(let problems) = read(notify) else {
            Issue.record("was accepted")
            return
        }
        #expect(problems.description.contains(message), "\(problems)")
    }

    @Test func nodesNoticeThatItDiffers() throws {
        let one = try read("{ command: [\"/bin/true\"] }").get()
        let other = try read("{ command: [\"/bin/true\"], timeout: \"1s\" }").get()
        #expect(one.digest != other.digest)
        #expect(one.sectionsDiffering(from: other.sectionDigests) == [.notify])
        #expect(one.changes(to: other) == "notify")
    }
}
