// LabArguments: reads the arguments of `api`, `load` and `demo`. Pure.

/// Wrong usage, in words for the user; the command exits 2.
struct LabUsage: Error, Equatable, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Arguments split into options and the rest.
struct LabArguments {
    private(set) var positional: [String] = []
    private var values: [(name: String, value: String)] = []
    private var flags: [String] = []

    /// - Parameters:
    ///   - options: names that take a value (`--rate 5` or `--rate=5`).
    ///   - flags: names that stand alone.
    init(_ arguments: [String], options: [String], flags known: [String] = []) throws(LabUsage) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("--") else {
                positional.append(argument)
                continue
            }
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            if known.contains(argument) {
                flags.append(argument)
            } else if parts.count == 2, options.contains(parts[0]) {
                values.append((parts[0], parts[1]))
            } else if options.contains(argument) {
                guard let value = rest.popFirst() else { throw LabUsage("\(argument) needs a value") }
                values.append((argument, value))
            } else {
                let all = (options + known).sorted().joined(separator: ", ")
                throw LabUsage("unknown option \(argument); there are \(all)")
            }
        }
    }

    func has(_ flag: String) -> Bool { flags.contains(flag) }

    func text(_ name: String) -> String? { values.last { $0.name == name }?.value }

    /// A whole number within a range, nil when the option isn't there.
    func integer(_ name: String, _ range: ClosedRange<Int>) throws(LabUsage) -> Int? {
        guard let text = text(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw LabUsage("\(name) \(text): a whole number from \(range.lowerBound) to \(range.upperBound) is needed")
        }
        return number
    }

    /// A number within a range, nil when the option isn't there.
    func number(_ name: String, _ range: ClosedRange<Double>) throws(LabUsage) -> Double? {
        guard let text = text(name) else { return nil }
        guard let number = Double(text), range.contains(number) else {
            throw LabUsage("\(name) \(text): a number from \(range.lowerBound) to \(range.upperBound) is needed")
        }
        return number
    }
}
