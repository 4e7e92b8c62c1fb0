// ConfigurationStickingTests: the cookie that keeps clients with their servers: read, refused, applied, agreed upon.

import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationStickingTests {
    private let scratch = Scratch()

    private func load(
        _ backend: String, mode: String = "http", keys: [String] = [Examples.key]
    ) -> Result<Configuration, ConfigurationProblems> {
        let text = Examples.least.replacing("name: \"api\", servers", with: "name: \"api\", \(backend) servers")
            .replacing("port: 8000", with: "port: 8000, mode: \"\(mode)\"")
        var reader = ConfigurationReader(
            file: scratch.file("triad.json5"),
            environment: { $0 == "TRIAD_GOSSIP_KEY" ? keys.joined(separator: "\n") : nil })
        return reader.read(Array(text.utf8))
    }

    private func problems(_ backend: String, mode: String = "http", keys: [String] = [Examples.key]) -> [String] {
        guard case .failure(let problems) = load(backend, mode: mode, keys: keys) else { return [] }
        return problems.all.map { "\($0.path): \($0.text)" }
    }

    private func cookie(_ text: String, keys: [String] = [Examples.key]) throws -> StickCookie? {
        try load(text, keys: keys).get().proxySettings(workers: 1).backends[0].stickCookie
    }

    @Test func reachesTheDataPlane() throws {
        #expect(try cookie("") == nil)
        let plain = try #require(try cookie("stickCookie: \"srv\","))
        #expect((plain.name, plain.isSecure, plain.keys.count) == ("srv", false, 1))
        #expect(try cookie("stickCookie: { name: \"srv\" },") == plain)
        let secure = try #require(try cookie("stickCookie: { name: \"__Host-srv\", secure: true },"))
        #expect((secure.name, secure.isSecure) == ("__Host-srv", true))
    }

    @Test func cookiesAreMadeWithWhatComesFromTheGossipKeys() throws {
        let second = Base64.encode([UInt8](repeating: 200, count: 32))
        let keys = try #require(try cookie("stickCookie: \"srv\",", keys: [Examples.key, second])).keys
        #expect(keys.count == 2 && keys[0] != keys[1])
        #expect(try cookie("stickCookie: \"srv\",", keys: [second, Examples.key])?.keys == keys.reversed())
        // Not the key itself, and by Python's hmac.
        let gossip = [UInt8](0..<32)
        #expect(keys[0] != StickKey(secret: gossip))
        let derived = HMAC(key: gossip).tag(Array("triad stickCookie 1".utf8))
        #expect(keys[0] == StickKey(secret: derived))
        #expect(derived.prefix(4) == [0xf6, 0x1a, 0xee, 0x65])
    }

    @Test(arguments: [
        ("stickCookie: \"a b\",", "backends[0].stickCookie: \"a b\" can't name a cookie: use 1 to 64 letters"),
        ("stickCookie: \"\",", "backends[0].stickCookie: is empty; expected a cookie's name"),
        ("stickCookie: 7,", "backends[0].stickCookie: expected a cookie's name, such as \"server\", or {"),
        ("stickCookie: {},", "backends[0].stickCookie.name: is missing; add the cookie's name"),
        ("stickCookie: { name: \"a\", secur: true },", "backends[0].stickCookie.secur: unknown key; did you mean"),
        ("stickCookie: { name: \"a=\" },", "backends[0].stickCookie.name: \"a=\" can't name a cookie"),
        ("stickCookie: \"__Host-a\",", "browsers refuse a cookie of this name without Secure; write { name:"),
        ("stickCookie: { name: \"__secure-a\", secure: false },", "backends[0].stickCookie.name: browsers refuse"),
        (
            "balance: \"hash\", hashOn: \"cookie:sid\", stickCookie: \"sid\",",
            "backends[0].stickCookie: is the cookie of hashOn, too, which the servers set; use another name"
        ),
    ])
    func mistakesAreExplained(_ text: String, _ message: String) {
        let found = problems(text)
        #expect(found.count == 1 && found[0].contains(message), "\(found)")
    }

    @Test func itNeedsRequestsAndAKey() {
        let tcp = problems("stickCookie: \"srv\",", mode: "tcp")
        #expect(
            tcp.count == 1 && tcp[0].hasPrefix("frontends[0].backend: the frontend's mode is \"tcp\", and stickCookie"))
        let bare = problems("stickCookie: \"srv\",", keys: [])
        #expect(bare.count == 1 && bare[0].contains("backends[0].stickCookie: needs a gossip key"), "\(bare)")
        // A key that isn't one is reported as that, and once.
        #expect(problems("stickCookie: \"srv\",", keys: ["short"]).count == 1)
    }

    @Test func nodesMustAgreeAndAReloadSaysWhatChanged() throws {
        let variants = [
            "", "stickCookie: \"a\",", "stickCookie: \"b\",", "stickCookie: { name: \"a\", secure: true },",
        ]
        let loaded = try variants.map { try load($0).get() }
        #expect(Set(loaded.map(\.digest)).count == variants.count)
        for other in loaded.dropFirst() { #expect(loaded[0].changes(to: other) == "backend api: stickCookie") }
        // Keys are no part of the file.
        let second = Base64.encode([UInt8](repeating: 200, count: 32))
        #expect(try load(variants[1], keys: [second]).get().digest == loaded[1].digest)
    }
}
