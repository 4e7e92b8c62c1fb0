// ConfigurationCapacity: how much servers and frontends take on at one time (`maxConnections`), and what becomes of
// requests for which there is no place (`queue`).

import Gossip

extension Configuration {
    /// What a backend's servers take on. The defaults limit nothing.
    struct Capacity: Sendable, Equatable {
        /// Requests in flight (TCP: connections) from one node to each server that doesn't say otherwise; nil: any number.
        var maxConnections: Int?
        /// Requests of one worker that wait while all servers are full.
        var queue = 1024

        func write(to writer: inout ByteWriter) {
            writer.varint(maxConnections ?? 0)
            writer.varint(queue)
        }

        /// The keys that changed.
        func differences(_ after: Self) -> [String] {
            [(maxConnections != after.maxConnections, "maxConnections"), (queue != after.queue, "queue")]
                .filter(\.0).map(\.1)
        }
    }
}

extension ConfigurationReader {
    static let queueMax = 65_536

    mutating func capacity(_ fields: Fields) -> Configuration.Capacity {
        var capacity = Configuration.Capacity()
        capacity.maxConnections = maxConnections(fields.optional("maxConnections"))
        let queue = fields.optional("queue")
        capacity.queue =
            queue?.integer(0...Self.queueMax, "how many requests of a worker may wait, 0 for none", &report)
            ?? capacity.queue
        return capacity
    }

    mutating func maxConnections(_ place: Placed?) -> Int? {
        place?.integer(1...1_000_000, "a limit", &report)
    }
}
