// StatusCommand: `triad status` and what all client commands share: their options and their one-line failures.

enum StatusCommand {
    static let urlOption = Subcommand.Option.value(
        "url", "URL", "the status port of any node (\(StatusURL.standard))", variable: "TRIAD_URL")

    static let command = Subcommand(
        name: "status", summary: "shows one node's view of the cluster",
        options: [urlOption, .flag("json", "prints the status as JSON")],
        details: [
            "URL is http://ADDRESS[:PORT], or http://USER:PASSWORD@… where reading needs them. Without a port: 8084.",
            "VIEWS has a sign for each node, in the nodes' order: + sees the server up, - down, ? not known yet.",
        ],
        run: { (arguments) throws(UsageProblem) in
            let client = HTTPClient(url: try StatusURL(arguments["url"] ?? StatusURL.standard))
            return run(client, asJSON: arguments.has("json"))
        })

    private static func run(_ client: HTTPClient, asJSON: Bool) -> Int32 {
        do throws(HTTPProblem) {
            let (report, bytes) = try fetch(client)
            if asJSON {
                Console.raw(String(decoding: bytes, as: UTF8.self))
            } else {
                let table = StatusTable(width: Terminal.size?.columns, usesColour: Terminal.hasColour)
                Console.out(table.lines(report).joined(separator: "\n"))
            }
            return 0
        } catch {
            Console.error("triad status: \(error)")
            return 1
        }
    }

    /// The report of a node, and the JSON it came from.
    static func fetch(_ client: HTTPClient) throws(HTTPProblem) -> (StatusReport, [UInt8]) {
        let answer = try client.send("/status")
        guard answer.status == 200 else {
            let hint = answer.status == 401 ? " (put them into the URL: http://USER:PASSWORD@ADDRESS:PORT)" : ""
            throw HTTPProblem(
                description: "\(client.url.text) answered \(answer.status): \(firstLine(answer.text))\(hint)")
        }
        guard let report = StatusReport(json: answer.body) else {
            throw HTTPProblem(description: "what \(client.url.text) answered isn't a node's status")
        }
        return (report, answer.body)
    }

    static func firstLine(_ text: String) -> String {
        String((text.split(whereSeparator: \.isNewline).first ?? "").prefix(200))
    }
}
