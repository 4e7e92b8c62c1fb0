// ClusterTests: whole clusters of real processes in network namespaces. The scenarios are in extensions by subject.

import Testing

@testable import Node

/// One cluster at a time: two at once would disturb each other's timing.
@Suite(.serialized, .enabled(if: EndToEnd.canRun, EndToEnd.reason), .timeLimit(.minutes(5)))
struct ClusterTests {}
