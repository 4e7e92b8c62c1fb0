// TidyTests: runs every check over the package's own source tree, so that a reviewer doesn't have to.

import Foundation
import Testing

/// The package on disk, found from where this file was compiled.
enum SourceTree {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Every Swift file under Sources and Tests, by path.
    static let files: [SourceFile] = ["Sources", "Tests"].flatMap(files(under:)).sorted { $0.path < $1.path }

    private static func files(under folder: String) -> [SourceFile] {
        let base = root.appending(path: folder)
        guard let names = FileManager.default.enumerator(atPath: base.path) else { return [] }
        return names.compactMap { name in
            guard let name = name as? String, name.hasSuffix(".swift"),
                let data = FileManager.default.contents(atPath: base.appending(path: name).path)
            else { return nil }
            return SourceFile(path: "\(folder)/\(name)", text: String(decoding: data, as: UTF8.self))
        }
    }

    static func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: root.appending(path: path).path).map {
            String(decoding: $0, as: UTF8.self)
        }
    }
}

@Suite("Tidy")
struct TidyTests {
    private func expectNone(_ findings: [Finding], at location: SourceLocation = #_sourceLocation) {
        for finding in findings { Issue.record("\(finding)", sourceLocation: location) }
    }

    private func expectClean(_ check: (SourceFile) -> [Finding], at location: SourceLocation = #_sourceLocation) {
        expectNone(SourceTree.files.flatMap(check), at: location)
    }

    @Test("the tree is found") func treeIsFound() {
        #expect(SourceTree.files.contains { $0.path == "Sources/Node/Main.swift" && !$0.tokens.isEmpty })
        #expect(SourceTree.files.contains { $0.path == "Tests/TidyTests/TidyTests.swift" })
    }

    @Test("modules import what they may") func imports() { expectClean(Checks.imports) }

    @Test("the pure core has no clock and no randomness") func purity() { expectClean(Checks.purity) }

    @Test("the pure core has no hashed collection") func hashed() { expectClean(Checks.hashedCollections) }

    @Test("unsafe code stays in its files") func unsafeCode() { expectClean(Checks.unsafeCode) }

    @Test("the list of unsafe files is not longer than it must be") func unsafeList() {
        for path in Rules.unsafeFiles.sorted() {
            let file = SourceTree.files.first { $0.path == path }
            #expect(
                file.map { !Checks.unsafeUses($0).isEmpty } ?? false,
                "\(path) has no unsafe code or is gone: take it off the list in Tests/TidyTests/Rules.swift")
        }
    }

    @Test("files have a length to read") func fileLength() { expectClean(Checks.fileLength) }

    @Test("functions fit a screen") func functionLength() { expectClean(Checks.functionLength) }

    @Test("nothing is left for later in a comment") func unfinished() {
        // This folder has to name the words it refuses.
        expectNone(SourceTree.files.filter { !$0.path.hasPrefix("Tests/TidyTests/") }.flatMap(Checks.unfinished))
    }

    @Test("nothing traps on a failure or nil") func traps() { expectClean(Checks.traps) }

    @Test("type names say something") func typeNames() { expectClean(Checks.typeNames) }

    @Test("every file says what it is for") func headers() {
        // An empty placeholder is what keeps a folder that has no file yet.
        let placeholders = SourceTree.files.filter { file in
            file.text.isEmpty && file.stem == "Placeholder"
                && !SourceTree.files.contains { $0.module == file.module && $0.path != file.path }
        }.map(\.path)
        expectNone(SourceTree.files.filter { !placeholders.contains($0.path) }.flatMap(Checks.header))
    }

    @Test("every module has its design written down", arguments: Rules.imports.keys.sorted().filter { $0 != "CLinux" })
    func designs(module: String) throws {
        let path = "Sources/\(module)/DESIGN.md"
        let design = try #require(SourceTree.text(path), "\(path) is missing: write how the module works and why")
        let sections = design.split(separator: "\n").count { $0.hasPrefix("## ") }
        #expect(
            sections >= 3 && design.count > 2_000, "\(path) is a stub: context, choices, what was rejected, figures")
    }

    @Test("the package depends on nothing outside, and is built with its checks on") func manifest() throws {
        let manifest = try #require(SourceTree.text("Package.swift"))
        #expect(!manifest.contains(".package("), "Package.swift: no outside package")
        #expect(!manifest.contains("-Ounchecked"), "Package.swift: never -Ounchecked")
        #expect(manifest.contains(".treatAllWarnings(as: .error)"), "Package.swift: warnings are errors")
        let breakages = manifest.split(separator: "\n").filter { $0.contains("TRIAD_BREAKAGES") }
        #expect(
            breakages == ["    .define(\"TRIAD_BREAKAGES\", .when(configuration: .debug)),"],
            "Package.swift: deliberate faults never get into a release build")
    }
}
