// FenceMessagesTests: what crosses the pair between main process and fence comes out as it went in, or not at all.

import Gossip
import Proxy
import Testing

@testable import Node

@Suite struct FenceMessagesTests {
    private static let members = ["10.0.0.11:7946", "[fd00::2]:7946", "10.0.0.13:7946"].compactMap { SocketAddress($0) }
    private static let keys: [[UInt8]] = [[UInt8](repeating: 1, count: 32), [UInt8](repeating: 2, count: 32)]

    private static let commands: [FenceCommand] = [
        .peers(boots: [1, .max, 0]), .reconfigured(members: members, keys: keys),
        .reconfigured(members: [members[0]], keys: []),
        .hold(until: Instant(nanoseconds: 1 << 50), term: 7, order: 9, release: [1, 2, 3]), .drop(order: 10), .bye,
        .yield(order: 11), .forward(to: nil), .forward(to: FlowRoute(MemberID(0))),
        .forward(
            to: FlowRoute(
                MemberID(6), detours: [.init(from: MemberID(6), to: MemberID(0)), .init(from: MemberID(0), to: nil)])),
    ]

    @Test(arguments: commands) func commandsComeThrough(_ command: FenceCommand) {
        let bytes = command.encoded()
        #expect(bytes.count <= FenceCommand.bytesMax)
        #expect(FenceCommand.decoded(bytes) == command)
        for length in 0..<bytes.count { #expect(FenceCommand.decoded(Array(bytes.prefix(length))) == nil) }
        #expect(FenceCommand.decoded(bytes + [0]) == nil)
    }

    @Test(arguments: [
        FenceAnswer.ready, .held(term: 9), .dropped(order: 3, term: 2, cause: .expired), .swept("a"), .restored("b"),
        .failed("c"), .recovered, .warning("d"), .died("e"), .gate(isUsable: true, reason: ""),
        .gate(isUsable: false, reason: "f"), .contested("g"),
    ])
    func answersComeThrough(_ answer: FenceAnswer) {
        let bytes = answer.encoded()
        #expect(FenceAnswer.decoded(bytes) == answer)
        for length in 0..<bytes.count { #expect(FenceAnswer.decoded(Array(bytes.prefix(length))) == nil) }
    }

    @Test func noiseIsNoCommand() {
        var generator = SplitMix(seed: 7)
        for kind in UInt8(0)...12 {
            for _ in 0..<300 {
                let noise = (0..<Int(generator.next() % 60)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
                guard let command = FenceCommand.decoded([kind] + noise) else { continue }
                #expect(FenceCommand.decoded(command.encoded()) == command)
            }
        }
    }
}
