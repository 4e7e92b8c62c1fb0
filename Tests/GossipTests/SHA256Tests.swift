// SHA256Tests: SHA-256 and HMAC against published vectors, FIPS 180-4 as NIST prints them and RFC 4231.

import Testing

@testable import Gossip

@Suite struct SHA256Tests {
    static let published: [(message: [UInt8], digest: String)] = [
        ([], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (Array("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            Array(
                ("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                    + "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu").utf8),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
        ),
        (
            Array(repeating: UInt8(ascii: "a"), count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
    ]

    @Test(arguments: published.indices)
    func digestsPublishedVectors(_ index: Int) {
        let (message, digest) = Self.published[index]
        #expect(hex(SHA256.digest(message)) == digest)
    }

    /// NIST's vectors for lengths at which the padding changes shape (zero bytes; CAVP's SHA256ShortMsg style).
    @Test(arguments: [
        (55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"),
        (56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"),
        (64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"),
        (65, "98ce42deef51d40269d542f5314bef2c7468d401ad5d85168bfab4c0108f75f7"),
    ])
    func padsAtBlockBoundaries(_ length: Int, _ digest: String) {
        #expect(hex(SHA256.digest(Array(repeating: 0, count: length))) == digest)
    }

    @Test func splittingTheInputChangesNothing() {
        let message = (0..<200).map { UInt8($0) }
        let whole = SHA256.digest(message)
        for first in 0...130 {
            for second in stride(from: first, through: 200, by: 23) {
                var hash = SHA256()
                hash.update(Array(message[..<first]))
                hash.update(Array(message[first..<second]))
                hash.update(Array(message[second...]))
                #expect(hash.finish() == whole, "split at \(first) and \(second)")
            }
        }
    }

    @Test func aCopyGoesOnByItself() {
        var one = SHA256()
        one.update(Array("ab".utf8))
        var other = one
        one.update(Array("c".utf8))
        other.update(Array("x".utf8))
        #expect(hex(one.finish()) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(other.finish() == SHA256.digest(Array("abx".utf8)))
    }
}

@Suite struct HMACTests {
    struct Vector: CustomStringConvertible {
        let number: Int
        let key: [UInt8]
        let data: [UInt8]
        let tag: String
        var description: String { "RFC 4231, test case \(number)" }
    }

    static let vectors = [
        Vector(
            number: 1, key: repeated(0x0b, 20), data: Array("Hi There".utf8),
            tag: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        Vector(
            number: 2, key: Array("Jefe".utf8), data: Array("what do ya want for nothing?".utf8),
            tag: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        Vector(
            number: 3, key: repeated(0xaa, 20), data: repeated(0xdd, 50),
            tag: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        Vector(
            number: 4, key: (1...25).map { UInt8($0) }, data: repeated(0xcd, 50),
            tag: "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        Vector(
            number: 5, key: repeated(0x0c, 20), data: Array("Test With Truncation".utf8),
            tag: "a3b6167473100ee06e0c796c2955552b"),
        Vector(
            number: 6, key: repeated(0xaa, 131),
            data: Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
            tag: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
        Vector(
            number: 7, key: repeated(0xaa, 131),
            data: Array(
                ("This is a test using a larger than block-size key and a larger than block-size data. "
                    + "The key needs to be hashed before being used by the HMAC algorithm.").utf8),
            tag: "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    ]

    @Test(arguments: vectors)
    func tagsAsPublished(_ vector: Vector) {
        let hmac = HMAC(key: vector.key)
        let tag = hmac.tag(vector.data)
        #expect(hex(tag).hasPrefix(vector.tag))
        #expect(hmac.verifies(vector.data, tag: tag))
        #expect(hmac.verifies(vector.data, tag: Array(tag.prefix(16))))
        #expect(!HMAC(key: vector.key + [1]).verifies(vector.data, tag: tag))
    }

    @Test func refusesTagsTooShortTooLongOrWrong() {
        let hmac = HMAC(key: repeated(7, 32))
        let message = Array("message".utf8)
        let tag = hmac.tag(message)
        #expect(!hmac.verifies(message, tag: Array(tag.prefix(15))))
        #expect(!hmac.verifies(message, tag: []))
        #expect(!hmac.verifies(message, tag: tag + [0]))
        for index in tag.indices {
            var wrong = tag
            wrong[index] ^= 0x80
            #expect(!hmac.verifies(message, tag: wrong), "byte \(index)")
        }
    }
}

func repeated(_ byte: UInt8, _ count: Int) -> [UInt8] { Array(repeating: byte, count: count) }

func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
