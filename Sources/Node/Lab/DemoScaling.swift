// DemoScaling: `triad demo --scenario scaling`: a load that rises and falls before a cluster with `autoscale`, and two executors
// that start and stop demo APIs for it, one of which is killed at the top. Prints requests, failures and instances over time,
// and draws them if asked.
//
// One thread, which blocks.

import Glibc
import Proxy

enum DemoScaling {
    private static let rules = ScalingRules(
        min: 2, max: 8, share: .requests(60), upCoolDown: .seconds(3))
    private static let coolDown = "15s"
    /// Requests a second of each client; one more begins with every step up, and ends with every step down.
    private static let rate = 60
    private static let steps = 7
    private static let stepSeconds = 8
    private static let topSeconds = 16
    /// After the last step: window, cool-down, drain and stop.
    private static let tailSeconds = 45

    /// A second of the run.
    struct Sample {
        var second: Int
        var wanted: Int
        /// Up and ready.
        var serving: Int
        /// Up, whatever is wanted of them.
        var up: Int
        var requests = 0
        var failed = 0
    }

    /// Exit code: 1 when a request failed, or the servers didn't follow.
    static func run(
        _ options: DemoScenarios.Options, picture: String?, interruption: @escaping () -> Bool
    ) throws
        -> Int32
    {
        var chosen = options.cluster
        chosen.apis = []
        chosen.backend =
            "autoscale: { min: \(rules.min), max: \(rules.max), requestsPerServer: \(rules.share.perServer), "
            + "upCoolDown: \"3s\", coolDown: \"\(coolDown)\" },"
        let lab = try Lab(forGood: options.isOwnUser, isIPv6: options.isIPv6)
        lab.interruption = interruption
        defer { lab.tearDown() }
        let cluster = try LabCluster(lab, chosen)
        let program = try writeProgram(cluster)
        do {
            try cluster.startAll()
            for number in 1...rules.min {
                let start = try lab.start(
                    "start \(number)", [program, "start", "\(number)"], on: LabNetwork.apisName,
                    log: "\(lab.directory)/start-\(number)")
                _ = try lab.waitForEnd(start, seconds: 10)
            }
            try cluster.waitUntilSettled(up: Array(1...rules.min))
            let urls = try lab.nodes.map {
                let address = try lab.network.host($0).addresses[0]
                return "http://\(lab.network.endpoint(address, Int(LabCluster.statusPort)))"
            }
            let command =
                [LabSystem.triad, "autoscale", "--exec", program, "--token-file", cluster.tokenFile] + urls
            let executors = try (1...2).map {
                try lab.start(
                    "autoscale \($0)", command, on: LabNetwork.apisName,
                    log: "\(lab.directory)/autoscale-\($0)")
            }
            let (samples, requests, failed) = try load(cluster) {
                lab.signal(executors[0], SIGKILL, group: false)
                LabSystem.say("the first \"triad autoscale\" is killed\n")
            }
            for executor in executors {
                LabSystem.say("\nwhat \(executor.name) did:\n\(LabSystem.readText(executor.output) ?? "")")
                LabSystem.say(LabSystem.readText(executor.errors) ?? "")
            }
            if let picture { try LabSystem.write(picture, ScalingPicture(samples).svg, mode: 0o666) }
            return judge(samples, requests: requests, failed: failed)
        } catch {
            if !interruption() { LabSystem.say("\(cluster.logTails())\n") }
            throw error
        }
    }

    /// What `--exec` is given: the demo APIs as processes on the host of the APIs.
    static func writeProgram(_ cluster: LabCluster) throws -> String {
        let lab = cluster.lab
        let addresses = (1...9).map { "\($0)) address=\(lab.network.api($0)) ;;" }.joined(
            separator: "\n")
        let text = """
            #!/bin/sh
            pid=\(lab.directory)/instance-$2
            case $2 in
            \(addresses)
            esac
            case $1 in
            start)
                [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null && exit 0
                \(LabSystem.triad) api --id "$2" --address "$address" --port 8080 </dev/null >"$pid.log" 2>&1 &
                echo $! >"$pid" ;;
            stop)
                [ -s "$pid" ] || exit 0
                kill "$(cat "$pid")" 2>/dev/null
                rm -f "$pid" ;;
            esac

            """
        let path = "\(lab.directory)/instance"
        try LabSystem.write(path, text)
        guard chmod(path, 0o755) == 0 else { throw LabProblem(call: "chmod \(path)") }
        return path
    }

