// NameLookup: the address of a host name, asked of the system's resolver. It blocks, so only commands may use it; a node
// never looks names up.
// Unsafe code is allowed in this file (see TidyTests).

import CLinux
import Glibc

enum NameLookup {
    /// The first IPv4 address, or the first IPv6 one; nil when there is none. Waits for the resolver.
    static func address(of name: String) -> String? {
        for family in [AF_INET, AF_INET6] {
            var hints = addrinfo()
            hints.ai_family = family
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            var first: UnsafeMutablePointer<addrinfo>?
            guard getaddrinfo(name, nil, &hints, &first) == 0, let found = first else { continue }
            defer { freeaddrinfo(found) }
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let code = getnameinfo(
                found.pointee.ai_addr, found.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            if code == 0 {
                return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            }
        }
        return nil
    }
}
