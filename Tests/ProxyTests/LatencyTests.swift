// LatencyTests: which bucket a time belongs to, and what percentiles are told from buckets.

import Testing

@testable import Proxy

@Suite struct LatencyTests {
    @Test func everyTimeHasTheBucketOfItsBounds() {
        let bounds = LatencyFigures.boundsUs
        #expect(LatencyFigures.bucketCount == bounds.count + 1)
        #expect(bounds == bounds.sorted() && Set(bounds).count == bounds.count)
        for (index, bound) in bounds.enumerated() {
            #expect(LatencyFigures.bucket(us: bound) == index, "\(bound)")
            #expect(LatencyFigures.bucket(us: bound + 1) == index + 1, "\(bound)")
        }
        #expect(LatencyFigures.bucket(us: 0) == 0 && LatencyFigures.bucket(us: .max) == bounds.count)
    }

    @Test func whatIsWrittenIsRead() {
        let counters = Counters()
        let writer = counters.writer
        for us in [50, 90, 700, 20_000_000] as [UInt64] { writer.answered(slot: 3, us: us) }
        writer.answered(slot: ProxyLimits.serversMax - 1, us: 260)
        writer.add(.errors, slot: 3)
        var figures = LatencyFigures()
        counters.add(to: &figures, slot: 3)
        #expect(figures.count == 4 && figures.sumUs == 20_000_840)
        #expect(figures.counts[0] == 2 && figures.counts[3] == 1 && figures.counts[16] == 1)
        var last = LatencyFigures()
        counters.add(to: &last, slot: ProxyLimits.serversMax - 1)
        #expect(last.count == 1 && last.counts[2] == 1)
        #expect(counters.read(.errors, slot: 3) == 1 && counters.read(.requests, slot: 4) == 0)
    }

    @Test func percentilesAreWithinTheirBucket() throws {
        var figures = LatencyFigures()
        #expect(figures.percentile(0.5) == nil)
        figures.counts[3] = 90
        figures.counts[6] = 10
        #expect(abs(try #require(figures.percentile(0.45)) - 0.000_75) < 1e-9)
        #expect(abs(try #require(figures.percentile(0.99)) - 0.0095) < 1e-9)
        #expect(figures.percentile(1) == 0.01)
        figures.counts[16] = 1000
        #expect(figures.percentile(0.99) == 10)
    }
}
