// StatusRoutes: which request to the status port gets what. Pure: what needs the runtime is handed back as a route.

/// What to do with a request.
enum StatusRoute: Sendable, Equatable {
    case reply(StatusResponse)
    /// Needs a report to be made from.
    case view(StatusView)
    /// An authorized change for the runtime.
    case change(AdminRequest)
}

/// What is made from a report.
enum StatusView: Sendable, Equatable {
    case json, ready, metrics, page, csv, events, live
}

struct StatusResponse: Sendable, Equatable {
    var status: Int
    var type = "text/plain; charset=utf-8"
    var fields: [String] = []
    var body: [UInt8]

    init(_ status: Int, _ text: String, fields: [String] = []) {
        self.status = status
        self.fields = fields
        body = Array("\(text)\n".utf8)
    }

    init(_ status: Int, type: String, body: [UInt8], fields: [String] = []) {
        self.status = status
        self.type = type
        self.fields = fields
        self.body = body
    }

    /// What an admin request gets: `{"ok": …, "text": …}`.
    static func admin(_ status: Int, _ text: String, fields: [String] = []) -> StatusResponse {
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("ok", status < 300)
            writer.field("text", text)
        }
        return StatusResponse(status, type: "application/json", body: writer.bytes + [10], fields: fields)
    }

    /// The bytes to send.
    /// - Parameter length: false leaves Content-Length out: the body goes on until the connection closes.
    func encode(keepsAlive: Bool, omitsBody: Bool, length: Bool = true) -> [UInt8] {
        var head = "HTTP/1.1 \(status) \(Self.phrase(status))\r\nContent-Type: \(type)\r\n"
        if length { head += "Content-Length: \(body.count)\r\n" }
        head += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        for field in fields { head += field + "\r\n" }
        head += keepsAlive ? "\r\n" : "Connection: close\r\n\r\n"
        return Array(head.utf8) + (omitsBody ? [] : body)
    }

    private static func phrase(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 202: "Accepted"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 409: "Conflict"
        case 411: "Length Required"
        case 408: "Request Timeout"
        case 413: "Content Too Large"
        case 417: "Expectation Failed"
        case 431: "Request Header Fields Too Large"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        default: status < 400 ? "OK" : "Error"
        }
    }
}

extension StatusRoute {
    init(_ request: StatusRequest, _ access: StatusAccess) {
        let admin = "/admin/"
        if request.path.hasPrefix(admin) {
            self = Self.change(String(request.path.dropFirst(admin.count)), request, access)
            return
        }
        guard let view = Self.views[request.path] else {
            self = .reply(
                StatusResponse(
                    404, "no such page; there are /, /status, /metrics, /stats;csv, /events, /health, /ready"))
            return
        }
        guard request.method == "GET" || request.method == "HEAD" else {
            self = .reply(StatusResponse(405, "use GET here", fields: ["Allow: GET, HEAD"]))
            return
        }
        guard let view else {
            self = .reply(StatusResponse(200, "ok"))
            return
        }
        switch view == .ready ? .allowed : access.toRead(request.authorization) {
        case .allowed: self = .view(view)
        case .unauthorized(let challenge, let text):
            self = .reply(StatusResponse(401, text, fields: ["WWW-Authenticate: \(challenge)"]))
        case .forbidden(let text): self = .reply(StatusResponse(403, text))
        }
    }

    /// nil: needs no report (`/health`: the process runs, says the very answer).
    private static let views: [String: StatusView?] = [
        "/": .page, "/stats": .page, "/status": .json, "/metrics": .metrics, "/events": .events, "/ready": .ready,
        "/live": .live, "/stats;csv": .csv, "/;csv": .csv, "/stats;csv;norefresh": .csv,
        "/health": StatusView?.none,
    ]

    private static func change(_ verb: String, _ request: StatusRequest, _ access: StatusAccess) -> StatusRoute {
        guard AdminRequest.verbs.contains(verb) else {
            let known = AdminRequest.verbs.map { "/admin/\($0)" }.joined(separator: ", ")
            return .reply(.admin(404, "no such change; there are \(known)"))
        }
        guard request.method == "POST" else {
            return .reply(.admin(405, "use POST here", fields: ["Allow: POST"]))
        }
        switch access.toChange(request.authorization) {
        case .allowed: break
        case .unauthorized(let challenge, let text):
            return .reply(.admin(401, text, fields: ["WWW-Authenticate: \(challenge)"]))
        case .forbidden(let text): return .reply(.admin(403, text))
        }
        do throws(AdminRequest.Problem) {
            return .change(try AdminRequest(verb: verb, body: request.body))
        } catch {
            return .reply(.admin(400, error.text))
        }
    }
}

extension StatusView {
    func response(_ report: StatusReport) -> StatusResponse {
        switch self {
        case .json: return StatusResponse(200, type: "application/json", body: report.json() + [10])
        case .ready:
            if let why = report.unready { return StatusResponse(503, why) }
            return StatusResponse(200, "ready")
        case .metrics:
            return StatusResponse(
                200, type: "text/plain; version=0.0.4; charset=utf-8", body: StatusMetrics.text(report))
        case .page:
            return StatusResponse(
                200, type: "text/html; charset=utf-8", body: StatusPage.html(report),
                fields: [StatusPage.policy, "Referrer-Policy: no-referrer"])
        case .csv: return StatusResponse(200, type: "text/plain; charset=utf-8", body: StatusCSV.text(report))
        case .live:
            let body = Array("retry: 1000\n\n".utf8) + Self.frame(report)
            return StatusResponse(200, type: "text/event-stream", body: body)
        case .events:
            var body = Array("retry: 2000\n\n".utf8)
            for event in report.events { body += Self.message(event) }
            return StatusResponse(200, type: "text/event-stream", body: body)
        }
    }

    /// The page's changing part, as a server-sent event.
    static func frame(_ report: StatusReport) -> [UInt8] {
        Array("event: main\ndata: \(StatusPage.main(report))\n\n".utf8)
    }

    /// One server-sent event.
    static func message(_ event: StatusEvent) -> [UInt8] {
        Array("data: ".utf8) + event.json() + Array("\n\n".utf8)
    }
}
