import Foundation

/// How much a text is like the texts that a model was trained on, from its tokens alone.
struct Familiarity: Sendable {
    static let file = "familiarity.bin"

    private let values: [Int8]
    private let pairs: [UInt8]

    /// - Parameters:
    ///   - content: of a bundle's familiarity.bin: an int8 for each token, then a bit for each pair of
    ///     neighbouring tokens.
    ///   - tokens: of the vocabulary.
    init(content: Data, tokens: Int) throws(BundleError) {
        let bytes = content.count - tokens
        // A power of two.
        guard bytes >= 128 && bytes & (bytes - 1) == 0 else {
            throw BundleError(
                "\(Self.file) is damaged: it has \(content.count) bytes, which do not fit a "
                    + "vocabulary of \(tokens) tokens. Export the bundle again."
            )
        }
        values = content.prefix(tokens).map { Int8(bitPattern: $0) }
        pairs = Array(content.suffix(bytes))
    }

    /// The familiarity of a text's ids, [CLS] and [SEP] included; 0 for fewer than two.
    func score(of ids: [Int32]) -> Double {
        if ids.count < 2 { return 0 }
        var total = 0
        for (first, second) in zip(ids, ids.dropFirst()) {
            let bit = (Int(first) * 31337 + Int(second) * 7919) % (8 * pairs.count)
            let isKnown = pairs[bit / 8] >> (bit % 8) & 1 == 1
            total += Int(values[Int(second)]) + (isKnown ? 32 : 0)
        }
        // Two typical tokens more, so that one odd word does not decide about a short text.
        return Double(total) / Double(16 * (ids.count + 1))
    }
}
