// ConfigurationClientsTests: what a frontend says about clients and to them: read, refused, applied, agreed upon.

import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationClientsTests {
    private let scratch = Scratch()

    private func load(_ frontend: String, limits: String = "{}") -> Result<Configuration, ConfigurationProblems> {
        let text = Examples.least.replacing("backend: \"api\" }", with: "backend: \"api\", \(frontend) }")
            .replacing("cluster:", with: "limits: \(limits),\n  cluster:")
        var reader = ConfigurationReader(file: scratch.file("triad.json5"), environment: { _ in nil })
        return reader.read(Array(text.utf8))
    }

    private func problems(_ frontend: String, limits: String = "{}") -> String {
        guard case .failure(let problems) = load(frontend, limits: limits) else { return "" }
        return problems.all.map { "\($0.path): \($0.text)" }.joined(separator: "\n")
    }

    @Test func reachesTheDataPlane() throws {
        scratch.write("busy.html", "<h1>Back soon</h1>")
        scratch.write("bad.json", "{}")
        let configuration = try load(
            """
            forwarded: "both", trustedProxies: ["10.0.0.0/8", "2001:db8::7"], hideHeaders: ["Server"],
            errorPages: { "503": "busy.html", "400": "bad.json" }
            """
        ).get()
        let frontend = configuration.proxySettings(workers: 1).frontends[0]
        #expect(frontend.forwarded == .both)
        let addresses = ["10.1.2.3", "2001:db8::7", "11.0.0.1", "2001:db8::8"]
        let areTrusted = try addresses.map { text in
            let address = try #require(SocketAddress(address: text, port: 0))
            return frontend.trustedProxies.contains { $0.contains(address) }
        }
        #expect(areTrusted == [true, true, false, false])
        #expect(frontend.hides == .server)
        #expect(
            frontend.errorPages == [
                ErrorPage(status: 400, contentType: "application/json", body: Array("{}".utf8)),
                ErrorPage(
                    status: 503, contentType: "text/html; charset=utf-8", body: Array("<h1>Back soon</h1>".utf8)),
            ])
    }

    @Test func hidesEverythingUnlessToldOtherwise() throws {
        let frontend = try load("mode: \"http\"").get().proxySettings(workers: 1).frontends[0]
        #expect(frontend.hides == .all && frontend.forwarded == .x)
        #expect(frontend.trustedProxies.isEmpty && frontend.errorPages.isEmpty)
        #expect(try load("hideHeaders: []").get().proxySettings(workers: 1).frontends[0].hides == [])
        #expect(try load("forwarded: \"off\"").get().proxySettings(workers: 1).frontends[0].forwarded == .none)
    }

    @Test func nodesMustAgree() throws {
        scratch.write("busy.html", "one")
        let variants = [
            "mode: \"http\"", "forwarded: \"forwarded\"", "forwarded: \"off\"", "trustedProxies: [\"10.0.0.0/8\"]",
            "trustedProxies: [\"10.0.0.0/9\"]", "hideHeaders: []", "hideHeaders: [\"Via\"]",
            "errorPages: { \"503\": \"busy.html\" }", "errorPages: { \"504\": \"busy.html\" }",
        ]
        var digests = Set(try variants.map { try load($0).get().digest })
        #expect(digests.count == variants.count)
        // The same file, but another page beside it.
        let before = try load(variants[7]).get()
        scratch.write("busy.html", "two")
        let after = try load(variants[7]).get()
        digests.insert(after.digest)
        #expect(digests.count == variants.count + 1)
        #expect(before.changes(to: after) == "frontend http: errorPages")
        let plain = try load(variants[0]).get()
        #expect(plain.changes(to: try load(variants[4]).get()) == "frontend http: trustedProxies")
    }

    @Test func saysWhatIsWrong() {
        #expect(
            problems("forwarded: \"xff\"")
                == "frontends[0].forwarded: unknown way to name clients \"xff\"; did you mean \"off\"? This version has "
                + "\"x-forwarded\" or \"forwarded\" or \"both\" or \"off\"")
        #expect(problems("trustedProxies: [\"10.0.0.1/8\"]").contains("did you mean \"10.0.0.0/8\"?"))
        #expect(
            problems("hideHeaders: [\"server\"]").hasPrefix("frontends[0].hideHeaders[0]: unknown header \"server\""))
        #expect(problems("hideHeaders: \"Server\"").contains("expected a list of response headers"))
        #expect(problems("errorPages: { \"404\": \"busy.html\" }").contains("unknown key"))
        #expect(problems("errorPages: { \"503\": \"busy.php\" }").contains("must end in .html, .json or .txt"))
        #expect(
            problems("errorPages: { \"503\": \"none.html\" }").contains(
                "can't read \(scratch.file("none.html")): "))
        #expect(
            problems("mode: \"tcp\", forwarded: \"both\", errorPages: {}")
                == """
                frontends[0].forwarded: belongs to a frontend of mode "http"; mode "tcp" doesn't look into what it forwards
                frontends[0].errorPages: belongs to a frontend of mode "http"; mode "tcp" doesn't look into what it forwards
                """)
    }

    @Test func pagesFitABuffer() throws {
        scratch.write("busy.html", [UInt8](repeating: 97, count: 15_361))
        #expect(
            problems("errorPages: { \"503\": \"busy.html\" }")
                == "frontends[0].errorPages.503: \(scratch.file("busy.html")) is larger than 15360 bytes, what fits one "
                + "buffer (limits.buffer) with 1024 bytes for the head")
        let large = try load("errorPages: { \"503\": \"busy.html\" }", limits: "{ buffer: \"32KiB\" }").get()
        scratch.write("busy.html", [UInt8](repeating: 97, count: 15_360))
        let fitting = try load("errorPages: { \"503\": \"busy.html\" }").get()
        #expect(fitting.frontends[0].clients.errorPages[0].body.count == 15_360)
        // Buffers are as they were at start: a page that is too large for them is refused, and nothing else changes.
        var settings = fitting.proxySettings(workers: 1)
        settings.frontends[0].address = try #require(SocketAddress("127.0.0.1:0"))
        let plane = try DataPlane(settings)
        settings.frontends[0].errorPages = large.frontends[0].clients.errorPages
        let problem = #expect(throws: ProxyProblem.self) { try plane.apply(settings) }
        #expect(problem?.description.contains("restart to use larger ones (limits.buffer)") == true)
    }
}
