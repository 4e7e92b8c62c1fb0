// FenceTool: a program that the fence keeps open and gives lines to, `ip` or `nft`, and what it says about them.
//
// Both execute a line at a time, in order, and say nothing when it succeeds: the kernel's announcement is the
// confirmation. `ip -force -batch -` says why a line failed, then `Command failed -:N` with the line's number since it
// started. `nft -i` says `Error: …` and names no line, so whoever uses it gives it one line at a time. Each is killed by
// the kernel when the fence dies. The fence's one thread owns it; no call waits.

import CLinux
import Proxy

struct FenceTool: ~Copyable {
    enum Kind: Sendable {
        case ip, nft

        var name: String { self == .ip ? "ip" : "nft" }
        var package: String { self == .ip ? "iproute2" : "nftables" }
        var arguments: [String] { self == .ip ? ["ip", "-force", "-batch", "-"] : ["nft", "-i"] }
    }

    /// What it had to say.
    enum Saying: Equatable {
        case refused(id: UInt64, reason: String)
        case ended(reason: String)
    }

    private struct Line {
        let number: Int
        let id: UInt64
        let text: String
    }

    private static let linesKept = 64
    private static let outputBytesMax = 4096

    let kind: Kind
    private let path: String?
    private var child: FenceChild?
    /// Killed, and perhaps not gone yet.
    private var dying: [Int32] = []
    private var linesWritten = 0
    private var recent: [Line] = []
    private var output: [UInt8] = []
    private var complaint: [String] = []

    init(_ kind: Kind) {
        self.kind = kind
        path = FenceSystem.find(kind.name)
    }

    deinit { if let child { FenceSystem.destroy(child) } }

    /// Readable when there is something to take; changes with every start.
    var descriptor: Int32? { child?.descriptor }

    /// What went wrong, if it could not be started.
    /// - Parameter keep: the packet socket, or -1. Closing the last reference to one makes the kernel wait for other
    ///   processors (packet_release calls synchronize_net), 8 to 16 ms measured. A fence that is
    ///   killed must not spend them before the kernel gets to killing its tool, so the tool holds another reference.
    mutating func start(keep: Int32) -> String? {
        stop()
        guard let path else { return "no \(kind.name) on PATH: install \(kind.package)" }
        do throws(SystemError) {
            let started = try FenceSystem.spawnTool(path, kind.arguments, keep: keep)
            child = started
            // A busy data plane must not delay it either.
            _ = clinux_raise_process(started.process)
        } catch {
            return "\(path) can't be started: \(error)"
        }
        linesWritten = 0
        recent = []
        output = []
        complaint = []
        return nil
    }

    /// Kills it; lines that it has not begun are never executed. One that waits in the kernel (for its lock on network
    /// settings) still is: see `isGone`.
    mutating func stop() {
        if let child {
            FenceSystem.destroy(child)
            dying.append(child.process)
        }
        child = nil
    }

    /// Every one that was killed is gone, so nothing it was told can take effect any more.
    mutating func isGone() -> Bool {
        dying.removeAll { !FenceSystem.exists($0) }
        return dying.isEmpty
    }

    /// False when it can't take the line.
    mutating func write(_ text: String, id: UInt64) -> Bool {
        guard let child else { return false }
        let bytes = Array("\(text)\n".utf8)
        guard FenceSystem.write(child.descriptor, bytes) == .moved(bytes.count) else { return false }
        linesWritten += 1
        if recent.count == Self.linesKept { recent.removeFirst() }
        recent.append(Line(number: linesWritten, id: id, text: text))
        return true
    }

    /// What it said since the last call, in order.
    mutating func take() -> [Saying] {
        // In time: a number may soon be another process's.
        if !dying.isEmpty { _ = isGone() }
        var sayings: [Saying] = []
        while let child {
            switch FenceSystem.read(child.descriptor, max: Self.outputBytesMax) {
            case .bytes(let bytes): hear(bytes, &sayings)
            case .nothing: return sayings
            case .ended, .failed:
                let reason = ["\(kind.name) ended", complaint.joined(separator: "; ")].filter { !$0.isEmpty }
                stop()
                sayings.append(.ended(reason: reason.joined(separator: ": ")))
            }
        }
        return sayings
    }

    private mutating func hear(_ bytes: [UInt8], _ sayings: inout [Saying]) {
        output += bytes
        while let end = output.firstIndex(of: UInt8(ascii: "\n")) {
            let text = String(decoding: output[..<end], as: UTF8.self)
            output.removeSubrange(...end)
            if kind == .nft {
                // Lines that show the place of an error follow it.
                guard let mark = text.firstRange(of: "Error: "), let line = recent.last else { continue }
                sayings.append(.refused(id: line.id, reason: "nft: \(text[mark.upperBound...])"))
                continue
            }
            guard text.hasPrefix("Command failed "), let colon = text.lastIndex(of: ":"),
                let number = Int(text[text.index(after: colon)...])
            else {
                if complaint.count < 4 { complaint.append(text) }
                continue
            }
            let why = complaint.joined(separator: "; ")
            complaint = []
            guard let line = recent.first(where: { $0.number == number }) else { continue }
            sayings.append(.refused(id: line.id, reason: "ip \(line.text): \(why)"))
        }
        if output.count > Self.outputBytesMax { output = [] }
    }
}
