// ConfigurationClients: what HTTP frontends tell servers about clients, and clients about servers: who a request came
// from, which response fields are hidden, and the pages that stand in for the texts of errors.

import Glibc
import Gossip
import Proxy

extension Configuration {
    /// Which fields name the client to servers.
    enum Forwarded: String, Sendable, Equatable, CaseIterable {
        case x = "x-forwarded"
        case standard = "forwarded"
        case both
        case off

        var style: ForwardedStyle {
            switch self {
            case .x: .x
            case .standard: .rfc7239
            case .both: .both
            case .off: .none
            }
        }
    }

    enum HiddenHeader: String, Sendable, Equatable, CaseIterable {
        case server = "Server"
        case poweredBy = "X-Powered-By"
        case via = "Via"

        var field: HiddenFields {
            switch self {
            case .server: .server
            case .poweredBy: .poweredBy
            case .via: .via
            }
        }
    }

    /// How a frontend speaks of clients and to them. The defaults are what most want.
    struct Clients: Sendable, Equatable {
        var forwarded = Forwarded.x
        /// Networks of the proxies whose word on the client counts.
        var trustedProxies: [AddressBlock] = []
        var hideHeaders = HiddenHeader.allCases
        /// By status, each at most once.
        var errorPages: [ErrorPage] = []

        func apply(to settings: inout FrontendSettings) {
            settings.forwarded = forwarded.style
            settings.trustedProxies = trustedProxies.map(\.network)
            settings.hides = hideHeaders.reduce(into: []) { $0.insert($1.field) }
            settings.errorPages = errorPages
        }

        func write(to writer: inout ByteWriter) {
            writer.string(forwarded.rawValue)
            writer.varint(trustedProxies.count)
            for block in trustedProxies { writer.string(block.description) }
            writer.varint(Int(hideHeaders.reduce(into: HiddenFields()) { $0.insert($1.field) }.rawValue))
            writer.varint(errorPages.count)
            for page in errorPages {
                writer.varint(page.status)
                writer.string(page.contentType)
                writer.varint(page.body.count)
                // Pages are files beside this one: nodes must have the same.
                for byte in SHA256.digest(page.body) { writer.byte(byte) }
            }
        }
    }
}

extension ConfigurationReader {
    private static let clientKeys = ["forwarded", "trustedProxies", "hideHeaders", "errorPages"]

    /// - Parameter pageBytesMax: what a page may have.
    mutating func clients(
        _ fields: Fields, mode: Configuration.Frontend.Mode, pageBytesMax: Int
    ) -> Configuration.Clients {
        var clients = Configuration.Clients()
        if mode == .tcp {
            for key in Self.clientKeys {
                guard let place = fields.optional(key) else { continue }
                report.add(
                    place, "belongs to a frontend of mode \"http\"; mode \"tcp\" doesn't look into what it forwards")
            }
            return clients
        }
        let forwarded = fields.optional("forwarded")
        clients.forwarded = forwarded?.choice(Configuration.Forwarded.self, "way to name clients", &report) ?? .x
        if let place = fields.optional("trustedProxies") {
            clients.trustedProxies = addressBlocks(
                place, "the networks of the proxies in front: trustedProxies: [\"10.0.0.0/8\"]")
        }
        if let place = fields.optional("hideHeaders"),
            let elements = place.elements("a list of response headers, [] to hide none", &report)
        {
            clients.hideHeaders = elements.compactMap {
                $0.choice(Configuration.HiddenHeader.self, "header", &report)
            }
        }
        if let place = fields.optional("errorPages") { clients.errorPages = errorPages(place, pageBytesMax) }
        return clients
    }

    private mutating func errorPages(_ place: Placed, _ bytesMax: Int) -> [ErrorPage] {
        let statuses = ErrorPage.statuses
        guard let fields = Fields(place, known: statuses.map(String.init), &report) else { return [] }
        return statuses.compactMap { status in
            fields.optional(String(status)).flatMap { errorPage($0, status, bytesMax) }
        }
    }

    private mutating func errorPage(_ place: Placed, _ status: Int, _ bytesMax: Int) -> ErrorPage? {
        guard let name = place.string("the path of a page, such as \"\(status).html\"", &report) else { return nil }
        let type: String
        switch name.split(separator: ".").last.map(String.init) {
        case "html": type = "text/html; charset=utf-8"
        case "json": type = "application/json"
        case "txt": type = "text/plain; charset=utf-8"
        default:
            report.add(place, "\(place.shown) must end in .html, .json or .txt, which says what it is")
            return nil
        }
        let path = resolve(name)
        let room = "what fits one buffer (limits.buffer) with \(ProxyLimits.errorPageRoom) bytes for the head"
        do {
            return ErrorPage(status: status, contentType: type, body: try disk.read(path, limit: bytesMax))
        } catch  where error.code == EFBIG {
            report.add(place, "\(path) is larger than \(bytesMax) bytes, \(room)")
        } catch {
            let remedy = error.readingRemedy ?? "write the page there, on every node"
            report.add(place, "can't read \(path): \(error.reason); \(remedy)")
        }
        return nil
    }
}
