// ConfigurationFuzz: texts as configuration files. Reading ends with a configuration or with problems that point into the
// text; what is accepted can be run by every node, and means the same when it is read again with a comment added.

import Gossip
import Proxy

@testable import Node

/// A disk without files: a text that names one must not reach this machine's.
struct NoFiles: FileLayer {
    private static let missing = FileFault(code: 2)

    func open(_ path: String, _ mode: Disk.Mode) throws(FileFault) -> Int32 { throw Self.missing }
    func close(_ descriptor: Int32) {}
    func read(_ descriptor: Int32, _ count: Int) throws(FileFault) -> [UInt8] { throw Self.missing }
    func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>, at offset: Int) throws(FileFault) -> Int {
        throw Self.missing
    }
    func truncate(_ descriptor: Int32, _ length: Int) throws(FileFault) { throw Self.missing }
    func sync(_ descriptor: Int32) throws(FileFault) { throw Self.missing }
    func syncDirectory(_ path: String) throws(FileFault) { throw Self.missing }
    func rename(_ from: String, to: String) throws(FileFault) { throw Self.missing }
    func remove(_ path: String) throws(FileFault) { throw Self.missing }
    func makeDirectory(_ path: String) throws(FileFault) { throw Self.missing }
    func lock(_ descriptor: Int32) throws(FileFault) { throw Self.missing }
    func unlock(_ descriptor: Int32) {}
}

enum ConfigurationFuzz {
    static func run(_ input: [UInt8]) throws {
        let parsed = JSON5.parse(input)
        try require(parsed.value != nil || !parsed.problems.isEmpty, "no value and no problem")
        switch read(input) {
        case .failure(let problems):
            try require(!problems.all.isEmpty, "refused without a reason")
            let lines = input.count + 1
            for problem in problems.all {
                try require(!problem.text.isEmpty, "a problem without words")
                let isInside = problem.position.map { 1...lines ~= $0.line && 1...lines ~= $0.column } ?? true
                try require(isInside, "a problem outside of the text: \(problem)")
                let isPlain = problem.description.utf8.allSatisfy { $0 >= 32 && $0 != 127 }
                try require(isPlain, "a message with control characters: \(problem)")
            }
        case .success(let configuration):
            try runs(configuration)
            // Behind a value JSON5 allows spaces and comments only, and they count for nothing.
            guard case .success(let again) = read(Array("/**/".utf8) + input + Array("\n// x\n".utf8)) else {
                throw FuzzFinding(description: "a comment more, and it is refused")
            }
            try require(again == configuration, "a comment more, and it means something else")
        }
    }

    private static func read(_ input: [UInt8]) -> Result<Configuration, ConfigurationProblems> {
        let secrets = ["TRIAD_GOSSIP_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "TRIAD_TOKEN": "0123456789"]
        var reader = ConfigurationReader(file: "/triad.json5", disk: Disk(layer: NoFiles())) { secrets[$0] }
        return reader.read(input)
    }

    /// Whatever a node makes of its file at its start.
    private static func runs(_ configuration: Configuration) throws {
        try require(configuration.digest.count == 16, "the digest \(configuration.digest)")
        try require(
            configuration.sectionsDiffering(from: configuration.sectionDigests).isEmpty, "it differs from itself")
        var again = configuration
        again.setDigests()
        try require(again == configuration, "its digests change when they are made again")
        try require(configuration.gossipAddresses.count == configuration.nodes.count, "a node without an address")
        try require(configuration.fenceAddresses.count == configuration.vips.count, "a VIP that is no address")
        let settings = configuration.proxySettings(workers: configuration.workers ?? 1)
        try require(settings.frontends.count == configuration.frontends.count, "a frontend without an address")
        let servers = ServerList(configuration: configuration, table: BackendTable())
        try require(
            servers.probeTargets(configuration: configuration).count == configuration.serverIDs.count,
            "not every server is checked")
        _ = servers.routes(version: 1) { _ in false }
        for place in configuration.nodes.indices {
            let me = MemberID(place)
            try require(!configuration.statusAddresses(of: me).isEmpty, "a node without a status port")
            let member = Member(
                configuration.clusterConfiguration(me: me), recovered: RecoveredState(), boot: 1, seed: 1,
                now: Instant(nanoseconds: 0))
            try require(member.deadline != nil, "a member that never does anything")
        }
    }
}
