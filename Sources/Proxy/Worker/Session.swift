// Session: what a worker keeps for a client connection (`Session`) and for a connection to a server (`ServerLink`).
// Plain values in slabs; the worker's extensions are the verbs. One worker thread owns them.
//
// A session's states, what each waits for, and which deadline ends it:
//
//   state       waits for                          deadline      then
//   idle        a request's first byte             keepAlive*    closed in silence
//   head        the rest of the request head       request       408, closed
//   queued      a place at a server                queue         503
//   connecting  the server's accept                connect       another server, or 504
//   exchanging  body upwards, response downwards   client/server 408/504 or cut, see below
//   tunnel      bytes either way (TCP, after 101)  tunnel        reset
//   preface     the rest of a PROXY header         request       closed in silence
//   lingering   the client's end, after a refusal  linger        closed
//
//   accepted ─▶ idle ─▶ head ─▶ connecting ─▶ exchanging ─▶ idle (keep-alive) | lingering | closed
//                         │          ▲  │          │  └──▶ tunnel ─▶ closed
//                         │          └──┴──────────┘ retry: connect failed, or closed before a response byte
//                         └─▶ exchanging without a server: an answer of our own is being sent
//   queued stands before connecting when every server is full.
//   * a connection that has not had a request yet has `request` instead.
//
// exchanging waits, in this order, for: the client to take response bytes (client), the client to send more of its
// body (client), the server (server). Each event starts the span anew.
//
// Edge-triggered readiness: `isReadable`/`isWritable` say what the kernel last told; they are cleared by a transfer that
// moved less than asked, and set again by the next event. A peer's end keeps `isReadable` until it has been read.

enum SessionState: UInt8 {
    case idle, head, queued, connecting, exchanging, tunnel, preface, lingering
}

/// A client connection.
struct Session: BitwiseCopyable {
    let descriptor: Int32
    /// Slots of the frontend that accepted it, and of the backend that its current request goes to.
    let frontend: Int32
    var backend: Int32 = -1
    /// The client; the one that its PROXY header names, when it has one.
    var peer: SocketAddress
    /// Who the current request came from: the peer, or whom a trusted proxy named. Not for sending anything there.
    var client: SocketAddress
    var state = SessionState.idle
    /// Short connections end before they are worth registering with the reactor.
    var isRegistered = false
    var isReadable = true
    var isWritable = true
    var peerClosed = false
    /// Its bytes are forwarded as they come.
    let isTCP: Bool
    /// A PROXY header said what the client connected to.
    var hasDestination = false
    /// The server is told of it by a PROXY header.
    var sendsHeader = false
    /// What it is as a tunnel, -1 before.
    var tunnel: Int32 = -1
    /// It stands in the worker's list for the rest of a long response.
    var isPending = false
    /// Had a request already.
    var isUsed = false

    /// Bytes from the client that aren't consumed.
    var input = Stretch()
    /// The bytes at the start of `input` that belong to the current body and passed the framer.
    var framed: Int32 = 0
    var requestScan = HeadScan()
    /// The current request as the server gets it: its head and as much of its body as fits. Kept until a response
    /// starts, because it may have to be sent again.
    var request = Stretch()
    var requestSent: Int32 = 0
    var requestFramer = BodyFramer.empty
    /// Of the current request's body, framing included.
    var bodyBytes: UInt64 = 0
    /// The client holds its body back until it hears 100 (or loses patience).
    var awaitsContinue = false

    /// Bytes for the client: first `ready` ones that may be sent, then those of a response head that isn't complete.
    var response = Stretch()
    var ready: Int32 = 0
    /// Bytes of its body that pass through a pipe; only when `ready` has left.
    var piped = PipedBytes()
    var responseScan = HeadScan()
    var responseFramer = BodyFramer.empty

