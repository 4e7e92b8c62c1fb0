// OverviewTests: what the nodes tell each other of their work: bulletins as bytes, figures added up, rates across
// restarts, and who led since when.

import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct OverviewTests {
    private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: UInt64((1000 + seconds) * 1e9)) }

    private func row(_ name: String, requests: UInt64, errors: UInt64 = 0, sessions: Int = 0) -> FigureRow {
        var figures = ServerFigures()
        figures.requests = requests
        figures.errors = errors
        figures.sessions = sessions
        return FigureRow(server: name, figures)
    }

    private func whole(requests: UInt64, connections: UInt64 = 0) -> FigureRow {
        var figures = NodeFigures()
        figures.requests = requests
        figures.connections = connections
        return figures.row
    }

    private func item(_ sequence: UInt64, _ text: String = "api/api_1 is down: connection refused") -> NewsItem {
        NewsItem(sequence: sequence, atMs: 1_767_225_600_000 + sequence, kind: "server-down", text: text)
    }

    // MARK: Bulletins

    @Test func bulletinsSurviveTheirBytes() throws {
        let bulletins: [Bulletin] = [
            .figures([whole(requests: 12_345), row("api/api_1", requests: 7, errors: 1), row("api/api_2", requests: 0)]
            ),
            .figures([]), .news([item(1), item(2, "grün 🚀")]),
        ]
        for bulletin in bulletins {
            let bytes = bulletin.encode()
            let read = try #require(Bulletin.decode(bytes))
            #expect(read.encode() == bytes)
            if case .news = bulletin { #expect(read == bulletin) }
            // To the cluster's core it is no message, nor is a message a bulletin.
            #expect(Message.decode(bytes) == nil)
        }
        #expect(Bulletin.decode(Message.released(term: 3).encode()) == nil)
        #expect(Bulletin.decode([]) == nil)
        var figures = NodeFigures()
        (figures.uptimeMs, figures.ownsMs, figures.leaseLowMs, figures.bytesSent) = (5, 4, 3, 1 << 50)
        figures.responses = [1, 2, 3, 4, 5]
        (figures.stateIndex, figures.stateDigest, figures.datagramsSent) = (9, .max - 2, 77)
        (figures.version, figures.wireVersion) = (Version.number, 2)
        guard case .figures(let rows) = Bulletin.decode(Bulletin.figures([figures.row]).encode()) else {
            Issue.record("no figures")
            return
        }
        #expect(rows.map { NodeFigures($0) } == [figures])
        // One of before this number was added, and one of after the next.
        let former = NodeFigures(FigureRow(name: "", values: Array(rows[0].values.prefix(23))))
        #expect(former.version == 0 && former.wireVersion == 0)
        #expect(NodeFigures(FigureRow(name: "", values: rows[0].values + [1, 2])) == figures)
    }

    @Test func aVersionGoesThroughANumber() {
        for text in ["0.1.0", "12.0.345", "0.0.1", Version.text] {
            #expect(Version.text(of: Version.number(of: text)) == text)
        }
        for text in ["", "1.2", "1.2.3.4", "1.2.3-dev", "-1.0.0", "1..0", "1.2.1048576"] {
            #expect(Version.number(of: text) == 0, "\(text)")
        }
        #expect(Version.text(of: 0) == nil)
        // A number of a row has 62 bits.
        #expect(Version.number(of: "1048575.1048575.1048575") < 1 << 62)
    }

    @Test func damagedBulletinsAreReadWholeOrNotAtAll() {
        let bytes = Bulletin.figures([whole(requests: 300), row("api/api_1", requests: 7)]).encode()
        let tail = Bulletin.figures([row("api/api_1", requests: 7)]).encode().count - 1
        for length in 1..<bytes.count where length != bytes.count - tail && length != 1 {
            #expect(Bulletin.decode(Array(bytes.prefix(length))) == nil, "\(length)")
        }
        var random = SplitMix(seed: 3)
        for _ in 0..<4000 {
            var damaged = random.next() % 2 == 0 ? bytes : Bulletin.news([item(1), item(2)]).encode()
            damaged[Int(random.next() % UInt64(damaged.count))] = UInt8(truncatingIfNeeded: random.next())
            guard let read = Bulletin.decode(damaged) else { continue }
            #expect(Bulletin.decode(read.encode())?.encode() == read.encode())
        }
    }

    @Test func manyServersTakeTurnsWithinABoundedNumberOfDatagrams() {
        let names = (0..<Limits.serversMax).map { "a-backend-with-a-long-name/server-number-\($0)" }
        let rows = names.map { row($0, requests: UInt64.max >> 3, errors: 1 << 40, sessions: 1 << 30) }
        var overview = Overview(nodeCount: 3, now: at(0))
        var told: [String] = []
        var rounds = 0
        while told.count < rows.count {
            let payloads = overview.bulletins(of: rows)
            #expect(payloads.count <= Bulletin.Limit.datagramsPerSecond)
            #expect(payloads.allSatisfy { $0.count <= Envelope.payloadBytesMax })
            for payload in payloads {
                guard case .figures(let rows) = Bulletin.decode(payload) else {
                    Issue.record("unreadable")
                    return
                }
                told += rows.map(\.name)
            }
            rounds += 1
        }
        #expect(Set(told) == Set(names))
        #expect(rounds > 1 && rounds < 30)
        // Few servers: one datagram, the same every time.
        #expect(overview.bulletins(of: Array(rows.prefix(9))).count == 1)
        #expect(overview.bulletins(of: []).isEmpty)
    }

    @Test func newsKeepToOneDatagramAndTheLatestWin() throws {
        #expect(Bulletin.news(latestOf: []) == nil)
        let long = String(repeating: "ü", count: 500)
        let items = (1...40).map { item(UInt64($0), long) }
        let payload = try #require(Bulletin.news(latestOf: items))
        #expect(payload.count <= Envelope.payloadBytesMax)
        guard case .news(let read) = Bulletin.decode(payload) else {
            Issue.record("unreadable")
            return
        }
        #expect(read.map(\.sequence) == [38, 39, 40])
        #expect(read.allSatisfy { $0.text == String(repeating: "ü", count: 150) })
    }

    @Test func newsAreKeptOnceAndInOrder() {
        var log = EventLog(node: "n2", level: .error)
        for number in 1...250 { log.add(.reload, "event \(number)", level: .debug) }
        #expect(log.latest(3).map(\.sequence) == [248, 249, 250])
        #expect(log.latest(3).map(\.text) == ["event 248", "event 249", "event 250"])
        var news = ClusterNews(nodeCount: 3)
        news.take([item(2), item(3)], from: 1, id: "n2", boot: 7)
        // A datagram that came late, and one that repeats.
        news.take([item(1), item(2)], from: 1, id: "n2", boot: 7)
        news.take([item(3)], from: 1, id: "n2", boot: 7)
        #expect(news.events.map(\.atMs) == [1, 2, 3].map { 1_767_225_600_000 + $0 })
        // Another life of that node counts anew, and what the earlier one said stays.
        news.take([item(1)], from: 1, id: "n2", boot: 8)
        #expect(news.events.count == 4)
        for sequence in 1...500 { news.take([item(UInt64(sequence))], from: 0, id: "n1", boot: 1) }
        news.take([item(1)], from: 9, id: "n9", boot: 1)
        #expect(news.events.count == 4 + ClusterNews.eventsPerNodeMax)
    }

    // MARK: Adding up

    @Test func figuresOfAllNodesAddUp() throws {
        var figures = ClusterFigures(nodeCount: 3)
        figures.keep(["api/a"])
        for second in 0...4 {
            let count = UInt64(second)
            let now = at(Double(second))
            figures.take(
                [whole(requests: 100 * count), row("api/a", requests: 90 * count, sessions: 2)], from: 0, boot: 5,
                now: now)
            figures.take(
                [row("api/a", requests: 10 * count, errors: count, sessions: 3), row("api/unknown", requests: 9)],
                from: 1, boot: 6, now: now)
            figures.sample(now: now)
        }
        let total = figures.figures(of: "api/a", now: at(4.5))
        #expect(total.figures.requests == 400 && total.figures.errors == 4 && total.figures.sessions == 5)
        #expect(abs(total.requestsPerSecond - 100) < 0.01 && abs(total.errorsPerSecond - 1) < 0.01)
        #expect(figures.traces["api/a"]?.requests == [100, 100])
        #expect(figures.traces["api/a"]?.errors == [1, 1])
        #expect(figures.total.requests == [100, 100])
        #expect(figures.figures(of: "api/unknown", at: 1) == nil)
        let word = try #require(figures.word(of: 0, now: at(4.5)))
        #expect(word.ageMs == 500 && word.figures.requests == 400 && abs(word.requestsPerSecond - 100) < 0.01)
        #expect(figures.word(of: 2, now: at(4.5)) == nil)
        // Who is alive and has said nothing makes the age unknown; who is dead doesn't.
        #expect(figures.work(alive: [true, false, false], now: at(4.5)).ageMs == 500)
        #expect(figures.work(alive: [true, true, true], now: at(4.5)).ageMs == nil)

        // A node that fell silent counts with its last word, and does nothing now.
        figures.take([whole(requests: 500), row("api/a", requests: 450, sessions: 2)], from: 0, boot: 5, now: at(20))
        let later = figures.figures(of: "api/a", now: at(20))
        #expect(later.figures.requests == 490 && later.figures.sessions == 2 && later.errorsPerSecond == 0)
        // What is no longer configured is forgotten.
        figures.keep([])
        #expect(figures.traces.isEmpty && figures.figures(of: "api/a", at: 0) == nil)
    }

    @Test func aRestartIsNoPeakAndNoLoss() {
        var figures = ClusterFigures(nodeCount: 2)
        figures.keep(["api/a"])
        figures.take([row("api/a", requests: 1_000_000)], from: 0, boot: 5, now: at(0))
        // The first word of a node that ran for long already says nothing about now.
        #expect(figures.figures(of: "api/a", now: at(0)).requestsPerSecond == 0)
        figures.take([row("api/a", requests: 1_000_050)], from: 0, boot: 5, now: at(1))
        #expect(figures.figures(of: "api/a", now: at(1)).requestsPerSecond == 50)
        figures.take([row("api/a", requests: 20)], from: 0, boot: 6, now: at(2))
        figures.take([row("api/a", requests: 60)], from: 0, boot: 6, now: at(3))
        #expect(figures.figures(of: "api/a", now: at(3)).requestsPerSecond == 40)
        // A late word of the earlier life.
        figures.take([row("api/a", requests: 1_000_090)], from: 0, boot: 5, now: at(3.5))
        #expect(figures.figures(of: "api/a", now: at(3.5)).figures.requests == 60)
        // The same process with a server that was removed and added again.
        figures.take([row("api/a", requests: 10)], from: 0, boot: 6, now: at(4))
        #expect(figures.figures(of: "api/a", now: at(4)).requestsPerSecond == 10)
    }

    @Test func aTraceHasALimit() {
        var trace = Trace()
        for number in 1...200 {
            trace.add(requests: UInt64(number), errors: 0)
            trace.sample(seconds: 2)
        }
        #expect(trace.requests.count == Trace.samplesMax && trace.requests.last == 100)
        trace.sample(seconds: 0)
        #expect(trace.requests.count == Trace.samplesMax)
    }

    @Test func lossIsWhatDidNotComeOfWhatWasSent() throws {
        var meter = LossMeter()
        #expect(meter.loss == nil)
        meter.note(sent: 1000, received: 7)
        #expect(meter.loss == nil)
        meter.note(sent: 1100, received: 97)
        #expect(abs(try #require(meter.loss) - 0.1) < 1e-9)
        // What is long over counts no more, and a start anew isn't a loss.
        for word in 1...20 { meter.note(sent: 1100 + UInt64(word) * 10, received: 97 + UInt64(word) * 10) }
        #expect(meter.loss == 0)
        meter.note(sent: 5, received: 300)
        #expect(meter.loss == nil)
        meter.note(sent: 15, received: 312)
        #expect(meter.loss == 0)
    }

    @Test func timesAreOfTheLastSeconds() {
        var recent = RecentLatency()
        var (last, now) = (LatencyFigures(), LatencyFigures())
        now.counts[4] = 10
        recent.add(now, since: last, at: at(0))
        #expect(recent.figures.counts[4] == 10)
        (last, now.counts[4], now.counts[5]) = (now, 12, 1)
        recent.add(now, since: last, at: at(11))
        #expect(recent.figures.counts[4] == 12 && recent.figures.counts[5] == 1)
        recent.rotate(at(22))
        #expect(recent.figures.counts[4] == 2)
        recent.rotate(at(60))
        #expect(recent.figures.count == 0)
    }

    // MARK: Who, since when

    @Test func tenureKnowsSinceWhenAndWhatAMoveTook() throws {
        let (me, other) = (MemberID(0), MemberID(1))
        var tenure = Tenure(now: at(0))
        #expect(tenure.takeMove(now: at(0)) == nil)
        for tenth in 0...20 {
            let now = at(Double(tenth) / 10)
            tenure.observe(leader: other, owner: other, ownerHeardAt: now, now: now)
        }
        #expect(tenure.owner == Tenure.Holding(member: other, since: at(0)))
        tenure.observe(leader: nil, owner: nil, ownerHeardAt: nil, now: at(2.15))
        #expect(tenure.leader == Tenure.Holding(member: nil, since: at(2.15)))
        tenure.observe(leader: me, owner: me, ownerHeardAt: nil, now: at(2.2))
        let taken = tenure.takeMove(now: at(2.2))
        let move = try #require(taken)
        #expect(move.from == other && abs(move.after.milliseconds - 200) < 1)
        // Taken again after a lapse: nobody else had it in between.
        #expect(tenure.takeMove(now: at(3)) == nil)

        #expect(tenure.takeLeaseLow() == nil)
        for left in [120, 96, 131] { tenure.noteLease(.milliseconds(left)) }
        #expect(tenure.takeLeaseLow() == .milliseconds(96))
        #expect(tenure.takeLeaseLow() == nil)
    }

    @Test func theOwnersOwnWordTellsSinceWhen() {
        var figures = ClusterFigures(nodeCount: 2)
        let holding = Tenure.Holding(member: MemberID(1), since: at(0))
        #expect(figures.span(holding, \.ownsMs, now: at(2)) == .seconds(2))
        var word = NodeFigures()
        word.ownsMs = 60_000
        figures.take([word.row], from: 1, boot: 1, now: at(1))
        #expect(figures.span(holding, \.ownsMs, now: at(2)) == .seconds(61))
        #expect(figures.span(holding, \.leadsMs, now: at(2)) == .seconds(2))
        #expect(figures.span(holding, \.ownsMs, now: at(9)) == .seconds(9))
        #expect(figures.span(Tenure.Holding(since: at(0)), \.ownsMs, now: at(2)) == nil)
    }
}