    /// The clients, and a look at the first node that answers every second.
    /// - Parameter atTheTop: called once, while the load is highest.
    private static func load(
        _ cluster: LabCluster, atTheTop: () -> Void
    ) throws -> (samples: [Sample], requests: Int, failed: Int) {
        let whole = 2 * (steps - 1) * stepSeconds + topSeconds
        var loads: [LabLoad] = []
        var samples: [Sample] = []
        let from = System.bootNanoseconds()
        LabSystem.say("   time  requests/s  wanted  serving\n")
        for second in 0..<whole + tailSeconds {
            while loads.count < steps, second >= loads.count * stepSeconds {
                // The first client goes on to the end: there is always something to lose.
                let number = loads.count
                let span = whole - 2 * number * stepSeconds + (number == 0 ? tailSeconds : 0)
                loads.append(
                    try cluster.startLoad(
                        "rising-\(number)", rate: rate, more: ["--timeout", "2000", "--seconds", "\(span)"]))
            }
            if second == (steps - 1) * stepSeconds + topSeconds / 2 { atTheTop() }
            if let status = cluster.lab.nodes.lazy.compactMap({ cluster.report($0) }).first,
                let backend = status.backends.first
            {
                let up = backend.servers.filter { $0.health == "up" }
                samples.append(
                    Sample(
                        second: second, wanted: backend.autoscale?.desired ?? 0,
                        serving: up.count { $0.admin == "ready" }, up: up.count))
                if second % 4 == 0 {
                    let columns = [
                        ("\(second) s", 7), (JSONWriter.text(backend.autoscale?.load ?? 0, decimals: 0), 12),
                        ("\(backend.autoscale?.desired ?? 0)", 8), ("\(samples.last?.serving ?? 0)", 9),
                    ]
                    LabSystem.say(
                        columns.map { String(repeating: " ", count: max(0, $1 - $0.count)) + $0 }.joined()
                            + "\n")
                }
            }
            let next = from + UInt64(second + 1) * 1_000_000_000
            try cluster.lab.wait("the next second") { System.bootNanoseconds() >= next }
        }
        for load in loads { _ = try? cluster.lab.waitForEnd(load.process, seconds: 30) }
        let results = loads.flatMap { $0.results() }
        for result in results where result.start >= from {
            let second = Int((result.start - from) / 1_000_000_000)
            // A second in which no node could be asked, or after the last one, is the one before it.
            guard let place = samples.lastIndex(where: { $0.second <= second }) else { continue }
            samples[place].requests += 1
            if !result.outcome.isSuccess { samples[place].failed += 1 }
        }
        return (samples, results.count, results.count { !$0.outcome.isSuccess })
    }

    private static func judge(_ samples: [Sample], requests: Int, failed: Int) -> Int32 {
        let most = samples.map(\.serving).max() ?? 0
        let last = samples.last?.serving ?? 0
        var broken: [String] = []
        if requests == 0 || failed > 0 { broken.append("\(failed) of \(requests) requests failed") }
        if most < steps {
            broken.append("\(steps * rate) requests/s need \(steps) servers; there were \(most) at most")
        }
        if most > steps + 1 { broken.append("\(most) servers, where \(steps) are enough") }
        if last != rules.min { broken.append("\(last) servers at the end, not \(rules.min)") }
        LabSystem.say(
            "\n\(failed) of \(requests) requests failed; servers from \(samples.first?.serving ?? 0) to \(most) and back to "
                + "\(last)\n")
        for sentence in broken { LabSystem.say("    BROKEN: \(sentence)\n") }
        LabSystem.say(broken.isEmpty ? "every promise held\n" : "\(broken.count) promises broken\n")
        return broken.isEmpty ? 0 : 1
    }
}

/// Requests a second, servers wanted and servers serving, over time. Pure.
struct ScalingPicture {
    private static let (width, height, left, bottom, top) = (860, 340, 56, 300, 30)

    private let samples: [DemoScaling.Sample]
    /// Without the first and the last second, which aren't whole.
    private let load: [DemoScaling.Sample]
    private let seconds: Int
    private let loadMax: Double
    private let serversMax: Int

