// LossMeter: how much of what a node sends us gets lost, over the last ten times it told how much it had sent. Pure.

struct LossMeter: Sendable, Equatable {
    static let wordsMax = 11

    private struct Word: Sendable, Equatable {
        var sent: UInt64
        var received: UInt64
    }

    private var words: [Word] = []

    /// - Parameters:
    ///   - sent: datagrams it has sent to us so far, as it says.
    ///   - received: authentic datagrams of it that came here so far.
    mutating func note(sent: UInt64, received: UInt64) {
        // It started again, and counts anew.
        if let last = words.last, sent < last.sent { words = [] }
        words.append(Word(sent: sent, received: received))
        if words.count > Self.wordsMax { words.removeFirst() }
    }

    /// The part that is lost, 0 to 1; nil until it is known.
    var loss: Double? {
        guard let first = words.first, let last = words.last, last.sent > first.sent else { return nil }
        return max(0, 1 - Double(last.received &- first.received) / Double(last.sent - first.sent))
    }
}
