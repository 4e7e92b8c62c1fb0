// SharedStateTests: what threads leave to each other, in the order in which they may come.

import Synchronization
import Testing

@testable import Proxy

@Suite("Shared state") struct SharedStateTests {
    /// A frontend's slot as a worker sees it that still has the socket of a frontend that is gone.
    private final class LastClient: Sendable {
        private struct State {
            var socket: ListenerSocket?
            var connections = 0
        }

        private let state: Mutex<State>

        init(_ socket: ListenerSocket?) { state = Mutex(State(socket: socket)) }

        /// How many there are. Right after the first answer one more is accepted, and the socket is let go of.
        func count() -> Int {
            state.withLock { state in
                defer {
                    if state.socket != nil { state = State(connections: 1) }
                }
                return state.connections
            }
        }

        func acceptAndLetGo() { _ = count() }

        func end() { state.withLock { $0.connections = 0 } }
    }

    @Test("a slot isn't given away while a worker may yet accept a client of its frontend") func slots() throws {
        let address = SocketAddress(high: 0x7f00_0001 << 32, low: 0, port: 0, isIPv6: false)
        var settings = ProxySettings(
            frontends: (0..<ProxyLimits.frontendsMax).map {
                FrontendSettings(name: "f\($0)", address: address, backend: 0)
            },
            backends: [BackendSettings(name: "api")])
        System.raiseDescriptorLimit()
        var registry = SlotRegistry()
        let nobody = SlotUsage(generation: .max, frontends: { _ in 0 }, backends: { _ in 0 })
        try registry.adopt(settings, workers: 1, usage: nobody)
        let client = LastClient(registry.settings(forWorker: 0).frontends.last?.socket)
        settings.frontends.removeLast()
        try registry.adopt(settings, workers: 1, usage: nobody)
        // Another one, which finds every slot taken.
        settings.frontends.append(FrontendSettings(name: "new", address: address, mode: .tcp, backend: 0))
        let last = ProxyLimits.frontendsMax - 1
        let usage = SlotUsage(
            generation: .max, frontends: { slot in slot == last ? client.count() : 1 }, backends: { _ in 0 })
        #expect(throws: ProxyProblem.self) { try registry.adopt(settings, workers: 1, usage: usage) }
        client.acceptAndLetGo()
        #expect(throws: ProxyProblem.self) { try registry.adopt(settings, workers: 1, usage: usage) }
        client.end()
        try registry.adopt(settings, workers: 1, usage: usage)
    }
}
