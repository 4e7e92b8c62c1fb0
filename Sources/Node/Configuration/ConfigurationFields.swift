// ConfigurationFields: reading one value of a configuration, and saying what is wrong with it.
//
// Every function returns nil when the value isn't what it must be, after adding the problem to the report: the
// caller puts a default in its place and goes on, so that one run finds everything.

import Gossip
import Proxy

/// What was found wrong so far.
struct ConfigurationReport {
    let file: String
    private(set) var problems: [ConfigurationProblem] = []

    init(file: String) { self.file = file }

    mutating func add(_ position: JSON5.Position?, _ path: String, _ text: String) {
        problems.append(ConfigurationProblem(file: file, position: position, path: path, text: text))
    }

    mutating func add(_ place: Placed, _ text: String) { add(place.value.position, place.path, text) }

    /// In the order of the file, those without a place last.
    var sorted: [ConfigurationProblem] {
        let end = JSON5.Position(line: .max, column: .max)
        let order = problems.indices.sorted {
            (problems[$0].position ?? end, $0) < (problems[$1].position ?? end, $1)
        }
        return order.map { problems[$0] }
    }
}

/// A value and what it is called: `backends[0].name`.
struct Placed {
    let value: JSON5
    let path: String

    private func wrong(_ expected: String, _ report: inout ConfigurationReport) {
        report.add(self, "expected \(expected), found \(shown)")
    }

    /// The value as a message shows it.
    var shown: String {
        switch value.content {
        case .string(let text): text.count > 40 ? "\"\(text.prefix(40).printable)…\"" : "\"\(text.printable)\""
        case .integer(let number): String(number)
        case .number(let number): String(number)
        case .boolean(let flag): String(flag)
        case .null, .array, .object: value.kind
        }
    }

    func string(_ expected: String, _ report: inout ConfigurationReport) -> String? {
        guard case .string(let text) = value.content else {
            wrong(expected, &report)
            return nil
        }
        if text.isEmpty {
            report.add(self, "is empty; expected \(expected)")
            return nil
        }
        if text.utf8.contains(where: { $0 < 32 || $0 == 127 }) {
            report.add(self, "contains a control character")
            return nil
        }
        return text
    }

    /// Letters, digits, `-`, `_` and `.`.
    func name(_ what: String, _ report: inout ConfigurationReport) -> String? {
        guard let text = string("\(what), such as \"web-1\"", &report) else { return nil }
        if Limits.isName(text) { return text }
        report.add(
            self, "\(shown) can't name \(what): use 1 to \(Limits.nameBytesMax) letters, digits, \"-\", \"_\" or \".\"")
        return nil
    }

    func integer(_ range: ClosedRange<Int>, _ what: String, _ report: inout ConfigurationReport) -> Int? {
        let expected = "\(what): a whole number from \(range.lowerBound) to \(range.upperBound)"
        let number: Int
        switch value.content {
        case .integer(let whole): number = whole
        case .number(let real):
            guard let whole = Int(exactly: real) else {
                wrong(expected, &report)
                return nil
            }
            number = whole
        case .string(let text) where Int(text) != nil:
            report.add(self, "expected \(expected), without quotes, found \(shown)")
            return nil
        default:
            wrong(expected, &report)
            return nil
        }
        if range.contains(number) { return number }
        wrong(expected, &report)
        return nil
    }

    func flag(_ report: inout ConfigurationReport) -> Bool? {
        if case .boolean(let flag) = value.content { return flag }
        wrong("true or false", &report)
        return nil
    }

    func port(_ report: inout ConfigurationReport) -> UInt16? {
        integer(1...65535, "a port", &report).map { UInt16($0) }
    }

