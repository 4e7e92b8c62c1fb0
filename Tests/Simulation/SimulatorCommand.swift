// SimulatorCommand: what `simulator` was asked to do, and the report about it. Prints through what it is given.
//
// Options: see `usage`. Every violation is told with its seed, step and the command that shows it again.

package struct SimulatorCommand {
    private static let usage = """
        usage: simulator [--seeds N] [--seed S] [--nodes 1|3|5|7] [--seconds T] [--trace] [--mixed] [--messages] [--shrink] [--keep I,J,…]
          --seeds N     lives to run, from the first seed on (1)
          --seed S      the first seed (0)
          --nodes N     members of the cluster (3)
          --seconds T   virtual seconds of each life (60)
          --mixed       nodes of two wire versions: some begin with the former one and are upgraded when they restart
          --trace       tell what happens
          --messages    the same, with every message that arrives
          --shrink      of a life that fails, find the faults that are needed for it
          --keep I,J,…  only these entries of the schedule happen; what --shrink prints
          --breakages   look for each deliberate fault in up to N lives (1000) of 10 s; debug builds only
          --breakage B  the same for one
        """

    private var first: UInt64 = 0
    private var count: UInt64 = 1
    private var nodes = 3
    private var seconds = 60
    private var tells = false
    private var tellsMessages = false
    private var shrinks = false
    private var isMixed = false
    private var kept: [Int]?
    private var problem: String?
    private var searches = false
    /// The one breakage to look for.
    private(set) var only: String?
    /// Nanoseconds, for the figures at the end only.
    private let clock: () -> UInt64

    package init(_ arguments: [String], clock: @escaping () -> UInt64) {
        self.clock = clock
        var rest = arguments[...]
        while let option = rest.popFirst() {
            switch option {
            case "--trace": tells = true
            case "--messages": (tells, tellsMessages) = (true, true)
            case "--shrink": shrinks = true
            case "--mixed": isMixed = true
            case "--breakages": searches = true
            case "--breakage": (searches, only) = (true, rest.popFirst())
            case "--keep":
                kept = rest.popFirst()?.split(separator: ",").compactMap { Int($0) }
            default:
                guard let value = rest.popFirst().flatMap({ UInt64($0) }), value <= 1 << 40 || option == "--seed" else {
                    problem = "\(option) is not an option, or lacks its number"
                    return
                }
                take(option, value)
            }
        }
    }

    private mutating func take(_ option: String, _ value: UInt64) {
        switch option {
        case "--seeds": count = value
        case "--seed": first = value
        case "--nodes":
            if [1, 3, 5, 7].contains(value) { nodes = Int(value) } else { problem = "--nodes takes 1, 3, 5 or 7" }
        case "--seconds": seconds = Int(value)
        default: problem = "\(option) is not an option"
        }
    }

    /// The exit status: 0 when all lives kept every promise, 1 when one didn't, 2 when the question makes no sense.
    package func run(_ print: @escaping (String) -> Void) -> Int32 {
        if let problem {
            print("simulator: \(problem)\n\(Self.usage)")
            return 2
        }
        if searches { return searchBreakages(livesMax: count > 1 ? Int(count) : 1000, print) }
        let start = clock()
        var steps = 0
        var trace: UInt64 = 0
        for seed in first..<first + count {
            var life = ClusterLife(seed: seed, members: nodes, seconds: seconds)
            life.tellsMessages = tellsMessages
            life.settings.isMixed = isMixed
            let end = life.run(keeping: kept, teller: tells ? .speaks(print) : .silent)
            steps += end.steps
            trace = trace &* 31 &+ end.trace
            guard let violation = end.violation else { continue }
            report(life, end, violation, print)
            return 1
        }
        let took = Double((clock() - start) / 1_000_000) / 1000
        print(
            "\(count) seeds from \(first) on, \(nodes) nodes, \(seconds) s each: no violation "
                + "(\(steps) steps, \(took) s), trace \(String(trace, radix: 16))")
        return 0
    }

    private func report(_ life: ClusterLife, _ end: ClusterLife.End, _ violation: String, _ print: (String) -> Void) {
        print("seed \(life.seed), step \(end.steps), at \(Double(end.nanoseconds / 1000) / 1_000_000) s: \(violation)")
        print(life.settings.summary)
        var places = kept
        if shrinks {
            let shrunk = ClusterShrinker(life).shrink(from: kept)
            print("\(shrunk.count) of \(life.schedule.faults.count) entries are needed:")
            for place in shrunk {
                let fault = life.schedule.faults[place]
                print("  \(place): episode \(fault.episode), \(Double(fault.at / 1000) / 1_000_000) s: \(fault.deed)")
            }
            places = shrunk
        }
        if !tells {
            print(life.run(keeping: places, teller: .remembers).story.suffix(60).joined(separator: "\n"))
        }
        let keep = places.map { " --keep " + $0.map { "\($0)" }.joined(separator: ",") } ?? ""
        print(
            "again: swift run -c release simulator --seed \(life.seed) --nodes \(nodes) --seconds \(seconds)"
                + "\(isMixed ? " --mixed" : "")\(keep) --trace")
    }
}
