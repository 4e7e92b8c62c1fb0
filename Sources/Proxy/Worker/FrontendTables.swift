// FrontendTables: what frontends have in lists (networks, routes, answers), laid out flat for a worker's requests.
// Rebuilt when settings change, between events. Frontends that are leaving keep theirs until their last request.

struct FrontendTables {
    private(set) var networks: ContiguousArray<Network> = []
    private(set) var routes = RouteTable()
    private(set) var answers: ContiguousArray<AnswerText> = []
    /// By slot.
    private var sources: ContiguousArray<FrontendSettings> = []
    /// The slots of their routes' backends, by slot.
    private var backends: ContiguousArray<[Int]> = []
    /// Of the pool, full of answers.
    private var buffers: [Int32] = []

    mutating func adopt(_ entry: FrontendEntry) {
        // Slots are given out in order; one between that is passed over gets its own before it is used.
        while sources.count <= entry.slot {
            sources.append(entry.settings)
            backends.append(entry.routes)
        }
        sources[entry.slot] = entry.settings
        backends[entry.slot] = entry.routes
    }

    mutating func rebuild(_ frontends: inout ContiguousArray<FrontendState>, _ pool: borrowing BufferPool) {
        var writer = AnswerWriter()
        networks = []
        routes = RouteTable()
        for slot in sources.indices where frontends.indices.contains(slot) {
            frontends[slot].firstNetwork = Int32(networks.count)
            frontends[slot].networkCount = Int32(sources[slot].trustedProxies.count)
            networks += sources[slot].trustedProxies
            frontends[slot].proxyCount = Int32(sources[slot].acceptProxy.count)
            networks += sources[slot].acceptProxy
            frontends[slot].exemptCount = Int32(sources[slot].sources?.exempt.count ?? 0)
            networks += sources[slot].sources?.exempt ?? []
            frontends[slot].firstRoute = Int32(routes.count)
            frontends[slot].routeCount = Int32(sources[slot].routes.count)
            for (rule, backend) in zip(sources[slot].routes, backends[slot]) { routes.append(rule, backend: backend) }
            frontends[slot].firstAnswer = Int32(writer.add(sources[slot].errorPages, pool))
        }
        answers = writer.texts
        for buffer in buffers { pool.give(buffer) }
        buffers = writer.buffers
    }

    /// Buffers that answers can fill: each with nearly a buffer's page in every place.
    static let buffersMax = ProxyLimits.frontendsMax * LocalAnswer.allCases.count * 2 + 1
}
