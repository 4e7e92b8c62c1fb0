// EndToEnd: what the end-to-end suites share: whether they can run here, and what to show when one fails.

import Glibc
import Testing

@testable import Node

enum EndToEnd {
    static let canRun = getuid() == 0
    static let reason: Comment = "network namespaces need root: run `swift test` as root for these"
}
