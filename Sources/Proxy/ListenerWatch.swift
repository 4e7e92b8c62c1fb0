// ListenerWatch: finds frontends that don't accept clients although their workers run: whose listener was shut down and
// can't be opened again, or whose clients wait and no worker looks. Owned by `DataPlane`, under its lock.
//
// It asks the kernel for each listener's queue. A connection of our own would prove more, and would stand in access logs,
// count against limits and reach the servers of TCP frontends. What a worker leaves alone on purpose (out of
// descriptors or of places) isn't judged.

/// A frontend that doesn't accept clients.
public struct DeafFrontend: Equatable, Sendable {
    public enum Cause: Sendable {
        /// A socket of it doesn't listen any more.
        case closed
        /// Clients wait at a socket, and its worker doesn't look at it.
        case ignored
    }

    public let name: String
    public let cause: Cause
}

struct ListenerWatch {
    /// A listener's worker, as its counters tell.
    struct Attention {
        /// It wants to know of clients.
        let listens: Bool
        /// How often it looked for some.
        let looks: Int
    }

    /// Where clients waited: how often the worker had looked by then.
    private var looks: [ObjectIdentifier: Int] = [:]

    /// Looks at all listeners, of which each frontend has one per worker.
    /// - Parameter attention: of a worker for a frontend's slot.
    mutating func look(
        at frontends: [(name: String, slot: Int, sockets: [ListenerSocket])],
        attention: (_ worker: Int, _ slot: Int) -> Attention
    ) -> [DeafFrontend] {
        var fresh: [ObjectIdentifier: Int] = [:]
        var deaf: [DeafFrontend] = []
        for frontend in frontends {
            var cause: DeafFrontend.Cause?
            for (worker, socket) in frontend.sockets.enumerated() {
                let attention = attention(worker, frontend.slot)
                guard let waiting = System.waitingClients(socket.descriptor) else {
                    cause = .closed
                    continue
                }
                guard attention.listens, waiting > 0 else { continue }
                fresh[ObjectIdentifier(socket)] = attention.looks
                if looks[ObjectIdentifier(socket)] == attention.looks { cause = cause ?? .ignored }
            }
            if let cause { deaf.append(DeafFrontend(name: frontend.name, cause: cause)) }
        }
        looks = fresh
        return deaf
    }
}
