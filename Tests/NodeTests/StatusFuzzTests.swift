// StatusFuzzTests: whatever bytes come, the status port's parsers answer and never trap. A failure names its seed.

import Proxy
import Testing

@testable import Node

@Suite struct StatusFuzzTests {
    private static let seeds = [
        "GET /status HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        "POST /admin/weight HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: 12\r\n\r\n{\"weight\":1}",
        "POST /admin/add HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        #"{"server":"api/api_1","address":"[2001:db8::1]:8080","weight":256}"#,
    ]

    private static func mutate(_ random: inout SplitMix) -> [UInt8] {
        var bytes = Array(seeds[Int(random.next() % UInt64(seeds.count))].utf8)
        for _ in 0..<(random.next() % 8) {
            let place = Int(random.next() % UInt64(bytes.count + 1))
            switch random.next() % 4 {
            case 0: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
            case 1 where place < bytes.count: bytes[place] = UInt8(truncatingIfNeeded: random.next())
            case 2 where place < bytes.count: bytes.remove(at: place)
            default: bytes.insert(contentsOf: bytes[..<(place / 2)], at: place)
            }
        }
        return bytes
    }

    /// A request found in pieces is the one found at once.
    @Test(arguments: 0..<40) func requests(seed: Int) {
        var random = SplitMix(seed: UInt64(seed) &+ 77)
        for _ in 0..<300 {
            let bytes = Self.mutate(&random)
            let whole = StatusRequest.parse(bytes)
            var outcome = StatusRequest.Outcome.needHead
            var searched = 0
            var count = 0
            while count < bytes.count {
                count = min(bytes.count, count + 1 + Int(random.next() % 40))
                outcome = StatusRequest.parse(Array(bytes[..<count]), searched: searched)
                searched = outcome == .needHead ? count : 0
                if case .request = outcome { break }
                if case .refused = outcome { break }
            }
            switch (whole, outcome) {
            // What follows a refused or complete start can't change it, but a refusal may come sooner.
            case (.refused, .refused), (.needHead, .refused), (.expectsContinue, .needBody): break
            default:
                #expect(whole == outcome, "seed \(seed): \(String(decoding: bytes, as: UTF8.self).debugDescription)")
            }
            if case .request(let request, let taken) = whole {
                #expect(taken <= bytes.count)
                _ = StatusRoute(request, StatusAccess(token: "sesame", user: "a", password: "b"))
            }
        }
    }

    @Test(arguments: 0..<20) func changesAndReports(seed: Int) {
        var random = SplitMix(seed: UInt64(seed) &+ 99)
        for _ in 0..<300 {
            let bytes = Self.mutate(&random)
            for verb in AdminRequest.verbs { _ = try? AdminRequest(verb: verb, body: bytes) }
        }
        let json = StatusReport.sample().json()
        for _ in 0..<30 {
            var bytes = json
            for _ in 0..<4 {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next() % 128)
            }
            guard let report = StatusReport(json: bytes) else { continue }
            let lines = StatusTable(width: 80, height: 24, usesColour: false).lines(report)
            #expect(lines.allSatisfy { $0.count <= 80 }, "seed \(seed)")
        }
    }
}
