// ObserverTests: the observer of ownership from outside, first its pure parts, then on a link with plain addresses: does it
// see who answers, a gap, a lapse, and above all two owners at once?

import Glibc
import Proxy
import Testing

@testable import Node

@Suite struct ObserverTests {
    private static let vip = SocketAddress(high: 0x0a4d_0064 << 32, low: 0, port: 0, isIPv6: false)
    private static let one: [UInt8] = [0x02, 0x77, 0, 0, 0, 11]
    private static let me: [UInt8] = [0x02, 0x77, 0, 0, 0, 17]

    /// Probes a millisecond apart; who answers each.
    private func record(_ answers: [[String]]) -> OwnershipRecord {
        AnswerLog(log(answers)).ownership(["a": "n1", "b": "n2"])
    }

    private func log(_ answers: [[String]]) -> String {
        var tracker = AnswerTracker()
        for (probe, stations) in answers.enumerated() {
            let sent = UInt64(probe + 1) * 1_000_000
            for station in stations { tracker.answered(station, probe: probe, sent: sent, at: sent + 100) }
            tracker.elapse(sent: sent)
        }
        tracker.complete(at: 9_000_000_000, probes: answers.count)
        return tracker.takeLines().joined(separator: "\n") + "\n"
    }

    private func times(_ count: Int, _ stations: [String]) -> [[String]] { Array(repeating: stations, count: count) }

    @Test func moveWithAGapIsNoOverlap() {
        let record = record(times(10, ["a"]) + times(3, []) + times(40, ["b"]))
        #expect(record.overlaps == [] && record.owners == ["n2"])
        #expect(record.gaps == [.init(after: "n1", from: 10_000_100, before: "n2", to: 14_000_100)])
        #expect(record.lapses == [])
    }

    @Test func moveFromOneProbeToTheNextIsNoOverlap() {
        let record = record(times(10, ["a"]) + times(40, ["b"]))
        #expect(record.overlaps == [] && record.changes.map(\.owns) == [true, false, true])
    }

    @Test func twoAnswersToOneProbeAreTwoOwners() {
        let once = record(times(10, ["a"]) + [["a", "b"]] + times(40, ["b"]))
        #expect(once.overlaps.map(\.nodes) == [["n1", "n2"]])
        let reversed = record(times(10, ["a"]) + [["b", "a"]] + times(40, ["b"]))
        #expect(reversed.overlaps.map { $0.nodes.sorted() } == [["n1", "n2"]])
    }

    @Test func anAnswerBetweenTwoOfAnotherIsTwoOwners() {
        let record = record(times(10, ["a"]) + [["b"]] + times(40, ["a"]))
        #expect(record.overlaps.map(\.nodes) == [["n1", "n2"]])
        #expect(record.owners == ["n1"])
    }

    @Test func aMoveThereAndBackIsNoOverlap() {
        let record = record(times(10, ["a"]) + times(30, ["b"]) + times(30, ["a"]))
        #expect(record.overlaps == [] && record.changes.filter(\.owns).map(\.node) == ["n1", "n2", "n1"])
    }

    @Test func aShortSilenceIsALapseAndALongOneAGap() {
        let short = record(times(10, ["a"]) + times(5, []) + times(10, ["a"]))
        #expect(short.gaps == [] && short.lapses.map(\.milliseconds) == [6])
        #expect(short.since(20_000_000).lapses == [])
        let long = record(times(10, ["a"]) + times(30, []) + times(10, ["a"]))
        #expect(long.lapses == [] && long.gaps.map(\.milliseconds) == [31])
    }

    @Test func aLogIsReadUpToItsLastWholeLine() {
        let text = log(times(2, ["a"])) + "g a 77 reply\ns 5 9\n- a 1 2000000 200"
        let read = AnswerLog(text)
        #expect(read.runs == [.init(station: "a", firstProbe: 0, firstAt: 1_000_100)])
        #expect(read.announcements == [.init(station: "a", at: 77, kind: "reply")])
        #expect(read.completeTo == 9_000_000_000 && read.stalls.map(\.from) == [5])
    }

