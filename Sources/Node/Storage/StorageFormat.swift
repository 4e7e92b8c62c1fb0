// StorageFormat: the bytes of the log file, and what is made of them at start. Pure: bytes in, an image out.
//
//   file     = "triad log 1\n" frame(base) frame(changes)*
//   frame    = "TRFR" length(4) sequence(8) checksum of the payload(4) checksum of these 20 bytes(4) payload
//   base     = identity boot term vote snapshot? entries changes   everything, as when the file was written anew
//   changes  = (vote | entries | joined | boot)*                      what one group commit added
//
// Big-endian; checksums are CRC-32C. A frame is written in one piece and made durable before the next one begins.
// That decides what a bad frame means:
//
//   a good frame follows it         it was durable once: the file is damaged
//   the file ends within it, or a
//   sector of it was never written  a crash cut the write short: nobody was told it succeeded, so it is cut off
//   else                            it is complete and wrong: the file is damaged
//
// "Never written" reads as zeros. So that this can't be mistaken either way, a payload ends with 8 to 15 bytes of
// padding (255) that bring the frame's end to a multiple of 8: whatever share a sector has of a frame is 8 bytes or
// more, and the first (with the magic) and last hold more bytes that aren't zero than one flipped byte could hide.
//
// Damage is refused, never repaired by guessing: what is lost may be a vote or an acknowledged change.

import Gossip

enum StorageFormat {
    static let preamble = Array("triad log 1\n".utf8)
    static let headerBytes = 24
    /// Disks write at least this much at once.
    static let sectorBytes = 512
    /// Frames end at a multiple of it, and no sector's share of one is smaller.
    static let alignment = 8
    /// Payload of a frame: a snapshot and the entries after it, with room to spare.
    static let payloadBytesMax = 128 << 20
    static let identityBytesMax = 160
    private static let magic = Array("TRFR".utf8)
    private static let entryBytesMax = 4096

    /// Bytes that are wrong and were right once.
    struct Damage: Error, Equatable {
        var offset: Int
        var text: String
    }

    struct Recovery: Equatable {
        var image: StorageImage
        /// Of the next frame.
        var sequence: UInt64
        /// Where the next frame goes.
        var end: Int
        /// Bytes after `end`, of a write that a crash cut short.
        var tornBytes: Int
    }

    // MARK: Writing

    /// A new file that holds all of `image`.
    static func file(_ image: StorageImage) -> [UInt8] {
        preamble + frame(base(image), sequence: 0, at: preamble.count)
    }

    /// - Parameter offset: where in the file it will stand.
    static func frame(_ content: [UInt8], sequence: UInt64, at offset: Int) -> [UInt8] {
        let end = offset + headerBytes + content.count + alignment
        let rest = (alignment - end % alignment) % alignment
        let payload = content + [UInt8](repeating: Tag.padding, count: alignment + rest)
        var header = ByteWriter(reserving: headerBytes + payload.count)
        header.raw(magic)
        header.fixed32(UInt32(payload.count))
        header.fixed64(sequence)
        header.fixed32(CRC32C.checksum(payload))
        header.fixed32(CRC32C.checksum(header.bytes))
        header.raw(payload)
        return header.bytes
    }

    /// What a group commit adds. Snapshots aren't added: with one, the file is written anew.
    static func changes(_ operations: [StorageOperation]) -> [UInt8] {
        var writer = ByteWriter()
        for operation in operations {
            switch operation {
            case .vote(let term, let votedFor):
                writer.byte(Tag.vote)
                write(term: term, votedFor: votedFor, to: &writer)
            case .append(let entries):
                writer.byte(Tag.entries)
                write(entries, to: &writer)
            case .joined(let votesFromTerm):
                writer.byte(Tag.joined)
                writer.varint(votesFromTerm)
            case .snapshot: preconditionFailure("a snapshot is written with a new file")
            }
        }
        return writer.bytes
    }

    private enum Tag {
        static let vote: UInt8 = 1
        static let entries: UInt8 = 2
        /// As earlier versions wrote it: now it is in the base alone.
        static let boot: UInt8 = 3
        static let joined: UInt8 = 4
        static let padding: UInt8 = 255
    }

