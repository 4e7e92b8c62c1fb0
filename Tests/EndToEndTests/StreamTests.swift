// StreamTests: the clients that stay and the server that they stay with: hash, frames, slow bodies, and both together.

import Glibc
import Proxy
import Testing

@testable import Node

@Suite struct StreamTests {
    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// FIPS 180's own examples, and lengths around a block.
    @Test func hashesAreThoseOfTheStandard() {
        #expect(hex(SHA1.hash(Array("abc".utf8))) == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(hex(SHA1.hash([])) == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        let two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        #expect(hex(SHA1.hash(Array(two.utf8))) == "84983e441c3bd26ebaae4aa1f95129e5e54670f1")
        #expect(
            hex(SHA1.hash([UInt8](repeating: 0x61, count: 64))) == "0098ba824b5c16427bd7a1122a5a442a25ec644d")
    }

    /// RFC 6455, 1.3.
    @Test func handshakeIsAnswered() {
        #expect(WebSocket.accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        let request = APIRequest(
            head: Array(
                ("GET /echo HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").utf8)[...])
        #expect(request.webSocketKey == "dGhlIHNhbXBsZSBub25jZQ==")
        #expect(String(decoding: request.answer(number: 1), as: UTF8.self).hasPrefix("HTTP/1.1 101 "))
        #expect(APIRequest(head: Array("GET /echo HTTP/1.1\r\n\r\n".utf8)[...]).webSocketKey == nil)
    }

    @Test(arguments: [0, 1, 125, 126, 65_535]) func framesReadBack(_ length: Int) {
        let frame = WebSocket.Frame(payload: (0..<length).map { UInt8($0 & 0xff) }, isMasked: true)
        var input = WebSocket.write(frame, mask: [1, 2, 3, 4]) + [0x81]
        #expect(WebSocket.read(&input) == .frame(frame))
        #expect(input == [0x81])
        for count in [0, 1, 3] where count < length {
            var part = Array(WebSocket.write(frame).prefix(count))
            #expect(WebSocket.read(&part) == .needMore)
        }
    }

    @Test func wrongFramesAreRefused() {
        var reserved: [UInt8] = [0xc1, 0x80, 0, 0, 0, 0]
        #expect(WebSocket.read(&reserved) == .refused)
        var long: [UInt8] = [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]
        #expect(WebSocket.read(&long) == .refused)
    }

    @Test func streamsTakeTheirTime() {
        var stream = APIStream(bytes: 1000, seconds: 10, startedAt: 5_000_000_000)
        #expect(stream.take(at: 5_000_000_000) == [])
        #expect(stream.take(at: 7_500_000_000) == (0..<250).map { UInt8($0) })
        #expect(stream.take(at: 7_500_000_000) == [] && !stream.isOver)
        #expect(stream.take(at: 99_000_000_000).count == 750 && stream.isOver)
        var large = APIStream(bytes: 1 << 20, seconds: 0, startedAt: 0)
        #expect(large.take(at: 1).count == 64 << 10)
        let asked = APIRequest(head: Array("GET /slow?bytes=7&seconds=0.5 HTTP/1.1\r\n\r\n".utf8)[...])
        #expect(asked.stream(startingAt: 3) == APIStream(bytes: 7, seconds: 0.5, startedAt: 3))
    }
}

extension ClusterTests {
    /// Against the server itself: what comes back is complete, and what is torn is noticed.
    @Test func streamsAreWholeOrNoticed() throws {
        let lab = try Lab(inMemory: true)
        defer { lab.tearDown() }
        let address = lab.network.api(1)
        let api = [LabSystem.triad, "api", "--id", "1", "--address", address, "--port", "8080"]
        let server = try lab.start("API #1", api, on: LabNetwork.apisName, log: "\(lab.directory)/api")
        try lab.wait("the API listens") { LabSystem.readText("\(lab.directory)/api.log")?.contains("8080") == true }
        let log = "\(lab.directory)/streams.requests"
        let command = [
            LabSystem.triad, "streams", "http://\(address):8080/", "--log", log, "--downloads", "2",
            "--bytes", "300000", "--seconds", "0.4",
        ]
        let client = try lab.start("streams", command, on: LabNetwork.clientName, log: "\(lab.directory)/streams")
        let load = LabLoad(process: client, log: log)
        try lab.wait("two downloads and twenty echoes") {
            let results = load.results()
            return results.count { $0.who?.hasPrefix("download") == true } >= 2
                && results.count { $0.who == "websocket-1" } >= 20
        }
        #expect(load.results().allSatisfy { $0.outcome == .answered })
        lab.signal(server, SIGKILL, group: true)
        try lab.wait("every stream is noticed to be broken") {
            let broken = Set(load.results().filter { !$0.outcome.isSuccess }.compactMap(\.who))
            return broken == ["download-1", "download-2", "websocket-1"]
        }
    }

    @Test func coldClientAsksEveryTime() throws {
        let lab = try Lab(inMemory: true)
        defer { lab.tearDown() }
        let (network, address) = (lab.network, "\(lab.network.vip)/32 dev eth0")
        // Two servers with one address: a client that asked once would stay with the first.
        for (node, number) in [("n1", 1), ("n2", 2)] {
            let api = [LabSystem.triad, "api", "--id", "\(number)", "--port", "80"]
            _ = try lab.start("API #\(number)", api, on: node, log: "\(lab.directory)/api-\(number)")
            try lab.wait("API \(number) listens") {
                LabSystem.readText("\(lab.directory)/api-\(number).log")?.contains(":80") == true
            }
        }
        try network.ip(["addr add \(address)"], in: try network.host("n1"))
        let log = "\(lab.directory)/cold"
        let command = [
            LabSystem.triad, "load", "http://\(network.vip)/", "--rate", "50", "--new-connections", "--log",
            "\(log).requests", "--forget-neighbour", "eth0",
        ]
        let load = LabLoad(
            process: try lab.start("cold", command, on: LabNetwork.coldName, log: log), log: "\(log).requests")
        try lab.wait("API #1 answers") { load.results().contains { $0.who == "API #1" } }
        // Not announced: only who asks learns of it.
        try network.ip(["addr del \(address)"], in: try network.host("n1"))
        try network.ip(["addr add \(address)"], in: try network.host("n2"))
        try lab.wait("API #2 answers", seconds: 5) { load.results().contains { $0.who == "API #2" } }
    }
}
