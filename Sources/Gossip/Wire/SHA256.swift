// SHA256: the hash of FIPS 180-4, section 6.2, for authenticating gossip and naming configurations.
//
// The rounds are written out over named words instead of looping over arrays: the message schedule lives in
// registers or on the stack, nothing is allocated per block, and a debug build pays no array subscript per round.
// Never used on the data plane. A value: whoever holds it owns it.
//
//   state: empty --update--> absorbing --update--> absorbing --finish--> digest

/// An unfinished SHA-256 hash; a copy can go on separately, which HMAC lives on.
public struct SHA256: Sendable {
    public static let digestBytes = 32
    static let blockBytes = 64

    private var registers = Registers()
    /// Bytes absorbed that don't fill a block yet.
    private var partial: [UInt8] = []
    /// Bytes absorbed in whole.
    private var length: UInt64 = 0

    public init() {}

    /// The digest of `bytes`, 32 bytes.
    public static func digest(_ bytes: [UInt8]) -> [UInt8] {
        var hash = SHA256()
        hash.update(bytes.span)
        return hash.finish()
    }

    /// Absorbs `bytes`; splitting the input differently gives the same digest.
    public mutating func update(_ bytes: [UInt8]) { update(bytes.span) }

    mutating func update(_ bytes: Span<UInt8>) {
        length &+= UInt64(bytes.count)
        var offset = 0
        if !partial.isEmpty {
            while partial.count < Self.blockBytes, offset < bytes.count {
                partial.append(bytes[offset])
                offset += 1
            }
            if partial.count < Self.blockBytes { return }
            absorbPartial()
        }
        while bytes.count - offset >= Self.blockBytes {
            registers.absorb(bytes, at: offset)
            offset += Self.blockBytes
        }
        while offset < bytes.count {
            partial.append(bytes[offset])
            offset += 1
        }
    }

    /// The digest of everything absorbed, 32 bytes.
    public consuming func finish() -> [UInt8] {
        let bits = length &* 8
        partial.append(0x80)
        if partial.count > Self.blockBytes - 8 {
            while partial.count < Self.blockBytes { partial.append(0) }
            absorbPartial()
        }
        while partial.count < Self.blockBytes - 8 { partial.append(0) }
        for shift in stride(from: UInt64(56), through: 0, by: -8) {
            partial.append(UInt8(truncatingIfNeeded: bits &>> shift))
        }
        absorbPartial()
        return registers.bytes
    }

    /// Takes a full block out of `partial` and keeps its storage.
    private mutating func absorbPartial() {
        var block: [UInt8] = []
        swap(&block, &partial)
        registers.absorb(block.span, at: 0)
        block.removeAll(keepingCapacity: true)
        swap(&block, &partial)
    }
}

/// The sixteen words of the message schedule that are needed at a time.
private struct Schedule {
    var w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15: UInt32

    /// Words 0 to 15: the block itself, big-endian.
    @inline(__always)
    init(_ bytes: Span<UInt8>, at offset: Int) {
        w0 = word(bytes, offset)
        w1 = word(bytes, offset + 4)
        w2 = word(bytes, offset + 8)
        w3 = word(bytes, offset + 12)
        w4 = word(bytes, offset + 16)
        w5 = word(bytes, offset + 20)
        w6 = word(bytes, offset + 24)
        w7 = word(bytes, offset + 28)
        w8 = word(bytes, offset + 32)
        w9 = word(bytes, offset + 36)
        w10 = word(bytes, offset + 40)
        w11 = word(bytes, offset + 44)
        w12 = word(bytes, offset + 48)
        w13 = word(bytes, offset + 52)
        w14 = word(bytes, offset + 56)
        w15 = word(bytes, offset + 60)
    }