    /// The connection to a server, -1 when there is none.
    var link: Int32 = -1
    /// The server of whose limited places it has one, -1 when there is none.
    var place: Int32 = -1
    /// It has one of its frontend's limited places.
    var holdsPlace = false
    var tried = TriedServers()
    /// What `Balance.hash` goes by; 0: nothing.
    var key: UInt64 = 0
    /// The slot of the server that its cookie names, -1 when none can be used; counts only where the backend has a cookie.
    var stuck: Int32 = -1
    /// That cookie needs no replacement as long as this server answers.
    var isStickFresh = false
    /// When the server was chosen, in microseconds: the turn's time.
    var chosenUs: UInt64 = 0
    /// What the access log knows of the current request; -1: nothing.
    var logEntry: Int32 = -1
    /// How it was counted among its client's connections, if it was.
    var counted: SourceCounts.Connection?
    /// How long it may go on being slow.
    var patience = Patience.none
    /// What the kernel held for the client when it last took nothing more.
    var unsent: Int32 = 0
    /// Attempts after the first.
    var retries: UInt8 = 0
    /// The last failure was a timeout (504) rather than a broken connection (502).
    var timedOut = false

    // The current request.
    var keepsAlive = false
    var isVersion10 = false
    var prefersHTML = false
    var isHeadMethod = false
    var isIdempotent = false
    var upgrades = false
    /// A request is being worked on.
    var isBusy = false
    /// The response's own head has been read and rewritten.
    var hasResponseHead = false
    /// A byte of a final response was handed to the client's socket.
    var responseStarted = false
    /// Interim responses so far.
    var interims: UInt8 = 0
    /// The whole response has been read.
    var responseDone = false
    /// The response's chunked coding is taken off (HTTP/1.0 clients).
    var decodes = false
    /// The connection to the server can carry another request.
    var linkIsReusable = false

    init(descriptor: Int32, frontend: Int32, peer: SocketAddress, isTCP: Bool) {
        self.descriptor = descriptor
        self.frontend = frontend
        self.peer = peer
        client = peer
        self.isTCP = isTCP
    }

    /// The part of `request` that hasn't been sent.
    var unsentRequest: Stretch {
        Stretch(buffer: request.buffer, start: request.start + requestSent, end: request.end)
    }

    /// Everything of the request has been taken by the server's socket.
    var requestDone: Bool { requestFramer.isDone && framed == 0 && unsentRequest.isEmpty }

    /// Bytes of the response are ready to be sent.
    var owesClient: Bool { ready > 0 || !piped.isEmpty }

    /// What `exchanging` waits for.
    var waitsForClient: Bool {
        if owesClient || link < 0 { return true }
        return !requestFramer.isDone && framed == 0 && unsentRequest.isEmpty && !awaitsContinue
    }
}

/// A connection to a server: in use by one session, or idle in its server's pool.
struct ServerLink: BitwiseCopyable {
    let descriptor: Int32
    /// The server's slot, and which of the addresses it had.
    let server: Int32
    let epoch: UInt32
    /// The session that uses it, -1 when idle.
    var session: Int32
    var isConnected = false
    var isReadable = false
    var isWritable = false
    var peerClosed = false
    /// It began with a PROXY header, so it can't serve another client.
    var isPersonal = false
    /// It carried a request before the current one.
    var isReused = false
    /// Neighbours in the pool, -1 at the ends; the head was used last.
    var next: Int32 = -1
    var previous: Int32 = -1
    var idleSinceMs: UInt64 = 0

    init(descriptor: Int32, server: Int32, epoch: UInt32, session: Int32) {
        self.descriptor = descriptor
        self.server = server
        self.epoch = epoch
        self.session = session
    }
}

/// What a worker keeps for a server.
struct ServerState: BitwiseCopyable {
    var address = SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
    /// The hash of its id.
    var key: UInt64 = 0
    /// Raised when the slot gets another address: connections to the old one aren't reused.
    var epoch: UInt32 = 0
    var backend: Int32 = -1
    var isUsable = false
    /// Its places are counted.
    var isLimited = false
    var inFlight: Int32 = 0
    var firstIdle: Int32 = -1
    var lastIdle: Int32 = -1
    var idleCount: Int32 = 0
    /// When a suspicion was last reported; not again for a while.
    var suspectedMs: UInt64 = 0
}
