// FigureRows: a node's and a server's figures, to rows of a bulletin and back. The order of the numbers is the format:
// add at the end, never change what a place means.

import Proxy

/// What a node says about itself as a whole.
struct NodeFigures: Sendable, Equatable {
    var uptimeMs: UInt64 = 0
    /// How long it has led and owned the VIP, 0 when it doesn't.
    var leadsMs: UInt64 = 0
    var ownsMs: UInt64 = 0
    /// The least that was left of its lease in the last second, 0 without one.
    var leaseLowMs: UInt64 = 0
    var connections: UInt64 = 0
    var inFlight: UInt64 = 0
    var accepted: UInt64 = 0
    var requests: UInt64 = 0
    /// By class, 1xx … 5xx.
    var responses: [UInt64] = [0, 0, 0, 0, 0]
    var retries: UInt64 = 0
    var errors: UInt64 = 0
    var refused: UInt64 = 0
    var aborted: UInt64 = 0
    var bytesReceived: UInt64 = 0
    var bytesSent: UInt64 = 0
    var stateIndex: UInt64 = 0
    var stateDigest: UInt64 = 0
    /// Datagrams it had sent to whom it told this, for that one to see how many are lost.
    var datagramsSent: UInt64 = 0
    /// Of the binary it runs, see `Version.number`; 0 from one that doesn't tell.
    var version: UInt64 = 0
    /// What it speaks, see `WireVersion`; 0 from one that doesn't tell.
    var wireVersion: UInt64 = 0

    init() {}

    /// - Parameter figures: of the data plane.
    init(_ figures: Figures) {
        connections = UInt64(max(0, figures.connections))
        inFlight = UInt64(max(0, figures.inFlight))
        accepted = figures.accepted
        requests = figures.requests
        responses = Array(figures.responses.dropFirst().prefix(5))
        retries = figures.retries
        errors = figures.errors
        refused = figures.refused
        aborted = figures.aborted
        bytesReceived = figures.bytesIn
        bytesSent = figures.bytesOut
    }

    init(_ row: FigureRow) {
        uptimeMs = row[0]
        leadsMs = row[1]
        ownsMs = row[2]
        leaseLowMs = row[3]
        connections = row[4]
        inFlight = row[5]
        accepted = row[6]
        requests = row[7]
        responses = (8..<13).map { row[$0] }
        retries = row[13]
        errors = row[14]
        refused = row[15]
        aborted = row[16]
        bytesReceived = row[17]
        bytesSent = row[18]
        stateIndex = row[19]
        // In halves: a number of a row has 62 bits.
        stateDigest = (row[20] & 0xffff_ffff) << 32 | row[21] & 0xffff_ffff
        datagramsSent = row[22]
        version = row[23]
        wireVersion = row[24]
    }

    var row: FigureRow {
        FigureRow(
            name: "",
            values: [uptimeMs, leadsMs, ownsMs, leaseLowMs, connections, inFlight, accepted, requests] + responses
                + [
                    retries, errors, refused, aborted, bytesReceived, bytesSent, stateIndex, stateDigest >> 32,
                    stateDigest & 0xffff_ffff, datagramsSent, version, wireVersion,
                ])
    }
}

extension FigureRow {
    init(server name: String, _ figures: ServerFigures) {
        self.init(
            name: name,
            values: [
                UInt64(max(0, figures.sessions)), UInt64(max(0, figures.connections)), figures.requests,
                figures.retries, figures.errors, figures.latency.sumUs,
            ] + figures.latency.counts + [UInt64(max(0, figures.errorsInRow))])
    }
}

extension ServerFigures {
    init(_ row: FigureRow) {
        self.init()
        sessions = Int(row[0])
        connections = Int(row[1])
        requests = row[2]
        retries = row[3]
        errors = row[4]
        latency.sumUs = row[5]
        latency.counts = (0..<LatencyFigures.bucketCount).map { row[6 + $0] }
        errorsInRow = Int(clamping: row[6 + LatencyFigures.bucketCount])
    }
}
