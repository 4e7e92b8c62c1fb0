// HTMLWriter: HTML under way. Markup of our own goes in as it is; everybody else's text is escaped, wherever it stands.

struct HTMLWriter {
    private(set) var html = ""

    /// Markup of our own.
    mutating func raw(_ markup: String) { html += markup }

    /// Anybody's text: between tags, or in a quoted attribute.
    mutating func text(_ text: String) {
        for character in text.unicodeScalars {
            switch character {
            case "<": html += "&lt;"
            case ">": html += "&gt;"
            case "&": html += "&amp;"
            case "\"": html += "&quot;"
            case "'": html += "&#39;"
            // A line of an event stream is a line of the page: neither may end early.
            case "\n", "\r", "\0": html += " "
            default: html.unicodeScalars.append(character)
            }
        }
    }

    /// - Parameter attributes: names and anybody's values, in order.
    mutating func open(_ tag: String, _ attributes: KeyValuePairs<String, String> = [:]) {
        html += "<\(tag)"
        for (name, value) in attributes where !value.isEmpty || name == "role" {
            html += " \(name)=\""
            text(value)
            html += "\""
        }
        html += ">"
    }

    mutating func close(_ tag: String) { html += "</\(tag)>" }

    mutating func element(_ tag: String, _ content: String, _ attributes: KeyValuePairs<String, String> = [:]) {
        open(tag, attributes)
        text(content)
        close(tag)
    }

    // MARK: Tables. Their roles are said aloud, since the style makes cards of rows on a small screen.

    mutating func table(_ label: String, _ titles: [(String, String)], _ body: (inout HTMLWriter) -> Void) {
        open("table", ["role": "table", "aria-label": label])
        raw("<thead role=\"rowgroup\"><tr role=\"row\">")
        for (title, kind) in titles { element("th", title, ["role": "columnheader", "scope": "col", "class": kind]) }
        raw("</tr></thead><tbody role=\"rowgroup\">")
        body(&self)
        raw("</tbody></table>")
    }

    mutating func cell(_ title: String, _ kind: String = "", _ body: (inout HTMLWriter) -> Void) {
        open("td", ["role": "cell", "data-t": title, "class": kind])
        body(&self)
        close("td")
    }

    mutating func cell(_ title: String, _ value: String, _ kind: String = "") {
        cell(title, kind) { $0.text(value) }
    }

    /// A word that stands out. - Parameter kind: `up`, `down`, `odd`, or none.
    mutating func mark(_ word: String, _ kind: String) {
        element("span", word, ["class": kind.isEmpty ? "mark" : "mark \(kind)"])
    }

    mutating func button(_ label: String, _ attributes: KeyValuePairs<String, String>) {
        html += "<button type=\"button\""
        for (name, value) in attributes {
            html += " \(name)=\""
            text(value)
            html += "\""
        }
        html += ">"
        text(label)
        html += "</button>"
    }

    // MARK: Pictures

    /// What happened per second, and in red when there were errors.
    mutating func spark(_ trace: Trace, _ what: String) {
        let (wide, high) = (120.0, 28.0)
        let highest = Double(trace.requests.max() ?? 0)
        let seconds = Int(ClusterFigures.samplePeriod.nanoseconds / 1_000_000_000) * trace.requests.count
        open(
            "svg",
            [
                "class": "spark", "viewBox": "0 0 120 28", "preserveAspectRatio": "none", "role": "img",
                "aria-label": "\(what) over \(seconds) s, \(JSONWriter.text(highest, decimals: 0)) at most",
            ])
        if trace.requests.count > 1 {
            let step = wide / Double(Trace.samplesMax - 1)
            let start = wide - step * Double(trace.requests.count - 1)
            func number(_ value: Double) -> String { JSONWriter.text(value, decimals: 1) }
            var line = "M\(number(start)) \(number(high))"
            for (index, value) in trace.requests.enumerated() {
                let y = high - 1 - (high - 3) * (highest > 0 ? Double(value) / highest : 0)
                line += "L\(number(start + step * Double(index))) \(number(y))"
            }
            raw("<path d=\"\(line)L\(number(wide)) \(number(high))Z\"></path>")
            let marks = trace.errors.enumerated().filter { $0.element > 0 }
            let ticks = marks.map { "M\(number(start + step * Double($0.offset))) 28V16" }.joined()
            if !ticks.isEmpty { raw("<path class=\"e\" d=\"\(ticks)\"></path>") }
        }
        close("svg")
    }

    /// How much is left of something.
    mutating func bar(_ part: Double, isLow: Bool) {
        let left = JSONWriter.text(100 * max(0, min(1, part)), decimals: 0)
        raw(
            "<svg class=\"bar\(isLow ? " low" : "")\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
        )
        raw("<rect class=\"all\" width=\"100\" height=\"8\"></rect>")
        raw("<rect class=\"left\" width=\"\(left)\" height=\"8\"></rect></svg>")
    }
}
