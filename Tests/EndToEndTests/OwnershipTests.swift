// OwnershipTests: the pure judges: the ownership record, the lines it is read from, and the window that a demo step is
// judged by. A judge that can't say no is none, so each is shown a broken promise.

import Testing

@testable import Node

@Suite struct OwnershipTests {
    private func record(_ changes: [(UInt64, String, Bool)]) -> OwnershipRecord {
        OwnershipRecord(changes: changes.map { .init(at: $0.0 * 1_000_000, node: $0.1, owns: $0.2) })
    }

    private func request(_ startMs: UInt64, _ outcome: LoadOutcome, lasting: UInt64 = 1) -> LoadResult {
        LoadResult(
            start: startMs * 1_000_000, end: (startMs + lasting) * 1_000_000, outcome: outcome,
            who: outcome.isSuccess ? "API #1" : nil)
    }

    private func window(
        _ ownership: OwnershipRecord, fresh: [LoadResult], kept: [LoadResult] = [], from: UInt64 = 100
    ) -> DemoWindow {
        DemoWindow(
            from: from * 1_000_000, to: 2_000_000_000, ownership: ownership, fresh: fresh + [request(1500, .answered)],
            kept: kept + [request(1500, .answered)])
    }

    @Test func overlapIsJudgedByOrderNotByTime() {
        let record = record([(10, "n1", true), (10, "n2", true), (10, "n1", false)])
        #expect(record.overlaps == [.init(nodes: ["n1", "n2"], from: 10_000_000, to: 10_000_000)])
        #expect(record.owners == ["n2"])
    }

    @Test func renewalsAndRepeatedDropsChangeNothing() {
        let record = record([(1, "n1", true), (2, "n1", true), (3, "n1", false), (4, "n1", false), (9, "n2", true)])
        #expect(record.changes.count == 3)
        #expect(record.gaps == [.init(after: "n1", from: 3_000_000, before: "n2", to: 9_000_000)])
        #expect(record.owners(at: 2_000_000) == ["n1"] && record.owners(at: 5_000_000) == [])
        #expect(record.since(5_000_000).changes.map(\.node) == ["n2"])
    }

    @Test func addressEventsAreRead() throws {
        let added = try #require(
            AddressEvent(
                line: "[2026-11-23T08:46:14.761610] [nsid 0]2: br0    inet 10.77.0.100/32 scope global dynamic eth0"))
        #expect(added.at == 1_795_423_574_761_610_000)
        #expect(added.namespace == 0 && !added.isDeleted && added.address == "10.77.0.100/32")
        let deleted = try #require(
            AddressEvent(line: "[2024-02-29T00:00:00.000001] [nsid current]Deleted 1: lo    inet 10.9.9.9 scope global")
        )
        #expect(deleted.at == 1_709_164_800_000_001_000)
        #expect(deleted.namespace == nil && deleted.isDeleted && deleted.address == "10.9.9.9/32")
        #expect(AddressEvent(line: "netlink receive error No buffer space available (105)") == nil)
        #expect(AddressEvent(line: "") == nil)
    }

    @Test func twoOwnersAreABrokenPromise() {
        let record = record([(10, "n1", true), (200, "n2", true), (210, "n1", false)])
        #expect(window(record, fresh: []).broken(.init()) == ["n1 and n2 owned the VIP together for 10.0 ms"])
        #expect(window(record, fresh: []).broken(.init(overlapMs: 9)).count == 1)
        #expect(window(record, fresh: []).broken(.init(overlapMs: 11)) == [])
    }

    @Test func failuresAreAllowedOnlyWhereTheyMustBe() {
        let record = record([(10, "n1", true), (200, "n1", false), (240, "n2", true)])
        let during = window(record, fresh: [request(205, .refused), request(250, .answered)])
        #expect(during.broken(.init(outageMs: 50)) == [])
        #expect(during.broken(.init(outageMs: 40)).count == 1)
        #expect(during.broken(.init(outageMs: 50, withoutOwnerMs: 30)).count == 1)
        #expect(during.broken(.init()).count == 1)
        let late = window(record, fresh: [request(300, .refused), request(301, .answered)])
        #expect(late.broken(.init(outageMs: 50)).count == 1)
        #expect(during.moves == "n1 → n2 after 140 ms, nobody had it for 40.0 ms")
    }

    @Test func keptConnectionsLoseOnlyWhatWasUnderWay() {
        let record = record([(10, "n1", true), (200, "n1", false), (202, "n2", true)])
        let planned = DemoWindow.Allowance(outageMs: 50, withoutOwnerMs: 10, onlyInFlight: true)
        let crossing = window(record, fresh: [], kept: [request(199, .answerTimeout, lasting: 250)])
        #expect(crossing.broken(planned) == [])
        #expect(crossing.broken(.init(outageMs: 50, withoutOwnerMs: 10)).count == 1)
        let before = window(record, fresh: [], kept: [request(150, .closed)])
        #expect(before.broken(planned).count == 1)
    }

    @Test func aClientThatSentNothingProvesNothing() {
        let record = record([(10, "n1", true)])
        let empty = DemoWindow(from: 20_000_000, to: 30_000_000, ownership: record, fresh: [], kept: [])
        #expect(empty.broken(.init()) == ["a client sent nothing"])
    }
}
