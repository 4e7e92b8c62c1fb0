// SimulatorCommand: what `simulator` was asked to do, and the report about it. Prints through what it is given.

package struct SimulatorCommand {
    private let arguments: [String]

    package init(_ arguments: [String]) { self.arguments = arguments }

    /// The exit status.
    package func run(_ print: (String) -> Void) -> Int32 {
        let first = number("--seed") ?? 0
        let count = number("--seeds") ?? 1
        for seed in first..<first + count {
            let world = ClusterWorld(seed: seed, ClusterSettings.drawn(seed))
            if let failure = ClusterFate.drawn(seed).run(world) {
                print("seed \(seed), at \(world.now / 1_000_000) ms: \(failure)")
                print(world.story.suffix(40).joined(separator: "\n"))
                return 1
            }
        }
        print("\(count) seeds from \(first) on, no violation")
        return 0
    }

    private func number(_ option: String) -> UInt64? {
        guard let place = arguments.firstIndex(of: option), place + 1 < arguments.count else { return nil }
        return UInt64(arguments[place + 1])
    }
}
