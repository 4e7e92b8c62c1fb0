// LoadTests: the pure parts of the load client: outages, percentiles, the response reader, the arguments; and the demo API's.

import Testing

@testable import Node

@Suite struct LoadTests {
    private func result(_ start: UInt64, _ end: UInt64, _ outcome: LoadOutcome) -> LoadResult {
        LoadResult(start: start, end: end, outcome: outcome, who: nil)
    }

    @Test func outageGoesFromFirstFailedStartToNextSuccessfulStart() {
        var outages = LoadOutages()
        outages.add(result(0, 1, .answered))
        outages.add(result(5, 255, .connectTimeout))
        outages.add(result(10, 12, .refused))
        outages.add(result(15, 16, .reconnected))
        outages.add(result(20, 21, .status(503)))
        #expect(
            outages.all == [
                LoadOutage(start: 5, end: 15, failed: 2), LoadOutage(start: 20, end: nil, failed: 1),
            ])
    }

    @Test func resultsAreJudgedInTheOrderOfTheirStarts() {
        var figures = LoadFigures()
        // The request that started second fails last: the third one's success ends its outage all the same.
        figures.add(result(0, 1_000_000, .answered), number: 0)
        figures.add(result(10_000_000, 11_000_000, .answered), number: 2)
        #expect(figures.outages.count == 0)
        figures.add(result(5_000_000, 255_000_000, .answerTimeout), number: 1)
        #expect(figures.outages.all == [LoadOutage(start: 5_000_000, end: 10_000_000, failed: 1)])
        #expect(figures.requests == 3 && figures.failed == 1)
        #expect(figures.longestWithoutSuccess == 10_000_000)
    }

    @Test func percentilesAreWithinTwoPercent() {
        var histogram = LatencyHistogram()
        for value in 1...10_000 { histogram.add(UInt64(value)) }
        for (fraction, expected) in [(0.5, 5000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let value = Double(histogram.percentile(fraction))
            #expect(abs(value - expected) / expected < 0.02, "p\(fraction): \(value)")
        }
        #expect(histogram.maximum == 10_000)
        #expect(LatencyHistogram().percentile(0.5) == 0)
    }

    @Test(arguments: [
        LoadOutcome.answered, .reconnected, .refused, .unreachable, .connectTimeout, .answerTimeout, .reset, .closed,
        .malformed, .status(503), .dropped, .local,
    ])
    func logLineReadsBack(_ outcome: LoadOutcome) {
        let result = LoadResult(start: 12, end: 345, outcome: outcome, who: outcome.isSuccess ? "API #3" : nil)
        #expect(LoadResult(line: Substring(result.line.dropLast())) == result)
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"message\": \"API #7\"}\n", 200, true, "API #7"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                + "5;x\r\n{\"mes\r\n10\r\nsage\": \"API #7\"}\r\n0\r\nT: x\r\n\r\n",
            200, false, "API #7"
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, true, nil),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, true, nil),
    ])
    func responseIsReadByteByByte(_ text: String, status: Int, keepsAlive: Bool, who: String?) {
        var response = LoadResponse()
        var input: [UInt8] = []
        let bytes = Array(text.utf8)
        for (index, byte) in bytes.enumerated() {
            input.append(byte)
            #expect(response.read(&input) == (index == bytes.count - 1 ? .done : .needMore), "at byte \(index)")
        }
        #expect(response.status == status && response.keepsAlive == keepsAlive && response.who == who)
        #expect(input.isEmpty)
    }

    @Test(arguments: [
        "nonsense\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ])
    func malformedResponseIsRefused(_ text: String) {
        var response = LoadResponse()
        var input = Array(text.utf8)
        #expect(response.read(&input) == .refused)
    }

    @Test func urlsAreRead() throws {
        let plain = try Load.url("http://10.0.0.100")
        #expect(plain.target.description == "10.0.0.100:80" && plain.path == "/" && plain.host == "10.0.0.100")
        let full = try Load.url("http://[2001:db8::1]:8080/a/b?c=d")
        #expect(full.target.description == "[2001:db8::1]:8080" && full.path == "/a/b?c=d")
        #expect(throws: UsageProblem.self) { try Load.url("https://10.0.0.100/") }
        #expect(throws: UsageProblem.self) { try Load.url("http://web.example/") }
        #expect(throws: UsageProblem.self) { try Load.url("http://10.0.0.1/a b") }
    }

    private func loadOptions(_ words: [String]) throws(UsageProblem) -> LoadOptions {
        try Load.options(Load.command.parse(words))
    }

    @Test func argumentsAreChecked() throws {
        let options = try loadOptions(["http://10.0.0.1/", "--rate=50", "--seconds", "2", "--new-connections"])
        #expect(options.rate == 50 && options.seconds == 2 && options.usesNewConnections && options.timeoutMs == 250)
        #expect(throws: UsageProblem.self) { try loadOptions([]) }
        let closed = try loadOptions(["http://10.0.0.1/", "--closed-loop", "--forget-neighbour", "eth0"])
        #expect(closed.isClosedLoop && closed.forgetsOn == "eth0")
        #expect(throws: UsageProblem.self) {
            try loadOptions(["http://10.0.0.1/", "--closed-loop", "--new-connections"])
        }
        #expect(throws: UsageProblem.self) { try loadOptions(["http://10.0.0.1/", "--rate", "0"]) }
        #expect(throws: UsageProblem.self) { try loadOptions(["http://10.0.0.1/", "--rat", "5"]) }
    }

    @Test func apiRequestsAreRead() {
        let request = APIRequest(
            head: Array("POST /?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nConnection: close\r\n\r\n".utf8)[...])
        #expect(request.method == "POST" && request.path == "/" && request.bodyLength == 12 && request.closes)
        #expect(!APIRequest(head: Array("hello\r\n\r\n".utf8)[...]).isValid)
        #expect(APIRequest.headLength(Array("GET / HTTP/1.1\r\n\r\nx".utf8)) == 18)
    }
}
