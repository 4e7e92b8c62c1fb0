// EchoTests: echoes as bytes, and which datagrams answer them.

import Testing

@testable import Proxy

@Suite struct EchoTests {
    private func echo(isIPv6: Bool = false, isRaw: Bool = false, sequence: UInt16 = 0x0203) -> Echo {
        Echo(
            EchoForm(isIPv6: isIPv6, isRaw: isRaw, identifier: 0x1234), sequence: sequence,
            token: 0x0102_0304_0506_0708)
    }

    /// The answer that a machine gives.
    private func answer(_ echo: Echo) -> [UInt8] {
        var bytes: [UInt8] = [echo.form.isIPv6 ? 129 : 0, 0, 0, 0] + echo.bytes.dropFirst(4)
        let sum = InternetChecksum.of(bytes)
        (bytes[2], bytes[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
        return bytes
    }

    /// As a raw IPv4 socket hears it, with as many words of options in the IP header.
    private func packet(_ message: [UInt8], options: Int = 0) -> [UInt8] {
        [0x45 + UInt8(options)] + [UInt8](repeating: 1, count: 19 + 4 * options) + message
    }

    @Test func anEchoIsAsTheStandardSays() {
        let raw = echo(isRaw: true).bytes
        #expect(raw.prefix(2) == [8, 0] && raw[4...] == [0x12, 0x34, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8])
        // A sum over all of it, the checksum included, comes to nothing (RFC 1071).
        #expect(InternetChecksum.of(raw) == 0)
        #expect(echo(isIPv6: true).bytes.prefix(4) == [128, 0, 0, 0])
        // The example of RFC 1071, 3.
        #expect(InternetChecksum.of([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]) == ~0xddf2)
        #expect(InternetChecksum.of([0xff]) == ~0xff00, "an odd byte is padded")
    }

    @Test(arguments: [false, true], [false, true]) func itsOwnAnswerAnswersIt(_ isIPv6: Bool, _ isRaw: Bool) {
        let echo = echo(isIPv6: isIPv6, isRaw: isRaw)
        let answer = answer(echo)
        let heard = isRaw && !isIPv6 ? packet(answer) : answer
        #expect(echo.isAnswered(by: heard))
        for end in heard.indices { #expect(!echo.isAnswered(by: Array(heard[..<end])), "cut to \(end) bytes") }
        #expect(!echo.isAnswered(by: heard + [0]), "one byte more than was sent")
    }

    /// Every byte that tells an answer from others: type, code, identifier, sequence number and token.
    @Test func whatIsNoAnswerToItIsNotTaken() {
        let echo = echo()
        let answer = answer(echo)
        for place in answer.indices where place != 2 && place != 3 {
            var other = answer
            other[place] ^= 1
            #expect(!echo.isAnswered(by: other), "byte \(place)")
        }
        #expect(!echo.isAnswered(by: echo.bytes), "the echo itself, as a raw socket hears it on loopback")
        #expect(!echo.isAnswered(by: self.answer(self.echo(sequence: 0x0202))), "the one before's")
        #expect(!echo.isAnswered(by: [3, 1] + answer.dropFirst(2)), "unreachable")
        #expect(!echo.isAnswered(by: [129] + answer.dropFirst()), "the other family's")
    }

    @Test func aRawSocketsDatagramsHaveAHeaderAndMayBeDamaged() {
        let echo = echo(isRaw: true)
        #expect(!echo.isAnswered(by: answer(echo)), "without a header")
        #expect(echo.isAnswered(by: packet(answer(echo), options: 3)), "with options")
        var damaged = packet(answer(echo))
        damaged[22] ^= 1
        #expect(!echo.isAnswered(by: damaged), "a wrong checksum")
        #expect(!echo.isAnswered(by: [0x41] + packet(answer(echo)).dropFirst()), "a header of 4 bytes")
        #expect(!echo.isAnswered(by: [0x65] + packet(answer(echo)).dropFirst()), "another version")
    }
}