    /// The next sixteen words, each from those before it (section 6.2.2, step 1).
    @inline(__always)
    mutating func advance() {
        w0 = w0 &+ small0(w1) &+ w9 &+ small1(w14)
        w1 = w1 &+ small0(w2) &+ w10 &+ small1(w15)
        w2 = w2 &+ small0(w3) &+ w11 &+ small1(w0)
        w3 = w3 &+ small0(w4) &+ w12 &+ small1(w1)
        w4 = w4 &+ small0(w5) &+ w13 &+ small1(w2)
        w5 = w5 &+ small0(w6) &+ w14 &+ small1(w3)
        w6 = w6 &+ small0(w7) &+ w15 &+ small1(w4)
        w7 = w7 &+ small0(w8) &+ w0 &+ small1(w5)
        w8 = w8 &+ small0(w9) &+ w1 &+ small1(w6)
        w9 = w9 &+ small0(w10) &+ w2 &+ small1(w7)
        w10 = w10 &+ small0(w11) &+ w3 &+ small1(w8)
        w11 = w11 &+ small0(w12) &+ w4 &+ small1(w9)
        w12 = w12 &+ small0(w13) &+ w5 &+ small1(w10)
        w13 = w13 &+ small0(w14) &+ w6 &+ small1(w11)
        w14 = w14 &+ small0(w15) &+ w7 &+ small1(w12)
        w15 = w15 &+ small0(w0) &+ w8 &+ small1(w13)
    }
}

/// The hash value H, and the eight working variables while a block is absorbed.
private struct Registers: Sendable {
    private var a: UInt32 = 0x6a09_e667
    private var b: UInt32 = 0xbb67_ae85
    private var c: UInt32 = 0x3c6e_f372
    private var d: UInt32 = 0xa54f_f53a
    private var e: UInt32 = 0x510e_527f
    private var f: UInt32 = 0x9b05_688c
    private var g: UInt32 = 0x1f83_d9ab
    private var h: UInt32 = 0x5be0_cd19

    mutating func absorb(_ bytes: Span<UInt8>, at offset: Int) {
        var schedule = Schedule(bytes, at: offset)
        var work = self
        work.firstRounds(schedule)
        schedule.advance()
        work.secondRounds(schedule)
        schedule.advance()
        work.thirdRounds(schedule)
        schedule.advance()
        work.fourthRounds(schedule)
        a &+= work.a
        b &+= work.b
        c &+= work.c
        d &+= work.d
        e &+= work.e
        f &+= work.f
        g &+= work.g
        h &+= work.h
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(SHA256.digestBytes)
        for word in [a, b, c, d, e, f, g, h] {
            bytes.append(UInt8(truncatingIfNeeded: word &>> 24))
            bytes.append(UInt8(truncatingIfNeeded: word &>> 16))
            bytes.append(UInt8(truncatingIfNeeded: word &>> 8))
            bytes.append(UInt8(truncatingIfNeeded: word))
        }
        return bytes
    }

    /// One round; `input` is the schedule's word plus the round's constant.
    @inline(__always)
    mutating func round(_ input: UInt32) {
        let first = h &+ big1(e) &+ ((e & f) ^ (~e & g)) &+ input
        let second = big0(a) &+ ((a & b) ^ (a & c) ^ (b & c))
        h = g
        g = f
        f = e
        e = d &+ first
        d = c
        c = b
        b = a
        a = first &+ second
    }

    /// Rounds 0 to 15.
    @inline(__always)
    mutating func firstRounds(_ w: borrowing Schedule) {
        round(w.w0 &+ 0x428a_2f98)
        round(w.w1 &+ 0x7137_4491)
        round(w.w2 &+ 0xb5c0_fbcf)
        round(w.w3 &+ 0xe9b5_dba5)
        round(w.w4 &+ 0x3956_c25b)
        round(w.w5 &+ 0x59f1_11f1)
        round(w.w6 &+ 0x923f_82a4)
        round(w.w7 &+ 0xab1c_5ed5)
        round(w.w8 &+ 0xd807_aa98)
        round(w.w9 &+ 0x1283_5b01)
        round(w.w10 &+ 0x2431_85be)
        round(w.w11 &+ 0x550c_7dc3)
        round(w.w12 &+ 0x72be_5d74)
        round(w.w13 &+ 0x80de_b1fe)
        round(w.w14 &+ 0x9bdc_06a7)
        round(w.w15 &+ 0xc19b_f174)
    }

