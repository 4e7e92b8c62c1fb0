// SourceLimits: what one client of a frontend may do, and who may do more. Plain values.

/// Limits per source: an IPv4 address, or an IPv6 network.
public struct SourceLimits: Sendable, Equatable {
    /// Connections open at one time; nil: any number. Beyond it: closed at once.
    public var connections: Int?
    /// New connections. Beyond it: closed at once.
    public var connectionRate: SourceRate?
    /// Requests. Beyond it: 429.
    public var requestRate: SourceRate?
    /// The bits of an IPv6 address that make a source, 1 ... 128.
    public var prefixV6 = 64
    /// Who is under no limit.
    public var exempt: [Network] = []

    public init() {}
}
