// FixtureTests: runs every case of Fixtures/ through a data plane: each in one piece and byte by byte, some divided at
// every place. A failure names file and line, and shows what came in place of what should have.

import Testing

@testable import Proxy

@Suite("Fixtures") struct FixtureTests {
    static let cases: [FixtureCase] = FixtureScript.files.flatMap { (try? FixtureScript.cases(of: $0)) ?? [] }

    private func run(_ item: FixtureCase, _ division: FixtureDivision) {
        do {
            try FixtureRunner(item, division).run()
        } catch {
            Issue.record("\(error)")
        }
    }

    @Test("in one piece", arguments: cases) func whole(_ item: FixtureCase) { run(item, .whole) }

    @Test("byte by byte", arguments: cases) func singleBytes(_ item: FixtureCase) { run(item, .singleBytes) }

    @Test("divided anywhere", arguments: cases.filter(\.isDivided)) func divided(_ item: FixtureCase) throws {
        guard case .clientSends(let bytes) = try #require(item.steps.first) else {
            Issue.record("\(item): begins with what the client sends, or can't be divided")
            return
        }
        for place in 1..<bytes.count { run(item, .at(place)) }
    }

    @Test("all are read, and no title stands twice in a file") func complete() throws {
        for file in FixtureScript.files {
            let cases = try FixtureScript.cases(of: file)
            #expect(!cases.isEmpty && Set(cases.map(\.title)).count == cases.count, "\(file)")
        }
        #expect(Self.cases.count >= 150)
        #expect(Self.cases.count { $0.isDivided } >= 5)
    }
}