    @Test func answersNameTheirProbe() throws {
        let frames = ProbeFrames(target: Self.vip, hardware: Self.me)
        let asked = frames.request(number: 64 + 5)
        #expect(asked.count == 42 && asked.prefix(6).allSatisfy { $0 == 0xff } && asked[21] == 1)
        // As a host answers: operation 2, its own address, then who asked.
        let answer = Self.me + Self.one + asked[12..<20] + [0, 2] + Self.one + asked[38..<42] + asked[22..<32]
        #expect(frames.read(answer[...]) == .answer(station: "02:77:00:00:00:0b", slot: 5))
        #expect(frames.read(asked[...]) == nil)
        #expect(frames.read(answer.dropLast()) == nil)
        let announced = Announcer.Frames.announcing(Self.vip, hardware: Self.one)
        #expect(
            announced.map { frames.read($0[...]) } == [
                .announcement(station: "02:77:00:00:00:0b", kind: "request"),
                .announcement(station: "02:77:00:00:00:0b", kind: "reply"),
            ])
        let other = SocketAddress(high: 0x0a4d_0065 << 32, low: 0, port: 0, isIPv6: false)
        #expect(Announcer.Frames.announcing(other, hardware: Self.one).allSatisfy { frames.read($0[...]) == nil })
    }

    @Test func announcementsOfIPv6AreRead() throws {
        let vip = try #require(SocketAddress(address: "fd77::100", port: 0))
        let frames = ProbeFrames(target: vip, hardware: Self.me)
        let announced = Announcer.Frames.announcing(vip, hardware: Self.one)
        #expect(
            announced.map { frames.read($0[...]) } == [
                .announcement(station: "02:77:00:00:00:0b", kind: "advertisement")
            ])
        #expect(frames.read(frames.request(number: 1)[...]) == nil)
    }
}

extension ClusterTests {
    @Test(arguments: [false, true]) func observerSeesWhoAnswers(_ isIPv6: Bool) throws {
        let lab = try Lab(inMemory: true, isIPv6: isIPv6)
        defer { lab.tearDown() }
        let network = lab.network
        let address = "\(network.vip)/\(network.vipPrefix) dev eth0\(isIPv6 ? " nodad" : "")"
        let (one, two) = (try network.host("n1"), try network.host("n2"))
        try lab.observe()
        try #require(try lab.ownership().changes == [])

        try network.ip(["addr add \(address)"], in: one)
        try lab.wait("n1 answers") { try lab.ownershipSoFar().owners == ["n1"] }
        try network.ip(["addr del \(address)"], in: one)
        try lab.wait("nobody answers") { try lab.ownershipSoFar().owners == [] }
        try network.ip(["addr add \(address)"], in: two)
        try lab.wait("n2 answers") { try lab.ownershipSoFar().owners == ["n2"] }
        let apart = try lab.ownership()
        #expect(apart.changes.map(\.node) == ["n1", "n1", "n2"] && apart.overlaps == [])
        #expect(apart.gaps.count == 1 && (apart.gaps.first?.milliseconds ?? 0) >= 20)

        // What must never be seen of a cluster: is it seen at all?
        try network.ip(["addr add \(address)"], in: one)
        try lab.wait("both answer") { try lab.ownershipSoFar().owners.count == 2 }
        try network.ip(["addr del \(address)"], in: two)
        try lab.wait("n1 answers alone") { try lab.ownershipSoFar().owners == ["n1"] }
        #expect(try lab.ownership().overlaps.map(\.nodes) == [["n2", "n1"]])

        // A node that keeps its address without answering for it owns nothing.
        let drop = isIPv6 ? "icmpv6 type nd-neighbor-solicit" : "arp daddr ip \(network.vip)"
        let chain = "chain in { type filter hook ingress device \"eth0\" priority 0; \(drop) drop; }"
        try network.nft("table netdev lab_gate { \(chain)\n}\n", in: one)
        try lab.wait("nobody answers") { try lab.ownershipSoFar().owners == [] }
        try #require(try lab.addresses().owners == ["n1"])
    }
}
