// ConfigurationNotify: the command that is run when something happens: `notify`.

import Gossip

extension Configuration {
    struct NotifySection: Sendable, Equatable {
        /// The program's absolute path, then its arguments.
        var command: [String]
        var events: [EventKind]
        /// After it the command is killed, with all that it started.
        var timeout: Duration

        static let usual: [EventKind] = [
            .vipAcquired, .vipReleased, .leaderElected, .leaderLost, .serverUp, .serverDown,
        ]

        func write(to writer: inout ByteWriter) {
            for texts in [command, events.map(\.rawValue)] {
                writer.varint(texts.count)
                for text in texts { writer.string(text) }
            }
            writer.varint(UInt64(max(0, timeout.nanoseconds)))
        }
    }
}

extension ConfigurationReader {
    private static let wordsMax = 32
    private static let wordBytesMax = 1024

    mutating func notify(_ place: Placed?) -> Configuration.NotifySection? {
        guard let place, let fields = Fields(place, .notify, &report) else {
            return nil
        }
        let example = "the program and its arguments: command: [\"/usr/local/bin/on-event\"]"
        guard let commandPlace = fields.required("command", example, &report) else { return nil }
        let command = notifyCommand(commandPlace, example)
        var section = Configuration.NotifySection(
            command: command, events: Configuration.NotifySection.usual, timeout: .seconds(10))
        if let events = fields.optional("events"),
            let elements = events.elements("a list of events, such as [\"vip-acquired\", \"vip-released\"]", &report)
        {
            section.events = elements.compactMap {
                $0.choice(EventKind.self, "event", &report)
            }
            if elements.isEmpty {
                report.add(events, "is empty, so the command is never run; leave it out for the usual ones")
            }
        }
        let timeout = fields.optional("timeout")?.duration(.milliseconds(100)...Duration.seconds(600), &report)
        section.timeout = timeout ?? section.timeout
        return section
    }

    private mutating func notifyCommand(_ place: Placed, _ example: String) -> [String] {
        guard let elements = place.elements(example, &report) else { return [] }
        if elements.isEmpty || elements.count > Self.wordsMax {
            report.add(place, "holds \(elements.count) words; from 1 to \(Self.wordsMax): \(example)")
            return []
        }
        var words: [String] = []
        for (index, element) in elements.enumerated() {
            // An argument may be empty or hold anything but a zero byte; the program is a path.
            guard case .string(let text) = element.value.content, !text.utf8.contains(0),
                text.utf8.count <= Self.wordBytesMax
            else {
                report.add(element, "expected a string of at most \(Self.wordBytesMax) bytes, found \(element.shown)")
                continue
            }
            if index == 0, !text.hasPrefix("/") {
                report.add(element, "\(element.shown) must be an absolute path; no shell and no PATH is asked for it")
            }
            words.append(text)
        }
        return words
    }
}
