// Worker+Preface: the PROXY header before a client's own bytes, and the one before what a server gets.
//
// A frontend names the networks that send it (`acceptProxy`). From there it is required: the connection isn't anybody's
// before it has been read, and one that is malformed or late closes it. From everywhere else a header isn't looked
// for: to HTTP it is a malformed request, to a TCP frontend it is data.

extension Worker {
    func sendsHeader(_ peer: SocketAddress, to frontend: Int) -> Bool {
        let first = Int(frontends[frontend].firstNetwork + frontends[frontend].networkCount)
        for index in first..<first + Int(frontends[frontend].proxyCount) where tables.networks[index].contains(peer) {
            return true
        }
        return false
    }

    /// Starts a client whose first bytes must be a PROXY header. State preface.
    mutating func readPreface(_ slot: Int) {
        while true {
            if !sessions[slot].input.isEmpty, takePreface(slot) { return }
            guard sessions[slot].isReadable else {
                if sessions[slot].input.isEmpty { buffers.release(&sessions[slot].input) }
                return awaitClient(slot)
            }
            if !sessions[slot].input.hasBuffer {
                // Room for the header that a server may get in its place.
                sessions[slot].input.buffer = buffers.take()
                sessions[slot].input.start = Int32(ProxyHeader.writtenBytesMax)
                sessions[slot].input.end = sessions[slot].input.start
            }
            switch receive(slot) {
            case .moved, .wouldBlock: continue
            case .ended, .failed: return refusePreface(slot)
            }
        }
    }

    /// True when the session has moved on.
    private mutating func takePreface(_ slot: Int) -> Bool {
        switch buffers.bytes(sessions[slot].input, ProxyHeader.parse) {
        // The longest header fits into the smallest buffer.
        case .needMore: return false
        case .malformed: refusePreface(slot)
        case .complete(let header):
            sessions[slot].input.start += Int32(header.count)
            if let addresses = header.addresses {
                sessions[slot].peer = addresses.source
                sessions[slot].client = addresses.source
                while destinations.count <= slot { destinations.append(addresses.destination) }
                destinations[slot] = addresses.destination
                sessions[slot].hasDestination = true
            }
            // Who speaks for others is under no limit; those it speaks for are.
            let (frontend, peer) = (Int(sessions[slot].frontend), sessions[slot].peer)
            var counted: SourceCounts.Connection?
            let isAdmitted = admitConnection(frontend, peer, &counted)
            sessions[slot].counted = counted
            guard isAdmitted else {
                closeSession(slot)
                return true
            }
            start(slot)
        }
        return true
    }

    /// Malformed, late or missing: nobody to answer, since nobody knows what would be understood.
    mutating func refusePreface(_ slot: Int) {
        counters.add(.refused)
        closeSession(slot)
    }

    /// Who is connected to what, as the client sees it.
    func addresses(of slot: Int) -> ProxyHeader.Addresses {
        let peer = sessions[slot].peer
        let destination =
            sessions[slot].hasDestination ? destinations[slot] : System.localAddress(sessions[slot].descriptor) ?? peer
        return ProxyHeader.Addresses(source: peer, destination: destination)
    }

    /// Puts the header that the server gets before the client's bytes in `input`.
    mutating func prependHeader(_ slot: Int, _ version: ProxyVersion) {
        if !sessions[slot].input.hasBuffer {
            sessions[slot].input.buffer = buffers.take()
            sessions[slot].input.start = Int32(ProxyHeader.writtenBytesMax)
            sessions[slot].input.end = sessions[slot].input.start
        }
        var writer = HeadWriter(buffers, scratch)
        ProxyHeader.append(version, addresses(of: slot), buffers, to: &writer)
        sessions[slot].input.start -= Int32(writer.at)
        precondition(sessions[slot].input.start >= 0)
        buffers.copy(
            scratch, 0, to: sessions[slot].input.buffer, Int(sessions[slot].input.start), count: writer.at)
    }
}
