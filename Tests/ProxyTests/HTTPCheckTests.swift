// HTTPCheckTests: which answers pass a check, and which server is the one that differs.

import Testing

@testable import Proxy

@Suite struct HTTPCheckTests {
    private func fault(_ check: HTTPCheck, _ body: String, status: Int = 200) -> String? {
        var response = CheckResponse(readsBodyOf: check.readsBodyOf)
        let text = "HTTP/1.1 \(status) X\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        #expect(response.read(Array(text.utf8)) == .status(status))
        return check.fault(response, status: status)
    }

    @Test func statusesAreRanges() {
        let ranges = StatusRanges([300...399, 200...200, 201...204, 404...404, 380...401])
        #expect(ranges.description == "200–204, 300–401, 404")
        #expect(
            [199, 200, 204, 205, 300, 401, 402, 404].map(ranges.contains) == [
                false, true, true, false, true, true, false, true,
            ])
        #expect(
            fault(HTTPCheck(path: "/", expect: ranges), "", status: 500) == "HTTP 500, expected 200–204, 300–401, 404")
        #expect(fault(HTTPCheck(path: "/", expect: ranges), "", status: 404) == nil)
    }

    @Test func theBodyMustHoldTheText() {
        let check = HTTPCheck(path: "/", expectBody: "well")
        for body in ["well", "all is well", "wewell", "wells"] { #expect(fault(check, body) == nil, "\(body)") }
        for body in ["", "wel", "WELL", "we ll"] { #expect(fault(check, body) == "HTTP 200, body lacks \"well\"") }
        #expect(
            fault(check, String(repeating: "a", count: CheckResponse.bodyBytesMax + 1))
                == "HTTP 200, body lacks \"well\" in its first 256 KiB")
        #expect(fault(check, "well", status: 500) == "HTTP 500, expected 200")
    }

    // MARK: the same content

    private func content(_ text: String, at now: UInt64, before: CheckContent? = nil) -> CheckContent {
        CheckContent(Array(text.utf8), nowNs: now, before: before)
    }

    @Test func whoIsAloneDiffers() {
        let (one, two, odd) = (content("a", at: 1), content("a", at: 2), content("b", at: 3))
        #expect(two.difference(from: [one]) == nil)
        let again = content("b", at: 11, before: odd)
        let others = [content("a", at: 10, before: one), content("a", at: 10, before: two)]
        #expect(again.difference(from: others) == "differs from the majority: 2 of 3 servers answer alike")
        #expect(others[0].difference(from: [others[1], again]) == nil)
    }

    @Test func withoutAMajorityNobodyDiffers() {
        let contents = ["a", "a", "b", "b"].map { content($0, at: 5) }
        for index in contents.indices {
            var others = contents
            others.remove(at: index)
            #expect(contents[index].difference(from: others) == nil)
        }
        #expect(content("a", at: 5).difference(from: [content("b", at: 5)]) == nil)
        #expect(content("a", at: 5).difference(from: []) == nil)
    }

    /// Four servers are looked at in turn while new content is installed on all of them at once: nobody differs.
    @Test func newContentEverywhereIsNobodysFault() {
        var contents = (0..<4).map { content("old", at: UInt64($0)) }
        for turn in 4..<40 {
            let index = turn % 4
            contents[index] = content(turn < 10 ? "old" : "new", at: UInt64(turn), before: contents[index])
            var others = contents
            others.remove(at: index)
            #expect(contents[index].difference(from: others) == nil, "turn \(turn)")
        }
    }

    /// It is installed on one only: that one differs, once the others were seen to be as they were.
    @Test func newContentOnOneServerIsFound() {
        var contents = (0..<4).map { content("old", at: UInt64($0)) }
        var found: [Int] = []
        for turn in 4..<20 {
            let index = turn % 4
            let text = index == 1 && turn >= 9 ? "new" : "old"
            contents[index] = content(text, at: UInt64(turn), before: contents[index])
            var others = contents
            others.remove(at: index)
            if contents[index].difference(from: others) != nil { found.append(turn) }
        }
        #expect(found == [13, 17])
    }
}
