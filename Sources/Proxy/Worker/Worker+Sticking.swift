// Worker+Sticking: keeps a client with the server that its cookie names, and gives it a cookie when another one answered.
//
// A cookie counts while its server gets requests at all: one that is down, drained, in maintenance, removed, full, failing
// just now, or a backup that isn't needed, is as good as none, and the request is balanced like a new client's. Whoever
// answers, the client has that server's cookie afterwards. Where the backend has no cookie all this is a look at a number.

extension Worker {
    /// Which server has which fingerprint, from what a routing table says. Runs between requests.
    mutating func updateStick(_ route: BackendRoute) {
        guard backends[route.slot].stickName.hasBuffer else { return }
        var members: ContiguousArray<StickTable.Member> = []
        members.reserveCapacity(route.servers.count)
        for entry in route.servers { members.append(.init(slot: Int32(entry.slot), key: entry.key)) }
        backends[route.slot].stick.update(backends[route.slot].stickKeys, members)
    }

    /// Notes which server the cookie of a request, whose head is in `from` and in `fields`, names.
    @inline(__always) mutating func findStick(_ slot: Int, _ from: Stretch) {
        let backend = Int(sessions[slot].backend)
        guard backends[backend].stickName.hasBuffer else { return }
        let meaning = stickMeaning(backend, from)
        sessions[slot].stuck = meaning?.slot ?? -1
        sessions[slot].isStickFresh = meaning?.isFresh ?? false
    }

    /// Of the first cookie of that name whose server gets requests. (A browser sends two when one was set for a narrower path.)
    private func stickMeaning(_ backend: Int, _ from: Stretch) -> StickTable.Meaning? {
        for index in 0..<fields.count where fields[index].name == .cookie {
            let field = fields[index]
            let found = buffers.bytes(from) { bytes -> StickTable.Meaning? in
                var cursor = Int(field.valueStart)
                while let pair = Cookies.next(bytes, &cursor, Int(field.valueEnd)) {
                    guard buffers.equals(bytes, pair.name, backends[backend].stickName),
                        let value = StickValue(bytes, pair.value),
                        let meaning = backends[backend].stick.meaning(of: value),
                        backends[backend].balancer.serves(meaning.slot)
                    else { continue }
                    return meaning
                }
                return nil
            }
            if let found { return found }
        }
        return nil
    }

    /// What the response of the session's server says of the backend's cookie.
    @inline(__always) mutating func cookieOrder(_ slot: Int, _ head: ResponseHead) -> CookieOrder {
        let backend = Int(sessions[slot].backend)
        // 100 and 103 are nobody's answer yet.
        guard backends[backend].stickName.hasBuffer, !head.isInterim || head.status == 101 else { return CookieOrder() }
        let server = Int(links[Int(sessions[slot].link)].server)
        var order = CookieOrder(name: backends[backend].stickName, isSecure: backends[backend].isStickSecure)
        if Int(sessions[slot].stuck) != server || !sessions[slot].isStickFresh {
            order.value = backends[backend].stick.value(for: servers[server].key, nonce: cookieNonce())
        }
        return order
    }

    /// Another one for each cookie, and nobody sees in it which worker of which node made it.
    private mutating func cookieNonce() -> UInt64 {
        cookieCount += 1
        return sourceHash.hash(cookieCount, UInt64(index), .max)
    }
}
