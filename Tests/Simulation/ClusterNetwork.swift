// ClusterNetwork: how datagrams of a simulated cluster get lost, late, doubled and cut off, and how boots protect.
//
// Unless the world is sealed, the envelope's promise is modelled (a message counts only when it names the receiver's
// present boot and comes from the sender's latest known one), since hashing in a debug build would cost most of the
// time. Duplicates are let through to the member then: it has to bear them, though the envelope would not pass them.

import Gossip

struct Datagram {
    enum Content {
        case sealed([UInt8])
        case plain(payload: [UInt8], boot: UInt64, named: UInt64)
        case hello(boot: UInt64, named: UInt64)
    }

    let from: Int
    let to: Int
    var content: Content
    /// A bit of it was changed on the way.
    var isDamaged = false

    /// As it arrives with one bit turned.
    func damaged(_ choice: UInt64) -> Datagram {
        guard case .sealed(var bytes) = content else { return self }
        bytes[Int(choice / 8 % UInt64(bytes.count))] ^= 1 << UInt8(choice % 8)
        return Datagram(from: from, to: to, content: .sealed(bytes), isDamaged: true)
    }
}

extension ClusterWorld {
    func send(_ message: Message, from: Int, to: Int) {
        checkSent(message, from: from, to: to)
        if sent != nil { sent?.append((message, from, to)) }
        if let sieve, sieve(message, from, to) { return }
        let payload = message.encode()
        if payload.count > Envelope.payloadBytesMax {
            checks.fail("n\(from) sends \(payload.count) bytes to n\(to), which no datagram holds: \(message)")
            return
        }
        if let sealed = nodes[from].envelope?.seal(payload, to: MemberID(to)) {
            transmit(Datagram(from: from, to: to, content: .sealed(sealed)))
        } else {
            let content = Datagram.Content.plain(
                payload: payload, boot: nodes[from].boot, named: nodes[from].knownBoots[to])
            transmit(Datagram(from: from, to: to, content: content))
        }
    }

    func transmit(_ datagram: Datagram) {
        if isCut(from: datagram.from, to: datagram.to) || random.happens(settings.loss) { return }
        var datagram = datagram
        if random.happens(settings.corruption) {
            // What isn't sealed has no envelope to notice it by: it counts as lost.
            guard settings.sealed else { return }
            datagram = datagram.damaged(random.next())
        }
        let copies = random.happens(settings.duplication) ? 2 : 1
        for _ in 0..<copies {
            var delay = random.within(settings.delayNs)
            if random.happens(settings.slowDatagrams) { delay = random.within(1_000_000...40_000_000) }
            plan(.deliver(datagram), at: now + delay)
        }
    }

    func deliver(_ datagram: Datagram) {
        let node = datagram.to
        if nodes[node].isFrozen {
            // A socket's buffer is finite, too.
            if nodes[node].backlog.count < 300 { nodes[node].backlog.append(.deliver(datagram)) }
            return
        }
        guard nodes[node].member != nil else { return }
        switch datagram.content {
        case .sealed(let bytes): open(bytes, at: node, isDamaged: datagram.isDamaged)
        case .plain(let payload, let boot, let named):
            guard boot >= nodes[node].knownBoots[datagram.from] else { return }
            guard named == nodes[node].boot else {
                let hello = Datagram.Content.hello(boot: nodes[node].boot, named: boot)
                return transmit(Datagram(from: node, to: datagram.from, content: hello))
            }
            nodes[node].knownBoots[datagram.from] = boot
            receive(payload, from: datagram.from, boot: boot, at: node)
        case .hello(let boot, let named):
            guard named == nodes[node].boot, boot >= nodes[node].knownBoots[datagram.from] else { return }
            nodes[node].knownBoots[datagram.from] = boot
        }
    }

    private func open(_ bytes: [UInt8], at node: Int, isDamaged: Bool) {
        let opened = nodes[node].envelope?.open(bytes)
        if isDamaged {
            guard case .dropped = opened else { return checks.fail("n\(node) takes a damaged datagram for a good one") }
        }
        switch opened {
        case .message(let from, let boot, let payload, _): receive(payload, from: from.index, boot: boot, at: node)
        case .hello(let from, let boot):
            guard let answer = nodes[node].envelope?.hello(to: from, boot: boot) else { return }
            transmit(Datagram(from: node, to: from.index, content: .sealed(answer)))
        case .introduced, .dropped, nil: break
        }
    }

    private func receive(_ payload: [UInt8], from: Int, boot: UInt64, at node: Int) {
        guard let message = Message.decode(payload) else {
            return checks.fail("n\(node) can't read what n\(from) sent: \(payload)")
        }
        if checksVersions { checkReadable(message, at: node) }
        mark(from, node, 1, more: payload.reduce(UInt64(payload.count)) { $0 &* 31 &+ UInt64($1) })
        noteArrived(message, from: from, at: node)
        if tellsMessages { tell("n\(node) hears from n\(from): \(message)") }
        step(node, .message(message, from: MemberID(from), boot: boot))
    }
}
