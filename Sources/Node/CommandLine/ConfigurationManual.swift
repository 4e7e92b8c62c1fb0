// ConfigurationManual: the page triad.json5(5), made from the keys that the reader knows.

enum ConfigurationManual {
    static var page: String {
        var lines = [
            ".TH TRIAD.JSON5 5 \(ManualCommand.date) \"triad \(Version.text)\" \"File Formats\"",
            ".SH NAME", "triad.json5 \\- configuration of the load balancer triad",
            ".SH DESCRIPTION", description.map(\.roff).joined(separator: "\n.PP\n"),
        ]
        lines += [".SH EXAMPLE", ".nf"] + example.split(separator: "\n").map { String($0).roff } + [".fi"]
        lines += [".SH VALUES"]
        for (form, meaning) in forms { lines += [".TP", ".I \(form)", meaning.roff] }
        lines += [".SH KEYS"]
        for section in ConfigurationSection.all { lines += text(section) }
        lines += [".SH SEE ALSO", ".BR triad (1)"]
        return lines.joined(separator: "\n") + "\n"
    }

    private static let description = [
        """
        One file, the same on every node, in JSON5: JSON with comments, trailing commas and names without quotes. An unknown key is an
        error that suggests the nearest known one; `triad check` tells all that is wrong, with its place and what would be right.
        """,
        """
        A node reads it at its start and on SIGHUP: a file with a mistake changes nothing, and what needs a restart is said in its log and
        status. Nodes whose files differ say so, too.
        """,
    ]

    private static let example = """
        {
          cluster: "web",
          nodes: [
            { id: "n1", address: "10.0.0.11" },
            { id: "n2", address: "10.0.0.12" },
            { id: "n3", address: "10.0.0.13" },
          ],
          vip: { address: "10.0.0.100/32", interface: "eth0" },
          gossip: { keyFile: "gossip.key" },
          status: { tokenFile: "admin.token" },
          frontends: [ { name: "http", port: 80, backend: "api" } ],
          backends: [ {
            name: "api",
            check: { type: "http", path: "/health" },
            servers: [ { id: "api_1", address: "10.0.0.21:8080" } ],
          } ],
        }
        """

    private static let forms = [
        ("DURATION", "A number with its unit: `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`."),
        ("SIZE", "Bytes with their unit: `\"250B\"`, `\"16KiB\"`, `\"10MiB\"`."),
        ("RATE", "How many in a second, minute or hour: `\"50/s\"`, `\"600/m\"`, `\"1000/h\"`."),
        ("PERCENT", "A whole percentage: `\"20%\"`."),
        ("PATH", "Relative to the file's directory, where it names a file."),
        ("NETWORK", "Such as `\"10.0.0.0/8\"`, `\"2001:db8::/32\"` or one address."),
        ("NAME", "Letters, digits, `_`, `-` and `.`; a host, a cookie or an interface has the names that those have."),
    ]

    private static func text(_ section: ConfigurationSection) -> [String] {
        var lines = [".SS \(section.path.isEmpty ? "The file" : section.path.roff)", section.about.roff]
        for key in section.keys {
            let extra = key.isRequired ? "required" : key.standard.map { "default \($0)" }
            lines += [".TP", "\\fB\(key.name)\\fR: \(key.form.roff)", key.meaning.roff]
            if let extra { lines += [".br", "(\(extra.roff))"] }
        }
        return lines
    }
}
