// Demo: the command `triad demo`: a whole cluster in this machine, broken in the ways that matter while a client uses
// it, with what the client saw and whether the promises held.
//
// Everything is in a Lab: nothing is left behind, however it ends. One thread, which blocks.

import Glibc
import Proxy

enum Demo {
    static let command = Subcommand(
        name: "demo", summary: "runs a whole cluster on this machine, breaks it and judges it",
        options: [
            .value("seconds", "N", "how long it takes at least, all steps together (30)"),
            .flag("stay", "goes on when the steps are over, and says how to look at it and break it"),
            .value(
                "fencing", "MODE",
                "auto (the default): gate where nft works, else wait; trust: as fast as gate, not as safe",
                .words(["auto", "gate", "wait", "trust"])),
            .value(
                "scenario", "NAME",
                "instead of the story: one promise about failover, or all, measured from outside, with a table at the end; "
                    + "NAME is one of \(scenarios.joined(separator: ", "))", .words(scenarios)),
            .value("picture", "FILE", "the scenario `\(scaling)` draws what happened into this SVG", .file),
            .value("repeat", "N", "how often each scenario (3)"),
            .value("minutes", "N", "how long the scenario `busy` takes (10)"),
            .value("timings", "WHICH", "those for one fast network (lan), or default", .words(["default", "lan"])),
            .flag("ipv6", "every address is an IPv6 one (scenarios)"),
            .value("binary", "FILE", "the nodes run this triad instead of this very program (scenarios)", .file),
            .value(
                "upgrade-to", "FILE",
                "the scenario `rolling` changes to this one, with the next repetition back, and so on", .file),
        ],
        details: [
            "Builds three nodes, five demo APIs of nine configured ones and two clients in network namespaces of their own;",
            "kills the leader, crashes the next one, stops and starts APIs and hands over. Prints what each step cost the",
            "clients. Exit code 0 when every promise held, else 1. Needs root or user namespaces, and iproute2.",
        ],
        run: { given throws(UsageProblem) in
            var options = Options()
            options.seconds = try given.number("seconds", in: 1...3600) ?? options.seconds
            options.stays = given.has("stay")
            options.fencing = given["fencing"] ?? options.fencing
            options.scales = given["scenario"] == scaling
            options.picture = given["picture"]
            return run(options, try scenarioOptions(given, fencing: options.fencing))
        })

    /// Not one of `all`: it is no fault, and has a table of its own.
    private static let scaling = "scaling"
    private static let scenarios = ["all"] + LabScenario.allCases.map(\.rawValue) + [scaling]

    struct Options {
        var seconds = 30.0
        var stays = false
        var fencing = "auto"
        /// The scenario is `scaling`.
        var scales = false
        var picture: String?
    }

