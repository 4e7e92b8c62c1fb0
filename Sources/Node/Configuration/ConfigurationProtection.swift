// ConfigurationProtection: what one client may do (`frontends[].perSource`), and the access log (`log.access`).

import Proxy

extension Configuration {
    /// So many events in a span, as in `"100/s"`. As many may come at once after a rest.
    struct Rate: Sendable, Equatable, CustomStringConvertible {
        var events: Int
        var unit: Unit

        enum Unit: String, Sendable, Equatable, CaseIterable {
            case second = "s"
            case minute = "m"
            case hour = "h"

            var seconds: Int {
                switch self {
                case .second: 1
                case .minute: 60
                case .hour: 3_600
                }
            }
        }

        var description: String { "\(events)/\(unit.rawValue)" }
        var sourceRate: SourceRate { SourceRate(events: events, seconds: unit.seconds, burst: events) }

        /// `100/s`; nil when it isn't such a rate.
        init?(_ text: String) {
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 2, let events = Int(parts[0]), (1...Self.eventsMax).contains(events),
                let unit = Unit(rawValue: String(parts[1]))
            else { return nil }
            (self.events, self.unit) = (events, unit)
        }

        static let eventsMax = 1_000_000
    }

    /// Limits for each client address of a frontend.
    struct PerSource: Sendable, Equatable {
        /// Open at one time.
        var connections: Int?
        /// New connections.
        var connectionRate: Rate?
        var requestRate: Rate?
        /// The bits of an IPv6 address that make a source.
        var prefixV6 = 64
        /// Clients under no limit.
        var exemptSources: [AddressBlock] = []

        var limits: SourceLimits {
            var limits = SourceLimits()
            limits.connections = connections
            limits.connectionRate = connectionRate?.sourceRate
            limits.requestRate = requestRate?.sourceRate
            limits.prefixV6 = prefixV6
            limits.exempt = exemptSources.map(\.network)
            return limits
        }
    }

    /// Where a line for each request or connection goes.
    struct AccessLogSection: Sendable, Equatable {
        /// `stderr`, `stdout` or an absolute path.
        var to: String
        var format = Format.json
        /// Targets are logged with their query.
        var query = true

        enum Format: String, Sendable, Equatable, CaseIterable { case json, haproxy }

        var settings: AccessLogSettings {
            let target: LogTarget = to == "stderr" ? .stderr : to == "stdout" ? .stdout : .file(to)
            return AccessLogSettings(target: target, style: format == .json ? .json : .haproxy, keepsQuery: query)
        }
    }
}

extension ConfigurationReader {
    mutating func perSource(_ place: Placed?, isTCP: Bool) -> Configuration.PerSource? {
        guard let place, let fields = Fields(place, .perSource, &report) else { return nil }
        var limits = Configuration.PerSource()
        limits.connections = fields.optional("connections")?.integer(1...1_000_000, "a limit", &report)
        limits.connectionRate = fields.optional("connectionRate")?.rate(&report)
        limits.requestRate = fields.optional("requestRate")?.rate(&report)
        limits.prefixV6 = fields.optional("prefixV6")?.integer(16...128, "a prefix", &report) ?? limits.prefixV6
        if let exempt = fields.optional("exemptSources") {
            limits.exemptSources = addressBlocks(
                exempt, "networks that are under no limit: exemptSources: [\"10.0.0.0/8\"]")
        }
        if let rate = fields.optional("requestRate"), isTCP {
            report.add(rate, "needs requests to count; a frontend of mode \"tcp\" has connections only")
        }
        if ["connections", "connectionRate", "requestRate"].allSatisfy({ fields.optional($0) == nil }) {
            report.add(
                place, "limits nothing; add connections: 100, connectionRate: \"50/s\" or requestRate: \"100/s\"")
        }
        return limits
    }

    mutating func accessLog(_ place: Placed?) -> Configuration.AccessLogSection? {
        guard let place, let fields = Fields(place, .accessLog, &report) else { return nil }
        let example = "\"stderr\", \"stdout\" or a file: to: \"/var/log/triad/access.log\""
        guard let to = fields.required("to", "where lines go, \(example)", &report)?.string(example, &report) else {
            return nil
        }
        var log = Configuration.AccessLogSection(
            to: to == "stderr" || to == "stdout" ? to : Disk.absolute(resolve(to)))
        typealias Format = Configuration.AccessLogSection.Format
        log.format = fields.optional("format")?.choice(Format.self, "format", &report) ?? log.format
        log.query = fields.optional("query")?.flag(&report) ?? log.query
        return log
    }
}

extension Placed {
    fileprivate func rate(_ report: inout ConfigurationReport) -> Configuration.Rate? {
        let example = "write how many in a second, minute or hour: \"100/s\", \"600/m\" or \"1000/h\""
        guard case .string(let text) = value.content, let rate = Configuration.Rate(text) else {
            report.add(self, "\(shown) is not a rate; \(example), at most \(Configuration.Rate.eventsMax)")
            return nil
        }
        return rate
    }
}
