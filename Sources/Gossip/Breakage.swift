// Breakage: deliberate faults of the core, by which the simulator shows that it would find such a one.
//
// They exist only where TRIAD_BREAKAGES is defined (debug builds): elsewhere nothing is ever broken, and the compiler
// removes the questions. A test looks that a release build doesn't define it. What finds which, and how soon:
// Tests/Simulation/DESIGN.md.

#if TRIAD_BREAKAGES
    package enum Breakage: String, CaseIterable, Sendable {
        case noPromiseAfterStart = "no-promise-after-start"
        case leaseBeyondElection = "lease-beyond-election"
        case voteBeforeSync = "vote-before-sync"
        case commitOldTerm = "commit-old-term"
        case countsUnsynced = "counts-unsynced"
        case releaseWithoutDrop = "release-without-drop"
        case oldDropReleases = "old-drop-releases"
        case barrierIgnored = "barrier-ignored"
        case answersForgotten = "answers-forgotten"
        case lostGateTrusted = "lost-gate-trusted"
        case preVoteUnsticky = "pre-vote-unsticky"
        case voteUnsticky = "vote-unsticky"
        case voteUnstickyInTerm = "vote-unsticky-in-term"
        case voteTwice = "vote-twice"
        case votesForgetful = "votes-forgetful"
        case ignoresLogAge = "ignores-log-age"
        case noCheckQuorum = "no-check-quorum"
        case doneBeforeCommit = "done-before-commit"
        case keepsConflicts = "keeps-conflicts"
        case localApply = "local-apply"
        case requestTwice = "request-twice"
        case verdictOfOne = "verdict-of-one"
        case forwardsUpward = "forwards-upward"
        /// Not of the core but of the fence's model: a gate's timeout runs past the lease.
        case gateOutlivesLease = "gate-outlives-lease"
    }
#else
    enum Breakage {
        case noPromiseAfterStart, leaseBeyondElection, voteBeforeSync, commitOldTerm, countsUnsynced
        case releaseWithoutDrop, oldDropReleases, barrierIgnored, answersForgotten, lostGateTrusted
        case preVoteUnsticky, voteUnsticky, voteUnstickyInTerm, voteTwice, votesForgetful, ignoresLogAge
        case noCheckQuorum, doneBeforeCommit, keepsConflicts, localApply, requestTwice, verdictOfOne, forwardsUpward
    }
#endif

extension ClusterConfiguration {
    /// Whether a member was made with that fault.
    @inline(__always)
    func breaks(_ breakage: Breakage) -> Bool {
        #if TRIAD_BREAKAGES
            self.breakage == breakage
        #else
            false
        #endif
    }
}

extension Member {
    @inline(__always)
    func breaks(_ breakage: Breakage) -> Bool { configuration.breaks(breakage) }
}