    private static func base(_ image: StorageImage) -> [UInt8] {
        var writer = ByteWriter(reserving: 4096)
        writer.string(image.identity)
        writer.fixed64(image.boot)
        write(term: image.state.term, votedFor: image.state.votedFor, to: &writer)
        writer.flag(image.state.snapshot != nil)
        if let snapshot = image.state.snapshot {
            writer.varint(snapshot.lastIndex)
            writer.varint(snapshot.lastTerm)
            writer.block(snapshot.bytes)
        }
        write(image.state.entries, to: &writer)
        if let term = image.state.votesFromTerm { writer.raw(changes([.joined(votesFromTerm: term)])) }
        return writer.bytes
    }

    private static func write(term: UInt64, votedFor: String?, to writer: inout ByteWriter) {
        writer.varint(term)
        writer.flag(votedFor != nil)
        if let votedFor { writer.string(votedFor) }
    }

    private static func write(_ entries: [Entry], to writer: inout ByteWriter) {
        writer.varint(entries.count)
        for entry in entries { writer.block(entry.encode()) }
    }

    // MARK: Reading

    static func recover(_ bytes: [UInt8]) throws(Damage) -> Recovery {
        guard bytes.starts(with: preamble) else {
            let isOther = bytes.starts(with: Array("triad log ".utf8))
            throw Damage(offset: 0, text: isOther ? "it is of another version" : "it doesn't begin as a log does")
        }
        var offset = preamble.count
        // A file gets its name only once its first frame is durable, so that one can't be torn.
        guard case .good(let base, let next) = read(bytes, at: offset, sequence: 0) else {
            throw Damage(offset: offset, text: "its first record fails its checksum")
        }
        var reader = ByteReader(base)
        var image = StorageImage(from: &reader)
        try apply(&reader, at: offset, to: &image)
        var sequence: UInt64 = 1
        offset = next
        while offset < bytes.count {
            switch read(bytes, at: offset, sequence: sequence) {
            case .good(let payload, let next):
                var reader = ByteReader(payload)
                try apply(&reader, at: offset, to: &image)
                offset = next
                sequence += 1
            case .bad(let end):
                if hasFrame(bytes, after: offset, sequence: sequence) || !isTorn(bytes, from: offset, to: end) {
                    throw Damage(offset: offset, text: "the record there fails its checksum")
                }
                let torn = bytes.count - offset
                return Recovery(image: image, sequence: sequence, end: offset, tornBytes: torn)
            }
        }
        return Recovery(image: image, sequence: sequence, end: offset, tornBytes: 0)
    }

    private enum Frame {
        case good(payload: ArraySlice<UInt8>, next: Int)
        /// - Parameter end: where it would end; nil when the file ends first.
        case bad(end: Int?)
    }

    private static func read(_ bytes: [UInt8], at offset: Int, sequence: UInt64) -> Frame {
        guard offset + headerBytes <= bytes.count else { return .bad(end: nil) }
        let header = bytes[offset..<offset + headerBytes]
        var reader = ByteReader(header)
        let found = reader.raw(4)
        let length = Int(reader.fixed32())
        let number = reader.fixed64()
        let checksum = reader.fixed32()
        guard found == magic, reader.fixed32() == CRC32C.checksum(header.dropLast(4)), length <= payloadBytesMax else {
            return .bad(end: bytes.count)
        }
        let start = offset + headerBytes
        guard start + length <= bytes.count else { return .bad(end: nil) }
        let payload = bytes[start..<start + length]
        guard number == sequence, CRC32C.checksum(payload) == checksum else { return .bad(end: start + length) }
        return .good(payload: payload, next: start + length)
    }

    /// Whether a later frame stands anywhere after a bad one.
    private static func hasFrame(_ bytes: [UInt8], after offset: Int, sequence: UInt64) -> Bool {
        var place = offset + 1
        while place + headerBytes <= bytes.count {
            if bytes[place] == magic[0], bytes[place..<place + 4].elementsEqual(magic) {
                var reader = ByteReader(bytes[place + 8..<place + 16])
                let number = reader.fixed64()
                if number > sequence, case .good = read(bytes, at: place, sequence: number) { return true }
            }
            place += 1
        }
        return false
    }

