// LocalAnswer: the responses that the data plane gives by itself: refusals, and what it says when servers fail.
// Small JSON, or a small HTML page for browsers; they say nothing about servers. A frontend's error pages replace both.
// Texts are written into pooled buffers once, when a worker learns its settings, and only copied from there.

enum LocalAnswer: Int, CaseIterable {
    case badRequest, requestTimeout, contentTooLarge, targetTooLong, misdirected, tooManyRequests, fieldsTooLarge
    case notImplemented, badGateway, noServer, gatewayTimeout, versionNotSupported
    /// OPTIONS that may be forwarded no further.
    case options

    init(_ refusal: Refusal) {
        switch refusal {
        case .badRequest: self = .badRequest
        case .contentTooLarge: self = .contentTooLarge
        case .targetTooLong: self = .targetTooLong
        case .misdirected: self = .misdirected
        case .fieldsTooLarge: self = .fieldsTooLarge
        case .notImplemented: self = .notImplemented
        case .versionNotSupported: self = .versionNotSupported
        }
    }

    var status: Int {
        switch self {
        case .badRequest: 400
        case .requestTimeout: 408
        case .contentTooLarge: 413
        case .targetTooLong: 414
        case .misdirected: 421
        case .tooManyRequests: 429
        case .fieldsTooLarge: 431
        case .notImplemented: 501
        case .badGateway: 502
        case .noServer: 503
        case .gatewayTimeout: 504
        case .versionNotSupported: 505
        case .options: 200
        }
    }

    private var reason: String {
        switch self {
        case .badRequest: "Bad Request"
        case .requestTimeout: "Request Timeout"
        case .contentTooLarge: "Content Too Large"
        case .targetTooLong: "URI Too Long"
        case .misdirected: "Misdirected Request"
        case .tooManyRequests: "Too Many Requests"
        case .fieldsTooLarge: "Request Header Fields Too Large"
        case .notImplemented: "Not Implemented"
        case .badGateway: "Bad Gateway"
        case .noServer: "Service Unavailable"
        case .gatewayTimeout: "Gateway Timeout"
        case .versionNotSupported: "HTTP Version Not Supported"
        case .options: "OK"
        }
    }

    private var explanation: String {
        switch self {
        case .badRequest: "The request is malformed."
        case .requestTimeout: "The request took too long to arrive."
        case .contentTooLarge: "The request's body is too large."
        case .targetTooLong: "The request's target is too long."
        case .misdirected: "An https resource was asked for over a connection without TLS."
        case .tooManyRequests: "Too many requests came from your address. Try again in a moment."
        case .fieldsTooLarge: "The request has too many or too long header fields."
        case .notImplemented: "The request's method or transfer coding is not supported."
        case .badGateway: "No server gave a valid response. Try again."
        case .noServer: "No server is available now. Try again in a moment."
        case .gatewayTimeout: "No server answered in time. Try again."
        case .versionNotSupported: "Only HTTP/1.0 and HTTP/1.1 are spoken here."
        case .options: ""
        }
    }

    private var json: String { #"{"status":\#(status),"error":"\#(reason)","message":"\#(explanation)"}"# + "\n" }

    private var html: String {
        """
        <!doctype html>
        <html lang="en">
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width">
        <title>\(status) \(reason)</title>
        <style>body { font: 1.1em sans-serif; max-width: 32em; margin: 15vh auto; padding: 0 1em }</style>
        <h1>\(reason)</h1>
        <p>\(explanation)</p>
        <p><small>\(status)</small></p>
        </html>

        """
    }

    /// Where this answer stands among a frontend's.
    @inline(__always) func place(html: Bool) -> Int { 2 * rawValue + (html ? 1 : 0) }

    /// The head up to where `Date` and `Connection` follow, and the body.
    func texts(html isHTML: Bool, _ page: ErrorPage?) -> (head: ContiguousArray<UInt8>, body: ContiguousArray<UInt8>) {
        let own = self == .options ? "" : isHTML ? html : json
        let body = page.map { ContiguousArray($0.body) } ?? ContiguousArray(own.utf8)
        let type = page?.contentType ?? (isHTML ? "text/html; charset=utf-8" : "application/json")
        var head = "HTTP/1.1 \(status) \(reason)\r\nContent-Length: \(body.count)\r\n"
        if self != .options { head += "Content-Type: \(type)\r\nCache-Control: no-store\r\n" }
        // Browsers and crawlers come back by themselves when told when.
        if self == .noServer || self == .tooManyRequests { head += "Retry-After: 1\r\n" }
        return (ContiguousArray(head.utf8), body)
    }
}

/// What clients get in place of our own text for a status.
public struct ErrorPage: Sendable, Equatable {
    public var status: Int
    /// The value of Content-Type.
    public var contentType: String
    /// At most a buffer less `ProxyLimits.errorPageRoom`.
    public var body: [UInt8]

    public init(status: Int, contentType: String, body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    /// The statuses that the data plane answers with by itself, and that a page can replace.
    public static var statuses: [Int] { LocalAnswer.allCases.map(\.status).filter { $0 >= 400 }.sorted() }
}

/// Where an answer's parts stand.
struct AnswerText: BitwiseCopyable {
    var head = Stretch()
    var body = Stretch()
}

/// Packs the answers of all frontends into pooled buffers.
struct AnswerWriter {
    private(set) var texts: ContiguousArray<AnswerText> = []
    /// Taken from the pool.
    private(set) var buffers: [Int32] = []
    private var written: [(pages: [ErrorPage], first: Int)] = []
    private var end = 0

    /// Answers with these pages; the place of the first in `texts`.
    mutating func add(_ pages: [ErrorPage], _ pool: borrowing BufferPool) -> Int {
        if let known = written.first(where: { $0.pages == pages }) { return known.first }
        let first = texts.count
        for answer in LocalAnswer.allCases {
            let page = pages.first { $0.status == answer.status }
            for html in [false, true] {
                // A page stands for both.
                if html, page != nil, let last = texts.last {
                    texts.append(last)
                    continue
                }
                let text = answer.texts(html: html, page)
                texts.append(AnswerText(head: store(text.head, pool), body: store(text.body, pool)))
            }
        }
        written.append((pages, first))
        return first
    }

    private mutating func store(_ bytes: ContiguousArray<UInt8>, _ pool: borrowing BufferPool) -> Stretch {
        precondition(bytes.count <= pool.smallBytes)
        if buffers.isEmpty || end + bytes.count > pool.smallBytes {
            buffers.append(pool.take())
            end = 0
        }
        let buffer = buffers[buffers.count - 1]
        pool.store(bytes, buffer, end)
        defer { end += bytes.count }
        return Stretch(buffer: buffer, start: Int32(end), end: Int32(end + bytes.count))
    }
}