    init(_ samples: [DemoScaling.Sample]) {
        self.samples = samples
        load = samples.dropFirst().dropLast()
        seconds = max(1, samples.last?.second ?? 1)
        loadMax = Double(max(100, ((load.map(\.requests).max() ?? 0) / 100 + 1) * 100))
        serversMax = max(2, samples.map { max($0.wanted, $0.serving) }.max() ?? 0) + 1
    }

    var svg: String {
        let (width, height) = (Self.width, Self.height)
        let head = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(width) \(height)\" font-family=\"sans-serif\" "
                + "font-size=\"12\">",
            "<rect width=\"\(width)\" height=\"\(height)\" fill=\"#fff\"/>",
        ]
        return (head + axes + curves + legend + ["</svg>", ""]).joined(separator: "\n")
    }

    private var axes: [String] {
        let (left, right, bottom) = (Self.left, Self.width - Self.left, Self.bottom)
        var lines: [String] = []
        for number in 0...serversMax {
            let at = text(y(Double(number), Double(serversMax)))
            lines.append("<path d=\"M\(left) \(at)H\(right)\" stroke=\"#ddd\"/>")
            lines.append("<text x=\"\(right + 8)\" y=\"\(at)\" dy=\"4\" fill=\"#246\">\(number)</text>")
        }
        for part in 0...4 {
            let value = loadMax * Double(part) / 4
            let place = "x=\"\(left - 8)\" y=\"\(text(y(value, loadMax)))\" dy=\"4\" text-anchor=\"end\""
            lines.append("<text \(place) fill=\"#777\">\(Int(value))</text>")
        }
        for second in stride(from: 0, through: seconds, by: 20) {
            let place = "x=\"\(text(x(second)))\" y=\"\(bottom + 18)\" text-anchor=\"middle\""
            lines.append("<text \(place) fill=\"#777\">\(second) s</text>")
        }
        return lines
    }

    private var curves: [String] {
        let bottom = Double(Self.bottom)
        let area = load.map { (x($0.second), y(Double($0.requests), loadMax)) }
        let outline = [(area.first?.0 ?? 0, bottom)] + area + [(area.last?.0 ?? 0, bottom)]
        let wanted = "stroke=\"#d70\" stroke-width=\"2\" stroke-dasharray=\"6 3\""
        let serving = "stroke=\"#246\" stroke-width=\"2.5\""
        let failures = samples.filter { $0.failed > 0 }.map { sample in
            let line = "M\(text(x(sample.second))) \(Self.top)V\(Self.bottom)"
            return "<path d=\"\(line)\" stroke=\"#c00\" stroke-width=\"2\"/>"
        }
        return [
            "<polygon points=\"\(path(outline))\" fill=\"#bbb\" fill-opacity=\"0.5\"/>",
            "<polyline points=\"\(stairs(\.wanted))\" fill=\"none\" \(wanted)/>",
            "<polyline points=\"\(stairs(\.serving))\" fill=\"none\" \(serving)/>",
        ] + failures
    }

    private var legend: [String] {
        let requests = samples.reduce(0) { $0 + $1.requests }
        let failed = samples.reduce(0) { $0 + $1.failed }
        let entries = [
            ("#999", "requests/s (left)"), ("#d70", "servers wanted (right)"), ("#246", "servers serving"),
            ("#c00", "failed: \(failed) of \(requests)"),
        ]
        return entries.enumerated().map { place, entry in
            "<text x=\"\(Self.left + place * 190)\" y=\"18\" fill=\"\(entry.0)\">\(entry.1)</text>"
        }
    }

    private func x(_ second: Int) -> Double {
        Double(Self.left) + Double(second) / Double(seconds) * Double(Self.width - 2 * Self.left)
    }

    private func y(_ value: Double, _ most: Double) -> Double {
        Double(Self.bottom) - value / most * Double(Self.bottom - Self.top)
    }

    private func text(_ value: Double) -> String { JSONWriter.text(value, decimals: 1) }

    private func path(_ points: [(Double, Double)]) -> String {
        points.map { "\(text($0.0)),\(text($0.1))" }.joined(separator: " ")
    }

    /// Each value holds until the next one.
    private func stairs(_ value: (DemoScaling.Sample) -> Int) -> String {
        var points: [(Double, Double)] = []
        for sample in samples where value(sample) > 0 {
            let height = y(Double(value(sample)), Double(serversMax))
            if let last = points.last, last.1 != height { points.append((x(sample.second), last.1)) }
            points.append((x(sample.second), height))
        }
        return path(points)
    }
}
