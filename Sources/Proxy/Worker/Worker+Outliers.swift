// Worker+Outliers: servers that fail again and again although their checks may pass are set aside, and looked at at once.
//
// Errors in a row are counted for all workers of the node together. From the configured number on each further one makes the
// worker avoid the server, for a quarter of a second at first and up to four (Balancer): one request then tries it
// again, and a good answer ends it. Who counts the last one that was missing tells the control thread, and through it every
// node, to check the server now. Only their verdict takes it out for longer. A backend without `outlier` costs a look at a number.

extension Worker {
    /// A server refused, broke or didn't answer something.
    @inline(__always) mutating func noteError(_ server: Int) {
        let backend = Int(servers[server].backend)
        if backend >= 0, backends[backend].outlierErrors > 0 { countError(server, backend) }
    }

    private mutating func countError(_ server: Int, _ backend: Int) {
        let run = places.failed(server: server)
        guard run >= backends[backend].outlierErrors else { return }
        backends[backend].balancer.failed(server, nowMs: nowMs)
        if run == backends[backend].outlierErrors {
            counters.add(.outlier, slot: server)
            suspicions.post(server, isOutlier: true)
        } else {
            suspect(server)
        }
    }

    /// It answered as it should.
    @inline(__always) mutating func noteSuccess(_ server: Int) {
        let backend = Int(servers[server].backend)
        if backend >= 0, backends[backend].outlierErrors > 0, places.failures(server: server) > 0 {
            places.succeeded(server: server)
            backends[backend].balancer.connected(server)
        }
    }

    /// The head of its final response came with this status.
    @inline(__always) mutating func noteStatus(_ server: Int, _ status: Int) {
        let backend = Int(servers[server].backend)
        guard backend >= 0, backends[backend].outlierErrors > 0 else { return }
        if status >= 500, backends[backend].countsStatus { countError(server, backend) } else { noteSuccess(server) }
    }

    /// It accepted a connection, which says little of one that is known for its errors.
    @inline(__always) mutating func noteConnected(_ server: Int) {
        let backend = Int(servers[server].backend)
        if backends[backend].outlierErrors > 0, places.failures(server: server) >= backends[backend].outlierErrors {
            return
        }
        backends[backend].balancer.connected(server)
    }
}
