// AccessLogTests: lines, the ring between worker and writer, and the writer with slow, full and renamed files.

import Foundation
import Glibc
import Synchronization
import Testing

@testable import Proxy

@Suite("Access log") struct AccessLogTests {
    private static let names = LogNames(
        frontends: [Array("web".utf8)], backends: [Array("api".utf8)], servers: [Array("api/api_1".utf8)])

    private static func record(_ text: String = "GET /a?b=c", methodBytes: UInt8 = 3) -> (LogRecord, [UInt8]) {
        let client = SocketAddress("192.0.2.7:51515") ?? SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
        var record = LogRecord(startMs: 0, client: client, frontend: 0, backend: 0)
        (record.bytesIn, record.bytesOut, record.server, record.status) = (78, 305, 0, 200)
        (record.headMs, record.queueMs, record.connectMs, record.responseMs, record.totalMs) = (0, 1, 2, 30, 12_345)
        record.textBytes = UInt16(text.utf8.count)
        record.methodBytes = methodBytes
        return (record, Array(text.utf8))
    }

    private static func line(
        _ style: LogStyle, _ text: String = "GET /a?b=c", methodBytes: UInt8 = 3, atMs: Int64 = 1_795_577_321_123,
        _ change: (inout LogRecord) -> Void = { _ in }
    ) -> String {
        var (record, bytes) = record(text, methodBytes: methodBytes)
        change(&record)
        var format = LogFormat(style: style)
        format.add(record, text: bytes, atMs: atMs, names)
        return String(decoding: format.bytes, as: UTF8.self)
    }

    // MARK: lines

    @Test("a request as JSON") func json() {
        #expect(
            Self.line(.json)
                == #"{"time":"2026-11-25T03:28:41.123Z","client":"192.0.2.7","port":51515,"frontend":"web","#
                + #""backend":"api","server":"api_1","method":"GET","target":"/a?b=c","version":"1.1","status":200,"#
                + #""bytesIn":78,"bytesOut":305,"ms":{"head":0,"queue":1,"connect":2,"response":30,"total":12345},"#
                + #""retries":0,"end":"--"}"# + "\n")
    }

