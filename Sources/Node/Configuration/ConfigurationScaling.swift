// ConfigurationScaling: how many servers a backend should have for its load (`autoscale`). The cluster decides the number;
// `triad autoscale` on some machine carries it out.

import Gossip

extension ConfigurationReader {
    mutating func scaling(_ place: Placed?) -> ScalingRules? {
        guard let place, let fields = Fields(place, .autoscale, &report) else { return nil }
        let servers = 1...Limits.serversMax
        let minPlace = fields.required("min", "how many servers there are at least: min: 2", &report)
        let maxPlace = fields.required("max", "how many servers there are at most: max: 9", &report)
        let min = minPlace?.integer(servers, "how many servers there are at least", &report)
        let max = maxPlace?.integer(servers, "how many servers there are at most", &report)
        if let maxPlace, let min, let max, max < min {
            report.add(maxPlace, "\(max) is less than min, which is \(min)")
        }
        guard let share = share(fields) else { return nil }
        var rules = ScalingRules(min: min ?? 1, max: max ?? 1, share: share)
        rules.window = fields.optional("window")?.duration(.seconds(2)...(.seconds(60)), &report) ?? rules.window
        rules.upCoolDown =
            fields.optional("upCoolDown")?.duration(.seconds(1)...(.seconds(600)), &report) ?? rules.upCoolDown
        rules.coolDown =
            fields.optional("coolDown")?.duration(.seconds(5)...(.seconds(3600)), &report) ?? rules.coolDown
        return rules
    }

    private mutating func share(_ fields: Fields) -> ScalingRules.Share? {
        let requests = fields.optional("requestsPerServer")
        let sessions = fields.optional("sessionsPerServer")
        switch (requests, sessions) {
        case (let requests?, nil):
            return requests.integer(1...1_000_000, "requests a second for each server", &report).map { .requests($0) }
        case (nil, let sessions?):
            return sessions.integer(1...1_000_000, "requests under way at each server", &report).map { .sessions($0) }
        case (_?, let sessions?):
            report.add(sessions, "goes without requestsPerServer: a server's load is counted one way")
        case (nil, nil):
            report.add(
                fields.place,
                "lacks what one server takes; add requestsPerServer: 100 (a second) or sessionsPerServer: 20")
        }
        return nil
    }
}

extension ScalingRules {
    func write(to writer: inout ByteWriter) {
        for number in [min, max, share.perServer] { writer.varint(number) }
        if case .sessions = share { writer.flag(true) } else { writer.flag(false) }
        for span in [window, upCoolDown, coolDown] { writer.varint(UInt64(Swift.max(0, span.nanoseconds))) }
    }
}
