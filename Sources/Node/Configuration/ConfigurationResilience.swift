// ConfigurationResilience: what a backend does about servers that fail: how often a request may be tried elsewhere
// (`retries`, `replayBody`), when a server is set aside (`outlier`), and when so few are up that the verdicts aren't
// believed (`panicThreshold`).

import Gossip
import Proxy

extension Configuration {
    /// The defaults: nothing beyond what checks and retries do.
    struct Resilience: Sendable, Equatable {
        /// nil: no server is set aside for its errors.
        var outlier: Outlier?
        /// Percent of a backend's servers that have to be up for verdicts to count; nil: they always do.
        var panicThreshold: Int?
        var retries = RetrySettings()
        /// Bytes of a body that is kept for another attempt; 0: what fits the first buffer.
        var replayBody = 0

        struct Outlier: Sendable, Equatable {
            /// In a row.
            var errors = 5
            /// Statuses of 500 and above are errors.
            var statusErrors = false
        }

        func apply(to settings: inout BackendSettings) {
            settings.retries = retries
            settings.replayBytesMax = replayBody
            settings.outlier = outlier.map { OutlierSettings(errors: $0.errors, countsStatus: $0.statusErrors) }
        }

        func write(to writer: inout ByteWriter) {
            writer.varint(outlier?.errors ?? 0)
            writer.flag(outlier?.statusErrors ?? false)
            writer.varint(panicThreshold ?? 0)
            // Not given is something else than 0.
            for number in [(retries.max ?? -1) + 1, retries.budgetPercent, retries.perSecondMin, replayBody] {
                writer.varint(number)
            }
        }

        /// The keys that changed.
        func differences(_ after: Self) -> [String] {
            [
                (retries != after.retries, "retries"), (replayBody != after.replayBody, "replayBody"),
                (outlier != after.outlier, "outlier"), (panicThreshold != after.panicThreshold, "panicThreshold"),
            ].filter(\.0).map(\.1)
        }
    }
}

extension ConfigurationReader {
    /// With a head of the usual size it fits one of a worker's large buffers.
    static let replayBodyMax = 192 << 10

    mutating func resilience(_ fields: Fields) -> Configuration.Resilience {
        var resilience = Configuration.Resilience()
        resilience.outlier = outlier(fields.optional("outlier"))
        resilience.retries = retries(fields.optional("retries"))
        resilience.replayBody = fields.optional("replayBody")?.bytes(0...Self.replayBodyMax, &report) ?? 0
        resilience.panicThreshold = fields.optional("panicThreshold")?.percent(1...100, &report)
        return resilience
    }

    private mutating func retries(_ place: Placed?) -> RetrySettings {
        var retries = RetrySettings()
        guard let place, let fields = Fields(place, .retries, &report) else {
            return retries
        }
        retries.max = fields.optional("max")?.integer(0...7, "a limit", &report)
        retries.budgetPercent = fields.optional("budget")?.percent(0...100, &report) ?? retries.budgetPercent
        retries.perSecondMin =
            fields.optional("perSecondMin")?.integer(0...1000, "retries a second", &report) ?? retries.perSecondMin
        return retries
    }

    private mutating func outlier(_ place: Placed?) -> Configuration.Resilience.Outlier? {
        guard let place, let fields = Fields(place, .outlier, &report) else { return nil }
        var outlier = Configuration.Resilience.Outlier()
        outlier.errors = fields.optional("errors")?.integer(1...1000, "errors in a row", &report) ?? outlier.errors
        outlier.statusErrors = fields.optional("statusErrors")?.flag(&report) ?? outlier.statusErrors
        return outlier
    }
}

extension Placed {
    /// A part as people write it: `20%`.
    func percent(_ range: ClosedRange<Int>, _ report: inout ConfigurationReport) -> Int? {
        if case .string(let text) = value.content, text.hasSuffix("%"), let number = Int(text.dropLast()),
            range.contains(number)
        {
            return number
        }
        report.add(
            self,
            "\(shown) is no share; write a whole percentage from \"\(range.lowerBound)%\" to "
                + "\"\(range.upperBound)%\"")
        return nil
    }
}
