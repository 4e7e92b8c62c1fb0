// HeadFuzz: heads of requests and responses. What is accepted is accepted however it arrives, lies within its bytes, agrees
// with a second reading that shares no code with the parser, and is written anew as something that means the same.

@testable import Proxy

/// A buffer pool with the input in one buffer and what is written in another.
struct HeadStage: ~Copyable {
    let pool = BufferPool(smallBytes: 16 << 10, smallMax: 2)
    let source: Int32
    let target: Int32

    init(_ input: [UInt8]) {
        source = pool.take()
        target = pool.take()
        pool.store(ContiguousArray(input), source, 0)
    }

    func stretch(_ range: Range<Int>) -> Stretch {
        Stretch(buffer: source, start: Int32(range.lowerBound), end: Int32(range.upperBound))
    }

    /// Where the head that starts at `start` ends; nil when it doesn't, or is refused.
    func end(of input: [UInt8], from start: Int) throws -> Int? {
        var whole = HeadScan()
        let outcome = whole.advance(pool, stretch(start..<input.count))
        var pieces = HeadScan()
        var division = Division(input)
        var seen = start
        var piecewise = HeadScan.Outcome.needMore
        while seen < input.count, piecewise == .needMore {
            seen = min(input.count, seen + division.next(200))
            piecewise = pieces.advance(pool, stretch(start..<seen))
        }
        try require(outcome == piecewise, "in one piece \(outcome), in pieces \(piecewise)")
        guard case .complete(let count) = outcome else { return nil }
        try require(count >= 2 && start + count <= input.count, "a head of \(count) bytes in \(input.count - start)")
        return start + count
    }

    /// What was written is one head with nothing behind it.
    func written(_ count: Int) throws -> Stretch {
        let stretch = Stretch(buffer: target, start: 0, end: Int32(count))
        var scan = HeadScan()
        let outcome = scan.advance(pool, stretch)
        try require(outcome == .complete(count), "the head written has \(count) bytes, and is read as \(outcome)")
        return stretch
    }

    func text(_ stretch: Stretch) -> [UInt8] { pool.bytes(stretch) { span in (0..<span.count).map { span[$0] } } }
}

/// A second reading of a head: naive, on arrays.
struct PlainHead {
    let first: [UInt8]
    let fields: [(name: String, value: String)]

    /// nil: no line of it may be read as something else by a more lenient reader.
    init?(_ bytes: [UInt8]) {
        guard bytes.suffix(4) == [13, 10, 13, 10] else { return nil }
        var lines: [[UInt8]] = [[]]
        var at = 0
        while at < bytes.count - 2 {
            if bytes[at] == 13, bytes[at + 1] == 10 {
                lines.append([])
                at += 2
            } else {
                if bytes[at] == 13 || bytes[at] == 10 || bytes[at] == 0 { return nil }
                lines[lines.count - 1].append(bytes[at])
                at += 1
            }
        }
        first = lines[0]
        var fields: [(String, String)] = []
        for line in lines.dropFirst().dropLast() {
            guard let colon = line.firstIndex(of: 58), colon > 0, line[0] > 32, line[colon - 1] > 32 else { return nil }
            func blank(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 }
            let value = line[(colon + 1)...].drop(while: blank).reversed().drop(while: blank).reversed()
            fields.append(
                (String(decoding: line[..<colon], as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self)))
        }
        self.fields = fields
    }

    func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

    /// The pairs of all Cookie lines. A lone `=` is none: neither name nor value.
    var cookies: [(name: [UInt8], pair: [UInt8])] {
        func trimmed(_ bytes: some Sequence<UInt8>) -> [UInt8] {
            func blank(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 }
            return Array(Array(bytes.drop(while: blank)).reversed().drop(while: blank).reversed())
        }
        return values("cookie").flatMap { $0.utf8.split(separator: 59) }.map { trimmed($0) }.filter {
            !$0.isEmpty && $0 != [61]
        }
        .map { (trimmed($0.prefix { $0 != 61 }), $0) }
    }

