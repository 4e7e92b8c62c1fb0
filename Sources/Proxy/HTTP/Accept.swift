// Accept: whether a client would rather read HTML than JSON: for the answers that the data plane gives by itself. Pure.
// RFC 9110, 12.5.1. Browsers name text/html; programs name JSON, or take anything, and then get JSON.

enum Accept {
    /// Whether a list of media ranges names text/html, and no JSON that it likes better or, liking both, names first.
    static func prefersHTML(_ bytes: Span<UInt8>, _ list: Range<Int>) -> Bool {
        var html = 0
        var json = 0
        var namesHTMLFirst = false
        var cursor = list.lowerBound
        while let element = Bytes.nextElement(bytes, &cursor, list.upperBound) {
            var nameEnd = element.lowerBound
            while nameEnd < element.upperBound, bytes[nameEnd] != UInt8(ascii: ";") { nameEnd += 1 }
            let name = Bytes.trimmed(bytes, element.lowerBound..<nameEnd)
            if Bytes.equal(bytes, name, "text/html") {
                html = max(html, quality(bytes, nameEnd..<element.upperBound))
                namesHTMLFirst = namesHTMLFirst || json == 0
            } else if Bytes.equal(bytes, name, "application/json") {
                json = max(json, quality(bytes, nameEnd..<element.upperBound))
            }
        }
        return html > 0 && (html > json || html == json && namesHTMLFirst)
    }

    /// The `q` among parameters such as `;level=1;q=0.5`, in thousandths; 1000 when there is none.
    private static func quality(_ bytes: Span<UInt8>, _ parameters: Range<Int>) -> Int {
        var at = parameters.lowerBound
        while at < parameters.upperBound {
            var end = at + 1
            while end < parameters.upperBound, bytes[end] != UInt8(ascii: ";") { end += 1 }
            let parameter = Bytes.trimmed(bytes, at + 1..<end)
            if parameter.count >= 3, bytes[parameter.lowerBound] | 0x20 == UInt8(ascii: "q"),
                bytes[parameter.lowerBound + 1] == UInt8(ascii: "=")
            {
                return thousandths(bytes, parameter.lowerBound + 2..<parameter.upperBound)
            }
            at = end
        }
        return 1_000
    }

    /// `1`, `0.75`; 0 for what is no quality.
    private static func thousandths(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
        var value = 0
        var scale = 1_000
        for (index, at) in range.enumerated() where index != 1 {
            guard index < 5, Bytes.isDigit(bytes[at]) else { return 0 }
            value += Int(bytes[at] - 0x30) * scale
            scale /= 10
        }
        return min(value, 1_000)
    }
}