    /// Rounds 16 to 31.
    @inline(__always)
    mutating func secondRounds(_ w: borrowing Schedule) {
        round(w.w0 &+ 0xe49b_69c1)
        round(w.w1 &+ 0xefbe_4786)
        round(w.w2 &+ 0x0fc1_9dc6)
        round(w.w3 &+ 0x240c_a1cc)
        round(w.w4 &+ 0x2de9_2c6f)
        round(w.w5 &+ 0x4a74_84aa)
        round(w.w6 &+ 0x5cb0_a9dc)
        round(w.w7 &+ 0x76f9_88da)
        round(w.w8 &+ 0x983e_5152)
        round(w.w9 &+ 0xa831_c66d)
        round(w.w10 &+ 0xb003_27c8)
        round(w.w11 &+ 0xbf59_7fc7)
        round(w.w12 &+ 0xc6e0_0bf3)
        round(w.w13 &+ 0xd5a7_9147)
        round(w.w14 &+ 0x06ca_6351)
        round(w.w15 &+ 0x1429_2967)
    }

    /// Rounds 32 to 47.
    @inline(__always)
    mutating func thirdRounds(_ w: borrowing Schedule) {
        round(w.w0 &+ 0x27b7_0a85)
        round(w.w1 &+ 0x2e1b_2138)
        round(w.w2 &+ 0x4d2c_6dfc)
        round(w.w3 &+ 0x5338_0d13)
        round(w.w4 &+ 0x650a_7354)
        round(w.w5 &+ 0x766a_0abb)
        round(w.w6 &+ 0x81c2_c92e)
        round(w.w7 &+ 0x9272_2c85)
        round(w.w8 &+ 0xa2bf_e8a1)
        round(w.w9 &+ 0xa81a_664b)
        round(w.w10 &+ 0xc24b_8b70)
        round(w.w11 &+ 0xc76c_51a3)
        round(w.w12 &+ 0xd192_e819)
        round(w.w13 &+ 0xd699_0624)
        round(w.w14 &+ 0xf40e_3585)
        round(w.w15 &+ 0x106a_a070)
    }

    /// Rounds 48 to 63.
    @inline(__always)
    mutating func fourthRounds(_ w: borrowing Schedule) {
        round(w.w0 &+ 0x19a4_c116)
        round(w.w1 &+ 0x1e37_6c08)
        round(w.w2 &+ 0x2748_774c)
        round(w.w3 &+ 0x34b0_bcb5)
        round(w.w4 &+ 0x391c_0cb3)
        round(w.w5 &+ 0x4ed8_aa4a)
        round(w.w6 &+ 0x5b9c_ca4f)
        round(w.w7 &+ 0x682e_6ff3)
        round(w.w8 &+ 0x748f_82ee)
        round(w.w9 &+ 0x78a5_636f)
        round(w.w10 &+ 0x84c8_7814)
        round(w.w11 &+ 0x8cc7_0208)
        round(w.w12 &+ 0x90be_fffa)
        round(w.w13 &+ 0xa450_6ceb)
        round(w.w14 &+ 0xbef9_a3f7)
        round(w.w15 &+ 0xc671_78f2)
    }
}

// The masking shifts compile to single instructions in debug builds too; `>>` is a generic call there.

@inline(__always)
private func word(_ bytes: Span<UInt8>, _ at: Int) -> UInt32 {
    UInt32(bytes[at]) &<< 24 | UInt32(bytes[at + 1]) &<< 16 | UInt32(bytes[at + 2]) &<< 8 | UInt32(bytes[at + 3])
}

@inline(__always)
private func rotated(_ x: UInt32, _ right: UInt32) -> UInt32 { x &>> right | x &<< (32 &- right) }

@inline(__always)
private func big0(_ x: UInt32) -> UInt32 { rotated(x, 2) ^ rotated(x, 13) ^ rotated(x, 22) }

@inline(__always)
private func big1(_ x: UInt32) -> UInt32 { rotated(x, 6) ^ rotated(x, 11) ^ rotated(x, 25) }

@inline(__always)
private func small0(_ x: UInt32) -> UInt32 { rotated(x, 7) ^ rotated(x, 18) ^ x &>> 3 }

@inline(__always)
private func small1(_ x: UInt32) -> UInt32 { rotated(x, 17) ^ rotated(x, 19) ^ x &>> 10 }
