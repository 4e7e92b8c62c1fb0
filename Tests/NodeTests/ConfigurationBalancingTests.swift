// ConfigurationBalancingTests: how servers are chosen: read, refused, applied, agreed upon, and told after a reload.

import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationBalancingTests {
    private let scratch = Scratch()

    private func load(_ backend: String, server: String = "", mode: String = "http")
        -> Result<Configuration, ConfigurationProblems>
    {
        let text = Examples.least.replacing("name: \"api\", servers", with: "name: \"api\", \(backend) servers")
            .replacing("9001\" }", with: "9001\"\(server) }").replacing(
                "port: 8000", with: "port: 8000, mode: \"\(mode)\"")
        var reader = ConfigurationReader(file: scratch.file("triad.json5"), environment: { _ in nil })
        return reader.read(Array(text.utf8))
    }

    private func problems(_ backend: String, server: String = "", mode: String = "http") -> String {
        guard case .failure(let problems) = load(backend, server: server, mode: mode) else { return "" }
        return problems.all.map { "\($0.path): \($0.text)" }.joined(separator: "\n")
    }

    private func backend(_ text: String) throws -> BackendSettings {
        try load(text).get().proxySettings(workers: 1).backends[0]
    }

    @Test func reachesTheDataPlane() throws {
        let choices: [(String, Balance)] = [
            ("roundrobin", .roundRobin), ("leastconn", .leastConnections), ("random", .random), ("hash", .hash),
            ("first", .first),
        ]
        for (name, balance) in choices { #expect(try backend("balance: \"\(name)\",").balance == balance) }
        #expect(try backend("").balance == .roundRobin && backend("").slowStartMs == 0)
        #expect(try backend("balance: \"hash\",").hashOn == .source)
        let keys: [(String, HashOn)] = [
            ("source", .source), ("uri", .uri), ("header:X-User", .header("X-User")), ("cookie:sid", .cookie("sid")),
        ]
        for (text, key) in keys { #expect(try backend("balance: \"hash\", hashOn: \"\(text)\",").hashOn == key) }
        #expect(try backend("slowStart: \"30s\",").slowStartMs == 30_000)
        let list = ServerList(configuration: try load("", server: ", backup: true").get(), table: BackendTable())
        #expect(list.routes(version: 1, isOutHere: { _ in false }).backends[0].servers[0].isBackup)
    }

    @Test func refusesWhatMakesNoSense() {
        #expect(problems("hashOn: \"uri\",").contains("backends[0].hashOn: means nothing without balance: \"hash\""))
        #expect(problems("balance: \"hash\", hashOn: \"path\",").contains("\"path\" isn't part of a request"))
        #expect(problems("balance: \"hash\", hashOn: \"header:\",").contains("names no header"))
        #expect(problems("balance: \"hash\", hashOn: \"cookie:a b\",").contains("names no cookie"))
        #expect(problems("slowStart: \"1ms\",").contains("backends[0].slowStart"))
        #expect(problems("", server: ", backup: 1").contains("servers[0].backup: expected true or false"))
        let tcp = problems("balance: \"hash\", hashOn: \"cookie:sid\",", mode: "tcp")
        #expect(tcp.contains("frontends[0].backend: ") && tcp.contains("hashOn: \"cookie:sid\" of backend \"api\""))
        #expect(problems("balance: \"hash\",", mode: "tcp") == "")
    }

    @Test func nodesMustAgree() throws {
        let variants = [
            "", "balance: \"hash\",", "balance: \"hash\", hashOn: \"uri\",", "balance: \"hash\", hashOn: \"header:a\",",
            "balance: \"hash\", hashOn: \"cookie:a\",", "slowStart: \"30s\",", "slowStart: \"31s\",",
        ]
        var digests = Set(try variants.map { try load($0).get().digest })
        digests.insert(try load("", server: ", backup: true").get().digest)
        #expect(digests.count == variants.count + 1)
    }

    @Test func aReloadSaysWhatChanged() throws {
        let before = try load("balance: \"hash\",").get()
        let changes = [
            ("balance: \"hash\", hashOn: \"uri\",", "hashOn"), ("balance: \"hash\", slowStart: \"5s\",", "slowStart"),
            ("balance: \"random\",", "balance random"), ("balance: \"hash\", sendProxy: \"v2\",", "sendProxy"),
        ]
        for (text, told) in changes {
            #expect(before.changes(to: try load(text).get()) == "backend api: \(told)")
        }
        let spare = try load("balance: \"hash\",", server: ", backup: true").get()
        #expect(before.changes(to: spare) == "backend api: servers api_1")
    }
}
