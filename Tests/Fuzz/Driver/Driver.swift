// Driver: the fuzzer's two functions in C's names. One program holds all targets; TRIAD_FUZZ names the one it feeds.
// Built by Tests/Fuzz/run alone: the package's own build has no fuzzer.

import Glibc

nonisolated(unsafe) private var target = FuzzTarget.request

@_cdecl("LLVMFuzzerInitialize")
public func initialize(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> Int32 {
    guard let name = getenv("TRIAD_FUZZ"), let named = FuzzTarget(rawValue: String(cString: name)) else {
        report("TRIAD_FUZZ must name a target: " + FuzzTarget.allCases.map(\.rawValue).joined(separator: ", "))
        exit(2)
    }
    target = named
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    do {
        try target.run(Array(UnsafeBufferPointer(start: start, count: count)))
    } catch {
        report("finding: \(error)")
        abort()
    }
    return 0
}

private func report(_ text: String) {
    let line = Array((text + "\n").utf8)
    line.withUnsafeBytes { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
