// HAProxyRoutes: `acl` and `use_backend` of a frontend, as far as `routes` can say them: a host, the beginning of a path, or
// both. haproxy's rules and ours alike are tried in order, and the first that fits decides, so each converts by itself.
//
// A condition is a list of alternatives, each a host and a path. What one `acl` or `{ … }` asks is one; several lines of one
// name, and `||`, put lists together; what stands side by side holds at once, so each of one list is narrowed by each of
// the other. Ours never fit a request that haproxy's didn't; where they fit fewer, the note says which. A whole path (`path /a`)
// can't be said alone, but beside `path_beg /a/` it is what `path: "/a"` means.

import Proxy

struct HAProxyRoutes {
    /// In the order of the rules.
    private(set) var routes: [ImportDraft.Route] = []
    /// What became of each `acl` and `use_backend`.
    private(set) var outcomes: [(line: HAProxyLine, outcome: ImportNote.Outcome)] = []

    /// By name, one element for each line; nil where it asks something else than host and path.
    private var tests: [String: [HAProxyTest?]] = [:]
    /// The names that a rule was converted by.
    private var used: Set<String> = []

    /// More alternatives than a frontend may have routes help nobody.
    private static let alternativesMax = 256
    static let unread = "conditions choose a backend by host and path (frontends[].routes), and do nothing else"

    /// - Parameter backends: those that a route can lead to.
    init(acls: [HAProxyLine], rules: [HAProxyLine], backends: [String], isTCP: Bool) {
        for line in acls where line.words.count > 2 {
            tests[line.words[1], default: []].append(HAProxyTest(line.words.dropFirst(2)))
        }
        for rule in rules {
            let backend = ImportDraft.name(rule.words[1])
            if isTCP {
                lose(rule, "mode \"tcp\" has one backend for a frontend: nothing is looked into")
            } else if !backends.contains(backend) {
                lose(rule, "no backend of that name is in the result")
            } else if rule.words[2] == "if", let condition = condition(rule.words.dropFirst(3)) {
                add(rule, condition, backend: backend)
            } else {
                lose(
                    rule,
                    "only hosts and the beginnings of paths can be asked: "
                        + "routes: [{ host: \"…\", path: \"/…\", backend: \"\(backend)\" }] of the frontend, if that is enough"
                )
            }
        }
        for line in acls { note(acl: line) }
    }

    private mutating func lose(_ rule: HAProxyLine, _ remedy: String) {
        outcomes.append((rule, .notConverted(remedy)))
    }

    private mutating func add(_ rule: HAProxyLine, _ condition: Condition, backend: String) {
        var found = 0
        for target in condition.targets.map(\.route) where !routes.contains(where: { $0.rule.covers(target) }) {
            routes.append(ImportDraft.Route(host: target.host, path: target.path, backend: backend))
            found += 1
        }
        used.formUnion(condition.names)
        if found == 0 {
            outcomes.append((rule, .notNeeded("it never got a request: rules before it fit all that it does")))
            return
        }
        let notes = condition.differences.isEmpty ? "" : "; " + condition.differences.joined(separator: "; ")
        outcomes.append((rule, .converted("frontends[].routes" + notes)))
    }

    private mutating func note(acl line: HAProxyLine) {
        guard line.words.count > 2, used.contains(line.words[1]) else {
            outcomes.append((line, .notConverted(Self.unread)))
            return
        }
        if HAProxyTest(line.words.dropFirst(2)) == nil {
            let remedy = "routes ask for hosts and the beginnings of paths; the rules that use it do without it"
            outcomes.append((line, .notConverted(remedy)))
        } else {
            outcomes.append((line, .converted("frontends[].routes, by the rules that use it")))
        }
    }

    // MARK: Conditions

    private struct Condition {
        var targets: [HAProxyTest.Target] = []
        var differences: [String] = []
        var names: Set<String> = []
    }