    func duration(_ range: ClosedRange<Duration>, _ report: inout ConfigurationReport) -> Duration? {
        let example = Quantity.text(range.contains(.milliseconds(250)) ? .milliseconds(250) : range.lowerBound)
        guard case .string(let text) = value.content else {
            report.add(
                self, "expected a duration, found \(shown); a duration is a string with a unit, such as \"\(example)\"")
            return nil
        }
        guard let span = Quantity.duration(text) else {
            report.add(
                self,
                "\(shown) is not a duration; write a number and one of the units \(Quantity.durationUnits), "
                    + "such as \"\(example)\"")
            return nil
        }
        if range.contains(span) { return span }
        report.add(
            self,
            "\(shown) is out of range; from \"\(Quantity.text(range.lowerBound))\" to "
                + "\"\(Quantity.text(range.upperBound))\"")
        return nil
    }

    func bytes(_ range: ClosedRange<Int>, _ report: inout ConfigurationReport) -> Int? {
        guard case .string(let text) = value.content else {
            report.add(self, "expected a size, found \(shown); a size is a string with a unit, such as \"16KiB\"")
            return nil
        }
        guard let size = Quantity.bytes(text) else {
            report.add(
                self,
                "\(shown) is not a size; write a number and one of the units \(Quantity.sizeUnits), "
                    + "such as \"16KiB\"")
            return nil
        }
        if range.contains(size) { return size }
        report.add(
            self,
            "\(shown) is out of range; from \"\(Quantity.text(bytes: range.lowerBound))\" to "
                + "\"\(Quantity.text(bytes: range.upperBound))\"")
        return nil
    }

    /// One of the words of an enum. `later` are words that only a later version knows.
    func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _: Choice.Type, later: [String] = [], _ what: String, _ report: inout ConfigurationReport
    ) -> Choice? {
        let known = Choice.allCases.map(\.rawValue).filter { !later.contains($0) }
        let list = known.map { "\"\($0)\"" }.joined(separator: " or ")
        guard case .string(let text) = value.content else {
            wrong("\(what): \(list)", &report)
            return nil
        }
        if known.contains(text) { return Choice(rawValue: text) }
        if later.contains(text) {
            report.add(self, "this version doesn't have \(what) \(shown); it has \(list)")
        } else if let near = Nearest.match(text, in: known) {
            report.add(self, "unknown \(what) \(shown); did you mean \"\(near)\"? This version has \(list)")
        } else {
            report.add(self, "unknown \(what) \(shown); this version has \(list)")
        }
        return nil
    }

    /// A list's elements, each with its own path.
    func elements(_ what: String, _ report: inout ConfigurationReport) -> [Placed]? {
        guard case .array(let values) = value.content else {
            wrong(what, &report)
            return nil
        }
        return values.enumerated().map { Placed(value: $1, path: "\(path)[\($0)]") }
    }

    // MARK: Addresses

    /// A bare IP address, in its canonical form.
    func address(_ report: inout ConfigurationReport) -> SocketAddress? {
        guard let text = string("an IP address, such as \"10.0.0.11\"", &report) else { return nil }
        guard let address = SocketAddress(address: text, port: 0) else {
            report.add(self, "\(shown) is not an IP address; " + Self.addressAdvice(text))
            return nil
        }
        return usable(address, &report)
    }

    /// `ADDRESS:PORT`.
    func socketAddress(_ report: inout ConfigurationReport) -> SocketAddress? {
        guard let text = string("an address with a port, such as \"10.0.0.21:8080\"", &report) else { return nil }
        guard let address = SocketAddress(text) else {
            report.add(self, "\(shown) is not an address with a port; " + Self.socketAddressAdvice(text))
            return nil
        }
        if address.port == 0 {
            report.add(self, "port 0 can't be connected to; use 1 to 65535")
            return nil
        }
        return usable(address, &report)
    }

    private func usable(_ address: SocketAddress, _ report: inout ConfigurationReport) -> SocketAddress? {
        if let kind = address.unusableKind {
            report.add(self, "\(shown) is \(kind) address; use the address of one machine")
            return nil
        }
        return address
    }

    private static func addressAdvice(_ text: String) -> String {
        if SocketAddress(text) != nil { return "the port doesn't belong here" }
        if let slash = text.firstIndex(of: "/"), SocketAddress(address: String(text[..<slash]), port: 0) != nil {
            return "the prefix doesn't belong here: \"\(text[..<slash])\""
        }
        if text.contains(where: \.isLetter), !text.contains(":") {
            return "names aren't looked up (a look-up can block and change its mind): write the address itself"
        }
        return "write it as \"10.0.0.11\" or \"2001:db8::11\""
    }

    /// What would be right in place of `text`, which is no address with a port.
    static func socketAddressAdvice(_ text: String) -> String {
        if let bare = SocketAddress(address: text, port: 0) {
            return bare.isIPv6
                ? "an IPv6 address needs brackets and a port: \"[\(text)]:8080\""
                : "the port is missing: \"\(text):8080\""
        }
        guard let colon = text.lastIndex(of: ":") else {
            return text.contains(where: \.isLetter)
                ? "names aren't looked up: write the address and port, such as \"10.0.0.21:8080\""
                : "write it as \"10.0.0.21:8080\" or \"[2001:db8::21]:8080\""
        }
        let port = text[text.index(after: colon)...]
        let host = text[..<colon]
        if SocketAddress(address: String(host), port: 0) != nil || host.hasPrefix("["), UInt16(port) == nil {
            return "the port \"\(port)\" is not a number from 1 to 65535"
        }
        if host.contains(where: \.isLetter), !host.contains(":") {
            return "names aren't looked up (a look-up can block and change its mind): write the address itself"
        }
        return "write it as \"10.0.0.21:8080\" or \"[2001:db8::21]:8080\""
    }
}

