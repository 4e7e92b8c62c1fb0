// ConfigurationChecks: how a backend's servers are checked: `backends[].check`.

import Proxy

extension ConfigurationReader {
    mutating func check(_ place: Placed?) -> Configuration.Check {
        var check = Configuration.Check(
            kind: .tcp, interval: .seconds(1), timeout: .milliseconds(500), rise: 2, fall: 2)
        guard let place, let fields = Fields(place, .check, &report) else { return check }
        check.kind = checkKind(fields)
        let longest = Duration.seconds(3600)
        check.interval = fields.optional("interval")?.duration(.milliseconds(50)...longest, &report) ?? check.interval
        let timeout = fields.optional("timeout")
        check.timeout =
            timeout?.duration(.milliseconds(10)...longest, &report) ?? min(check.timeout, check.interval)
        if let timeout, check.timeout > check.interval {
            report.add(
                timeout,
                "\(Quantity.text(check.timeout)) is longer than the interval "
                    + "(\(Quantity.text(check.interval))): a check must be over before the next begins")
        }
        check.rise = fields.optional("rise")?.integer(1...100, "a count", &report) ?? check.rise
        check.fall = fields.optional("fall")?.integer(1...100, "a count", &report) ?? check.fall
        return check
    }

    private enum CheckType: String, CaseIterable { case tcp, http, icmp }
    private enum CheckMethod: String, CaseIterable { case get = "GET", head = "HEAD", options = "OPTIONS" }

    private mutating func checkKind(_ fields: Fields) -> Configuration.Check.Kind {
        let place = fields.required("type", "what to check: type: \"http\", \"tcp\" or \"icmp\"", &report)
        let type = place?.choice(CheckType.self, later: ["grpc", "script"], "check type", &report)
        if let type, type != .http {
            let all = type == .tcp ? "a tcp check only opens a connection" : "an icmp check only sends an echo"
            for key in ["method", "path", "host", "expect", "expectBody", "sameContent"] {
                if let extra = fields.optional(key) {
                    report.add(extra, "belongs to a check of type \"http\"; \(all)")
                }
            }
            return type == .tcp ? .tcp : .icmp
        }
        return .http(httpCheck(fields))
    }

    private mutating func httpCheck(_ fields: Fields) -> HTTPCheck {
        let method = fields.optional("method")?.choice(CheckMethod.self, "method", &report) ?? .get
        let path = fields.optional("path").flatMap { visible($0, "a path, such as \"/health\"") } ?? "/"
        if let place = fields.optional("path"), !path.hasPrefix("/") {
            report.add(place, "must begin with \"/\": \"/\(path)\"")
        }
        let host = fields.optional("host").flatMap { visible($0, "a host name") }
        let statuses = fields.optional("expect").flatMap { statusRanges($0) } ?? StatusRanges(200)
        let bodyPlace = fields.optional("expectBody")
        let text = bodyPlace.flatMap { bodyText($0) }
        let samePlace = fields.optional("sameContent")
        let isSame = samePlace?.flag(&report) ?? false
        if method == .head, let place = isSame ? samePlace : bodyPlace {
            report.add(place, "an answer to HEAD has no body; use method: \"GET\"")
        }
        return HTTPCheck(
            method: method.rawValue, path: path, host: host, expect: statuses, expectBody: text, sameContent: isSame)
    }

    /// `200`, `"200-399"`, or a list of such.
    private mutating func statusRanges(_ place: Placed) -> StatusRanges? {
        guard case .array = place.value.content else { return status(place).map { StatusRanges([$0]) } }
        guard let elements = place.elements("a list of HTTP statuses", &report) else { return nil }
        if elements.isEmpty || elements.count > Self.statusesMax {
            report.add(
                place, "holds \(elements.count) statuses; from 1 to \(Self.statusesMax), such as [200, \"300-399\"]")
            return nil
        }
        let ranges = elements.compactMap { status($0) }
        return ranges.count == elements.count ? StatusRanges(ranges) : nil
    }

    private static let statusesMax = 32

    private mutating func status(_ place: Placed) -> ClosedRange<Int>? {
        guard case .string(let text) = place.value.content, Int(text) == nil else {
            return place.integer(200...599, "an HTTP status", &report).map { $0...$0 }
        }
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.count == 3 && $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let low = Int(parts[0]), let high = Int(parts[1]), (200...599).contains(low), (low...599).contains(high)
        else {
            report.add(
                place,
                "\(place.shown) is no HTTP status; write 200, a range such as \"200-399\" (from 200 to 599), or a list")
            return nil
        }
        return low...high
    }

    private mutating func bodyText(_ place: Placed) -> String? {
        guard let text = place.string("text that the body must hold", &report) else { return nil }
        if text.utf8.count <= 1024 { return text }
        report.add(place, "is longer than 1024 bytes; the part of it that matters will do")
        return nil
    }

    /// What goes into a request head as it is: no space, no control character, nothing beyond ASCII.
    private mutating func visible(_ place: Placed, _ expected: String) -> String? {
        guard let text = place.string(expected, &report) else { return nil }
        if text.utf8.allSatisfy({ (33...126).contains($0) }), text.utf8.count <= 1024 { return text }
        report.add(place, "may hold only visible ASCII characters without spaces, at most 1024 (escape others as %XX)")
        return nil
    }
}
