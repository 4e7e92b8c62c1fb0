// ConfigurationCheckTests: what `backends[].check` may say, and how a mistake in it is explained.

import Proxy
import Testing

@testable import Node

@Suite struct ConfigurationCheckTests {
    private func load(_ check: String) -> Result<Configuration, ConfigurationProblems> {
        let text = Examples.full.replacing(
            "check: { type: \"http\", path: \"/health\", expect: 200, interval: \"1s\", timeout: \"500ms\", rise: 2, fall: 2 }",
            with: "check: \(check)")
        var reader = ConfigurationReader(
            file: "triad.json5",
            environment: { ["TRIAD_GOSSIP_KEY": Examples.key, "TRIAD_TOKEN": "a-test-token"][$0] })
        return reader.read(Array(text.utf8))
    }

    private func http(_ check: String) throws -> HTTPCheck {
        let kind = try load(check).get().backends[0].check.kind
        guard case .http(let check) = kind else { throw LabProblem("\(kind)") }
        return check
    }

    @Test(arguments: [
        ("200", "200"), ("\"200-399\"", "200–399"), ("[404, \"200-299\", 300]", "200–300, 404"), ("[204]", "204"),
    ])
    func statusesMayBeListsAndRanges(_ expect: String, _ understood: String) throws {
        #expect(try http("{ type: \"http\", expect: \(expect) }").expect.description == understood)
    }

    @Test func theBodyMayBeLookedAt() throws {
        let check = try http(
            "{ type: \"http\", path: \"/v\", host: \"a.example\", expectBody: \"all \\\"well\\\"\", sameContent: true }"
        )
        #expect(
            check == HTTPCheck(path: "/v", host: "a.example", expectBody: "all \"well\"", sameContent: true))
    }

    @Test(arguments: [
        ("expect: \"200-600\"", "check.expect: \"200-600\" is no HTTP status"),
        ("expect: \"399-200\"", "check.expect: \"399-200\" is no HTTP status"),
        ("expect: \"200\"", "check.expect: expected an HTTP status: a whole number from 200 to 599, without quotes"),
        ("expect: []", "check.expect: holds 0 statuses; from 1 to 32, such as [200, \"300-399\"]"),
        ("expect: [200, 700]", "check.expect[1]: expected an HTTP status: a whole number from 200 to 599, found 700"),
        ("expectBody: 7", "check.expectBody: expected text that the body must hold"),
        ("sameContent: \"yes\"", "check.sameContent: expected true or false, found \"yes\""),
        ("sameContent: true, method: \"HEAD\"", "check.sameContent: an answer to HEAD has no body"),
        ("expectBody: \"x\", method: \"HEAD\"", "check.expectBody: an answer to HEAD has no body"),
    ])
    func mistakesAreExplained(_ members: String, _ message: String) throws {
        guard case .failure(let problems) = load("{ type: \"http\", \(members) }") else {
            Issue.record("accepted")
            return
        }
        #expect(problems.all.count == 1 && problems.description.contains("backends[0].\(message)"), "\(problems)")
    }

    @Test(arguments: [("tcp", "a tcp check only opens a connection"), ("icmp", "an icmp check only sends an echo")])
    func whatOtherChecksCantLookAtIsRefused(_ type: String, _ why: String) throws {
        for member in ["path: \"/\"", "expect: 200", "sameContent: true"] {
            guard case .failure(let problems) = load("{ type: \"\(type)\", \(member) }") else {
                Issue.record("accepted: \(member)")
                continue
            }
            let key = member.prefix { $0 != ":" }
            #expect(problems.description.contains("check.\(key): belongs to a check of type \"http\"; \(why)"))
        }
    }

    @Test func anEchoCheckHasTheTimesOfTheOthers() throws {
        let check = try load(
            "{ type: \"icmp\", interval: \"2s\", timeout: \"300ms\", rise: 3, fall: 4 }"
        ).get().backends[0].check
        #expect(
            check
                == Configuration.Check(
                    kind: .icmp, interval: .seconds(2), timeout: .milliseconds(300), rise: 3, fall: 4))
        let tcp = try load("{ type: \"tcp\" }").get()
        #expect(try load("{ type: \"icmp\" }").get().sectionsDiffering(from: tcp.sectionDigests) == [.backends])
    }

    @Test(arguments: ["expect: [200, 204]", "expectBody: \"x\"", "sameContent: true", "host: \"\(1)\""])
    func nodesNoticeAnotherCheck(_ member: String) throws {
        let (one, other) = (
            try load("{ type: \"http\" }").get(), try load("{ type: \"http\", \(member) }").get()
        )
        #expect(one.sectionsDiffering(from: other.sectionDigests) == [.backends])
    }
}
