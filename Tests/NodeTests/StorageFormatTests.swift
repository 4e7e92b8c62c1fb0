// StorageFormatTests: checksums, and what is made of a log whose bytes are wrong.

import Gossip
import Testing

@testable import Node

/// Entries, votes and snapshots to store.
enum Stored {
    static func entry(_ index: UInt64, term: UInt64 = 1) -> Entry {
        let server = ServerID(backend: "api", server: "api_\(index)")
        let request = index % 2 == 0 ? RequestID(origin: MemberID(1), boot: 7, number: index) : nil
        return Entry(index: index, term: term, request: request, command: .setWeight(server, weight: Int(index % 257)))
    }

    static func entries(_ range: ClosedRange<UInt64>, term: UInt64 = 1) -> [Entry] {
        range.map { entry($0, term: term) }
    }

    static func snapshot(_ index: UInt64, term: UInt64 = 1, bytes: Int = 300) -> Snapshot {
        Snapshot(lastIndex: index, lastTerm: term, bytes: (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) })
    }
}

@Suite struct CRC32CTests {
    /// RFC 3720, appendix B.4, and the usual check value.
    @Test(
        arguments: [
            ([UInt8](repeating: 0, count: 32), 0x8a91_36aa), ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
            ([UInt8](0..<32), 0x46dd_794e), ([UInt8]((0..<32).reversed()), 0x113f_db5c),
            (Array("123456789".utf8), 0xe306_9283), ([], 0),
        ] as [([UInt8], UInt32)])
    func vectors(_ bytes: [UInt8], _ expected: UInt32) { #expect(CRC32C.checksum(bytes) == expected) }
}

@Suite struct StorageImageTests {
    @Test func entriesReplaceWhatFollows() throws {
        var image = StorageImage()
        try image.apply(.append(Stored.entries(1...5)))
        try image.apply(.append(Stored.entries(3...4, term: 2)))
        #expect(image.state.entries == Stored.entries(1...2) + Stored.entries(3...4, term: 2))
    }

    @Test func aSnapshotTakesThePlaceOfEntries() throws {
        var image = StorageImage()
        try image.apply(.append(Stored.entries(1...5)))
        try image.apply(.snapshot(Stored.snapshot(3), discardsLog: false))
        #expect(image.state.entries == Stored.entries(4...5))
        try image.apply(.snapshot(Stored.snapshot(4), discardsLog: true))
        #expect(image.state.entries.isEmpty)
        #expect(image.lastIndex == 4)
        try image.apply(.append(Stored.entries(5...6)))
        try image.apply(.snapshot(Stored.snapshot(9), discardsLog: false))
        #expect(image.state.entries.isEmpty)
        #expect(image.lastIndex == 9)
    }

    @Test(
        arguments: [
            (.append(Stored.entries(7...8)), "an entry of index 7 where 4 to 6 may follow"),
            (.append(Stored.entries(3...8)), "an entry of index 3 where 4 to 6 may follow"),
            (.append([Stored.entry(6), Stored.entry(8)]), "an entry of index 8 where 7 must follow"),
            (.vote(term: 1, votedFor: nil), "a vote of term 1 after term 2"),
        ] as [(StorageOperation, String)])
    func disorderIsRefused(_ operation: StorageOperation, _ text: String) throws {
        var image = StorageImage()
        try image.apply(.vote(term: 2, votedFor: "n1"))
        try image.apply(.append(Stored.entries(1...5)))
        try image.apply(.snapshot(Stored.snapshot(3), discardsLog: false))
        #expect(throws: StorageImage.Disorder(description: text)) { try image.apply(operation) }
    }
}

@Suite struct StorageFormatTests {
    /// A log of a base and several frames, and where each frame begins.
    private struct Log {
        var bytes: [UInt8]
        var starts: [Int]
        /// What the log holds up to each start, and then all of it.
        var images: [StorageImage]

