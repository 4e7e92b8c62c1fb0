// RouteTable: which backend gets a request, by its host and path. Pure, no allocation per look.
//
// A frontend's rules are asked in their order; the first that fits decides. Hosts are compared without case, port and final
// dot (RFC 9110, 4.2.3); paths byte by byte as they came, by whole segments: `/v1` is `/v1`, `/v1/…` and `/v1?…`, never
// `/v10`. Nothing is decoded: rules choose servers, they keep nobody out.

/// Requests of this kind go to another backend than the frontend's own.
public struct RouteRule: Sendable, Equatable {
    /// In lower case, without a port. `*.example.com` stands for every name below `example.com`. nil: any, or none.
    public var host: String?
    /// Begins with `/`. nil: any.
    public var path: String?
    /// An index into `ProxySettings.backends`.
    public var backend: Int

    public init(host: String? = nil, path: String? = nil, backend: Int) {
        self.host = host
        self.path = path
        self.backend = backend
    }
}

/// The rules of all frontends, laid out flat.
struct RouteTable {
    private struct Entry: BitwiseCopyable {
        /// In `text`; behind it the path. -1: any host.
        var start: Int32
        var hostCount: Int32
        /// The host is the end of a longer name, with its dot.
        var isSuffix: Bool
        /// 0: any path.
        var pathCount: Int32
        var backend: Int32
    }

    private var entries: ContiguousArray<Entry> = []
    private var text: ContiguousArray<UInt8> = []

    var count: Int { entries.count }

    /// - Parameter backend: a slot.
    mutating func append(_ rule: RouteRule, backend: Int) {
        let start = text.count
        var host = rule.host?.utf8[...]
        let isSuffix = host?.first == UInt8(ascii: "*")
        if isSuffix { host = host?.dropFirst() }
        text += host ?? ""[...].utf8
        text += rule.path?.utf8[...] ?? ""[...].utf8
        entries.append(
            Entry(
                start: Int32(start), hostCount: host.map { Int32($0.count) } ?? -1, isSuffix: isSuffix,
                pathCount: Int32(rule.path?.utf8.count ?? 0), backend: Int32(backend)))
    }

    /// The backend of the first rule among `rules` that fits; nil when none does.
    /// - Parameters:
    ///   - bytes: the request's head, with which `head` was parsed.
    ///   - rules: places in the table.
    func backend(_ bytes: Span<UInt8>, _ head: RequestHead, of rules: Range<Int>) -> Int32? {
        // RFC 9112, 3.2.2: an absolute target's authority is what counts.
        let host = Self.name(bytes, head.authority.isEmpty ? head.host : head.authority)
        for index in rules {
            let entry = entries[index]
            guard entry.hostCount < 0 || fitsHost(bytes, host, entry) else { continue }
            if entry.pathCount == 0 || fitsPath(bytes, head.path, entry) { return entry.backend }
        }
        return nil
    }

    /// Without port and final dot.
    private static func name(_ bytes: Span<UInt8>, _ authority: Range<Int>) -> Range<Int> {
        var end = authority.lowerBound
        // The colons of an IPv6 address stand in brackets.
        let isBracketed = end < authority.upperBound && bytes[end] == UInt8(ascii: "[")
        let delimiter = isBracketed ? UInt8(ascii: "]") : UInt8(ascii: ":")
        while end < authority.upperBound, bytes[end] != delimiter { end += 1 }
        if isBracketed, end < authority.upperBound { end += 1 }
        if end > authority.lowerBound, bytes[end - 1] == UInt8(ascii: ".") { end -= 1 }
        return authority.lowerBound..<end
    }

    private func fitsHost(_ bytes: Span<UInt8>, _ host: Range<Int>, _ entry: Entry) -> Bool {
        let count = Int(entry.hostCount)
        guard entry.isSuffix ? host.count > count : host.count == count else { return false }
        let from = host.upperBound - count
        for offset in 0..<count {
            if Bytes.lowercased(bytes[from + offset]) != text[Int(entry.start) + offset] { return false }
        }
        return true
    }

    private func fitsPath(_ bytes: Span<UInt8>, _ path: Range<Int>, _ entry: Entry) -> Bool {
        let from = Int(entry.start) + Int(max(entry.hostCount, 0))
        let count = Int(entry.pathCount)
        // An absolute target may have no path, or only a query: that is the root (RFC 9110, 4.2.3).
        if path.isEmpty || bytes[path.lowerBound] == UInt8(ascii: "?") {
            return count == 1 && text[from] == UInt8(ascii: "/")
        }
        guard path.count >= count else { return false }
        for offset in 0..<count where bytes[path.lowerBound + offset] != text[from + offset] { return false }
        if path.count == count || text[from + count - 1] == UInt8(ascii: "/") { return true }
        let next = bytes[path.lowerBound + count]
        return next == UInt8(ascii: "/") || next == UInt8(ascii: "?")
    }
}
