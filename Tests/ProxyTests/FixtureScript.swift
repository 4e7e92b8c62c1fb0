// FixtureScript: reads the cases of Fixtures/*.txt: what each side sends, and what each must receive, byte for byte.
//
//   == a title                     starts a case
//   RFC 9112, 6.3                  the section whose rule it shows
//   with forwarded both            a setting of the frontend (FixturePlane lists them)
//   in every division              also run with the client's first bytes in two parts, divided at each place
//   C> GET / HTTP/1.1\r\n          the client sends; lines that follow each other go in one piece
//   S< GET / HTTP/1.1\r\n          the server must receive exactly this
//   S> HTTP/1.1 200 OK\r\n         the server sends
//   C< HTTP/1.1 200 OK\r\n         the client must receive exactly this (a Date that we added is left out)
//   C end, S end                   that side sends no more; the server's connection is closed
//   S new                          what comes next arrives on another connection to the server
//   S closed                       the server's connection is closed by us
//   refused 400                    the client is told so with Connection: close, and the connection ends. No server
//                                  got a whole message (or, if all came at once, any byte)
//   answered 502                   the client gets an answer of our own
//   open, closed                   the connection carries another request; it ends
//
// The end of a line isn't sent: what is sent stands there as \r\n. Other escapes: \t \0 \\ \xHH, and {a*300} for
// repetition. A line that begins with # is a comment.

import Foundation

struct FixtureCase: Sendable, CustomStringConvertible {
    enum Step: Sendable, Equatable {
        case clientSends([UInt8])
        case serverGets([UInt8])
        case serverSends([UInt8])
        case clientGets([UInt8])
        case clientEnds, serverEnds, serverIsNew, serverIsClosed
        case refused(Int)
        case answered(Int)
        case isOpen, isClosed
    }

    var file: String
    var line: Int
    var title: String
    var section = ""
    var settings: [(name: String, value: String)] = []
    var isDivided = false
    var steps: [Step] = []

    var description: String { "\(file):\(line): \(title)" }

    /// All that the client sends when it is refused without having been answered before; nil for other cases.
    var refusedBytes: [UInt8]? {
        guard case .refused = steps.last else { return nil }
        var bytes: [UInt8] = []
        for step in steps.dropLast() {
            guard case .clientSends(let more) = step else { return nil }
            bytes += more
        }
        return bytes
    }
}

struct FixtureProblem: Error, CustomStringConvertible {
    var description: String
}

enum FixtureScript {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

    static let files: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted()
    }()

    static func cases(of file: String) throws -> [FixtureCase] {
        let text = String(decoding: try Data(contentsOf: folder.appending(path: file)), as: UTF8.self)
        var cases: [FixtureCase] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line.hasPrefix("== ") {
                cases.append(FixtureCase(file: file, line: index + 1, title: String(line.dropFirst(3))))
                continue
            }
            guard !cases.isEmpty else { throw FixtureProblem(description: "\(file):\(index + 1): before any case") }
            do {
                try read(line, into: &cases[cases.count - 1])
            } catch let problem as FixtureProblem {
                throw FixtureProblem(description: "\(file):\(index + 1): \(problem)")
            }
        }
        for item in cases where item.section.isEmpty || item.steps.isEmpty {
            throw FixtureProblem(description: "\(item): says no section, or has no steps")
        }
        return cases
    }

    private static func read(_ line: Substring, into item: inout FixtureCase) throws {
        if line.hasPrefix("RFC ") {
            item.section += item.section.isEmpty ? "\(line)" : "; \(line)"
            return
        }
        let words = line.split(separator: " ", maxSplits: 2).map(String.init)
        switch (words.first, words.dropFirst().first) {
        case ("C>", _): item.add(.clientSends(try bytes(line)))
        case ("S<", _): item.add(.serverGets(try bytes(line)))
        case ("S>", _): item.add(.serverSends(try bytes(line)))
        case ("C<", _): item.add(.clientGets(try bytes(line)))
        case ("C", "end"): item.steps.append(.clientEnds)
        case ("S", "end"): item.steps.append(.serverEnds)
        case ("S", "new"): item.steps.append(.serverIsNew)
        case ("S", "closed"): item.steps.append(.serverIsClosed)
        case ("open", nil): item.steps.append(.isOpen)
        case ("closed", nil): item.steps.append(.isClosed)
        case ("in", "every"): item.isDivided = true
        case ("refused", let status?): item.steps.append(.refused(Int(status) ?? 0))
        case ("answered", let status?): item.steps.append(.answered(Int(status) ?? 0))
        case ("with", let name?): item.settings.append((name, words.count > 2 ? words[2] : ""))
        default: throw FixtureProblem(description: "not understood: \(line)")
        }
    }

    /// What follows the four characters `C> `, with its escapes replaced.
    private static func bytes(_ line: Substring) throws -> [UInt8] {
        var rest = Array(line.utf8.dropFirst(3))[...]
        return try unescape(&rest, until: nil)
    }

    private static func unescape(_ rest: inout ArraySlice<UInt8>, until end: UInt8?) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let byte = rest.popFirst() {
            if byte == end { return bytes }
            switch byte {
            case UInt8(ascii: "\\"): bytes.append(try escape(&rest))
            case UInt8(ascii: "{"):
                let unit = try unescape(&rest, until: UInt8(ascii: "*"))
                let digits = rest.prefix { $0 != UInt8(ascii: "}") }
                guard let count = Int(String(decoding: digits, as: UTF8.self)) else {
                    throw FixtureProblem(description: "{text*count} is what repetition looks like")
                }
                rest = rest.dropFirst(digits.count + 1)
                for _ in 0..<count { bytes += unit }
            default: bytes.append(byte)
            }
        }
        guard end == nil else { throw FixtureProblem(description: "{ without *") }
        return bytes
    }

    private static func escape(_ rest: inout ArraySlice<UInt8>) throws -> UInt8 {
        switch rest.popFirst() {
        case UInt8(ascii: "r"): return 13
        case UInt8(ascii: "n"): return 10
        case UInt8(ascii: "t"): return 9
        case UInt8(ascii: "0"): return 0
        case UInt8(ascii: "\\"): return UInt8(ascii: "\\")
        case UInt8(ascii: "x"):
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard digits.count == 2, let value = UInt8(digits, radix: 16) else { break }
            rest = rest.dropFirst(2)
            return value
        default: break
        }
        throw FixtureProblem(description: "an escape that is none of \\r \\n \\t \\0 \\\\ \\xHH")
    }
}

extension FixtureCase {
    /// Adds a step, joined to the one before when both are of one kind.
    fileprivate mutating func add(_ step: Step) {
        switch (steps.last, step) {
        case (.clientSends(let first), .clientSends(let more)): steps[steps.count - 1] = .clientSends(first + more)
        case (.serverGets(let first), .serverGets(let more)): steps[steps.count - 1] = .serverGets(first + more)
        case (.serverSends(let first), .serverSends(let more)): steps[steps.count - 1] = .serverSends(first + more)
        case (.clientGets(let first), .clientGets(let more)): steps[steps.count - 1] = .clientGets(first + more)
        default: steps.append(step)
        }
    }
}
