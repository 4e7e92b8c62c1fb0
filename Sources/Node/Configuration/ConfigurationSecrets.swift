// ConfigurationSecrets: the gossip keys, the admin token and the reader's password, from their files or from the
// environment, which wins and then no file is read. A secret never appears in a message.

import Gossip

extension ConfigurationReader {
    static let keyBytes = 32
    static let keysMax = 8
    static let tokenBytesMin = 8
    private static let secretFileBytesMax = 64 << 10

    /// The keys of TRIAD_GOSSIP_KEY or of the key file. Without either: none, which only a cluster of one may have.
    mutating func gossipKeys(_ keyFile: Placed?, nodes: Int, _ section: Placed) -> [[UInt8]] {
        if let text = environment("TRIAD_GOSSIP_KEY"), !text.isEmpty {
            return parseKeys(text, source: "TRIAD_GOSSIP_KEY", at: nil)
        }
        guard let keyFile else {
            if nodes > 1 {
                report.add(
                    section.value.position, "gossip.keyFile",
                    "is missing; a cluster of \(nodes) nodes needs a key, or anyone could change its state: "
                        + "run `triad keygen > gossip.key`, copy that file to every node and add "
                        + "gossip: { keyFile: \"gossip.key\" } (or set TRIAD_GOSSIP_KEY)")
            }
            return []
        }
        guard let name = keyFile.string("the path of a key file", &report) else { return [] }
        let remedy = "make one with `triad keygen > \(name)` and copy it to every node (or set TRIAD_GOSSIP_KEY)"
        guard let text = secretFile(keyFile, name, remedy: remedy) else { return [] }
        return parseKeys(text, source: resolve(name), at: keyFile)
    }

    private mutating func parseKeys(_ text: String, source: String, at place: Placed?) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        let path = place?.path ?? ""
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        for (index, line) in lines.enumerated() {
            let line = line.trimmed
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let key = Base64.decode(line), key.count == Self.keyBytes else {
                let text = "\(source): line \(index + 1) is not a key: a key is 32 bytes in base64 (44 characters), "
                report.add(place?.value.position, path, text + "as `triad keygen` prints it")
                continue
            }
            keys.append(key)
        }
        if keys.isEmpty, report.problems.last?.text.hasPrefix(source) != true {
            report.add(place?.value.position, path, "\(source) holds no key; `triad keygen` prints one")
        }
        if keys.count > Self.keysMax {
            report.add(place?.value.position, path, "\(source) holds \(keys.count) keys; at most \(Self.keysMax)")
        }
        return keys
    }

    /// The admin token of TRIAD_TOKEN or of the token file; nil: admin requests are refused.
    mutating func adminToken(_ tokenFile: Placed?) -> String? {
        if let text = environment("TRIAD_TOKEN"), !text.isEmpty {
            return checked(text, "TRIAD_TOKEN", at: nil)
        }
        guard let tokenFile, let name = tokenFile.string("the path of a token file", &report) else { return nil }
        let remedy = "make one with `triad keygen > \(name)` (or set TRIAD_TOKEN)"
        guard let text = secretFile(tokenFile, name, remedy: remedy) else { return nil }
        return checked(text, resolve(name), at: tokenFile)
    }

    mutating func password(_ passwordFile: Placed) -> String? {
        guard let name = passwordFile.string("the path of a password file", &report) else { return nil }
        let remedy = "write the password into it, on one line"
        guard let text = secretFile(passwordFile, name, remedy: remedy) else { return nil }
        return checked(text, resolve(name), at: passwordFile)
    }

    private mutating func checked(_ text: String, _ source: String, at place: Placed?) -> String? {
        let secret = text.trimmed
        guard secret.utf8.count >= Self.tokenBytesMin, secret.utf8.allSatisfy({ (33...126).contains($0) }) else {
            let rule = "at least \(Self.tokenBytesMin) visible ASCII characters on one line, without spaces"
            report.add(place?.value.position, place?.path ?? "", "\(source) must hold \(rule)")
            return nil
        }
        return String(secret)
    }

    private mutating func secretFile(_ place: Placed, _ name: String, remedy: String) -> String? {
        let path = resolve(name)
        do {
            let bytes = try disk.read(path, limit: Self.secretFileBytesMax)
            if let text = String(validating: bytes, as: UTF8.self) { return text }
            report.add(place, "\(path) is not text; \(remedy)")
        } catch {
            // A file that is there isn't to be made anew.
            report.add(place, "can't read \(path): \(error.reason); \(error.readingRemedy ?? remedy)")
        }
        return nil
    }
}

extension StringProtocol {
    /// Without space, tabs and line ends around it.
    var trimmed: Substring {
        let start = firstIndex { !$0.isWhitespace } ?? endIndex
        let end = lastIndex { !$0.isWhitespace }.map { index(after: $0) } ?? start
        return Substring(self[start..<end])
    }
}
