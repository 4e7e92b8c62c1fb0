// LocalAnswer: the responses that the data plane gives by itself: refusals, and what it says when servers fail.
// Texts are built once per worker. Bodies are short JSON, and say nothing about servers.

enum LocalAnswer: Int, CaseIterable {
    case badRequest, requestTimeout, contentTooLarge, targetTooLong, fieldsTooLarge
    case notImplemented, badGateway, noServer, gatewayTimeout, versionNotSupported

    init(_ refusal: Refusal) {
        switch refusal {
        case .badRequest: self = .badRequest
        case .contentTooLarge: self = .contentTooLarge
        case .targetTooLong: self = .targetTooLong
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
        case .fieldsTooLarge: 431
        case .notImplemented: 501
        case .badGateway: 502
        case .noServer: 503
        case .gatewayTimeout: 504
        case .versionNotSupported: 505
        }
    }

    private var reason: String {
        switch self {
        case .badRequest: "Bad Request"
        case .requestTimeout: "Request Timeout"
        case .contentTooLarge: "Content Too Large"
        case .targetTooLong: "URI Too Long"
        case .fieldsTooLarge: "Request Header Fields Too Large"
        case .notImplemented: "Not Implemented"
        case .badGateway: "Bad Gateway"
        case .noServer: "Service Unavailable"
        case .gatewayTimeout: "Gateway Timeout"
        case .versionNotSupported: "HTTP Version Not Supported"
        }
    }

    private var explanation: String {
        switch self {
        case .badRequest: "The request is malformed."
        case .requestTimeout: "The request took too long to arrive."
        case .contentTooLarge: "The request's body is too large."
        case .targetTooLong: "The request's target is too long."
        case .fieldsTooLarge: "The request has too many or too long header fields."
        case .notImplemented: "The request's method or transfer coding is not supported."
        case .badGateway: "No server gave a valid response. Try again."
        case .noServer: "No server is available now. Try again in a moment."
        case .gatewayTimeout: "No server answered in time. Try again."
        case .versionNotSupported: "Only HTTP/1.0 and HTTP/1.1 are spoken here."
        }
    }

    /// The head up to where `Connection` may follow, and the body.
    var texts: (head: ContiguousArray<UInt8>, body: ContiguousArray<UInt8>) {
        let body = #"{"status":\#(status),"error":"\#(reason)","message":"\#(explanation)"}"# + "\n"
        // Browsers and crawlers come back by themselves when told when.
        let retry = self == .noServer ? "Retry-After: 1\r\n" : ""
        let head =
            "HTTP/1.1 \(status) \(reason)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
            + "Cache-Control: no-store\r\n\(retry)"
        return (ContiguousArray(head.utf8), ContiguousArray(body.utf8))
    }
}