/// The members of one object, whose unknown keys have been reported.
struct Fields {
    let place: Placed
    private let members: [String: JSON5.Member]

    /// nil (and a problem) when the value isn't an object.
    init?(_ place: Placed, _ section: ConfigurationSection, _ report: inout ConfigurationReport) {
        self.init(place, known: section.names, &report)
    }

    init?(_ place: Placed, known: [String], _ report: inout ConfigurationReport) {
        guard case .object(let members) = place.value.content else {
            report.add(place, "expected an object: { … }, found \(place.value.kind)")
            return nil
        }
        self.place = place
        self.members = Dictionary(members.map { ($0.key, $0) }) { first, _ in first }
        for member in members where !known.contains(member.key) {
            report.add(
                member.keyPosition, Self.join(place.path, member.key.printable),
                "unknown key; " + Nearest.suggestion(member.key, in: known))
        }
    }

    func optional(_ key: String) -> Placed? {
        members[key].map { Placed(value: $0.value, path: Self.join(place.path, key)) }
    }

    /// nil (and a problem that shows `example`) when it is missing.
    func required(_ key: String, _ example: String, _ report: inout ConfigurationReport) -> Placed? {
        if let found = optional(key) { return found }
        report.add(place.value.position, Self.join(place.path, key), "is missing; add \(example)")
        return nil
    }

    private static func join(_ path: String, _ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
}

extension SocketAddress {
    /// `a multicast`, … when no single machine can have this address.
    var unusableKind: String? {
        if high == 0, low == 0 { return "the unspecified" }
        if isIPv6 { return high >> 56 == 0xff ? "a multicast" : nil }
        let first = high >> 56
        if first == 0 { return "a \"this network\"" }
        if (224...239).contains(first) { return "a multicast" }
        return first >= 240 ? "a reserved" : nil
    }

    var isLoopback: Bool { isIPv6 ? high == 0 && low == 1 : high >> 56 == 127 }
}

extension StringProtocol {
    /// With `?` for control characters, which would do things to a terminal.
    var printable: String {
        String(map { $0.unicodeScalars.contains { $0.properties.generalCategory == .control } ? "?" : $0 })
    }
}