    private static func run(_ options: Options, _ scenarios: DemoScenarios.Options?) -> Int32 {
        do {
            if var scenarios {
                scenarios.isOwnUser = try becomeAbleToMakeNetworks()
                let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM, SIGHUP])) ?? -1
                let isInterrupted = { LabSystem.isReadable(signals, withinMs: 0) }
                if options.scales {
                    return try DemoScaling.run(scenarios, picture: options.picture, interruption: isInterrupted)
                }
                return try DemoScenarios.run(scenarios, interruption: isInterrupted)
            }
            return try run(options, isOwnUser: try becomeAbleToMakeNetworks())
        } catch {
            LabSystem.say("triad demo: \(error)\n", to: STDERR_FILENO)
            return 1
        }
    }

    /// nil when none is asked for.
    private static func scenarioOptions(
        _ given: Arguments, fencing: String
    ) throws(UsageProblem) -> DemoScenarios.Options? {
        guard let name = given["scenario"] else { return nil }
        var options = DemoScenarios.Options(scenarios: LabScenario.allCases)
        if let scenario = LabScenario(rawValue: name) { options.scenarios = [scenario] }
        options.repetitions = try given.integer("repeat", in: 1...1000) ?? options.repetitions
        options.scenario.busyMinutes = try given.number("minutes", in: 0.01...1440) ?? options.scenario.busyMinutes
        options.cluster.fencing = fencing
        for name in ["binary", "upgrade-to"] {
            guard let file = given[name] else { continue }
            guard file.hasPrefix("/"), access(file, X_OK) == 0 else {
                throw UsageProblem("--\(name) \(file): the absolute path of a program is needed")
            }
        }
        options.cluster.binary = given["binary"] ?? options.cluster.binary
        options.scenario.upgrade = given["upgrade-to"]
        options.isIPv6 = given.has("ipv6")
        // Without the gate a new leader waits until the kernel of the old one must have let go.
        if fencing == "wait" { options.scenario.crashMs = 1500 }
        if given["timings"] == "lan" {
            options.cluster.gossip = DemoScenarios.lan
            if fencing != "wait" { options.scenario.crashMs = 180 }
        }
        return options
    }

    /// Without root, in a user namespace of this process's own: then true. The process's own network is left, since
    /// one that belongs to others may be left for the lab's hosts but not returned to.
    private static func becomeAbleToMakeNetworks() throws(LabProblem) -> Bool {
        if (try? LabSystem.leaveNetwork()) != nil { return false }
        do throws(LabProblem) {
            try LabSystem.becomeRootOfOwn()
            try LabSystem.leaveNetwork()
            return true
        } catch {
            throw LabProblem(
                """
                the demo makes network namespaces: that takes root, or a user namespace, which this system refuses
                (\(error)). Run it as root: sudo triad demo. In a container that takes --privileged.
                Or allow user namespaces, whichever of these the system has:
                  sysctl -w kernel.unprivileged_userns_clone=1
                  sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
                  sysctl -w user.max_user_namespaces=10000
                """)
        }
    }

    private static func run(_ options: Options, isOwnUser: Bool) throws -> Int32 {
        let signals = (try? SignalDescriptor.open([SIGINT, SIGTERM, SIGHUP])) ?? -1
        let isInterrupted = { LabSystem.isReadable(signals, withinMs: 0) }
        let lab = try Lab(forGood: true)
        lab.interruption = isInterrupted
        defer { lab.tearDown() }
        var steps: DemoSteps?
        do {
            let cluster = try LabCluster(lab, LabClusterOptions(fencing: options.fencing))
            let made = DemoSteps(cluster, seconds: options.seconds)
            steps = made
            try made.run()
            if options.stays {
                LabSystem.say(guide(cluster, isOwnUser: isOwnUser))
                while !isInterrupted() { LabSystem.pause(milliseconds: 100) }
                LabSystem.say("\n")
            }
            return made.broken.isEmpty ? 0 : 1
        } catch {
            if isInterrupted() {
                LabSystem.say("\ninterrupted; everything is removed\n")
                return 130
            }
            LabSystem.say("\(steps?.cluster.logTails() ?? "")\n", to: STDERR_FILENO)
            throw error
        }
    }

    /// How to look at the cluster and break it from another terminal.
    private static func guide(_ cluster: LabCluster, isOwnUser: Bool) -> String {
        let user = isOwnUser ? "--user=/proc/\(getpid())/ns/user --preserve-credentials " : ""
        let enter = { (host: LabHost) in "nsenter \(user)--net=\(host.path)" }
        let hosts = cluster.lab.network.hosts
        var text = "\nThe cluster stays up until Ctrl-C here. From another terminal\(isOwnUser ? "" : " as root"):\n\n"
        text += "  # a shell inside a machine of the demo\n"
        for host in hosts where !host.addresses.isEmpty {
            text += "  \(enter(host)) sh    # \(host.name) \(host.addresses[0])\n"
        }
        guard let client = hosts.first(where: { $0.name == LabNetwork.clientName }) else { return text }
        let triad = LabSystem.triad
        let status = "http://10.77.0.11:\(LabCluster.statusPort)"
        text += "\n  # look\n"
        text += "  \(enter(client)) \(triad) status --url \(status)\n"
        text += "  \(enter(client)) \(triad) watch --url \(status)\n"
        text += "  \(enter(client)) \(triad) load \(cluster.url) --rate 200 --new-connections\n"
        text += "\n  # change\n"
        text += "  \(enter(client)) \(triad) drain api/api_2 --url \(status) --token-file \(cluster.tokenFile)\n"
        text += "  \(enter(client)) \(triad) handover --url \(status) --token-file \(cluster.tokenFile)\n"
        text += "\n  # break\n"
        for node in cluster.lab.nodes {
            guard let process = cluster.nodes[node] else { continue }
            let all = ((try? cluster.processes(node)) ?? []).map(String.init).joined(separator: " ")
            text += "  kill -9 \(process.pid)      # \(node)'s main process\n"
            text += "  kill -9 \(all)      # all of \(node)\n"
        }
        for number in cluster.apis.keys.sorted() {
            if let process = cluster.apis[number] { text += "  kill -9 \(process.pid)      # API #\(number)\n" }
        }
        text += "\n  # logs, configuration and data: \(cluster.lab.directory)\n"
        return text
    }
}