    /// Whether a crash can have left these bytes: the file ends early, or a sector's share of them is all zeros.
    private static func isTorn(_ bytes: [UInt8], from start: Int, to end: Int?) -> Bool {
        guard let end else { return true }
        // A cut within a sector, where the medium writes less than one at once.
        if bytes[max(start, end - alignment)..<end].allSatisfy({ $0 == 0 }) { return true }
        var piece = start
        while piece < end {
            let pieceEnd = min(end, (piece / sectorBytes + 1) * sectorBytes)
            // Less only in a file of an earlier version: a few zeros may be content, and refusing is the safe side.
            if pieceEnd - piece >= alignment, bytes[piece..<pieceEnd].allSatisfy({ $0 == 0 }) { return true }
            piece = pieceEnd
        }
        return false
    }

    private static func apply(
        _ reader: inout ByteReader, at offset: Int, to image: inout StorageImage
    ) throws(Damage) {
        while reader.remaining > 0, !reader.failed {
            switch reader.byte() {
            case Tag.boot: image.boot = reader.fixed64()
            case Tag.vote:
                let vote = readVote(&reader)
                try apply(.vote(term: vote.term, votedFor: vote.votedFor), at: offset, to: &image)
            case Tag.entries: try apply(.append(readEntries(&reader)), at: offset, to: &image)
            case Tag.joined: try apply(.joined(votesFromTerm: reader.varint()), at: offset, to: &image)
            case Tag.padding: if !isPadding(&reader) { reader.fail() }
            default: reader.fail()
            }
        }
        if reader.failed { throw Damage(offset: offset, text: "the record there makes no sense") }
    }

    private static func apply(
        _ operation: StorageOperation, at offset: Int, to image: inout StorageImage
    ) throws(Damage) {
        do {
            try image.apply(operation)
        } catch {
            throw Damage(offset: offset, text: "the record there holds \(error)")
        }
    }

    /// Whether nothing but padding is left; takes it.
    private static func isPadding(_ reader: inout ByteReader) -> Bool {
        !reader.failed && reader.raw(reader.remaining).allSatisfy { $0 == Tag.padding }
    }

    fileprivate static func readVote(_ reader: inout ByteReader) -> (term: UInt64, votedFor: String?) {
        let term = reader.varint()
        return (term, reader.flag() ? reader.string(limit: Limits.nameBytesMax) : nil)
    }

    fileprivate static func readEntries(_ reader: inout ByteReader) -> [Entry] {
        let count = reader.count(limit: 1 << 24)
        var entries: [Entry] = []
        for _ in 0..<count {
            guard let entry = Entry.decode(reader.block(limit: entryBytesMax)) else {
                reader.fail()
                return []
            }
            entries.append(entry)
        }
        return entries
    }
}

extension StorageImage {
    fileprivate init(from reader: inout ByteReader) {
        identity = reader.string(limit: StorageFormat.identityBytesMax)
        boot = reader.fixed64()
        let vote = StorageFormat.readVote(&reader)
        var snapshot: Snapshot?
        if reader.flag() {
            snapshot = Snapshot(
                lastIndex: reader.varint(), lastTerm: reader.varint(),
                bytes: reader.block(limit: Limits.snapshotBytesMax))
        }
        let entries = StorageFormat.readEntries(&reader)
        state = RecoveredState(term: vote.term, votedFor: vote.votedFor, snapshot: snapshot)
        do {
            try apply(.append(entries))
        } catch {
            reader.fail()
        }
    }
}

extension ByteWriter {
    mutating func fixed32(_ value: UInt32) {
        for shift in stride(from: UInt32(24), through: 0, by: -8) { byte(UInt8(truncatingIfNeeded: value >> shift)) }
    }
}

extension ByteReader {
    mutating func fixed32() -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 { value = value << 8 | UInt32(byte()) }
        return value
    }
}
