// ImportCommand: `triad import haproxy.cfg [keepalived.conf]`: the cluster's file from what ran before. The result goes
// to stdout; what became of each line, and what is left to do, to stderr.

import Proxy

enum ImportCommand {
    static let command = Subcommand(
        name: "import", summary: "makes a configuration from haproxy's and keepalived's",
        positionals: [
            .init(name: "HAPROXY.CFG", values: .file), .init(name: "KEEPALIVED.CONF", required: false, values: .file),
        ],
        options: [.flag("resolve", "looks up the names of servers, once and now")],
        details: [
            "  triad import /etc/haproxy/haproxy.cfg /etc/keepalived/keepalived.conf > triad.json5",
            "",
            "prints triad.json5, with a comment DECIDE wherever the files don't tell, and on stderr each of their directives",
            "with what became of it. Exit 1 when a file can't be read. cluster/MIGRATION.md goes through the whole move.",
        ]
    ) { arguments in
        run(
            haproxy: arguments.required("HAPROXY.CFG"), keepalived: arguments["KEEPALIVED.CONF"],
            resolves: arguments.has("resolve"))
    }

    /// What an import came to.
    struct Result {
        /// nil when nothing that listens could be converted.
        var text: String?
        var notes: [ImportNote]
        /// What the configuration's own reader still finds wrong with the text.
        var problems: [ConfigurationProblem]
    }

    /// A file's name and content.
    typealias Source = (file: String, text: String)

    static func convert(
        haproxy: Source, keepalived: Source? = nil, resolve: HAProxyReader.Resolver? = nil
    ) throws(ImportProblem) -> Result {
        let reader = try HAProxyReader(haproxy.text, file: haproxy.file, resolve: resolve)
        var (draft, notes) = (reader.draft, reader.notes.sorted)
        if let keepalived {
            let reader = try KeepalivedReader(keepalived.text, file: keepalived.file, into: draft)
            draft = reader.draft
            notes += reader.notes.sorted
        }
        if draft.frontends.isEmpty { return Result(text: nil, notes: notes, problems: []) }
        draft.completeNodes()
        let text = ImportText.render(draft, sources: [haproxy.file] + (keepalived.map { [$0.file] } ?? []))
        return Result(text: text, notes: notes, problems: problems(of: text))
    }

    /// What `triad check` would say once the secrets' files are there.
    private static func problems(of text: String) -> [ConfigurationProblem] {
        let secret = Base64.encode(KeygenCommand.key())
        let environment = ["TRIAD_GOSSIP_KEY": secret, "TRIAD_TOKEN": secret]
        var reader = ConfigurationReader(file: "triad.json5", environment: { environment[$0] })
        guard case .failure(let problems) = reader.read(Array(text.utf8)) else { return [] }
        return problems.all.filter { !$0.path.hasSuffix("passwordFile") }
    }

    private static func run(haproxy: String, keepalived: String?, resolves: Bool) -> Int32 {
        do {
            let main = (haproxy, try read(haproxy))
            let second = try keepalived.map { file throws(ImportProblem) in (file, try read(file)) }
            let resolver: HAProxyReader.Resolver? = resolves ? { NameLookup.address(of: $0) } : nil
            let result = try convert(haproxy: main, keepalived: second, resolve: resolver)
            for note in result.notes { Console.error(note.description) }
            guard let text = result.text else {
                Console.error("triad import: no frontend could be converted; the list above says why")
                return 1
            }
            Console.error(summary(result, text))
            Console.out(text)
            return result.problems.isEmpty ? 0 : 1
        } catch {
            Console.error("triad import: \(error)")
            return 1
        }
    }

    /// What is left to do.
    static func summary(_ result: Result, _ text: String) -> String {
        let lost = result.notes.count { $0.isLost }
        let converted = result.notes.count { $0.isConverted }
        let needless = result.notes.count - lost - converted
        var lines = ["", "\(converted) converted, \(needless) not needed, \(lost) NOT CONVERTED."]
        let decisions = text.components(of: "DECIDE:")
        lines.append("Next, beside triad.json5:")
        if decisions > 0 { lines.append("  decide what its \(decisions) comments with DECIDE ask") }
        lines.append("  triad keygen > gossip.key      the same on every node")
        if text.components(of: "passwordFile") > 0 {
            lines.append("  write a password of 8 or more characters into status.password")
        }
        lines.append("  triad check triad.json5")
        if !result.problems.isEmpty {
            lines.append("It will find these, which have to be put right by hand:")
            lines += result.problems.map { "  \($0)" }
        }
        return lines.joined(separator: "\n")
    }

    private static func read(_ file: String) throws(ImportProblem) -> String {
        do {
            let bytes = try Disk().read(file, limit: HAProxyLines.Limit.bytes)
            // Comments in another encoding are no reason to refuse a file: all that is read is ASCII.
            return String(decoding: bytes, as: UTF8.self)
        } catch {
            throw ImportProblem(file: file, line: 1, text: "can't be read: \(error.readingProblem)")
        }
    }
}

extension String {
    /// How often `part` occurs.
    fileprivate func components(of part: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
