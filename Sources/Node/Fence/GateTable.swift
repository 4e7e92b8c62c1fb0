// GateTable: the nftables table that stands before the VIPs: its name.

enum GateTable {
    /// `triad_` and the two names, readable, and a hash of them, since not every character may stand in a table's name.
    static func name(cluster: String, node: String) -> String {
        var hash: UInt32 = 0x811c_9dc5
        // FNV-1a.
        for byte in Array("\(cluster)/\(node)".utf8) { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
        let readable = "\(cluster)_\(node)".utf8.prefix(40).map { isPlain($0) ? $0 : UInt8(ascii: "_") }
        return "triad_" + String(decoding: readable, as: UTF8.self) + "_" + String(hash, radix: 16)
    }

    /// Whether it can stand in a command of `nft` as it is.
    static func isName(_ text: String) -> Bool {
        text.hasPrefix("triad_") && text.utf8.count <= FenceLimits.gateTableBytesMax && text.utf8.allSatisfy(isPlain)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
        default: false
        }
    }
}