    /// The elements of all of a list field's lines, in lower case.
    func elements(_ name: String) -> [String] {
        values(name).flatMap { $0.split(separator: ",") }.map { element in
            String(element.drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
                .lowercased()
        }
    }
}

extension FieldTable {
    /// Every offset lies within the head, in order.
    func requireWithin(_ start: Int, _ end: Int) throws {
        var last = start
        for index in 0..<count {
            let field = self[index]
            let offsets = [
                last, Int(field.start), Int(field.nameEnd), Int(field.valueStart), Int(field.valueEnd), Int(field.end),
            ]
            try require(zip(offsets, offsets.dropFirst()).allSatisfy { $0 <= $1 }, "field \(index): \(offsets)")
            try require(Int(field.start) == last, "field \(index) doesn't follow on the one before: \(offsets)")
            last = Int(field.end)
        }
        try require(last == end - 2, "the fields end at \(last), the head at \(end)")
    }
}

enum RequestFuzz {
    static func run(_ input: [UInt8]) throws {
        let stage = HeadStage(input)
        // Empty lines before a request are read over (RFC 9112, 2.2).
        var start = 0
        while input[start...].starts(with: [13, 10]) { start += 2 }
        guard let end = try stage.end(of: input, from: start) else { return }
        let from = stage.stretch(start..<end)
        var table = FieldTable(max: 100)
        guard let head = stage.pool.bytes(from, { try? RequestHead.parse($0, into: &table, bodyMax: 1 << 40) }) else {
            return
        }
        try judge(head, table, count: end - start)
        let plain = try second(head, Array(input[start..<end]))
        try rewritten(head, table, plain, from: from, stage)
        try FramerPieces.compare(head.framing, Array(input[end...]))
    }

    private static func judge(_ head: RequestHead, _ table: FieldTable, count: Int) throws {
        for range in [head.path, head.authority, head.host] {
            try require(range.lowerBound >= 0 && range.upperBound <= count, "\(range) in a head of \(count) bytes")
        }
        try require(head.methodEnd > 0 && head.methodEnd < head.fieldsStart, "the method ends at \(head.methodEnd)")
        try table.requireWithin(head.fieldsStart, count)
    }

    /// What a careful reader of the plain text says about its framing.
    private static func second(_ head: RequestHead, _ bytes: [UInt8]) throws -> PlainHead {
        guard let plain = PlainHead(bytes) else {
            throw FuzzFinding(description: "accepted, though a line of it can be read in two ways")
        }
        let codings = plain.values("transfer-encoding")
        let lengths = plain.values("content-length")
        try require(codings.isEmpty || lengths.isEmpty, "a coding and a length")
        try require(codings.count <= 1 && lengths.count <= 1, "two codings or two lengths")
        try require(plain.values("host").count <= 1, "two hosts")
        let framing: BodyFramer
        if let coding = codings.first {
            try require(coding.lowercased() == "chunked", "the coding \(coding)")
            framing = .chunked
        } else if let length = lengths.first {
            try require(!length.isEmpty && length.utf8.allSatisfy(Bytes.isDigit), "the length \(length)")
            framing = .length(UInt64(length) ?? .max)
        } else {
            framing = .empty
        }
        try require(head.framing == framing, "framed as \(head.framing), and reads as \(framing)")
        return plain
    }

