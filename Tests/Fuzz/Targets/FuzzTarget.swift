// FuzzTarget: what the fuzzer feeds with bytes, and the words it has for what must hold. Each target is one function from
// an input to nothing, which keeps no state: so an input alone shows a finding again, under the fuzzer and in a test.

/// A property that an input broke.
struct FuzzFinding: Error, CustomStringConvertible {
    let description: String
}

enum FuzzTarget: String, CaseIterable {
    case request, response, chunked, configuration, gossip, proxy

    /// Bytes that make sense as one input; the fuzzer stays below.
    static let inputBytesMax = 4096

    /// - Throws: the property that doesn't hold for these bytes.
    func run(_ input: [UInt8]) throws {
        let input = Array(input.prefix(Self.inputBytesMax))
        switch self {
        case .request: try RequestFuzz.run(input)
        case .response: try ResponseFuzz.run(input)
        case .chunked: try ChunkedFuzz.run(input)
        case .configuration: try ConfigurationFuzz.run(input)
        case .gossip: try GossipFuzz.run(input)
        case .proxy: try ProxyHeaderFuzz.run(input)
        }
    }
}

/// - Parameter text: what must hold, as a sentence.
func require(_ holds: Bool, _ text: @autoclosure () -> String) throws {
    if !holds { throw FuzzFinding(description: text()) }
}

/// Cuts an input into pieces, the same way each time: how an input arrives is drawn from what it is.
struct Division {
    private var state: UInt64

    init(_ input: [UInt8]) { state = input.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 } }

    /// 1 … `limit`; small ones are likely.
    mutating func next(_ limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let most = state >> 60 < 8 ? min(3, limit) : limit
        return Int(state >> 33) % max(1, most) + 1
    }
}
