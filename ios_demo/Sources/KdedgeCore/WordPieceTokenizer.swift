import Foundation

/// BERT's WordPiece as Hugging Face's tokenizers library does it.
///
/// Characters that are newer than Unicode 8 are what Swift's own tables say they are; the library
/// takes them for letters.
public struct WordPieceTokenizer: Sendable {
    // UTF-8, and not String: to Swift two strings are equal if they look the same, such as an accented
    // letter and the letter with its accent, which are different word pieces.
    typealias Piece = [UInt8]

    /// How many tokens the vocabulary has.
    let size: Int

    private let vocabulary: [Piece: Int32]
    /// The longest first: of those that begin at the same place it is the one that counts.
    private let specialTokens: [(text: [Unicode.Scalar], id: Int32)]
    private let cls: Int32
    private let sep: Int32
    private let unknown: Int32
    private let settings: Settings

    /// Reads a bundle's tokenizer.
    ///
    /// - Parameters:
    ///   - json: the content of its tokenizer.json, without the vocabulary in it.
    ///   - vocabulary: the content of its vocab.txt: a piece a line, whose number is its id.
    public init(json: Data, vocabulary: Data) throws(BundleError) {
        do {
            settings = try JSONDecoder().decode(Settings.self, from: json)
        } catch {
            throw BundleError("tokenizer.json is damaged: \(error)")
        }
        try settings.check()
        var lines = vocabulary.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        var ids: [Piece: Int32] = [:]
        for (id, line) in lines.enumerated() {
            ids[Piece(line)] = Int32(id)
        }
        self.vocabulary = ids
        size = lines.count
        func id(of token: String) throws(BundleError) -> Int32 {
            guard let id = ids[Piece(token.utf8)] else {
                throw BundleError("vocab.txt: \(token) is missing.")
            }
            return id
        }
        cls = try id(of: "[CLS]")
        sep = try id(of: "[SEP]")
        unknown = try id(of: settings.model.unknown)
        specialTokens = settings.addedTokens
            .map { (text: Array($0.content.unicodeScalars), id: $0.id) }
            .sorted { $0.text.count > $1.text.count }
    }

    /// Ids from [CLS] to [SEP], at most `maxLength` of them.
    public func ids(of text: String, maxLength: Int) -> [Int32] {
        [cls] + pieces(of: text, limit: maxLength - 2) + [sep]
    }

    /// Ids of two texts, [CLS] text [SEP] pair [SEP], at most `maxLength` of them, and for each its
    /// segment: 1 from the second text on. The longer text is cut first, then both alike.
    public func ids(
        of text: String, pair: String, maxLength: Int
    ) -> (ids: [Int32], segments: [Int32]) {
        let limit = maxLength - 3
        let first = pieces(of: text, limit: limit)
        let second = pieces(of: pair, limit: limit)
        var least = min(first.count, second.count)
        var most = max(least, limit - least)
        if least + most > limit {
            least = limit / 2
            most = limit - least
        }
        let isFirstShorter = first.count <= second.count
        let start = [cls] + first.prefix(isFirstShorter ? least : most) + [sep]
        let end = second.prefix(isFirstShorter ? most : least) + [sep]
        let segments =
            [Int32](repeating: 0, count: start.count) + [Int32](repeating: 1, count: end.count)
        return (start + end, segments)
    }

    /// Ids of a text's first pieces, at most `limit` of them.
    private func pieces(of text: String, limit: Int) -> ArraySlice<Int32> {
        let scalars = Array(text.unicodeScalars)
        var ids: [Int32] = []
        var start = 0
        while start < scalars.count && ids.count < limit {
            let special = specialToken(in: scalars, from: start)
            let end = special?.range.lowerBound ?? scalars.count
            addWords(of: normalized(scalars[start..<end]), to: &ids, limit: limit)
            guard let special else { break }
            ids.append(special.id)
            start = special.range.upperBound
        }
        return ids.prefix(limit)
    }

    /// Share of the tokens that are unknown, of ids with that number of [CLS] and [SEP]; 1 without
    /// tokens.
    func unknownShare(of ids: [Int32], special: Int) -> Double {
        if ids.count == special { return 1 }
        return Double(ids.filter { $0 == unknown }.count) / Double(ids.count - special)
    }

    private func specialToken(
        in scalars: [Unicode.Scalar], from start: Int
    ) -> (range: Range<Int>, id: Int32)? {
        for at in start..<scalars.count {
            for (token, id) in specialTokens where scalars[at...].starts(with: token) {
                return (at..<at + token.count, id)
            }
        }
        return nil
    }

