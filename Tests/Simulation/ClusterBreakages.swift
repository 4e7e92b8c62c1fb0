// ClusterBreakages: shows that the simulator bites. Each deliberate fault of the core has to be found within some lives.
//
// Only where TRIAD_BREAKAGES is defined; a release build has none of it.

#if TRIAD_BREAKAGES
    package import Gossip

    package struct BreakageSearch {
        package struct Found {
            /// Lives until a promise broke.
            package let lives: Int
            package let seed: UInt64
            package let violation: String
        }

        let breakage: Breakage
        var members = 3
        var seconds = 10
        /// The first life.
        var first: UInt64 = 0

        package init(_ breakage: Breakage) {
            self.breakage = breakage
            // Leaders whose log ends differ need more nodes and time to fall out over it.
            if breakage == .commitOldTerm { members = 5 }
            // One life in thousands meets it: the search begins at one that is known to.
            if breakage == .voteUnstickyInTerm { (members, first) = (5, 2651) }
        }

        /// Lives from the first seed on until one breaks a promise; nil when none of so many does.
        package func run(livesMax: Int) -> Found? {
            for seed in first..<first + UInt64(livesMax) {
                var life = ClusterLife(seed: seed, members: members, seconds: seconds)
                life.settings.breakage = breakage
                if let violation = life.run().violation {
                    return Found(lives: Int(seed - first) + 1, seed: seed, violation: violation)
                }
            }
            return nil
        }
    }
#endif

extension SimulatorCommand {
    /// Looks for each deliberate fault; the exit status.
    func searchBreakages(livesMax: Int, _ print: (String) -> Void) -> Int32 {
        #if TRIAD_BREAKAGES
            var missed = 0
            for breakage in Breakage.allCases where only == nil || only == breakage.rawValue {
                let search = BreakageSearch(breakage)
                if let found = search.run(livesMax: livesMax) {
                    print(
                        "\(breakage.rawValue): found after \(found.lives) lives (seed \(found.seed)): \(found.violation)"
                    )
                } else {
                    missed += 1
                    print("\(breakage.rawValue): NOT FOUND in \(livesMax) lives")
                }
            }
            return missed == 0 ? 0 : 1
        #else
            print("this build has no deliberate faults: swift run simulator --breakages (a debug build)")
            return 2
        #endif
    }
}