        init(snapshot: Bool = true) throws {
            var image = StorageImage(identity: "web/n1", boot: 5)
            try image.apply(.vote(term: 2, votedFor: "n1"))
            if snapshot {
                try image.apply(.snapshot(Stored.snapshot(10), discardsLog: true))
                try image.apply(.append(Stored.entries(11...12)))
            }
            bytes = StorageFormat.file(image)
            starts = []
            images = [image]
            let first = image.lastIndex + 1
            let changes: [[StorageOperation]] = [
                [.append(Stored.entries(first...first + 2, term: 2))], [.vote(term: 3, votedFor: nil)],
                [.vote(term: 4, votedFor: "n2"), .append(Stored.entries(first + 1...first + 20, term: 4))],
                [.append([Stored.entry(first + 21, term: 4)])],
            ]
            for (index, operations) in changes.enumerated() {
                starts.append(bytes.count)
                bytes += StorageFormat.frame(
                    StorageFormat.changes(operations), sequence: UInt64(index + 1), at: bytes.count)
                for operation in operations { try image.apply(operation) }
                images.append(image)
            }
        }
    }

    private func damage(_ bytes: [UInt8]) -> StorageFormat.Damage? {
        do {
            _ = try StorageFormat.recover(bytes)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [true, false]) func everythingComesBack(snapshot: Bool) throws {
        let log = try Log(snapshot: snapshot)
        let recovery = try StorageFormat.recover(log.bytes)
        #expect(recovery.image == log.images.last)
        #expect(recovery == .init(image: recovery.image, sequence: 5, end: log.bytes.count, tornBytes: 0))
    }

    /// An earlier version added them to the file.
    @Test func bootsComeBack() throws {
        let bytes = StorageFormat.file(StorageImage(boot: 5))
        let frame = StorageFormat.frame([3, 0, 0, 0, 0, 0, 0, 0, 99], sequence: 1, at: bytes.count)
        #expect(try StorageFormat.recover(bytes + frame).image.boot == 99)
    }

    /// A crash may leave any part of the last write. Whatever was durable before it is kept.
    @Test func aTailCutAtAnyByteIsDropped() throws {
        let log = try Log()
        for length in log.starts[0]...log.bytes.count {
            let recovery = try StorageFormat.recover(Array(log.bytes[..<length]))
            let whole = log.starts.filter { $0 <= length }
            let isWhole = length == log.bytes.count
            #expect(recovery.image == log.images[isWhole ? 4 : whole.count - 1], "cut at \(length)")
            #expect(recovery.end == (isWhole ? length : whole[whole.count - 1]))
            #expect(recovery.tornBytes == length - recovery.end)
        }
    }

    /// The file got its length, but not all of its sectors.
    @Test func aTailWithSectorsThatWereNeverWrittenIsDropped() throws {
        let base = try Log()
        let entries = StorageFormat.changes([.append(Stored.entries(34...190, term: 4))])
        let bytes = base.bytes + StorageFormat.frame(entries, sequence: 5, at: base.bytes.count)
        let start = base.bytes.count
        #expect(bytes.count - start > 4 * 512)
        var sector = start / 512 * 512
        while sector < bytes.count {
            var torn = bytes
            for index in max(sector, start)..<min(sector + 512, bytes.count) { torn[index] = 0 }
            let recovery = try StorageFormat.recover(torn)
            #expect(recovery.image == base.images.last)
            #expect(recovery.end == start)
            sector += 512
        }
        let zeros = try StorageFormat.recover(base.bytes + [UInt8](repeating: 0, count: 3000))
        #expect(zeros.end == start)
        #expect(zeros.tornBytes == 3000)
    }

    /// Each bit of the file up to the last frame, flipped: it was durable once, so nothing may be guessed.
    @Test func aFlippedBitInTheMiddleIsRefused() throws {
        let log = try Log()
        let last = log.starts[3]
        for index in 0..<last {
            var bytes = log.bytes
            bytes[index] ^= 1 << UInt8(index % 8)
            let start =
                log.starts.last { $0 <= index }
                ?? (index < StorageFormat.preamble.count ? 0 : StorageFormat.preamble.count)
            #expect(damage(bytes)?.offset == start, "bit \(index % 8) of byte \(index)")
        }
    }

    /// The last frame is complete: a flipped bit in it is no crash either.
    @Test func aFlippedBitInTheLastFrameIsRefused() throws {
        let log = try Log()
        for index in log.starts[3]..<log.bytes.count {
            for bit in 0..<8 {
                var bytes = log.bytes
                bytes[index] ^= 1 << UInt8(bit)
                #expect(damage(bytes)?.offset == log.starts[3], "bit \(bit) of byte \(index)")
            }
        }
    }

    /// Wherever frames stand, no sector has so small a share of one that its loss could be taken for anything else.
    @Test func framesAreAligned() throws {
        let log = try Log()
        for start in log.starts + [log.bytes.count] {
            #expect(start % 8 == 0)
            #expect(start == 0 || log.bytes[start - 8..<start].allSatisfy { $0 == 255 })
        }
    }

    /// Files of versions that didn't pad.
    @Test func unpaddedFramesAreRead() throws {
        var bytes = StorageFormat.preamble
        let payloads: [[UInt8]] = [[0, 0, 0, 0, 0, 0, 0, 0, 5, 2, 0, 0, 0], [1, 3, 1, 2, 110, 49]]
        for (sequence, payload) in payloads.enumerated() {
            var header = ByteWriter()
            header.raw("TRFR".utf8)
            header.fixed32(UInt32(payload.count))
            header.fixed64(UInt64(sequence))
            header.fixed32(CRC32C.checksum(payload))
            header.fixed32(CRC32C.checksum(header.bytes))
            bytes += header.bytes + payload
        }
        let image = try StorageFormat.recover(bytes).image
        #expect(image == StorageImage(boot: 5, state: RecoveredState(term: 3, votedFor: "n1")))
    }

    @Test func aMissingOrRepeatedFrameIsRefused() throws {
        let log = try Log()
        let missing = Array(log.bytes[..<log.starts[1]] + log.bytes[log.starts[2]...])
        #expect(damage(missing)?.offset == log.starts[1])
        let repeated = Array(log.bytes[..<log.starts[1]] + log.bytes[log.starts[0]...])
        #expect(damage(repeated)?.offset == log.starts[1])
    }

    @Test func aTornFirstFrameIsRefused() throws {
        let bytes = StorageFormat.file(StorageImage(identity: "web/n1"))
        for length in 0..<bytes.count { #expect(damage(Array(bytes[..<length])) != nil) }
        #expect(damage(Array("triad log 2\n".utf8))?.text == "it is of another version")
        #expect(damage(Array("hello".utf8)) == .init(offset: 0, text: "it doesn't begin as a log does"))
    }

    @Test func contentThatMakesNoSenseIsRefusedDespiteItsChecksum() throws {
        let log = try Log()
        for payload: [UInt8] in [[9], [1], [2, 1, 3, 0, 0, 0], StorageFormat.changes([.append([Stored.entry(99)])])] {
            let bytes = log.bytes + StorageFormat.frame(payload, sequence: 5, at: log.bytes.count)
            #expect(damage(bytes)?.offset == log.bytes.count)
        }
    }

    @Test func anyBytesAreAnswered() {
        var generator = SplitMix(seed: 42)
        for _ in 0..<2000 {
            var bytes =
                StorageFormat.preamble
                + (0..<Int(generator.next() % 200)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            if bytes.count > 40 { bytes.replaceSubrange(12..<16, with: Array("TRFR".utf8)) }
            #expect(damage(bytes) != nil)
        }
    }
}

/// A seeded generator (SplitMix64), so that a failing run repeats.
struct SplitMix {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