    @Test("a request and a connection as haproxy writes them") func classic() {
        #expect(
            Self.line(.haproxy)
                == "192.0.2.7:51515 [25/Nov/2026:03:28:41.123] web api/api_1 0/1/2/30/12345 200 305 - - ---- "
                + "0/0/0/0/0 0/0 \"GET /a?b=c HTTP/1.1\"\n")
        #expect(
            Self.line(.haproxy, "") {
                ($0.server, $0.status, $0.cause, $0.phase) = (-1, 400, .proxy, .request)
                ($0.headMs, $0.queueMs, $0.connectMs, $0.responseMs) = (-1, -1, -1, -1)
            }
                == "192.0.2.7:51515 [25/Nov/2026:03:28:41.123] web api/<NOSRV> -1/-1/-1/-1/12345 400 305 - - PR-- "
                + "0/0/0/0/0 0/0 \"<BADREQ>\"\n")
        #expect(
            Self.line(.haproxy) { ($0.isConnection, $0.cause, $0.phase) = (true, .clientTimeout, .data) }
                == "192.0.2.7:51515 [25/Nov/2026:03:28:41.123] web api/api_1 1/2/12345 305 cD 0/0/0/0/0 0/0\n")
    }

    @Test("days, leap years, times before 1970, numbers of any length") func numbers() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"), (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] as [(Int64, String)] {
            #expect(Self.line(.json, atMs: ms).hasPrefix("{\"time\":\"\(text)\""))
        }
        for count in [0, 7, 1_234_567, 12_345_678, 100_000_000_000_000, UInt64(Int.max)] {
            #expect(Self.line(.json) { $0.bytesOut = count }.contains("\"bytesOut\":\(count),"))
        }
    }

    @Test("whatever a client sent, a line is one line and its strings end where they end") func escaping() throws {
        let hostile = "GET /\"},{\\\u{1}\n\u{7f}\u{e9}"
        let json = Self.line(.json, hostile)
        #expect(json.contains(#""target":"/\"},{\\\u0001\u000A\u007F\u00C3\u00A9""#))
        #expect(json.utf8.count { $0 == 10 } == 1)
        let parsed = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        #expect(parsed?["method"] as? String == "GET")
        let classic = Self.line(.haproxy, hostile)
        #expect(classic.hasSuffix("\"GET /#22},{#5C#01#0A#7F#C3#A9 HTTP/1.1\"\n"))
        // The longest possible: every byte escaped.
        let longest = String(repeating: "\"", count: LogRecord.textBytesMax)
        for style in [LogStyle.json, .haproxy] {
            #expect(Self.line(style, longest, methodBytes: 32).utf8.count < LogFormat.lineBytesMax)
        }
    }

    // MARK: the ring

    @Test("records come out as they went in, around the ring's end too; what doesn't fit is counted") func ring() {
        let ring = LogRing(capacity: 8_192)
        var writer = ring.writer
        var text = [UInt8](repeating: 0, count: LogRecord.textBytesMax)
        var sent = 0
        var taken = 0
        for round in 0..<500 {
            for _ in 0..<(round % 7 + 1) {
                let content = [UInt8](repeating: UInt8(sent & 0xff), count: sent * 37 % 900)
                var (record, _) = Self.record()
                record.textBytes = UInt16(content.count)
                record.bytesIn = UInt64(sent)
                let dropped = ring.dropped
                content.withUnsafeBytes {
                    writer.append(record, text: $0.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!)
                }
                if ring.dropped == dropped { sent += 1 } else { break }
            }
            while let record = ring.take(text: &text) {
                #expect(record.bytesIn == UInt64(taken) && Int(record.textBytes) == taken * 37 % 900)
                #expect(text[..<Int(record.textBytes)].allSatisfy { $0 == UInt8(taken & 0xff) })
                taken += 1
            }
            #expect(taken == sent && ring.isEmpty)
        }
        for _ in 0..<100 { Self.add(to: &writer, "GET /full") }
        #expect(ring.dropped > 30)
    }

    /// Adds a request to a ring.
    private static func add(to writer: inout LogRingWriter, _ text: String = "GET /a?b=c") {
        let (record, bytes) = record(text)
        bytes.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress { writer.append(record, text: base) }
        }
    }

    // MARK: the writer

    /// A log with one worker's ring, and a directory of its own.
    private final class Rig {
        let log: AccessLog
        var writer: LogRingWriter
        let directory: String

        init() throws {
            log = try AccessLog(workers: 1)
            writer = log.rings[0].writer
            log.setNames(AccessLogTests.names)
            directory = NSTemporaryDirectory() + "triad-log-\(UInt64.random(in: 0 ... .max))"
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }

        deinit {
            log.stop()
            try? FileManager.default.removeItem(atPath: directory)
        }

        var path: String { directory + "/access.log" }

        func add(_ text: String) {
            AccessLogTests.add(to: &writer, text)
            if writer.mustWake() { System.signal(log.wake) }
        }

        func start(_ target: LogTarget? = nil) throws {
            try log.begin()
            log.set(AccessLogSettings(target: target ?? .file(path)))
        }

        func lines(_ path: String) -> [Substring] {
            let bytes = FileManager.default.contents(atPath: path) ?? Data()
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        }

        func wait(_ isRight: (AccessLogFigures) -> Bool) -> AccessLogFigures {
            var figures = log.figures
            _ = eventually {
                figures = log.figures
                return isRight(figures)
            }
            return figures
        }
    }

    @Test("lines reach the file, those of a sleeping thread too, and the last ones before a stop") func file() throws {
        let rig = try Rig()
        try rig.start()
        for index in 0..<3 {
            rig.add("GET /\(index)")
            #expect(rig.wait { $0.written == UInt64(index + 1) }.written == UInt64(index + 1))
        }
        for index in 3..<2_000 { rig.add("GET /\(index)") }
        rig.log.stop()
        // A thread that needs more than a second for the last ones is left behind, and writes them all the same.
        #expect(rig.wait { $0.written == 2_000 }.written == 2_000)
        let lines = rig.lines(rig.path)
        #expect(lines.count == 2_000)
        #expect(lines.enumerated().allSatisfy { $1.contains("\"target\":\"/\($0)\"") && $1.hasSuffix("}") })
    }

    @Test("a renamed file gets what was logged before it is opened again, the new one the rest") func rotation() throws
    {
        let rig = try Rig()
        try rig.start()
        let before = 200
        for index in 0..<before { rig.add("GET /\(index)") }
        #expect(rename(rig.path, rig.path + ".1") == 0 || rig.lines(rig.path).isEmpty)
        _ = rig.wait { _ in rig.log.rings[0].isEmpty }
        _ = rename(rig.path, rig.path + ".1")
        rig.log.reopen()
        #expect(eventually { access(rig.path, F_OK) == 0 })
        for index in before..<2 * before { rig.add("GET /\(index)") }
        rig.log.stop()
        #expect(rig.wait { $0.written == UInt64(2 * before) }.written == UInt64(2 * before))
        let (old, new) = (rig.lines(rig.path + ".1"), rig.lines(rig.path))
        #expect(old.count + new.count == 2 * before && new.count >= before)
        #expect((old + new).enumerated().allSatisfy { $1.contains("\"target\":\"/\($0)\"") })
    }

    @Test("a pipe that nobody reads: the worker goes on, drops are counted, and told when it is read again") func pipe()
        throws
    {
        let rig = try Rig()
        let fifo = rig.directory + "/fifo"
        #expect(mkfifo(fifo, 0o600) == 0)
        let reader = Glibc.open(fifo, O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        try rig.start(.file(fifo))
        // More than the pipe and the ring hold.
        let count = 60_000
        for index in 0..<count { rig.add("GET /\(index)") }
        let dropped = rig.log.figures.dropped
        #expect(dropped > 1_000)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        _ = eventually {
            while true {
                let read = Glibc.read(reader, &buffer, buffer.count)
                guard read > 0 else { break }
                bytes += buffer[..<read]
            }
            return bytes.last == 10 && String(decoding: bytes.suffix(40), as: UTF8.self).contains("dropped")
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        #expect(lines.last?.hasSuffix("\"dropped\":\(dropped)}") == true)
        #expect(lines.dropLast().allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("\"end\":\"--\"}") })
        #expect(lines.count - 1 + Int(dropped) == count)
        #expect(rig.log.figures.problem == nil)
    }

    @Test("a log that can't be opened, or whose pipe stays full, keeps nobody from stopping") func stuck() throws {
        let rig = try Rig()
        try rig.start(.file(rig.directory + "/none/access.log"))
        rig.add("GET /")
        let figures = rig.wait { $0.dropped == 1 && $0.problem != nil }
        #expect(figures.dropped == 1)
        #expect(figures.problem?.hasSuffix("none/access.log can't be opened: No such file or directory") == true)
        // The directory appears: logging begins by itself.
        #expect(mkdir(rig.directory + "/none", 0o700) == 0)
        #expect(rig.wait { $0.problem == nil }.problem == nil)
        let fifo = rig.directory + "/fifo"
        #expect(mkfifo(fifo, 0o600) == 0)
        let reader = Glibc.open(fifo, O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        try rig.start(.file(fifo))
        for index in 0..<2_000 { rig.add("GET /\(index)") }
        rig.log.stop()
        // A busy machine may leave the thread behind: it counts all the same.
        let total = rig.wait { $0.written + $0.dropped == 2_001 }
        #expect(total.written + total.dropped == 2_001)
    }

    @Test("a full disk: lines are lost whole and counted; with space they go on, after one that says how many")
    func full() throws {
        let rig = try Rig()
        // Only root can make a small disk.
        guard mount("tmpfs", rig.directory, "tmpfs", 0, "size=64k") == 0 else { return }
        defer { umount2(rig.directory, Int32(MNT_DETACH)) }
        try rig.start()
        for index in 0..<2_000 { rig.add("GET /\(index)") }
        var figures = rig.wait { $0.written + $0.dropped == 2_000 }
        #expect(figures.written + figures.dropped == 2_000 && figures.dropped > 1_000)
        #expect(figures.problem?.hasSuffix("can't be written: No space left on device") == true)
        let kept = rig.lines(rig.path)
        #expect(kept.count == Int(figures.written) && kept.allSatisfy { $0.hasSuffix("\"end\":\"--\"}") })
        #expect(rename(rig.path, rig.path + ".1") == 0 && unlink(rig.path + ".1") == 0)
        rig.log.reopen()
        figures = rig.wait { _ in rig.lines(rig.path).count >= 1 }
        rig.add("GET /after")
        figures = rig.wait { $0.problem == nil && $0.written == figures.written + 1 }
        #expect(figures.problem == nil)
        let lines = rig.lines(rig.path)
        #expect(lines.first?.hasSuffix("\"dropped\":\(figures.dropped)}") == true)
        #expect(lines.last?.contains("/after") == true)
    }
}
