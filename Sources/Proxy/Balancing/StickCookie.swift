// StickCookie: the cookie that keeps a client with its server: what it says, how it is made and how it is read. Pure.
//
// A value is 16 bytes in base64url (RFC 4648, 5): a nonce, and the server's fingerprint XOR a pad that comes from the nonce.
// Fingerprint and pad are SipHashes, under keys that all nodes have. So any node reads what any other one made, nobody
// keeps a table, and two values tell a client nothing, not even whether they mean one server. A value isn't signed:
// one that was made up means a server with a chance of 2^-64 for each, and means a server that its client may have anyway.

/// What a cookie is made or read with.
public struct StickKey: Sendable, Equatable, BitwiseCopyable {
    /// Bytes of a secret.
    public static let bytes = 32

    private let fingerprints: SipHash
    private let pads: SipHash

    /// - Parameter secret: `bytes` of them, that clients don't know and all nodes do.
    public init(secret: [UInt8]) {
        precondition(secret.count == Self.bytes)
        func word(_ index: Int) -> UInt64 { secret[8 * index..<8 * index + 8].reduce(0) { $0 << 8 | UInt64($1) } }
        fingerprints = SipHash(key0: word(0), key1: word(1))
        pads = SipHash(key0: word(2), key1: word(3))
    }

    /// - Parameter server: the hash of its id.
    func fingerprint(of server: UInt64) -> UInt64 { fingerprints.hash(server) }

    /// - Parameter nonce: another one for each cookie.
    func value(for server: UInt64, nonce: UInt64) -> StickValue {
        StickValue(nonce: nonce, sealed: fingerprint(of: server) ^ pads.hash(nonce))
    }

    /// The fingerprint in a value that was made with this key; some number if it was another one.
    func fingerprint(in value: StickValue) -> UInt64 { value.sealed ^ pads.hash(value.nonce) }
}

/// What a backend's clients get.
public struct StickCookie: Sendable, Equatable {
    /// A token (RFC 9110, 5.6.2) of at most `nameBytesMax`.
    public let name: String
    /// Browsers send it over TLS only.
    public let isSecure: Bool
    /// The first makes cookies, all read them. At least one.
    public let keys: [StickKey]

    public static let nameBytesMax = 64

    public init(name: String, isSecure: Bool = false, keys: [StickKey]) {
        precondition((1...Self.nameBytesMax).contains(name.utf8.count) && !keys.isEmpty)
        self.name = name
        self.isSecure = isSecure
        self.keys = keys
    }
}

struct StickValue: BitwiseCopyable, Equatable {
    let nonce: UInt64
    let sealed: UInt64

    /// 128 bits, six each, the last four of them 0.
    static let characters = 22

    init(nonce: UInt64, sealed: UInt64) {
        self.nonce = nonce
        self.sealed = sealed
    }

    /// Reads `bytes[range]`; nil when that isn't how a value is written.
    init?(_ bytes: Span<UInt8>, _ range: Range<Int>) {
        guard range.count == Self.characters else { return nil }
        var (high, low): (UInt64, UInt64) = (0, 0)
        for at in range {
            guard let bits = Self.bits(bytes[at]) else { return nil }
            let isLast = at == range.upperBound - 1
            if isLast, bits & 15 != 0 { return nil }
            let count: UInt64 = isLast ? 2 : 6
            high = high << count | low >> (64 - count)
            low = low << count | (isLast ? bits >> 4 : bits)
        }
        (nonce, sealed) = (high, low)
    }

    /// Character `index`, 0 ..< `characters`.
    func character(_ index: Int) -> UInt8 {
        let end = 6 * (index + 1)
        let bits: UInt64
        if end <= 64 {
            bits = nonce >> UInt64(64 - end)
        } else if end < 70 {
            bits = nonce << UInt64(end - 64) | sealed >> UInt64(128 - end)
        } else if end <= 128 {
            bits = sealed >> UInt64(128 - end)
        } else {
            bits = sealed << UInt64(end - 128)
        }
        return Self.character(of: bits & 63)
    }

    private static func character(of bits: UInt64) -> UInt8 {
        let small = UInt8(truncatingIfNeeded: bits)
        switch small {
        case 0..<26: return UInt8(ascii: "A") + small
        case 26..<52: return UInt8(ascii: "a") + small - 26
        case 52..<62: return UInt8(ascii: "0") + small - 52
        case 62: return UInt8(ascii: "-")
        default: return UInt8(ascii: "_")
        }
    }

    private static func bits(_ character: UInt8) -> UInt64? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt64(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt64(character - UInt8(ascii: "a") + 26)
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(character - UInt8(ascii: "0") + 52)
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }
}

/// A backend's servers by their fingerprints, under every key.
struct StickTable {
    struct Member: BitwiseCopyable, Equatable {
        let slot: Int32
        /// The hash of its id.
        let key: UInt64
    }

    /// What a value means.
    struct Meaning: BitwiseCopyable, Equatable {
        let slot: Int32
        /// It was made with the first key.
        let isFresh: Bool
    }

    private struct Entry: BitwiseCopyable {
        let fingerprint: UInt64
        let slot: Int32
    }

    private var keys: ContiguousArray<StickKey> = []
    private var members: ContiguousArray<Member> = []
    /// In the order of their fingerprints. Those of all keys together: one of another key than the value's is met as rarely as
    /// two that are equal.
    private var entries: ContiguousArray<Entry> = []

    /// Made anew only if something is new: verdicts and drains change nothing here.
    mutating func update(_ freshKeys: ContiguousArray<StickKey>, _ freshMembers: ContiguousArray<Member>) {
        guard freshKeys != keys || freshMembers != members else { return }
        (keys, members) = (freshKeys, freshMembers)
        entries = []
        entries.reserveCapacity(keys.count * members.count)
        for key in keys {
            for member in members {
                entries.append(Entry(fingerprint: key.fingerprint(of: member.key), slot: member.slot))
            }
        }
        entries.sort { $0.fingerprint < $1.fingerprint }
    }

    /// Whose cookie a value is; nil: nobody's here.
    func meaning(of value: StickValue) -> Meaning? {
        for index in keys.indices {
            if let slot = slot(with: keys[index].fingerprint(in: value)) {
                return Meaning(slot: slot, isFresh: index == 0)
            }
        }
        return nil
    }

    private func slot(with fingerprint: UInt64) -> Int32? {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].fingerprint < fingerprint { low = middle + 1 } else { high = middle }
        }
        return low < entries.count && entries[low].fingerprint == fingerprint ? entries[low].slot : nil
    }

    /// - Precondition: there is a key.
    func value(for server: UInt64, nonce: UInt64) -> StickValue { keys[0].value(for: server, nonce: nonce) }
}
