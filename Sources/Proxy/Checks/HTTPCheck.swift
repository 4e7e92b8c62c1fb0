// HTTPCheck: what an HTTP check asks for, and what it makes of the answer. Pure.

/// Statuses that a check accepts: single ones and ranges. Never empty.
public struct StatusRanges: Sendable, Equatable, CustomStringConvertible {
    /// Sorted, apart from each other.
    public let ranges: [ClosedRange<Int>]

    /// - Parameter ranges: in any order; those that overlap or touch become one.
    public init(_ ranges: [ClosedRange<Int>]) {
        var merged: [ClosedRange<Int>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, range.lowerBound <= last.upperBound + 1 {
                merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        self.ranges = merged
    }

    public init(_ status: Int) { self.init([status...status]) }

    public func contains(_ status: Int) -> Bool { ranges.contains { $0.contains(status) } }

    /// `200–399, 404`.
    public var description: String {
        ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)–\($0.upperBound)" }.joined(separator: ", ")
    }
}

/// An HTTP/1.1 request and the answer that passes.
public struct HTTPCheck: Sendable, Equatable {
    public var method: String
    public var path: String
    /// The Host field; nil sends the server's address and port.
    public var host: String?
    public var expect: StatusRanges
    /// Text that the body must hold; nil: it isn't looked at.
    public var expectBody: String?
    /// The body must be what a majority of the backend's servers answers.
    public var sameContent: Bool

    public init(
        method: String = "GET", path: String, host: String? = nil, expect: StatusRanges = StatusRanges(200),
        expectBody: String? = nil, sameContent: Bool = false
    ) {
        self.method = method
        self.path = path
        self.host = host
        self.expect = expect
        self.expectBody = expectBody
        self.sameContent = sameContent
    }

    /// The statuses of which the body is read.
    var readsBodyOf: StatusRanges? { expectBody != nil || sameContent ? expect : nil }

    func request(to address: SocketAddress) -> [UInt8] {
        Array(
            ("\(method) \(path) HTTP/1.1\r\nHost: \(host ?? address.description)\r\nUser-Agent: triad-check\r\n"
                + "Accept: */*\r\nConnection: close\r\n\r\n").utf8)
    }

    /// What is wrong with a whole answer, its content compared with nobody's; nil: nothing.
    func fault(_ response: CheckResponse, status: Int) -> String? {
        guard expect.contains(status) else { return "HTTP \(status), expected \(expect)" }
        guard let expectBody, !Self.holds(response.body, Array(expectBody.utf8)) else { return nil }
        let within = response.isCut ? " in its first \(CheckResponse.bodyBytesMax >> 10) KiB" : ""
        return "HTTP \(status), body lacks \"\(expectBody)\"\(within)"
    }

    private static func holds(_ body: [UInt8], _ text: [UInt8]) -> Bool {
        guard let first = text.first, body.count >= text.count else { return text.isEmpty }
        return (0...body.count - text.count).contains { at in
            body[at] == first && body[at..<at + text.count].elementsEqual(text)
        }
    }
}

/// What a server answered last, for comparison with the others of its backend.
struct CheckContent: Sendable, Equatable {
    /// FNV-1a over the body: the servers are no adversaries.
    private(set) var hash: UInt64
    /// When it was first answered, and last.
    private(set) var sinceNs: UInt64
    private(set) var seenNs: UInt64

    /// - Parameter before: what the same server answered before.
    init(_ body: [UInt8], nowNs: UInt64, before: CheckContent?) {
        hash = body.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        seenNs = nowNs
        sinceNs = before?.hash == hash ? before?.sinceNs ?? nowNs : nowNs
    }

    /// Says that a majority of the backend's servers, this one included, answers something else, and how large it is.
    /// Others count by what they were seen to answer since this one answers what it does: when the content changes
    /// everywhere at once, whoever is looked at first isn't the one that differs.
    func difference(from others: [CheckContent]) -> String? {
        let all = others.count + 1
        for other in others where other.hash != hash && other.seenNs >= sinceNs {
            let alike = others.count { $0.hash == other.hash && $0.seenNs >= sinceNs }
            if alike * 2 > all { return "differs from the majority: \(alike) of \(all) servers answer alike" }
        }
        return nil
    }
}