    private static func rewritten(
        _ head: RequestHead, _ table: FieldTable, _ plain: PlainHead, from: Stretch, _ stage: borrowing HeadStage
    ) throws {
        var writer = HeadWriter(stage.pool, stage.target)
        stage.pool.store("bs", stage.target, 16_000)
        Rewrite.request(
            head, table, stage.pool, from: from, peer: SocketAddress(high: 1 << 56, low: 0, port: 9, isIPv6: false),
            host: Stretch(buffer: stage.target, start: 16_000, end: 16_001),
            ownCookie: Stretch(buffer: stage.target, start: 16_001, end: 16_002), into: &writer)
        guard !writer.overflowed, writer.at < 16_000 else { return }
        let written = try stage.written(writer.at)
        var again = FieldTable(max: 200)
        let second = stage.pool.bytes(written) { try? RequestHead.parse($0, into: &again, bodyMax: 1 << 40) }
        guard let second, let text = PlainHead(stage.text(written)) else {
            throw FuzzFinding(description: "what is forwarded would be refused here")
        }
        try require(second.framing == head.framing, "framed as \(head.framing), forwarded as \(second.framing)")
        try require(second.method == head.method, "the method \(head.method) is forwarded as \(second.method)")
        try require(second.upgrades == head.upgrades, "the wish to switch protocols isn't forwarded as it was")
        try require(text.values("host").count == 1, "hosts forwarded: \(text.values("host"))")
        try require(second.authority.isEmpty && second.minorVersion == 1, "not in the form that servers get")
        let named = Set(plain.elements("connection")).subtracting(["upgrade"])
        let options = text.elements("connection")
        try require([[], ["upgrade"], ["te"]].contains(options), "forwarded with Connection: \(options)")
        try require(text.values("te") == (options == ["te"] ? ["trailers"] : []), "TE: \(text.values("te"))")
        for name in ["keep-alive", "proxy-connection", "proxy", "x_forwarded_for"] {
            try require(text.values(name).isEmpty, "\(name) is forwarded")
        }
        // Ours are written anew; what frames a message or names its host is never taken away by being named.
        let identity = ["server", "via", "x-powered-by"]
        let framed = ["host", "content-length", "transfer-encoding", "expect", "upgrade", "te", "max-forwards"]
        let kept = framed + identity
        for field in text.fields where named.contains(field.name) && !field.name.hasPrefix("x-forwarded-") {
            try require(kept.contains(field.name), "\(field.name) is forwarded, though Connection names it")
        }
        let others = named.contains("cookie") ? [] : plain.cookies.filter { $0.name != [115] }.map(\.pair)
        try require(text.cookies.map(\.pair) == others, "of cookies \(text.cookies) are forwarded, not \(others)")
    }
}

enum ResponseFuzz {
    static func run(_ input: [UInt8]) throws {
        let stage = HeadStage(input)
        guard let end = try stage.end(of: input, from: 0), end > 2 else { return }
        let from = stage.stretch(0..<end)
        for isHead in [false, true] {
            var table = FieldTable(max: 100)
            let parsed = stage.pool.bytes(from) { ResponseHead.parse($0, into: &table, isHead: isHead) }
            guard let head = parsed else { continue }
            try require(100...599 ~= head.status, "status \(head.status)")
            try table.requireWithin(head.fieldsStart, end)
            try second(head, Array(input[..<end]), isHead: isHead)
            for decoded in [false, true] where !decoded || head.framing.kind == .chunked {
                try rewritten(head, table, from: from, stage, isHead: isHead, decoded: decoded)
            }
            try FramerPieces.compare(head.framing, Array(input[end...]))
        }
    }

    private static func second(_ head: ResponseHead, _ bytes: [UInt8], isHead: Bool) throws {
        guard let plain = PlainHead(bytes) else {
            throw FuzzFinding(description: "accepted, though a line of it can be read in two ways")
        }
        let codings = plain.values("transfer-encoding").map { $0.lowercased() }
        let lengths = plain.values("content-length")
        let hasNoBody = isHead || head.status < 200 || head.status == 204 || head.status == 304
        let framing: BodyFramer
        if hasNoBody {
            framing = .empty
        } else if !codings.isEmpty {
            try require(codings == ["chunked"], "the codings \(codings)")
            try require(lengths.isEmpty, "a coding and a length")
            framing = .chunked
        } else if !lengths.isEmpty {
            try require(lengths.count == 1, "two lengths")
            framing = .length(UInt64(lengths[0]) ?? .max)
        } else {
            try require(!head.keepsAlive, "kept alive without an end")
            framing = .untilClose
        }
        try require(head.framing == framing, "framed as \(head.framing), and reads as \(framing)")
    }

    private static func rewritten(
        _ head: ResponseHead, _ table: FieldTable, from: Stretch, _ stage: borrowing HeadStage, isHead: Bool,
        decoded: Bool
    ) throws {
        var writer = HeadWriter(stage.pool, stage.target)
        Rewrite.response(
            head, table, stage.pool, from: from, persistence: .closes, isPlain: decoded, into: &writer)
        guard !writer.overflowed else { return }
        try require(
            writer.at <= from.count + Rewrite.responseGrowthMax, "\(from.count) bytes became \(writer.at)")
        let written = try stage.written(writer.at)
        var again = FieldTable(max: 200)
        let second = stage.pool.bytes(written) { ResponseHead.parse($0, into: &again, isHead: isHead) }
        guard let second, let text = PlainHead(stage.text(written)) else {
            throw FuzzFinding(description: "what is forwarded would be refused here")
        }
        let expected = decoded && head.framing.kind == .chunked ? BodyFramer.untilClose : head.framing
        try require(second.framing == expected, "framed as \(head.framing), forwarded as \(second.framing)")
        try require(second.status == head.status, "status \(head.status) is forwarded as \(second.status)")
        // 426 says what the client has to switch to (RFC 9110, 15.5.22).
        let options = head.status == 426 ? ["close, upgrade"] : ["close"]
        try require(text.values("connection") == options, "forwarded with \(text.values("connection"))")
        for name in ["server", "via", "x-powered-by", "keep-alive"] {
            try require(text.values(name).isEmpty, "\(name) is forwarded")
        }
    }
}
