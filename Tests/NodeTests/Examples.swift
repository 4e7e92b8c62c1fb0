// Examples: configurations as a user would write them.

enum Examples {
    static let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

    /// Three nodes, a VIP and one backend, all sections written out.
    static let full = """
        // One file, the same on every node.
        {
          cluster: "web",
          nodes: [
            { id: "n1", address: "10.0.0.11", priority: 10 },
            { id: "n2", address: "10.0.0.12" },
            { id: "n3", address: "10.0.0.13", gossipPort: 7950, statusPort: 8090 },
          ],
          vip: { address: "10.0.0.100/32", interface: "eth0", fencing: "wait" },
          gossip: { port: 7946, keyFile: "gossip.key", heartbeat: "30ms", lease: "150ms", electionTimeout: ["200ms", "300ms"] },
          status: { port: 8084, tokenFile: "admin.token" },
          data: "/var/lib/triad",
          frontends: [ { name: "http", port: 80, mode: "http", backend: "api" } ],
          backends: [ {
            name: "api", balance: "roundrobin",
            check: { type: "http", path: "/health", expect: 200, interval: "1s", timeout: "500ms", rise: 2, fall: 2 },
            servers: [
              { id: "api_1", address: "10.0.0.21:8080", weight: 1 },
              { id: "api_2", address: "10.0.0.22:8080", weight: 3 },
            ],
          } ],
          workers: 2,
          timeouts: { connect: "1s", request: "10s", client: "30s", server: "30s", keepAlive: "1m", drain: "5s" },
          limits: { requestHead: "16KiB", headers: 100, connections: 20000, retries: 2, buffer: "16KiB" },
          log: { level: "info" },
          leadership: { fitnessHold: "2s", preemptHold: "10s", gateway: "10.0.0.1" },
        }
        """

    /// The least that is a configuration.
    static let least = """
        {
          cluster: "web",
          nodes: [{ id: "n1", address: "127.0.0.1" }],
          frontends: [{ name: "http", port: 8000, backend: "api" }],
          backends: [{ name: "api", servers: [{ id: "api_1", address: "127.0.0.1:9001" }] }],
        }
        """
}
