// ResponseHead: parses a server's complete response head into offsets. Pure.
//
// RFC 9112, 4 (status line), 6.3 (framing), 9.3 (persistence). As strict as for requests: a server whose head can be
// read in two ways gets its response replaced by 502, because the next response on that connection couldn't be trusted.

struct ResponseHead: BitwiseCopyable {
    /// 100 ... 599.
    var status = 0
    /// Its connection may carry another response afterwards.
    var keepsAlive = true
    var nominates = false
    /// It says `Upgrade: websocket`, and nothing else there.
    var upgradesToWebSocket = false
    var hasDate = false
    var framing = BodyFramer.empty
    var fieldsStart = 0

    /// 100 ... 199: another response follows.
    var isInterim: Bool { status < 200 }

    /// - Parameters:
    ///   - bytes: the whole head with its empty line.
    ///   - isHead: it answers a HEAD request, so it has no body.
    /// - Returns: nil when it is malformed.
    static func parse(_ bytes: Span<UInt8>, into table: inout FieldTable, isHead: Bool) -> ResponseHead? {
        var head = ResponseHead()
        guard let minorVersion = head.parseLine(bytes), table.parse(bytes, from: head.fieldsStart) == nil else {
            return nil
        }
        guard let framing = try? table.framing(bytes) else { return nil }
        head.nominates = framing.nominates
        head.keepsAlive = minorVersion == 1 ? !framing.closes : framing.keepsAlive && !framing.closes
        // Whatever is done with them, they can't be believed (RFC 9112, 6.3).
        guard framing.lengthLines <= 1, framing.lengthLines == 0 || framing.codingLines == 0 else { return nil }
        head.takeFields(bytes, table)
        if isHead || head.isInterim || head.status == 204 || head.status == 304 {
            return head
        }
        if framing.codingLines > 0 {
            guard framing.codingLines == 1, framing.isChunked, minorVersion == 1 else { return nil }
            head.framing = .chunked
        } else if framing.lengthLines > 0 {
            head.framing = .length(framing.length)
        } else {
            head.framing = .untilClose
            head.keepsAlive = false
        }
        return head
    }

    private mutating func takeFields(_ bytes: Span<UInt8>, _ table: FieldTable) {
        var upgradeLines = 0
        for index in 0..<table.count {
            switch table[index].name {
            case .date: hasDate = true
            case .upgrade:
                upgradeLines += 1
                upgradesToWebSocket = upgradeLines == 1 && Bytes.equal(bytes, table[index].value, "websocket")
            default: break
            }
        }
    }

    /// `HTTP/1.x SSS reason`: the minor version.
    private mutating func parseLine(_ bytes: Span<UInt8>) -> Int? {
        guard bytes.count >= 15, Bytes.equalExactly(bytes, 0..<7, "HTTP/1."), Bytes.isDigit(bytes[7]),
            bytes[8] == Bytes.space
        else { return nil }
        var value = 0
        for at in 9..<12 {
            guard Bytes.isDigit(bytes[at]) else { return nil }
            value = value * 10 + Int(bytes[at] - 0x30)
        }
        guard 100...599 ~= value else { return nil }
        status = value
        var at = 12
        // The space is required even before an empty reason; many servers leave it out and nobody is misled by that.
        guard bytes[at] == Bytes.space || bytes[at] == Bytes.cr else { return nil }
        while Bytes.isValue(bytes[at]) { at += 1 }
        guard bytes[at] == Bytes.cr, bytes[at + 1] == Bytes.lf else { return nil }
        fieldsStart = at + 2
        return bytes[7] == UInt8(ascii: "0") ? 0 : 1
    }
}
