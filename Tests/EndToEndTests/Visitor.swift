// Visitor: one client of a lab's VIP that keeps its cookie, as a browser does, and tells which API answers it.

import Glibc
import Proxy
import Testing

@testable import Node

final class Visitor {
    private let cluster: LabCluster
    private(set) var cookie: String?

    init(_ cluster: LabCluster) { self.cluster = cluster }

    /// `API #3`; nil when no answer came in time.
    func ask() -> String? {
        let lab = cluster.lab
        guard let address = SocketAddress(address: cluster.frontAddress, port: 80),
            let host = try? lab.network.host(LabNetwork.clientName),
            let descriptor = try? LabSystem.inside(
                host.descriptor,
                { () throws(LabProblem) -> Int32 in
                    guard let made = try? System.socket(address.family, SOCK_STREAM.rawValue) else {
                        throw LabProblem("no socket")
                    }
                    _ = System.connect(made, address)
                    return made
                })
        else { return nil }
        defer { System.close(descriptor) }
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&entry, 1, 5000) == 1, System.pendingError(descriptor) == 0 else { return nil }
        let fields = "Host: lab\r\nConnection: close\r\n" + (cookie.map { "Cookie: srv=\($0)\r\n" } ?? "")
        guard case .moved = LabSystem.send(descriptor, Array("GET / HTTP/1.1\r\n\(fields)\r\n".utf8)) else {
            return nil
        }
        var (input, scratch) = ([UInt8](), [UInt8](repeating: 0, count: 4096))
        while LabSystem.isReadable(descriptor, withinMs: 5000) {
            switch LabSystem.receive(descriptor, appendTo: &input, scratch: &scratch) {
            case .moved, .wouldBlock: break
            case .failed: return nil
            case .ended: return read(String(decoding: input, as: UTF8.self))
            }
        }
        return nil
    }

    private func read(_ answer: String) -> String? {
        if let start = answer.firstRange(of: "Set-Cookie: srv=") {
            cookie = String(answer[start.upperBound...].prefix { $0 != ";" })
        }
        return answer.firstRange(of: "API #").map { "API #\(answer[$0.upperBound...].prefix { $0.isNumber })" }
    }

    /// Whether all of some answers in a row come from `api`: more than there are APIs.
    func staysWith(_ api: String) -> Bool { (0..<8).allSatisfy { _ in ask() == api } }
}
