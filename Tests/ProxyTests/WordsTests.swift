// Words: eight bytes at a time finds what byte after byte finds, wherever it stands.

import Testing

@testable import Proxy

@Suite struct WordsTests {
    private func bySteps(_ bytes: [UInt8], from: Int) -> Int {
        var at = from
        while Bytes.isValue(bytes[at]) { at += 1 }
        return at
    }

    @Test func everyByteAtEveryPlace() {
        for length in [1, 7, 8, 9, 16, 21] {
            for place in 0..<length {
                for byte in UInt8.min...UInt8.max {
                    var bytes = [UInt8](repeating: UInt8(ascii: "x"), count: length) + [Bytes.cr, Bytes.lf]
                    bytes[place] = byte
                    let found = Bytes.skipValue(bytes.span, from: 0)
                    #expect(found == bySteps(bytes, from: 0), "byte \(byte) at \(place) of \(length)")
                }
            }
        }
    }

    /// Neighbours can't hide or make up one another.
    @Test func everyPairOfBytes() {
        for first in UInt8.min...UInt8.max {
            for second in UInt8.min...UInt8.max {
                let bytes = [0x80, first, second, 0xff, 0x20, 0x09, 0x7e, 0x21, Bytes.cr, Bytes.lf]
                let found = Bytes.skipValue(bytes.span, from: 0)
                guard found != bySteps(bytes, from: 0) else { continue }
                Issue.record("bytes \(first) and \(second): found at \(found)")
            }
        }
    }
}