    private func normalized(_ text: ArraySlice<Unicode.Scalar>) -> String.UnicodeScalarView {
        var result = String.UnicodeScalarView()
        for scalar in text {
            if settings.normalizer.cleanText && scalar.isDropped { continue }
            if settings.normalizer.cleanText && scalar.isSpace {
                result.append(" ")
            } else if settings.normalizer.handleChineseChars && scalar.isIdeograph {
                result.append(contentsOf: [" ", scalar, " "])
            } else {
                result.append(scalar)
            }
        }
        if settings.normalizer.stripsAccents {
            let decomposed = String(result).decomposedStringWithCanonicalMapping.unicodeScalars
            result = String.UnicodeScalarView(
                decomposed.filter { $0.properties.generalCategory != .nonspacingMark }
            )
        }
        if settings.normalizer.lowercase {
            // One by one: a whole word's last sigma would become another letter.
            result = String.UnicodeScalarView(
                result.flatMap { $0.properties.lowercaseMapping.unicodeScalars }
            )
        }
        return result
    }

    private func addWords(
        of text: String.UnicodeScalarView, to ids: inout [Int32], limit: Int
    ) {
        var word: [Unicode.Scalar] = []
        for scalar in text {
            if ids.count >= limit { return }
            if scalar.isSpace || scalar.isPunctuation {
                addPieces(of: word, to: &ids)
                word = []
                if !scalar.isSpace { addPieces(of: [scalar], to: &ids) }
            } else {
                word.append(scalar)
            }
        }
        addPieces(of: word, to: &ids)
    }

    /// The longest piece that fits, again and again; where none fits, the word is unknown.
    private func addPieces(of word: [Unicode.Scalar], to ids: inout [Int32]) {
        if word.count > settings.model.maxWordLength {
            ids.append(unknown)
            return
        }
        let characters = word.map { Piece(UTF8.encode($0)!) }
        var found: [Int32] = []
        var start = 0
        while start < word.count {
            let lead = start == 0 ? Piece() : Piece(settings.model.prefix.utf8)
            var end = word.count
            var match: Int32?
            while end > start {
                match = vocabulary[lead + characters[start..<end].joined()]
                if match != nil { break }
                end -= 1
            }
            guard let id = match else {
                ids.append(unknown)
                return
            }
            found.append(id)
            start = end
        }
        ids += found
    }
}

/// What tokenizer.json says besides the vocabulary.
private struct Settings: Sendable, Decodable {
    struct Model: Decodable {
        let type: String
        let unknown: String
        let prefix: String
        let maxWordLength: Int

        enum CodingKeys: String, CodingKey {
            case type
            case unknown = "unk_token"
            case prefix = "continuing_subword_prefix"
            case maxWordLength = "max_input_chars_per_word"
        }
    }

    struct Normalizer: Decodable {
        let type: String
        let cleanText: Bool
        let handleChineseChars: Bool
        let stripAccents: Bool?
        let lowercase: Bool

        var stripsAccents: Bool { stripAccents ?? lowercase }

        enum CodingKeys: String, CodingKey {
            case type, lowercase
            case cleanText = "clean_text"
            case handleChineseChars = "handle_chinese_chars"
            case stripAccents = "strip_accents"
        }
    }

    struct PreTokenizer: Decodable {
        let type: String
    }

    struct AddedToken: Decodable {
        let id: Int32
        let content: String
        let singleWord: Bool
        let lstrip: Bool
        let rstrip: Bool
        let normalized: Bool

        enum CodingKeys: String, CodingKey {
            case id, content, lstrip, rstrip, normalized
            case singleWord = "single_word"
        }
    }

    let model: Model
    let normalizer: Normalizer
    let preTokenizer: PreTokenizer
    let addedTokens: [AddedToken]

    enum CodingKeys: String, CodingKey {
        case model, normalizer
        case preTokenizer = "pre_tokenizer"
        case addedTokens = "added_tokens"
    }

    func check() throws(BundleError) {
        for (part, found, type) in [
            ("model", model.type, "WordPiece"),
            ("normalizer", normalizer.type, "BertNormalizer"),
            ("pre_tokenizer", preTokenizer.type, "BertPreTokenizer"),
        ] where found != type {
            throw BundleError("tokenizer.json: \(part) is \(found). Only \(type) can be read.")
        }
        for token in addedTokens
        where token.singleWord || token.lstrip || token.rstrip || token.normalized {
            throw BundleError(
                "tokenizer.json: single_word, lstrip, rstrip or normalized of \(token.content). "
                    + "All must be false."
            )
        }
    }
}
