// Worker+Keys: what of a request its server is chosen by, where the backend's balance is `hash`.

/// `HashOn` without its name, which is in the backend's buffer.
enum RequestKey: UInt8 {
    case none, source, uri, header, cookie

    init(_ on: HashOn) {
        switch on {
        case .source: self = .source
        case .uri: self = .uri
        case .header: self = .header
        case .cookie: self = .cookie
        }
    }
}

extension HashOn {
    /// Of the field, or of the cookie.
    var name: String {
        switch self {
        case .source, .uri: ""
        case .header(let name), .cookie(let name): name
        }
    }
}

extension Worker {
    /// Notes the key of a request whose head is in `from` and in `fields`.
    @inline(__always) mutating func findKey(_ slot: Int, _ head: RequestHead, _ from: Stretch) {
        let backend = Int(sessions[slot].backend)
        guard backends[backend].keyKind != .none else { return }
        sessions[slot].key = key(slot, backend, head, from)
    }

    /// Notes the key of a connection to a TCP frontend.
    mutating func findKey(_ slot: Int) {
        guard backends[Int(sessions[slot].backend)].keyKind != .none else { return }
        sessions[slot].key = StableHash.of(sessions[slot].client)
    }

    private func key(_ slot: Int, _ backend: Int, _ head: RequestHead, _ from: Stretch) -> UInt64 {
        switch backends[backend].keyKind {
        case .none: return 0
        case .source: return StableHash.of(sessions[slot].client)
        case .uri:
            var hash = StableHash()
            for at in head.path {
                let byte = buffers.byte(from.buffer, Int(from.start) + at)
                if byte == UInt8(ascii: "?") { break }
                hash.take(byte)
            }
            return hash.value
        case .header:
            for index in 0..<fields.count
            where isSame(fields[index].nameRange, from, backends[backend].keyName, inAnyCase: true) {
                return hash(of: fields[index].value, from)
            }
            return 0
        case .cookie:
            return cookie(backends[backend].keyName, from).map { hash(of: $0, from) } ?? 0
        }
    }

    /// 0 for nothing.
    private func hash(of range: Range<Int>, _ from: Stretch) -> UInt64 {
        if range.isEmpty { return 0 }
        var hash = StableHash()
        for at in range { hash.take(buffers.byte(from.buffer, Int(from.start) + at)) }
        return hash.value
    }

    /// Whether a part of a head is this name, which is in a buffer of its own.
    private func isSame(_ range: Range<Int>, _ from: Stretch, _ name: Stretch, inAnyCase: Bool = false) -> Bool {
        guard range.count == name.count else { return false }
        for offset in 0..<range.count {
            let one = buffers.byte(from.buffer, Int(from.start) + range.lowerBound + offset)
            let other = buffers.byte(name.buffer, Int(name.start) + offset)
            let isEqual = inAnyCase ? Bytes.lowercased(one) == Bytes.lowercased(other) : one == other
            if !isEqual { return false }
        }
        return true
    }

    /// Where the value of a cookie is, without quotes (RFC 6265, 4.2.1 and 5.4); the first of that name. Names are compared
    /// as they are.
    func cookie(_ name: Stretch, _ from: Stretch) -> Range<Int>? {
        for index in 0..<fields.count where fields[index].name == .cookie {
            let field = fields[index]
            let found = buffers.bytes(from) { bytes -> Range<Int>? in
                var cursor = Int(field.valueStart)
                while let pair = Cookies.next(bytes, &cursor, Int(field.valueEnd)) {
                    if isSame(pair.name, from, name) { return pair.value }
                }
                return nil
            }
            if let found { return found }
        }
        return nil
    }
}