    /// What follows `if`; nil when it can't be said by routes.
    private func condition(_ words: ArraySlice<String>) -> Condition? {
        var all = Condition()
        for part in words.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "or" || $0 == "||" }) {
            guard let one = conjunction(part) else { return nil }
            all.targets += one.targets
            all.differences += one.differences.filter { !all.differences.contains($0) }
            all.names.formUnion(one.names)
        }
        for (index, target) in all.targets.enumerated().reversed() where target.isExact {
            all.targets.remove(at: index)
            guard let path = target.route.path, !all.targets.contains(where: { $0.fits(target) }) else { continue }
            let below = all.targets.firstIndex {
                !$0.isExact && $0.route.host == target.route.host && $0.route.path == path + "/"
            }
            if let below {
                all.targets[below].route.path = path
            } else {
                all.differences.append("the path \(path) alone is left out")
            }
        }
        return all.targets.isEmpty || all.targets.count > Self.alternativesMax ? nil : all
    }

    /// Tests that hold at once.
    private func conjunction(_ words: ArraySlice<String>) -> Condition? {
        var all = Condition(targets: [HAProxyTest.Target(route: Configuration.Route(backend: 0))])
        var rest = words
        guard !rest.isEmpty else { return nil }
        while let word = rest.popFirst() {
            var found: [HAProxyTest] = []
            if word == "{" {
                guard let end = rest.firstIndex(of: "}"), let test = HAProxyTest(rest[..<end]) else { return nil }
                found = [test]
                rest = rest[(end + 1)...]
            } else {
                // One of its lines is enough for haproxy, so those that are understood stand for themselves.
                found = (tests[word] ?? []).compactMap { $0 }
                if found.count < tests[word]?.count ?? 0 {
                    all.differences.append("some of what \(word) asks is left out")
                }
                all.names.insert(word)
            }
            let alternatives = found.flatMap(\.targets)
            all.targets = all.targets.flatMap { target in alternatives.compactMap { target.narrowed(by: $0) } }
            if all.targets.isEmpty || all.targets.count > Self.alternativesMax { return nil }
            for difference in found.compactMap(\.difference) where !all.differences.contains(difference) {
                all.differences.append(difference)
            }
        }
        return all
    }
}

/// One test of haproxy's: a criterion, flags and values.
struct HAProxyTest {
    struct Target {
        var route: Configuration.Route
        /// The path is the whole path, not the beginning of one.
        var isExact = false

        func fits(_ other: Target) -> Bool { !isExact && route.covers(other.route) }

        /// What fits both; nil when nothing does.
        func narrowed(by other: Target) -> Target? {
            guard let route = route.narrowed(by: other.route) else { return nil }
            let exact = [self, other].filter(\.isExact)
            if exact.contains(where: { $0.route.path != route.path }) { return nil }
            return Target(route: route, isExact: !exact.isEmpty)
        }
    }

    private(set) var targets: [Target] = []
    /// Which requests haproxy's fits and ours doesn't.
    private(set) var difference: String?

    private enum Subject {
        case host, path, both
    }

    /// nil when it asks something else than a host or the beginning of a path.
    init?(_ words: ArraySlice<String>) {
        guard let criterion = words.first, case (let subject, var method)? = Self.criterion(criterion) else {
            return nil
        }
        var rest = words.dropFirst()
        var ignoresCase = false
        flags: while let flag = rest.first, flag.hasPrefix("-") {
            rest.removeFirst()
            switch flag {
            case "-i": ignoresCase = true
            case "-m":
                guard let named = rest.popFirst() else { return nil }
                method = named
            case "--": break flags
            default: return nil
            }
        }
        if rest.isEmpty { return nil }
        for value in rest {
            guard add(value, subject, method) else { return nil }
        }
        if ignoresCase, subject != .host,
            targets.contains(where: { $0.route.path?.lowercased() != $0.route.path?.uppercased() })
        {
            tell("paths in other cases don't fit")
        }
    }

