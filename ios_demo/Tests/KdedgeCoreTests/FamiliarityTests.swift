import Foundation
import Testing

@testable import KdedgeCore

/// Each test has a copy of the committed bundle.
final class FamiliarityTests {
    struct Golden: Decodable {
        struct Table: Decodable {
            let tokens: Int
            let size: Int
            let bytes: [String: UInt8]
        }

        struct Vector: Decodable {
            let name: String
            let table: Int
            let ids: [Int32]
            let familiarity: Double
        }

        struct Refused: Decodable {
            let tokens: Int
            let size: Int
        }

        let tables: [Table]
        let vectors: [Vector]
        let refused: [Refused]
    }

    let folder = URL.temporaryDirectory.appending(path: UUID().uuidString)
    let words: [String]
    let all: Golden

    init() throws {
        try FileManager.default.copyItem(at: committedBundle, to: folder)
        let vocabulary = folder.appending(path: "vocab.txt")
        words = try String(contentsOf: vocabulary, encoding: .utf8).split(separator: "\n")
            .map(String.init)
        all = try decoded(Golden.self, golden.appending(path: "familiarity.json"))
    }

    deinit {
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func theGoldenFamiliarities() throws {
        let tables = try all.tables.map { table in
            var content = Data(count: table.size)
            for (place, byte) in table.bytes {
                content[try #require(Int(place))] = byte
            }
            return try Familiarity(content: content, tokens: table.tokens)
        }
        for each in all.vectors {
            #expect(tables[each.table].score(of: each.ids) == each.familiarity, "\(each.name)")
        }
        #expect(all.vectors.count == 11)
    }

    @Test func sizesThatDoNotFit() {
        for each in all.refused {
            expectError("familiarity.bin is damaged: it has \(each.size) bytes") {
                _ = try Familiarity(content: Data(count: each.size), tokens: each.tokens)
            }
        }
    }

    @Test func textsThatAreNotFamiliar() async throws {
        try write(table)
        let one = try classifier()
        // [CLS] good film [SEP]: 64 / (16 * 5), and of a longer text 64 / (16 * 6).
        for (text, isUnsure) in [
            ("good film", false), ("a good film", false), ("a very good film", true), ("good", true),
        ] {
            #expect(try await one.classify(text).isUnsure == isUnsure, "\(text)")
        }
        // [SEP] of both texts counts.
        try write(table, pairs: true)
        let two = try classifier()
        #expect(try await two.classify("good", pair: "film").isUnsure == false)
        #expect(try await two.classify("very good", pair: "film").isUnsure)
    }

    @Test func filesThatAreMissingOrDamaged() async throws {
        let place = folder.appending(path: Familiarity.file)
        try write(table + Data(count: 1))
        expectError(
            "familiarity.bin is damaged: it has \(table.count + 1) bytes, which do not fit a "
                + "vocabulary of \(words.count) tokens."
        ) { _ = try classifier() }
        try write(table)
        try Data(count: table.count).write(to: place)
        expectError("familiarity.bin is not the file that was exported") { _ = try classifier() }
        try FileManager.default.removeItem(at: place)
        expectError("familiarity.bin is missing. Copy the bundle again.") { _ = try classifier() }
        try write(nil)
        expectError("min_familiarity is given, and familiarity.bin is not in the bundle.") {
            _ = try classifier()
        }
        // Without the limit it is not needed.
        try write(nil, limit: nil)
        #expect(try await classifier().classify("good").isUnsure == false)
    }

    /// Familiar are texts about films.
    private var table: Data {
        var content = Data(count: words.count)
        content[words.firstIndex(of: "film")!] = 64
        return content
    }

    /// The bundle has this file, and a limit.
    private func write(_ content: Data?, limit: Double? = 64.0 / 96, pairs: Bool = false) throws {
        let place = folder.appending(path: "manifest.json")
        let stored = try JSONSerialization.jsonObject(with: Data(contentsOf: place))
        var manifest = try #require(stored as? [String: Any])
        var files = try #require(manifest["files"] as? [String: String])
        files[Familiarity.file] = content.map { content in
            cryptography.sha256(content).map { String(format: "%02x", $0) }.joined()
        }
        var artifacts = try #require(manifest["artifacts"] as? [[String: Any]])
        let decision: [String: Any] = [
            "temperature": 1, "thresholds": [Double](), "max_unknown": 1,
            "min_familiarity": limit.map { $0 as Any } ?? NSNull(),
        ]
        for i in artifacts.indices { artifacts[i]["trust"] = ["decision": decision] }
        manifest["files"] = files
        manifest["artifacts"] = artifacts
        manifest["pairs"] = pairs
        try JSONSerialization.data(withJSONObject: manifest).write(to: place)
        try content?.write(to: folder.appending(path: Familiarity.file))
    }

    private func classifier() throws -> TextClassifier {
        let bundle = try ModelBundle(folder: folder, cryptography: cryptography)
        return try TextClassifier(
            bundle: bundle, engine: Sure(), decision: bundle.artifact().decision)
    }
}

/// Answers every text alike.
private struct Sure: Engine {
    let length: Int? = nil
    let givesLogits = false

    func run(ids: [Int32], mask: [Int32], segments: [Int32]) -> [Float] { [0.1, 0.9] }
}
