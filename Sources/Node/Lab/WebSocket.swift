// WebSocket: the few parts of RFC 6455 that an echo and its client need. Pure.
//
// Frames are read one at a time and echoed as they are, fragments included; nothing is interpreted but the opcode.

enum WebSocket {
    enum Limit {
        static let payload = 64 << 10
    }

    enum Opcode {
        static let text: UInt8 = 1
        static let close: UInt8 = 8
        static let ping: UInt8 = 9
        static let pong: UInt8 = 10
    }

    struct Frame: Equatable {
        var isFinal = true
        var opcode = Opcode.text
        var payload: [UInt8] = []
        var isMasked = false
    }

    enum Step: Equatable {
        case needMore
        case frame(Frame)
        /// Not a frame, or one that is too long.
        case refused
    }

    /// What the server answers to a client's key (RFC 6455, 4.2.2).
    static func accept(_ key: String) -> String {
        Base64.encode(SHA1.hash(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    }

    /// Takes a frame from the front of `input`.
    static func read(_ input: inout [UInt8]) -> Step {
        guard input.count >= 2 else { return .needMore }
        guard input[0] & 0x70 == 0 else { return .refused }
        var length = Int(input[1] & 0x7f)
        var start = 2
        if length == 127 { return .refused }
        if length == 126 {
            guard input.count >= 4 else { return .needMore }
            length = Int(input[2]) << 8 | Int(input[3])
            start = 4
        }
        guard length <= Limit.payload else { return .refused }
        var frame = Frame(isFinal: input[0] & 0x80 != 0, opcode: input[0] & 15, isMasked: input[1] & 0x80 != 0)
        let maskLength = frame.isMasked ? 4 : 0
        guard input.count >= start + maskLength + length else { return .needMore }
        let mask = Array(input[start..<start + maskLength])
        start += maskLength
        frame.payload = Array(input[start..<start + length])
        if frame.isMasked { for index in 0..<length { frame.payload[index] ^= mask[index % 4] } }
        input.removeFirst(start + length)
        return .frame(frame)
    }

    /// - Parameter mask: of a client, four bytes; nil from a server.
    static func write(_ frame: Frame, mask: [UInt8]? = nil) -> [UInt8] {
        let count = frame.payload.count
        let marked: UInt8 = mask == nil ? 0 : 0x80
        var bytes = [(frame.isFinal ? 0x80 : 0) | frame.opcode]
        bytes += count < 126 ? [marked | UInt8(count)] : [marked | 126, UInt8(count >> 8), UInt8(count & 0xff)]
        guard let mask else { return bytes + frame.payload }
        return bytes + mask + frame.payload.enumerated().map { $1 ^ mask[$0 % 4] }
    }
}