    /// `hdr_beg(host)`, `path_beg`, `req.hdr(Host),lower`, …: what is looked at, and how.
    private static func criterion(_ text: String) -> (Subject, method: String)? {
        var parts = text.lowercased().split(separator: ",")[...]
        guard var name = parts.popFirst() else { return nil }
        // A comma within parentheses divides, too: `field(1,:)`.
        let converters = parts.joined(separator: ",")
        if name.hasPrefix("req.") { name = name.dropFirst(4) }
        let methods = ["": "str", "_beg": "beg", "_end": "end", "_dom": "dom"]
        for (ending, method) in methods {
            if name == "hdr\(ending)(host)" {
                let plain = [
                    "", "lower", "field(1,:)", "host_only", "lower,field(1,:)", "field(1,:),lower", "host_only,lower",
                ]
                return plain.contains(converters) ? (.host, method) : nil
            }
            guard converters.isEmpty else { continue }
            if name == "path\(ending)" || name == "url\(ending)" { return (.path, method) }
            if name == "base\(ending)" { return (.both, method) }
        }
        return nil
    }

    private mutating func add(_ value: String, _ subject: Subject, _ method: String) -> Bool {
        switch (subject, method) {
        case (.host, _): return add(host: value.lowercased(), method)
        case (.path, "beg"): return add(path: value, host: nil)
        case (.path, "str"):
            guard Configuration.Route.isPath(value) else { return false }
            targets.append(Target(route: Configuration.Route(path: value, backend: 0), isExact: true))
            return true
        case (.both, "beg"):
            guard let slash = value.firstIndex(of: "/"), slash != value.startIndex else { return false }
            let host = String(value[..<slash]).lowercased()
            return Configuration.Route.isHost(host) && add(path: String(value[slash...]), host: host)
        default: return false
        }
    }

    private mutating func add(host value: String, _ method: String) -> Bool {
        // Ours are compared without port.
        let host = value.split(separator: ":").count == 2 ? String(value.prefix { $0 != ":" }) : value
        var names: [String]
        switch method {
        case "str": names = [host]
        case "end" where host.hasPrefix("."): names = ["*\(host)"]
        case "end" where host.contains("."):
            names = [host, "*.\(host)"]
            tell("other names that end with \(host) without a dot before it don't fit")
        case "beg" where host.contains(".") && !host.hasSuffix("."):
            // Mostly written to fit any port.
            names = [host]
            tell("names that go on behind \(host) don't fit")
        case "dom" where host.contains(".") && !host.hasPrefix(".") && !host.hasSuffix("."):
            names = [host, "*.\(host)"]
            tell("names that go on behind \(host) don't fit")
        default: return false
        }
        names = names.filter { Configuration.Route.isHost($0) && !$0.hasPrefix("*.*") }
        targets += names.map { Target(route: Configuration.Route(host: $0, backend: 0)) }
        return !names.isEmpty
    }

    private mutating func add(path: String, host: String?) -> Bool {
        guard Configuration.Route.isPath(path) else { return false }
        if !path.hasSuffix("/") { tell("\(path) fits whole segments: not \(path)…") }
        targets.append(Target(route: Configuration.Route(host: host, path: path, backend: 0)))
        return true
    }

    private mutating func tell(_ text: String) { difference = difference.map { "\($0); \(text)" } ?? text }
}

extension Configuration.Route {
    fileprivate func narrowed(by other: Configuration.Route) -> Configuration.Route? {
        func narrower(_ keyPath: WritableKeyPath<Configuration.Route, String?>) -> String?? {
            var (left, right) = (Configuration.Route(backend: 0), Configuration.Route(backend: 0))
            (left[keyPath: keyPath], right[keyPath: keyPath]) = (self[keyPath: keyPath], other[keyPath: keyPath])
            if left.covers(right) { return .some(right[keyPath: keyPath]) }
            return right.covers(left) ? .some(left[keyPath: keyPath]) : nil
        }
        guard let host = narrower(\.host), let path = narrower(\.path) else { return nil }
        return Configuration.Route(host: host, path: path, backend: 0)
    }
}

extension ImportDraft.Route {
    fileprivate var rule: Configuration.Route { Configuration.Route(host: host, path: path, backend: 0) }
}
