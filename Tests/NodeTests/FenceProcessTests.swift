// FenceProcessTests: the real fence in a real network namespace: what the kernel shows when it is told, killed or frozen.

import Glibc
import Gossip
import Testing

@testable import Node

@Suite(.serialized, .enabled(if: geteuid() == 0, "needs root, to make network namespaces"))
struct FenceProcessTests {
    /// A bench whose fence has said `ready`.
    private func bench(_ vips: [String] = [FenceBench.vip], before: String = ":") throws -> FenceBench {
        let bench = try FenceBench(vips: vips, before: before)
        let ready = bench.live(3000) { $0.has(.answer(.ready)) }
        try #require(ready, "no ready from \(FenceBench.program): \(bench.record.prefix(3))")
        return bench
    }

    /// A bench whose fence holds.
    private func holding(_ vips: [String] = [FenceBench.vip]) throws -> FenceBench {
        let bench = try bench(vips)
        bench.leads = true
        let held = bench.live(2000) { $0.has(.answer(.held(term: 7))) }
        try #require(held, "not held: \(bench.record)")
        return bench
    }

    @Test func addsRenewsAndDrops() throws {
        let bench = try bench()
        defer { bench.close() }
        var adds: [Double] = []
        var drops: [Double] = []
        for _ in 0..<15 {
            bench.forget()
            let told = bench.nowMs
            bench.hold()
            bench.leads = true
            #expect(bench.live(1000) { $0.has(.answer(.held(term: 7))) }, "\(bench.record)")
            adds.append((bench.times(of: .appeared(FenceBench.vip)).first ?? .infinity) - told)
            bench.leads = false
            let ended = bench.nowMs
            bench.drop()
            #expect(
                bench.live(1000) { $0.has(.answer(.dropped(order: $0.order, term: 7, cause: .commanded))) },
                "\(bench.record)")
            drops.append((bench.times(of: .vanished(FenceBench.vip)).first ?? .infinity) - ended)
            #expect(!bench.isUp())
        }
        print("fence: hold to address visible \(median(adds)) ms, drop to address gone \(median(drops)) ms (medians)")
        #expect(median(adds) < 20)
        #expect(median(drops) < 20)
    }
}
