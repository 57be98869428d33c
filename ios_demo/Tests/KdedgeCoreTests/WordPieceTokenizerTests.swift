import Foundation
import Testing

@testable import KdedgeCore

struct WordPieceTokenizerTests {
    struct Golden: Decodable {
        struct Vector: Decodable {
            let name: String
            let text: String
            let ids: [Int32]
            let slowIds: [Int32]?
        }

        let vectors: [Vector]
        let maxLength: Int
    }

    @Test(.enabled(if: fromPython != nil, "made by check.py"))
    func idsAreThoseOfEveryGoldenVector() throws {
        let tokenizer = try pythons()
        let all = try vectors(Golden.self, "tokenizer.json")
        for vector in all.vectors {
            let ids = tokenizer.ids(of: vector.text, maxLength: all.maxLength)
            // The second where Swift's tables of characters are newer than the library's.
            #expect(ids == vector.ids || ids == vector.slowIds, "\(vector.name)")
        }
        #expect(all.vectors.count == 205)
    }

    struct GoldenPair: Decodable {
        let name: String
        let text: String
        let textPair: String
        let maxLength: Int
        let ids: [Int32]
        let segments: [Int32]
    }

    @Test(.enabled(if: fromPython != nil, "made by check.py"))
    func idsAndSegmentsAreThoseOfEveryGoldenPair() throws {
        let tokenizer = try pythons()
        let pairs = try vectors([GoldenPair].self, "pairs.json")
        for one in pairs {
            let (ids, segments) = tokenizer.ids(
                of: one.text, pair: one.textPair, maxLength: one.maxLength)
            #expect(ids == one.ids, "\(one.name)")
            #expect(segments == one.segments, "\(one.name)")
        }
        #expect(pairs.count == 9)
    }

    @Test(arguments: [
        ("\"lowercase\": false, \"strip_accents\": null", "Caf\u{e9} caf\u{e9}", [2, 4, 5, 3]),
        ("\"lowercase\": true, \"strip_accents\": false", "CAF\u{c9}", [2, 5, 3]),
        ("\"lowercase\": true, \"strip_accents\": null", "CAF\u{c9}", [2, 6, 3]),
        // An accent of its own is another word piece than the accented letter.
        ("\"lowercase\": true, \"strip_accents\": false", "cafe\u{301}", [2, 1, 3]),
    ])
    func capitalsAndAccents(normalizer: String, text: String, ids: [Int32]) throws {
        let tokenizer = try WordPieceTokenizer(json: json(normalizer), vocabulary: vocabulary)
        #expect(tokenizer.ids(of: text, maxLength: 8) == ids)
    }

    @Test(arguments: [
        ("WordPiece", "BPE", "model is BPE. Only WordPiece can be read."),
        ("\"lstrip\": false", "\"lstrip\": true", "of [CLS]. All must be false."),
        ("[UNK]", "<unk>", "vocab.txt: <unk> is missing."),
        ("{", "", "tokenizer.json is damaged"),
    ])
    func saysWhatItCannotRead(part: String, other: String, message: String) throws {
        let whole = String(decoding: json("\"lowercase\": true"), as: UTF8.self)
        let changed = Data(whole.replacingOccurrences(of: part, with: other).utf8)
        expectError(message) {
            _ = try WordPieceTokenizer(json: changed, vocabulary: vocabulary)
        }
    }

    /// The tokenizer that check.py wrote with Python.
    func pythons() throws -> WordPieceTokenizer {
        let folder = try #require(fromPython)
        return try WordPieceTokenizer(
            json: Data(contentsOf: folder.appending(path: "tokenizer.json")),
            vocabulary: Data(contentsOf: folder.appending(path: "vocab.txt"))
        )
    }

    func vectors<Vectors: Decodable>(_ type: Vectors.Type, _ file: String) throws -> Vectors {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(contentsOf: golden.appending(path: file)))
    }

    let vocabulary = Data("[PAD]\n[UNK]\n[CLS]\n[SEP]\nCaf\u{e9}\ncaf\u{e9}\ncafe\n".utf8)

    func json(_ normalizer: String) -> Data {
        Data(
            """
            {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100},
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, \(normalizer)},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "added_tokens": [{"content": "[CLS]", "id": 2, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}]}
            """.utf8)
    }
}
