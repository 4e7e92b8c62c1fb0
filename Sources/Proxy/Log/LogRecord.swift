// LogRecord: what the access log says about a request or a connection, as a worker notes it down. Plain values.
//
// A worker keeps one for each request under way and fills it in as the request goes on; at the end it goes into the
// worker's ring as it is, followed by its text (method and target). Names, the time of day and the form are added by the
// log's thread.

/// Who or what ended a request, as the first letter of the termination state.
enum LogCause: UInt8, CaseIterable {
    /// Complete.
    case none = 0x2d  // -
    /// The client closed or broke the connection.
    case client = 0x43  // C
    /// The client was silent or too slow for too long.
    case clientTimeout = 0x63  // c
    /// The server refused, closed or broke the connection, or sent something that is no response.
    case server = 0x53  // S
    /// The server was silent for too long.
    case serverTimeout = 0x73  // s
    /// Refused here: malformed, beyond a limit, or by a rule.
    case proxy = 0x50  // P
    /// No place: a queue or a table was full.
    case resource = 0x52  // R
    /// Ended with this node's data plane.
    case killed = 0x4b  // K
}

/// How far the request was, as the second letter.
enum LogPhase: UInt8, CaseIterable {
    /// Complete.
    case none = 0x2d  // -
    /// Its head was being received.
    case request = 0x52  // R
    /// It waited for a server's turn.
    case queue = 0x51  // Q
    /// A connection to a server was being made.
    case connect = 0x43  // C
    /// The response's head was waited for (and the request's body being sent).
    case head = 0x48  // H
    /// The response, or the bytes of a connection, were being moved.
    case data = 0x44  // D
}

struct LogRecord: BitwiseCopyable {
    /// The first byte of the request, or the connection's begin: milliseconds of the boot clock.
    var startMs: UInt64
    /// The end of the last step.
    var markMs: UInt64
    var client: SocketAddress
    var bytesIn: UInt64 = 0
    var bytesOut: UInt64 = 0
    var frontend: Int32
    var backend: Int32
    /// The slot of the last server tried; -1: none.
    var server: Int32 = -1
    // How long each step took, in milliseconds; -1 when it wasn't reached.
    var headMs: Int32 = -1
    var queueMs: Int32 = -1
    var connectMs: Int32 = -1
    var responseMs: Int32 = -1
    var totalMs: Int32 = -1
    /// 0: no response was begun.
    var status: UInt16 = 0
    /// The text: method, a space, target.
    var textBytes: UInt16 = 0
    var methodBytes: UInt8 = 0
    var retries: UInt8 = 0
    var cause = LogCause.none
    var phase = LogPhase.none
    /// A connection that was forwarded as it is, without requests.
    var isConnection = false
    var isVersion10 = false
    /// The target went on, or a query was left out.
    var isCut = false

    init(startMs: UInt64, client: SocketAddress, frontend: Int32, backend: Int32, isConnection: Bool = false) {
        self.startMs = startMs
        markMs = startMs
        self.client = client
        self.frontend = frontend
        self.backend = backend
        self.isConnection = isConnection
    }

    /// The milliseconds since the last step, which ends now.
    @inline(__always) mutating func lap(_ nowMs: UInt64) -> Int32 {
        let span = Int32(clamping: nowMs - markMs)
        markMs = nowMs
        return span
    }

    /// Bytes of a text that are kept.
    static let textBytesMax = 1_024
}
