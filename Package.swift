// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    // Deliberate faults, by which the simulator shows that it would find them. Never in a release build.
    .define("TRIAD_BREAKAGES", .when(configuration: .debug)),
]

// The simulator is a tool: its debug build checks exclusive access in the tests, its release build is for many seeds.
let fast = SwiftSetting.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))

// Simulated lives and the hash of every datagram are most of what `swift test` computes: optimized, a tenth of the time. What
// traps in a debug build (overflow, exclusive access, preconditions) traps here, too.
let quick = SwiftSetting.unsafeFlags(["-O"], .when(configuration: .debug))

let package = Package(
    name: "triad",
    products: [
        .executable(name: "triad", targets: ["Node"]),
        .executable(name: "simulator", targets: ["Simulator"]),
    ],
    targets: [
        .target(name: "CLinux", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
        .target(name: "Gossip", exclude: ["DESIGN.md"], swiftSettings: strict + [quick]),
        .target(name: "Proxy", dependencies: ["CLinux"], exclude: ["DESIGN.md"], swiftSettings: strict),
        .executableTarget(
            name: "Node", dependencies: ["CLinux", "Gossip", "Proxy"], exclude: ["DESIGN.md"], swiftSettings: strict),
        .target(
            name: "Simulation", dependencies: ["Gossip"], path: "Tests/Simulation", exclude: ["DESIGN.md"],
            swiftSettings: strict + [fast, quick]),
        .executableTarget(
            name: "Simulator", dependencies: ["Simulation"], path: "Tests/Simulator", swiftSettings: strict),
        .testTarget(
            name: "GossipTests", dependencies: ["Gossip", "Simulation"], exclude: ["Transcripts"],
            swiftSettings: strict),
        .testTarget(
            name: "ProxyTests", dependencies: ["Proxy"], exclude: ["Fixtures"], swiftSettings: strict),
        .testTarget(name: "NodeTests", dependencies: ["Node"], swiftSettings: strict),
        .testTarget(name: "EndToEndTests", dependencies: ["Node"], swiftSettings: strict),
        .testTarget(
            name: "FuzzTests", dependencies: ["Gossip", "Proxy", "Node"], path: "Tests/Fuzz",
            exclude: ["Driver", "corpus", "dictionaries", "run"], swiftSettings: strict),
        .testTarget(name: "TidyTests", swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
